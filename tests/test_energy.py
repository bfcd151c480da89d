"""Boltzmann's distribution, free energy, entropy and divergence beside their definitions in 400-digit arithmetic."""

import functools
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from mpmath import mp, mpf

import jsoftmax
from tests import oracle, tolerance, verify
from tests.marks import fast, slow

COMPILE_LIGHTLY = "fast lane"
ENTROPY, DIVERGENCE = tolerance.Bound(8, 2), tolerance.Bound(24, 4)
GRADIENT, SLOPE = tolerance.Bound(32, 4), tolerance.Bound(48, 6)
UNIT = tolerance.Bound(6, 2)  # β ΔE rounds
BETAS = (1.0, 0.37, -1.3, 7.5)
INF, NAN = np.inf, np.nan
kl = jsoftmax.kl_divergence


# definitions -------------------------------------------------------------------------------------------------------


def of_row(x, beta, where=None):
    """(p, log p) of one row, of mpf."""
    given = np.asarray(x, object)[None]
    where = True if where is None else np.asarray(where)[None]
    return [f.exact(given, beta=beta, where=where)[0].tolist() for f in (oracle.softmax, oracle.log_softmax)]


def mean(p, v):
    return mp.fsum(a * b for a, b in zip(p, v, strict=True) if a != 0)


def exact_entropy(x, beta, where=None):
    """H and its derivatives: −β p (log p + H), −β Var[x]."""
    p, log_p = of_row(x, beta, where)
    h, ex = -mean(p, log_p), mean(p, x)
    x_bar = [mpf(0) if a == 0 else -beta * a * (b + h) for a, b in zip(p, log_p, strict=True)]
    return {"value": h, "x": x_bar, "beta": -beta * mean(p, [(v - ex) ** 2 for v in x])}


def exact_divergence(x, y, beta, where=None):
    """KL and its derivatives, of rows where q has what p has."""
    (p, log_p), (q, log_q) = of_row(x, beta, where), of_row(y, beta, where)
    u = [a - b if w != 0 else mpf(0) for w, a, b in zip(p, log_p, log_q, strict=True)]
    h, ex = mean(p, u), mean(p, x)
    beta_bar = mean(p, [(a - ex) * b for a, b in zip(x, u, strict=True)]) + mean(q, y) - mean(p, y)
    return {
        "value": h,
        "x": [beta * a * (b - h) for a, b in zip(p, u, strict=True)],
        "y": [beta * (b - a) for a, b in zip(p, q, strict=True)],
        "beta": beta_bar,
    }


def rounded(found):
    return {k: np.float64([float(v) for v in a]) if isinstance(a, list) else np.float64(a) for k, a in found.items()}


def exact_rows(f, arrays, beta, where=None):
    """Of all rows, in float64; objects of mpmath of any precision go in."""
    with mp.workdps(400):  # of two means of some 80 is left what is 1e-142
        found = []
        for i in range(len(arrays[0])):
            rows = [oracle.to_mpf(a[i]).tolist() for a in arrays]
            found.append(rounded(f(*rows, mpf(float(beta)), None if where is None else where[i])))
    return {k: np.stack([row[k] for row in found]) for k in found[0]}


@functools.cache
def compiled(f, masked):
    """(β one a row, mask, cotangent, arrays) → (values, cotangents)."""

    def bars(rows, where, g, *arrays):
        y, pull = jax.vjp(lambda b, *a: f(*a, beta=b, **({"where": where} if masked else {})), rows, *arrays)
        return y, pull(g.astype(y.dtype))

    return jax.jit(bars)


def value_and_bars(f, arrays, beta, g, where=None):
    """(values, {argument: cotangent for g}); β one a row."""
    rows = jnp.full(len(arrays[0]), beta, arrays[0].dtype)
    y, (beta_bar, *rest) = compiled(f, where is not None)(rows, where, g, *arrays)
    return y, dict(zip(("x", "y"), rest, strict=False)) | {"beta": beta_bar}


def gaps(z, beta, where=True):
    """|β (z − m)|, 0 where absent."""
    live = np.isfinite(z) & where
    t = beta * np.where(live, z, NAN).astype(np.float64)
    return np.where(live, np.nanmax(t, -1, keepdims=True) - t, 0)


