"""Restricted Boltzmann machines: two layers of units that are 0 or 1, each independent given the other.

    E(v, h)    =  −vᵀ W h − a·v − b·h              P(v, h)  =  exp(−β E(v, h)) / Z
    P(h_j = 1 | v)  =  σ(β g_j),  g = b + vᵀ W     P(v_i = 1 | h)  =  σ(β (a + W h)_i)                      (1)
    F(v)       =  −a·v − Σ_j lse_β(0, g_j)         P(v)  =  exp(−β F(v)) / Z,  lse_β(x) = β⁻¹ log Σ exp(β x)  (2)
    ∂F/∂W  =  −v ⊗ P(h | v)      ∂F/∂a  =  −v      ∂F/∂b  =  −P(h | v)                                       (3)
    −β⁻¹ ∂⟨log P(v)⟩/∂θ  =  ⟨∂F/∂θ⟩ of the data  −  ⟨∂F/∂θ⟩ of the model                                    (4)

The gaps g_j are those of `energy.bernoulli_unit`, the sums over a hidden unit's two states log-sum-exps. Where free
energies are subtracted from each other, the mean takes the place of the sum, lme_β(0, g) = lse_β(0, g) − β⁻¹ log 2, for
which β = 0 is no pole.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import check, check_energy, dtypes, mesh
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._ops.energy import bernoulli_unit
from jsoftmax._ops.logmeanexp import logmeanexp
from jsoftmax._ops.logsumexp import logsumexp
from jsoftmax._ops.softmax import log_softmax
from jsoftmax._partition import decision

MOST = 20  # units of a layer whose states are gone through
AT_ONCE = 10  # units whose states are there together


def rbm_energy(
    visible: ArrayLike, hidden: ArrayLike, weight: ArrayLike, visible_bias: ArrayLike, hidden_bias: ArrayLike
) -> Array:
    """Energy of a restricted Boltzmann machine: `E = −vᵀ W h − a·v − b·h`.

    Args:
      visible: v, real, [..., V]: 0 and 1, or probabilities.
      hidden: h, real, [..., H], with the same leading axes.
      weight: W, real, [V, H].
      visible_bias: a, real, [V].
      hidden_bias: b, real, [H].

    Returns:
      energies [...], float32 or wider; low ones are likely.

    Raises:
      TypeError: an array is boolean, complex or a list.
      ValueError: shapes that do not fit.

    Derivatives: plain JAX, both modes, any order, in all arguments. Saves `visible`, `hidden`, W and the gaps.

    References: Smolensky (1986), "Information processing in dynamical systems: foundations of harmony theory".

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.rbm_energy(jnp.array([1.0, 0.0]), jnp.ones(3), jnp.ones((2, 3)), jnp.zeros(2), jnp.zeros(3))
      Array(-3., dtype=float32)
    """
    name = "rbm_energy"
    machine = check_energy.machine(name, weight, visible_bias, hidden_bias)
    visible = check_energy.units(name, "visible", visible, machine[0])
    return _energy(visible, check_energy.hidden_beside(name, hidden, visible, machine[0]), *machine)


def rbm_free_energy(
    visible: ArrayLike,
    weight: ArrayLike,
    visible_bias: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> Array:
    """Free energy of visible units, the hidden ones summed out: `F(v) = −a·v − β⁻¹ Σ_j log(1 + exp(β (b + vᵀ W)_j))`.

    −β F is the log-probability of v but for log Z, which `rbm_log_partition` gives for small machines.

    Args:
      visible, weight, visible_bias, hidden_bias: as in `rbm_energy`.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature: T = 1/β, instead of `beta`; 0 means β = +inf.

    Returns:
      free energies [...], float32 or wider. β = +inf gives the lowest energy over hidden states, −inf the highest;
      β = 0 gives −inf, for the hidden units' entropy wins, unless there are none.

    Raises: as `rbm_energy`; ValueError: β does not broadcast; both beta and temperature.

    Derivatives: in all arguments, to any order; forward mode inside `forward_mode()`. ∂F/∂W is −v ⊗ P(h | v), ∂F/∂β
    the entropy of P(h | v) over β². Saves `visible`, W, and for each hidden unit three numbers.

    References: Smolensky (1986); Hinton (2012), "A practical guide to training restricted Boltzmann machines".

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> machine = jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3)
      >>> round(float(jsoftmax.rbm_free_energy(jnp.ones(2), *machine)), 4)  # −3 log 2
      -2.0794
    """
    visible, machine, given, kind = _checked(
        "rbm_free_energy", visible, (weight, visible_bias, hidden_bias), beta, temperature
    )
    return _free_energy(visible, machine, given, kind)


def rbm_hidden_probability(
    visible: ArrayLike,
    weight: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> Array:
    """Probability of each hidden unit given the visible ones: `P(h_j = 1 | v) = σ(β (b + vᵀ W)_j)`.

    Args:
      visible: v, real, [..., V].
      weight: W, real, [V, H].
      hidden_bias: b, real, [H].
      beta, temperature: as in `rbm_free_energy`.

    Returns:
      probabilities [..., H], float32 or wider.

    Raises: as `rbm_free_energy`.

    Derivatives: as `bernoulli_unit`, in all arguments. Saves `visible`, W, β and one number a hidden unit.

    References: Smolensky (1986); Ackley, Hinton & Sejnowski (1985), doi:10.1207/s15516709cog0901_7.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.rbm_hidden_probability(jnp.ones(2), jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.zeros(2)).round(2)
      Array([0.88, 0.5 ], dtype=float32)
    """
    return _probability("rbm_hidden_probability", "visible", visible, weight, "hidden", hidden_bias, beta, temperature)


def rbm_visible_probability(
    hidden: ArrayLike,
    weight: ArrayLike,
    visible_bias: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> Array:
    """Probability of each visible unit given the hidden ones: `P(v_i = 1 | h) = σ(β (a + W h)_i)`.

    Args:
      hidden: h, real, [..., H].
      weight: W, real, [V, H].
      visible_bias: a, real, [V].
      beta, temperature: as in `rbm_free_energy`.

    Returns:
      probabilities [..., V], float32 or wider.

    Raises: as `rbm_free_energy`.

    Derivatives: as `bernoulli_unit`, in all arguments. Saves `hidden`, W, β and one number a visible unit.

    References: Smolensky (1986); Ackley, Hinton & Sejnowski (1985), doi:10.1207/s15516709cog0901_7.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.rbm_visible_probability(jnp.ones(1), jnp.array([[2.0], [0.0]]), jnp.zeros(2)).round(2)
      Array([0.88, 0.5 ], dtype=float32)
    """
    return _probability("rbm_visible_probability", "hidden", hidden, weight, "visible", visible_bias, beta, temperature)


def rbm_gibbs(
    key: Array,
    visible: ArrayLike,
    weight: ArrayLike,
    visible_bias: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    steps: int,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Block Gibbs sampling: `steps` times all hidden units given the visible ones, then all visible ones given those.

    Args:
      key: of jax.random. All chains of `visible` draw from it, each its own numbers.
      visible: where the chains start, real, [..., V]: 0 and 1, or probabilities.
      weight, visible_bias, hidden_bias: as in `rbm_energy`.
      steps: how many, an int of at least 1.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the leading axes of
        `visible`: chains of several temperatures. β = 0 draws evenly; +inf only ever goes downhill, and between ties.
      temperature: T = 1/β, instead of `beta`.

    Returns:
      (sample, probability), both [..., V], float32 or wider: visible units, 0 or 1, and the probabilities that they
      were drawn from in the last step, which are what is shown as an image. Constants of every derivative.

    Raises: as `rbm_free_energy`; TypeError, ValueError: `steps` is not an int of at least 1.

    References: Geman & Geman (1984), doi:10.1109/TPAMI.1984.4767596; Hinton (2002), doi:10.1162/089976602760128018.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> machine = jnp.zeros((2, 3)), jnp.array([100.0, -100.0]), jnp.zeros(3)
      >>> sample, probability = jsoftmax.rbm_gibbs(jax.random.key(0), jnp.zeros(2), *machine, steps=1)
      >>> sample
      Array([1., 0.], dtype=float32)
    """
    name = "rbm_gibbs"
    visible, machine, given, kind = _checked(name, visible, (weight, visible_bias, hidden_bias), beta, temperature)
    return _gibbs(key, visible, machine, given, kind, check.size(name, "steps", steps))


