"""Modern Hopfield networks: an associative memory of real vectors, whose update is attention.

    u_μ(ξ)  =  −½ |x_μ − ξ|² − ½ (max_ν |x_ν|² − |x_μ|²)  =  ⟨x_μ, ξ⟩ − ½ |ξ|² − ½ max_ν |x_ν|²              (1)
    E(ξ)    =  −β⁻¹ log (1/M Σ_μ exp(β u_μ))                                                               (2)
            =  −lse_β(X ξ) + ½ |ξ|² + β⁻¹ log M + ½ max_ν |x_ν|²
    f(ξ)    =  Xᵀ p,  p = softmax(β X ξ)              ∂E/∂ξ  =  ξ − f(ξ)                                    (3)
    ξ ← f(ξ)  never raises E for β > 0, and ends where ξ = f(ξ)

At such a point the derivative in anything that f depends on is implicit:

    (I − J) ξ̇  =  ḟ,  ḟ that of f at a fixed ξ         J  =  ∂f/∂ξ  =  β Xᵀ (diag p − p pᵀ) X                  (4)

J is symmetric. At a minimum of E its eigenvalues are in [0, 1), for β < 0 they are not positive: I − J is positive
definite, and conjugate gradients solve (4) in no more steps than J has eigenvalues, each at the cost of an update.
Every u_μ is ≤ 0, so that E is never negative for β > 0. Nothing cancels in it but lengths, and nothing at all where all
patterns are as long, as those of ±1: E then has its digits also where it is nearly 0.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, check_hopfield, dtypes, mesh
from jsoftmax._core.rule import with_vjp
from jsoftmax._ops.logmeanexp import logmeanexp
from jsoftmax._ops.softmax import softmax_of
from jsoftmax._partition.statistics import statistics, weights

MOST_STEPS = 1000  # to a fixed point
ROUNDINGS = 4  # of the largest feature: a step that is not longer is none


def modern_hopfield_energy(
    state: ArrayLike, patterns: ArrayLike, *, beta: ArrayLike, where: ArrayLike | None = None
) -> Array:
    """Energy of a modern Hopfield network: `−lse_β(X ξ) + ½ |ξ|² + β⁻¹ log M + ½ max_μ |x_μ|²`.

    A soft minimum over the patterns of half the squared distance to them, plus by how much half of |x_μ|² falls short
    of the largest. Evaluated in that form: never negative for β ≥ 0, and for patterns that are all as long, as those of
    ±1, exact also where it is nearly 0.

    Args:
      state: ξ, real, [..., D].
      patterns: X, real, [M, D], one a row.
      beta: inverse temperature, any real or ±inf; a number, or one a state, which broadcasts to [...]. At 0 the
        energy is the mean over the patterns, at inf the minimum.
      where: boolean, broadcasts to [..., M]; False leaves a pattern out, whatever it holds.

    Returns:
      [...], float32 or wider. +inf where no pattern is left, −inf for β < 0. NaN where a pattern that is not left out
      is not finite.

    Raises:
      TypeError: an array is boolean, complex or a list; `where` is not boolean. ValueError: shapes that do not fit.

    Derivatives: in `state`, `patterns` and `beta`, to any order; forward mode inside `forward_mode()`. In the state it
    is ξ − softmax(β X ξ) X. Saves `state`, `patterns`, and [..., M] numbers.

    References: Ramsauer et al. (2020), arXiv:2008.02217; Krotov & Hopfield (2016), arXiv:1606.01164; Demircigil et al.
    (2017), arXiv:1702.01929.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> patterns = jnp.array([[3.0, 4.0], [0.0, 5.0]])
      >>> jsoftmax.modern_hopfield_energy(jnp.array([3.0, 5.0]), patterns, beta=jnp.inf)
      Array(0.5, dtype=float32)
    """
    name = "modern_hopfield_energy"
    state, patterns, _ = check_hopfield.memory(name, state, patterns, None)
    where = check.mask(name, where, (*state.shape[:-1], patterns.shape[0]))
    dtype = dtypes.of_logits(jnp.result_type(state.dtype, patterns.dtype))
    beta = check.row_number(name, "beta", beta, dtype, state.shape[:-1])
    return _energy(state, patterns, beta, where)


def modern_hopfield_retrieve(
    state: ArrayLike,
    patterns: ArrayLike,
    *,
    values: ArrayLike | None = None,
    beta: ArrayLike,
    steps: int | None = 1,
    where: ArrayLike | None = None,
) -> Array:
    """What a modern Hopfield network remembers of a state: `ξ ← softmax(β X ξ) X`, once, some times, or to the end.

    One step is attention with the state as query and the patterns as keys and values. With β large against the
    distances between patterns it already gives one of them, nearly; with β small the mean of many.

    Args:
      state: ξ, real, [..., D].
      patterns: X, real, [M, D], one a row.
      values: V, real, [M, E], what is stored with each pattern: the last step gives `softmax(β X ξ) V`.
      beta: inverse temperature, any real or ±inf; a number, or one a state, which broadcasts to [...]. inf gives the
        pattern with the largest inner product, and the mean of those that are tied.
      steps: an int from 1 on. None for as many as it takes until no feature
        moves by more than 4 roundings of the largest, each state by itself, at most 1000. For β < 0 it need not settle.
        Whether it has, another step tells.
      where: boolean, broadcasts to [..., M]; False leaves a pattern out, whatever it holds.

    Returns:
      [..., D], or [..., E] with `values`; their common dtype, products and sums in float32 or wider, never rounded to
      fewer bits on an accelerator. 0 where no pattern is left, NaN where one that is not left out is not finite.

    Raises:
      TypeError: an array is boolean, complex or a list; `where` is not boolean, `steps` no int.
      ValueError: shapes that do not fit; `steps` below 1.

    Derivatives: in `state`, `patterns`, `values` and `beta`, to any order; forward mode inside `forward_mode()`. With a
    number of steps through each of them. With None implicitly: that of the equation ξ = softmax(β X ξ) X, whichever
    way led there, by conjugate gradients, and 0 in the state. It grows without bound where two fixed points are about
    to become one, and there has as many digits less. Saves `state`, `patterns`, `values`, and for each step what
    softmax saves for [..., M] logits.

    References: as for `modern_hopfield_energy`; Bai, Kolter & Koltun (2019), arXiv:1909.01377 (implicit derivative).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> patterns = jnp.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
      >>> jsoftmax.modern_hopfield_retrieve(jnp.array([1.0, 1.0, 0.0, 0.0]), patterns, beta=jnp.inf)
      Array([ 1.,  1., -1., -1.], dtype=float32)
      >>> jsoftmax.modern_hopfield_retrieve(jnp.array([1.0, 1.0, 0.0, 0.0]), patterns, beta=0.0)
      Array([ 1.,  0.,  0., -1.], dtype=float32)
    """
    name = "modern_hopfield_retrieve"
    state, patterns, values = check_hopfield.memory(name, state, patterns, values)
    where = check.mask(name, where, (*state.shape[:-1], patterns.shape[0]))
    dtype = dtypes.of_logits(jnp.result_type(*(a.dtype for a in (state, patterns, values) if a is not None)))
    beta = check.row_number(name, "beta", beta, dtype, state.shape[:-1])
    return _retrieve(state, patterns, values, beta, where, check_hopfield.steps(name, steps), jnp.dtype(dtype))


# -------------------------------------------------------------------------------------------------------------------


class _Memory(NamedTuple):
    """What the logits are made of, in the dtype that sums are taken in."""

    patterns: Any  # [M, D], finite
    bad: Any  # [M], which of them were not
    beta: Any  # [..., 1]
    where: Any  # [..., M] or None


def _prepared(state, patterns, beta, where, others=()):
    """(state, memory, others): a pattern that is not finite is 0, and whoever sees it is told.

    A product with a weight of 0 would be NaN, also for those who do not see it.
    """
    dtype = dtypes.wide(dtypes.of_logits(jnp.result_type(state.dtype, patterns.dtype)))
    beta = ax.lift_rows(beta, state.ndim, (state.ndim - 1,), False)
    where = where if where is None else ax.lift(where, state.ndim)
    together = (a if a is None else a.astype(dtype) for a in (state, patterns, beta, *others))
    state, patterns, beta, *others, where = mesh.vary(*together, where)
    bad = functools.reduce(jnp.logical_or, (~jnp.isfinite(a).all(-1) for a in (patterns, *others) if a is not None))
    finite, *others = (a if a is None else jnp.where(jnp.isfinite(a), a, 0) for a in (patterns, *others))
    return state, _Memory(finite, bad, beta, where), others


def _dot(a, b, axis):
    """Of the last axis of `a` with one of `b`."""
    numbers = (((a.ndim - 1,), (axis,)), ((), ()))
    return lax.dot_general(a, b, numbers, precision=lax.Precision.HIGHEST)


def _told(z, memory):
    return jnp.where(lax.expand_dims(memory.bad, range(z.ndim - 1)), jnp.nan, z)


# energy ------------------------------------------------------------------------------------------------------------


@jax.jit
def _energy(state, patterns, beta, where):
    state, memory, _ = _prepared(state, patterns, beta, where)
    lengths = lax.expand_dims(jnp.sum(memory.patterns * memory.patterns, -1), range(state.ndim - 1))
    longest = jnp.max(lengths, -1, keepdims=True, where=memory.where, initial=0)
    u = _half_distances(state, memory.patterns) - 0.5 * (longest - lengths)  # (1)
    return -logmeanexp(_told(u, memory), beta=memory.beta[..., 0], where=memory.where)  # (2)


def _half_primal(state, patterns):
    away = lax.expand_dims(patterns, range(state.ndim - 1)) - state[..., None, :]
    return -0.5 * jnp.sum(away * away, -1)


def _half_fwd(state, patterns):
    return _half_primal(state, patterns), (state, patterns)


def _half_bwd(residuals, g):
    state, patterns = residuals
    state_bar = _dot(g, patterns, 0) - state * jnp.sum(g, -1, keepdims=True)
    rows = tuple(range(g.ndim - 1))
    pulled = lax.dot_general(g, state, ((rows, rows), ((), ())), precision=lax.Precision.HIGHEST)
    return state_bar, pulled - patterns * jnp.sum(g, rows)[:, None]


_half_distances = with_vjp(_half_primal, _half_fwd, _half_bwd, static=())  # −½ |x_μ − ξ|², [..., M]


# retrieval ---------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(5, 6))
def _retrieve(state, patterns, values, beta, where, steps, dtype):
    state, memory, (values,) = _prepared(state, patterns, beta, where, (values,))
    if steps is None:
        state = _fixed_point(state, memory)
        if values is None:
            return state.astype(dtype)
    else:
        state, _ = lax.scan(lambda state, _: (_step(state, memory), None), state, length=steps - 1)
    return _step(state, memory, values).astype(dtype)


def _logits(state, memory):
    return _told(_dot(state, memory.patterns, 1), memory)


def _step(state, memory, values=None):
    """(3)."""
    p = softmax_of(_logits(state, memory), memory.where, memory.beta, (state.ndim - 1,))
    return _dot(p, memory.patterns if values is None else values, 0)


def _closed_step(state, memory):
    """The same of what is closed under differentiation, in both modes."""
    z, last = _logits(state, memory), (state.ndim - 1,)
    p = weights(z, memory.beta, memory.where, statistics(z, memory.beta, memory.where, last, fine=False), last)
    return _dot(p, memory.patterns, 0)


@jax.custom_jvp
def _fixed_point(state, memory):
    def going_on(carry):
        number, _, done = carry
        return (number < MOST_STEPS) & ~jnp.all(done)

    def step(carry):
        number, state, done = carry
        new = _closed_step(state, memory)
        size = jnp.max(jnp.abs(new), -1, keepdims=True, initial=0)
        near = jnp.abs(new - state) <= ROUNDINGS * jnp.finfo(new.dtype).eps * size
        settled = jnp.all(near | jnp.isnan(new), -1, keepdims=True)
        return number + 1, jnp.where(done, state, new), done | settled

    none = jnp.isnan(state).any(-1, keepdims=True) & False  # varying as the state does
    return lax.while_loop(going_on, step, (jnp.int32(0), state, none))[1]


@_fixed_point.defjvp
def _(primals, tangents):
    """(4)."""
    state = _fixed_point(*primals)
    _, moved = jax.jvp(lambda memory: _closed_step(state, memory), primals[1:], tangents[1:])
    _, turned = jax.linearize(lambda state: _closed_step(state, primals[1]), state)
    return state, lax.custom_linear_solve(lambda v: v - turned(v), moved, _conjugate_gradients, symmetric=True)


class _Search(NamedTuple):
    number: Any
    found: Any
    residual: Any
    direction: Any
    size: Any  # of the residual, squared


def _conjugate_gradients(product, b):
    """Of each row by itself: the x with product(x) = b."""
    most = 2 * b.shape[-1] + 10  # without rounding as many as there are features
    enough = jnp.square(jnp.finfo(b.dtype).eps) * _inner(b, b)

    def going_on(search):
        return (search.number < most) & jnp.any(search.size > enough)

    def step(search):
        image = product(search.direction)
        active = search.size > enough
        along = jnp.where(active, _over(search.size, _inner(search.direction, image)), 0)
        residual = search.residual - along * image
        size = jnp.where(active, _inner(residual, residual), search.size)
        again = _over(size, search.size)
        direction = jnp.where(active, residual + again * search.direction, search.direction)
        return _Search(search.number + 1, search.found + along * search.direction, residual, direction, size)

    # not zeros_like: varying as b does
    return lax.while_loop(going_on, step, _Search(jnp.int32(0), 0 * b, b, b, _inner(b, b))).found


def _inner(a, b):
    return jnp.sum(a * b, -1, keepdims=True)


def _over(a, b):
    return a / jnp.where(b == 0, 1, b)
