"""The modern Hopfield network beside its formulas in float64: energy, retrieval, and the derivative of what it settles
to, by a dense solve.

Derivatives of the oracle are those along complex steps: exact, for nothing is subtracted.
"""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jsoftmax
from jsoftmax._ops import modern_hopfield
from tests import inputs, tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
M, D, N, E = 6, 4, 3, 2
BETAS = [
    slow(0.3, id="0.3"),
    slow(-0.2, id="-0.2"),
    pytest.param(np.array([-0.2, 1.0, 5.0]), id="of each"),
]
VALUE, GRADIENT, SETTLED = tolerance.Bound(64, 2), tolerance.Bound(256, 4), tolerance.Bound(1024, 4)
SETTINGS = hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)
STEP = 1e-30
energy, retrieve = jsoftmax.modern_hopfield_energy, jsoftmax.modern_hopfield_retrieve


def problem(seed=0, dtype=np.float32, m=M, d=D, n=N):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)


def wide(a):
    return a if np.iscomplexobj(a) else np.float64(a)


def weights_of(s, x, beta, where=True):
    z = np.reshape(beta, (-1, 1)) * (wide(s) @ wide(x).T)
    z = np.where(where, z, -np.inf)
    p = np.exp(z - z.real.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def stepped(s, x, beta, steps=1, where=True, values=None):
    for _ in range(steps - 1):
        s = weights_of(s, x, beta, where) @ wide(x)
    return weights_of(s, x, beta, where) @ wide(x if values is None else values)


def exact_energy(s, x, beta, where=True):
    """At β ≠ 0."""
    s, x = wide(s), wide(x)
    b, lengths = np.reshape(wide(beta), (-1, 1)), np.broadcast_to((x * x).sum(-1), (len(s), len(x)))
    longest = lengths[np.arange(len(s)), np.where(where, lengths.real, -np.inf).argmax(-1)]
    z = np.where(where, b * (s @ x.T), -np.inf)
    peak = z.real.max(-1, keepdims=True)
    count = np.broadcast_to(where, z.shape).sum(-1)
    lse = (np.log(np.exp(z - peak).sum(-1)) + peak[:, 0]) / b[:, 0]
    return -lse + 0.5 * (s * s).sum(-1) + np.log(count) / b[:, 0] + 0.5 * longest


def bars(f, g, *arguments):
    """Cotangents of the real arguments of f for the cotangent g of its value."""
    found = []
    for k, a in enumerate(arguments):
        a = np.array(a, np.float64)
        bar = np.zeros(a.shape)
        for at in np.ndindex(a.shape):
            moved = a.astype(complex)
            moved[at] += 1j * STEP
            bar[at] = np.vdot(g, f(*arguments[:k], moved, *arguments[k + 1 :]).imag) / STEP
        found.append(bar)
    return found


def jacobians(s, x, beta):
    """β Xᵀ (diag p − p pᵀ) X of each state."""
    p, x = weights_of(s, x, beta), np.float64(x)
    mean = p @ x
    second = np.einsum("bm,mi,mj->bij", p, x, x)
    return np.reshape(beta, (-1, 1, 1)) * (second - mean[:, :, None] * mean[:, None])


def settled(s, x, beta, steps=3000):
    return stepped(s, x, beta, steps)


def settled_bars(g, s, x, beta):
    """Of (patterns, β), by a dense solve at the end of 3000 steps."""
    end = settled(s, x, beta)
    solved = np.linalg.solve(np.eye(x.shape[1]) - jacobians(end, x, beta), np.float64(g)[..., None])[..., 0]
    return bars(lambda x, beta: stepped(end, x, beta), solved, x, beta)


@functools.cache
def program(f):
    def run(g, *arguments):
        value, pull = jax.vjp(f, *arguments)
        return value, *pull(g)

    return jax.jit(run)


def value_and_bars(f, g, *arguments):
    return program(f)(g, *map(jnp.asarray, arguments))


# energy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("masked", [slow(False), True])
def test_energy_and_its_gradient(beta, masked):
    s, x = problem()
    beta = np.float32(beta)
    where = np.arange(N * M).reshape(N, M) % 4 != 1 if masked else True
    g = inputs.cotangent((N,), 1).astype(np.float32)
    f = lambda s, x, b: energy(s, x, beta=b, where=where if masked else None)  # noqa: E731
    found = value_and_bars(f, g, s, x, beta)
    exact = lambda s, x, b: exact_energy(s, x, b, where)  # noqa: E731
    expected = [exact(s, x, beta), *bars(exact, g, s, x, beta)]
    for a, e, what in zip(found, expected, ("energy", "state", "patterns", "beta"), strict=True):
        verify.assert_same(a, e, GRADIENT, what)


def test_energy_at_the_limits_of_beta():
    """A mean over the patterns at 0, the least at inf, the largest at −inf; half of the squared distances for ±1."""
    s, x = problem()
    x = np.sign(x)
    half = 0.5 * ((np.float64(s)[:, None] - x) ** 2).sum(-1)
    for beta, expected in ((0.0, half.mean(-1)), (np.inf, half.min(-1)), (-np.inf, half.max(-1))):
        verify.assert_same(energy(s, x, beta=beta), expected, VALUE, f"β = {beta}")
    slopes = jax.jit(jax.vmap(jax.grad(lambda b, s: energy(s, x, beta=b), 0), (None, 0)))
    verify.assert_same(slopes(0.0, s), -half.var(-1) / 2, GRADIENT, "slope at 0")
    assert not np.any(slopes(np.inf, s))


def test_nothing_cancels_in_a_small_energy():
    """A ten-thousandth away from one of ±2: as a difference of terms of 200 it would be rounding."""
    s, x = problem(d=50)
    x = 2 * np.sign(x)
    s = x[:N] + np.float32(1e-4) * s
    away = 0.5 * ((np.float64(s) - x[:N]) ** 2).sum(-1)
    assert away.max() < tolerance.ROUNDOFF[np.dtype(np.float32)] * 200
    tolerance.check(energy(s, x, beta=jnp.inf), away, np.float32, VALUE, "nearest of six")
    tolerance.check(energy(s[0], x[:1], beta=3.0), away[0], np.float32, VALUE, "one pattern")


def test_curvature_of_the_energy():
    s, x = problem()
    expected = np.eye(D) - jacobians(s, x, 2.0)
    found = jax.jit(jax.vmap(jax.hessian(lambda s: energy(s, x, beta=2.0))))(s)
    verify.assert_same(found, expected, GRADIENT, "I − J")


@pytest.mark.slow
def test_forward_through_the_energy():
    s, x = problem()
    with jsoftmax.forward_mode():
        once = jax.jit(jax.vmap(jax.jacfwd(lambda s: energy(s, x, beta=2.0))))(s)
    verify.assert_same(once, np.float64(s) - stepped(s, x, 2.0), GRADIENT, "forward")


VECTORS = hnp.arrays(np.float32, (5, 3), elements=st.floats(-4, 4, width=32))
STATES = hnp.arrays(np.float32, (2, 3), elements=st.floats(-4, 4, width=32))
_course = jax.jit(
    lambda s, x, b: (energy(s, x, beta=b), retrieve(s, x, beta=b), energy(retrieve(s, x, beta=b), x, beta=b))
)


@SETTINGS
@hypothesis.given(STATES, VECTORS, st.floats(0.0625, 50, width=32))
def test_the_energy_never_rises_and_is_never_negative(s, x, beta):
    before, _, after = map(np.asarray, _course(s, x, np.float32(beta)))
    # of the terms: half of the squared length of the longest vector, and of the state
    size = 0.5 * max((x * x).sum(-1).max(), (s * s).sum(-1).max()) + np.log(len(x)) / beta
    assert np.all(after <= before + 16 * tolerance.ROUNDOFF[np.dtype(np.float32)] * size)
    assert np.all(after >= 0) and np.all(before >= 0)


# retrieval ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("steps", [slow(1), 3])
def test_a_number_of_steps(beta, steps):
    """Value and all cotangents, with values and without."""
    s, x = problem()
    beta = np.float32(beta)
    v = inputs.cotangent((M, E), 2).astype(np.float32)
    g = inputs.cotangent((N, E), 3).astype(np.float32)
    found = value_and_bars(lambda s, x, v, b: retrieve(s, x, values=v, beta=b, steps=steps), g, s, x, v, beta)
    exact = lambda s, x, v, b: stepped(s, x, b, steps, values=v)  # noqa: E731
    expected = [exact(s, x, v, beta), *bars(exact, g, s, x, v, beta)]
    for a, e, what in zip(found, expected, ("value", "state", "patterns", "values", "beta"), strict=True):
        verify.assert_same(a, e, GRADIENT, what)
    verify.assert_same(retrieve(s, x, beta=beta, steps=steps), stepped(s, x, beta, steps), VALUE, "without values")


@pytest.mark.parametrize("beta", BETAS)
def test_what_it_settles_to(beta):
    """Value and implicit gradient; the energy's gradient is 0 there."""
    s, x = problem(1)
    beta = np.float32(beta)
    g = inputs.cotangent((N, D), 3).astype(np.float32)
    value, s_bar, x_bar, b_bar = value_and_bars(lambda s, x, b: retrieve(s, x, beta=b, steps=None), g, s, x, beta)
    end = settled(s, x, beta)
    verify.assert_same(value, end, SETTLED, "value")
    assert not np.any(s_bar)
    for a, e, what in zip((x_bar, b_bar), settled_bars(g, s, x, beta), ("patterns", "beta"), strict=True):
        verify.assert_same(a, e, SETTLED, what)
    slope = jax.jit(jax.grad(lambda s: energy(s, x, beta=beta).sum()))(value)
    tolerance.check(slope, np.zeros((N, D)), np.float32, SETTLED, "slope", scale=np.abs(x).max())


def test_values_of_what_it_settles_to():
    s, x = problem(1)
    v, g = inputs.cotangent((M, E), 2).astype(np.float32), inputs.cotangent((N, E), 3).astype(np.float32)
    f = lambda s, x, v, b: retrieve(s, x, values=v, beta=b, steps=None)  # noqa: E731
    value, s_bar, *found = value_and_bars(f, g, s, x, v, np.float32(2))
    end = settled(s, x, 2.0)
    assert not np.any(s_bar)
    verify.assert_same(value, stepped(end, x, 2.0, values=v), SETTLED, "value")
    last = lambda s, x, v, b: stepped(s, x, b, values=v)  # noqa: E731
    through, *direct = bars(last, g, end, x, v, 2.0)
    indirect = settled_bars(through, s, x, 2.0)
    expected = direct[0] + indirect[0], direct[1], direct[2] + indirect[1]
    for a, e, what in zip(found, expected, ("patterns", "values", "beta"), strict=True):
        verify.assert_same(a, e, SETTLED, what)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.35, 0.3])