def check_rows(f, exact, arrays, beta, where=None, bound=DIVERGENCE):
    """Values relative to themselves, cotangents to the largest of their row, that of β to its terms."""
    dtype, g = arrays[0].dtype, np.linspace(0.5, 1.5, len(arrays[0]))
    expected = exact_rows(exact, arrays, beta, where)
    what = f"{f.__name__} at β = {beta}"
    y, bars = value_and_bars(f, arrays, beta, g, where)
    # which gaps make a sum: those of what it is the sum of, and no smaller term counts
    gap = sum(gaps(a, beta, True if where is None else where) for a in arrays)
    terms = np.abs(expected["x"]) + 1e-300
    typical = (gap * terms).sum(-1) / terms.sum(-1)
    tolerance.check(y, expected["value"], dtype, bound, f"{what}: value", gap=typical + 1)
    for name in ("x", "y")[: len(arrays)]:
        wanted = g[:, None] * expected[name]
        scale = np.abs(wanted).max(-1, keepdims=True)
        tolerance.check(bars[name], wanted, dtype, GRADIENT, f"{what}: {name}", scale=scale, gap=typical[:, None] + 1)
    spread = np.abs(expected["x"]) * gaps(arrays[0], beta, True if where is None else where) / beta**2
    scale = np.abs(g * expected["beta"]) + (
        g * np.abs(expected["value"]) / abs(beta) if len(arrays) > 1 else spread.sum(-1)
    )
    tolerance.check(bars["beta"], g * expected["beta"], dtype, SLOPE, f"{what}: β", scale=scale, gap=typical + 1)


# entropy -----------------------------------------------------------------------------------------------------------

CONFIDENT = np.array([[0, -40, -41, -60], [-30, 0, -17, -80], [-5, -9, 0, -20], [3, 3, 3, 3]], np.float32)
PLAIN = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32) * 3


@pytest.mark.parametrize("beta", BETAS)
def test_entropy_and_its_gradient(beta):
    for x in (CONFIDENT, PLAIN, PLAIN + np.float32(1e4)):
        check_rows(jsoftmax.entropy, exact_entropy, [jnp.asarray(x)], np.float32(beta), bound=ENTROPY)


def test_entropy_of_a_confident_row_is_not_zero():
    h = jsoftmax.entropy(jnp.array([0.0, -40.0]))
    tolerance.check(h, np.float64(41 * math.exp(-40)), np.float32, ENTROPY, "41 e^-40")
    assert jax.nn.softmax(jnp.array([0.0, -40.0]))[0] == 1, "which has forgotten it"


def test_entropy_at_its_limits():
    x = jnp.array([1.0, 3.0, 3.0, -INF, 0.0])
    log = lambda n: np.float64(np.log(np.float32(n)))  # noqa: E731
    value_and_slopes = jax.jit(jax.value_and_grad(lambda x, b: jsoftmax.entropy(x, beta=b), (0, 1)))
    for beta, ties in ((0.0, 4), (INF, 2), (-INF, 1)):
        found, (x_bar, beta_bar) = value_and_slopes(x, beta)
        tolerance.check(found, log(ties), np.float32, ENTROPY, f"{ties} ties")
        assert not x_bar.any() and beta_bar == 0
    where = np.array([True, True, False, True, True])
    value, bar = jax.value_and_grad(lambda x: jsoftmax.entropy(x, where=where))(x.at[2].set(NAN))
    assert value == value_and_slopes(x.at[2].set(-INF), 1.0)[0] and bar[2] == 0 and np.isfinite(bar).all()
    empty, bars = value_and_slopes(jnp.full(5, -INF), 1.0)
    assert empty == 0 and not bars[0].any()
    for given in ((x.at[0].set(INF), 1.0), (x, NAN)):
        assert np.isnan(value_and_slopes(*given)[0])
    assert jsoftmax.entropy(jnp.zeros((2, 0))).tolist() == [0, 0]


# divergence --------------------------------------------------------------------------------------------------------


def near(x, size, offset=0.0):
    """The same logits but for noise, and an offset that softmax does not see."""
    noise = np.random.default_rng(1).standard_normal(x.shape) * size
    return jnp.asarray((x + noise + offset).astype(x.dtype))


@pytest.mark.parametrize("beta", [b if b in (1.0, -1.3) else slow(b) for b in BETAS])
@pytest.mark.parametrize(
    "size",
    [1e-6, slow(1e-4), slow(1e-2), 1.0, 30.0],
    ids=lambda size: f"{size:g} apart",
)
def test_divergence_and_its_gradients(size, beta):
    for x in (PLAIN, CONFIDENT):
        check_rows(kl, exact_divergence, [jnp.asarray(x), near(x, size)], np.float32(beta))


