"""The linear layer under the softmax: what may stand in a row, derivatives of any order, transformations, arguments."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import inputs, oracle, tolerance
from tests.marks import fast
from tests.test_linear import (
    PLANS,
    PRODUCT,
    ROUNDED,
    B,
    arguments,
    assert_close,
    cotangents,
    gradients,
    layer,
    loss,
    marked,
    value_and_bars,
    with_measures,
)

COMPILE_LIGHTLY = True
BLOCKS = ("tokens", "both")
SOME_BLOCKS = fast(BLOCKS, ["both"])
P = jax.sharding.PartitionSpec


# what may stand in a row -------------------------------------------------------------------------------------------


FORMS = [*itertools.product(BLOCKS, (None, 4.0))]


@pytest.mark.parametrize(("plan", "cap"), marked(FORMS, [("tokens", 4.0)]))
def test_what_is_ignored_leaves_no_trace(plan, cap):
    """P2: value and every gradient to the bit, whatever an ignored token or one of weight 0 holds."""
    x, w, y = layer(9, 21)
    y[4] = -100
    weights = np.ones(9, np.float32)
    weights[6] = 0

    options = {"ignore_label": -100, "weights": weights, "reduction": "mean", "block_size": PLANS[plan]}

    @jax.jit
    def run(x):
        if cap is None:
            return jax.value_and_grad(lambda x, w: loss(x, w, y, **options), (0, 1))(x, w)
        f = lambda x, w, cap: loss(x, w, y, soft_cap=cap, **options)  # noqa: E731
        return jax.value_and_grad(f, (0, 1, 2))(x, w, jnp.float32(cap))

    for payload in (np.nan, np.inf, 3e38):
        held = x.copy()
        held[[4, 6]] = payload
        for a, b in zip(jax.tree.leaves(run(x)), jax.tree.leaves(run(held)), strict=True):
            assert np.array_equal(a, b) and np.isfinite(a).all()
        assert not np.any(run(held)[1][0][np.array([4, 6])])


@pytest.mark.parametrize("plan", SOME_BLOCKS)
def test_a_bad_label_poisons(plan):
    """F07: its loss, its gradient in the inputs and the gradient in the weight; the other tokens not."""
    x, w, y = layer(9, 21)
    for label in (21, -1, -21, 2**31 - 1, -(2**31)):
        y[4] = label
        value, (x_bar, w_bar) = value_and_bars(PLANS[plan], "none")(x, w, y)
        for a in (value, x_bar):
            assert np.isnan(a[4]).all() and np.isfinite(np.delete(a, 4, 0)).all()
        assert np.isnan(w_bar).any(1).all()
        total, (x_bar, _) = value_and_bars(PLANS[plan], "sum")(x, w, y)
        assert np.isnan(total) and np.isnan(x_bar[4]).all() and np.isfinite(np.delete(x_bar, 4, 0)).all()


@pytest.mark.parametrize("plan", SOME_BLOCKS)
def test_absent_classes(plan):
    """F06: the first block all masked, then everything masked, by a bias of −∞; a label there is an infinite loss."""
    x, w, y = layer(9, 21)
    y[:] = np.arange(9) + B
    y[0] = 2
    bias = np.where(np.arange(21) < B, -np.inf, 0).astype(np.float32)

    @jax.jit
    def run(bias):
        value, pull = jax.vjp(lambda x, w: loss(x, w, y, bias=bias, block_size=PLANS[plan]), x, w)
        return value, pull(jnp.ones(9))

    value, bars = run(bias)
    expected, *_ = oracle.linear_softmax_cross_entropy(x, w, y, bias=bias)
    tolerance.check(value, expected, np.float32, tolerance.Bound(8, 1), "value", gap=8.0)
    assert np.isinf(value[0])
    exact = oracle.linear_softmax_cross_entropy_vjp((np.ones(9), np.zeros(9), np.zeros(9)), x, w, y, bias=bias)
    for a, b in zip(bars, (exact["inputs"], exact["weight"]), strict=True):
        tolerance.check(a, b, np.float32, ROUNDED, "gradient", scale=np.abs(b).max())
    value, (x_bar, w_bar) = run(np.full(21, -np.inf, np.float32))
    assert np.all(value == np.inf)
    assert np.array_equal(x_bar, -w[:, y].T), "only the label's own −1 is left"
    assert np.isfinite(w_bar).all()


@pytest.mark.parametrize("plan", SOME_BLOCKS)
def test_no_tokens_and_many_axes(plan):
    """F08. And tokens on several axes are those on one."""
    x, w, y = layer(12, 21)
    value, pull = jax.vjp(lambda x, w: loss(x, w, y[:0], block_size=PLANS[plan]), x[:0], w)
    x_bar, w_bar = pull(value)
    assert value.shape == (0,) and x_bar.shape == (0, 4) and not np.any(w_bar)
    assert loss(x[:0], w, y[:0], block_size=PLANS[plan], reduction="mean") == 0
    flat = loss(x, w, y, block_size=PLANS[plan])
    folded = loss(x.reshape(2, 3, 2, 4), w, y.reshape(2, 3, 2), block_size=PLANS[plan])
    assert folded.shape == (2, 3, 2) and np.array_equal(folded.ravel(), flat)
    assert np.array_equal(loss(x[0], w, y[0], block_size=PLANS[plan]), flat[0])


@pytest.mark.parametrize("plan", fast(PLANS, ["both"]))
def test_permuted_classes(plan):
    """F09."""
    x, w, y = layer(9, 21)
    order = np.random.default_rng(1).permutation(21)
    a, b = (loss(x, *given, block_size=PLANS[plan]) for given in ((w, y), (w[:, order], np.argsort(order)[y])))
    apart = tolerance.REORDERED * tolerance.ulp(np.abs(a), np.float32)
    assert np.all(np.abs(a - b) <= apart)


# second order ------------------------------------------------------------------------------------------------------


ORDERS = [*itertools.product(("whole", "tokens", "both"), ("measures", "mean"), ("forward", "reverse"))]


@pytest.mark.parametrize("case", fast(ORDERS, [("both", "measures", "forward")]), ids=str)
def test_second_order(case):
    """Along a direction in all arguments, against differences of exact cotangents."""
    plan, form, outer = case
    with jax.enable_x64(True):
        given, rest = arguments(5, 11, np.float64)
        given["bias"][4] = 0.25
        direction = {k: inputs.cotangent(a.shape, 9) for k, a in given.items()}
        g = cotangents(5)
        if form == "mean":
            kept = rest["labels"] != -100
            g = (kept / kept.sum(), 0 * g[1], 0 * g[2])
            bars = jax.grad(lambda given: loss(**given, **rest, reduction="mean", block_size=PLANS[plan]))
        else:
            f = with_measures(PLANS[plan], 1, rest)
            bars = lambda given: jax.vjp(f, given)[1](tuple(jnp.asarray(a, jnp.float64) for a in g))[0]  # noqa: E731
        moved = lambda given: jax.jvp(bars, (given,), (direction,))[1]  # noqa: E731
        along = lambda given: sum(jnp.vdot(a, direction[k]) for k, a in bars(given).items())  # noqa: E731
        exact = oracle.directional(
            lambda **given: oracle.linear_softmax_cross_entropy.exact(**given, **rest, g=g), given, direction
        )
        for name, a in jax.jit(moved if outer == "forward" else jax.grad(along))(given).items():
            b = oracle.rounded(exact[name])
            scale = np.abs(b if outer == "forward" else a).max()
            tolerance.check(a, b, np.float64, tolerance.SECOND_ORDER, name, scale=scale, gap=8.0)


@pytest.mark.parametrize("plan", SOME_BLOCKS)
@pytest.mark.parametrize("reduction", fast(["none", "mean"], ["mean"]))
def test_forward_mode(plan, reduction):
    x, w, y = layer(9, 21)
    f = lambda x, w: loss(x, w, y, block_size=PLANS[plan], reduction=reduction)  # noqa: E731
    dx, dw = inputs.cotangent(x.shape, 3).astype(np.float32), inputs.cotangent(w.shape, 4).astype(np.float32)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(f, (x, w), (dx, dw))
    with jsoftmax.forward_mode():
        value, moved = jax.jit(lambda *d: jax.jvp(f, d[:2], d[2:]))(x, w, dx, dw)
    g = inputs.cotangent(value.shape, 5).astype(np.float32)

    @jax.jit
    def pulled(x, w):
        value, pull = jax.vjp(f, x, w)
        return value, pull(g)

    back, (x_bar, w_bar) = pulled(x, w)
    both = np.vdot(x_bar, dx) + np.vdot(w_bar, dw)
    terms = np.vdot(np.abs(x_bar), np.abs(dx)) + np.vdot(np.abs(w_bar), np.abs(dw))
    tolerance.check(
        jnp.asarray(np.vdot(g, moved)), np.asarray(both, np.float64), np.float32, PRODUCT, "⟨g, Jv⟩", scale=terms
    )
    apart = tolerance.REORDERED * tolerance.ulp(np.abs(back), np.float32)
    assert np.all(np.abs(value - back) <= apart)


# transformations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", fast(["whole", "tokens", "both"], ["both"]))
def test_transformations(plan):
    """Over three layers with tokens of their own: vmap, scan and a loop of calls; remat; donated inputs."""
    block = PLANS[plan]
    parts = [layer(9, 21, seed=k) for k in range(3)]
    stacked = tuple(np.stack(a) for a in zip(*parts, strict=True))
    single = jax.jit(lambda x, w, y: gradients(x, w, y, block))
    expected = [np.stack(a) for a in zip(*(jax.tree.leaves(single(*p)) for p in parts), strict=True)]
    assert_close(jax.jit(jax.vmap(lambda *p: gradients(*p, block)))(*stacked), expected)
    assert_close(jax.lax.scan(lambda c, p: (c, gradients(*p, block)), 0, stacked)[1], expected)
    shared = jax.jit(jax.vmap(lambda x, y: gradients(x, parts[0][1], y, block)))(stacked[0], stacked[2])
    assert_close(jax.tree.map(lambda a: a[0], shared), single(*parts[0]))
    x, w, y = parts[0]
    again = jax.checkpoint(lambda x, w: loss(x, w, y, block_size=block).mean())
    assert_close(jax.jit(jax.value_and_grad(again, (0, 1)))(x, w), single(*parts[0]))
    donating = jax.jit(lambda x, w: gradients(x, w, y, block)[1], donate_argnums=(0, 1))
    assert_close(donating(jnp.array(x), jnp.array(w)), single(*parts[0])[1])


@pytest.mark.parametrize("plan", fast(["whole", "tokens", "both"], ["both"]))
@pytest.mark.parametrize("reduction", fast(["none", "sum"], ["sum"]))
def test_tokens_over_devices(plan, reduction):
    """shard_map with check_vma, the weight on every device: its gradient is summed. And jit of sharded tokens."""
    x, w, y = layer(24, 21)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("data"), P(), P("data")), out_specs=P())
    def total(x, w, y):
        return jax.lax.psum(loss(x, w, y, block_size=PLANS[plan], reduction=reduction).sum(), "data")

    run = jax.jit(lambda x, w, y: gradients(x, w, y, PLANS[plan], "sum"))
    expected = run(x, w, y)
    assert_close(jax.jit(jax.value_and_grad(total, (0, 1)))(x, w, y), expected)
    sharded = jax.device_put((x, y), jax.NamedSharding(mesh, P("data")))
    assert_close(run(sharded[0], w, sharded[1]), expected)


# arguments --------------------------------------------------------------------------------------------------


def test_temperature_and_base():
    x, w, y = layer(9, 21)
    for a, b in itertools.pairwise(({"beta": 0.5}, {"temperature": 2.0}, {"base": np.float32(np.exp(0.5))})):
        apart = tolerance.REORDERED * tolerance.ulp(loss(x, w, y, **a), np.float32)
        assert np.all(np.abs(loss(x, w, y, **a) - loss(x, w, y, **b)) <= apart)
