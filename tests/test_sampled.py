"""Sampled softmax, NCE and negative sampling: formulas in float64, their optima, and what candidates may be.

Inputs and vectors are multiples of 1/4, so that logits are exact and what is left is the loss.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jsoftmax
from tests import tolerance, verify
from tests.marks import fast, slow
from tests.test_hierarchical import sizes

COMPILE_LIGHTLY = "fast lane"
V, D, N, S = 23, 5, 8, 6
LOSSES = {
    "softmax": jsoftmax.sampled_softmax_loss,
    "uncorrected": functools.partial(jsoftmax.sampled_softmax_loss, correct_labels=False),
    "kept hits": functools.partial(jsoftmax.sampled_softmax_loss, remove_accidental_hits=False),
    "nce": functools.partial(jsoftmax.nce_loss, log_normalizer=0.75),
    "nce without hits": functools.partial(jsoftmax.nce_loss, remove_accidental_hits=True),
    "negative": jsoftmax.negative_sampling_loss,
}
THREE = ("softmax", "nce", "negative")
KINDS = ("softmax", "nce")  # negative sampling is an NCE that knows of no noise


def first(names, kept=KINDS):
    return pytest.mark.parametrize("name", fast(names, kept))


three_losses = pytest.mark.parametrize("name", THREE)
IDS = np.array([2, 22, 0, 2, 7, 3], np.int32)  # 2 comes twice; 0, 2 and 3 are labels, too


def problem(dtype=np.float32, n=N):
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, shape) / 4 for shape in ((n, D), (V, D), (V,)))
    expected = np.log(rng.uniform(0.1, 2.0, V)).astype(np.float32)
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), np.arange(n, dtype=np.int32), expected


def exact(name, x, w, b, labels, ids, log_q, beta, ignore=None):
    """(losses, z̄ of every column for a cotangent of 1, classes of the columns, z) in float64, by the formulas.

    `labels` [N, T], `ids` [S] or [N, S].
    """
    n, true = labels.shape
    classes = np.concatenate([labels, np.broadcast_to(ids, (n, np.shape(ids)[-1]))], 1)
    z = np.einsum("nd,ncd->nc", np.float64(x), np.float64(w)[classes]) + np.float64(b)[classes]
    kept = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    hits = (classes[:, true:, None] == labels[:, None]) & kept[:, None]
    removes = name in ("softmax", "uncorrected", "nce without hits")
    counted = np.concatenate([kept, ~(hits.any(-1) & removes)], 1)
    log_q = np.take_along_axis(np.broadcast_to(np.float64(log_q), (n, V)), classes, 1)
    is_true = np.arange(classes.shape[1]) < true
    some = kept.any(1, keepdims=True)
    if name in ("softmax", "uncorrected", "kept hits"):
        s = beta * z - np.where(is_true & (name == "uncorrected"), 0, log_q)
        s = np.where(counted, s, -np.inf)
        top = s.max(1, keepdims=True, initial=-1e300)
        log_p = s - top - np.log(np.exp(s - top).sum(1, keepdims=True))
        target = np.where(is_true, counted / np.maximum(kept.sum(1, keepdims=True), 1), 0)
        losses = -(target * np.where(target > 0, log_p, 0)).sum(1)
        slope = np.exp(log_p) - target
    else:
        c = 0.75 if name == "nce" else 0
        s = beta * z - c - (0 if name == "negative" else log_q)
        v = np.where(is_true, -s, s)
        losses = np.where(counted, np.logaddexp(0, v), 0).sum(1)
        slope = np.where(counted, np.where(is_true, -1, 1) / (1 + np.exp(-v)), 0)
    return np.where(some[:, 0], losses, 0), np.where(some, beta * slope, 0), classes, z


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *[
            pytest.param(name, np.float32, id=name, marks=() if name in (*THREE, "uncorrected") else pytest.mark.slow)
            for name in LOSSES
        ],
        pytest.param("softmax", ml_dtypes.bfloat16, id="softmax-bfloat16"),
        *[slow(name, ml_dtypes.bfloat16, id=f"{name}-bfloat16") for name in LOSSES if name != "softmax"],
        *[slow(name, np.float64, id=f"{name}-float64") for name in LOSSES],
    ],
)
def test_losses_and_gradients(name, dtype):
    """Of shared candidates; x̄, w̄ and b̄ from the formula's z̄."""
    x, w, b, labels, log_q = problem(dtype)
    beta, wide = 1.5, np.float64 if dtype == np.float64 else np.float32
    expected, slope, classes, z = exact(name, x, w, b, labels[:, None], IDS, log_q, beta)
    g = np.random.default_rng(2).standard_normal(N).astype(wide)
    with jax.enable_x64(dtype == np.float64):

        def f(x, w, b, beta):
            drawn = jsoftmax.Candidates(IDS, log_q.astype(wide))
            return LOSSES[name](x, w, labels, drawn, bias=b, class_axis=0, beta=beta)

        @jax.jit
        def run(*at):
            losses, pull = jax.vjp(f, *at)
            return losses, *pull(g)

        losses, x_bar, w_bar, b_bar, beta_bar = run(x, w, b, jnp.asarray(beta, wide))
    gap = np.abs(beta * z).max() + np.abs(log_q).max()
    tolerance.check(losses, expected, wide, tolerance.Bound(8, 1), name, scale=1, gap=gap)
    z_bar = g[:, None].astype(np.float64) * slope
    check = functools.partial(tolerance.check, bound=tolerance.COTANGENT["x"], gap=gap)
    each = np.einsum("nc,ncd->nd", np.abs(z_bar), np.abs(np.float64(w))[classes])
    rounded = 2.0**11 if dtype == ml_dtypes.bfloat16 else 1  # z̄ is, before its products
    check(x_bar, np.einsum("nc,ncd->nd", z_bar, np.float64(w)[classes]), dtype, what="x", scale=each * rounded)
    wide_w, wide_b, size = np.zeros((V, D)), np.zeros(V), np.zeros((V, D))
    np.add.at(wide_w, classes, z_bar[..., None] * np.float64(x)[:, None])
    np.add.at(size, classes, np.abs(z_bar[..., None] * np.float64(x)[:, None]))
    np.add.at(wide_b, classes, z_bar)
    check(w_bar, wide_w, dtype, what="weight", scale=size * rounded)
    check(b_bar, wide_b, dtype, what="bias", scale=np.abs(z_bar).sum())
    terms = z_bar * z / beta
    check(beta_bar, np.asarray(terms.sum()), wide, what="beta", scale=np.abs(terms).sum())
    seen, w_bar = np.union1d(labels, IDS), np.asarray(w_bar)
    assert np.all(np.delete(w_bar, seen, 0) == 0) and np.all(np.any(w_bar[seen] != 0, 1))


