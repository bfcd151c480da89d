"""Log-mean-exp with inverse temperature: a mean for every β.

    lme(x, β)  =  β⁻¹ log (1/n Σ_j exp(β x_j))               p = softmax(β x),  u_j = x_j − lme

    ∂lme/∂x_j  =  p_j
    ∂lme/∂β    =  1/n Σ_j ψ(β u_j) u_j²,   ψ(τ) = (τ e^τ − expm1(τ)) / τ²                         (1)

(1) is KL(p ‖ uniform) / β² as a sum of terms of one sign: exact down to β = 0, where it is Var[x] / 2.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsoftmax._core import accurate, check, dtypes, mesh
from jsoftmax._core import axes as ax
from jsoftmax._core.axes import total
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import limits
from jsoftmax._partition.divergence import NEAR, series
from jsoftmax._partition.statistics import (
    finite_part,
    gap,
    half_gap,
    live,
    masked,
    statistics,
    weights,
)

Axis = int | tuple[int, ...] | None


def logmeanexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Exponential mean of `x` along `axis`: `β⁻¹ log (1/n Σ_j exp(β x_j))`, n the number of live entries.

    A mean for every β: the minimum at −inf, the arithmetic mean at 0, the maximum at +inf, increasing in between. Near
    β = 0 it keeps full precision, where log-sum-exp minus log n would cancel.

    Args:
      x: floating or integer array. −inf marks an absent entry, which is not counted in n.
      axis: axis to reduce, tuple of axes or None for all.
      beta: inverse temperature, in units of 1/x: any real or ±inf; a scalar, or an array that broadcasts to the result.
      where: boolean, broadcasts to `x`; False marks an absent entry.
      keepdims: keep the reduced axes with size 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them: `axis` has those of one device. The result is the same on all.

    Returns:
      shape of `x` without `axis`, dtype of `x`; sums are taken in float32 or wider. No live entry: −inf, and +inf for
      β < 0. +inf and NaN: as `logsumexp`.

    Raises: as `logsumexp`.

    Derivatives: reverse mode in `x` and `beta`, to any order; forward mode inside `forward_mode()`. In x it is the
    softmax; in β it is KL(p ‖ uniform) / β², half the variance at β = 0 and 0 at ±inf. Saves `x`, β, `where` and two
    numbers a row.

    References: de Finetti (1931), Hardy, Littlewood & Pólya (1934), "Inequalities", chapter 3 (exponential mean).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x = jnp.array([1.0, 2.0, 6.0])
      >>> jsoftmax.logmeanexp(x, beta=0.0)
      Array(3., dtype=float32)
      >>> jsoftmax.logmeanexp(x, beta=jnp.inf)
      Array(6., dtype=float32)
    """
    name = "logmeanexp"
    x, axes = check.logits(name, "x", x, axis)
    where = check.mask(name, where, x.shape)
    given, kind = check.beta(name, beta, None, None, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    names = check.axis_names(name, axis_name, **{kind: given})
    return _logmeanexp(x, where, given, axes + names, kind, bool(keepdims))


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _logmeanexp(x, where, beta, axes, kind, keepdims):
    x, where, beta = prepare(x, where, beta, kind, axes, keepdims)
    return ax.drop(mesh.leave(_ruled_lme(x, where, beta, axes), ax.names(axes)), axes, keepdims)


def _count(present, stats, axes):
    return total(present.astype(stats.peak.dtype), axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _half_rise(x, beta, where, stats, axes):
    """(lme − m) / 2, finite: it has digits that m would round away."""
    present, t = live(x, where), gap(x, beta, where, stats.peak)
    count = jnp.maximum(_count(present, stats, axes), 1)
    growth = total(jnp.where(present, accurate.expm1(t), 0), axes) / count
    level = (1 + stats.excess) / count
    # near β = 0 the growth has the digits, far from it the level; between them log, for log1p(x) in float64 on CPU is
    # off by 240 roundings in −0.414 < x < −0.3 (jax 0.10.2)
    far = accurate.log(jnp.where(growth > -0.5, 1 + growth, level))
    log_mean = jnp.where(growth > -0.25, accurate.log1p(growth), far)
    if beta is None:
        return 0.5 * log_mean
    half_mean = total(half_gap(x, where, stats.peak) / count, axes)
    # β (x − m) below the rounding of 1: it may have underflown in `growth`, and the mean is what is left
    flat = (jnp.abs(beta) < 1) & (jnp.abs(beta * half_mean) * count < jnp.finfo(half_mean.dtype).eps / 2)
    y = jnp.where(flat, half_mean, 0.5 * log_mean / jnp.where(flat, 1, beta))
    # at β ≥ 0 a +∞ is the peak, and t is NaN
    return jnp.where((beta < 0) & jnp.isnan(stats.excess), jnp.nan, y)


def _tangent(primals, tangents, axes):
    """Of lme. Half of it is that of the half rise: m is constant here, and x − m in what is built on this is not."""
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    along_x = total(p * jnp.where(live(x, where), dtypes.widen(tangents[0]), 0), axes)
    return along_x if beta is None else along_x + _mean_slope(x, beta, where, stats, axes) * tangents[1]


@_half_rise.defjvp
def _(axes, primals, tangents):
    return _half_rise(*primals, axes), 0.5 * _tangent(primals, tangents, axes)


def _mean_slope(x, beta, where, stats, axes):
    """(1)."""
    present = live(x, where)
    count = jnp.maximum(_count(present, stats, axes), 1)
    half_u = half_gap(x, where, stats.peak) - _half_rise(x, beta, where, stats, axes)
    slope = finite_part(beta)
    tau = 2 * (slope * jnp.where(present, half_u, 0))
    small = jnp.abs(tau) < NEAR
    # −1000: exp is 0 long before, and −∞ would make a NaN
    near, far = jnp.where(small, tau, 0), jnp.where(small, 1, jnp.maximum(tau, -1000))
    u = 2 * jnp.where(small & present, half_u, 0)
    inverse = limits.inverse(jnp.where(small, 1, slope))
    terms = jnp.where(small, series(near) * u * u, (far * accurate.exp(far) - accurate.expm1(far)) * inverse * inverse)
    y = total(jnp.where(present, terms, 0), axes) / count
    return limits.held(limits.saturate(y), beta, stats.excess)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _lme(x, beta, where, stats, axes):
    empty = _count(live(x, where), stats, axes) == 0
    y = 2 * (0.5 * stats.peak + _half_rise(x, beta, where, stats, axes))
    return limits.smooth_extremum(y, empty, stats.peak, beta)


@_lme.defjvp
def _(axes, primals, tangents):
    return _lme(*primals, axes), _tangent(primals, tangents, axes)


def _lme_primal(x, where, beta, axes):
    return _lme_fwd(x, where, beta, axes)[0]


def _lme_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes, fine=False)
    return _lme(x, beta, where, stats, axes).astype(x.dtype), (x, where, beta, stats)


def _lme_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    g = dtypes.widen(g)
    x_bar = masked(g * weights(x, beta, where, stats, axes), where).astype(x.dtype)
    if beta is None:
        return x_bar, None, None
    return x_bar, None, ax.sum_to(g * _mean_slope(x, beta, where, stats, axes), beta.shape)


_ruled_lme = with_vjp(_lme_primal, _lme_fwd, _lme_bwd, static=(3,))