def rbm_contrastive_divergence(
    key: Array,
    visible: ArrayLike,
    weight: ArrayLike,
    visible_bias: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    steps: int = 1,
    chains: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Loss whose gradient is that of contrastive divergence: mean free energy of data minus that of samples.

    Samples come from `steps` steps of `rbm_gibbs`, from the data on (CD-k) or from `chains` of before (PCD). They are
    constants of the derivative, which is ⟨v h⟩ of the samples minus ⟨v h⟩ of the data with probabilities for h: the
    gradient of −β⁻¹ log P(data) but for the samples' distance from the model. The value is no likelihood, and is to be
    near 0.

    Args:
      key: of jax.random.
      visible: data, real, [..., V]: 0 and 1, or probabilities in [0, 1], such as grey values.
      weight, visible_bias, hidden_bias: as in `rbm_energy`.
      steps: of Gibbs sampling, an int of at least 1.
      chains: real, [..., V], as many as one likes: where the samples start. None: from the data.
      beta, temperature: as in `rbm_free_energy`, but one number.

    Returns:
      (loss, chains): a scalar, float32 or wider, and the samples, which the next step of persistent contrastive
      divergence starts from. Of no data, or no chains, the mean is 0.

    Raises: as `rbm_free_energy`; TypeError, ValueError: `steps` is not an int of at least 1.

    Derivatives: in `visible`, the parameters and β, to any order; forward mode inside `forward_mode()`.
    Saves `visible`, the samples, W, and for each hidden unit of both three numbers.

    References: Hinton (2002), doi:10.1162/089976602760128018 (CD); Tieleman (2008), doi:10.1145/1390156.1390290 (PCD).

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> machine = jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3)
      >>> loss, chains = jsoftmax.rbm_contrastive_divergence(jax.random.key(0), jnp.ones((4, 2)), *machine)
      >>> float(loss), chains.shape
      (0.0, (4, 2))
    """
    name = "rbm_contrastive_divergence"
    machine = check_energy.machine(name, weight, visible_bias, hidden_bias)
    visible = check_energy.units(name, "visible", visible, machine[0])
    chains = visible if chains is None else check_energy.units(name, "chains", chains, machine[0])
    given, kind = check.beta(name, beta, temperature, None, _dtype(visible, chains, *machine), (), ())
    return _contrastive_divergence(key, visible, chains, machine, given, kind, check.size(name, "steps", steps))


def rbm_log_partition(
    weight: ArrayLike,
    visible_bias: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> Array:
    """Logarithm of the partition function, exactly: `log Σ_v Σ_h exp(−β E(v, h))`, in nats.

    The states of the smaller layer are gone through, 1024 at a time, with the other layer summed out of each: 2ⁿ times
    V H operations for n units. `−β F(v) − log Z` with `rbm_free_energy` is then the log-probability of v.

    Args:
      weight, visible_bias, hidden_bias: as in `rbm_energy`, one layer with 20 units at most.
      beta: inverse temperature, any real number. β = 0 gives (V + H) log 2.
      temperature: T = 1/β, instead of `beta`.

    Returns:
      a scalar, float32 or wider.

    Raises: as `rbm_energy`; ValueError: both layers have more than 20 units; both beta and temperature.

    Derivatives: in all arguments, to any order; forward mode inside `forward_mode()`: ∂/∂W is β ⟨v h⟩ of the model.
    Saves `weight`, the biases and one number a state; the rest is computed again.

    References: Salakhutdinov & Murray (2008), doi:10.1145/1390156.1390266.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> round(float(jsoftmax.rbm_log_partition(jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3))), 4)  # 5 log 2
      3.4657
    """
    name = "rbm_log_partition"
    machine = check_energy.machine(name, weight, visible_bias, hidden_bias)
    check_energy.enumerable(name, machine[0], MOST)
    given, kind = check.beta(name, beta, temperature, None, _dtype(*machine), (), ())
    return _log_partition(machine, given, kind)


def rbm_pseudo_log_likelihood(
    key: Array | None,
    visible: ArrayLike,
    weight: ArrayLike,
    visible_bias: ArrayLike,
    hidden_bias: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
) -> Array:
    """Pseudo-log-likelihood: `Σ_i log P(v_i | all other visible units)`, in nats, which needs no partition function.

    Each term is log σ(β (F(v with unit i turned) − F(v))).

    Args:
      key: None for the sum over all units. A key of jax.random: V times the term of one unit, drawn for each example
        alone, which is the sum in expectation and what scikit-learn's `BernoulliRBM.score_samples` gives.
      visible: real, [..., V], 0 and 1.
      weight, visible_bias, hidden_bias: as in `rbm_energy`.
      beta, temperature: as in `rbm_free_energy`.

    Returns:
      [...], float32 or wider, at most 0. β = 0 gives −V log 2.

    Raises: as `rbm_free_energy`.

    Derivatives: in the parameters and β, to any order; forward mode inside `forward_mode()`. Saves `visible`, the
    parameters and one number a unit; the rest is computed again.

    References: Besag (1975), doi:10.2307/2987782; Marlin, Swersky, Chen & de Freitas (2010), "Inductive principles for
    restricted Boltzmann machine learning".

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> machine = jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3)
      >>> round(float(jsoftmax.rbm_pseudo_log_likelihood(None, jnp.ones(2), *machine)), 4)  # −2 log 2
      -1.3863
    """
    visible, machine, given, kind = _checked(
        "rbm_pseudo_log_likelihood", visible, (weight, visible_bias, hidden_bias), beta, temperature
    )
    return _pseudo_log_likelihood(key, visible, machine, given, kind)


def _checked(name, visible, machine, beta, temperature):
    machine = check_energy.machine(name, *machine)
    visible = check_energy.units(name, "visible", visible, machine[0])
    given, kind = check.beta(name, beta, temperature, None, _dtype(visible, *machine), visible.shape[:-1], ())
    return visible, machine, given, kind


def _probability(name, argument, units, weight, kind, bias, beta, temperature):
    """Of the units of `kind`, given those of the other layer."""
    weight = check_energy.matrix(name, weight)
    bias = check_energy.bias(name, kind, bias, weight)
    units = check_energy.units(name, argument, units, weight)
    given, of = check.beta(name, beta, temperature, None, _dtype(units, weight, bias), units.shape[:-1], ())
    return _conditional(units, weight, bias, given, of, kind)


# of traced arguments -----------------------------------------------------------------------------------------------


def _dtype(*arrays: Any) -> Any:
    """Of all of them as floating numbers."""
    return dtypes.common(*(a.dtype for a in arrays))


def _common(*arrays: Any) -> list[Array]:
    return [a.astype(_dtype(*arrays)) for a in arrays]


def _units_beta(given, kind):
    """β with an axis for units behind those of the examples; None for 1."""
    if given is None:
        return None
    beta = inverse_temperature(given, kind)
    return beta[..., None] if beta.ndim else beta


def _as_beta(beta):
    return {} if beta is None else {"beta": beta}


def _product(units, weight, axis):
    """Σ over the units of a layer, which is `axis` of the weight; not in the few bits of an accelerator's default."""
    numbers, wide = (((units.ndim - 1,), (axis,)), ((), ())), dtypes.wide(units.dtype)
    return lax.dot_general(units, weight, numbers, precision=lax.Precision.HIGHEST, preferred_element_type=wide)