@first(LOSSES)
def test_several_true_classes_and_candidates_of_their_own(name):
    """[..., T] labels, of which some are left out; [..., S] ids, and expected counts one for all and one an example."""
    x, w, b, labels, log_q = problem()
    several = np.stack([labels, labels + 3, np.where(labels % 2, labels + 9, 22)], 1)
    several[5] = 22  # a candidate, and of no example a label
    ids = (np.arange(N * S).reshape(N, S) * 5 % V).astype(np.int32)
    own = log_q + np.arange(N, dtype=np.float32)[:, None] / 8

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(x, labels, drawn):
        losses = LOSSES[name](x, w.T, labels, drawn, bias=b, ignore_label=22)
        return losses.sum(), losses

    for given, counts in ((ids, log_q), (IDS, own), (ids, own)):
        bar, found = run(x, several, jsoftmax.Candidates(given, counts))
        expected, slope, classes, z = exact(name, x, w, b, several, given, counts, 1.0, ignore=22)
        gap = np.abs(z).max() + np.abs(counts).max()
        tolerance.check(found, expected, np.float32, tolerance.Bound(8, 1), name, scale=1, gap=gap)
        wide = np.einsum("nc,ncd->nd", slope, np.float64(w)[classes])
        each = np.einsum("nc,ncd->nd", np.abs(slope), np.abs(np.float64(w))[classes])
        tolerance.check(bar, wide, np.float32, tolerance.COTANGENT["x"], name, scale=each, gap=gap)
        assert found[5] == 0 and np.all(bar[5] == 0)
    grid = jsoftmax.Candidates(ids.reshape(2, 4, S), own.reshape(2, 4, V))
    _, boxed = run(x.reshape(2, 4, D), several.reshape(2, 4, 3), grid)
    assert np.array_equal(boxed.reshape(-1), found)