def test_many_features(beta):
    """Means of several of 60 patterns with 40 features, where J has many eigenvalues that are not small."""
    s, x = problem(2, m=60, d=40)
    s, beta = x[:N] + s, np.float32(beta / 2)
    g = inputs.cotangent((N, 40), 3).astype(np.float32)
    _, _, x_bar, b_bar = value_and_bars(lambda s, x, b: retrieve(s, x, beta=b, steps=None), g, s, x, beta)
    end = settled(s, x, beta)
    steepest = np.linalg.eigvalsh(jacobians(end, x, beta))
    assert steepest.max() < 0.99 and np.any(steepest[:, -8] > 0.05)
    for a, e, what in zip((x_bar, b_bar), settled_bars(g, s, x, beta), ("patterns", "beta"), strict=True):
        verify.assert_same(a, e, SETTLED, what)


def test_near_a_bifurcation():
    """Of two opposite patterns ±a the state is a m, m = tanh(β a² m): at β a² = 1.02 J is 0.96."""
    with jax.enable_x64(True):
        x, a = jnp.array([[1.0], [-1.0]]), 1.02
        f = lambda a: retrieve(jnp.ones(1), x, beta=a, steps=None)[0]  # noqa: E731
        m, slope = jax.jit(jax.value_and_grad(f))(a)
        exact = 0.5
        for _ in range(5000):
            exact = np.tanh(a * exact)
        sech = 1 - exact**2
        bound = tolerance.Bound(2.0**14)  # 1 / (1 − J) is 25, and the steps end where each is 4 roundings
        tolerance.check(m, np.float64(exact), np.float64, bound, "state")
        tolerance.check(slope, np.float64(exact * sech / (1 - a * sech)), np.float64, bound, "slope", scale=1.0)


