"""The weighted mean with its count: the one reduction of every loss."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes, mesh


def weighted_mean(
    losses: ArrayLike, weights: ArrayLike | None = None, *, axis_name: str | tuple[str, ...] | None = None
) -> tuple[Array, Array]:
    """Mean of `losses` under `weights`, and the sum of the weights: `(Σ w l / Σ w, Σ w)`.

    The count makes the mean right under gradient accumulation: Σ of mean · count over the parts, divided by Σ of count,
    is the mean of the whole, however the valid examples are spread.

    Args:
      losses: floating array of any shape.
      weights: boolean, integer or floating, broadcasts to `losses`; usually `labels != ignore_label`. Negative weights
        are allowed. None weighs every loss with 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have different losses: mean
        and count are those of all, however unevenly the valid ones are spread.

    Returns:
      (mean, count), both scalars, float32 or wider; with `axis_name` the same on every device. A loss of weight 0
      counts for nothing whatever it holds, NaN and inf included. With no valid loss, Σ w = 0, the mean is 0.

    Raises:
      TypeError: `losses` is not real or `weights` is complex; lists. ValueError: `weights` does not broadcast.

    Derivatives: plain JAX, both modes, any order, in `losses` and `weights`: ∂mean/∂l = w / Σ w and
    ∂mean/∂w = (l − mean) / Σ w; 0 where there is no valid loss.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.weighted_mean(jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True]))
      (Array(2., dtype=float32), Array(2., dtype=float32))
    """
    name = "weighted_mean"
    losses = check.real(name, "losses", losses)
    weights = check.loss_weights(name, weights, losses.shape, "the shape of the losses")
    return _weighted_mean(losses, weights, check.axis_names(name, axis_name))


@functools.partial(jax.jit, static_argnums=2)
def _weighted_mean(losses, weights, names):
    losses = dtypes.widen(losses.astype(dtypes.of_logits(losses.dtype)))
    w = jnp.ones((), losses.dtype) if weights is None else weights.astype(losses.dtype)
    losses, w = mesh.align(losses, jnp.broadcast_to(ax.lift(w, losses.ndim), losses.shape))
    total, count = weighted_sum(losses, w), jnp.sum(w)
    if names:
        total, count = lax.psum(mesh.apart((total, count), (), names), names)
    return jnp.where(count == 0, 0, total / jnp.where(count == 0, 1, count)), count


def weighted_sum(losses: Array, w: Array) -> Array:
    """Σ w l without the losses of weight 0, whatever they hold."""
    return jnp.sum(w * jnp.where((w != 0) | jnp.isfinite(losses), losses, 0))
