"""The parameters of an adaptive softmax."""

from typing import NamedTuple

import numpy as np
from jax import Array


class AdaptiveWeights(NamedTuple):
    """A head over the frequent classes and the clusters, and a projection and a weight for each cluster: a pytree.

    As in PyTorch's AdaptiveLogSoftmaxWithLoss, with classes in falling order of frequency: head.weight, and for each
    cluster tail[k][0].weight and tail[k][1].weight.

    Args:
      head: real [V₀ + K, D], the V₀ frequent classes before the K clusters.
      tails: for each cluster a pair, projection [Dₖ, D] and weight [Vₖ, Dₖ].
      head_bias: real [V₀ + K], or None.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> weights = jsoftmax.AdaptiveWeights(jnp.zeros((3, 8)), ((jnp.zeros((2, 8)), jnp.zeros((5, 2))),))
      >>> jsoftmax.adaptive_log_prob(jnp.ones(8), weights).shape
      (7,)
    """

    head: Array | np.ndarray
    tails: tuple[tuple[Array | np.ndarray, Array | np.ndarray], ...]
    head_bias: Array | np.ndarray | None = None
