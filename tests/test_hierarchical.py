"""Trees and hierarchical softmax: optimal trees, probabilities that sum to 1, exact losses and gradients, ways down.

Inputs and vectors of nodes are multiples of 1/4, so that every decision's logit is exact and what is left is the loss.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import jsoftmax
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
loss, log_prob = jsoftmax.hierarchical_softmax_loss, jsoftmax.hierarchical_log_prob
COUNTS = np.array([50, 20, 15, 10, 5, 5, 1, 0, 0], np.float64)
V, D, N = len(COUNTS), 5, 12
TREE = jsoftmax.huffman_tree(COUNTS)


def lengths(tree):
    return np.asarray(tree.mask).sum(1)


def kraft(tree):
    return np.sum(2.0 ** -lengths(tree))


def least(counts, longest):
    """The least Σ count · length, by trying every full tree's lengths: split one leaf after another."""
    seen, shapes = set(), [(0,)]
    while len(shapes[0]) < len(counts):
        shapes = {tuple(sorted((*s[:i], s[i] + 1, s[i] + 1, *s[i + 1 :]))) for s in shapes for i in range(len(s))}
        shapes = [s for s in shapes if max(s) <= longest]
        seen.update(shapes)
    falling = np.sort(counts)[::-1]
    return min(np.dot(falling, shape) for shape in shapes)


# trees ----------------------------------------------------------------------------------------------------------------


def test_lengths_of_a_known_tree():
    assert lengths(jsoftmax.huffman_tree([50, 20, 15, 10, 5])).tolist() == [1, 2, 3, 4, 4]
    assert lengths(jsoftmax.huffman_tree(np.ones(8))).tolist() == [3] * 8
    assert jsoftmax.huffman_tree([7]).paths.shape == (1, 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=7), st.integers(0, 3))
def test_no_tree_is_shorter(counts, more):
    counts = np.array(counts, np.float64)
    free = jsoftmax.huffman_tree(counts)
    assert kraft(free) == 1 and np.dot(counts, lengths(free)) == least(counts, len(counts))
    longest = (len(counts) - 1).bit_length() + more
    limited = jsoftmax.huffman_tree(counts, max_length=longest)
    assert kraft(limited) == 1 and lengths(limited).max() <= longest
    assert np.dot(counts, lengths(limited)) == least(counts, longest)


def test_counts_that_fall_geometrically_make_a_long_tree_or_a_limited_one():
    counts = 2.0 ** -np.arange(200)
    assert jsoftmax.huffman_tree(counts).paths.shape == (200, 199)
    limited = jsoftmax.huffman_tree(counts, max_length=12)
    assert limited.paths.shape == (200, 12) and kraft(limited) == 1


def walk(tree):
    """Class reached by each way down, from the tables alone."""
    ways = {}
    for w, (path, code, mask) in enumerate(zip(*(np.asarray(a) for a in tree[:3]), strict=True)):
        ways[tuple(zip(path[mask].tolist(), code[mask].tolist(), strict=True))] = w
    return ways


