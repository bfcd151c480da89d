"""Addresses by content and by place beside mpmath: values, cotangents, their derivatives, limits, masks, far ends."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from mpmath import mp

import jsoftmax
from tests import oracle, tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
VALUE, GRADIENT = tolerance.Bound(64, 2), tolerance.Bound(256, 4)
B, R, M, D = 2, 3, 5, 4
HALF = tolerance.HALF_PRODUCTS["bfloat16"]


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def value_and_pulled(f, g, *given):
    def run(g, *given):
        y, pull = jax.vjp(f, *given)
        return y, pull(g)

    return jax.jit(run)(g, *given)


def close(found, wanted, what, bound=GRADIENT, dtype=np.float32):
    """Trees of numbers, each in units of the largest that is wanted of it."""
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        tolerance.check(a, np.asarray(e, np.float64), dtype, bound, what, scale=np.abs(e).max(initial=0))


# by content --------------------------------------------------------------------------------------------------------


def exact_weights(keys, memory, beta, where=None, g=None):
    """Keys [..., R, D] and memory [..., M, D], in mpmath; with g the cotangents."""
    k, m = oracle.to_mpf(keys), oracle.to_mpf(memory)
    k_length, m_length = (np.vectorize(mp.sqrt)((a * a).sum(-1)) for a in (k, m))
    e, f = k / k_length[..., None], m / m_length[..., None]
    z = np.einsum("...rd,...md->...rm", e, f)
    lifted = np.broadcast_to(oracle.to_mpf(beta), k.shape[:-1])[..., None]
    found = oracle.softmax.exact(z, -1, where, beta=lifted, g=g)
    if g is None:
        return found
    z_bar = found["x"]
    e_bar, f_bar = np.einsum("...rm,...md->...rd", z_bar, f), np.einsum("...rm,...rd->...md", z_bar, e)
    bars = (
        (a_bar - (a_bar * a).sum(-1)[..., None] * a, size)
        for a_bar, a, size in ((e_bar, e, k_length), (f_bar, f, m_length))
    )
    k_bar, m_bar = (bar / size[..., None] for bar, size in bars)
    beta_bar = found["beta"][..., 0]
    return {"keys": k_bar, "memory": m_bar, "beta": beta_bar if np.ndim(beta) else np.asarray(beta_bar.sum(), object)}


@functools.cache
def reading(masked):
    """value and cotangents, one program."""

    def f(keys, memory, beta, g, where):
        mask = {"where": where} if masked else {}
        y, pull = jax.vjp(lambda *a: jsoftmax.content_addressing(*a[:2], beta=a[2], **mask), keys, memory, beta)
        return y, dict(zip(("keys", "memory", "beta"), pull(g), strict=True))

    return jax.jit(f)


def mask():
    where = np.random.default_rng(3).random((B, R, M)) < 0.6
    where[0, 0], where[1, 1] = False, np.arange(M) == 2  # nothing, and one alone
    where[..., 3] &= np.array([[True], [False]])
    return where


OF_EACH = np.linspace(-3, 20, B * R).reshape(B, R)


@pytest.mark.parametrize(
    ("masked", "beta"),
    [slow(m, b) if b is OF_EACH and not m else (m, b) for m in (False, True) for b in (1.0, 30.0, -4.0, 0.0, OF_EACH)],
    ids=str,
)
def test_weights_and_their_gradients(beta, masked):
    keys, memory, g, beta = random(B, R, D), random(B, M, D, seed=1), random(B, R, M, seed=2), np.float32(beta)
    where = mask() if masked else None
    w, bars = reading(masked)(keys, memory, beta, g, where)
    close(w, oracle.rounded(exact_weights(keys, memory, beta, where)), "weights", VALUE)
    wanted = oracle.rounded(exact_weights(keys, memory, beta, where, g))
    for name, bar in bars.items():
        largest = np.abs(wanted[name]).max() + (name == "beta")
        tolerance.check(bar, wanted[name], np.float32, GRADIENT, name, scale=largest, gap=np.abs(beta).max())
    if masked:
        assert np.all(np.asarray(w)[~where] == 0)


def test_one_memory_for_all_keys_and_one_for_each():
    keys, memory = random(B, R, D), random(B, M, D, seed=1)
    f = functools.partial(jsoftmax.content_addressing, beta=3.0)
    wanted = oracle.rounded(exact_weights(keys, np.broadcast_to(memory[:1], memory.shape), 3.0))
    close(f(keys, memory[0]), wanted, "shared", VALUE)
    close(f(keys[:, 0], memory), f(keys, memory)[:, 0], "one key each", VALUE)


@pytest.mark.slow
def test_keys_of_any_rank():
    keys, memory = random(B, R, D), random(B, M, D, seed=1)
    f = functools.partial(jsoftmax.content_addressing, beta=3.0)
    close(f(keys[0, 0], memory[0]), f(keys, memory[0])[0, 0], "one key", VALUE)
    four = f(keys.reshape(1, B, 1, R, D), memory[None])
    assert four.shape == (1, B, 1, R, M)
    close(four[0, :, 0], f(keys, memory), "many axes", VALUE)


def test_under_vmap_with_temperatures():
    keys, memory = random(B, R, D), random(B, M, D, seed=1)
    batched = jax.vmap(lambda k, m, b: jsoftmax.content_addressing(k, m, temperature=b))
    temperatures = np.array([0.5, 2.0], np.float32)
    close(
        batched(keys, memory, temperatures),
        oracle.rounded(exact_weights(keys, memory, 1 / temperatures[:, None])),
        "vmap",
    )


def test_hard_addresses():
    """β = ±∞: the slot alone, evenly among slots alike; no gradient."""
    memory = np.array([[1, 0], [2, 0], [0, 3], [-1, 0], [-1, 0]], np.float32)
    keys = np.array([[4, 0], [0, 1], [0, 0]], np.float32)
    f, g = jsoftmax.content_addressing, random(3, 5)
    (hard, bars), (least, _) = (reading(False)(keys, memory, np.float32(b), g, None) for b in (np.inf, -np.inf))
    assert np.array_equal(hard, [[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [np.float32(0.2)] * 5])
    assert np.array_equal(least[0], [0, 0, 0, 0.5, 0.5])
    assert np.array_equal(f(keys, memory, temperature=0.0), hard)
    kept = np.array([False, True, True, True, True])
    assert np.array_equal(f(keys[0], memory, beta=np.inf, where=kept), [0, 1, 0, 0, 0])
    assert all(np.all(bar == 0) for bar in bars.values())


def test_what_is_left_out_is_not_seen():
    """NaN and ∞ in masked slots change no bit of value and gradient; a key that is no number stays alone."""
    keys, memory, g, where = random(B, R, D), random(B, M, D, seed=1), random(B, R, M, seed=2), mask()
    f, beta = reading(True), np.float32(4)
    alone = where & np.array([False, True])[:, None, None]  # in the first memory a slot that only some keys may see
    alone[0, :, 1:3], where[0] = True, False
    where[0, 1:, :3], where[0, 0, :2] = True, True
    clean, bars = f(keys, memory, beta, g, where)
    for payload in (np.nan, np.inf, -np.inf):
        bad = memory.copy()
        bad[1, 3], bad[0, 3:] = payload, payload
        found, bad_bars = f(keys, bad, beta, g, where)
        assert np.array_equal(found, clean)
        assert all(np.array_equal(bad_bars[k], bars[k]) for k in bars)
        assert np.all(bars["memory"][0, 3:] == 0)
        bad[0, 2] = payload  # the first key does not see it, the others do
        found, bad_bars = f(keys, bad, beta, g, where)
        assert np.array_equal(found[0, 0], clean[0, 0]) and np.array_equal(bad_bars["keys"][0, 0], bars["keys"][0, 0])
        assert np.isnan(found[0, 1:, :3]).all() and np.array_equal(found[1], clean[1])
        bad_keys = keys.copy()
        bad_keys[1, 0, 1] = payload
        found, bad_bars = f(bad_keys, memory, beta, g, where)
        assert np.isnan(found[1, 0]).sum() == where[1, 0].sum() and np.array_equal(found[1, 1:], clean[1, 1:])
        assert np.array_equal(bad_bars["memory"][0], bars["memory"][0]) and np.all(bad_bars["memory"][1, 3] == 0)


def test_vectors_without_length():
    keys, memory, g = random(B, R, D), random(B, M, D, seed=1), random(B, R, M, seed=2)
    keys[0, 0], memory[0, 2] = 0, 0
    w, bars = reading(False)(keys, memory, np.float32(5), g, None)
    assert np.array_equal(w[0, 0], [np.float32(0.2)] * M)
    assert np.all(bars["keys"][0, 0] == 0) and np.all(bars["memory"][0, 2] == 0)
    assert all(np.isfinite(bar).all() for bar in bars.values())


def test_keys_and_slots_alike():
    """Parallel vectors, whose cosine is 1: the gradient is right where that of an unrefined quotient is noise."""
    memory = random(M, D, seed=1)
    w, bars = reading(False)(3 * memory[:2], memory, np.float32(50), g := random(2, M), None)
    wanted = oracle.rounded(exact_weights(3 * memory[:2], memory, 50.0, None, g))
    assert np.asarray(w)[0, 0] > 1 - 1e-6
    scale = 50 * np.abs(g).max() / np.linalg.norm(memory, axis=1).min()
    tolerance.check(bars["keys"], wanted["keys"], np.float32, tolerance.Bound(64), "keys", scale=scale)
    tolerance.check(bars["memory"], wanted["memory"], np.float32, tolerance.Bound(64), "memory", scale=scale)


def test_half_precision():
    keys, memory = random(R, D, dtype=ml_dtypes.bfloat16), random(M, D, seed=1, dtype=ml_dtypes.bfloat16)
    f = functools.partial(jsoftmax.content_addressing, beta=np.float32(8))
    wide = keys.astype(np.float32), memory.astype(np.float32)
    g = random(R, M)
    (found, bars), (wanted, exact) = value_and_pulled(f, g, keys, memory), value_and_pulled(f, g, *wide)
    close(found, wanted, "bfloat16")
    close(bars, exact, "bfloat16", HALF, ml_dtypes.bfloat16)


@pytest.mark.slow
def test_integers():
    f = functools.partial(jsoftmax.content_addressing, beta=np.float32(8))
    whole = np.array([[3, 4, 0, 0]], np.int8), np.eye(D, dtype=np.int8)
    assert np.array_equal(f(*whole), f(*(a.astype(np.float32) for a in whole)))


# by place ----------------------------------------------------------------------------------------------------------


def exact_place(x, coordinates, beta, axis, where=None, g=None):
    """[..., K] of the axes, a tuple, in mpmath; with g the cotangents."""
    shape, axes = np.shape(x), tuple(i % np.ndim(x) for i in axis)
    rows = tuple(n for i, n in enumerate(shape) if i not in axes)
    lifted = np.expand_dims(np.broadcast_to(oracle.to_mpf(beta), rows), axes)
    along = [
        np.expand_dims(oracle.to_mpf(c), [k for k in range(len(shape)) if k != i])
        for c, i in zip(coordinates, axes, strict=True)
    ]
    p = oracle.softmax.exact(x, axes, where, beta=lifted)
    if g is None:
        return np.stack([(p * c).sum(axes) for c in along], -1)
    g = [np.expand_dims(part, axes) for part in np.moveaxis(oracle.to_mpf(g), -1, 0)]
    bars = oracle.softmax.exact(
        x, axes, where, beta=lifted, g=sum(np.broadcast_to(c * part, shape) for c, part in zip(along, g, strict=True))
    )
    beta_bar = np.squeeze(bars["beta"], axes)
    found = {"x": bars["x"], "beta": beta_bar if np.ndim(beta) else np.asarray(beta_bar.sum(), object)}
    for k, (part, i) in enumerate(zip(g, axes, strict=True)):
        found[f"c{k}"] = (p * part).sum(tuple(j for j in range(len(shape)) if j != i))
    return found


@functools.cache
def placing(axis, masked):
    def f(x, coordinates, beta, g, where):
        mask = {"where": where} if masked else {}

        def place(x, coordinates, beta):
            return jsoftmax.soft_argmax(x, axis, coordinates=coordinates, beta=beta, **mask)

        y, pull = jax.vjp(place, x, coordinates, beta)
        x_bar, c_bar, beta_bar = pull(g)
        return y, {"x": x_bar, "beta": beta_bar, **{f"c{k}": c for k, c in enumerate(c_bar)}}

    return jax.jit(f)


def terms(x, coordinates, beta, axis, where, g, e):
    """Sizes of what is added up in the result and in the cotangents of x and β, and exponents of what that is."""
    axes = tuple(i % x.ndim for i in axis)
    present = np.broadcast_to(True if where is None else where, x.shape) & (x != -np.inf)
    beta = np.expand_dims(np.broadcast_to(np.float64(beta), np.delete(x.shape, axes)), axes)
    z = np.where(present, x, 0) * beta
    gap = np.where(present, np.where(present, z, -np.inf).max(axes, keepdims=True) - z, 0)
    p = np.where(present, np.exp(-gap), 0)
    p /= np.maximum(p.sum(axes, keepdims=True), 1)
    e, g = (np.moveaxis(np.expand_dims(a, axes), -1, 0) for a in (e, np.float64(g)))
    value, far = [], np.zeros(x.shape)
    for c, i, centre, part in zip(coordinates, axes, e, g, strict=True):
        along = np.expand_dims(np.float64(c), [k for k in range(x.ndim) if k != i])
        apart = np.where(present, np.abs(along - centre), 0)
        spread = (p * apart).sum(axes, keepdims=True)
        value.append(np.squeeze(np.abs(centre) + spread, axes))
        far += np.abs(part) * (apart + spread)
    own = (p * far * gap).sum(axes, keepdims=True) / np.maximum((p * far).sum(axes, keepdims=True), 1e-300)
    mean = np.squeeze((p * gap).sum(axes, keepdims=True), axes)
    of_beta = (p * far * gap).sum() / np.abs(beta).max().clip(1e-9)
    return np.stack(value, -1), mean, np.abs(beta) * p * far, gap + own, of_beta


def verify_place(x, axis, coordinates, beta, where=None):
    x, beta = np.float32(x), np.float32(beta)
    coordinates = tuple(np.float32(c) for c in coordinates)
    rows = tuple(n for i, n in enumerate(x.shape) if i not in [k % x.ndim for k in axis])
    g = random(*rows, len(axis), seed=5)
    y, bars = placing(axis, where is not None)(x, coordinates, beta, g, where)
    e = oracle.rounded(exact_place(x, coordinates, beta, axis, where))
    value, mean, of_x, gap, of_beta = terms(x, coordinates, beta, axis, where, g, e)
    tolerance.check(y, e, np.float32, tolerance.VALUE["softmax"], "place", scale=value, gap=2 * mean[..., None])
    wanted = oracle.rounded(exact_place(x, coordinates, beta, axis, where, g))
    bound = tolerance.COTANGENT["x"]
    tolerance.check(bars["x"], wanted["x"], np.float32, bound, "x of a place", scale=of_x, gap=2 * gap)
    for name in bars.keys() - {"x", "beta"}:
        scale = np.abs(g).sum()
        tolerance.check(bars[name], wanted[name], np.float32, bound, "coordinates", scale=scale, gap=gap.max())
    bound = tolerance.COTANGENT["beta"]
    tolerance.check(bars["beta"], wanted["beta"], np.float32, bound, "β of a place", scale=of_beta, gap=gap.max())


BETAS = [1.0, 7.0, -3.0, 0.0]


OF_ROWS = np.linspace(-2, 9, 8).reshape(2, 4)


@pytest.mark.parametrize(
    ("masked", "beta"),
    [slow(m, b) if b is OF_ROWS and not m else (m, b) for m in (False, True) for b in (*BETAS, OF_ROWS)],
    ids=str,
)
def test_a_coordinate_of_each_axis(beta, masked):
    """Row and column of a map's peak; the axes in another order than in the array."""
    x = random(2, 3, 5, 4)
    x[0, 1, 1, 0] = x[1, :, :, 2] = -np.inf
    where = np.random.default_rng(1).random(x.shape) < 0.7 if masked else None
    verify_place(x, (2, 1), (np.linspace(-1, 1, 5), [3.0, 0.5, -7.0]), beta, where)


