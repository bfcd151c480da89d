"""Adaptive softmax: formulas in float64, probabilities that sum to 1, blocks that are left out, PyTorch as a witness.

Parameters of head and projections are multiples of 1/4, so that logits are exact and what is left is the loss.
"""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jsoftmax
from jsoftmax._ops import adaptive
from tests import tolerance, verify
from tests.marks import slow
from tests.test_hierarchical import sizes

COMPILE_LIGHTLY = "fast lane"
V, D, N = 23, 6, 40
ENDS = (5, 12, 23)  # 5 classes in the head, clusters of 7 and 11
loss, log_prob = jsoftmax.adaptive_softmax_loss, jsoftmax.adaptive_log_prob


def problem(dtype=np.float32, n=N, bias=True):
    rng = np.random.default_rng(0)
    quarters = lambda *shape: (rng.integers(-4, 5, shape) / 4).astype(dtype)  # noqa: E731
    tails = tuple((quarters(d, D), quarters(v, d)) for v, d in ((7, 3), (11, 2)))
    weights = jsoftmax.AdaptiveWeights(quarters(7, D), tails, quarters(7) if bias else None)
    return quarters(n, D), weights, (np.arange(n) % V).astype(np.int32)


def exact_log_prob(x, weights, beta):
    """[N, V] in float64."""

    def of(z):
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    x, head, bias = (np.float64(a) for a in (x, weights.head, weights.head_bias))
    top = of(beta * (x @ head.T + bias))
    parts = [top[:, : ENDS[0]]]
    for k, (p, w) in enumerate(weights.tails):
        parts.append(top[:, ENDS[0] + k, None] + of(beta * (x @ np.float64(p).T @ np.float64(w).T)))
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("beta", [1.0, -2.0, 8.0])
@pytest.mark.parametrize("dtype", [np.float32, slow(ml_dtypes.bfloat16)], ids=str)
def test_losses_and_log_probabilities(beta, dtype):
    x, weights, labels = problem(dtype)
    expected = exact_log_prob(x, weights, beta)
    gap = np.abs(expected).max()
    at = expected[np.arange(N), labels]
    tolerance.check(
        loss(x, weights, labels, beta=beta), -at, np.float32, tolerance.Bound(8, 1), "loss", gap=gap, scale=1
    )
    every = log_prob(x, weights, beta=beta)
    tolerance.check(every, expected, np.float32, tolerance.Bound(8, 1), "log p", gap=gap, scale=1)
    assert np.abs(np.exp(np.float64(every)).sum(1) - 1).max() <= 8 * np.finfo(np.float32).eps


@pytest.mark.slow
def test_double_precision():
    x, weights, labels = problem(np.float64)
    with jax.enable_x64(True):
        found = loss(x, weights, labels)
        expected = -exact_log_prob(x, weights, 1.0)[np.arange(N), labels]
        tolerance.check(found, expected, np.float64, tolerance.Bound(16), "loss", scale=1)


def plain(x, weights, beta, labels):
    """The formula, for autodiff in float64."""
    top = jax.nn.log_softmax(beta * (x @ weights.head.T + weights.head_bias[None]))
    parts = [top[:, : ENDS[0]]]
    for k, (p, w) in enumerate(weights.tails):
        parts.append(top[:, ENDS[0] + k, None] + jax.nn.log_softmax(beta * (x @ p.T @ w.T)))
    return -jnp.concatenate(parts, 1)[jnp.arange(x.shape[0]), labels]


def test_gradients():
    """Of several blocks, of which some have no example of a cluster; in every argument."""
    n = 3 * adaptive.TOKENS + 17
    x, weights, _ = problem(n=n)
    labels = np.where(np.arange(n) < 20, 15, np.arange(n) % 12).astype(np.int32)
    g = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    at = (x, weights, np.float32(1.25))
    found = jax.jit(jax.grad(lambda x, w, beta: jnp.vdot(g, loss(x, w, labels, beta=beta)), (0, 1, 2)))(*at)
    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.float64, at)
        bar = jax.jit(jax.grad(lambda *a: jnp.vdot(jnp.float64(g), plain(*a, labels)), (0, 1, 2)))(*wide)
        bar = jax.tree.map(np.asarray, bar)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(bar), strict=True):
        scale = np.abs(e).max() + np.sqrt(n)
        tolerance.check(a, e, np.float32, tolerance.Bound(24), "gradient", scale=scale)


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["reverse", "forward"])
def test_second_order(outer):
    x, weights, labels = problem(n=3)
    labels = labels + 9  # in both clusters
    over = jax.jacrev if outer == "reverse" else jax.jacfwd
    at = (x, weights, np.float32(0.7))
    ours = lambda x, w, beta: loss(x, w, labels, beta=beta).sum()  # noqa: E731
    found = jax.jit(over(jax.grad(ours, (0, 1, 2)), (0, 1, 2)))(*at)
    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.float64, at)
        wanted = jax.jit(jax.jacrev(jax.grad(lambda *a: plain(*a, labels).sum(), (0, 1, 2)), (0, 1, 2)))(*wide)
        wanted = [np.asarray(e) for e in jax.tree.leaves(wanted)]
    for a, e in zip(jax.tree.leaves(found), wanted, strict=True):
        tolerance.check(a, e, np.float32, tolerance.Bound(96), "second order", scale=np.abs(e).max() + 1)


