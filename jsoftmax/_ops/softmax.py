"""Softmax with base e^β, its logarithm and its Jacobian.

    p_j  =  exp(β x_j) / Σ_i exp(β x_i)

    Σ_j g_j ∂p_j/∂x_k      =  β p_k (g_k − Σ_j p_j g_j)                                            (1)
    Σ_j g_j ∂log p_j/∂x_k  =  β (g_k − p_k Σ_j g_j)                                                (2)
    ∂p_j/∂x_k              =  β p_j (δ_jk − p_k)                                                   (3)
    ∂/∂β of each           =  β⁻¹ Σ_k x_k ∂/∂x_k

The peak-relative forms in which these are evaluated are (10) to (12) of `_partition.pullback`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes
from jsoftmax._core.operands import prepare, unit
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import pullback, resident
from jsoftmax._partition.statistics import (
    complements,
    finite_part,
    live,
    live_log_weights,
    statistics,
    weights,
)

Axis = int | tuple[int, ...] | None


def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Softmax with inverse temperature: `p_j = exp(β x_j) / Σ_i exp(β x_i)` over `axis`.

    `jsoftmax.softmax(x)` takes the place of `jax.nn.softmax(x)`. β is never multiplied into x: with the peak m (the
    largest live x, the smallest for β < 0) every exponent is β (x_j − m), so no finite β and x overflow.

    Args:
      x: logits, floating or integer, any shape. −inf marks an absent class. Integers become the default float.
      axis: class axis, tuple of axes (one softmax over all of them) or None for all.
      where: boolean, broadcasts to `x`; False marks an absent class, whatever `x` holds there.
      beta: inverse temperature, in units of 1/x: any real or ±inf. A scalar, or an array that broadcasts to `x` with
        size 1 along the class axes. β = 0 is uniform over the live classes, ±inf is argmax (argmin), shared evenly
        among ties. A traced value: a new β never compiles anew.
      temperature: T = 1/β, instead of `beta`; 0 means β = +inf.
      base: e^β, instead of `beta`: p_j = base^x_j / Σ base^x_i; 0 means β = −inf, inf means β = +inf.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them: `axis` has those of one device, and so has the result.

    Returns:
      shape and dtype of `x`; exponents and sums are taken in float32 or wider. Absent classes get 0, a row without a
      live class is all 0. A live +inf or NaN, or a NaN β, makes its row NaN where it is not masked.

    Raises:
      TypeError: `x` is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range or repeated; `where` or β do not broadcast; two of beta, temperature, base.

    Derivatives: reverse mode in `x` and `beta`, `temperature` or `base`, to any order; forward mode inside
    `forward_mode()`. At β = ±inf both are 0. Saves `x`, β, `where` and two numbers a row.

    References: Boltzmann (1868); Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs"; Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x = jnp.array([1.0, 2.0, 3.0])
      >>> jsoftmax.softmax(x)
      Array([0.09003057, 0.24472848, 0.66524094], dtype=float32)
      >>> jsoftmax.softmax(jnp.array([3.0, 1.0, 3.0]), beta=jnp.inf)
      Array([0.5, 0. , 0.5], dtype=float32)
    """
    return _softmax(*_checked("softmax", x, axis, where, beta, temperature, base, axis_name))