@functools.partial(jax.jit, static_argnums=0)
def pulled(f, *at):
    """Value, and cotangents of its sum."""
    value, pull = jax.vjp(f, *at)
    return value, pull(jnp.ones_like(value))


def whole(x, w, b, beta):
    labels = jnp.arange(N)
    return jsoftmax.softmax_cross_entropy_with_integer_labels(x @ w.T + b[None], labels, beta=beta)


def part(x, w, b, beta):
    drawn = jsoftmax.all_classes(V)
    return jsoftmax.sampled_softmax_loss(x, w, jnp.arange(N), drawn, bias=b, class_axis=0, beta=beta)


@pytest.mark.parametrize("beta", [1.0, -2.0, 0.0, np.inf, -np.inf])
def test_all_classes_are_the_cross_entropy(beta):
    """Confident and infinite losses, too: in value to a rounding, in gradient to one of the largest."""
    x, w, b, _, _ = problem()
    z = x @ w.T + b[None]

    at = (x, w, b, jnp.float32(beta))
    (found, bars), (wanted, exact_bars) = pulled(part, *at), pulled(whole, *at)
    gap = np.abs(z).max() * min(abs(beta), 4)
    tolerance.check(found, np.float64(wanted), np.float32, tolerance.Bound(8, 1), "all", gap=gap, scale=1e-6)
    for a, e in zip(bars, exact_bars, strict=True):
        scale = np.abs(e).max(initial=0)
        tolerance.check(a, np.float64(e), np.float32, tolerance.Bound(48, 2), "gradient", gap=gap, scale=scale)


def test_the_sign_decides_at_infinite_beta():
    x, w = np.array([[1.0], [-1.0], [0.0]], np.float32), np.ones((1, 2), np.float32)
    drawn = jsoftmax.Candidates(np.array([1]), np.zeros(2, np.float32))
    for loss in (jsoftmax.nce_loss, jsoftmax.negative_sampling_loss):
        f = lambda x, b, loss=loss: loss(x, w, np.zeros(3, np.int32), drawn, beta=b)  # noqa: E731
        assert f(x, np.inf).tolist() == f(-x, -np.inf).tolist() == [np.inf, np.inf, np.float32(2 * np.log(2))]
        assert all(np.all(bar == 0) for bar in jax.grad(lambda *a, f=f: f(*a)[2], (0, 1))(x, jnp.float32(np.inf)))


# what they are for ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correct", [True, slow(False)])
def test_the_gradient_comes_closer_as_one_over_the_size(correct):
    """Of evenly drawn candidates, averaged over all sets there are: off by (V/S − 1) times a constant at most."""
    v = 7
    rng = np.random.default_rng(1)
    z, labels = rng.standard_normal((1, v)).astype(np.float32), np.array([2])
    truth = np.float64(jax.nn.softmax(z)[0]) - (np.arange(v) == 2)

    @jax.jit
    def bar(ids):
        drawn = jsoftmax.Candidates(ids, jnp.full(v, np.log(ids.size / v).astype(np.float32)))
        one = np.ones((1, 1), np.float32)
        f = lambda z: jsoftmax.sampled_softmax_loss(one, z, labels, drawn, correct_labels=correct)[0]  # noqa: E731
        return jax.grad(f)(z)[0]

    off = []
    for size in range(1, v + 1):
        sets = np.array(list(itertools.combinations(range(v), size)), np.int32)
        mean = np.mean(jax.vmap(bar)(sets), 0)
        off.append(np.abs(mean - truth).max())
    assert off[-1] < 1e-6 and np.all(np.diff(off) < 0)
    constant = np.array(off[:-1]) / (v / np.arange(1, v) - 1)
    assert constant[2:].max() < 1.7 * constant[2:].min()