@pytest.mark.parametrize("beta", [0.0, np.inf])
def test_limits_of_beta(beta):
    x, weights, labels = problem(n=V)
    losses = loss(x, weights, labels, beta=beta)
    if beta == 0:
        expected = np.log(7) + np.select([labels < 5, labels < 12], [0, np.log(7)], np.log(11))
        tolerance.check(losses, expected, np.float32, tolerance.Bound(4), "flat", scale=1)
    else:
        steep = -exact_log_prob(x, weights, 1e6)[np.arange(V), labels]
        assert np.array_equal(np.isinf(losses), steep > 1e3)
        ties = np.isfinite(losses)
        tolerance.check(losses[ties], steep[ties], np.float32, tolerance.Bound(4), "steep", scale=1)


def test_labels_that_are_no_class_and_inputs_that_are_no_number():
    x, weights, labels = problem()
    x[2], x[3] = np.nan, np.inf
    labels[:4] = -1, V, 20, 20
    labels[23:] = 6

    @jax.jit
    def run(x, weights, first, ignore_label=None):
        value, pull = jax.vjp(lambda x, w: loss(x, w, labels, ignore_label=ignore_label), x, weights)
        return value, pull(jnp.where(jnp.arange(N) < first, 0, jnp.ones(N)))

    value, bars = run(x, weights, 2, 20)
    assert np.isnan(value[:2]).all() and np.all(value[2:4] == 0) and np.isfinite(value[4:]).all()
    assert all(np.isfinite(bar).all() for bar in jax.tree.leaves(bars)) and np.all(bars[0][:4] == 0)
    assert np.isnan(run(x, weights, 0, 20)[1][0][:2]).all()
    value, unused = run(x, weights, 4)
    assert np.isnan(value[:4]).all() and np.isfinite(value[4:]).all()
    assert all(np.isfinite(bar).all() for bar in jax.tree.leaves(unused)) and np.all(unused[0][:4] == 0)


def test_shapes_and_transformations():
    x, weights, labels = problem()
    flat = loss(x, weights, labels, beta=2.0)
    grid = loss(x.reshape(5, 8, D), weights, labels.reshape(5, 8), temperature=np.full((5, 1), 0.5, np.float32))
    tolerance.check(grid.reshape(-1), np.float64(flat), np.float32, tolerance.Bound(4), "grid", scale=1)
    assert log_prob(x[0], weights).shape == (V,) and loss(x[0], weights, labels[0]).shape == ()
    assert loss(x[:0], weights, labels[:0]).shape == (0,)
    each = jax.jit(jax.vmap(lambda x, y: loss(x, weights, y, beta=2.0)))(x, labels)
    tolerance.check(each, np.float64(flat), np.float32, tolerance.Bound(8), "vmap", scale=1)
    f = lambda w: loss(x, w, labels).sum()  # noqa: E731
    bar = jax.jit(jax.grad(f))(weights)
    with jsoftmax.forward_mode():
        moved = jax.jit(lambda w: jax.jvp(f, (w,), (jax.tree.map(jnp.ones_like, w),))[1])(weights)
    total = sum(np.float64(a).sum() for a in jax.tree.leaves(bar))
    size = sum(np.abs(np.float64(a)).sum() for a in jax.tree.leaves(bar))
    tolerance.check(moved, np.asarray(total), np.float32, tolerance.Bound(16), "forward", scale=size)
    again = jax.jit(jax.grad(jax.checkpoint(f)))(weights)
    verify.assert_same(again, bar, tolerance.Bound(8), "remat")


