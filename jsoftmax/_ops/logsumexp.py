"""Log-sum-exp with inverse temperature, its weighted form and its mean.

    lse(x, β)  =  β⁻¹ log Σ_j exp(β x_j)  =  m + log1p(s) / β            p = softmax(β x)

    ∂lse/∂x_j      =  p_j                                                                         (1)
    ∂lse/∂β        =  −H(p) / β²                                                                  (2)
    ∂²lse/∂β∂x_j   =  p_j (x_j − Σ p x)                                                           (3)
    ∂²lse/∂β²      =  Var_p[x] / β + 2 H(p) / β³                                                  (4)

    lse(x, b, β)   =  β⁻¹ log Σ_j b_j exp(β x_j)  =  m + L / β           r_j = exp(β (x_j − m) − L)
    ∂/∂x_j = b_j r_j        ∂/∂b_j = r_j / β        ∂/∂β = (Σ_j b_j r_j β (x_j − m) − L) / β²       (5)

    lme(x, β)      =  β⁻¹ log (1/n Σ_j exp(β x_j))                       u_j = x_j − lme
    ∂lme/∂x_j = p_j         ∂lme/∂β = 1/n Σ_j ψ(β u_j) u_j²,   ψ(τ) = (τ e^τ − expm1(τ)) / τ²       (6)

(6) is KL(p ‖ uniform) / β² as a sum of terms of one sign: exact down to β = 0, where it is Var[x] / 2.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition.statistics import (
    deviation,
    entropy,
    finite_part,
    gap,
    half_gap,
    live,
    log_excess,
    statistics,
    weights,
)

Axis = int | tuple[int, ...] | None


def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    where: ArrayLike | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
) -> Array:
    """Smooth maximum of `x` along `axis`, in the units of `x`: `β⁻¹ log Σ_j b_j exp(β x_j)`.

    At β = 1 it is `jax.nn.logsumexp`, except that `axis` defaults to −1 and not to None. For β > 0 it lies between the
    maximum and the maximum plus log(n) / β, for β < 0 it is a smooth minimum.

    Args:
      x: floating or integer array. −inf marks an absent class. Integers become the default float.
      axis: axis to reduce, tuple of axes or None for all.
      beta: inverse temperature, in units of 1/x: any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      where: boolean, broadcasts to `x`; False marks an absent class.
      b: real multiplicities, broadcast to `x`. 0 marks an absent class. Where Σ b exp(β x) is negative the result is
        NaN, where it is 0 the sum's logarithm is −inf.
      keepdims: keep the reduced axes with size 1.

    Returns:
      shape of `x` without `axis`, dtype of `x`; sums are taken in float32 or wider.
      β = +inf gives the maximum, −inf the minimum. β = 0 gives +inf for two live entries or more, the entry itself for
      one. No live entry: −inf, and +inf for β < 0. A live +inf gives +inf for β ≥ 0 and NaN for β < 0 (there +inf only
      if every live entry is); a live NaN gives NaN.

    Raises:
      TypeError: `x` or `b` is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range or repeated; shapes that do not broadcast; two of beta, temperature, base.

    Derivatives: reverse mode in `x`, `b` and `beta`, `temperature` or `base`, to any order; forward mode inside
    `forward_mode()`. In x it is the softmax, at β = ±inf the even share among ties; an empty row has gradient 0.
    ∂/∂β = −H/β² saturates at 2⁻³² of the largest finite number. Saves `x`, `b`, β, `where` and two numbers a row.

    References: Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.logsumexp(jnp.zeros(4), beta=2.0)  # log(4) / 2
      Array(0.6931472, dtype=float32)
      >>> jsoftmax.logsumexp(jnp.array([1.0, 3.0, 2.0]), beta=jnp.array(-jnp.inf))
      Array(1., dtype=float32)
    """
    name = "logsumexp"
    x, axes = check.logits(name, "x", x, axis)
    where = check.mask(name, where, x.shape)
    beta, kind = check.beta(name, beta, temperature, base, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    b = check.multiplicity(name, b, x.shape)
    return _logsumexp(x, where, beta, b, axes, kind, bool(keepdims))


def logmeanexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    where: ArrayLike | None = None,
    keepdims: bool = False,
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
    beta, kind = check.beta(name, beta, None, None, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    return _logmeanexp(x, where, beta, axes, kind, bool(keepdims))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _logsumexp(x, where, beta, b, axes, kind, keepdims):
    b = b if b is None else ax.lift(b, x.ndim).astype(dtypes.of_logits(b.dtype))
    x, where, beta, b = prepare(x, where, beta, kind, axes, keepdims, b)
    y = _ruled_lse(x, where, beta, axes) if b is None else _ruled_signed_lse(x, where, beta, b, axes)
    return ax.drop(y, axes, keepdims)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _logmeanexp(x, where, beta, axes, kind, keepdims):
    return ax.drop(_ruled_lme(*prepare(x, where, beta, kind, axes, keepdims), axes), axes, keepdims)


# log-sum-exp -------------------------------------------------------------------------------------------------------


def _inverse(beta):
    """1/β, and at 0 the largest power of two in its place, so that a quotient saturates instead of being 0/0.

    Quotients by powers of β multiply by it: XLA turns a/β/β into a/(β β), and β β underflows.
    """
    return 1 / jnp.where(beta == 0, jnp.finfo(beta.dtype).tiny, beta)


def _of_nothing(beta):
    """β⁻¹ log 0."""
    return jnp.where(jnp.isnan(beta), beta, jnp.where(beta < 0, jnp.inf, -jnp.inf))


def _saturate(y):
    """`y` within 2⁻³² of the largest number, so that infinite slopes of both signs can still be added over rows."""
    largest = float(jnp.finfo(y.dtype).max) * 2.0**-32
    return jnp.clip(y, -largest, largest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _slope(x, beta, where, stats, axes):
    """(2), with (3) and (4) as its derivative."""
    inverse = _inverse(beta)
    return _saturate(-entropy(x, beta, where, stats, axes) * inverse * inverse)


@_slope.defjvp
def _(axes, primals, tangents):
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    half_spread = deviation(half_gap(x, where, stats.peak), p, x, where, stats, axes)
    x_dot = jnp.where(live(x, where), dtypes.widen(tangents[0]), 0)
    along_x = 2 * jnp.sum((p * half_spread) * x_dot, axes, keepdims=True)  # (3)
    variance = 4 * jnp.sum((p * half_spread) * half_spread, axes, keepdims=True)
    inverse = _inverse(beta)
    curvature = variance * inverse + 2 * entropy(x, beta, where, stats, axes) * inverse * inverse * inverse  # (4)
    beta_dot = jnp.where(jnp.isinf(beta), 0, tangents[1])
    along_x = jnp.where(jnp.isinf(beta), 0, along_x)
    return _slope(*primals, axes), along_x + _saturate(curvature) * beta_dot


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _lse(x, beta, where, stats, axes):
    excess = log_excess(stats)
    y = stats.peak + excess / jnp.where(beta == 0, 1, beta)
    flat = jnp.where(stats.excess == 0, stats.peak, jnp.where(stats.excess > 0, jnp.inf, excess))
    y = jnp.where(beta == 0, flat, y)
    y = jnp.where(stats.excess == -1, _of_nothing(beta), y)
    return jnp.where((stats.peak == jnp.inf) & ~jnp.isnan(beta), jnp.inf, y)


@_lse.defjvp
def _(axes, primals, tangents):
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    along_x = jnp.sum(p * jnp.where(live(x, where), dtypes.widen(tangents[0]), 0), axes, keepdims=True)  # (1)
    return _lse(*primals, axes), along_x + _slope(x, beta, where, stats, axes) * tangents[1]


def _lse_primal(x, where, beta, axes):
    return _lse_fwd(x, where, beta, axes)[0]


def _lse_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    return _lse(x, beta, where, stats, axes).astype(x.dtype), (x, where, beta, stats)


def _lse_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    g = dtypes.widen(g)
    x_bar = jnp.where(live(x, where), g * weights(x, beta, where, stats, axes), 0)
    return x_bar.astype(x.dtype), None, ax.sum_to(g * _slope(x, beta, where, stats, axes), beta.shape)


_ruled_lse = with_vjp(_lse_primal, _lse_fwd, _lse_bwd, static=(3,))


# with multiplicities -------------------------------------------------------------------------------------------------
# Their peak is taken where b ≠ 0, so t > 0 is possible where b = 0. L is given to what follows as a number that was
# computed once; `_log_z` carries its total derivative.


def _signed_statistics(x, beta, where, b, axes):
    """Peak and L = log Σ b exp(t), from the logits t + log|b| at β = 1, each sign apart."""
    x, beta, b = lax.stop_gradient((x, beta, b.astype(beta.dtype)))
    b = jnp.where(live(x, where), b, 0)
    peak, excess = statistics(x, beta, b != 0, axes)
    z = gap(x, beta, where, peak) + jnp.log(jnp.abs(b))
    one = jnp.ones_like(beta)
    # ~(b >= 0) and not b < 0: a NaN must stay in
    plus, minus = statistics(z, one, b > 0, axes), statistics(z, one, ~(b >= 0), axes)
    log_plus, log_minus = plus.peak + log_excess(plus), minus.peak + log_excess(minus)
    ratio = jnp.where(minus.excess == -1, 0, jnp.exp(log_minus - log_plus))
    return peak, jnp.where(jnp.isnan(excess), excess, log_plus + jnp.log1p(-ratio))


def _ratios(x, beta, where, b, peak, log_z, axes):
    """r of (5) and b r."""
    b = b.astype(beta.dtype)
    log_r = gap(x, beta, where, peak) - _log_z(x, beta, where, b, peak, log_z, axes)
    r = jnp.where(live(x, where) & (log_z != -jnp.inf), jnp.exp(log_r), 0)
    # not `where(b == 0, 0, b r)`: the slope of b r at b = 0 is r
    return r, b * jnp.where((b == 0) & ~jnp.isfinite(r), 0, r)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _log_z(x, beta, where, b, peak, log_z, axes):
    return log_z


@_log_z.defjvp
def _(axes, primals, tangents):
    x, beta, where, b, peak, log_z = primals
    x_dot, beta_dot, _, b_dot, _, _ = tangents
    r, w = _ratios(x, beta, where, b, peak, log_z, axes)
    t_dot = finite_part(beta) * dtypes.widen(x_dot)
    t_dot += half_gap(x, where, peak) * (2 * jnp.where(jnp.isinf(beta), 0, beta_dot))
    moved = jnp.where(live(x, where), w * t_dot + r * b_dot.astype(beta.dtype), 0)
    return _log_z(*primals, axes), jnp.sum(moved, axes, keepdims=True)


def _signed_slopes(x, beta, where, b, peak, log_z, axes):
    """∂/∂x, ∂/∂b and ∂/∂β of (5); at β = 0 the last two are infinite and saturate, unless Σ b = 1."""
    r, w = _ratios(x, beta, where, b, peak, log_z, axes)
    moving = jnp.where(jnp.isinf(beta), 0, 1)  # a factor and not a choice: a NaN row stays NaN at β = ±∞
    flat = beta == 0
    inverse = 1 / jnp.where(flat, 1, beta)
    along_b = jnp.where(r == 0, 0, jnp.where(flat, jnp.where(r > 0, jnp.inf, r), r * inverse))
    half_rise = half_gap(x, where, peak)
    half_rise = jnp.where((b == 0) & ~jnp.isfinite(half_rise), 0, half_rise)
    mean = 2 * jnp.sum(w * half_rise, axes, keepdims=True)
    half_variance = 2 * jnp.sum(w * (half_rise - mean / 2) ** 2, axes, keepdims=True)
    excess = jnp.where(log_z == -jnp.inf, 0, _log_z(x, beta, where, b, peak, log_z, axes))
    at_zero = jnp.where(excess == 0, half_variance, lax.stop_gradient(-excess * jnp.inf))
    along_beta = jnp.where(flat, at_zero, (mean - excess * inverse) * inverse)
    return w, _saturate(along_b) * moving, _saturate(along_beta) * moving


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _signed_lse(x, beta, where, b, peak, log_z, axes):
    b = b.astype(beta.dtype)
    mean = peak + 2 * jnp.sum(jnp.where(b == 0, 0, b * half_gap(x, where, peak)), axes, keepdims=True)
    flat = jnp.where(log_z == 0, mean, log_z * jnp.inf)
    y = jnp.where(beta == 0, flat, peak + log_z / jnp.where(beta == 0, 1, beta))
    y = jnp.where(log_z == -jnp.inf, _of_nothing(beta), y)
    top = live(x, where) & (x == jnp.inf) & (b != 0)
    least = jnp.min(jnp.broadcast_to(b, x.shape), axes, keepdims=True, initial=jnp.inf, where=top)
    return jnp.where((peak == jnp.inf) & (least > 0) & ~jnp.isnan(beta), jnp.inf, y)


@_signed_lse.defjvp
def _(axes, primals, tangents):
    x, beta, where, b, peak, log_z = primals
    x_dot, beta_dot, _, b_dot, _, _ = tangents
    along_x, along_b, along_beta = _signed_slopes(x, beta, where, b, peak, log_z, axes)
    moved = jnp.where(live(x, where), along_x * dtypes.widen(x_dot) + along_b * b_dot.astype(beta.dtype), 0)
    return _signed_lse(*primals, axes), jnp.sum(moved, axes, keepdims=True) + along_beta * beta_dot


def _signed_lse_primal(x, where, beta, b, axes):
    return _signed_lse_fwd(x, where, beta, b, axes)[0]


def _signed_lse_fwd(x, where, beta, b, axes):
    peak, log_z = _signed_statistics(x, beta, where, b, axes)
    return _signed_lse(x, beta, where, b, peak, log_z, axes).astype(x.dtype), (x, where, beta, b, peak, log_z)


def _signed_lse_bwd(axes, residuals, g):
    x, where, beta, b, peak, log_z = residuals
    g = dtypes.widen(g)
    along_x, along_b, along_beta = _signed_slopes(x, beta, where, b, peak, log_z, axes)
    x_bar = jnp.where(live(x, where), g * along_x, 0).astype(x.dtype)
    b_bar = jnp.where(live(x, where), g * along_b, 0)
    return x_bar, None, ax.sum_to(g * along_beta, beta.shape), ax.sum_to(b_bar, b.shape).astype(b.dtype)


_ruled_signed_lse = with_vjp(_signed_lse_primal, _signed_lse_fwd, _signed_lse_bwd, static=(4,))


# log-mean-exp ------------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _rise(x, beta, where, stats, axes):
    """lme − m, finite: it has digits that m would round away."""
    present = live(x, where)
    count = jnp.maximum(jnp.sum(present, axes, keepdims=True, dtype=stats.peak.dtype), 1)
    growth = jnp.where(present, jnp.expm1(gap(x, beta, where, stats.peak)), 0)
    growth = jnp.sum(growth, axes, keepdims=True) / count
    # near β = 0 the first has the digits, far from it the last; between them log, for log1p(x) in float64 on CPU is
    # off by 240 roundings in −0.414 < x < −0.3 (jax 0.10.2)
    near = jnp.where(growth > -0.25, jnp.log1p(growth), jnp.log(1 + growth))
    log_mean = jnp.where(growth > -0.5, near, log_excess(stats) - jnp.log(count))
    mean = 2 * jnp.sum(half_gap(x, where, stats.peak) / count, axes, keepdims=True)
    # β (x − m) below the rounding of 1: it may have underflown in `growth`, and the mean is what is left
    flat = jnp.abs(beta * mean) * count < jnp.finfo(mean.dtype).eps
    y = jnp.where(flat, mean, log_mean / jnp.where(flat, 1, beta))
    y = jnp.where(stats.excess == -1, 0, y)
    return jnp.where(jnp.isnan(stats.excess), jnp.nan, y)


@_rise.defjvp
def _(axes, primals, tangents):
    """The derivative of lme: m is constant here, and x − m in what is built on this is not."""
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    along_x = jnp.sum(p * jnp.where(live(x, where), dtypes.widen(tangents[0]), 0), axes, keepdims=True)
    return _rise(*primals, axes), along_x + _mean_slope(x, beta, where, stats, axes) * tangents[1]


def _mean_slope(x, beta, where, stats, axes):
    """(6)."""
    present = live(x, where)
    count = jnp.maximum(jnp.sum(present, axes, keepdims=True, dtype=stats.peak.dtype), 1)
    half_u = half_gap(x, where, stats.peak) - _rise(x, beta, where, stats, axes) / 2
    slope = finite_part(beta)
    tau = 2 * (slope * jnp.where(present, half_u, 0))
    small = jnp.abs(tau) < 0.5
    # −1000: exp is 0 long before, and −∞ would make a NaN
    near, far = jnp.where(small, tau, 0), jnp.where(small, 1, jnp.maximum(tau, -1000))
    # Σ_{k≥2} (k−1)/k! τ^{k−2}: 15 terms reach 1e-17 at τ = 1/2
    # by Horner's rule; the scan of jnp.polyval forgets the sharding on an Explicit mesh (jax 0.10.2)
    series = jnp.zeros_like(near)
    for k in range(16, 1, -1):
        series = series * near + (k - 1) / math.factorial(k)
    u = 2 * jnp.where(small & present, half_u, 0)
    inverse = _inverse(slope)
    terms = jnp.where(small, series * u * u, (far * jnp.exp(far) - jnp.expm1(far)) * inverse * inverse)
    y = jnp.sum(jnp.where(present, terms, 0), axes, keepdims=True) / count
    return jnp.where(jnp.isinf(beta) & ~jnp.isnan(stats.excess), 0, _saturate(y))


def _lme(x, beta, where, stats, axes):
    y = stats.peak + _rise(x, beta, where, stats, axes)
    y = jnp.where(stats.excess == -1, _of_nothing(beta), y)
    return jnp.where((stats.peak == jnp.inf) & ~jnp.isnan(beta), jnp.inf, y)


def _lme_primal(x, where, beta, axes):
    return _lme_fwd(x, where, beta, axes)[0]


def _lme_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    return _lme(x, beta, where, stats, axes).astype(x.dtype), (x, where, beta, stats)


def _lme_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    g = dtypes.widen(g)
    x_bar = jnp.where(live(x, where), g * weights(x, beta, where, stats, axes), 0).astype(x.dtype)
    return x_bar, None, ax.sum_to(g * _mean_slope(x, beta, where, stats, axes), beta.shape)


_ruled_lme = with_vjp(_lme_primal, _lme_fwd, _lme_bwd, static=(3,))