def test_divergence_does_not_see_an_offset():
    """Of one of the two: x in steps of 2^-10, y of 2^-14, so that x + 2^13 − y is no number of float32."""
    x = np.round(PLAIN * 2**10) / np.float32(2**10)
    y = np.float32(x + np.random.default_rng(2).integers(-30, 31, x.shape) / np.float32(2**14))
    assert np.any(np.float64(x + np.float32(2**13) - y) != np.float64(x) + 2**13 - np.float64(y))
    assert np.array_equal(kl(x + np.float32(2**13), y), kl(x, y))
    assert np.array_equal(kl(y, x + np.float32(2**13)), kl(y, x))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0, -40], [0, -41]),
        ([0, -30], [0, -100]),  # q underflows where p counts
        ([0, -80], [0, -80.6]),
        slow([0, 0.1, -50], [1e-5, 0.1, -80]),  # near where both are large, far in the tail
        slow([0, -60, -2], [-60, 0, -2]),  # far everywhere
    ],
    ids=str,
)
def test_divergence_of_confident_rows(x, y):
    check_rows(kl, exact_divergence, [jnp.array([x], jnp.float32), jnp.array([y], jnp.float32)], np.float32(1))


@pytest.mark.slow
def test_in_float64():
    with jax.enable_x64(True):
        for beta in BETAS:
            for x in (np.float64(PLAIN), np.float64(CONFIDENT)):
                check_rows(jsoftmax.entropy, exact_entropy, [jnp.asarray(x)], np.float64(beta), bound=ENTROPY)
                for size in (1e-12, 1e-6, 1e-2, 30):
                    check_rows(kl, exact_divergence, [jnp.asarray(x), near(x, size)], np.float64(beta))


def test_divergence_is_never_negative_and_zero_for_equals(rng):
    """Where two cross-entropies differ by noise of both signs."""
    x = rng.standard_normal((64, 9)).astype(np.float32) * 5
    for size in (1e-7, 1e-6, 1e-5, 1e-3, 1):
        assert np.all(np.asarray(kl(x, near(x, size))) >= 0)
    naive = jax.jit(lambda x, y: jnp.sum(jax.nn.softmax(x) * (jax.nn.log_softmax(x) - jax.nn.log_softmax(y)), -1))
    assert (naive(x, near(x, 1e-5)) < 0).any()
    value, bars = jax.jit(lambda x, y: (kl(x, y), jax.vjp(kl, x, y)[1](jnp.ones(64))))(x, x)
    assert not value.any() and not any(bar.any() for bar in bars)


def test_divergence_of_supports():
    """0 · log 0 = 0, +∞ where q has not what p has; of β = 0 and ±∞ the supports that are left."""
    x = jnp.array([1.0, -INF, 2.0, 0.0])
    y = jnp.array([1.0, 5.0, 2.0, 0.0])
    log = lambda v: np.float64(np.log(np.float32(v)))  # noqa: E731
    found = jax.jit(jax.value_and_grad(lambda p, q, b: kl(p, q, beta=b), (0, 1, 2)))
    value, (x_bar, y_bar, _) = found(x, y, 1.0)
    lost = float(-np.log1p(-float(jsoftmax.softmax(y)[1])))
    tolerance.check(value, np.float64(lost), np.float32, DIVERGENCE, "conditioned", gap=4.0)
    assert np.isfinite(x_bar).all() and np.isfinite(y_bar).all() and x_bar[1] == 0 and y_bar[1] > 0.9
    value, (x_bar, y_bar, slope) = found(y, x, 1.0)
    assert value == INF and not x_bar.any()
    tolerance.check(
        y_bar, np.float64(jsoftmax.softmax(x) - jsoftmax.softmax(y)), np.float32, GRADIENT, "limit", scale=1
    )
    assert slope == 0
    for beta, p, q, wanted in (
        (0.0, x, y, log(4 / 3)),
        (0.0, y, x, INF),
        (INF, [1, 2, 0, 0], [2, 2, 0, 1], log(2)),
        (INF, [2, 2, 0, 0], [1, 2, 0, 0], INF),
        (-INF, [1, 2, 0, 3], [9, 2, 1, 3], 0),
        (-INF, [1, 2, 0, 3], [0, 2, 1, 3], INF),
    ):
        p, q = jnp.asarray(p, jnp.float32), jnp.asarray(q, jnp.float32)
        value, bars = found(p, q, beta)
        if np.isfinite(wanted):
            tolerance.check(value, np.float64(wanted), np.float32, DIVERGENCE, f"β = {beta}")
        else:
            assert value == wanted
        assert not bars[0].any() and not bars[1].any(), "at β = 0 and ±∞ nothing moves"
        # by β at 0 the mean of y over q minus that over p: 8/4 − 3/3
        slope = np.float64((beta, wanted) == (0, log(4 / 3)))
        tolerance.check(bars[2], slope, np.float32, SLOPE, f"slope at β = {beta}", scale=slope)