def _along(bias, units):
    """A bias beside units with leading axes."""
    return lax.expand_dims(dtypes.widen(bias), range(units.ndim - 1))


def _gaps(units, weight, bias, axis):
    """What a unit of the other layer has less energy when it is on."""
    return _product(units, weight, axis) + _along(bias, units)


def _field(units, bias):
    """Σ over units of bias times state."""
    return jnp.sum(dtypes.widen(units) * _along(bias, units), -1)


def _both(gaps):
    """The logits of a unit's two states, along the first axis."""
    return jnp.stack([gaps, jnp.zeros_like(gaps)])


def _relative(visible, weight, visible_bias, hidden_bias, beta):
    """F(v) + H β⁻¹ log 2."""
    gaps = _gaps(visible, weight, hidden_bias, 0)
    return -_field(visible, visible_bias) - jnp.sum(logmeanexp(_both(gaps), 0, **_as_beta(beta)), -1)


@jax.jit
def _energy(visible, hidden, *machine):
    visible, hidden, weight, a, b = _common(visible, hidden, *machine)
    gaps = _gaps(visible, weight, b, 0)
    return -_field(visible, a) - jnp.sum(gaps * dtypes.widen(hidden), -1)


@functools.partial(jax.jit, static_argnums=3)
def _free_energy(visible, machine, given, kind):
    visible, weight, a, b = _common(visible, *machine)
    gaps, beta = _gaps(visible, weight, b, 0), _units_beta(given, kind)
    return -_field(visible, a) - jnp.sum(logsumexp(_both(gaps), 0, **_as_beta(beta)), -1)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _conditional(units, weight, bias, given, of, kind):
    units, weight, bias = _common(units, weight, bias)
    gaps = _gaps(units, weight, bias, 0 if kind == "hidden" else 1)
    return bernoulli_unit(gaps, **_as_beta(_units_beta(given, of)))


