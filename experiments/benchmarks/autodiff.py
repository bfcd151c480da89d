"""The formulas of this library written in jax.numpy and differentiated by JAX: what a careful user has without it.

    excess  =  Σ_j exp(β (x_j − m)) − 1        the classes beside the peak m
    log p_j  =  β (x_j − m) − log1p(excess)      lse  =  m + β⁻¹ log1p(excess)

Keyed as `operators.CASES`. Sums are in float32, results in the dtype of the logits where they are one a logit.
"""

import jax.numpy as jnp
from jax import lax

from experiments.benchmarks.operators import IGNORED, SMOOTHING, Z_LOSS, class_weights
from experiments.benchmarks.workloads import CROSS_ENTROPY, INTEGER, SPATIAL


def _parts(x, beta, axis):
    """β (x − m), its exponential, the excess, m. A product with a sign leaves the peak out: a comparison would take
    XLA:CPU's fused kernel apart, and the sum of all terms minus 1 would lose the digits of a confident row."""
    x = x.astype(jnp.float32)
    peak = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    t = beta * (x - peak)
    e = jnp.exp(t)
    off = lax.stop_gradient(jnp.sign(peak - x))
    excess = jnp.sum(e * off, axis, keepdims=True) + (jnp.sum(e * (1 - off), axis, keepdims=True) - 1)
    return t, e, excess, peak


def softmax(x, beta=1.0, axis=-1):
    _, e, excess, _ = _parts(x, beta, axis)
    return (e / (1 + excess)).astype(x.dtype)


def _log_weights(x, beta, axis):
    t, _, excess, _ = _parts(x, beta, axis)
    return t - jnp.log1p(excess)


def log_softmax(x, axis=-1):
    return _log_weights(x, 1.0, axis).astype(x.dtype)


def _smooth_maximum(x, beta, axis):
    _, _, excess, peak = _parts(x, beta, axis)
    return jnp.squeeze(peak + jnp.log1p(excess) / beta, axis)


def logsumexp(x, beta=1.0, axis=-1):
    return _smooth_maximum(x, beta, axis).astype(x.dtype)


def logmeanexp(x, axis=-1):
    return (_smooth_maximum(x, 1.0, axis) - jnp.log(x.shape[axis])).astype(x.dtype)


def cross_entropy(x, labels, axis=-1):
    return -jnp.sum(labels.astype(jnp.float32) * _log_weights(x, 1.0, axis), axis)


def integer_cross_entropy(x, labels, beta=1.0, axis=-1):
    t, _, excess, _ = _parts(x, beta, axis)
    at_label = jnp.take_along_axis(t, jnp.expand_dims(labels, axis), axis)
    return jnp.squeeze(jnp.log1p(excess) - at_label, axis)


def ignoring(x, labels, axis=-1):
    return jnp.where(labels == IGNORED, 0.0, integer_cross_entropy(x, labels, axis=axis))


def z_loss(x, labels, axis=-1):
    return integer_cross_entropy(x, labels, axis=axis) + Z_LOSS * _smooth_maximum(x, 1.0, axis) ** 2


def smoothing(x, labels, axis=-1, weights=1.0):
    losses = -weights * _log_weights(x, 1.0, axis)
    at_label = jnp.squeeze(jnp.take_along_axis(losses, jnp.expand_dims(labels, axis), axis), axis)
    return (1 - SMOOTHING) * at_label + SMOOTHING * jnp.mean(losses, axis)


def everything(x, labels, axis=-1):
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    weights = jnp.expand_dims(class_weights(x, axis).astype(jnp.float32), others)
    return smoothing(x, labels, axis, weights) + Z_LOSS * _smooth_maximum(x, 1.0, axis) ** 2


def spatial(x, labels, axis=1):
    return jnp.mean(integer_cross_entropy(x, labels, axis=axis))


AUTODIFF = {
    ("softmax", ""): softmax,
    ("softmax", "β"): softmax,
    ("log_softmax", ""): log_softmax,
    ("logsumexp", ""): logsumexp,
    ("logsumexp", "β"): logsumexp,
    ("logmeanexp", ""): logmeanexp,
    (CROSS_ENTROPY, ""): cross_entropy,
    (INTEGER, ""): integer_cross_entropy,
    (INTEGER, "β"): integer_cross_entropy,
    (INTEGER, "ignored label"): ignoring,
    (INTEGER, "smoothing"): smoothing,
    (INTEGER, "z-loss"): z_loss,
    (INTEGER, "all options"): everything,
    (SPATIAL, ""): spatial,
}
