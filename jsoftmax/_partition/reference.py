"""The log-partition function in plain jnp: the definition, on every platform until a measurement says otherwise.

    live    entries that are not masked and not −∞
    m       peak: the largest live x, the smallest if β < 0; taken on the raw x, for β x may overflow or round apart
    t_j  =  β (x_j − m)                                  ≤ 0, exactly 0 at the peak                       (1)
    s    =  Σ_{x_j ≠ m} exp(t_j) + (#{x_j = m} − 1)      excess: Z e^{−βm} − 1, without cancellation      (2)
    p_j  =  exp(t_j) / (1 + s)                           log p_j = t_j − log1p(s)                         (3)

No live entry: m = 0, s = −1, so that log Z = β m + log1p(s) = −∞ and residuals stay finite. A live +∞ or NaN, or β NaN:
s is NaN, and with it all that is not masked.

Without a mask, and but for the choices that β asks for, nothing before or between the sums of a row chooses or
compares, neither by element nor by row: XLA:CPU has one kernel for elementwise arithmetic with its row sums and what is
made of them, and a choice ends it. What would be compared is counted: ⌊exp(t) + 2⁻⁷⌋ is 1 at the peak and near it,
`step` is 0 or 1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from jsoftmax._core import accurate
from jsoftmax._core.axes import total
from jsoftmax._core.dtypes import wide as wide_dtype
from jsoftmax._core.dtypes import widen
from jsoftmax._core.mesh import is_explicit
from jsoftmax._core.types import Axes, ClassAxes, Logits, Mask, Rows
from jsoftmax._partition import classes


class Statistics(NamedTuple):
    """Peak and excess of each row, size 1 along the class axes, float32 or wider."""

    peak: Rows
    excess: Rows


def step(v: Array) -> Array:
    """1 for v > 0, else 0; NaN for NaN."""
    return jnp.maximum(jnp.sign(v), 0)


def live(x: Logits, where: Mask) -> Bool[Array, "*shape"]:
    present = x != -jnp.inf
    return present if where is None else present & where


def masked(v: Logits, where: Mask) -> Logits:
    """`v`, and 0 where masked."""
    return v if where is None else jnp.where(where, v, 0)


def half_gap(x: Logits, where: Mask, peak: Rows) -> Logits:
    """(x − m) / 2, which cannot overflow; 0 where absent."""
    return jnp.where(live(x, where), widen(x) * 0.5 - peak * 0.5, 0)


def finite_part(beta: Rows) -> Rows:
    """β, and 0 for ±∞, where no operator depends on it any more."""
    return jnp.where(jnp.isinf(beta), 0, beta)


def times(beta: Rows | None, v: Array) -> Array:
    """β v, 0 at β = ±∞."""
    return v if beta is None else finite_part(beta) * v


def times_twice(beta: Rows | None, half: Rows) -> Rows:
    """β · 2 h, without doubling the larger of the two; 0 at β = ±∞."""
    if beta is None:
        return 2 * half
    beta = finite_part(beta)
    scale = jnp.where(jnp.abs(beta) < 1, 2, 1).astype(beta.dtype)
    return (beta * scale) * (half * (2 / scale))


class Frame(NamedTuple):
    """What takes the logits of a row to exponents, see `frame`; without β an origin alone."""

    scale: Any
    origin: Rows
    factor: Any
    again: Any


def frame(beta: Rows | None, peak: Rows) -> Frame:
    """(s, o, c, k) of each row, so that ((x s − o) c) k is β (x − m) wherever that is a number, and −∞ or ∞ at a −∞.

    s, c and k are powers of two but for β itself. x − m may overflow and β (x − m) not: |β| < 1 takes halves. The
    limits are numbers too, of which none makes 0 · ∞: at β = 0 two factors that no number survives, at ±∞ two that no
    difference does.
    """
    if beta is None:
        return Frame(None, peak, None, None)
    info = jnp.finfo(beta.dtype)
    limit, zero = jnp.isinf(beta), jnp.abs(beta) < info.tiny  # a subnormal factor may count as 0
    # at ±∞ a difference of two small logits must not fall among the subnormal numbers, which may count as 0
    scale = jnp.where(jnp.abs(beta) < 1, 0.5, jnp.where(limit & (jnp.abs(peak) < 1), 2.0**64, 1)).astype(beta.dtype)
    factor = jnp.where(zero, info.tiny, jnp.where(limit, jnp.sign(beta) * info.max, beta / scale))
    return Frame(scale, peak * scale, factor, jnp.where(zero, info.tiny, jnp.where(limit, info.max, 1)))


def signed_gap(x: Logits, beta: Rows, peak: Rows) -> Logits:
    """β (x − m) for finite β, also beyond the peak; at an absent −∞ an infinity of either sign."""
    f = frame(beta, peak)
    return (_settled(x, f) * f.scale - f.origin) * f.factor * f.again


def gap(x: Logits, beta: Rows | None, where: Mask, peak: Rows) -> Logits:
    """t of (1); −∞ where absent."""
    return gap_in(frame(beta, peak), x, where)


def gap_in(f: Frame, x: Logits, where: Mask) -> Logits:
    """Without a choice by element; the absolute value also keeps XLA from multiplying the two factors, constants of a
    constant β."""
    if f.scale is None:
        t = -jnp.abs(_settled(x, f) - f.origin)
    else:
        t = -(jnp.abs((_settled(x, f) * f.scale - f.origin) * f.factor) * f.again)
    return t if where is None else jnp.where(where, t, -jnp.inf)


def _settled(x: Logits, f: Frame) -> Logits:
    """x, rounded. Logits that are a product are made again where they are read, and a compiler takes a product and what
    is subtracted from it for one operation, without the rounding that the peak had: nothing would be at the peak. It
    may do that with a 0 that it does not know. On a GPU that would end the kernel; see `below_peak`."""
    return lax.platform_dependent(widen(x), f.origin, cpu=_with_zero, default=_as_it_is)


def _as_it_is(x: Logits, _: Rows) -> Logits:
    return x


def _with_zero(x: Logits, origin: Rows) -> Logits:
    return x + (origin - origin)


def masses(x: Logits, beta: Rows | None, where: Mask, peak: Rows) -> Logits:
    """exp(t): 1 at the peak, 0 where absent."""
    return masses_in(frame(beta, peak), x, where)


def masses_in(f: Frame, x: Logits, where: Mask) -> Logits:
    return accurate.exp(gap_in(f, x, where))


def peak_of(x: Logits, beta: Rows | None, where: Mask, axes: Axes) -> Rows:
    """m; 0 for an empty row."""
    highest = _highest(x, where, axes)
    if beta is None:
        return _or_zero(highest)
    lowest = _lowest(x, beta, where, highest, axes)
    # a +∞ poisons the row also where it is not the peak
    lowest = jnp.where((highest == jnp.inf) & (lowest < jnp.inf), jnp.nan, lowest)
    return jnp.where(beta < 0, jnp.where(highest == -jnp.inf, 0, lowest), _or_zero(highest))


def _highest(x: Logits, where: Mask, axes: Axes) -> Rows:
    """The largest x, −∞ if there is none; of half precision as the sums will have it, see `widen`."""

    def of(taken, x, where):
        return classes.largest(lambda x, w: taken(x) if w is None else jnp.where(w, taken(x), -jnp.inf), axes, x, where)

    def narrow(x, where):
        # of a widened one the sums would read the same, and it would be written out
        return widen(of(lambda x: x, x, where))

    def wide(x, where):
        return of(widen, x, where)

    if x.dtype == wide_dtype(x.dtype):
        return wide(x, where)
    return lax.platform_dependent(x, where, cpu=narrow, default=wide)


def _lowest(x: Logits, beta: Rows, where: Mask, highest: Rows, axes: Axes) -> Rows:
    """The smallest live x, where β < 0.

    One β for all decides on CPU whether it is looked for: to leave out a −∞ takes six times as long as a maximum there.
    Of a β for each row every device would have to ask the others.
    """

    def sought(x, where, _):
        return -classes.largest(lambda x, w: jnp.where(live(x, w), -widen(x), -jnp.inf), axes, x, where)

    def where_negative(x, where, highest):
        return lax.cond(jnp.squeeze(beta) < 0, sought, lambda *operands: operands[-1], x, where, highest)

    if beta.size != 1 or is_explicit(x):
        return sought(x, where, highest)
    return lax.platform_dependent(x, where, highest, cpu=where_negative, default=sought)


def _or_zero(peak: Rows) -> Rows:
    """0 for −∞."""
    largest = jnp.finfo(peak.dtype).max
    return jnp.maximum(peak, -largest) * step(peak * 0.5 + largest)


def excess_of(x: Logits, beta: Rows | None, where: Mask, peak: Rows, axes: Axes, fine: bool = True) -> Rows:
    """s of (2), −1 for an empty row, NaN if poisoned; without `fine` as Σ exp(t) − 1."""
    return excess_in(frame(beta, peak), x, where, axes, fine)


NEAR = 2.0**-7  # from 1: more than a rounding of the peak makes of it


def below_peak(e: Logits) -> Logits:
    """exp(t), and 0 near 1: a peak that is read with another rounding is not beside itself."""
    return e - e * jnp.floor(e + NEAR)


def excess_in(f: Frame, x: Logits, where: Mask, axes: Axes, fine: bool = True) -> Rows:
    def sums(x, where):
        e = masses_in(f, x, where)
        return below_peak(e), e

    if not fine:
        return classes.total(lambda x, where: masses_in(f, x, where), axes, x, where) - 1
    return excess_from(*classes.total(sums, axes, x, where))


def excess_from(below: Rows, total: Rows) -> Rows:
    """s from the sum below the peak and that of all: with a second one near 1 nothing cancels. −1 for an empty row."""
    tied = step(total - 2 * (1 - NEAR))
    return ((1 - tied) * below + tied * (total - 1)) - step(0.5 - total)


def checked(peak: Rows, excess: Rows, beta: Rows | None) -> Statistics:
    """A row is NaN if its peak is not finite or β is NaN, whatever is live in it and comes out of exp."""
    poison = 0 * peak if beta is None else 0 * peak + jnp.where(jnp.isnan(beta), jnp.nan, 0)
    return Statistics(peak, excess + poison)


def statistics_of(x: Logits, beta: Rows | None, where: Mask, axes: Axes, fine: bool = True) -> Statistics:
    peak = peak_of(x, beta, where, axes)
    return checked(peak, excess_of(x, beta, where, peak, axes, fine), beta)


def share(stats: Statistics) -> Rows:
    """What p is at the peak; 1 for an empty row."""
    return 1 / jnp.maximum(1 + stats.excess, 1)


def weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics) -> Logits:
    """p of (3); 0 where absent, but in a row that is poisoned NaN where not masked."""
    return masked(masses(x, beta, where, stats.peak) * share(stats), where)


def alone(e: Array, excess: Rows) -> Bool[Array, "*shape"]:
    """Whether e = exp(t) is that of a peak with more than half of the weight, also of one read with another rounding:
    a second class as near to 1 would be in the excess."""
    return (e >= 1 - NEAR) & (excess < 1 - 2 * NEAR)


def complements(x: Logits, beta: Rows | None, where: Mask, stats: Statistics) -> Logits:
    """1 − p without cancellation: s / (1 + s) at a peak alone, elsewhere p is little more than ½ at most."""
    e = masses(x, beta, where, stats.peak)
    return jnp.where(alone(e, stats.excess), stats.excess * share(stats), 1 - e * share(stats))


def log_excess(stats: Statistics) -> Rows:
    """log1p(s) = log Z − β m."""
    return accurate.log1p(stats.excess)


def log_weights(x: Logits, beta: Rows | None, where: Mask, stats: Statistics) -> Logits:
    """log p of (3); −∞ where absent, but in a row that is poisoned NaN where not masked."""
    y = gap(x, beta, where, stats.peak) - jnp.maximum(log_excess(stats), 0)
    return y if where is None else jnp.where(where, y, -jnp.inf)


def entropy(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """H = log1p(s) − Σ p t ≥ 0, a sum of terms of one sign; 0 for an empty row."""
    p = weights(x, beta, where, stats)
    mean_gap = times_twice(beta, total(p * half_gap(x, where, stats.peak), axes))
    return jnp.where(stats.excess == -1, 0, log_excess(stats) - mean_gap)


def log_partition(beta: Rows | None, stats: Statistics) -> Rows:
    """β m + log1p(s)."""
    if beta is None:
        return stats.peak + log_excess(stats)
    # not ±∞ · 0
    return jnp.where(stats.peak == 0, 0, beta * stats.peak) + log_excess(stats)


def mean_logit(x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes) -> Rows:
    """m + Σ p (x − m), the sum of terms of one sign."""
    p = weights(x, beta, where, stats)
    return stats.peak + 2 * total(p * half_gap(x, where, stats.peak), axes)


def expected_log_weight(
    q: Logits, x: Logits, beta: Rows | None, where: Mask, stats: Statistics, axes: ClassAxes, absent: bool
) -> Rows:
    """Σ_j q_j log p_j with 0 · log 0 = 0, over all classes or without those that are absent."""

    def term(x, where, q):
        y = times_log(q, log_weights(x, beta, where, stats))
        return y if absent else jnp.where(live(x, where), y, 0)

    return classes.total(term, axes, x, where, q)


def times_log(y: Array, log_p: Array) -> Array:
    return jnp.where((y == 0) & (log_p == -jnp.inf), 0, y * log_p)