FAST = {(6.0, 4000), (40.0, 4095)}
PEAKS = [(loud, at) for loud in (0.0, 0.4, 2.0, 6.0, 9.0, 13.0, 40.0) for at in (0, 4000, 4095)]


@pytest.mark.parametrize(("loud", "at"), [p if p in FAST else slow(*p) for p in PEAKS])
def test_confident_rows_at_the_far_end(loud, at):
    """Distances to the result keep their digits, whatever the coordinate is: each entry, also the peak."""
    i = np.arange(4096)
    x = random(1, 4096) / 4 - np.minimum(np.abs(i - at) * loud, 80)
    verify_place(x, (1,), (i,), 1.0)
    if loud in (0.4, 6):
        verify_place(x, (1,), (i / 2048 - 1,), 1.0)


def test_one_axis_gives_a_number_several_a_last_axis():
    x = random(2, 3, 5, 4)
    f = jsoftmax.soft_argmax
    one, pair = f(x, 2), f(x, (1, 2))
    assert one.shape == (2, 3, 4) and f(x, 2, keepdims=True).shape == (2, 3, 1, 4) and f(x, (2,)).shape == (2, 3, 4, 1)
    assert np.array_equal(f(x, (2,))[..., 0], one) and np.array_equal(f(x, [-2])[..., 0], f(x, np.int64(2)))
    assert pair.shape == (2, 4, 2) and f(x, (1, 2), keepdims=True).shape == (2, 1, 1, 4, 2)
    assert f(x, None).shape == (4,) and f(x).shape == (2, 3, 5)
    close(f(x, (2, 1)), np.asarray(pair)[..., ::-1], "order")