@pytest.mark.parametrize("name", ["softmax", "nce", "negative"])
def test_the_optimum(name):
    """Parameters are the logits; the expected gradient, over labels and all candidates, is 0 where it should be."""
    v = 5
    rng = np.random.default_rng(3)
    p, noise = (a / a.sum() for a in rng.uniform(0.2, 1, (2, v)))
    labels, one = np.arange(v, dtype=np.int32), np.ones((v, 1), np.float32)

    def expected(z):
        total = 0
        sets = list(itertools.combinations(range(v), 2)) if name == "softmax" else [(k,) for k in range(v)]
        for ids in sets:
            log_q = np.full(v, np.log(2 / v)) if name == "softmax" else np.log(noise)
            chance = 1 / len(sets) if name == "softmax" else noise[ids[0]]
            drawn = jsoftmax.Candidates(np.array(ids), log_q.astype(np.float32))
            options = {"log_normalizer": 1.25} if name == "nce" else {}
            loss = getattr(
                jsoftmax,
                {"softmax": "sampled_softmax"}.get(name, name.replace("negative", "negative_sampling")) + "_loss",
            )
            total += np.float32(chance) * jnp.vdot(p.astype(np.float32), loss(one, z[None], labels, drawn, **options))
        return total

    best = {"softmax": np.log(p) + 3, "nce": np.log(p) + 1.25, "negative": np.log(p / noise)}[name]
    at, aside = (jax.grad(expected)(z.astype(np.float32)) for z in (best, best + np.linspace(0, 0.5, v)))
    assert np.abs(at).max() < 4e-7 and np.abs(aside).max() > 0.01


def test_hits_with_replacement():
    """Where each class is drawn several times, the cross-entropy is what comes out with hits left in, not without."""
    z, labels = np.array([[0.5, 0.0, -0.5]], np.float32), np.array([0])
    drawn = jsoftmax.Candidates(np.tile(np.arange(3), 50), np.full(3, np.log(50), np.float32))
    one = np.ones((1, 1), np.float32)
    kept, removed = (
        float(jsoftmax.sampled_softmax_loss(one, z, labels, drawn, remove_accidental_hits=r, correct_labels=False)[0])
        for r in (False, True)
    )
    truth = float(jsoftmax.softmax_cross_entropy_with_integer_labels(z, labels)[0])
    assert abs(kept - np.log1p(np.exp(truth))) < 1e-6 and abs(removed - truth) < 1e-6
    corrected = jsoftmax.sampled_softmax_loss(one, z, labels, drawn, remove_accidental_hits=False)[0]
    assert abs(corrected - np.log(50) - truth - np.log1p(np.exp(-truth) / 50)) < 1e-5


# bad and missing ------------------------------------------------------------------------------------------------------


@three_losses
def test_labels_that_are_no_class_and_inputs_that_are_no_number(name):
    x, w, b, labels, log_q = problem()
    x[2], x[3] = np.nan, np.inf
    labels[:4] = -1, V, 6, 6
    drawn = jsoftmax.Candidates(IDS, log_q)
    f = lambda x, w, b: LOSSES[name](x, w, labels, drawn, bias=b, class_axis=0, ignore_label=6)  # noqa: E731
    value, pull = jax.vjp(f, x, w, b)
    assert np.isnan(value[:2]).all() and np.all(value[2:4] == 0) and np.isfinite(value[4:]).all()
    bars = pull(jnp.where(jnp.arange(N) < 2, 0, 1.0).astype(jnp.float32))
    assert all(np.isfinite(bar).all() for bar in bars) and np.all(bars[0][:4] == 0)
    assert np.isnan(pull(jnp.ones(N))[0][:2]).all()
    assert np.isnan(LOSSES[name](x, w, labels, drawn, bias=b, class_axis=0)[:4]).all()