@pytest.mark.parametrize("counts", [2 ** np.arange(12), 1 + 10000 // np.arange(1, 400), np.ones(37, int)])
def test_as_cheap_as_that_of_gensim(counts):
    """One more witness, where it is installed: `pip install gensim`, and the test finds it."""
    models = pytest.importorskip("gensim.models", reason="an optional witness")
    model = models.Word2Vec(hs=1, negative=0, min_count=1, vector_size=1)
    model.build_vocab_from_freq({str(w): int(n) for w, n in enumerate(counts)})
    theirs = [len(model.wv.get_vecattr(str(w), "code")) for w in range(counts.size)]
    assert lengths(jsoftmax.huffman_tree(counts)) @ counts == theirs @ counts


@pytest.mark.parametrize("tree", [TREE, jsoftmax.huffman_tree(COUNTS, max_length=4)], ids=["free", "limited"])
def test_the_tables_are_those_of_one_tree(tree):
    """Each inner node has two children, one way to it, and is the root only at the beginning."""
    ways, above = walk(tree), {}
    assert len(ways) == V and {n for way in ways for n, _ in way} == set(range(V - 1))
    for way in ways:
        assert way[0][0] == 0
        for before, (node, _) in itertools.pairwise(way):
            assert above.setdefault(node, before) == before
    assert len(set(above.values())) == V - 2 and 0 not in above


def test_codes_give_the_tree_back():
    codes = [np.asarray(c)[np.asarray(m)].tolist() for c, m in zip(TREE.codes, TREE.mask, strict=True)]
    again = jsoftmax.tree_from_codes(codes)
    assert [[turn for _, turn in way] for way in walk(again)] == codes
    text = jsoftmax.tree_from_codes(["".join(map(str, code)) for code in codes])
    assert all(np.array_equal(a, b) for a, b in zip(again[:3], text[:3], strict=True))
    assert jsoftmax.tree_from_codes([""]).paths.shape == (1, 0)


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        (["0", "0"], "the same code"),
        (["0", "01", "1"], "class 0 is the beginning of that of class 1"),
        (["01", "0", "1"], "class 1 is the beginning of that of class 0"),
        (["0", "10"], "no class is reached by 11"),
    ],
)
def test_codes_of_no_tree(codes, why):
    with pytest.raises(ValueError, match=f"tree_from_codes: `codes` must be those of a full binary tree, but .*{why}"):
        jsoftmax.tree_from_codes(codes)


# values ---------------------------------------------------------------------------------------------------------------


def layer(dtype=np.float32, n=N):
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, shape) / 4 for shape in ((n, D), (V - 1, D), (V - 1,)))
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), np.arange(n, dtype=np.int32) % V


def exact(x, w, b, labels, beta):
    """(losses, z̄ of every decision for a cotangent of 1, paths) in float64."""
    paths, codes, mask = (np.asarray(a)[labels] for a in TREE[:3])
    z = np.einsum("nd,nld->nl", x.astype(np.float64), w.astype(np.float64)[paths]) + b.astype(np.float64)[paths]
    signed = np.where(codes == 1, 1, -1) * beta * z
    losses = np.where(mask, np.logaddexp(0, -signed), 0).sum(1)
    slope = np.where(mask, -np.where(codes == 1, 1, -1) * beta / (1 + np.exp(signed)), 0)
    return losses, slope, z, np.where(mask, signed, 0)


@pytest.mark.parametrize("beta", [1.0, -2.0, 0.5, 16.0])
@pytest.mark.parametrize(
    "dtype",
    [np.float32, ml_dtypes.bfloat16, slow(np.float64)],
    ids=lambda d: np.dtype(d).name,
)
def test_losses(beta, dtype):
    """Also of confident decisions, whose losses are far below a rounding of 1."""
    x, w, b, labels = layer(dtype)
    expected, _, _, signed = exact(x, w, b, labels, beta)
    with jax.enable_x64(dtype == np.float64):
        losses = loss(x, w, labels, TREE, bias=b, beta=beta)
        wide = np.float64 if dtype == np.float64 else np.float32
        gap = np.abs(signed).sum(1)
        bound = tolerance.VALUE["softmax_cross_entropy_with_integer_labels"]
        tolerance.check(losses, expected, wide, bound, "hierarchical loss", gap=gap)