@pytest.mark.parametrize("how", ["forward over reverse", slow("reverse over reverse")])
def test_second_order(how):
    """Derivative of the gradient along the patterns and β, in float64, beside difference quotients of the exact one."""
    s, x = problem(1, np.float64)
    g, v = inputs.cotangent((N, D), 3), inputs.cotangent((M, D), 4)
    beta, b_dot, h = 2.0, 0.3, 1e-5
    moved = [settled_bars(g, s, x + t * h * v, beta + t * h * b_dot) for t in (1, -1)]
    expected = [(up - down) / (2 * h) for up, down in zip(*moved, strict=True)]
    with jax.enable_x64(True):
        s, x, v, g = map(jnp.asarray, (s, x, v, g))
        f = lambda x, b: jnp.vdot(g, retrieve(s, x, beta=b, steps=None))  # noqa: E731
        gradient = jax.grad(f, (0, 1))
        if how == "forward over reverse":
            found = jax.jit(lambda x, b: jax.jvp(gradient, (x, b), (v, b_dot)))(x, beta)[1]
        else:
            along = lambda x, b: jnp.vdot(v, gradient(x, b)[0]) + b_dot * gradient(x, b)[1]  # noqa: E731
            found = jax.jit(jax.grad(along, (0, 1)))(x, beta)
        for a, e in zip(found, expected, strict=True):
            tolerance.check(a, e, np.float64, tolerance.SLOPES, how, scale=np.abs(e).max())


