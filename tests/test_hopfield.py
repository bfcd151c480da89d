"""The classic Hopfield network beside its definition, unit by unit: that its energy falls, and where it ends."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from jsoftmax._ops import hopfield
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
M, D, N = 3, 16, 5
BOUND = tolerance.Bound(16)
SETTINGS = hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
HADAMARD = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]])] * 4)[1:]  # 15 orthogonal patterns of 16 units


def signs(rng, *shape):
    return rng.choice(np.array([-1, 1], np.int8), shape)


def couplings(rng, d=D, diagonal=True):
    """Symmetric, of whole numbers: every field is exact, and often 0."""
    w = rng.integers(-2, 3, (d, d))
    w = np.triu(w, 1) + np.triu(w, 1).T
    return w + np.diag(rng.integers(0, 3, d)) if diagonal else w


def energy(s, w, theta=0.0):
    s, w = np.float64(s), np.float64(w)
    return -0.5 * np.einsum("...i,ij,...j->...", s, w, s) + (s * theta).sum(-1)


def unit_by_unit(s, w, theta, order):
    s = np.array(s, np.float64)
    for i in order:
        h = s @ np.float64(w)[i] - np.broadcast_to(theta, len(w))[i]
        s[..., i] = np.where(h == 0, s[..., i], np.sign(h))
    return s


def at_once(s, w, theta):
    h = np.float64(s) @ np.float64(w).T - theta
    return np.where(h == 0, s, np.sign(h))


# weights and energy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(np.float32, id="float32"),
        slow(np.int8, id="int8"),
        slow(ml_dtypes.bfloat16, id="bfloat16"),
    ],
)
def test_hebbs_rule(rng, dtype):
    x = signs(rng, M, D + 1)
    expected = np.float64(x).T @ np.float64(x) / (D + 1) * (1 - np.eye(D + 1))
    found = jsoftmax.hopfield_weights(x.astype(dtype))
    assert found.dtype == np.float32 and np.array_equal(found, expected.astype(np.float32)), "sums exact, divided once"


def test_the_gradient_of_hebbs_rule(rng):
    x, g = rng.standard_normal((M, D)).astype(np.float32), rng.standard_normal((D, D)).astype(np.float32)
    bar = jax.grad(lambda x: jnp.vdot(g, jsoftmax.hopfield_weights(x)))(x)
    off = np.float64(g) * (1 - np.eye(D))
    verify.assert_same(bar, np.float64(x) @ (off + off.T) / D, BOUND, "patterns")


@pytest.mark.parametrize("theta", [slow(None), slow(0.5), "each"])
def test_energy_and_its_derivatives(rng, theta):
    w = rng.standard_normal((D, D))
    w = (w + w.T).astype(np.float32)
    s, g = rng.standard_normal((2, N, D)).astype(np.float32), rng.standard_normal((2, N)).astype(np.float32)
    theta = rng.standard_normal(D).astype(np.float32) if theta == "each" else theta
    arguments = (s, w) if theta is None else (s, w, jnp.float32(theta))
    f = lambda s, w, theta=None: jsoftmax.hopfield_energy(s, w, threshold=theta)  # noqa: E731
    value, bars = jax.jit(lambda g, *a: (f(*a), jax.vjp(f, *a)[1](g)))(g, *arguments)
    here = 0.0 if theta is None else np.float64(theta)
    verify.assert_same(value, energy(s, w, here), BOUND, "energy")
    s, w, g = np.float64(s), np.float64(w), np.float64(g)
    by_threshold = np.einsum("ab,abi->i", g, s)
    expected = [g[..., None] * (here - s @ w), -0.5 * np.einsum("ab,abi,abj->ij", g, s, s), by_threshold]
    if np.ndim(here) == 0:
        expected[2] = by_threshold.sum()
    for bar, e, what in zip(bars, expected, ("state", "weights", "threshold"), strict=False):
        verify.assert_same(bar, e, BOUND, what)
    curvature = jax.jit(jax.hessian(lambda s: f(s, np.float32(w))))(np.float32(s[0, 0]))
    verify.assert_same(curvature, -w, BOUND, "curvature")
    along = jax.jit(lambda s, d: jax.jvp(lambda s: f(s, *arguments[1:]), (s,), (d,))[1])
    moved = along(arguments[0], np.ones_like(arguments[0]))
    verify.assert_same(moved, (here - s @ w).sum(-1), BOUND, "forward")


def test_energy_in_half_precision_and_in_float64(rng):
    s, w = signs(rng, N, D), couplings(rng)
    found = jsoftmax.hopfield_energy(s.astype(ml_dtypes.bfloat16), w.astype(ml_dtypes.bfloat16), threshold=1)
    assert found.dtype == np.float32 and np.array_equal(found, energy(s, w, 1))
    with jax.enable_x64(True):
        w = w / 3
        found = jsoftmax.hopfield_energy(jnp.asarray(s), jnp.asarray(w))
        tolerance.check(found, energy(s, w), np.float64, BOUND, "float64", scale=np.abs(w).sum())


# updates -----------------------------------------------------------------------------------------------------------


FAST = {(None, np.int8), (1, ml_dtypes.bfloat16), ("each", np.float32)}
SWEEPS = itertools.product((None, 1, "each"), (np.int8, np.float32, ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("theta", "dtype"),
    [pytest.param(*c, id=f"{c[0]}-{np.dtype(c[1]).name}", marks=() if c in FAST else pytest.mark.slow) for c in SWEEPS],
)
def test_a_sweep(rng, theta, dtype):
    """In each order; units whose field is 0, and such as are not known."""
    theta = rng.integers(-2, 3, D) if theta == "each" else theta
    here = 0 if theta is None else theta
    w, s = couplings(rng), rng.integers(-1, 2, (2, N, D)).astype(dtype)
    kept = s.astype(np.float64)
    order, key = rng.permutation(D), jax.random.key(3)
    for given, turns in (
        ({}, range(D)),
        ({"order": order}, order),
        ({"order": jnp.asarray(order)}, order),
        ({"key": key}, np.asarray(jax.random.permutation(key, D))),
    ):
        found = jsoftmax.hopfield_update(s, w, threshold=theta, **given)
        assert found.dtype == s.dtype
        assert np.array_equal(found.astype(np.float32), unit_by_unit(kept, w, here, turns)), list(given)
    found = jsoftmax.hopfield_update(s, w, threshold=theta, synchronous=True)
    assert np.array_equal(found.astype(np.float32), at_once(kept, w, here))


def test_a_unit_follows_its_row_of_weights(rng):
    """Weights on a device are not read: if they are not symmetric the rule is the same."""
    w, s = rng.integers(-2, 3, (D, D)), signs(rng, N, D)
    found = jsoftmax.hopfield_update(s, jnp.asarray(w))
    assert np.array_equal(found, unit_by_unit(s, w, 0, range(D)))
    assert np.array_equal(jsoftmax.hopfield_update(s, jnp.asarray(w), synchronous=True), at_once(s, w, 0))


def test_transformations(rng):
    w, s = couplings(rng).astype(np.float32), signs(rng, N, D).astype(np.float32)
    expected = unit_by_unit(s, w, 0, range(D))
    assert np.array_equal(jax.vmap(jsoftmax.hopfield_update, (0, None))(s, w), expected)
    assert np.array_equal(jax.jit(jsoftmax.hopfield_update)(s, w), expected)
    bars = jax.grad(lambda s, w: jsoftmax.hopfield_retrieve(s, w).state.sum(), (0, 1))(s, w)
    bars += jax.grad(lambda s, w: jsoftmax.hopfield_update(s, w).sum(), (0, 1))(s, w)
    assert not any(np.any(bar) for bar in bars)


NETWORK = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@SETTINGS
@hypothesis.given(NETWORK, st.booleans())
def test_the_energy_never_rises(rng, diagonal):
    """From any state within ±1, in any order; all numbers are exact."""
    w, theta, order = couplings(rng, 8, diagonal), rng.integers(-2, 3, 8), rng.permutation(8)
    s = rng.integers(-2, 3, (4, 8)) / np.float32(2)
    for _ in range(3):
        new = np.asarray(jsoftmax.hopfield_update(s, w, threshold=theta, order=jnp.asarray(order)))
        assert np.all(energy(new, w, theta) <= energy(s, w, theta))
        s = new


@SETTINGS
@hypothesis.given(NETWORK)
def test_all_at_once_ends_in_two_states_at_most(rng):
    w, theta, s = couplings(rng, 8), rng.integers(-2, 3, 8), signs(rng, 4, 8)
    found = jsoftmax.hopfield_retrieve(s, w, threshold=theta, synchronous=True, max_sweeps=2**8)
    end = np.asarray(found.state)
    once = at_once(end, w, theta)
    assert np.array_equal(at_once(once, w, theta), end)
    assert np.array_equal((once == end).all(-1), found.settled)


# retrieval ---------------------------------------------------------------------------------------------------------


def test_orthogonal_patterns_are_remembered(rng):
    stored = HADAMARD[[2, 6, 11]]
    w = jsoftmax.hopfield_weights(stored)
    assert np.array_equal(jsoftmax.hopfield_update(stored, w), stored)
    cue = stored.copy()
    cue[np.arange(3), [3, 0, 9]] *= -1
    cue[:, 5] = 0
    for given in ({}, {"key": jax.random.key(0)}, {"order": np.arange(D)[::-1]}, {"synchronous": True}):
        found = jsoftmax.hopfield_retrieve(np.concatenate([cue, stored]), w, **given)
        assert np.array_equal(found.state, np.concatenate([stored, stored])), given
        assert found.settled.all() and np.all((found.sweeps > 0) == np.repeat([True, False], 3))
        assert found.sweeps.dtype == np.int32 and found.settled.dtype == bool


@pytest.mark.parametrize("synchronous", [False, True])
def test_every_state_goes_its_own_way(rng, synchronous):
    """As far as it has to, and not further while others go on."""
    w, s = couplings(rng, 30, diagonal=False), signs(rng, 40, 30)
    together = jsoftmax.hopfield_retrieve(s, w, synchronous=synchronous)
    steps = set(np.asarray(together.sweeps).tolist())
    assert len(steps) > 2
    for i in range(0, 40, 8):
        alone = jsoftmax.hopfield_retrieve(s[i], w, synchronous=synchronous)
        assert all(np.array_equal(a, b[i]) for a, b in zip(alone, together, strict=True))
    state, sweeps = np.float64(s), 0
    for _ in range(max(steps)):
        new = at_once(state, w, 0) if synchronous else unit_by_unit(state, w, 0, range(30))
        sweeps = sweeps + (new != state).any(-1)
        state = new
    if not synchronous:
        assert np.array_equal(together.state, state) and np.array_equal(together.sweeps, sweeps)
        assert together.settled.all()


def test_states_on_several_devices(rng):
    w, s = couplings(rng, 30, diagonal=False), signs(rng, 8, 30)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    there = jax.shard_map(
        jsoftmax.hopfield_retrieve,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
    )
    for found, wanted in zip(jax.jit(there)(s, w), jsoftmax.hopfield_retrieve(s, w), strict=True):
        assert np.array_equal(found, wanted)


def test_what_alternates_is_left_and_not_settled():
    found = jsoftmax.hopfield_retrieve(np.array([[1, -1], [1, 1]]), np.array([[0, 1], [1, 0]]), synchronous=True)
    assert found.sweeps.tolist() == [2, 0] and found.settled.tolist() == [False, True]
    assert np.array_equal(found.state, [[1, -1], [1, 1]])


def test_sweeps_are_limited_without_compiling_anew(rng):
    w, s = couplings(rng, 30, diagonal=False), signs(rng, 20, 30)
    needed = int(jsoftmax.hopfield_retrieve(s, w).sweeps.max())
    programs = hopfield._retrieve._cache_size()
    for most in range(1, needed + 2):
        found = jsoftmax.hopfield_retrieve(s, w, max_sweeps=most)
        assert found.sweeps.max() == min(most, needed) and found.settled.all() == (most > needed)
    assert hopfield._retrieve._cache_size() == programs


def test_random_orders_differ(rng):
    w, s = couplings(rng, 30, diagonal=False), signs(rng, 20, 30)
    found = [jsoftmax.hopfield_retrieve(s, w, key=jax.random.key(i)) for i in (0, 0, 1)]
    assert np.array_equal(found[0].state, found[1].state) and not np.array_equal(found[0].state, found[2].state)
    assert all(f.settled.all() for f in found)
    # another order in each sweep: with the same one twice the second sweep of the key would be that of the first
    first = jsoftmax.hopfield_retrieve(s, w, key=jax.random.key(0), max_sweeps=1).state
    fold = [np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(0), i), 30)) for i in range(2)]
    assert np.array_equal(first, unit_by_unit(s, w, 0, fold[0]))
    second = jsoftmax.hopfield_retrieve(s, w, key=jax.random.key(0), max_sweeps=2).state
    assert np.array_equal(second, unit_by_unit(first, w, 0, fold[1]))


def test_no_number_stays_with_its_state(rng):
    w, s = couplings(rng).astype(np.float32), signs(rng, 2, D).astype(np.float32)
    expected = jsoftmax.hopfield_retrieve(s, w)
    s[1, 3] = np.nan
    found = jsoftmax.hopfield_retrieve(s, w)
    assert np.array_equal(found.state[0], expected.state[0]) and found.sweeps[1] == 0
    assert np.array_equal(found.state[1], s[1], equal_nan=True)
    assert np.isnan(jsoftmax.hopfield_energy(s, w)[1]) and np.isfinite(jsoftmax.hopfield_energy(s, w)[0])


def test_no_units_and_no_patterns():
    assert jsoftmax.hopfield_weights(np.zeros((2, 0))).shape == (0, 0)
    assert not jsoftmax.hopfield_weights(np.zeros((0, 3))).any()
    found = jsoftmax.hopfield_retrieve(np.ones((2, 3)), np.zeros((3, 3)))
    assert np.array_equal(found.state, np.ones((2, 3))) and found.settled.all()
    assert jsoftmax.hopfield_retrieve(np.ones((0, 3)), np.zeros((3, 3))).state.shape == (0, 3)