@functools.partial(jax.jit, static_argnums=(4, 5))
def _gibbs(key, visible, machine, given, kind, steps):
    given = _common(visible, *machine), _units_beta(given, kind)
    (visible, weight, a, b), beta = lax.stop_gradient(given)
    visible, weight, a, b, beta = mesh.vary(visible, weight, a, b, beta)
    beta = _as_beta(beta)

    def drawn(key, probability):
        return (jax.random.uniform(key, probability.shape, probability.dtype) < probability).astype(probability.dtype)

    def step(state, key):
        for_hidden, for_visible = jax.random.split(key)
        hidden = drawn(for_hidden, bernoulli_unit(_gaps(state[0], weight, b, 0), **beta))
        p = bernoulli_unit(_gaps(hidden.astype(weight.dtype), weight, a, 1), **beta)
        return (drawn(for_visible, p).astype(weight.dtype), p), None  # of the carry only the last p is used

    start = visible, dtypes.widen(visible)
    (sample, p), _ = lax.scan(step, start, jax.random.split(key, steps))
    return sample.astype(p.dtype), p


@functools.partial(jax.jit, static_argnums=(5, 6))
def _contrastive_divergence(key, visible, chains, machine, given, kind, steps):
    samples, _ = _gibbs(key, chains, machine, given, kind, steps)
    visible, weight, a, b = _common(visible, *machine)
    beta = _units_beta(given, kind)
    of_data, of_samples = (_relative(v, weight, a, b, beta) for v in (visible, samples.astype(visible.dtype)))
    return _mean(of_data) - _mean(of_samples), samples


