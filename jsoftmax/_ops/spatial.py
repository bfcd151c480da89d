"""Cross-entropy of a map of logits, reduced to one number as Caffe's SoftmaxWithLoss reduces it.

L  =  1/max(1, n) Σ_i w_i ℓ_i           i over the positions, ℓ_i the cross-entropy there

∂L/∂w_i  =  ℓ_i / max(1, n)              the rest by the chain rule
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check
from jsoftmax._core.labels import as_int32
from jsoftmax._core.reduce import weighted_sum
from jsoftmax._ops.cross_entropy import distribution_losses, index_losses

NORMALIZATIONS = ("valid", "full", "batch_size", "none")


def spatial_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = 1,
    where: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    z_loss: ArrayLike = check.NO_PENALTY,
    class_weights: ArrayLike | None = None,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    normalization: str = "valid",
) -> Array:
    """Cross-entropy of every position of a map, summed and normalised as by Caffe's SoftmaxWithLoss.

    `axis` holds the classes and all others are positions, outer × classes × inner, without a transposition: (N, C, H,
    W) with axis 1, (N, H, W, C) with axis −1, volumes and sequences alike.

    Args:
      logits: floating or integer array of any rank. −inf marks an absent class.
      labels: integer map of any width, of the shape of `logits` without `axis` or with size 1 there; or a floating map
        of distributions of the shape of `logits`.
      axis: the class axis.
      where, beta, temperature, base, label_smoothing, z_loss, class_weights: as in `softmax_cross_entropy`; a β, ε or λ
        for each position has the shape of an integer map.
      ignore_label: integer above −2³¹; positions with this label count for nothing. With integer labels only.
      weights: real or boolean, broadcasts to the positions: factor of each loss. A position of weight 0 counts for
        nothing, whatever it holds.
      normalization: what the sum is divided by, never by less than 1. "valid": number of positions that are neither
        ignored nor of weight 0; "full": number of positions; "batch_size": product of the axes before `axis`;
        "none": 1.

    Returns:
      a scalar, float32 or wider. With no valid position it is 0, and its gradient 0. A label outside [0, V) that is not
      ignored makes it NaN. Caffe clamps p at 1.18e-38, so that no loss there exceeds 87.3365; here it is −log p.

    Raises:
      TypeError: as `softmax_cross_entropy`; `weights` is complex or a list.
      ValueError: `normalization` is none of the four; `axis` names no single axis; `labels` of another shape;
        `ignore_label` with floating labels; and as `softmax_cross_entropy`.

    Derivatives: in `logits`, `beta`, `temperature` or `base`, the options, `weights` and floating `labels`, to any
    order; forward mode inside `forward_mode()`. Saves `logits`, `labels`, β, `where`, `weights`, the options and a few
    numbers a position.

    References: Jia et al. (2014), arXiv:1408.5093 (Caffe); Long, Shelhamer & Darrell (2015), arXiv:1411.4038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> logits = jnp.zeros((1, 4, 2, 2))  # one image, four classes, 2 × 2 pixels
      >>> jsoftmax.spatial_softmax_cross_entropy(logits, jnp.array([[[0, 3], [255, 255]]], jnp.uint8), ignore_label=255)
      Array(1.3862944, dtype=float32)
    """
    name = "spatial_softmax_cross_entropy"
    logits, axes = check.logits(name, "logits", logits, axis)
    if len(axes) != 1:
        raise ValueError(f"{name}: `axis` must be one axis, got {axis}.")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"{name}: `normalization` must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}.")
    labels = check.array(name, "labels", labels)
    positions = ax.row_shape(logits.shape, axes)
    slope, options = (beta, temperature, base), (label_smoothing, z_loss, class_weights)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if ignore_label is not None:
            raise ValueError(f"{name}: `ignore_label` needs integer labels, got dtype {labels.dtype}. Use `weights`.")
        losses, ignore = distribution_losses(name, logits, labels, axes, where, slope, options), None
    else:
        if labels.shape == ax.row_shape(logits.shape, axes, keepdims=True):
            labels = labels.reshape(positions)
        labels, ignore = check.integer_labels(name, labels, positions), check.ignore_label(name, ignore_label)
        losses = index_losses(name, logits, labels, axes, where, slope, options, ignore)
    weights = check.loss_weights(name, weights, positions, "the positions")
    return _normalized(losses, labels, ignore, weights, axes[0], normalization)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _normalized(losses, labels, ignore, weights, axis, normalization):
    w = jnp.ones((), losses.dtype) if weights is None else weights.astype(losses.dtype)
    w = jnp.broadcast_to(ax.lift(w, losses.ndim), losses.shape)
    return weighted_sum(losses, w) / jnp.maximum(1, _divisor(losses, labels, ignore, w, axis, normalization))


def _divisor(losses, labels, ignore, w, axis, normalization):
    if normalization == "valid":
        valid = w != 0
        if ignore is not None:
            valid &= as_int32(labels) != as_int32(ignore)
        # counted in integers: float32 counts to 2²⁴
        return jnp.sum(valid, dtype=jnp.int32).astype(losses.dtype)
    static = {"full": losses.size, "batch_size": math.prod(losses.shape[:axis]), "none": 1}
    return lax.full((), static[normalization], losses.dtype)