def test_forward_through_what_it_settles_to():
    s, x = problem(1)
    g, v = inputs.cotangent((N, D), 3).astype(np.float32), inputs.cotangent((M, D), 4).astype(np.float32)
    by_x, by_beta = settled_bars(g, s, x, 2.0)
    f = lambda x, b: jnp.vdot(g, retrieve(s, x, beta=b, steps=None))  # noqa: E731
    with jsoftmax.forward_mode():
        moved = jax.jit(lambda *a: jax.jvp(f, *a)[1])((x, 2.0), (v, 0.3))
    tolerance.check(moved, np.vdot(by_x, v) + 0.3 * by_beta, np.float32, SETTLED, "forward", scale=1.0)


@pytest.mark.slow
def test_forward_and_second_order_through_steps():
    s, x = problem()
    f = lambda s: retrieve(s, x, beta=2.0, steps=2)[0].sum()  # noqa: E731
    with jsoftmax.forward_mode():
        forward = jax.jacfwd(f)(jnp.asarray(s))
    verify.assert_same(forward, bars(lambda s: stepped(s, x, 2.0, 2)[0].sum(), 1.0, s)[0], GRADIENT, "forward")
    h = 1e-5
    slope = lambda s: bars(lambda s: stepped(s, x, 2.0, 2)[0].sum(), 1.0, s)[0]  # noqa: E731
    expected = (slope(np.float64(s) + h) - slope(np.float64(s) - h)) / (2 * h)
    found = jax.jit(lambda s: jax.jvp(jax.grad(f), (s,), (jnp.ones_like(s),))[1])(s)
    verify.assert_same(found, expected, tolerance.SECOND_ORDER, "second order")