def _mean(free_energies):
    return jnp.sum(free_energies) / max(free_energies.size, 1)


@functools.partial(jax.jit, static_argnums=2)
def _log_partition(machine, given, kind):
    weight, a, b = _common(*machine)
    weight, own, other = (weight, a, b) if len(a) <= len(b) else (weight.T, b, a)
    units, here = len(own), min(len(own), AT_ONCE)
    beta = None if given is None else inverse_temperature(given, kind)

    def times(v):
        return v if beta is None else beta * v

    @jax.checkpoint
    def of_some(first):
        """log Σ over the other layer's states, of 2^here states of this one."""
        index = first * 2**here + jnp.arange(2**here, dtype=jnp.int32)
        states = ((index[:, None] >> jnp.arange(units, dtype=jnp.int32)[None]) & 1).astype(weight.dtype)
        gaps = _gaps(states, weight, other, 0)
        return times(_field(states, own)) + jnp.sum(decision.log_partition(times(gaps)), -1)

    return logsumexp(lax.map(of_some, jnp.arange(2 ** (units - here), dtype=jnp.int32)), None)


@functools.partial(jax.jit, static_argnums=4)
def _pseudo_log_likelihood(key, visible, machine, given, kind):
    visible, weight, a, b = _common(visible, *machine)
    units, examples, beta = len(a), visible.shape[:-1], _units_beta(given, kind)
    gaps = _gaps(visible, weight, b, 0)
    unturned = logmeanexp(_both(gaps), 0, **_as_beta(beta))

    def of_unit(state, row, bias):
        """log P(v_i | others): states [...], rows of W [..., H] or one [H], biases."""
        turn = 1 - 2 * dtypes.widen(state)
        row = dtypes.widen(row) if row.ndim > 1 else _along(row, gaps)
        turned = logmeanexp(_both(gaps + turn[..., None] * row), 0, **_as_beta(beta))
        costs = -turn * dtypes.widen(bias) - jnp.sum(turned - unturned, -1)
        rows_beta = {} if beta is None else {"beta": beta[..., 0] if beta.ndim else beta}
        return log_softmax(_both(costs), 0, **rows_beta)[0]

    if key is None:
        each = lax.map(jax.checkpoint(lambda unit: of_unit(*unit)), (jnp.moveaxis(visible, -1, 0), weight, a))
        return jnp.sum(each, 0)
    index = jax.random.randint(key, examples, 0, units)
    state = jnp.take_along_axis(visible, index[..., None], -1)[..., 0]
    return units * of_unit(state, weight[index], a[index])