def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Logarithm of the softmax: `log p_j = β x_j − log Σ_i exp(β x_i)` over `axis`, in nats.

    Evaluated as β (x_j − m) − log1p(s) with the excess s summed without the peak m, so that the log-probability of a
    confident class keeps its digits: for x = [0, −20] it is −2.06e-9, where `jax.nn.log_softmax` gives 0.

    Args:
      x, axis, where, beta, temperature, base, axis_name: as in `softmax`.

    Returns:
      shape and dtype of `x`; sums are taken in float32 or wider. Absent classes get −inf. β = 0 gives −log of the
      number of live classes; β = ±inf gives −log of the number of ties at the peak, −inf elsewhere. A live +inf or NaN
      makes its row NaN where it is not masked.

    Raises: as `softmax`.

    Derivatives: as `softmax`; absent classes have gradient 0. Saves `x`, β, `where` and two numbers a row.

    References: Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.log_softmax(jnp.array([0.0, -20.0]))
      Array([-2.0611537e-09, -2.0000000e+01], dtype=float32)
    """
    return _log_softmax(*_checked("log_softmax", x, axis, where, beta, temperature, base, axis_name))


def softmax_jacobian(x: ArrayLike, axis: Axis = -1, *, beta: ArrayLike = check.DEFAULT_BETA) -> Array:
    """Jacobian of the softmax: `∂p_j/∂x_k = β p_j (δ_jk − p_k)`.

    Symmetric, singular along constant vectors, positive semidefinite for β > 0. The diagonal is β p_j (1 − p_j) with
    1 − p_j summed over the other classes. For products with a vector use `jax.vjp` of `softmax`: O(V), not O(V²).

    Args:
      x: logits, floating or integer. −inf marks an absent class.
      axis: class axis, tuple of axes or None for all.
      beta: inverse temperature; broadcasts to the shape of `x` without the class axes.

    Returns:
      shape: `x` without the class axes, then the class axes twice (in the order of `axis`); dtype of `x`. Absent
      classes have zero rows and columns. At β = ±inf the Jacobian is 0.

    Raises: as `softmax`.

    Derivatives: reverse mode in `x` and `beta`, to any order; forward mode inside `forward_mode()`. Saves `x`, β and
    two numbers a row.

    References: Bridle (1990); Martins & Astudillo (2016), arXiv:1602.02068, section 2.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.softmax_jacobian(jnp.zeros(2), beta=2.0)
      Array([[ 0.5, -0.5],
             [-0.5,  0.5]], dtype=float32)
    """
    name = "softmax_jacobian"
    x, axes = check.logits(name, "x", x, axis)
    given, kind = check.beta(name, beta, None, None, x.dtype, ax.row_shape(x.shape, axes), ())
    return _softmax_jacobian(x, given, axes, kind)


def _checked(name, x, axis, where, beta, temperature, base, axis_name):
    x, axes = check.logits(name, "x", x, axis)
    where = check.mask(name, where, x.shape)
    given, kind = check.beta(name, beta, temperature, base, x.dtype, x.shape, axes)
    return x, where, given, axes + check.axis_names(name, axis_name, **{kind: given}), kind


@functools.partial(jax.jit, static_argnums=(3, 4))
def _softmax(x, where, beta, axes, kind):
    return softmax_of(*prepare(x, where, beta, kind, axes, True), axes)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _log_softmax(x, where, beta, axes, kind):
    return log_softmax_of(*prepare(x, where, beta, kind, axes, True), axes)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _softmax_jacobian(x, beta, axes, kind):
    last = tuple(range(x.ndim - len(axes), x.ndim))
    x, _, beta = prepare(jnp.moveaxis(x, axes, last), None, beta, kind, last, False)
    return _ruled_jacobian(x, unit(x, beta, last), last)


# rules -------------------------------------------------------------------------------------------------------------


def _softmax_primal(x, where, beta, axes):
    return _softmax_fwd(x, where, beta, axes)[0]


def _softmax_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes, fine=False)
    y = resident.each(weights, stats, x, beta, where, axes, fine=False, absent=0)
    return y.astype(x.dtype), (x, where, beta, stats)


def _softmax_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    x, stats = resident.backward(stats, x, beta, where, axes, fine=False)
    t_bar = pullback.through_weights(dtypes.widen(g), x, beta, where, stats, axes)  # (1)
    return _bars(t_bar, x, beta, where, stats, axes)


def _bars(t_bar, x, beta, where, stats, axes):
    """Cotangents of (x, where, β)."""
    x_bar = pullback.to_logits(t_bar, x, beta, where)
    if beta is None:
        return x_bar, None, None
    return x_bar, None, ax.sum_to(pullback.to_beta(t_bar, x, beta, where, stats, axes), beta.shape)


softmax_of = with_vjp(_softmax_primal, _softmax_fwd, _softmax_bwd, static=(3,))


def _log_softmax_primal(x, where, beta, axes):
    stats = statistics(x, beta, where, axes, each=True)
    return resident.each(live_log_weights, stats, x, beta, where, axes, absent=-jnp.inf).astype(x.dtype)


def _log_softmax_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    y = resident.each(live_log_weights, stats, x, beta, where, axes, absent=-jnp.inf)
    return y.astype(x.dtype), (x, where, beta, stats)


def _log_softmax_bwd(axes, residuals, g):
    x, where, beta, stats = residuals
    x, stats = resident.backward(stats, x, beta, where, axes)

    def reaching(x, where, g):  # of an absent class it may be anything
        return jnp.where(live(x, where), dtypes.widen(g), 0)

    t_bar = pullback.through_log_weights(reaching, (g,), x, beta, where, stats, axes)  # (2)
    return _bars(t_bar, x, beta, where, stats, axes)


log_softmax_of = with_vjp(_log_softmax_primal, _log_softmax_fwd, _log_softmax_bwd, static=(3,))


def _jacobian_primal(x, beta, axes):
    return _jacobian_fwd(x, beta, axes)[0]


def _jacobian_fwd(x, beta, axes):
    stats = statistics(x, beta, None, axes)
    p = weights(x, beta, None, stats, axes)
    diagonal = p * complements(x, beta, None, stats, axes)
    slope = finite_part(beta)
    y = jnp.where(_same(x, axes), _row(slope * diagonal, axes), -_row(slope * p, axes) * _column(p, axes))  # (3)
    return y.astype(x.dtype), (x, beta, stats)


def _jacobian_bwd(axes, residuals, g):
    """The Jacobian is β (δ_jk p_j − p_j p_k), so ḡ reaches p_j through β (g_jj − Σ_k (g_jk + g_kj) p_k)."""
    x, beta, stats = residuals
    g = dtypes.widen(g)
    rows, columns = axes, tuple(i + len(axes) for i in axes)
    p = weights(x, beta, None, stats, axes)
    diagonal = jnp.sum(jnp.where(_same(x, axes), g, 0), columns)
    pull = diagonal - jnp.sum(g * _column(p, axes), columns) - jnp.sum(g * _row(p, axes), rows)
    t_bar = finite_part(beta) * pullback.through_weights(pull, x, beta, None, stats, axes)
    beta_bar = pullback.to_beta(t_bar, x, beta, None, stats, axes)
    minor = jnp.sum(jnp.where(_same(x, axes), 0, g * _row(p, axes) * _column(p, axes)), rows + columns)
    major = jnp.sum(diagonal * p * complements(x, beta, None, stats, axes), axes, keepdims=True)
    beta_bar += jnp.where(jnp.isinf(beta), 0, 1) * (major - lax.expand_dims(minor, axes))
    return pullback.to_logits(t_bar, x, beta, None), ax.sum_to(beta_bar, beta.shape)


_ruled_jacobian = with_vjp(_jacobian_primal, _jacobian_fwd, _jacobian_bwd, static=(2,))


def _row(a, axes):
    """The class axes, which are the last, followed by as many of size 1."""
    return lax.expand_dims(a, range(a.ndim, a.ndim + len(axes)))


def _column(a, axes):
    return lax.expand_dims(a, axes)


def _same(x, axes):
    index = ax.class_index(x.shape, axes)
    return _row(index, axes) == _column(index, axes)