# edges -------------------------------------------------------------------------------------------------------------


def test_hard_retrieval():
    """The pattern with the largest inner product at inf, the smallest at −inf; of ties the mean. The patterns have a
    gradient, β and the state none."""
    s, x = problem()
    z = s @ x.T
    g = inputs.cotangent((N, D), 3).astype(np.float32)
    f = lambda s, x, b: retrieve(s, x, beta=b)  # noqa: E731
    for beta, chosen in ((np.inf, z.argmax(-1)), (-np.inf, z.argmin(-1))):
        found = value_and_bars(f, g, s, x, np.float32(beta))
        assert np.array_equal(found[0], x[chosen]) and not np.any(found[1]) and found[3] == 0
        verify.assert_same(found[2], np.eye(M)[:, chosen] @ g, VALUE, "patterns")
    end = x[z.argmax(-1)]
    while np.any(end != x[(end @ x.T).argmax(-1)]):
        end = x[(end @ x.T).argmax(-1)]
    assert np.array_equal(retrieve(s, x, beta=jnp.inf, steps=None), end)
    tied = np.array([[1, 1, -1], [1, -1, 1], [-1, -1, -1]], np.float32)
    assert np.array_equal(retrieve(np.float32([1, 0, 0]), tied, beta=np.inf, steps=None), [1, 0, 0])
    assert np.array_equal(retrieve(np.float32([1, 0, 0]), tied, beta=-np.inf), [-1, -1, -1])


@pytest.mark.parametrize("steps", [slow(1), None])
def test_the_mean_at_0_and_one_pattern(steps):
    s, x = problem()
    verify.assert_same(
        retrieve(s, x, beta=0.0, steps=steps), np.broadcast_to(np.float64(x).mean(0), (N, D)), VALUE, "mean"
    )
    for beta in (-np.inf, -3.0, 0.0, 2.0, np.inf):
        assert np.array_equal(retrieve(s, x[:1], beta=beta, steps=steps), np.broadcast_to(x[:1], (N, D)))


@pytest.mark.parametrize("steps", [slow(2), None])
def test_a_pattern_that_is_left_out_may_hold_anything(steps):
    """No bit of value or gradient changes; a state that does see it is NaN, alone."""
    s, x = problem()
    v, g = inputs.cotangent((M, E), 2).astype(np.float32), inputs.cotangent((N, E), 3).astype(np.float32)

    @jax.jit
    def everything(x, v, where):
        f = lambda s, x, v, b: retrieve(s, x, values=v, beta=b, steps=steps, where=where)  # noqa: E731
        e = lambda s, x, b: energy(s, x, beta=b, where=where)  # noqa: E731
        return *value_and_bars(f, g, s, x, v, np.float32(2)), *value_and_bars(e, g[:, 0], s, x, np.float32(2))

    where = np.broadcast_to(np.arange(M) != 2, (N, M))
    seen = where.copy()
    seen[1, 2] = True
    clean = [np.asarray(part) for part in everything(x, v, where)]
    assert not np.any(clean[2][2]) and not np.any(clean[3][2]) and not np.any(clean[7][2])
    for payload in (np.nan, np.inf, -np.inf):
        bad_x, bad_v = x.copy(), v.copy()
        bad_x[2, 1], bad_v[2] = payload, payload
        for a, b in zip(everything(bad_x, bad_v, where), clean, strict=True):
            assert np.array_equal(a, b)
        for given in ((bad_x, v), (x, bad_v)):
            value, low = (np.asarray(everything(*given, seen)[i]) for i in (0, 5))
            assert np.isnan(value[1]).all() and np.array_equal(value[::2], clean[0][::2])
            assert np.isnan(low[1]) == (given[0] is bad_x) and np.array_equal(low[::2], clean[5][::2])


