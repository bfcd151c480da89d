"""Log-sum-exp with a real multiplicity for every entry.

    lse(x, b, β)  =  β⁻¹ log Σ_j b_j exp(β x_j)  =  m + L / β            r_j = exp(β (x_j − m) − L)

    ∂/∂x_j = b_j r_j        ∂/∂b_j = r_j / β        ∂/∂β = (Σ_j b_j r_j β (x_j − m) − L) / β²     (1)

The peak m is taken where b ≠ 0, so t > 0 is possible where b = 0. L = log Σ b exp(t) is given to what follows as a
number that was computed once; `_log_z` carries its total derivative.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jsoftmax._core import accurate, dtypes
from jsoftmax._core import axes as ax
from jsoftmax._core.axes import total
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import limits
from jsoftmax._partition.statistics import (
    half_gap,
    live,
    log_excess,
    signed_gap,
    statistics,
)


def _signed_statistics(x, beta, where, b, axes):
    """Peak and L = log Σ b exp(t), from the logits t + log|b| at β = 1, each sign apart."""
    x, beta, b = lax.stop_gradient((x, beta, b.astype(beta.dtype)))
    b = jnp.where(live(x, where), b, 0)
    peak, excess = statistics(x, beta, b != 0, axes)
    z = signed_gap(x, beta, where, peak) + accurate.log(jnp.abs(b))
    one = jnp.ones_like(beta)
    # ~(b >= 0) and not b < 0: a NaN must stay in
    plus, minus = statistics(z, one, b > 0, axes), statistics(z, one, ~(b >= 0), axes)
    log_plus, log_minus = plus.peak + log_excess(plus), minus.peak + log_excess(minus)
    ratio = jnp.where(minus.excess == -1, 0, accurate.exp(log_minus - log_plus))
    return peak, jnp.where(jnp.isnan(excess), excess, log_plus + accurate.log1p(-ratio))


def _ratios(x, beta, where, b, peak, log_z, axes):
    """r of (1) and b r."""
    b = b.astype(beta.dtype)
    log_r = signed_gap(x, beta, where, peak) - _log_z(x, beta, where, b, peak, log_z, axes)
    # exp of a NaN that XLA:CPU knows beforehand is a number
    r = jnp.where(jnp.isnan(log_z), jnp.nan, accurate.exp(log_r))
    r = jnp.where(live(x, where) & (log_z != -jnp.inf), r, 0)
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
    _, t_dot = jax.jvp(lambda x, beta: signed_gap(x, beta, where, peak), (x, beta), (x_dot, beta_dot))
    moved = jnp.where(live(x, where), w * t_dot + r * b_dot.astype(beta.dtype), 0)
    return _log_z(*primals, axes), total(moved, axes)


def _signed_slopes(x, beta, where, b, peak, log_z, axes):
    """∂/∂x, ∂/∂b and ∂/∂β of (1); at β = 0 the last two are infinite and saturate, unless Σ b = 1."""
    r, w = _ratios(x, beta, where, b, peak, log_z, axes)
    moving = jnp.where(jnp.isinf(beta), 0, 1)  # a factor and not a choice: a NaN row stays NaN at β = ±∞
    flat = beta == 0
    inverse = 1 / jnp.where(flat, 1, beta)
    along_b = jnp.where(r == 0, 0, jnp.where(flat, jnp.where(r > 0, jnp.inf, r), r * inverse))
    half_rise = half_gap(x, where, peak)
    half_rise = jnp.where((b == 0) & ~jnp.isfinite(half_rise), 0, half_rise)
    mean = 2 * total(w * half_rise, axes)
    half_variance = 2 * total(w * (half_rise - mean / 2) ** 2, axes)
    excess = jnp.where(log_z == -jnp.inf, 0, _log_z(x, beta, where, b, peak, log_z, axes))
    at_zero = jnp.where(excess == 0, half_variance, lax.stop_gradient(-excess * jnp.inf))
    along_beta = jnp.where(flat, at_zero, (mean - excess * inverse) * inverse)
    return w, limits.saturate(along_b) * moving, limits.saturate(along_beta) * moving


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _signed_lse(x, beta, where, b, peak, log_z, axes):
    b = b.astype(beta.dtype)
    mean = peak + 2 * total(jnp.where(b == 0, 0, b * half_gap(x, where, peak)), axes)
    flat = jnp.where(log_z == 0, mean, log_z * jnp.inf)
    y = jnp.where(beta == 0, flat, peak + log_z / jnp.where(beta == 0, 1, beta))
    y = jnp.where(log_z == -jnp.inf, limits.of_nothing(beta), y)
    top = live(x, where) & (x == jnp.inf) & (b != 0)
    other = total((top & ~(b > 0)).astype(y.dtype), axes)
    return jnp.where((peak == jnp.inf) & (other == 0) & ~jnp.isnan(beta), jnp.inf, y)


@_signed_lse.defjvp
def _(axes, primals, tangents):
    x, beta, where, b, peak, log_z = primals
    x_dot, beta_dot, _, b_dot, _, _ = tangents
    along_x, along_b, along_beta = _signed_slopes(x, beta, where, b, peak, log_z, axes)
    moved = jnp.where(live(x, where), along_x * dtypes.widen(x_dot) + along_b * b_dot.astype(beta.dtype), 0)
    return _signed_lse(*primals, axes), total(moved, axes) + along_beta * beta_dot


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


ruled_signed_lse = with_vjp(_signed_lse_primal, _signed_lse_fwd, _signed_lse_bwd, static=(4,))
