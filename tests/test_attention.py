"""Attention beside its definition in float64: options, confident rows, limits of β, what is hidden and what is not
finite, blocks of queries and keys, memory, transformations, devices.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from experiments.structure import lowering
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
P = PartitionSpec
attention = jsoftmax.dot_product_attention
B, T, S, N, K, H, V = 2, 7, 11, 4, 2, 5, 3
PRODUCT, SECOND = tolerance.Bound(32, 2), tolerance.Bound(256, 4)
BLOCKS = [None, 3, (3, 4), (100, 4), (1, 1)]  # at once; queries; both, with a rest of each; keys; one by one


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


QUERY, KEY, VALUE = normal(B, T, N, H), normal(B, S, K, H), normal(B, S, K, V)
G, G_Z = normal(B, T, N, V, seed=1), normal(B, T, N, seed=1)
BIAS, BETAS = normal(B, N, T, S, seed=2), np.abs(normal(B, T, N, seed=2)) + 0.1
WHERE = np.random.default_rng(3).random((B, N, T, S)) < 0.6
WHERE[0, :, 2], WHERE[1, 0, 6] = False, False  # queries that see nothing, of all heads and of one


def of_rows(beta):
    """[B, T, N] as [B, N, T, 1]."""
    return np.moveaxis(np.broadcast_to(np.float64(beta), (B, T, N)), 1, 2)[..., None]


def logits(s, beta, bias, where):
    """Up to a number of each row that is given too. At β = ±∞ the products come first, then the biases."""
    turned = np.where(where, np.where(beta < 0, -s, s), -np.inf)
    origin = turned.max(-1, keepdims=True, initial=-np.inf)
    origin = np.where(np.isfinite(origin), np.where(beta < 0, -origin, origin), 0)
    gap = np.where(s == origin, 0, beta * (s - origin))
    return np.where(where, gap + bias, -np.inf), origin


def exact(q, k, v, beta, bias, where, causal, g=G, g_z=G_Z):
    """((o, log Z), cotangents of q, k, v, bias, β and the size of the terms of β's); confident rows cancel nothing."""
    q, k, v, g = (np.float64(a) for a in (q, k, v, g))
    k, v = (np.repeat(a, N // K, 2) for a in (k, v))
    beta, where = of_rows(beta), np.broadcast_to(where, (B, N, T, S))
    where = where & np.tril(np.ones((T, S), bool)) if causal else where
    s = np.einsum("btnh,bsnh->bnts", q, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        z, origin = logits(s, beta, bias, where)
    peak = np.where(np.isfinite(top := z.max(-1, keepdims=True)), top, 0)
    e = np.exp(z - peak)
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(origin == 0, 0, beta * origin)
        log_z = (np.log(total) + peak + offset)[..., 0]
    a = np.einsum("btnv,bsnv->bnts", g, v)
    g_z = np.moveaxis(np.float64(g_z), 1, 2)[..., None]
    turn = (p[..., None, :] * (a[..., :, None] - a[..., None, :])).sum(-1)  # Σ_i p_i (a_j − a_i)
    z_bar = p * (turn + g_z)
    s_bar = np.where(np.isinf(beta), 0, beta) * z_bar if np.isinf(beta).any() else beta * z_bar
    terms = np.concatenate([z_bar * (s - origin), np.where(total == 0, 0, g_z * origin)], -1)
    terms = np.moveaxis(np.where(np.isinf(beta), 0, terms), 1, 2)
    shared = lambda a: a.reshape(*a.shape[:2], K, N // K, a.shape[-1]).sum(3)  # noqa: E731
    bars = (
        np.einsum("bnts,bsnh->btnh", s_bar, k),
        shared(np.einsum("bnts,btnh->bsnh", s_bar, q)),
        shared(np.einsum("bnts,btnv->bsnv", p, g)),
        z_bar,
        terms.sum(-1),
        np.abs(terms).sum(-1),
    )
    return (np.einsum("bnts,bsnv->btnv", p, v), np.moveaxis(log_z, 1, 2)), bars


def summed(bar, shape):
    """Over the axes along which an operand of `shape` was spread."""
    bar = bar.sum(tuple(range(bar.ndim - len(shape)))) if bar.ndim > len(shape) else bar
    return bar.sum(tuple(i for i, n in enumerate(shape) if n == 1 and bar.shape[i] != 1), keepdims=True)


@functools.cache
def program(names, block, causal):
    """Values and cotangents of what is named beside query, key and value."""

    def f(where, g, g_z, q, k, v, *given):
        def call(q, k, v, *given):
            options = dict(zip(names, given, strict=True)) | {"is_causal": causal, "block_size": block}
            return attention(q, k, v, where=where, return_logsumexp=True, **options)

        y, pull = jax.vjp(call, q, k, v, *given)
        return y, pull((g, g_z))

    return jax.jit(f)


def agree(found, wanted, bound, what, dtype=np.float32, sizes=None):
    """In units of the largest number of an array, or of the terms that a sum has."""
    sizes = sizes or wanted
    for i, (a, e, size) in enumerate(zip(jax.tree.leaves(found), wanted, sizes, strict=True)):
        scale = np.abs(np.where(np.isfinite(size), size, 0)).max(initial=1e-30)
        tolerance.check(a, np.asarray(e), dtype, bound, f"{what}, array {i}", scale=scale)


def beside(names, given, where, causal, block, bound=PRODUCT):
    options = dict(zip(names, given, strict=True))
    (y, bars) = program(names, block, causal)(where, G, G_Z, QUERY, KEY, VALUE, *given)
    seen = True if where is None else where
    o, wanted = exact(QUERY, KEY, VALUE, options.get("beta", H**-0.5), options.get("bias", 0.0), seen, causal)
    agree(y, o, bound, "value")
    agree_in_cotangents(bars, wanted, bound, {n: np.shape(options[n]) for n in names})


def agree_in_cotangents(found, wanted, bound, of_shape):
    terms = {"bias": (wanted[3], np.abs(wanted[3])), "beta": wanted[4:]}
    sums = [[summed(a, shape) for a in terms[name]] for name, shape in of_shape.items()]
    more, sizes = ([s[i] for s in sums] for i in (0, 1))
    agree(found, (*wanted[:3], *more), bound, "cotangents", sizes=(*wanted[:3], *sizes))


# value and gradient ------------------------------------------------------------------------------------------------


EVERYWHERE = list(itertools.product(BLOCKS, (False, True), (False, True)))
FAST = {(None, False, False), (None, True, True), ((3, 4), True, True), ((3, 4), False, False)}


@pytest.mark.parametrize(("block", "causal", "masked"), [c if c in FAST else slow(*c) for c in EVERYWHERE])
def test_options(block, causal, masked):
    """Each with all gradients, at once and in blocks; rows without a key among them."""
    where = WHERE if masked else None
    beside((), (), where, causal, block)
    beside(("bias", "beta"), (BIAS, BETAS), where, causal, block)


SHAPES = {  # of what is broadcast: (bias, β, where)
    "one number": ((), (), ()),
    "of a head": ((N, 1, 1), (N,), (N, 1, 1)),
    "of a query": ((T, 1), (T, 1), (1, T, 1)),
    "of a key": ((S,), (B, 1, 1), (B, 1, 1, S)),
    "of heads and keys": ((B, N, 1, S), (1, 1, N), (1, N, 1, S)),
}


@pytest.mark.parametrize("block", [(3, 4), slow(None), slow((100, 4))], ids=str)
@pytest.mark.parametrize("name", [slow(n) if n in ("of a head", "of a key") else n for n in SHAPES])
def test_shapes(name, block):
    """A gradient has the shape of what it is of."""
    of_bias, of_beta, of_where = SHAPES[name]
    where = np.broadcast_to(WHERE, (B, N, T, S))[tuple(slice(0, n) for n in (1,) * (4 - len(of_where)) + of_where)]
    where = where.reshape(of_where)
    bias, beta = normal(*of_bias, seed=5), np.abs(normal(*of_beta, seed=6)) + np.float32(0.2)
    beside(("bias", "beta"), (np.asarray(bias), np.asarray(beta)), where, False, block)


@pytest.mark.parametrize("block", [(3, 4), slow(None)], ids=str)
@pytest.mark.parametrize(("seed", "of_beta"), [slow(0, (N,)), (1, (T, 1)), slow(2, (B, 1, 1))], ids=str)
def test_beta_of_heads_and_queries_under_a_causal_mask(seed, of_beta, block):
    beta = np.abs(normal(*of_beta, seed=seed)) + np.float32(0.2)
    beside(("beta",), (beta,), WHERE, True, block)


@pytest.mark.parametrize("block", [None, (1, 4)], ids=str)
def test_confident_rows(block):
    """What is left beside one key is moved by exact digits: the largest score by 20 and by 40."""
    gaps = np.array([0.0, 20, 40, 44, 60], np.float32)
    q, k = np.ones((2, 1, 1), np.float32), -gaps[:, None, None]
    k = np.roll(k, 2, 0)  # the peak is in the first block, and what is next to it in the second
    v, g = normal(5, 1, 2), normal(2, 1, 2, seed=4)
    f = lambda q, k, v, beta: attention(q, k, v, beta=beta, return_logsumexp=True, block_size=block)  # noqa: E731
    (_, log_z), pull = jax.jit(lambda *a: jax.vjp(f, *a))(q, k, v, np.float32(1))
    q_bar, k_bar, v_bar, beta_bar = pull((g, np.zeros((2, 1), np.float32)))
    e = np.exp(np.float64(k[:, 0, 0]))
    p, rest = e / e.sum(), np.sort(e)[:-1].sum()
    a = np.float64(g[:, 0]) @ np.float64(v[:, 0]).T
    z_bar = p * (p * (a[:, :, None] - a[:, None, :])).sum(-1)
    few, scale = tolerance.Bound(16, 2), np.abs(p * (p * np.abs(a[:, :, None] - a[:, None, :])).sum(-1))
    check = functools.partial(tolerance.check, dtype=np.float32, bound=few, gap=60.0)
    check(log_z[:, 0], np.full(2, np.log1p(rest)), what="log Z")
    check(k_bar[:, 0, 0], z_bar.sum(0), what="keys", scale=scale.sum(0))
    check(v_bar[:, 0], p[:, None] * np.float64(g[:, 0]).sum(0), what="values", scale=p[:, None] * np.abs(g).sum((0, 1)))
    size = (scale * gaps.max()).sum(1)
    check(q_bar[:, 0, 0], (z_bar * np.float64(k[:, 0, 0])).sum(1), what="queries", scale=size)
    check(beta_bar, (z_bar * np.float64(k[:, 0, 0])).sum(), what="β", scale=size.sum())


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
def test_the_value_of_the_peak_is_an_outlier(block):
    """As of a sink: with little weight it is far larger than what is read, and the others keep their digits."""
    v, g, g_z = VALUE.copy(), np.abs(G), 0 * G_Z
    k = np.where(np.arange(S)[:, None, None] == 0, 0, KEY * np.float32(0.01))
    v[:, 0] = 1e5
    bias = np.where(np.arange(S) == 0, 0.01, np.where(np.arange(S) < 6, 0, -30)).astype(np.float32)
    y, bars = program(("bias",), block, False)(None, g, g_z, QUERY, k, v, bias)
    (o, log_z), wanted = exact(QUERY, k, v, H**-0.5, bias, True, False, g, g_z)
    agree(y, (o, log_z), PRODUCT, "value")
    # each against its own terms: those of keys without weight are not hidden behind those of the others
    found, expected = bars[2][:, 6:], wanted[2][:, 6:]
    tolerance.check(found, expected, np.float32, tolerance.Bound(64, 2), "values", gap=40.0)
    z_bar = wanted[3].sum((0, 1, 2))
    tolerance.check(bars[3][6:], z_bar[6:], np.float32, tolerance.Bound(256, 4), "bias", gap=40.0)


def test_an_outlier_among_many():
    v = np.full((2000, 1, 1), 0.1, np.float32)
    v[0] = 1e5
    found = attention(np.ones((2, 1, 1), np.float32), np.zeros_like(v), v, block_size=(2, 100))
    tolerance.check(found, np.full((2, 1, 1), np.float64(v).mean()), np.float32, tolerance.Bound(128), "mean")


def test_loud_and_quiet_scores():
    """Scores far from each other, far from 0 and too large for a product; jit as without."""
    for q_scale, offset in ((300.0, 0.0), (1.0, 1e4), (1e-30, 0.0), (1e19, 0.0)):
        q = (QUERY * np.float32(q_scale)).astype(np.float32)
        k = np.round(KEY * 4) / 4 + np.float32(offset)
        q = np.round(q * 4) / 4 if offset else q
        found = attention(q, k, VALUE, return_logsumexp=True), attention(q, k, VALUE, beta=0.5, block_size=(3, 4))
        (o, _), _ = exact(q, k, VALUE, H**-0.5, 0.0, True, False)
        (half, _), _ = exact(q, k, VALUE, 0.5, 0.0, True, False)
        size = tolerance.Bound(64 + 16 * float(np.abs(np.einsum("btnh,bsnh->bnts", q, np.repeat(k, 2, 2))).max()))
        if q_scale > 1e9:
            size = tolerance.Bound(64)
        agree((found[0][0], found[1]), (o, half), size, f"{q_scale}, {offset}")


# limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
@pytest.mark.parametrize("biased", [slow(False, id=""), pytest.param(True, id="bias")])
@pytest.mark.parametrize("beta", [np.inf, -np.inf, 0.0, -2.0])
def test_limits_of_beta(beta, biased, block):
    """Whole numbers, so that products tie; among ties the biases tell."""
    q, k = np.round(QUERY), np.round(KEY)
    names, given = (("bias",), (BIAS,)) if biased else ((), ())
    found, bars = program((*names, "beta"), block, False)(WHERE, G, 0 * G_Z, q, k, VALUE, *given, np.float32(beta))
    (o, log_z), wanted = exact(q, k, VALUE, beta, BIAS if biased else 0.0, WHERE, False, G, 0 * G_Z)
    agree(found, (o, log_z), PRODUCT, "value")
    agree_in_cotangents(bars, wanted, PRODUCT, ({"bias": BIAS.shape} if biased else {}) | {"beta": ()})
    if np.isinf(beta):
        assert not any(np.any(b) for b in (bars[0], bars[1], bars[-1]))


def test_of_a_key_that_is_minus_infinity():
    """A score of −∞ is a key that is not there, whichever way it comes about."""
    bias = np.where(np.arange(S) % 3 == 0, -np.inf, 0).astype(np.float32)
    found = program(("bias",), (3, 4), False)(None, G, G_Z, QUERY, KEY, VALUE, bias)
    hidden = program((), (3, 4), False)(np.isfinite(bias), G, G_Z, QUERY, KEY, VALUE)
    verify.assert_same((found[0], found[1][:3]), (hidden[0], hidden[1][:3]), PRODUCT, "−∞")
    assert np.all(np.asarray(found[1][3])[~np.isfinite(bias)] == 0)
    none = attention(QUERY, KEY, VALUE, bias=np.full(S, -np.inf, np.float32))
    assert not np.any(none)
    of_keys = lambda *a: np.array(a, np.float32).reshape(-1, 1, 1)  # noqa: E731
    keys = attention(of_keys(1), of_keys(-np.inf, 0, 1), of_keys(0, 1, 2))
    tolerance.check(keys[0, 0], np.array([1 + 1 / (1 + np.exp(-1.0))]), np.float32, tolerance.Bound(8), "a key of −∞")


# what is hidden, what is not finite --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, slow(3), (3, 4)], ids=str)
@pytest.mark.parametrize("payload", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_hidden_does_not_matter(payload, block):
    """P2: no bit of it. The last two keys are hidden from all but one query, and that one's cotangents are not read;
    those of query 2 see nothing."""
    where = np.broadcast_to(WHERE, (B, N, T, S)).copy()
    where[..., -2:] = False
    where[:, :, 2] = False
    k, v, q = KEY.copy(), VALUE.copy(), QUERY.copy()
    k[:, -2], v[:, -1], q[:, 2] = payload, payload, payload
    given = np.where(where, BIAS, payload).astype(np.float32), BETAS
    run = program(("bias", "beta"), block, False)
    found, clean = run(where, G, G_Z, q, k, v, *given), run(where, G, G_Z, QUERY, KEY, VALUE, BIAS, BETAS)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(clean), strict=True):
        assert np.array_equal(a, e)


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
@pytest.mark.parametrize("beta", [0.7, np.inf, slow(-np.inf), 3e38])
def test_a_bias_of_minus_infinity_hides(beta, block):
    """As `where` does: the key with the largest product, and one that holds a NaN."""
    s = np.einsum("btnh,bsnh->bnts", np.round(QUERY), np.repeat(np.round(KEY), N // K, 2))
    where = (s != s.max(-1, keepdims=True)) & (s != s.min(-1, keepdims=True)) & (np.arange(S) != 3)
    k, v = np.round(KEY), VALUE.copy()
    v[:, 3] = np.nan
    run, g_z = program(("bias", "beta"), block, False), 0 * G_Z
    bias = np.where(where, BIAS, -np.inf).astype(np.float32)
    found = run(np.ones_like(where), G, g_z, np.round(QUERY), k, v, bias, np.float32(beta))
    hidden = run(where, G, g_z, np.round(QUERY), k, VALUE, BIAS, np.float32(beta))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(hidden), strict=True):
        assert np.array_equal(a, e)
    assert np.isfinite(found[0][0]).all() and np.any(found[0][0])
    assert not any(np.isnan(a).any() for a in jax.tree.leaves(found))


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
@pytest.mark.parametrize("place", ["cotangent", "query", "key", "value", "infinite value"])
def test_a_poisoned_row_is_poisoned_alone(place, block):
    """NaN where it is seen, and in no bit elsewhere: queries 4 and later see the last key."""
    where = np.ones((1, 1, T, S), bool)
    where[..., :4, -1] = False
    q, k, v, g = QUERY.copy(), KEY.copy(), VALUE.copy(), G.copy()
    run = program((), block, False)
    if place == "cotangent":  # of a query that does not see the last key
        g[:, 3] = np.nan
        q_bar, k_bar, v_bar = run(where, g, G_Z, q, k, v)[1]
        assert all(np.isnan(bar[:, :-1]).all() and np.isfinite(bar[:, -1]).all() for bar in (k_bar, v_bar))
        assert np.array_equal(np.isnan(q_bar).all((0, 2, 3)), np.arange(T) == 3)
        return
    a = {"query": q, "key": k, "value": v, "infinite value": v}[place]
    a[:, 4 if place == "query" else -1] = np.inf if place == "infinite value" else np.nan
    (o, log_z), (q_bar, *_) = run(where, G, G_Z, q, k, v)
    (clean, _), (clean_bar, *_) = run(where, G, G_Z, QUERY, KEY, VALUE)
    poisoned = np.arange(T) == 4 if place == "query" else np.arange(T) >= 4
    assert np.isnan(o[:, poisoned]).all() and np.isnan(log_z[:, poisoned]).all() and np.isnan(q_bar[:, poisoned]).all()
    assert np.array_equal(o[:, ~poisoned], clean[:, ~poisoned])
    assert np.array_equal(q_bar[:, ~poisoned], clean_bar[:, ~poisoned])


def test_queries_that_see_nothing():
    """They read 0 with log Z = −∞, and move nothing."""
    (o, log_z), bars = program((), None, False)(WHERE & False, G, G_Z, QUERY, KEY, VALUE)
    assert not np.any(o) and np.all(log_z == -np.inf) and not any(np.any(b) for b in bars)
    no_keys = attention(QUERY, KEY[:, :0], VALUE[:, :0])
    assert no_keys.shape == (B, T, N, V) and not np.any(no_keys)
    assert attention(QUERY[:, :0], KEY, VALUE).shape == (B, 0, N, V)
    assert attention(QUERY[:0], KEY[:0], VALUE[:0]).shape == (0, T, N, V)


# dtypes, peers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, slow(np.float16), np.float64], ids=str)
def test_dtypes(dtype):
    """Products of the given numbers, sums in float32 or wider."""
    with jax.enable_x64(dtype == np.float64):
        q, k, v, g = (jnp.asarray(a, dtype) for a in (QUERY, KEY, VALUE, G))
        wide = np.float64 if dtype == np.float64 else np.float32
        for block in (None, (3, 4)):
            (o, log_z), bars = program((), block, True)(None, g, G_Z.astype(wide), q, k, v)
            assert o.dtype == dtype and log_z.dtype == wide and all(b.dtype == dtype for b in bars)
            wanted, expected = exact(*(np.float64(a) for a in (q, k, v)), H**-0.5, 0.0, True, True, np.float64(g))
            bound = PRODUCT if dtype == np.float64 else tolerance.HALF_PRODUCTS[np.dtype(dtype).name]
            agree((o, *bars), (wanted[0], *expected[:3]), bound, str(dtype), dtype)
            tolerance.check(log_z, wanted[1], wide, PRODUCT, "log Z", scale=8.0)


def test_cotangents_beyond_the_range_of_float16():
    q, k, v, g = (np.array(a, np.float16).reshape(-1, 1, 1) for a in (1, (0.01, 0.02), (600, -600), 600))
    (_, _), (q_bar, k_bar, _) = program((), None, False)(None, g, np.zeros((1, 1), np.float32), q, k, v)
    assert q_bar.dtype == np.float16 and np.isfinite(q_bar).all() and abs(float(q_bar[0, 0, 0]) + 1800) < 8
    ones = attention(q, np.zeros((70000, 1, 1), np.float16), np.ones((70000, 1, 1), np.float16))
    assert ones == 1 and np.isinf(k_bar).all()


def test_integers_and_float64_of_numpy():
    """Integers become floating numbers first, and of the host float64 is float32 without x64, without a warning."""
    q, k, v = (np.round(a) for a in (QUERY, KEY, VALUE))
    found = attention(q.astype(np.int32), k.astype(np.int8), v.astype(np.float64))
    assert found.dtype == np.float32 and np.array_equal(found, attention(q, k, v))


@pytest.mark.slow
def test_beside_jax():
    """Where jax.nn is right; a query that sees nothing reads the mean of all values there."""
    given = {"is_causal": True, "bias": BIAS, "mask": WHERE | (np.arange(S) == 0)}
    theirs = jax.nn.dot_product_attention(QUERY, KEY, normal(B, S, K, H), **given)
    ours = attention(QUERY, KEY, normal(B, S, K, H), is_causal=True, bias=BIAS, where=given["mask"])
    verify.assert_same(ours, theirs, PRODUCT, "jax.nn")
    one = jax.nn.dot_product_attention(QUERY[0], KEY[0], normal(B, S, K, H)[0])
    verify.assert_same(attention(QUERY[0], KEY[0], normal(B, S, K, H)[0]), one, PRODUCT, "without a batch")


def test_one_a_key_is_read_back():
    """The weights of a row sum to 1, and are those of `softmax`."""
    one = np.broadcast_to(np.eye(S, dtype=np.float32)[None, :, None], (B, S, K, S))
    p = attention(QUERY, KEY, one, where=WHERE)
    z = np.einsum("btnh,bsnh->bnts", QUERY, np.repeat(KEY, N // K, 2))
    wanted = np.moveaxis(jsoftmax.softmax(z, beta=np.float32(H**-0.5), where=WHERE), 1, 2)
    verify.assert_same(p, wanted, PRODUCT, "softmax")
    shares, any_key = np.float32(np.float64(p).sum(-1)), np.moveaxis(WHERE.any(-1), 1, 2)
    tolerance.check(shares, np.where(any_key, 1.0, 0.0), np.float32, tolerance.Bound(8), "sum")


# derivatives of another kind ---------------------------------------------------------------------------------------


def scalar(block, q, k, v, bias, beta):
    o, log_z = attention(
        q, k, v, bias=bias, beta=beta, is_causal=True, where=SEEN, return_logsumexp=True, block_size=block
    )
    return jnp.vdot(G, o * o) + jnp.vdot(G_Z, log_z)


SEEN = WHERE | (np.arange(S) == 0)
ARGUMENTS = (QUERY, KEY, VALUE, BIAS, BETAS)
DIRECTION = tuple(normal(*a.shape, seed=9) for a in ARGUMENTS)


@functools.cache
def moved():
    """Derivative of the value and of all cotangents along a direction, from differences in float64."""

    def at(step):
        a = [np.float64(x) + step * np.float64(d) for x, d in zip(ARGUMENTS, DIRECTION, strict=True)]
        (o, log_z), _ = exact(*a[:3], a[4], a[3], SEEN, True)
        value = (np.float64(G) * o * o).sum() + (np.float64(G_Z) * log_z).sum()
        return [value, *exact(*a[:3], a[4], a[3], SEEN, True, 2 * np.float64(G) * o)[1][:5]]

    step = 1e-5
    value, *bars = ((a - b) / (2 * step) for a, b in zip(at(step), at(-step), strict=True))
    return value, bars


@pytest.mark.parametrize("block", [slow(None), (3, 4), slow((100, 4))], ids=str)
@pytest.mark.parametrize("how", ["forward over reverse", slow("reverse over reverse")])
def test_derivatives_of_the_gradient(how, block):
    """Reverse over reverse transposes the other."""
    every = tuple(range(5))
    gradient = jax.grad(functools.partial(scalar, block), every)
    along = lambda *a: sum(jnp.vdot(d, g) for d, g in zip(DIRECTION, gradient(*a), strict=True))  # noqa: E731
    ways = {
        "forward over reverse": lambda *a: jax.jvp(gradient, a, DIRECTION)[1],
        "reverse over reverse": jax.grad(along, every),
    }
    agree(jax.jit(ways[how])(*ARGUMENTS), moved()[1], SECOND, how)


@pytest.mark.parametrize("block", [None, slow((3, 4))], ids=str)
def test_forward_mode(block):
    with jsoftmax.forward_mode():
        _, found = jax.jit(lambda *a: jax.jvp(functools.partial(scalar, block), a, DIRECTION))(*ARGUMENTS)
    tolerance.check(found, np.float64(moved()[0]), np.float32, SECOND, "jvp", scale=np.abs(G).sum())
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(functools.partial(scalar, block), ARGUMENTS, DIRECTION)


@functools.cache
def all_gradients(block):
    return jax.jit(jax.grad(functools.partial(scalar, block), tuple(range(5))))(*ARGUMENTS)


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
@pytest.mark.parametrize(
    "of", [slow(0), slow(1), 2, slow(3), 4], ids=lambda i: ("query", "key", "value", "bias", "beta")[i]
)
def test_gradients_alone(of, block):
    """What is not differentiated is left out, and nothing else with it."""
    alone = jax.jit(jax.grad(functools.partial(scalar, block), of))(*ARGUMENTS)
    verify.assert_same(alone, all_gradients(block)[of], PRODUCT, "alone")


# memory, programs --------------------------------------------------------------------------------------------------


def shapes(t, s, n=2):
    return [jax.ShapeDtypeStruct((1, size, n, 8), jnp.float32) for size in (t, s, s)]


def largest(jaxpr):
    """Numbers in the largest array of a program, in loops and rules too."""
    found = 0
    for eqn in jaxpr.eqns:
        found = max([found, *(v.aval.size for v in eqn.outvars if hasattr(v.aval, "size"))])
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda a: hasattr(a, "eqns")):
            inner = getattr(value, "jaxpr", value)
            found = max(found, largest(inner)) if hasattr(inner, "eqns") else found
    return found


@pytest.mark.parametrize("causal", [False, True])
def test_the_scores_are_never_all_there(causal):
    """By default, in value and gradient: no array of more than 2²² scores."""
    t = s = 4096
    f = lambda q, k, v: attention(q, k, v, is_causal=causal).sum()  # noqa: E731
    program = jax.make_jaxpr(jax.value_and_grad(f, (0, 1, 2)))(*shapes(t, s))
    assert 2**19 <= largest(program.jaxpr) <= 2**22


def test_temporaries():
    t = s = 4096
    f = lambda q, k, v: attention(q, k, v).sum()  # noqa: E731
    compiled = jax.jit(jax.value_and_grad(f, (0, 1, 2))).lower(*shapes(t, s)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.25 * 4 * 2 * t * s


@pytest.mark.parametrize("block", [None, (3, 4)], ids=str)
def test_saved_for_the_backward_pass(block):
    """The arguments and two numbers a query; in blocks a third, and an array like the result."""
    q, k, v = (a[:, :, :K] for a in (QUERY, KEY, VALUE))
    pull = jax.eval_shape(lambda *a: jax.vjp(lambda *a: attention(*a, block_size=block), *a)[1], q, k, v)
    saved = sorted(a.size for a in jax.tree.leaves(pull))
    rows = B * T * K
    own = [rows, rows] if block is None else [rows, rows, rows, rows * V]
    assert saved == sorted([q.size, k.size, v.size, *own])


def test_one_program_for_every_beta():
    f = jax.jit(lambda beta: attention(QUERY, KEY, VALUE, beta=beta))
    for beta in (0.1, 1.0, 20.0, np.inf, -1.0, 0.0):
        assert np.isfinite(f(beta)).all()
    assert f._cache_size() == 1


THREE = tuple(np.stack([a, 2 * a, a[::-1]]) for a in (QUERY, KEY, VALUE))
in_blocks = functools.partial(attention, is_causal=True, block_size=(3, 4))


def each():
    return np.stack([in_blocks(*a) for a in zip(*THREE, strict=True)])


def test_under_vmap():
    verify.assert_same(jax.vmap(in_blocks)(*THREE), each(), PRODUCT, "vmap")


@pytest.mark.slow
def test_under_scan_vmap_of_a_memory_and_without_jit():
    (q, k, v), wanted = THREE, each()
    found = jax.vmap(in_blocks, in_axes=(None, 0, 0))(q[0], k, v)[0]
    verify.assert_same(found, wanted[0], PRODUCT, "vmap of a memory")
    _, found = jax.lax.scan(lambda c, a: (c, in_blocks(*a)), 0, THREE)
    verify.assert_same(found, wanted, PRODUCT, "scan")
    with jax.disable_jit():
        alone = attention(QUERY, KEY, VALUE, is_causal=True)
    verify.assert_same(alone, wanted[0], PRODUCT, "without jit")


# devices -----------------------------------------------------------------------------------------------------------


def value_and_pulled(f, g):
    def run(g, *a):
        y, pull = jax.vjp(f, *a)
        return y, pull(g)

    return functools.partial(jax.jit(run), g)


@pytest.mark.parametrize("kind", [AxisType.Auto, slow(AxisType.Explicit)], ids=str)
def test_batch_and_heads_over_devices(kind):
    mesh = jax.make_mesh((2, 2), ("data", "heads"), axis_types=(kind,) * 2)
    wanted = jax.device_get(value_and_pulled(in_blocks, G)(QUERY, KEY, VALUE))
    with jax.sharding.set_mesh(mesh):
        where = jax.NamedSharding(mesh, P("data", None, "heads"))
        placed = [jax.device_put(a, where) for a in (QUERY, KEY, VALUE)]
        found = value_and_pulled(in_blocks, jax.device_put(G, where))(*placed)
    assert found[0].sharding.is_equivalent_to(where, 4)
    verify.assert_same(jax.device_get(found), wanted, PRODUCT, str(kind))


@pytest.mark.parametrize("check", [True, slow(False)])
def test_inside_shard_map(check):
    """Each device has its own queries, and all of the keys."""
    t = 6
    mesh = jax.make_mesh((2, 3), ("data", "queries"), axis_types=(AxisType.Auto,) * 2)
    f = functools.partial(attention, block_size=(1, 4), return_logsumexp=True)
    own, shared = P("data", "queries"), P("data")
    spread = jax.shard_map(f, mesh=mesh, in_specs=(own, shared, shared), out_specs=(own, own), check_vma=check)
    g, given = (G[:, :t], G_Z[:, :t]), (QUERY[:, :t], KEY, VALUE)
    verify.assert_same(value_and_pulled(spread, g)(*given), value_and_pulled(f, g)(*given), PRODUCT, "shard_map")


@pytest.mark.parametrize("platform", lowering.PLATFORMS)
def test_lowers_for(platform):
    """At once and in blocks: no scatter and no sort, on TPU full accuracy."""
    given = [jax.ShapeDtypeStruct(a.shape, np.float32) for a in (QUERY, KEY, VALUE)]
    for block in (None, (3, 4)):
        f = lambda *a, block=block: attention(*a, is_causal=True, block_size=block).sum()  # noqa: E731
        found = lowering.faults(lowering.text(jax.value_and_grad(f, (0, 1, 2)), given, platform), platform)
        assert [why for why in found if block is None or "while" not in why] == []
