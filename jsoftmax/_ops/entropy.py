"""Entropy of a softmax, and the Kullback–Leibler divergence of two.

    p = softmax(β x),  q = softmax(β y),  u_j = log p_j − log q_j

    H(p)     =  −Σ_j p_j log p_j        ∂H/∂x_k  =  −β p_k (log p_k + H)        ∂H/∂β  =  −β Var_p[x]      (1)
    KL(p‖q)  =  Σ_j p_j u_j             ∂/∂x_k  =  β p_k (u_k − KL)             ∂/∂y_k  =  β (q_k − p_k)   (2)

How (2) is evaluated without cancellation, and ∂KL/∂β, are (1) to (5) of `_partition.divergence`.
"""

import functools

import jax
from jax import Array
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, check_energy, dtypes, mesh
from jsoftmax._core.axes import total
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import limits, pullback
from jsoftmax._partition import statistics as st
from jsoftmax._partition.divergence import Pair, divergence, pulls, slope
from jsoftmax._partition.statistics import deviation, half_gap, statistics, times, weights

Axis = int | tuple[int, ...] | None


def entropy(
    logits: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Entropy of a softmax: `H = −Σ_j p_j log p_j` with `p = softmax(β logits)`, in nats.

    Evaluated as log1p(s) + Σ p β (m − x) with the excess s summed without the peak m: terms of one sign, so that a
    confident row keeps its digits. For logits [0, −40] it is 41 e⁻⁴⁰ and not 0.

    Args:
      logits: floating or integer array. −inf marks an absent class.
      axis: class axis, tuple of axes or None for all.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      where: boolean, broadcasts to `logits`; False marks an absent class.
      keepdims: keep the reduced axes with size 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them, as in `logsumexp`.

    Returns:
      shape of `logits` without `axis`, float32 or wider: from 0 to the logarithm of the number of live classes, which
      it is at β = 0. β = ±inf gives the logarithm of the number of ties. A row without a live class gives 0. A live
      +inf or NaN, or a NaN β, gives NaN.

    Raises:
      TypeError: `logits` is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range or repeated; shapes that do not broadcast; two of beta, temperature, base.

    Derivatives: reverse mode in `logits` and `beta`, `temperature` or `base`, to any order; forward mode inside
    `forward_mode()`. At β = ±inf all are 0. ∂/∂β = −β Var_p[x] saturates at 2⁻³² of the largest finite number.
    Saves `logits`, β, `where` and two numbers a row.

    References: Shannon (1948), doi:10.1002/j.1538-7305.1948.tb01338.x; Boltzmann's S = k log W is its value at β = 0.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> round(float(jsoftmax.entropy(jnp.zeros(4))), 4)  # log 4
      1.3863
      >>> f"{jsoftmax.entropy(jnp.array([0.0, -40.0])):.2e}"
      '1.74e-16'
    """
    name = "entropy"
    x, axes = check.logits(name, "logits", logits, axis)
    where = check.mask(name, where, x.shape)
    given, kind = check.beta(name, beta, temperature, base, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    names = check.axis_names(name, axis_name, **{kind: given})
    return _entropy(x, where, given, axes + names, kind, bool(keepdims))


def kl_divergence(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Kullback–Leibler divergence of two softmaxes: `KL(p ‖ q) = Σ_j p_j log(p_j / q_j)`, in nats.

    p = softmax(β logits_p) and q = softmax(β logits_q). Evaluated as a sum of terms q φ(u) ≥ 0 with u = log p − log q
    from the differences of the logits: never negative, and right in its leading digits where the two distributions are
    nearly equal (logits 10⁻⁴ apart give some 10⁻⁹, of which the difference of two cross-entropies knows nothing in
    float32) as well as where both are confident.

    Args:
      logits_p, logits_q: floating or integer arrays of one shape. −inf marks an absent class.
      axis: class axis, tuple of axes or None for all.
      beta: inverse temperature of both, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`. A loss of distillation at temperature T is
        T² times this, so that its gradients keep their size.
      where: boolean, broadcasts to the logits; False marks a class that is absent in both.
      keepdims: keep the reduced axes with size 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them, as in `logsumexp`.

    Returns:
      shape of the logits without `axis`, float32 or wider; at least 0, and 0 for equal distributions. 0 · log 0 = 0: a
      class that p has not adds nothing; one that p has and q has not makes it +inf. β = 0 compares the supports; β =
      ±inf the ties at the peaks. A row in which p has no live class gives 0. A live +inf or NaN, or a NaN β, gives NaN.

    Raises:
      TypeError: logits are boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `logits_q` has another shape; `axis` out of range or repeated; shapes that do not broadcast; two of
        beta, temperature, base.

    Derivatives: reverse mode in `logits_p`, `logits_q` and `beta`, `temperature` or `base`, to any order; forward mode
    inside `forward_mode()`. By `logits_q` it is β (q − p), without cancellation; also at +inf, where the others are 0.
    At β = ±inf all are 0. Saves `logits_p`, `logits_q`, β, `where` and four numbers a row.

    References: Kullback & Leibler (1951), doi:10.1214/aoms/1177729694; Hinton, Vinyals & Dean (2015), arXiv:1503.02531
    (distillation).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x = jnp.array([1.0, 2.0, 3.0])
      >>> f"{jsoftmax.kl_divergence(x, x + jnp.array([1e-4, 0.0, -1e-4])):.1e}"
      '2.1e-09'
      >>> jsoftmax.kl_divergence(x, x.at[0].set(-jnp.inf))
      Array(inf, dtype=float32)
    """
    name = "kl_divergence"
    x, axes = check.logits(name, "logits_p", logits_p, axis)
    y = check_energy.same_shape(name, "logits_q", logits_q, "logits_p", x.shape)
    where = check.mask(name, where, x.shape)
    dtype = dtypes.common(x.dtype, y.dtype)
    given, kind = check.beta(name, beta, temperature, base, dtype, ax.row_shape(x.shape, axes, keepdims), ())
    names = check.axis_names(name, axis_name, **{kind: given})
    return _kl_divergence(x.astype(dtype), y.astype(dtype), where, given, axes + names, kind, bool(keepdims))


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _entropy(x, where, beta, axes, kind, keepdims):
    x, where, beta = prepare(x, where, beta, kind, axes, keepdims)
    return ax.drop(mesh.leave(_ruled_entropy(x, where, beta, axes), ax.names(axes)), axes, keepdims)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _kl_divergence(x, y, where, beta, axes, kind, keepdims):
    x, where, beta, y = prepare(x, where, beta, kind, axes, keepdims, each=(y,))
    return ax.drop(mesh.leave(_ruled_divergence(x, y, where, beta, axes), ax.names(axes)), axes, keepdims)


# rules -------------------------------------------------------------------------------------------------------------


def _entropy_primal(x, where, beta, axes):
    return _entropy_fwd(x, where, beta, axes)[0]


def _entropy_fwd(x, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    return st.entropy(x, beta, where, stats, axes), (x, where, beta, stats)


def _entropy_bwd(axes, residuals, g):
    """(1), with log p + H = β (x − E[x])."""
    x, where, beta, stats = residuals
    half = half_gap(x, where, stats.peak)
    # β last: β times a half may overflow where p = 0
    t_bar = times(beta, pullback.through_weights(half, x, beta, where, stats, axes))
    x_bar = pullback.to_logits(-2 * g * t_bar, x, beta, where)
    if beta is None:
        return x_bar, None, None
    p = weights(x, beta, where, stats, axes)
    spread = deviation(half, p, axes)
    shrink = limits.saturate(4 * total(times(beta, p * spread) * spread, axes))
    return x_bar, None, ax.sum_to(-g * shrink, beta.shape)


_ruled_entropy = with_vjp(_entropy_primal, _entropy_fwd, _entropy_bwd, static=(3,))


def _divergence_primal(x, y, where, beta, axes):
    return _divergence_fwd(x, y, where, beta, axes)[0]


def _divergence_fwd(x, y, where, beta, axes):
    of_p, of_q = (statistics(z, beta, where, axes) for z in (x, y))
    pair = Pair(x, y, beta, where, of_p, of_q)
    return divergence(pair, axes), pair


def _divergence_bwd(axes, pair, g):
    of_x, of_y = pulls(pair, axes)
    x_bar = pullback.to_logits(g * of_x, pair.x, pair.beta, pair.where)
    y_bar = pullback.to_logits(g * of_y, pair.y, pair.beta, pair.where)
    beta_bar = None if pair.beta is None else ax.sum_to(g * slope(pair, axes), pair.beta.shape)
    return x_bar, y_bar, None, beta_bar


_ruled_divergence = with_vjp(_divergence_primal, _divergence_fwd, _divergence_bwd, static=(4,))