@pytest.mark.slow
def test_coordinates_and_beta_of_an_array():
    x = random(2, 3, 5, 4)
    f = jsoftmax.soft_argmax
    rows = f(x, 1, coordinates=np.arange(3))
    assert np.array_equal(rows, f(x, 1)) and f(x, 1, coordinates=jnp.arange(3, dtype=jnp.int8)).dtype == np.float32
    of_channel = f(x, (1, 2), beta=np.float32([1, 2, 3, 4]))
    close(of_channel[:, 2], f(3 * x[..., 2], (1, 2)), "β of a channel")
    kept = f(x, (1, 2), beta=np.float32([1, 2, 3, 4]).reshape(1, 1, 4), keepdims=True)
    assert np.array_equal(kept[:, 0, 0], of_channel)


@pytest.mark.parametrize("n", [1, slow(2), 7, slow(4096)])
def test_usual_coordinates(n):
    """A peak on each entry in turn; the middle at β = 0."""
    i = np.arange(n)
    wanted = {"pixels": i, "centers": (2 * i - (n - 1)) / max(n - 1, 1), "edges": (2 * i + 1 - n) / n}
    at = i if n < 100 else i[[0, 1, -1]]
    for name, c in wanted.items():
        f = functools.partial(jsoftmax.soft_argmax, coordinates=name)
        assert np.array_equal(f(1e4 * np.eye(n, dtype=np.float32)[at]), np.float32(c[at]))
        middle = f(random(n), beta=0.0)
        tolerance.check(middle, np.float64(c.mean()), np.float32, tolerance.MERGE, name, scale=np.abs(c).max())


