"""The softmax family for JAX: exact in value and derivative, with inverse temperature β."""

from jsoftmax._core.reduce import weighted_mean as weighted_mean
from jsoftmax._core.rule import forward_mode as forward_mode
from jsoftmax._ops.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from jsoftmax._ops.cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from jsoftmax._ops.linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from jsoftmax._ops.logmeanexp import logmeanexp as logmeanexp
from jsoftmax._ops.logsumexp import logsumexp as logsumexp
from jsoftmax._ops.softmax import log_softmax as log_softmax
from jsoftmax._ops.softmax import softmax as softmax
from jsoftmax._ops.softmax import softmax_jacobian as softmax_jacobian
from jsoftmax._ops.spatial import spatial_softmax_cross_entropy as spatial_softmax_cross_entropy

__version__ = "0.1.0"
