"""Log-sum-exp with inverse temperature: a smooth maximum.

lse(x, β)  =  β⁻¹ log Σ_j exp(β x_j)  =  m + log1p(s) / β            p = softmax(β x)

∂lse/∂x_j      =  p_j                                                                         (1)
∂lse/∂β        =  −H(p) / β²                                                                  (2)
∂²lse/∂β∂x_j   =  p_j (x_j − Σ p x)                                                           (3)
∂²lse/∂β²      =  Var_p[x] / β + 2 H(p) / β³                                                  (4)
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes, mesh
from jsoftmax._core.axes import total
from jsoftmax._core.operands import prepare, unit
from jsoftmax._core.rule import with_vjp
from jsoftmax._ops.signed_logsumexp import ruled_signed_lse
from jsoftmax._partition import limits
from jsoftmax._partition.statistics import (
    deviation,
    entropy,
    half_gap,
    live,
    log_excess,
    masked,
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
    axis_name: str | tuple[str, ...] | None = None,
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
        NaN, where it is 0 the sum's logarithm is −inf. At β = 0 the result is Σ b x if log Σ b is exactly 0 and
        ±inf otherwise; at β = ±inf the multiplicities of tied peaks are added, and −inf if they cancel.
      keepdims: keep the reduced axes with size 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them: `axis` has those of one device. The result is the same on all.

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
    given, kind = check.beta(name, beta, temperature, base, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    b = check.multiplicity(name, b, x.shape)
    names = check.axis_names(name, axis_name, **{kind: given})
    return _logsumexp(x, where, given, b, axes + names, kind, bool(keepdims))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _logsumexp(x, where, beta, b, axes, kind, keepdims):
    b = b if b is None else ax.lift(b, x.ndim).astype(dtypes.of_logits(b.dtype))
    x, where, beta, b = prepare(x, where, beta, kind, axes, keepdims, each=(b,))
    y = _ruled_lse(x, where, beta, axes) if b is None else ruled_signed_lse(x, where, unit(x, beta, axes), b, axes)
    return ax.drop(mesh.leave(y, ax.names(axes)), axes, keepdims)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _slope(x, beta, where, stats, axes):
    """(2), with (3) and (4) as its derivative."""
    inverse = limits.inverse(beta)
    return limits.saturate(-entropy(x, beta, where, stats, axes) * inverse * inverse)


@_slope.defjvp
def _(axes, primals, tangents):
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    half_spread = deviation(half_gap(x, where, stats.peak), p, axes)
    x_dot = jnp.where(live(x, where), dtypes.widen(tangents[0]), 0)
    along_x = 2 * total((p * half_spread) * x_dot, axes)  # (3)
    variance = 4 * total((p * half_spread) * half_spread, axes)
    inverse = limits.inverse(beta)
    curvature = variance * inverse + 2 * entropy(x, beta, where, stats, axes) * inverse * inverse * inverse  # (4)
    beta_dot = jnp.where(jnp.isinf(beta), 0, tangents[1])
    along_x = jnp.where(jnp.isinf(beta), 0, along_x)
    return _slope(*primals, axes), along_x + limits.saturate(curvature) * beta_dot


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def lse(x, beta, where, stats, axes):
    excess = log_excess(stats)
    if beta is None:
        return limits.smooth_extremum(stats.peak + excess, stats.excess == -1, stats.peak, beta)
    y = stats.peak + excess / jnp.where(beta == 0, 1, beta)
    flat = jnp.where(stats.excess == 0, stats.peak, jnp.where(stats.excess > 0, jnp.inf, excess))
    return limits.smooth_extremum(jnp.where(beta == 0, flat, y), stats.excess == -1, stats.peak, beta)


@lse.defjvp
def _(axes, primals, tangents):
    x, beta, where, stats = primals
    p = weights(x, beta, where, stats, axes)
    along_x = total(p * jnp.where(live(x, where), dtypes.widen(tangents[0]), 0), axes)  # (1)
    if beta is not None:
        along_x += _slope(x, beta, where, stats, axes) * tangents[1]
    return lse(*primals, axes), along_x


def _lse_primal(x, where, beta, axes):
    return _lse_fwd(x, where, beta, axes)[0]


def _lse_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    return lse(x, beta, where, stats, axes).astype(x.dtype), (x, where, beta, stats)


def _lse_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    g = dtypes.widen(g)
    x_bar = masked(g * weights(x, beta, where, stats, axes), where)
    beta_bar = None if beta is None else ax.sum_to(g * _slope(x, beta, where, stats, axes), beta.shape)
    return x_bar.astype(x.dtype), None, beta_bar


_ruled_lse = with_vjp(_lse_primal, _lse_fwd, _lse_bwd, static=(3,))