def test_limits():
    x = np.array([[3, 1, 3, 0], [-np.inf, 2, 1, 1]], np.float32)
    f = jsoftmax.soft_argmax
    assert np.array_equal(f(x, beta=np.inf), [1, 1]) and np.array_equal(f(x, beta=-np.inf), [3, 2.5])
    assert np.array_equal(f(x, temperature=0.0), [1, 1]) and np.array_equal(f(x, base=np.inf), [1, 1])
    assert np.array_equal(f(x, beta=0.0), [1.5, 2]) and np.array_equal(f(x, base=1.0), [1.5, 2])
    gradient = jax.jit(jax.grad(lambda x, b: f(x, beta=b).sum(), (0, 1)))
    for beta in (np.inf, -np.inf):
        bars = gradient(x, np.float32(beta))
        assert np.all(bars[0] == 0) and bars[1] == 0
    lost = np.full((2, 4), -np.inf, np.float32)
    for args in ({}, {"beta": np.float32(np.inf)}, {"coordinates": "edges"}, {"where": np.zeros((2, 4), bool)}):
        value, pull = jax.vjp(lambda x, a=args: f(x, **a), np.zeros_like(lost) if "where" in args else lost)
        assert np.array_equal(value, [0, 0]) and np.all(pull(np.ones(2, np.float32))[0] == 0)
    assert f(np.zeros((2, 0), np.float32)).tolist() == [0, 0]
    for bad in (np.nan, np.inf):
        assert np.array_equal(np.isnan(f(np.array([[bad, 1, 2, 0], [1, 2, 3, 0]], np.float32))), [True, False])