@pytest.mark.parametrize("steps", [slow(1), None])
def test_a_mask_leaves_the_other_patterns(steps):
    """Also if the longest is left out."""
    s, x = problem()
    x[1] *= 3
    where = np.array([True, False, True, True, False, True])
    for beta in (2.0, -1.0, 0.0, np.inf):
        found = retrieve(s, x, beta=beta, steps=steps, where=where)
        verify.assert_same(found, np.float64(retrieve(s, x[where], beta=beta, steps=steps)), GRADIENT, "retrieval")
        found = energy(s, x, beta=beta, where=where)
        verify.assert_same(found, np.float64(energy(s, x[where], beta=beta)), GRADIENT, "energy")


@pytest.mark.parametrize("steps", [slow(2), None])
def test_no_pattern_left(steps):
    s, x = problem()
    where = np.arange(N)[:, None] != 1
    g = jnp.ones((N, D))
    f = lambda s, x, b: retrieve(s, x, beta=b, steps=steps, where=where)  # noqa: E731
    value, s_bar, x_bar, b_bar = value_and_bars(f, g, s, x, np.float32(2))
    assert not np.any(value[1]) and np.all(value[0] != 0) and not np.any(s_bar[1])
    assert np.isfinite(x_bar).all() and np.isfinite(b_bar)
    assert [float(energy(s, x, beta=b, where=where)[1]) for b in (2.0, np.inf, -2.0)] == [np.inf, np.inf, -np.inf]
    bars = jax.jit(jax.grad(lambda s, x: jnp.sum(energy(s, x, beta=2.0, where=where)[::2]), (0, 1)))(s, x)
    assert all(np.isfinite(bar).all() for bar in bars) and not np.any(bars[0][1])
    assert not np.any(retrieve(s, x[:0], beta=2.0, steps=steps))


@pytest.mark.slow
def test_states_do_not_depend_on_each_other():
    """One of them settles late; alone each gets the same bits, also of its gradient."""
    s, x = problem(1, n=5)
    beta = np.array([1.0, 0.1, 5.0, 0.6, np.inf], np.float32)
    g = inputs.cotangent((5, D), 3).astype(np.float32)
    f = lambda s, x, b: retrieve(s, x, beta=b, steps=None)  # noqa: E731
    value, pull = jax.vjp(f, s, x, beta)
    changed = np.where(np.arange(5)[:, None] == 0, np.float32(7), s)
    other, pull_other = jax.vjp(f, changed, x, beta)
    assert np.array_equal(value[1:], other[1:])
    assert np.array_equal(pull(g)[2][1:], pull_other(g)[2][1:])


@pytest.mark.parametrize("steps", [slow(2), None])
def test_half_precision_is_float32_inside(steps):
    s, x = (a.astype(ml_dtypes.bfloat16) for a in problem())
    found = retrieve(s, x, beta=2.0, steps=steps)
    expected = retrieve(s.astype(np.float32), x.astype(np.float32), beta=2.0, steps=steps)
    assert found.dtype == s.dtype and np.array_equal(found, expected.astype(ml_dtypes.bfloat16))
    total = lambda s, x: retrieve(s, x, beta=2.0, steps=steps).astype(jnp.float32).sum()  # noqa: E731
    assert all(bar.dtype == s.dtype for bar in jax.jit(jax.grad(total, (0, 1)))(s, x))
    low = energy(s, x, beta=2.0)
    assert low.dtype == np.float32
    assert np.array_equal(low, energy(s.astype(np.float32), x.astype(np.float32), beta=2.0))


