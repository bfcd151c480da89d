"""The network of Hopfield (1982): an associative memory of ±1 units.

    W_ij  =  D⁻¹ Σ_μ x_μi x_μj,  W_ii = 0             Hebb's rule                                           (1)
    E(s)  =  −½ Σ_ij W_ij s_i s_j + Σ_i θ_i s_i                                                            (2)
    h_i   =  Σ_j W_ij s_j − θ_i,  s_i ← sign(h_i)                                                          (3)
    E falls by  Δs_i h_i + ½ W_ii Δs_i²  when unit i moves by Δs_i: never negative for symmetric W, W_ii ≥ 0        (4)

A unit that moves changes the fields h of the others by its column of W, so that a sweep over all units takes the D² of
one product and D more for each of them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import check, check_hopfield, dtypes, mesh


class HopfieldRetrieval(NamedTuple):
    """What `hopfield_retrieve` came to: a pytree of arrays.

    Args:
      state: shape and dtype of the state that was given.
      sweeps: int32 [...], how many changed anything.
      settled: boolean [...], whether another would change nothing. False where a synchronous network goes to and fro
        between two states, and where `max_sweeps` did not suffice.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> weights = jsoftmax.hopfield_weights(jnp.array([[1, 1, -1, -1]]))
      >>> jsoftmax.hopfield_retrieve(jnp.array([1, 1, 1, -1]), weights).settled
      Array(True, dtype=bool)
    """

    state: Array
    sweeps: Array
    settled: Array


def hopfield_weights(patterns: ArrayLike) -> Array:
    """Hebb's rule: `W = D⁻¹ Σ_μ x_μ x_μᵀ` with a diagonal of 0.

    About 0.138 D random patterns are held with few errors, and far fewer that resemble each other.

    Args:
      patterns: real, [M, D], of ±1.

    Returns:
      [D, D], symmetric, float32 or wider: sums of ±1 are exact, and divided once.

    Raises:
      TypeError: `patterns` is boolean, complex or a list. ValueError: it does not have two axes.

    Derivatives: in `patterns`, of any kind and order. Saves `patterns`.

    References: Hebb (1949), "The organization of behavior"; Hopfield (1982), doi:10.1073/pnas.79.8.2554; Amit,
    Gutfreund & Sompolinsky (1985), doi:10.1103/PhysRevLett.55.1530 (0.138 D).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.hopfield_weights(jnp.array([[1, 1, -1, -1]]))
      Array([[ 0.  ,  0.25, -0.25, -0.25],
             [ 0.25,  0.  , -0.25, -0.25],
             [-0.25, -0.25,  0.  ,  0.25],
             [-0.25, -0.25,  0.25,  0.  ]], dtype=float32)
    """
    return _weights(check_hopfield.patterns("hopfield_weights", patterns))


def hopfield_energy(state: ArrayLike, weights: ArrayLike, *, threshold: ArrayLike | None = None) -> Array:
    """Energy of a Hopfield network: `−½ sᵀ W s + θ · s`. Stored patterns are to be its minima.

    Args:
      state: real, [..., D], of a dtype that has −1.
      weights: real, [D, D], symmetric: on the host it is refused otherwise, a device array or a traced one is not read.
      threshold: θ, real, a number or [D]; 0 if not given.

    Returns:
      [...], float32 or wider.

    Raises:
      TypeError: an array is boolean, complex, a list, or `state` unsigned.
      ValueError: shapes that do not fit; `weights` on the host that are not symmetric.

    Derivatives: in all three, of any kind and order; −½ (W + Wᵀ) s + θ in the state. Saves `state`, `weights` and the
    fields [..., D].

    References: Hopfield (1982), doi:10.1073/pnas.79.8.2554.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x = jnp.array([1, 1, -1, -1])
      >>> jsoftmax.hopfield_energy(x, jsoftmax.hopfield_weights(x[None]))
      Array(-1.5, dtype=float32)
    """
    return _energy(*check_hopfield.network("hopfield_energy", state, weights, threshold))


def hopfield_update(
    state: ArrayLike,
    weights: ArrayLike,
    *,
    threshold: ArrayLike | None = None,
    order: ArrayLike | None = None,
    key: Array | None = None,
    synchronous: bool = False,
) -> Array:
    """One sweep over the units of a Hopfield network: `s_i ← sign(Σ_j W_ij s_j − θ_i)`.

    One after the other, each sees what the ones before it became, and the energy never rises if W is symmetric with a
    diagonal that is not negative. All at once it may; repeated, that ends in a state or in two that alternate.

    Args:
      state: real, [..., D], of a dtype that has −1. Values need not be ±1: 0 stands for a unit that is not known.
      weights: real, [D, D], as for `hopfield_energy`. The diagonal is used as it is: a positive one makes units
        slower to turn, with a negative one the energy may rise.
      threshold: θ, real, a number or [D]; 0 if not given.
      order: integers [D], the units in the order of their turns, each once; 0, 1, … if not given. A device array or a
        traced one is not read: a unit that it does not name stays as it is.
      key: of `jax.random`, for a random order instead, the same for all states.
      synchronous: all units at once.

    Returns:
      shape and dtype of `state`. A unit whose field is exactly 0 keeps its value. Fields are taken in float32 or wider;
      where W is of whole numbers they are exact, and after a division by D ties may be broken by its rounding.
      Constant but for steps: derivatives are 0.

    Raises:
      TypeError: an array is boolean, complex, a list, or `state` unsigned; `order` is not of integers.
      ValueError: shapes that do not fit; `weights` on the host that are not symmetric, an `order` there that does not
        name each unit once; two of `order`, `key` and `synchronous`.

    References: Hopfield (1982), doi:10.1073/pnas.79.8.2554; Goles-Chacc, Fogelman-Soulie & Pellegrin (1985),
    doi:10.1016/0166-218X(85)90029-0 (cycles of two).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> weights = jsoftmax.hopfield_weights(jnp.array([[1, 1, -1, -1]]))
      >>> jsoftmax.hopfield_update(jnp.array([1, 0, 0, -1]), weights)
      Array([ 1,  1, -1, -1], dtype=int32)
    """
    name = "hopfield_update"
    state, weights, threshold = check_hopfield.network(name, state, weights, threshold)
    order = check_hopfield.order(name, order, key, synchronous, weights.shape[0])
    return _update(state, weights, threshold, order, key, bool(synchronous))


def hopfield_retrieve(
    state: ArrayLike,
    weights: ArrayLike,
    *,
    threshold: ArrayLike | None = None,
    order: ArrayLike | None = None,
    key: Array | None = None,
    synchronous: bool = False,
    max_sweeps: int = 100,
) -> HopfieldRetrieval:
    """What a Hopfield network remembers of a state: sweeps of `hopfield_update` until nothing changes.

    Args:
      state, weights, threshold, order: as for `hopfield_update`.
      key: of `jax.random`, for a random order instead, another in each sweep.
      synchronous: all units at once, until nothing changes or two states alternate.
      max_sweeps: at most so many, 1 or more; another number compiles nothing.

    Returns:
      a `HopfieldRetrieval`: the state, how many sweeps changed anything, and whether nothing would change any more.
      Each state is as it would be alone: it is left as it is when it is done, while others go on. Derivatives are 0.

    Raises: as `hopfield_update`; TypeError or ValueError for `max_sweeps` that is not an int or below 1.

    References: as for `hopfield_update`.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> stored = jnp.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]])
      >>> cue = jnp.array([[1, 1, 1, -1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, 1]])
      >>> found = jsoftmax.hopfield_retrieve(cue, jsoftmax.hopfield_weights(stored))
      >>> (found.state == stored).all(), found.sweeps
      (Array(True, dtype=bool), Array([1, 1], dtype=int32))
    """
    name = "hopfield_retrieve"
    state, weights, threshold = check_hopfield.network(name, state, weights, threshold)
    order = check_hopfield.order(name, order, key, synchronous, weights.shape[0])
    most = np.int32(min(check.size(name, "max_sweeps", max_sweeps), 2**31 - 1))
    return _retrieve(state, weights, threshold, order, key, most, bool(synchronous))


# -------------------------------------------------------------------------------------------------------------------


@jax.jit
def _weights(patterns):
    x = dtypes.widen(patterns.astype(dtypes.of_logits(patterns.dtype)))
    units = x.shape[1]
    summed = lax.dot_general(x, x, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    return jnp.where(jnp.eye(units, dtype=bool), 0, summed / max(units, 1))  # (1)


def _prepared(state, weights, threshold):
    """In the dtype that sums are taken in, varying alike, with a threshold."""
    dtype = dtypes.wide(dtypes.of_logits(weights.dtype))
    threshold = jnp.zeros((), dtype) if threshold is None else threshold.astype(dtype)
    return mesh.vary(state.astype(dtype), weights.astype(dtype), jnp.broadcast_to(threshold, weights.shape[:1]))


def _products(state, weights):
    """W s of each state."""
    numbers = (((state.ndim - 1,), (1,)), ((), ()))
    return lax.dot_general(state, weights, numbers, precision=lax.Precision.HIGHEST)


def _fields(state, weights, threshold):
    return _products(state, weights) - lax.expand_dims(threshold, range(state.ndim - 1))  # (3)


@jax.jit
def _energy(state, weights, threshold):
    s, w, theta = _prepared(state, weights, threshold)
    half = -0.5 * _products(s, w) + lax.expand_dims(theta, range(s.ndim - 1))
    return jnp.sum(s * half, -1)  # (2)


@functools.partial(jax.jit, static_argnums=(5,))
def _update(state, weights, threshold, order, key, synchronous):
    s, w, theta = lax.stop_gradient(_prepared(state, weights, threshold))
    return _sweep(s, w, theta, _turns(order, key, w), synchronous).astype(state.dtype)


def _turns(order, key, weights):
    if key is not None:
        return jax.random.permutation(key, weights.shape[0])
    return jnp.arange(weights.shape[0], dtype=jnp.int32) if order is None else order


def _turned(s, h):
    return jnp.where(h > 0, 1, jnp.where(h < 0, -1, s))


def _sweep(s, weights, threshold, order, synchronous):
    h = _fields(s, weights, threshold)
    if synchronous:
        return _turned(s, h)
    effects = weights.T  # row i is what unit i does to all

    def turn(k, carry):
        s, h = carry
        i = order[k]
        old = lax.dynamic_index_in_dim(s, i, -1)
        new = _turned(old, lax.dynamic_index_in_dim(h, i, -1))
        h += (new - old) * lax.expand_dims(effects[i], range(h.ndim - 1))
        return lax.dynamic_update_index_in_dim(s, new, i, s.ndim - 1), h

    return lax.fori_loop(0, order.shape[0], turn, (s, h))[0]


class _Course(NamedTuple):
    number: Any  # of sweeps, for all states
    state: Any
    before: Any  # the state before that
    sweeps: Any  # those of each that changed something
    settled: Any
    done: Any


@functools.partial(jax.jit, static_argnums=(6,))
def _retrieve(state, weights, threshold, order, key, most, synchronous):
    s, w, theta = lax.stop_gradient(_prepared(state, weights, threshold))

    def going_on(course):
        return (course.number < most) & ~jnp.all(course.done)

    def sweep(course):
        turns = _turns(order, key if key is None else jax.random.fold_in(key, course.number), w)
        new = _sweep(course.state, w, theta, turns, synchronous)
        settled = jnp.all((new == course.state) | jnp.isnan(new), -1)  # no unit becomes a NaN, but may be one
        alternates = jnp.all(new == course.before, -1) & ~settled & synchronous
        done = course.done
        kept = done[..., None]
        return _Course(
            course.number + 1,
            jnp.where(kept, course.state, new),
            jnp.where(kept, course.before, course.state),
            course.sweeps + (~(done | settled)).astype(jnp.int32),
            course.settled | (settled & ~done),
            done | settled | alternates,
        )

    none = jnp.isnan(s).any(-1) & False  # varying as the states do
    start = _Course(jnp.int32(0), s, jnp.full_like(s, jnp.nan), none.astype(jnp.int32), none, none)
    found = lax.while_loop(going_on, sweep, start)
    return HopfieldRetrieval(found.state.astype(state.dtype), found.sweeps, found.settled)