def test_what_is_masked_is_not_seen():
    """Whatever an absent entry holds, and whatever its coordinate is."""
    x, where = random(R, M), np.array([True, False, True, True, False])
    c, g, beta = random(M), random(R, 1), np.float32(2)
    f = placing((1,), True)
    clean, bars = f(x, (c,), beta, g, where)
    for payload in (np.nan, np.inf, -np.inf, 3e38):
        bad, bad_c = np.where(where, x, np.float32(payload)), np.where(where, c, np.float32(payload))
        found, bad_bars = f(bad, (bad_c,), beta, g, where)
        assert np.array_equal(found, clean) and all(np.array_equal(bad_bars[k], bars[k]) for k in bars)
    absent, absent_bars = placing((1,), False)(np.where(where, x, -np.inf), (bad_c,), beta, g, None)
    assert np.array_equal(absent, clean)
    close(absent_bars, bars, "−∞")
    assert np.all(bars["x"][:, ~where] == 0) and np.all(bars["c0"][~where] == 0)


@pytest.mark.slow
def test_half_precision_of_an_image():
    """Coordinates are float32, and the weights are those of the same numbers."""
    x = random(300, 2, dtype=ml_dtypes.bfloat16)
    f = functools.partial(jsoftmax.soft_argmax, axis=0, beta=np.float32(5))
    (found, pull), (wanted, exact), g = jax.vjp(f, x), jax.vjp(f, x.astype(np.float32)), random(2)
    assert np.array_equal(found, wanted) and found.dtype == np.float32
    assert np.array_equal(pull(g)[0], exact(g)[0].astype(ml_dtypes.bfloat16))
    assert np.array_equal(f(np.arange(8, dtype=np.int8)), f(np.arange(8, dtype=np.float32)))