@pytest.mark.slow
def test_float64_and_integers():
    s, x = problem(1, np.float64)
    with jax.enable_x64(True):
        found = retrieve(s, x, beta=2.0, steps=None)
        tolerance.check(found, settled(s, x, 2.0), np.float64, SETTLED, "settled", scale=np.abs(x).max())
        found = energy(s, x, beta=2.0)
        tolerance.check(found, exact_energy(s, x, 2.0), np.float64, GRADIENT, "energy", scale=np.abs(x).max())
    whole = np.sign(x).astype(np.int8)
    found = retrieve(whole[:N], whole, beta=0.5)
    assert found.dtype == np.float32
    verify.assert_same(found, stepped(whole[:N], whole, 0.5), VALUE, "integers")
    assert energy(whole[:N], whole, beta=1).dtype == np.float32


@pytest.mark.parametrize("steps", [slow(2), None])
def test_transformations(steps):
    """Under vmap, with two leading axes, one state alone; a new β compiles nothing."""
    s, x = problem()
    f = functools.partial(retrieve, steps=steps)
    expected = np.float64(f(s, x, beta=2.0))
    verify.assert_same(jax.vmap(lambda s: f(s, x, beta=2.0))(s), expected, SETTLED, "vmap over states")
    verify.assert_same(f(s[None], x, beta=np.full((1, N), 2.0)), expected[None], SETTLED, "two axes")
    verify.assert_same(f(s[0], x, beta=2.0), expected[0], SETTLED, "one")
    programs = modern_hopfield._retrieve._cache_size(), modern_hopfield._energy._cache_size()
    energy(s, x, beta=2.0)
    for beta in (0.5, 1, np.inf, np.float32(-3), jnp.float32(4)):
        f(s, x, beta=beta), energy(s, x, beta=beta)
    # an array of NumPy's and one of JAX's
    assert modern_hopfield._retrieve._cache_size() <= programs[0] + 1
    assert modern_hopfield._energy._cache_size() <= programs[1] + 2


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, None])
def test_gradients_under_vmap_over_patterns(steps):
    s, x = problem()
    both = jax.vmap(jax.grad(lambda x, s: retrieve(s, x, beta=2.0, steps=steps).sum()))(
        np.stack([x, -x]), np.stack([s, -s])
    )
    verify.assert_same(both[0], np.float64(both[1]), SETTLED, "vmap over patterns")  # that of an odd function is even


@pytest.mark.parametrize("check_vma", [True, slow(False)])
def test_states_on_several_devices(check_vma):
    s, x = problem(1, n=4)
    g = inputs.cotangent((4, D), 3).astype(np.float32)
    here = lambda s, x, b: retrieve(s, x, beta=b, steps=None)  # noqa: E731
    mesh, spread, whole = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,)), P("data"), P()
    there = jax.shard_map(here, mesh=mesh, in_specs=(spread, whole, whole), out_specs=spread, check_vma=check_vma)
    value, s_bar, *found = value_and_bars(there, g, s, x, np.float32(2))
    assert not np.any(s_bar)
    verify.assert_same((value, *found), (settled(s, x, 2.0), *settled_bars(g, s, x, 2.0)), SETTLED, "devices")


@pytest.mark.slow
def test_attention_is_one_step():
    """Keys and values, by jax.nn's attention."""
    s, x = problem()
    attended = jax.nn.dot_product_attention(s[:, None], x[:, None], x[:, None], scale=2.0)[:, 0]
    verify.assert_same(retrieve(s, x, beta=2.0), np.float64(attended), GRADIENT, "attention")


@pytest.mark.parametrize("steps", [slow(1), None])
def test_nothing_of_the_size_of_all_differences_is_saved(steps):
    s, x = problem(m=30, d=20, n=10)
    saving = (
        lambda s, x: jax.vjp(lambda s, x: energy(s, x, beta=1.0), s, x)[1],
        lambda s, x: jax.vjp(lambda s, x: retrieve(s, x, beta=1.0, steps=steps), s, x)[1],
    )
    for f in saving:
        saved = jax.tree.leaves(jax.eval_shape(f, s, x))
        assert max(leaf.size for leaf in saved) <= 30 * 20