def test_divergence_of_empty_and_poisoned_rows():
    nothing, some, one = np.float32([[-INF] * 3, [1, 2, 0], [1] * 3])

    @jax.jit
    def of_rows(p, q, beta):
        value, pull = jax.vjp(lambda p, q, b: kl(p, q, beta=b), p, q, beta)
        return value, pull(one)

    value, bars = of_rows(np.stack([nothing, nothing, some]), np.stack([some, nothing, nothing]), one)
    assert value.tolist() == [0, 0, INF] and all(np.isfinite(bar).all() for bar in bars)
    assert not any(np.any(bar[:2]) for bar in bars)
    assert kl(jnp.zeros((2, 0)), jnp.zeros((2, 0))).tolist() == [0, 0]
    for bad in (NAN, INF):
        x = np.stack([some, some, some])
        y = x.copy()
        x[1, 0] = bad
        for p, q in ((x, y), (y, x)):
            value, (p_bar, q_bar, _) = jax.device_get(of_rows(p, q, one))
            assert np.isfinite(value[::2]).all() and np.isnan(value[1])
            assert np.isfinite(p_bar[::2]).all() and np.isfinite(q_bar[::2]).all() and np.isnan(p_bar[1]).all()
    assert np.isnan(of_rows(y, y, NAN * one)[0]).all()


@pytest.mark.parametrize("payload", [NAN, INF, -INF, 3e38, 1e-40])
def test_masked_content_leaks_nowhere(payload):
    where = np.array([True, False, True, True])
    g = np.linspace(1, 2, 4).astype(np.float32)
    y = near(PLAIN, 0.3)

    def everything(v):
        p, q = (jnp.where(where, a, jnp.float32(v)) for a in (PLAIN, y))
        one = value_and_bars(kl, [p, q], 1.5, g, where=where)
        return jax.tree.leaves((one, value_and_bars(jsoftmax.entropy, [p], 1.5, g, where=where)))

    for a, e in zip(everything(payload), everything(-INF), strict=True):
        assert np.array_equal(a, e) and np.isfinite(a).all()


def test_huge_logits():
    x = jnp.array([3e38, -3e38, 0.0])
    assert np.isfinite(jsoftmax.entropy(x)) and np.isfinite(jax.grad(jsoftmax.entropy)(x)).all()
    value, bars = jax.value_and_grad(kl, (0, 1))(x, -x)
    assert value == INF and np.isfinite(bars[0]).all()
    tolerance.check(bars[1], np.float64([-1, 1, 0]), np.float32, GRADIENT, "limit", scale=1)
    value = kl(x / 3, -x / 3)  # 2e38, which is a number
    tolerance.check(value, np.float64(np.float32(1e38)) * 2, np.float32, DIVERGENCE, "large")


# derivatives of the derivatives --------------------------------------------------------------------------------------


@functools.cache
def moved(f, count):
    """(point, tangents) → derivative of the cotangents of `count` arguments, the last of them β."""
    bars = jax.grad(lambda *a: jnp.float32(1.7) * f(*a[:-1], beta=a[-1]), tuple(range(count)))
    return jax.jit(lambda point, tangents: jax.jvp(bars, point, tangents)[1])


def check_second(f, exact, arrays, beta):
    """Derivatives of all cotangents along random directions, beside difference quotients of 60-digit ones."""
    rng, names = np.random.default_rng(3), (*("x", "y")[: len(arrays)], "beta")
    g = np.float32(1.7)
    point = (*(jnp.asarray(a) for a in arrays), jnp.float32(beta))

    def of_exact(**given):
        found = exact(*(given[k].tolist() for k in names[:-1]), np.asarray(given["beta"]).item())
        return {k: np.asarray(mpf(float(g)) * np.asarray(found[k], object), object) for k in names}

    for i, along in enumerate(names):
        v = rng.standard_normal(point[i].shape).astype(np.float32)
        tangents = tuple(jnp.asarray(v) if k == i else jnp.zeros_like(a) for k, a in enumerate(point))
        found = moved(f, len(point))(point, tangents)
        given = dict(zip(names, map(np.asarray, point), strict=True))
        with mp.workdps(60):
            expected = oracle.rounded(oracle.directional(of_exact, given, {along: v}))
        for name, a in zip(names, found, strict=True):
            e = np.float64(np.asarray(expected[name]))
            what = f"{f.__name__}: derivative of {name} along {along}"
            scale = np.abs(e).max() + float(g) * np.abs(v).max() * 2.0**-10
            tolerance.check(a, e, np.float32, tolerance.SECOND_ORDER, what, scale=scale, gap=8.0)


@pytest.mark.parametrize("size", [1e-3, 0.4, 5.0])
def test_second_order_of_the_divergence(size):
    check_second(kl, exact_divergence, [PLAIN[0], near(PLAIN[0], size)], 0.8)