def test_saves_the_logits_and_a_few_numbers_a_row():
    x = random(3, 129, dtype=ml_dtypes.bfloat16)
    f = lambda x, b: jsoftmax.soft_argmax(x, beta=b)  # noqa: E731
    saved = jax.tree.leaves(jax.eval_shape(lambda x, b: jax.vjp(f, x, b)[1], x, np.float32(1)))
    assert [a.dtype for a in saved if a.size >= x.size] == [x.dtype]
    assert sum(a.size for a in saved if a.size < x.size) <= 3 * 3 + 129 + 1


# both --------------------------------------------------------------------------------------------------------------


def place_of(x, c, beta):
    return jsoftmax.soft_argmax(x, (0, 1), coordinates=(c, np.arange(4)), beta=beta)


def exact_place_of(x, c, beta, g=None):
    found = exact_place(x, (c, np.arange(4)), beta, (0, 1), None, g)
    return found if g is None else {"x": found["x"], "c": found["c0"], "beta": found["beta"]}


def weights_of(keys, memory, beta):
    return jsoftmax.content_addressing(keys, memory, beta=beta)


SECOND = {
    "place": (place_of, exact_place_of, {"x": (3, 4), "c": (3,), "beta": ()}, (2,)),
    "weights": (weights_of, exact_weights, {"keys": (2, D), "memory": (M, D), "beta": ()}, (2, M)),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_order(name):
    """The derivative of the cotangents along each argument, in float64."""
    f, exact, shapes, result = SECOND[name]
    with jax.enable_x64(True):
        arguments = {k: random(*s, seed=7, dtype=np.float64) if s else np.float64(2.5) for k, s in shapes.items()}
        g, bound = random(*result, seed=8, dtype=np.float64), tolerance.SECOND_ORDER
        cotangents = jax.jit(lambda *a: jax.vjp(f, *a)[1](g))
        moved = jax.jit(lambda a, d: jax.jvp(cotangents, a, d)[1])
        for along in arguments:
            v = random(*shapes[along], seed=9, dtype=np.float64) if shapes[along] else np.float64(1)
            wanted = oracle.rounded(oracle.directional(functools.partial(exact, g=g), arguments, {along: v}))
            direction = tuple(v if k == along else np.zeros_like(a) for k, a in arguments.items())
            found = moved(tuple(arguments.values()), direction)
            close(found, tuple(wanted[k] for k in arguments), f"{name} along {along}", bound, np.float64)


@pytest.mark.parametrize("name", ["place", slow("weights")])
def test_forward_mode(name):
    """The derivative of the value along all arguments, in float64."""
    f, exact, shapes, _ = SECOND[name]
    with jax.enable_x64(True):
        arguments = {k: random(*s, seed=7, dtype=np.float64) if s else np.float64(2.5) for k, s in shapes.items()}
        directions = {k: random(*s, seed=10, dtype=np.float64) if s else np.float64(-0.5) for k, s in shapes.items()}
        with jsoftmax.forward_mode():
            found = jax.jvp(f, tuple(arguments.values()), tuple(directions.values()))[1]
        wanted = oracle.rounded(oracle.directional(lambda **a: exact(**a), arguments, directions))
        close(found, wanted, f"{name} forward", tolerance.SECOND_ORDER, np.float64)


def test_no_value_of_beta_compiles_anew():
    keys, memory, x = random(R, D), random(M, D), random(R, M)
    content, place = jsoftmax._ops.addressing._content_addressing, jsoftmax._ops.addressing._soft_argmax
    for f in (content, place):
        f.clear_cache()
    for beta in (2.0, 3, np.float32(0), np.inf, np.array(-1.5)):
        jsoftmax.content_addressing(keys, memory, beta=beta)
        jsoftmax.soft_argmax(x, beta=beta)
    assert content._cache_size() == place._cache_size() == 1


@pytest.mark.parametrize("kind", [AxisType.Auto, slow(AxisType.Explicit)], ids=str)
def test_spread_over_devices(kind):
    """A batch over the devices of a mesh, as an array is and inside `shard_map`."""
    mesh, spread = jax.make_mesh((2,), ("data",), axis_types=(kind,)), PartitionSpec("data")
    x, keys, memory = random(4, 3, 5), random(4, R, D), random(4, M, D, seed=1)

    def f(x, keys, memory, beta):
        return jsoftmax.soft_argmax(x, (1, 2), beta=beta), jsoftmax.content_addressing(keys, memory, beta=beta)

    g = random(4, 2), random(4, R, M)
    given, beta = (x, keys, memory), np.float32(3)
    wanted = value_and_pulled(f, g, *given, beta)
    with jax.set_mesh(mesh):
        if kind == AxisType.Explicit:
            placed = [jax.device_put(a, jax.NamedSharding(mesh, spread)) for a in given]
            y = jax.jit(f)(*placed, beta)
            assert jax.typeof(y[0]).sharding.spec[0] == "data"
            verify.assert_same(jax.device_get(y), wanted[0], GRADIENT, "Explicit")
            return
        inside = jax.shard_map(f, in_specs=(spread, spread, spread, PartitionSpec()), out_specs=spread)
        verify.assert_same(jax.device_get(value_and_pulled(inside, g, *given, beta)), wanted, GRADIENT, "shard_map")