@pytest.mark.parametrize("beta", [slow(None), 1.7, -0.3, 0.0, 40.0])
def test_the_probabilities_of_all_classes_sum_to_1(beta):
    """S01, whatever the parameters are."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((N, D)).astype(np.float32), rng.standard_normal((V - 1, D)).astype(np.float32)
    options = {} if beta is None else {"beta": beta}
    p = np.exp(np.float64(log_prob(x, w, TREE, **options)))
    assert p.shape == (N, V) and np.abs(p.sum(1) - 1).max() <= 8 * np.finfo(np.float32).eps
    for w_ in range(V):
        one = loss(x, w, np.full(N, w_, np.int32), TREE, **options)
        tolerance.check(one, -np.log(p[:, w_]), np.float32, tolerance.Bound(40), "against all classes", scale=1)


def test_shapes_and_temperatures():
    x, w, b, labels = layer()
    flat = loss(x, w, labels, TREE, bias=b, beta=2.0)
    grid = loss(x.reshape(3, 4, D), w, labels.reshape(3, 4), TREE, bias=b, temperature=np.full((3, 1), 0.5, np.float32))
    assert np.array_equal(grid.reshape(-1), flat)
    assert np.array_equal(loss(x, w, labels, TREE, bias=b, base=np.exp(2.0)), flat)
    assert np.array_equal(jax.jit(loss)(x, w, labels.astype(np.int8), TREE, bias=b, beta=2.0), flat)
    assert log_prob(x.reshape(3, 4, D), w, TREE).shape == (3, 4, V)
    each = jax.vmap(lambda x, y: loss(x, w, y, TREE, bias=b, beta=2.0))(x, labels)
    assert np.array_equal(each, flat)


@pytest.mark.parametrize("beta", [np.inf, -np.inf])
def test_the_limits_of_beta_are_sure_or_undecided(beta):
    x = np.array([[1.0], [-1.0], [0.0]], np.float32)
    tree, w = jsoftmax.tree_from_codes(["0", "1"]), np.ones((1, 1), np.float32)
    first = 0 if beta < 0 else np.inf
    expected = [[first, np.inf - first if first == 0 else 0.0], [np.inf if first == 0 else 0.0, first], [np.log(2)] * 2]
    found = np.stack([loss(x, w, np.full(3, label, np.int32), tree, beta=beta) for label in (0, 1)], 1)
    np.testing.assert_array_equal(found, np.float32(expected))
    assert all(np.all(bar == 0) for bar in undecided_bars(x, w, tree, np.float32(beta)))


@jax.jit
def undecided_bars(x, w, tree, beta):
    return jax.grad(lambda x, w: loss(x, w, np.zeros(3, np.int32), tree, beta=beta)[2], (0, 1))(x, w)


def test_a_tree_of_one_class():
    x, tree, w = layer()[0], jsoftmax.huffman_tree([3]), np.zeros((0, D), np.float32)
    labels = np.array([0, 1, -1, *[0] * (N - 3)], np.int32)
    np.testing.assert_array_equal(loss(x, w, labels, tree), np.where(labels == 0, 0, np.nan))
    assert np.all(log_prob(x, w, tree) == 0) and jax.grad(lambda w: loss(x, w, 0 * labels, tree).sum())(w).shape == (
        0,
        D,
    )
    assert np.all(jsoftmax.hierarchical_predict(x, w, tree)[0] == 0)
    assert np.all(jsoftmax.hierarchical_sample(jax.random.key(0), x, w, tree) == 0)


def test_labels_that_are_no_class_and_inputs_that_are_no_number():
    x, w, b, labels = layer()
    x[2], x[3] = np.nan, np.inf
    labels[:4] = -1, V, 6, 6
    f = lambda x, w, b: loss(x, w, labels, TREE, bias=b, ignore_label=6)  # noqa: E731
    value, pull = jax.vjp(f, x, w, b)
    assert np.isnan(value[:2]).all() and np.all(value[2:4] == 0) and np.isfinite(value[4:]).all()
    bars = pull(jnp.where(jnp.arange(N) < 2, 0, 1.0).astype(jnp.float32))
    assert all(np.isfinite(bar).all() for bar in bars) and np.all(bars[0][:4] == 0)
    assert np.isnan(pull(jnp.ones(N))[0][:2]).all()
    assert np.isnan(loss(x, w, labels, TREE, bias=b)[:4]).all()


@pytest.mark.parametrize("node", [-1, V - 1, 2**31 - 1])
def test_a_node_outside_of_the_table_is_no_number(node):
    x, w, b, labels = layer()
    broken = TREE._replace(paths=TREE.paths.at[3, 0].set(node))
    at = labels == 3
    value, bar = value_and_bar(x, w, labels, broken, b, np.where(at, np.float32(0), np.float32(1)))
    assert np.isnan(value[at]).all() and np.isfinite(value[~at]).all()
    assert np.isnan(log_prob(x, w, broken, bias=b)[:, 3]).all() and not np.isnan(bar).any()


@jax.jit
def value_and_bar(x, w, labels, tree, b, g):
    value, pull = jax.vjp(lambda w: loss(x, w, labels, tree, bias=b), w)
    return value, pull(g)[0]


# derivatives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, -2.0, 16.0])
def test_gradients(beta):
    x, w, b, labels = layer()
    g = np.random.default_rng(2).standard_normal(N).astype(np.float32)
    pull = jax.vjp(lambda x, w, b, beta: loss(x, w, labels, TREE, bias=b, beta=beta), x, w, b, jnp.float32(beta))[1]
    x_bar, w_bar, b_bar, beta_bar = pull(g)
    _, slope, z, signed = exact(x, w, b, labels, beta)
    z_bar = g[:, None] * slope
    paths, mask = (np.asarray(a)[labels] for a in (TREE.paths, TREE.mask))
    wide_w = np.zeros((V - 1, D))
    np.add.at(wide_w, paths[mask], (z_bar[..., None] * x[:, None])[mask])
    wide_b = np.zeros(V - 1)
    np.add.at(wide_b, paths[mask], z_bar[mask])
    check = functools.partial(tolerance.check, dtype=np.float32, bound=tolerance.COTANGENT["x"])
    gap = np.abs(signed).max()
    each = np.einsum("nl,nld->nd", np.abs(z_bar), np.abs(w)[paths])
    check(x_bar, np.einsum("nl,nld->nd", z_bar, w[paths]), what="inputs", scale=each, gap=gap)
    check(w_bar, wide_w, what="nodes", scale=np.abs(z_bar).sum() * np.abs(x).max(), gap=gap)
    check(b_bar, wide_b, what="bias", scale=np.abs(z_bar).sum(), gap=gap)
    terms = z_bar * z / beta
    check(beta_bar, terms.sum(), what="beta", scale=np.abs(terms).sum(), gap=gap)
    rested = np.setdiff1d(np.arange(V - 1), np.asarray(TREE.paths)[1][np.asarray(TREE.mask)[1]])
    alone = jax.grad(lambda w: loss(x[:1], w, np.array([1], np.int32), TREE).sum())(w)
    assert np.all(alone[rested] == 0) and np.abs(alone).max() > 0


@pytest.mark.parametrize("outer", [slow("reverse"), "forward"])
def test_second_order(outer):
    """Of the loss as of the sum over all classes, which is made of other operators."""
    x, w, b, labels = layer(n=3)

    def path(x, w, b, beta):
        return loss(x, w, labels, TREE, bias=b, beta=beta).sum()

    def whole(x, w, b, beta):
        return -jnp.sum(jnp.where(np.arange(V) == labels[:, None], log_prob(x, w, TREE, bias=b, beta=beta), 0))

    over = jax.jacrev if outer == "reverse" else jax.jacfwd
    at = (x, w, b, jnp.float32(0.7))
    found, wanted = (jax.jit(over(jax.grad(f, (0, 1, 2, 3)), (0, 1, 2, 3)))(*at) for f in (path, whole))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        tolerance.check(a, np.float64(e), np.float32, tolerance.Bound(64), "second order", scale=np.abs(e).max() + 1)


def test_forward_mode_scan_and_remat():
    x, w, b, labels = layer()
    f = lambda w: loss(x, w, labels, TREE, bias=b).sum()  # noqa: E731
    bar = jax.jit(jax.grad(f))(w)
    with jsoftmax.forward_mode():
        moved = jax.jit(lambda w: jax.jvp(f, (w,), (jnp.ones_like(w),))[1])(w)
    tolerance.check(moved, np.float64(bar).sum(), np.float32, tolerance.Bound(64), "forward", scale=np.abs(bar).sum())
    verify.assert_same(jax.jit(jax.grad(jax.checkpoint(f)))(w), bar, tolerance.Bound(8), "remat")

    def step(w, _):
        return w - 0.5 * jax.grad(f)(w), f(w)

    losses = jax.lax.scan(step, jnp.asarray(w), length=20)[1]
    assert np.all(np.diff(losses) < 0)


def sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars)
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from sizes(part)


def test_nothing_is_as_large_as_all_classes_of_all_examples():
    classes, width, n = 1000, 8, 64
    tree = jsoftmax.huffman_tree(np.ones(classes))
    x, w, y = jnp.ones((n, width)), jnp.ones((classes - 1, width)), jnp.arange(n)
    run = jax.value_and_grad(lambda x, w: loss(x, w, y, tree).sum(), (0, 1))
    largest = max(sizes(jax.make_jaxpr(run)(x, w).jaxpr))
    assert w.size <= largest <= max(w.size, tree.paths.size) < n * classes


# ways down ------------------------------------------------------------------------------------------------------------


def test_a_beam_of_all_classes_is_their_order():
    x, w, b, _ = layer()
    w = w + np.linspace(0, 0.1, w.size, dtype=np.float32).reshape(w.shape)  # no ties
    labels, found = jsoftmax.hierarchical_predict(x, w, TREE, bias=b, beta=1.3, beam_size=V + 2)
    every = log_prob(x, w, TREE, bias=b, beta=1.3)
    assert np.array_equal(labels[:, :V], jnp.argsort(-every, 1)) and np.all(labels[:, V:] == -1)
    assert np.all(found[:, V:] == -np.inf)
    tolerance.check(
        found[:, :V],
        -np.sort(-np.float64(every), 1),
        np.float32,
        tolerance.Bound(16),
        "beam",
        scale=np.abs(every).max(),
    )


def test_one_path_takes_the_likelier_child_each_time():
    """0.6 · ½ · ½ is less than 0.4: the greedy way misses the likeliest class, two paths find it."""
    tree = jsoftmax.tree_from_codes(["0", "100", "101", "11"])
    w = np.array([[np.log(1.5)], [0.0], [0.0]], np.float32)
    greedy, _ = jsoftmax.hierarchical_predict(np.ones(1, np.float32), w, tree)
    beam, p = jsoftmax.hierarchical_predict(np.ones(1, np.float32), w, tree, beam_size=2)
    assert greedy.tolist() != [0] and beam.tolist()[0] == 0
    tolerance.check(p[:1], np.log([0.4]), np.float32, tolerance.Bound(8), "log-probability", scale=1)
    nothing, _ = jsoftmax.hierarchical_predict(np.full(1, np.nan, np.float32), w, tree)
    assert nothing.tolist() == [-1]


def test_samples_have_the_probabilities_of_the_leaves():
    x, w, b, _ = layer()
    draws = 40_000
    found = jsoftmax.hierarchical_sample(jax.random.key(7), np.broadcast_to(x[:1], (draws, D)), w, TREE, bias=b)
    p = np.exp(np.float64(log_prob(x[:1], w, TREE, bias=b)[0]))
    counts = np.bincount(found, minlength=V)
    assert counts.sum() == draws and scipy.stats.chisquare(counts, draws * p / p.sum()).pvalue > 1 / 1000
    again = jsoftmax.hierarchical_sample(jax.random.key(7), np.broadcast_to(x[:1], (draws, D)), w, TREE, bias=b)
    assert np.array_equal(found, again)
    assert jsoftmax.hierarchical_sample(jax.random.key(0), np.full((1, D), np.nan, np.float32), w, TREE) == -1


# any number of children -----------------------------------------------------------------------------------------------

STEPS = ["ax", "ay", "az", "b", "cx", "cyp", "cyq", "d", "ez"]  # nodes with 5, 3, 2, 2 and 1 children
MANY = jsoftmax.tree_from_paths(STEPS)
VECTORS = V + MANY.children.shape[0] - 1


def many(dtype=np.float32):
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, shape) / 4 for shape in ((N, D), (VECTORS, D), (VECTORS,)))
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), np.arange(N, dtype=np.int32) % V


def exact_of_many(x, w, b, beta):
    """log p [N, V] in float64, from the steps alone: prefixes are nodes, numbered as they come."""
    z = beta * (np.float64(x) @ np.float64(w).T + np.float64(b))
    prefixes = list(dict.fromkeys(s[:d] for s in STEPS for d in range(len(s))))
    children = {p: list(dict.fromkeys(s[: len(p) + 1] for s in STEPS if s.startswith(p) and s != p)) for p in prefixes}
    row = dict(zip((c for p in prefixes for c in children[p]), range(VECTORS), strict=True))
    log_p = np.zeros((len(x), len(STEPS)))
    for w_, s in enumerate(STEPS):
        for d in range(len(s)):
            among = z[:, [row[c] for c in children[s[:d]]]]
            top = among.max(1)
            log_p[:, w_] += z[:, row[s[: d + 1]]] - top - np.log(np.exp(among - top[:, None]).sum(1))
    return log_p


@pytest.mark.parametrize("beta", [1.0, slow(-2.0), 8.0])
@pytest.mark.parametrize("dtype", [np.float32, slow(ml_dtypes.bfloat16)], ids=str)
def test_softmaxes_at_the_nodes(beta, dtype):
    x, w, b, labels = many(dtype)
    expected = exact_of_many(x, w, b, beta)
    gap = np.abs(expected).max()
    losses = loss(x, w, labels, MANY, bias=b, beta=beta)
    at = -expected[np.arange(N), labels]
    tolerance.check(losses, at, np.float32, tolerance.Bound(8, 1), "loss", gap=gap, scale=1)
    every = log_prob(x, w, MANY, bias=b, beta=beta)
    tolerance.check(every, expected, np.float32, tolerance.Bound(8, 1), "log p", gap=gap, scale=1)
    assert np.abs(np.exp(np.float64(every)).sum(1) - 1).max() <= 8 * np.finfo(np.float32).eps


def test_gradients_of_softmaxes_at_the_nodes():
    """As of the sum over all classes, which is made of other operators; of vectors on the path and beside it only."""
    x, w, b, labels = many()
    g = np.random.default_rng(2).standard_normal(N).astype(np.float32)

    def path(x, w, b, beta):
        return jnp.vdot(g, loss(x, w, labels, MANY, bias=b, beta=beta))

    def whole(x, w, b, beta):
        every = log_prob(x, w, MANY, bias=b, beta=beta)
        return -jnp.vdot(g, jnp.sum(jnp.where(np.arange(V) == labels[:, None], every, 0), 1))

    at = (x, w, b, jnp.float32(0.7))
    found, wanted = (jax.jit(jax.grad(f, (0, 1, 2, 3)))(*at) for f in (path, whole))
    for a, e in zip(found, wanted, strict=True):
        tolerance.check(a, np.float64(e), np.float32, tolerance.Bound(32), "gradient", scale=np.abs(e).max() + 1)
    alone = jax.jit(jax.grad(lambda w: loss(x[:1], w, np.array([3], np.int32), MANY).sum()))(w)
    assert np.all(alone[5:] == 0) and np.all(np.any(alone[:5] != 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["reverse", "forward"])
def test_second_order_of_softmaxes_at_the_nodes(outer):
    x, w, b, labels = many()
    x, labels = x[:3], labels[4:7]
    over = jax.jacrev if outer == "reverse" else jax.jacfwd
    path = lambda x, w, b, beta: loss(x, w, labels, MANY, bias=b, beta=beta).sum()  # noqa: E731

    def whole(x, w, b, beta):
        every = log_prob(x, w, MANY, bias=b, beta=beta)
        return -jnp.sum(jnp.where(np.arange(V) == labels[:, None], every, 0))

    at = (x, w, b, jnp.float32(0.7))
    found, wanted = (jax.jit(over(jax.grad(f, (0, 1, 2, 3)), (0, 1, 2, 3)))(*at) for f in (path, whole))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        tolerance.check(a, np.float64(e), np.float32, tolerance.Bound(64), "second order", scale=np.abs(e).max() + 1)


@pytest.mark.slow
def test_bad_labels_and_nodes_where_children_are_many():
    x, w, b, labels = many()
    x[2] = np.nan
    labels[:3] = -1, V, 6
    f = lambda x, w: loss(x, w, labels, MANY, bias=b, ignore_label=6)  # noqa: E731
    value, pull = jax.vjp(f, x, w)
    assert np.isnan(value[:2]).all() and value[2] == 0 and np.isfinite(value[3:]).all()
    bars = pull(jnp.where(jnp.arange(N) < 2, 0, 1.0).astype(jnp.float32))
    assert all(np.isfinite(bar).all() for bar in bars) and np.all(bars[0][:3] == 0)
    for bad in (VECTORS, -7):
        broken = MANY._replace(children=MANY.children.at[1, 1].set(bad))  # of "ay"
        losses = loss(x[3:], w, labels[3:] % 4, broken, bias=b)
        assert np.array_equal(np.isnan(losses), labels[3:] % 4 < 3)


@pytest.mark.slow
def test_ways_down_where_children_are_many():
    x, w, b, _ = many()
    w = w + np.linspace(0, 0.1, w.size, dtype=np.float32).reshape(w.shape)  # no ties
    every = np.float64(log_prob(x, w, MANY, bias=b, beta=1.3))
    labels, found = jsoftmax.hierarchical_predict(x, w, MANY, bias=b, beta=1.3, beam_size=V)
    assert np.array_equal(labels, np.argsort(-every, 1))
    tolerance.check(found, -np.sort(-every, 1), np.float32, tolerance.Bound(16), "beam", scale=np.abs(every).max())
    draws = 40_000
    drawn = jsoftmax.hierarchical_sample(
        jax.random.key(7), np.broadcast_to(x[:1], (draws, D)), w, MANY, bias=b, beta=1.3
    )
    p = np.exp(every[0])
    counts = np.bincount(drawn, minlength=V)
    assert counts.sum() == draws and scipy.stats.chisquare(counts, draws * p / p.sum()).pvalue > 1 / 1000


@pytest.mark.slow
def test_classes_in_groups():
    """Goodman's: p(group) p(class | group), of a class by itself in its group p(group) alone."""
    groups = [0, 0, 1, 1, 1, 2]
    tree = jsoftmax.tree_from_paths([(group, w) for w, group in enumerate(groups)])
    assert tree.children.tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, 7], [8, -1, -1]]
    w = np.zeros((9, 1), np.float32)
    p = np.exp(np.float64(log_prob(np.ones((1, 1), np.float32), w, tree)[0]))
    tolerance.check(jnp.float32(p), np.array([1 / 6, 1 / 6, *[1 / 9] * 3, 1 / 3]), np.float32, tolerance.Bound(8), "p")
    two = jsoftmax.tree_from_paths(["0", "1"])
    binary = jsoftmax.tree_from_codes(["0", "1"])
    x = np.array([[2.0]], np.float32)
    same = [
        loss(x, np.array(v, np.float32), np.array([0]), t)[0] for v, t in (([[1.0], [4.0]], two), ([[3.0]], binary))
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("paths", "why"), [(["a", "a"], "the same path"), (["a", "ab"], "class 0 is the beginning of that of class 1")]
)
def test_paths_of_no_tree(paths, why):
    with pytest.raises(ValueError, match=f"tree_from_paths: `paths` must be those of a tree, but .*{why}"):
        jsoftmax.tree_from_paths(paths)