def test_slope_of_the_entropy_ends_before_the_largest_number():
    """−β Var x is −2.2e34 here, and further derivatives would leave the range."""
    x = np.array([3e38, -3e38, 3e38], np.float32)
    found = jax.grad(lambda beta: jsoftmax.entropy(x, beta=beta))(jnp.float32(2e-38))
    end = -np.finfo(np.float32).max * 2.0**-32
    tolerance.check(found, np.float64(end), np.float32, tolerance.Bound(4), "slope")


def test_second_order_of_the_entropy():
    check_second(jsoftmax.entropy, exact_entropy, [PLAIN[1]], 0.8)
    check_second(jsoftmax.entropy, exact_entropy, [np.float32([2, 2, 0, 1])], 1.0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y, b: kl(x, y, beta=b),
        slow(lambda x, y, b: jsoftmax.entropy(x, beta=b) + jsoftmax.free_energy(y, beta=b)),
        lambda x, y, b: jsoftmax.bernoulli_unit(x, beta=b) * jsoftmax.boltzmann(y, beta=b),
    ],
    ids=["divergence", "entropy and free energy", "unit and Boltzmann"],
)
def test_forward_mode(f):
    y, v = near(PLAIN, 0.2), np.float32(np.random.default_rng(4).standard_normal((2, 4, 4)))
    point, along = (jnp.asarray(PLAIN), y, jnp.float32(1.2)), (v[0], v[1], np.float32(0.3))
    shape = jax.eval_shape(f, *point).shape
    g = np.linspace(-1, 1, math.prod(shape)).reshape(shape).astype(np.float32)
    value, bars = jax.jit(lambda *a: (f(*a), jax.vjp(f, *a)[1](g)))(*point)
    wanted = sum(np.vdot(np.float64(a), np.float64(b)) for a, b in zip(bars, along, strict=True))
    with jsoftmax.forward_mode():
        same, moved = jax.jit(functools.partial(jax.jvp, f))(point, along)
    verify.assert_same(same, value, tolerance.Bound(8), "value")
    tolerance.check(jnp.vdot(g, moved), np.float64(wanted), np.float32, SLOPE, "jvp", scale=np.abs(g).sum() * 4)


# energies ----------------------------------------------------------------------------------------------------------

ENERGIES = np.float32([[0.3, -1.2, 2.0, INF, 0.7], [1e4, 1e4 + 1, 1e4 - 2, 1e4, INF], [0, 40, 80, 41, 60]])


@jax.jit
def boltzmann_and_free_energy(e, where, beta, g, w):
    """p and F, the cotangent of the energies for g of p, that for w of F where it is finite."""
    p, of_p = jax.vjp(lambda e: jsoftmax.boltzmann(e, -1, where, beta=beta), e)

    def finite(e):
        f = jsoftmax.free_energy(e, where=where, beta=beta)
        return jnp.vdot(w, jnp.where(jnp.isfinite(f), f, 0)), f

    rows, f = jax.grad(finite, has_aux=True)(e)
    return p, f, of_p(g)[0], rows


@pytest.mark.parametrize("beta", [1.0, 0.3, -2.0, 0.0, INF, -INF])
def test_boltzmann_and_free_energy(beta):
    where = np.array([True, True, False, True, True])
    logits = -np.float64(ENERGIES)
    g, w = np.random.default_rng(5).standard_normal((2, *ENERGIES.shape)).astype(np.float32)

    p, f, pulled, rows = boltzmann_and_free_energy(ENERGIES, where, beta, g, w[:, 0])
    wanted = oracle.softmax(logits, where=where, beta=beta)
    size = 2 * abs(beta) * 80 if np.isfinite(beta) else 0
    tolerance.check(p, wanted, np.float32, tolerance.VALUE["softmax"], "p", gap=size)
    assert np.all(np.asarray(p)[:, 2] == 0) and p[0, 3] == 0 and p[1, 4] == 0
    free = -oracle.logsumexp(logits, where=where, beta=beta)
    if beta == 0:
        assert np.all(f == -INF)
    else:
        tolerance.check(f, free, np.float32, tolerance.VALUE["logsumexp"], "F", scale=np.abs(free) + 2, gap=8.0)
    bar = -oracle.softmax_vjp(g, logits, where=where, beta=beta)["x"]
    tolerance.check(
        pulled, bar, np.float32, GRADIENT, "p's gradient", scale=np.abs(bar).max(-1, keepdims=True), gap=size
    )
    assert np.all(np.asarray(pulled)[:, 2] == 0)
    if beta:
        expected = np.float64(w[:, :1]) * wanted  # (∂F/∂E = p)
        tolerance.check(rows, expected, np.float32, GRADIENT, "∂F/∂E", scale=np.abs(w[:, :1]), gap=4.0)


