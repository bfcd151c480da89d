"""Boltzmann's distribution over states of given energies, its free energy, and a unit that is on or off.

    Z  =  Σ_i exp(−β E_i)          p_i  =  exp(−β E_i) / Z          F  =  −β⁻¹ log Z  =  ⟨E⟩ − H(p) / β

    ∂F/∂E_i  =  p_i                ∂F/∂β  =  H(p) / β²               −∂F/∂T  =  H(p),  T = 1/β

The log-partition function with a sign: p is the softmax and F minus the log-sum-exp of logits −E. A unit that has the
energy ΔE more when it is off than when it is on is a softmax of two states:

    p_on  =  σ(β ΔE)               ∂p_on/∂ΔE  =  β p_on p_off        ∂p_on/∂β  =  ΔE p_on p_off               (1)
"""

import functools

import jax
from jax import Array
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes
from jsoftmax._core.operands import prepare, unit
from jsoftmax._core.rule import with_vjp
from jsoftmax._ops.logsumexp import logsumexp
from jsoftmax._ops.softmax import softmax
from jsoftmax._partition import decision
from jsoftmax._partition.statistics import times

Axis = int | tuple[int, ...] | None


def boltzmann(
    energies: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Boltzmann's distribution: `p_i = exp(−β E_i) / Z` over the states along `axis`, with Boltzmann's constant 1.

    The softmax of −E: the lower the energy, the likelier the state.

    Args:
      energies: floating or integer array, any shape. +inf marks a forbidden state, whatever β is. Integers become the
        default float.
      axis: axis of the states, tuple of axes or None for all.
      where: boolean, broadcasts to `energies`; False marks a forbidden state.
      beta: inverse temperature, in units of 1/E: any real or ±inf. A scalar, or an array that broadcasts to `energies`
        with size 1 along `axis`. β = 0 is uniform over the states that are not forbidden; +inf has the ground states,
        evenly. Negative: population inversion, the higher the energy the likelier the state; −inf has the highest.
      temperature: T = 1/β, instead of `beta`. From +inf, which is β = 0, temperatures go on at −inf: a negative one is
        hotter than any positive. 0 means β = +inf.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the states between
        them, as in `softmax`.

    Returns:
      shape and dtype of `energies`. Forbidden states get 0; without any other state all are 0. An energy of −inf or
      NaN, or a NaN β, makes its row NaN where it is not masked.

    Raises:
      TypeError: `energies` is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range or repeated; `where` or β do not broadcast; both beta and temperature.

    Derivatives: as `softmax`, in `energies` and `beta` or `temperature`. Saves `energies` with its sign changed, β,
    `where` and two numbers a row.

    References: Boltzmann (1868); Gibbs (1902), "Elementary principles in statistical mechanics"; Ackley, Hinton &
    Sejnowski (1985), doi:10.1207/s15516709cog0901_7; Ramsey (1956), doi:10.1103/PhysRev.103.20 (negative T).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> p = jsoftmax.boltzmann(jnp.array([0.0, 1.0, jnp.inf]), temperature=1.0)
      >>> [round(v, 4) for v in p.tolist()]
      [0.7311, 0.2689, 0.0]
      >>> jsoftmax.boltzmann(jnp.array([0.0, 1.0, 0.0]), temperature=0.0)
      Array([0.5, 0. , 0.5], dtype=float32)
    """
    name = "boltzmann"
    energies, axes = check.logits(name, "energies", energies, axis)
    where = check.mask(name, where, energies.shape)
    given, kind = check.beta(name, beta, temperature, None, energies.dtype, energies.shape, axes)
    return _boltzmann(energies, where, given, axes, check.axis_names(name, axis_name, **{kind: given}), kind)


def free_energy(
    energies: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Helmholtz free energy: `F = −β⁻¹ log Σ_i exp(−β E_i)` over the states along `axis`, in the units of `energies`.

    Mean energy minus temperature times entropy, the least that a distribution can have of it. −∂F/∂T is the entropy.

    Args:
      energies: floating or integer array. +inf marks a forbidden state.
      axis: axis of the states, tuple of axes or None for all.
      beta: inverse temperature, in units of 1/E: any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature: T = 1/β, instead of `beta`; 0 means β = +inf.
      where: boolean, broadcasts to `energies`; False marks a forbidden state.
      keepdims: keep the reduced axes with size 1.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the states between
        them, as in `logsumexp`.

    Returns:
      shape of `energies` without `axis`, dtype of `energies`; sums are taken in float32 or wider. β = +inf gives the
      lowest energy, −inf the highest. β = 0 gives −inf for two states or more, whose entropy wins, and the energy
      itself for one. No state: +inf, and −inf for β < 0. NaN energies: as `logsumexp` of −E.

    Raises:
      TypeError: `energies` is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range or repeated; shapes that do not broadcast; both beta and temperature.

    Derivatives: as `logsumexp`, in `energies`, where they are `boltzmann`'s, and in `beta` or `temperature`. ∂F/∂β is
    the entropy over β², and ∂F/∂T is minus the entropy as long as T² is a number; both are 0 at β = ±inf.
    Saves `energies` with its sign changed, β, `where` and two numbers a row.

    References: Helmholtz (1882); Gibbs (1902), "Elementary principles in statistical mechanics"; LeCun et al. (2006),
    "A tutorial on energy-based learning".

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> energies = jnp.array([1.0, 2.0, 3.0])
      >>> jsoftmax.free_energy(energies, temperature=0.0)
      Array(1., dtype=float32)
      >>> [round(p, 4) for p in jax.grad(jsoftmax.free_energy)(energies).tolist()]  # the probabilities
      [0.6652, 0.2447, 0.09]
    """
    name = "free_energy"
    energies, axes = check.logits(name, "energies", energies, axis)
    where = check.mask(name, where, energies.shape)
    rows = ax.row_shape(energies.shape, axes, keepdims)
    given, kind = check.beta(name, beta, temperature, None, energies.dtype, rows, ())
    names = check.axis_names(name, axis_name, **{kind: given})
    return _free_energy(energies, where, given, axes, names, kind, bool(keepdims))


def bernoulli_unit(
    gap: ArrayLike, *, beta: ArrayLike = check.DEFAULT_BETA, temperature: ArrayLike | None = None
) -> Array:
    """Probability that a unit with two states is on: `σ(β ΔE)`, with ΔE its energy when off minus that when on.

    The stochastic unit of a Boltzmann machine; `boltzmann` of the energies (0, ΔE), of which it is the first.

    Args:
      gap: ΔE, floating or integer, any shape. ±inf: one of the two states is forbidden.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to `gap`.
      temperature: T = 1/β, instead of `beta`; 0 means β = +inf.

    Returns:
      shape and dtype of `gap`; computed in float32 or wider. Small probabilities keep their digits; so do those that
      the unit is off, which are `bernoulli_unit(-gap)`. β = 0 gives ½, and ±inf 1, 0, or ½ where the gap is 0. A gap
      of ±inf gives 1 or 0 whatever β is, also 0 and negative: a forbidden state stays so. NaN gives NaN.

    Raises:
      TypeError: `gap` is boolean, complex or a list.
      ValueError: β does not broadcast; both beta and temperature.

    Derivatives: reverse mode in `gap` and `beta` or `temperature`, to any order; forward mode inside `forward_mode()`.
    In `gap` β p (1 − p), in β ΔE p (1 − p), exact in both tails; both are 0 where the gap or β is ±inf. Saves `gap`, β.

    References: Ackley, Hinton & Sejnowski (1985), doi:10.1207/s15516709cog0901_7.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> p = jsoftmax.bernoulli_unit(jnp.array([-2.0, 0.0, 2.0]), temperature=2.0)
      >>> [round(v, 4) for v in p.tolist()]
      [0.2689, 0.5, 0.7311]
    """
    name = "bernoulli_unit"
    gap = check.real(name, "gap", gap)
    given, kind = check.beta(name, beta, temperature, None, gap.dtype, gap.shape, ())
    return _bernoulli_unit(gap, given, kind)


def as_given(given, kind):
    """The keyword of an operator that β came as."""
    return {} if given is None else {kind: given}


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _boltzmann(energies, where, given, axes, names, kind):
    logits = -energies.astype(dtypes.of_logits(energies.dtype))  # of unsigned integers there is no negative
    return softmax(logits, axes, where, axis_name=names or None, **as_given(given, kind))


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _free_energy(energies, where, given, axes, names, kind, keepdims):
    logits = -energies.astype(dtypes.of_logits(energies.dtype))
    options = {"where": where, "keepdims": keepdims, "axis_name": names or None}
    return -logsumexp(logits, axes, **options, **as_given(given, kind))


@functools.partial(jax.jit, static_argnums=2)
def _bernoulli_unit(gap, given, kind):
    gap, _, beta = prepare(gap, None, given, kind, (), True)
    return _ruled_unit(gap, unit(gap, beta, ()))


# rule --------------------------------------------------------------------------------------------------------------


def _unit_primal(gap, beta):
    return decision.chance(dtypes.widen(gap), beta).astype(gap.dtype)


def _unit_fwd(gap, beta):
    return _unit_primal(gap, beta), (gap, beta)


def _unit_bwd(residuals, g):
    """(1)."""
    gap, beta = residuals
    v = dtypes.widen(gap)
    pulled = dtypes.widen(g) * decision.chance(v, beta) * decision.chance(-v, beta)
    beta_bar = pulled * decision.finite_gap(v, beta)
    return times(beta, pulled).astype(gap.dtype), ax.sum_to(beta_bar, beta.shape)


_ruled_unit = with_vjp(_unit_primal, _unit_fwd, _unit_bwd, static=())
