"""The pair for what is made of a row that a GPU has on chip: one kernel reads the logits once for all of it.

XLA:GPU has one Triton kernel for reductions along short rows, what follows from them and reductions of that. What ends
it: a peak that is used again behind the sum, a choice between the maximum and the sum; for the careful excess a mask
or β too. So an empty row has the lowest number for its peak and poison comes out of exp, which gives the same weights.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from jsoftmax._core.axes import positions
from jsoftmax._core.dtypes import widen
from jsoftmax._core.types import Axes, ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import online, reference
from jsoftmax._partition.reference import Statistics

LONGEST = 16384  # classes; the kernel has no longer rows


def fits(x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool) -> bool:
    """From shapes alone."""
    if (beta is not None and (fine or beta.size != 1)) or (where is not None and fine):
        return False
    return axes == (x.ndim - 1,) and 2 <= x.shape[-1] <= LONGEST


def again(
    stats: Statistics, x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool = True
) -> Statistics:
    """`stats` of these logits, and on a GPU where a row fits the pair made anew, for weights and log-weights.

    It is for one elementwise result of the size of the logits, whose kernel then needs nothing from another pass.
    """

    def on_chip(stats, x, beta, where):
        return statistics_of(x, beta, where, positions(axes), fine)

    if not fits(x, beta, where, axes, fine):
        return stats
    return _on_gpu(on_chip, lambda stats, *_: stats, stats, *lax.stop_gradient((x, beta)), where)


def backward(
    stats: Statistics, x: Logits, beta: Rows | None, where: Mask, axes: ClassAxes, fine: bool = True
) -> tuple[Logits, Statistics]:
    """(x, the same) for a rule's second half: nothing of the first is held in memory for it."""
    if not fits(x, beta, where, axes, fine):
        return x, stats
    x = _on_gpu(lax.optimization_barrier, lambda x: x, x)
    return x, again(stats, x, beta, where, axes, fine)


def _on_gpu(f: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    return lax.platform_dependent(*operands, cuda=f, rocm=f, default=otherwise)


def statistics_of(x: Logits, beta: Rows | None, where: Mask, axes: Axes, fine: bool) -> Statistics:
    """As `reference.statistics_of`, but for the peak of an empty or poisoned row."""
    z = _in_order(widen(x), beta)
    z = z if where is None else jnp.where(where, z, -jnp.inf)
    lowest = -jnp.finfo(z.dtype).max
    if beta is None:
        peak = jnp.maximum(jnp.max(z, axes, keepdims=True), lowest)
    else:
        turn = online.turn(beta)
        peak = jnp.maximum(jnp.max(z, axes, keepdims=True), lowest * jnp.abs(turn)) / turn
    e = reference.masses(x, beta, where, peak)
    total = jnp.sum(e, axes, keepdims=True)
    if not fine:
        return Statistics(peak, total - 1)
    below = jnp.sum(e - jnp.floor(e), axes, keepdims=True)
    return Statistics(peak, jnp.where(total >= 2, total - 1, below))


def _in_order(x: Logits, beta: Rows | None) -> Logits:
    """The logits in the order of β x with −∞ the least; NaN for a +∞ that is least too."""
    if beta is None:
        return x
    z = jnp.where(x == -jnp.inf, -jnp.inf, x * online.turn(beta))
    return jnp.where((x == jnp.inf) & (beta < 0), jnp.nan, z)