@pytest.mark.parametrize("beta", [1.0, 0.3, -2.0])
def test_free_energy_by_temperature(beta):
    """∂F/∂β = H/β² and −∂F/∂T = H."""
    rows = jnp.asarray(ENERGIES)
    h = -np.nansum(np.where(ENERGIES < INF, of_energies(beta), 0), -1)
    for given, slope in (({"beta": beta}, h / beta**2), ({"temperature": 1 / beta}, -h)):
        ((kind, value),) = given.items()
        each = jnp.full(3, value, jnp.float32)
        found = jax.grad(lambda v, k=kind: jsoftmax.free_energy(rows, **{k: v}).sum())(each)
        scale = np.abs(slope) + np.float64([1, 1, 0]) * 1e-7
        tolerance.check(found, slope, np.float32, SLOPE, f"by {kind}", scale=scale, gap=80.0)


def of_energies(beta):
    p, log_p = (f(-np.float64(ENERGIES), beta=beta) for f in (oracle.softmax, oracle.log_softmax))
    return np.where(p == 0, 0, p * np.where(p == 0, 0, log_p))


def test_free_energy_at_its_limits():
    e = jnp.array([3.0, 1.0, 2.0, INF])
    assert [jsoftmax.free_energy(e, temperature=t) for t in (0.0, -0.0)] == [1, 1]
    assert jsoftmax.free_energy(e, beta=-INF) == 3 and jsoftmax.free_energy(e, beta=0.0) == -INF
    assert jsoftmax.free_energy(e[:1], beta=0.0) == 3 and jsoftmax.free_energy(e[:1], temperature=INF) == 3
    nothing = jnp.full(4, INF)
    assert jsoftmax.free_energy(nothing) == INF and jsoftmax.free_energy(nothing, beta=-1.0) == -INF
    assert not jax.grad(jsoftmax.free_energy)(nothing).any() and not jsoftmax.boltzmann(nothing).any()
    assert np.isnan(jsoftmax.boltzmann(jnp.array([0.0, -INF, 1.0, 2.0]))).all()


@pytest.mark.parametrize("dtype", [np.uint8, slow(np.int8)])
def test_integers_without_a_negative(dtype):
    e = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 3], dtype)
    assert np.array_equal(jsoftmax.boltzmann(e, beta=0.01), jsoftmax.boltzmann(e.astype(np.float32), beta=0.01))
    assert jsoftmax.free_energy(e, temperature=0.0) == np.iinfo(dtype).min


# a unit ------------------------------------------------------------------------------------------------------------

GAPS = np.float32([-80, -30, -5, -1, -1e-3, 0, 1e-3, 2, 9, 50, 85])


@pytest.mark.parametrize("beta", [1.0, 0.3, -1.7, 0.0])
def test_unit_and_its_gradient(beta):
    g = np.linspace(0.5, 1.5, len(GAPS)).astype(np.float32)
    wide = np.float32(beta)
    with mp.workdps(60):
        v = [mpf(float(gap)) for gap in GAPS]
        b = mpf(float(wide))
        p = np.float64([float(1 / (1 + mp.exp(-b * x))) for x in v])
        pq = np.float64([float(1 / (1 + mp.exp(-b * x)) / (1 + mp.exp(b * x))) for x in v])
    each = jnp.full(len(GAPS), wide)
    value, pull = jax.vjp(lambda x, b: jsoftmax.bernoulli_unit(x, beta=b), jnp.asarray(GAPS), each)
    gap_bar, beta_bar = pull(jnp.asarray(g))
    size = np.abs(beta * np.float64(GAPS))
    tolerance.check(value, p, np.float32, UNIT, "p", gap=size)
    tolerance.check(gap_bar, np.float64(g) * float(wide) * pq, np.float32, UNIT, "by the gap", gap=2 * size)
    tolerance.check(beta_bar, np.float64(g) * np.float64(GAPS) * pq, np.float32, UNIT, "by β", gap=2 * size, floor=100)
    whole = jax.grad(lambda b: jnp.vdot(g, jsoftmax.bernoulli_unit(GAPS, beta=b)))(wide)
    exact = np.vdot(np.float64(g) * np.float64(GAPS), pq)
    tolerance.check(whole, exact, np.float32, SLOPE, "by one β", scale=np.abs(GAPS * pq).sum())


