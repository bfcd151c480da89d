"""The pair for what is made of a row that a GPU has on chip: one kernel reads the logits once for all of it.

XLA:GPU has one Triton kernel for reductions along short rows, what follows from them and reductions of that. What ends
it: a peak that is used again behind the sum, a choice between the maximum and the sum; for the careful excess β too. So
an empty row has the lowest number for its peak, a mask is on the logits, and poison comes out of exp.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core.axes import positions
from jsoftmax._core.dtypes import widen
from jsoftmax._core.types import Axes, ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import online, reference
from jsoftmax._partition.reference import Statistics

LONGEST = 16384  # classes; the kernel has no longer rows


def fits(x: Logits, beta: Rows | None, axes: ClassAxes, fine: bool) -> bool:
    """From shapes alone."""
    if beta is not None and (fine or beta.size != 1):
        return False
    return axes == (x.ndim - 1,) and 2 <= x.shape[-1] <= LONGEST


def each(
    f: Callable[..., Array],
    stats: Statistics,
    x: Logits,
    beta: Rows | None,
    where: Mask,
    axes: ClassAxes,
    fine: bool = True,
    absent: float | None = None,
    elsewhere: Callable[..., Array] | None = None,
) -> Array:
    """f(x, β, where, stats, axes); on a GPU where a row fits, with the pair made anew: f then has one kernel.

    There a masked entry is a −∞, to the bit, and `absent` is what it gives in a row that is poisoned. Where a row does
    not fit, and on every other platform, `elsewhere` may stand in for f.
    """

    def on_chip(stats, x, beta, where):
        x = x if where is None else jnp.where(where, x, -jnp.inf)
        y = f(x, beta, None, _anew(x, beta, None, axes, fine), axes)
        return y if where is None or absent is None else jnp.where(where, y, absent)

    def otherwise(stats, x, beta, where):
        return (elsewhere or f)(x, beta, where, stats, axes)

    if not fits(x, beta, axes, fine):
        return otherwise(stats, x, beta, where)
    return _on_gpu(on_chip, otherwise, stats, x, beta, where)


def again(
    stats: Statistics, x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool = True
) -> Statistics:
    """`stats` of these logits, and on a GPU where a row fits the pair made anew, unless a mask would end its kernel."""
    if (fine and where is not None) or not fits(x, beta, axes, fine):
        return stats

    def on_chip(stats, x, beta, where):
        return _anew(x, beta, where, axes, fine)

    return _on_gpu(on_chip, lambda stats, *_: stats, stats, x, beta, where)


def backward(
    stats: Statistics, x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool = True
) -> tuple[Logits, Statistics]:
    """(x, the same) for a rule's second half: nothing of the first is held in memory for it."""
    if fits(x, beta, axes, fine):
        x = _on_gpu(lax.optimization_barrier, lambda x: x, x)
    return x, again(stats, x, beta, where, axes, fine)


def _anew(x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool) -> Statistics:
    return statistics_of(*lax.stop_gradient((x, beta)), where, positions(axes), fine)


def _on_gpu(f: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    return lax.platform_dependent(*operands, cuda=f, rocm=f, default=otherwise)


def statistics_of(x: Logits, beta: Rows | None, where: Mask, axes: Axes, fine: bool) -> Statistics:
    """As `reference.statistics_of`, but for the peak of an empty or poisoned row."""
    z = _in_order(widen(x), beta)
    z = z if where is None else jnp.where(where, z, -jnp.inf)
    lowest = -jnp.finfo(z.dtype).max
    if beta is None:
        peak = jnp.maximum(jnp.max(z, axes, keepdims=True), lowest)
        e = reference.masses(z, None, None, peak)
    else:
        turn = online.turn(beta)
        peak = jnp.maximum(jnp.max(z, axes, keepdims=True), lowest * jnp.abs(turn)) / turn
        e = reference.masses(x, beta, where, peak)
    total = jnp.sum(e, axes, keepdims=True)
    if not fine:
        return Statistics(peak, total - 1)
    below = jnp.sum(reference.below_peak(e), axes, keepdims=True)
    return Statistics(peak, jnp.where(total >= 2 * (1 - reference.NEAR), total - 1, jnp.where(total < 0.5, -1, below)))


def _in_order(x: Logits, beta: Rows | None) -> Logits:
    """The logits in the order of β x with −∞ the least; NaN for a +∞ that is least too."""
    if beta is None:
        return x
    z = jnp.where(x == -jnp.inf, -jnp.inf, x * online.turn(beta))
    return jnp.where((x == jnp.inf) & (beta < 0), jnp.nan, z)