@three_losses
@pytest.mark.parametrize("label", [-1, V, 2**31])
def test_no_label_wraps(name, label):
    x, w, b, labels, log_q = problem()
    wide = labels.astype(np.int64)
    wide[3] = label
    losses = LOSSES[name](x, w.T, wide, jsoftmax.Candidates(IDS, log_q), bias=b)
    assert np.isnan(losses[3]) and np.isfinite(np.delete(losses, 3)).all()


def test_expected_counts_of_0():
    """A label that cannot be drawn cannot be told from noise; a candidate that cannot be there is a mistake."""
    x, w, b, labels, log_q = problem()
    never = np.where(np.arange(V) == 4, -np.inf, log_q).astype(np.float32)
    drawn = jsoftmax.Candidates(IDS, never)
    for name in ("softmax", "nce"):
        assert np.flatnonzero(np.isnan(LOSSES[name](x, w.T, labels, drawn, bias=b))).tolist() == [4]
        there = drawn._replace(ids=np.array([4]))
        hit = np.isnan(LOSSES[name](x, w.T, labels, there, bias=b))
        assert hit[4] and hit.all()
    for name in ("uncorrected", "negative"):
        assert np.isfinite(LOSSES[name](x, w.T, labels, drawn, bias=b)).all()


@three_losses
@pytest.mark.parametrize("bad", [-1, V, 2**32])
def test_a_candidate_that_is_no_class(name, bad):
    x, w, b, labels, log_q = problem()
    shared = jsoftmax.Candidates(np.array([1, bad]), log_q)
    assert np.isnan(LOSSES[name](x, w.T, labels, shared, bias=b)).all()
    own = np.broadcast_to(np.array([9, 8]), (N, 2)).copy()
    own[5, 1] = bad
    losses = LOSSES[name](x, w.T, labels, jsoftmax.Candidates(own, log_q), bias=b)
    assert np.flatnonzero(np.isnan(losses)).tolist() == [5]


# transformations ------------------------------------------------------------------------------------------------------


@first(THREE)
def test_transformations(name):
    """jit, vmap, remat, forward mode, and a loop that descends."""
    x, w, b, labels, log_q = problem(n=3)
    drawn = jsoftmax.Candidates(IDS, log_q)
    loss = functools.partial(LOSSES[name], class_axis=0)
    f = lambda x, w, b, beta: loss(x, w, labels, drawn, bias=b, beta=beta)  # noqa: E731
    at = (x, w, b, jnp.float32(0.7))
    value = f(*at)
    assert np.array_equal(jax.jit(f)(*at), value)
    each = jax.jit(jax.vmap(lambda x, y: loss(x, w, y, drawn, bias=b, beta=at[-1])))(x, labels)
    tolerance.check(each, np.float64(value), np.float32, tolerance.Bound(8), "vmap", scale=1)
    g = lambda w: f(x, w, b, at[-1]).sum()  # noqa: E731
    bar = jax.jit(jax.grad(g))(w)
    verify.assert_same(jax.jit(jax.grad(jax.checkpoint(g)))(w), bar, tolerance.Bound(8), "remat")
    with jsoftmax.forward_mode():
        moved = jax.jit(lambda w: jax.jvp(g, (w,), (jnp.ones_like(w),))[1])(w)
    tolerance.check(moved, np.float64(bar).sum(), np.float32, tolerance.Bound(64), "forward", scale=np.abs(bar).sum())
    descent = jax.lax.scan(lambda w, _: (w - 0.1 * jax.grad(g)(w), g(w)), jnp.asarray(w), length=5)[1]
    assert np.all(np.diff(descent) < 0)