def test_unit_at_its_limits():
    gap = jnp.array([INF, 3.0, 0.0, -0.0, -2.0, -INF])
    for beta, wanted in (
        (INF, [1, 1, 0.5, 0.5, 0, 0]),
        (-INF, [1, 0, 0.5, 0.5, 1, 0]),
        (0.0, [1, 0.5, 0.5, 0.5, 0.5, 0]),
        (-1.0, [1, None, 0.5, 0.5, None, 0]),
    ):
        p, pull = jax.vjp(lambda x, b: jsoftmax.bernoulli_unit(x, beta=b), gap, jnp.float32(beta))
        assert all(e is None or a == e for a, e in zip(p.tolist(), wanted, strict=True))
        gap_bar, beta_bar = pull(jnp.ones(6))
        assert np.isfinite(gap_bar).all() and gap_bar[0] == gap_bar[5] == 0 and np.isfinite(beta_bar)
        assert not (np.isinf(beta) and (gap_bar.any() or beta_bar))
    for temperature in (0.0, -0.0):
        assert jsoftmax.bernoulli_unit(jnp.float32(3), temperature=temperature) == 1
    assert np.isnan(jsoftmax.bernoulli_unit(gap, beta=NAN)).all() and np.isnan(jsoftmax.bernoulli_unit(NAN))
    # a state that is forbidden stays so: as its two energies have it
    for beta in (1.0, 0.0, -1.0, INF):
        assert jsoftmax.bernoulli_unit(-INF, beta=beta) == jsoftmax.boltzmann(jnp.array([INF, 0.0]), beta=beta)[0]


def test_second_order_of_the_unit():
    """σ̇ = β p q, σ̈ = β² p q (q − p); by β and then by the gap p q (1 + β ΔE (q − p))."""
    gap, beta = np.float64([-20, -2, 0.5, 3, 12]), 0.7
    p = 1 / (1 + np.exp(-beta * gap))
    q = np.exp(-beta * gap) * p
    f = lambda x, b: jsoftmax.bernoulli_unit(x, beta=b)  # noqa: E731
    of_gap = jax.jit(jax.vmap(jax.grad(jax.grad(f)), (0, None)))(jnp.float32(gap), jnp.float32(beta))
    tolerance.check(of_gap, beta**2 * p * q * (q - p), np.float32, SLOPE, "twice by the gap", gap=20.0)
    mixed = jax.jit(jax.vmap(jax.grad(jax.grad(f, 1), 0), (0, None)))(jnp.float32(gap), jnp.float32(beta))
    tolerance.check(mixed, p * q * (1 + beta * gap * (q - p)), np.float32, SLOPE, "mixed", gap=20.0, scale=p * q)


# as the other operators --------------------------------------------------------------------------------------------

OPERATORS = {
    "boltzmann": lambda x, y, **kwargs: jsoftmax.boltzmann(x, **kwargs),
    "free_energy": lambda x, y, **kwargs: jsoftmax.free_energy(x, **kwargs),
    "entropy": lambda x, y, **kwargs: jsoftmax.entropy(x, **kwargs),
    "kl_divergence": kl,
    "bernoulli_unit": lambda x, y, **kwargs: jsoftmax.bernoulli_unit(x, **kwargs),
}
QUICK = ("kl_divergence", "bernoulli_unit")


def first(*names):
    return pytest.mark.parametrize("name", fast(OPERATORS, names))


IN_FLOAT32 = ("entropy", "kl_divergence")
OTHER = np.asarray(near(PLAIN, 0.5))


@first("entropy", "bernoulli_unit")
def test_half_precision_is_float32_inside(name):
    f = OPERATORS[name]
    x, y = PLAIN.astype(ml_dtypes.bfloat16), OTHER.astype(ml_dtypes.bfloat16)
    expected, pull = jax.vjp(lambda x, y, b: f(x, y, beta=b), *(jnp.float32(a) for a in (x, y)), jnp.float32(1.5))
    found, half = jax.vjp(lambda x, y, b: f(x, y, beta=b), *map(jnp.asarray, (x, y)), jnp.float32(1.5))
    dtype = np.dtype(np.float32 if name in IN_FLOAT32 else ml_dtypes.bfloat16)
    tolerance.check(found, np.float64(expected), dtype, GRADIENT, name, scale=np.abs(expected).max())
    g = jnp.float32(np.linspace(-1, 1, found.size).reshape(found.shape)).astype(dtype)
    for a, e in zip(half(g), pull(g.astype(jnp.float32)), strict=True):
        tolerance.check(a, np.float64(e), a.dtype, GRADIENT, name, scale=np.abs(e).max())


@first("bernoulli_unit")
def test_batches_and_programs(name):
    """Under vmap, the whole under jit, by temperature: the same numbers."""
    f = OPERATORS[name]
    whole = f(PLAIN, OTHER, beta=2.0)
    verify.assert_same(jax.jit(lambda x, y, b: f(x, y, beta=b))(PLAIN, OTHER, 2.0), whole, GRADIENT, "jit")
    verify.assert_same(
        jax.vmap(lambda x, y, b: f(x, y, beta=b))(PLAIN, OTHER, jnp.full(4, 2.0)), whole, GRADIENT, "vmap"
    )
    verify.assert_same(f(PLAIN, OTHER, temperature=0.5), whole, GRADIENT, "temperature")


