"""The softmax family for JAX: exact in value and derivative, with inverse temperature β."""

from jsoftmax._core.adaptive import AdaptiveWeights as AdaptiveWeights
from jsoftmax._core.candidates import Candidates as Candidates
from jsoftmax._core.reduce import weighted_mean as weighted_mean
from jsoftmax._core.rule import forward_mode as forward_mode
from jsoftmax._core.trees import Tree as Tree
from jsoftmax._ops.adaptive import adaptive_log_prob as adaptive_log_prob
from jsoftmax._ops.adaptive import adaptive_predict as adaptive_predict
from jsoftmax._ops.adaptive import adaptive_softmax_loss as adaptive_softmax_loss
from jsoftmax._ops.adaptive import adaptive_weights as adaptive_weights
from jsoftmax._ops.addressing import content_addressing as content_addressing
from jsoftmax._ops.addressing import soft_argmax as soft_argmax
from jsoftmax._ops.attention import dot_product_attention as dot_product_attention
from jsoftmax._ops.contrastive import contrastive_cross_entropy as contrastive_cross_entropy
from jsoftmax._ops.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from jsoftmax._ops.cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from jsoftmax._ops.energy import bernoulli_unit as bernoulli_unit
from jsoftmax._ops.energy import boltzmann as boltzmann
from jsoftmax._ops.energy import free_energy as free_energy
from jsoftmax._ops.entropy import entropy as entropy
from jsoftmax._ops.entropy import kl_divergence as kl_divergence
from jsoftmax._ops.hierarchical import hierarchical_log_prob as hierarchical_log_prob
from jsoftmax._ops.hierarchical import hierarchical_predict as hierarchical_predict
from jsoftmax._ops.hierarchical import hierarchical_sample as hierarchical_sample
from jsoftmax._ops.hierarchical import hierarchical_softmax_loss as hierarchical_softmax_loss
from jsoftmax._ops.hierarchical import huffman_tree as huffman_tree
from jsoftmax._ops.hierarchical import tree_from_codes as tree_from_codes
from jsoftmax._ops.hierarchical import tree_from_paths as tree_from_paths
from jsoftmax._ops.hopfield import HopfieldRetrieval as HopfieldRetrieval
from jsoftmax._ops.hopfield import hopfield_energy as hopfield_energy
from jsoftmax._ops.hopfield import hopfield_retrieve as hopfield_retrieve
from jsoftmax._ops.hopfield import hopfield_update as hopfield_update
from jsoftmax._ops.hopfield import hopfield_weights as hopfield_weights
from jsoftmax._ops.linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from jsoftmax._ops.logmeanexp import logmeanexp as logmeanexp
from jsoftmax._ops.logsumexp import logsumexp as logsumexp
from jsoftmax._ops.margin import am_softmax_loss as am_softmax_loss
from jsoftmax._ops.margin import arcface_loss as arcface_loss
from jsoftmax._ops.margin import combined_margin_loss as combined_margin_loss
from jsoftmax._ops.margin import cosface_loss as cosface_loss
from jsoftmax._ops.margin import cosine_logits as cosine_logits
from jsoftmax._ops.margin import large_margin_softmax_loss as large_margin_softmax_loss
from jsoftmax._ops.margin import margin_annealing as margin_annealing
from jsoftmax._ops.margin import margin_logits as margin_logits
from jsoftmax._ops.margin import sphereface_loss as sphereface_loss
from jsoftmax._ops.modern_hopfield import modern_hopfield_energy as modern_hopfield_energy
from jsoftmax._ops.modern_hopfield import modern_hopfield_retrieve as modern_hopfield_retrieve
from jsoftmax._ops.rbm import rbm_contrastive_divergence as rbm_contrastive_divergence
from jsoftmax._ops.rbm import rbm_energy as rbm_energy
from jsoftmax._ops.rbm import rbm_free_energy as rbm_free_energy
from jsoftmax._ops.rbm import rbm_gibbs as rbm_gibbs
from jsoftmax._ops.rbm import rbm_hidden_probability as rbm_hidden_probability
from jsoftmax._ops.rbm import rbm_log_partition as rbm_log_partition
from jsoftmax._ops.rbm import rbm_pseudo_log_likelihood as rbm_pseudo_log_likelihood
from jsoftmax._ops.rbm import rbm_visible_probability as rbm_visible_probability
from jsoftmax._ops.sampled import nce_loss as nce_loss
from jsoftmax._ops.sampled import negative_sampling_loss as negative_sampling_loss
from jsoftmax._ops.sampled import sampled_softmax_loss as sampled_softmax_loss
from jsoftmax._ops.samplers import all_classes as all_classes
from jsoftmax._ops.samplers import log_uniform_sampler as log_uniform_sampler
from jsoftmax._ops.samplers import uniform_sampler as uniform_sampler
from jsoftmax._ops.samplers import unigram_sampler as unigram_sampler
from jsoftmax._ops.softmax import log_softmax as log_softmax
from jsoftmax._ops.softmax import softmax as softmax
from jsoftmax._ops.softmax import softmax_jacobian as softmax_jacobian
from jsoftmax._ops.spatial import spatial_softmax_cross_entropy as spatial_softmax_cross_entropy

__version__ = "0.1.0"