@pytest.mark.slow
@three_losses
@pytest.mark.parametrize("outer", ["reverse", "forward"])
def test_second_order(name, outer):
    x, w, b, labels, log_q = problem(n=2)
    over = jax.jacrev if outer == "reverse" else jax.jacfwd

    def plain(x, w, b, beta):
        """The formula, for autodiff in float64; no hit is among these labels and candidates but class 0."""
        z = beta * (x @ w.T + b[None])
        s = z if name == "negative" else z - log_q.astype(z.dtype)[None]
        s = s - 0.75 if name == "nce" else s
        at, rest = s[jnp.arange(2), labels], s[:, IDS]
        if name == "softmax":
            rest = jnp.where(labels[:, None] == IDS[None], -jnp.inf, rest)
            return jnp.sum(jax.nn.logsumexp(jnp.concatenate([at[:, None], rest], 1), axis=1) - at)
        return jnp.sum(jax.nn.softplus(-at)) + jnp.sum(jax.nn.softplus(rest))

    def ours(x, w, b, beta):
        drawn = jsoftmax.Candidates(IDS, log_q)
        return LOSSES[name](x, w, labels, drawn, bias=b, beta=beta, class_axis=0).sum()

    found = jax.jit(over(jax.grad(ours, (0, 1, 2, 3)), (0, 1, 2, 3)))(x, w, b, jnp.float32(0.7))
    with jax.enable_x64(True):
        wide = [jnp.float64(a) for a in (x, w, b, np.float32(0.7))]
        wanted = jax.jit(jax.jacrev(jax.grad(plain, (0, 1, 2, 3)), (0, 1, 2, 3)))(*wide)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        tolerance.check(a, np.asarray(e), np.float32, tolerance.Bound(96), "second order", scale=np.abs(e).max() + 1)


@pytest.mark.slow
@three_losses
def test_second_order_beside_ignored_labels(name):
    """As without them."""
    x, w, b, labels, log_q = problem(n=3)
    drawn = jsoftmax.Candidates(IDS, log_q)
    several = np.stack([labels, labels + 4], 1)
    several[1], several[2, 1] = -1, -1

    def hessian(x, labels, kept):
        f = lambda x: LOSSES[name](x, w, labels, drawn, bias=b, class_axis=0, ignore_label=-1).sum()  # noqa: E731
        return np.asarray(jax.jacrev(jax.grad(f))(x))[kept][:, :, kept]

    check = functools.partial(tolerance.check, dtype=np.float32, bound=tolerance.Bound(64), what="alone", scale=1)
    check(hessian(x, several, [0]), np.float64(hessian(x[:1], several[:1], [0])))
    check(hessian(x, several, [2]), np.float64(hessian(x[2:], labels[2:], [0])))
    assert np.all(hessian(x, several, [1]) == 0)


@three_losses
def test_nothing_is_as_large_as_all_classes_of_all_examples(name):
    classes, width, n, draws = 1000, 8, 64, 16
    x, w, y = jnp.ones((n, width)), jnp.ones((classes, width)), jnp.arange(n)
    drawn = jsoftmax.Candidates(jnp.arange(draws), jnp.zeros(classes))
    loss = functools.partial(LOSSES[name], class_axis=0)
    run = jax.value_and_grad(lambda x, w: loss(x, w, y, drawn).sum(), (0, 1))
    assert max(sizes(jax.make_jaxpr(run)(x, w).jaxpr)) == w.size < n * classes


@first(KINDS, ["softmax"])
def test_rows_alone_are_enough(name):
    """The gradient of the rows in sight, of a table of those alone: what a sparse update is made of."""
    x, w, _, labels, log_q = problem()
    ids, places = jnp.unique(np.concatenate([labels, IDS]), return_inverse=True, size=N + S, fill_value=V)
    drawn = jsoftmax.Candidates(IDS, log_q)
    there = jsoftmax.Candidates(places[N:], jnp.asarray(log_q).at[ids].get(mode="fill", fill_value=0))
    rows = jnp.asarray(w).at[ids].get(mode="fill", fill_value=0)
    loss = functools.partial(LOSSES[name], class_axis=0)
    of_all = jax.jit(jax.grad(lambda w: loss(x, w, labels, drawn).sum()))(w)
    of_rows = jax.jit(jax.grad(lambda w: loss(x, w, places[:N], there).sum()))(rows)
    verify.assert_same(jnp.zeros_like(w).at[ids].add(of_rows, mode="drop"), of_all, tolerance.Bound(8), name)