def test_the_likeliest_class():
    x, weights, _ = problem(n=300)
    clusters = np.where(np.arange(7) < 5, 0, 3).astype(np.float32)
    weights = weights._replace(head_bias=clusters, tails=tuple((p, 2 * w) for p, w in weights.tails))
    best = np.argmax(log_prob(x, weights), -1)
    assert np.array_equal(jsoftmax.adaptive_predict(x, weights), best) and len(np.unique(best)) > 8
    x[7] = np.nan
    found = jsoftmax.adaptive_predict(x.reshape(3, 100, D), weights).reshape(-1)
    assert found[7] == -1 and np.array_equal(np.delete(found, 7), np.delete(best, 7))
    mostly = weights._replace(head_bias=weights.head_bias + np.where(np.arange(7) < 5, 99, 0).astype(np.float32))
    assert np.all(jsoftmax.adaptive_predict(x, mostly) < 5)


def test_sizes_of_pytorch():
    weights = jsoftmax.adaptive_weights(jax.random.key(0), 64, 1000, [100, 300], div_value=4.0, head_bias=True)
    assert weights.head.shape == (102, 64) and weights.head_bias.shape == (102,)
    assert [(p.shape, w.shape) for p, w in weights.tails] == [((16, 64), (200, 16)), ((4, 64), (700, 4))]
    limits = [(weights.head, 8), (weights.tails[0][0], 8), (weights.tails[0][1], 4), (weights.tails[1][1], 2)]
    for a, root in limits:
        assert np.abs(a).max() <= 1 / root and np.abs(a).max() > 0.98 / root and abs(a.mean()) < 0.1 / root
    half = jsoftmax.adaptive_weights(jax.random.key(0), 8, 9, [3], dtype=jnp.bfloat16)
    assert half.head.dtype == jnp.bfloat16 and half.head_bias is None and half.tails[0][0].shape == (2, 8)


def test_blocks_of_other_clusters_are_left_out():
    """A cluster's layer is behind a choice in every block; and no array has all classes of all examples."""
    n, classes, width = 4 * adaptive.TOKENS, 3000, 16
    weights = jax.eval_shape(lambda key: jsoftmax.adaptive_weights(key, width, classes, [20, 500]), jax.random.key(0))
    x, y = np.ones((n, width), np.float32), np.arange(n) % classes
    run = jax.value_and_grad(lambda x, w: loss(x, w, y).sum(), (0, 1))
    assert max(sizes(jax.make_jaxpr(run)(x, weights).jaxpr)) <= adaptive.TOKENS * 2500 < n * classes
    cluster = jnp.where(jnp.arange(n) % 4 == 0, 1, 0)
    order, back = adaptive._by_cluster(cluster)
    blocks = np.asarray(cluster)[np.asarray(order)].reshape(-1, 4).T  # as `over_rows` takes every fourth
    assert sorted(blocks.any(1).tolist()) == [False, False, False, True]
    assert np.array_equal(order[back], np.arange(n))


def test_pytorch():
    torch = pytest.importorskip("torch", reason="an optional witness")
    width, classes, n = 64, 60, 300
    cutoffs = [5, 20, 40]
    weights = jsoftmax.adaptive_weights(jax.random.key(0), width, classes, cutoffs, head_bias=True)
    x = jax.random.normal(jax.random.key(1), (n, width)) * 3
    y = jax.random.randint(jax.random.key(2), (n,), 0, classes)
    peer = torch.nn.AdaptiveLogSoftmaxWithLoss(width, classes, cutoffs, head_bias=True).double()
    into = [(peer.head.weight, weights.head), (peer.head.bias, weights.head_bias)]
    for (first, second), (p, w) in zip(peer.tail, weights.tails, strict=True):
        into += [(first.weight, p), (second.weight, w)]
    with torch.no_grad():
        for theirs, ours in into:
            theirs.copy_(torch.tensor(np.asarray(ours)))
    tx = torch.tensor(np.float64(x), requires_grad=True)
    output = peer(tx, torch.tensor(np.asarray(y)).long()).output
    output.sum().backward()
    check = functools.partial(tolerance.check, dtype=np.float32, bound=tolerance.Bound(64), what="PyTorch")
    check(loss(x, weights, y), -output.detach().numpy(), scale=4)
    check(log_prob(x, weights), peer.log_prob(tx).detach().numpy(), scale=8)
    assert np.array_equal(jsoftmax.adaptive_predict(x, weights), peer.predict(tx).numpy())
    bars = jax.grad(lambda x, w: -loss(x, w, y).sum(), (0, 1))(x, weights)
    theirs = [tx.grad, peer.head.weight.grad]
    theirs += [layer.weight.grad for pair in peer.tail for layer in pair] + [peer.head.bias.grad]
    for a, e in zip(jax.tree.leaves(bars), theirs, strict=True):
        check(a, e.numpy(), scale=np.abs(e.numpy()).max() + 16)