@pytest.mark.parametrize("name", [n if n == "kl_divergence" else slow(n) for n in OPERATORS if n != "bernoulli_unit"])
def test_axes(name):
    """Another axis, several: the same numbers."""
    f, rows = OPERATORS[name], name != "boltzmann"
    whole = f(PLAIN, OTHER, beta=2.0)
    across = f(PLAIN.T, OTHER.T, axis=0, beta=2.0)
    verify.assert_same(across if rows else across.T, whole, GRADIENT, "axis 0")
    both = f(PLAIN.reshape(4, 2, 2), OTHER.reshape(4, 2, 2), axis=(1, 2), beta=2.0)
    verify.assert_same(both.reshape(whole.shape), whole, GRADIENT, "two axes")


@pytest.mark.parametrize("name", [slow(n) for n in OPERATORS if n != "bernoulli_unit"])
def test_kept_axes_and_bases(name):
    f = OPERATORS[name]
    whole = f(PLAIN, OTHER, beta=2.0)
    if name != "boltzmann":
        kept = f(PLAIN, OTHER, beta=jnp.full((4, 1), 2.0), keepdims=True)
        assert kept.shape == (4, 1) and np.array_equal(kept[:, 0], whole)
    if "base" in jsoftmax.__dict__[name].__annotations__:
        verify.assert_same(f(PLAIN, OTHER, base=np.exp(2.0)), whole, GRADIENT, "base")


@first("boltzmann", "free_energy", "bernoulli_unit")
def test_no_beta_compiles_anew(name):
    traced = []

    @jax.jit
    def step(x, y, beta):
        traced.append(1)
        return jax.grad(lambda x, b: OPERATORS[name](x, y, beta=b).sum(), (0, 1))(x, beta)

    for beta in (1.0, 0.0, -2.0, INF):
        assert all(np.isfinite(bar).all() for bar in step(PLAIN, OTHER, beta))
    assert len(traced) == 1


@pytest.mark.parametrize("name", fast([n for n in OPERATORS if n != "bernoulli_unit"], QUICK))
@pytest.mark.parametrize("check_vma", [True, slow(False)])
def test_classes_of_several_devices(name, check_vma):
    P = PartitionSpec(None, "model")
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))
    f = functools.partial(OPERATORS[name])
    rows = PartitionSpec(None) if name != "boltzmann" else P
    spread = jax.shard_map(
        lambda x, y, b: f(x, y, beta=b, axis_name="model"),
        mesh=mesh,
        in_specs=(P, P, PartitionSpec()),
        out_specs=rows,
        check_vma=check_vma,
    )
    g = np.linspace(0.5, 1.5, 16).astype(np.float32).reshape(4, 4)

    def loss(f):
        def of(x, y, b):
            value = f(x, y, b)
            return jnp.vdot(g if value.ndim == 2 else g[:, 0], value)

        return jax.jit(jax.value_and_grad(of, (0, 1, 2)))(PLAIN, OTHER, np.float32(1.3))

    verify.assert_same(loss(spread), loss(lambda x, y, b: f(x, y, beta=b)), GRADIENT, name)


def test_what_is_saved():
    """No array of the size of the logits but the arguments."""
    x, y = jnp.zeros((5, 129)), jnp.ones((5, 129))
    for f, arguments, rows in (
        (lambda x, y, b: kl(x, y, beta=b), 2, 4),
        (lambda x, y, b: jsoftmax.entropy(x, beta=b), 1, 2),
        (lambda x, y, b: jsoftmax.free_energy(x, beta=b), 1, 2),
        (lambda x, y, b: jsoftmax.boltzmann(x, beta=b), 1, 2),
        (lambda x, y, b: jsoftmax.bernoulli_unit(x, beta=b), 1, 0),
    ):
        saved = jax.tree.leaves(jax.eval_shape(lambda x, y, b, f=f: jax.vjp(f, x, y, b)[1], x, y, jnp.float32(1)))
        large = [leaf for leaf in saved if leaf.size >= x.size]
        assert len(large) == arguments
        assert sum(leaf.size for leaf in saved if leaf.size < x.size) <= 5 * rows + 2


@pytest.mark.slow
def test_peers():
    """optax and jax.scipy where they are exact enough."""
    p = jsoftmax.softmax(PLAIN)
    h = jax.scipy.special.entr(p).sum(-1)
    tolerance.check(jsoftmax.entropy(PLAIN), np.float64(h), np.float32, GRADIENT, "entr", scale=np.abs(h))
    rel = jax.scipy.special.rel_entr(p, jsoftmax.softmax(OTHER)).sum(-1)
    tolerance.check(kl(PLAIN, OTHER), np.float64(rel), np.float32, GRADIENT, "rel_entr", scale=np.abs(rel) + 1)
