"""Margin softmaxes over blocks, devices, centers and candidates; what stands in a row, and how they transform. Their
values: test_margin.py.
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
from tests import tolerance, verify
from tests.marks import slow
from tests.test_margin import FORMS, GRADIENT, C, D, N, W, Y, problem

COMPILE_LIGHTLY = "fast lane"
P = PartitionSpec

arcface_first = pytest.mark.parametrize("name", [n if n == "arcface_loss" else slow(n) for n in FORMS])


# blocks, devices, centers, candidates ------------------------------------------------------------------------------


def value_and_bars(f, *given):
    g = np.linspace(0.5, 1.5, N).astype(np.float32)
    return jax.jit(jax.value_and_grad(lambda *a: jnp.vdot(g, f(*a)), tuple(range(len(given)))))(*given)


@arcface_first
@pytest.mark.parametrize("block", [slow(4), slow((N, 5)), (3, 4)], ids=str)
def test_blocks(name, block):
    x, w, y = problem()
    loss = functools.partial(getattr(jsoftmax, name), labels=y, scale=4.0)
    of = lambda **more: value_and_bars(lambda x, w: loss(x, w, **more), x, w)  # noqa: E731
    verify.assert_same(of(block_size=block), of(), GRADIENT, name)


@pytest.mark.parametrize("block", [(3, 4), slow(None)], ids=str)
def test_smoothed_it_is_the_cross_entropy_of_its_logits(block):
    """In value and in every gradient; `margin_logits` has one too."""
    x, w, y = problem()
    given = {"m1": 1.2, "m2": 0.3, "m3": 0.1, "annealing": 0.5, "scale": 4.0}
    given = {k: np.float32(v) for k, v in given.items()}
    share = np.float32(0.2)
    loss = jsoftmax.combined_margin_loss
    cross_entropy = jsoftmax.softmax_cross_entropy_with_integer_labels
    f = lambda x, w, e, given: loss(x, w, y, **given, label_smoothing=e, block_size=block)  # noqa: E731
    g = lambda x, w, e, given: cross_entropy(  # noqa: E731
        jsoftmax.margin_logits(x, w, y, **given), y, label_smoothing=e
    )
    verify.assert_same(
        value_and_bars(f, x, w, share, given), value_and_bars(g, x, w, share, given), GRADIENT, "smoothed"
    )


def test_cosines_of_rows_on_which_nothing_depends():
    x, w, _ = problem()
    x[0], x[1] = np.nan, 0
    z, pull = jax.vjp(jsoftmax.cosine_logits, x, w)
    assert np.isnan(z[0]).all() and np.all(z[1] == 0)
    x_bar, w_bar = pull(jnp.where(jnp.arange(N)[:, None] == 0, 0, jnp.ones_like(z)))
    assert np.all(x_bar[:2] == 0) and np.isfinite(x_bar).all() and np.isfinite(w_bar).all()


@pytest.mark.parametrize("reduction", ["mean", slow("sum")])
@pytest.mark.parametrize("block", [(4, 5), slow(None)], ids=str)
def test_reductions(reduction, block):
    x, w, y = problem()
    y = np.where(np.arange(N) == 3, -100, y)
    c = np.linspace(0, 2, N).astype(np.float32)
    kept = np.where(y == -100, 0, c)
    f = functools.partial(jsoftmax.arcface_loss, labels=y, scale=4.0, ignore_label=-100)
    short = lambda x, w: f(x, w, weights=c, reduction=reduction, block_size=block)  # noqa: E731
    long = lambda x, w: jnp.vdot(kept, f(x, w)) / (kept.sum() if reduction == "mean" else 1)  # noqa: E731
    verify.assert_same(*(jax.jit(jax.value_and_grad(h, (0, 1)))(x, w) for h in (short, long)), GRADIENT, reduction)


@pytest.mark.parametrize("check", [True, slow(False)])
@pytest.mark.parametrize("name", ["arcface_loss", slow("sphereface_loss"), slow("cosface_loss")])
def test_classes_over_devices(name, check):
    """V01, V02, V07: the class of an example on any of three devices, and the batch over two."""
    x, w, y = problem()
    y[2] = C  # of no device
    loss = functools.partial(getattr(jsoftmax, name), ignore_label=1)
    mesh = jax.make_mesh((2, 3), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    specs = P("data"), P("model"), P("data"), P()
    f = lambda x, w, y, s: loss(x, w, y, scale=s, axis_name="model", block_size=(3, 2))  # noqa: E731
    spread = jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P("data"), check_vma=check)
    whole = lambda x, w, y, s: loss(x, w, y, scale=s)  # noqa: E731
    g = np.where(np.arange(N) == 2, 0, np.linspace(0.5, 1.5, N)).astype(np.float32)

    def of(h):
        def total(x, w, s):
            losses = h(x, w, y, s)
            return jnp.vdot(g, jnp.where(g == 0, 0, losses)), losses

        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(x, w, np.float32(4))

    ((found, losses), bars), ((wanted, _), expected) = of(spread), of(whole)
    verify.assert_same((found, bars), (wanted, expected), GRADIENT, name)
    assert np.isnan(losses[2])


@pytest.mark.slow
def test_batches_and_classes_on_an_explicit_mesh():
    x, w, y = problem()
    mesh = jax.make_mesh((2, 3), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    loss = functools.partial(jsoftmax.arcface_loss, scale=4.0)
    with jax.sharding.set_mesh(mesh):
        placed = [
            jax.device_put(a, jax.NamedSharding(mesh, s)) for a, s in ((x, P("data")), (w, P("model")), (y, P("data")))
        ]
        found = jax.jit(lambda x, w, y: (loss(x, w, y), jax.grad(lambda x, w: loss(x, w, y).sum(), (0, 1))(x, w)))(
            *placed
        )
        z = jax.jit(jsoftmax.cosine_logits)(*placed[:2])
    assert found[0].sharding.spec == P("data")
    wanted = loss(x, w, y), jax.grad(lambda x, w: loss(x, w, y).sum(), (0, 1))(x, w)
    verify.assert_same(jax.device_get((found, z)), (wanted, jsoftmax.cosine_logits(x, w)), GRADIENT, "Explicit")


@pytest.mark.parametrize("block", [(4, 3), slow(None)], ids=str)
def test_the_nearest_center_counts(block):
    x, w, y = problem(c=24)
    centers = w.reshape(8, 3, D)
    y = y % 8
    nearest = jnp.argmax(jsoftmax.cosine_logits(x, w).reshape(N, 8, 3), -1)

    def chosen(x, centers):
        of_row = jnp.take_along_axis(centers[None], nearest[:, :, None, None], 2)[:, :, 0]
        one = jax.vmap(lambda x, w, y: jsoftmax.arcface_loss(x[None], w, y[None], scale=4.0)[0])
        return one(x, of_row, y)

    f = lambda x, w: jsoftmax.arcface_loss(x, w, y, scale=4.0, block_size=block)  # noqa: E731
    verify.assert_same(value_and_bars(f, x, centers), value_and_bars(chosen, x, centers), GRADIENT, "centers")
    z = jsoftmax.cosine_logits(x, centers)
    assert np.array_equal(z, jsoftmax.cosine_logits(x, w).reshape(N, 8, 3).max(-1))


def test_candidates():
    """Partial FC: a loss of fewer classes, with every label among them."""
    x, w, y = problem()
    drawn = jsoftmax.uniform_sampler(jax.random.key(0), num_sampled=N + 1, num_classes=C, include=y)
    ids = np.asarray(drawn.ids)
    assert set(y) <= set(ids.tolist()) and len(set(ids.tolist())) == N + 1
    places = np.array([np.flatnonzero(ids == label)[0] for label in y])
    b = np.linspace(-1, 1, C).astype(np.float32)
    loss = jsoftmax.large_margin_softmax_loss
    found = value_and_bars(lambda x, w, b: loss(x, w, y, candidates=drawn, bias=b), x, w, b)
    verify.assert_same(
        found, value_and_bars(lambda x, w, b: loss(x, w[ids], places, bias=b[ids]), x, w, b), GRADIENT, "bias"
    )
    few = jsoftmax.Candidates(np.array([0, 5, 3]), np.zeros(C))
    losses = jsoftmax.arcface_loss(x, w, y, candidates=few)
    assert np.array_equal(np.isnan(losses), ~np.isin(y, [0, 5, 3]))
    bad = jsoftmax.arcface_loss(x, w, y, candidates=jsoftmax.Candidates(np.array([0, -1, 3]), np.zeros(C)))
    assert np.isnan(bad).all()


@pytest.mark.slow
def test_candidates_with_several_centers():
    x, w, y = problem()
    centers = w.reshape(C // 2, 2, D)
    y, half = y % (C // 2), jsoftmax.Candidates(np.array([5, 1, 0, 2, 4, 3]), np.zeros(C // 2))
    places = np.argsort(half.ids)[y]
    found = value_and_bars(lambda x, w: jsoftmax.arcface_loss(x, w, y, scale=4.0, candidates=half), x, centers)
    wanted = value_and_bars(lambda x, w: jsoftmax.arcface_loss(x, w[half.ids], places, scale=4.0), x, centers)
    verify.assert_same(found, wanted, GRADIENT, "centers")


@pytest.mark.slow
def test_candidates_of_each_device():
    x, w, y = problem()
    ids = np.array([0, 3, 1, 2, 3, 0], np.int32)  # of each of two devices three of its six classes
    everywhere = np.concatenate([ids[:3], ids[3:] + 6])
    y = everywhere[np.arange(N) * 5 % 6].astype(np.int32)
    places = np.array([np.flatnonzero(everywhere == label)[0] for label in y])
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))

    def f(x, w, ids):
        drawn = jsoftmax.Candidates(ids, jnp.zeros(6))
        return jsoftmax.arcface_loss(x, w, y, scale=4.0, candidates=drawn, axis_name="model")

    spread = jax.shard_map(f, mesh=mesh, in_specs=(P(), P("model"), P("model")), out_specs=P())
    found = value_and_bars(lambda x, w: spread(x, w, ids), x, w)
    wanted = value_and_bars(lambda x, w: jsoftmax.arcface_loss(x, w[everywhere], places, scale=4.0), x, w)
    verify.assert_same(found, wanted, GRADIENT, "ids")


def test_labels_are_included_exactly_and_the_others_evenly():
    """Expected counts against Monte Carlo, with labels that are no class."""
    labels = np.array([3, 3, 7, -1, 99])
    keys = jax.random.split(jax.random.key(1), 4000)
    draw = jax.jit(jax.vmap(lambda k: jsoftmax.uniform_sampler(k, num_sampled=5, num_classes=9, include=labels)))
    drawn = draw(keys)
    there = (np.asarray(drawn.ids)[:, :, None] == np.arange(9)).sum(1)
    assert there.max() == 1 and (there.sum(1) == 5).all()
    inverse = there / np.exp(np.float64(drawn.log_expected_count))
    error = np.abs(inverse.mean(0) - 1) / (inverse.std(0) / np.sqrt(len(keys)) + 1e-9)
    assert np.array_equal(inverse[:, [3, 7]], np.ones((4000, 2))) and np.delete(error, [3, 7]).max() < 4


@arcface_first
def test_rows_that_are_no_number_stay_alone(name):
    """A NaN embedding, a label that is no class, an ignored one and one on which nothing depends."""
    x, w, y = problem()
    loss = functools.partial(getattr(jsoftmax, name), ignore_label=-100)
    bad_x, bad_y = x.copy(), y.copy()
    bad_x[0], bad_x[1], bad_x[3] = np.nan, np.nan, np.inf
    bad_y[1], bad_y[2] = -100, C
    f = jax.jit(lambda x, w, y, g: (loss(x, w, y), jax.vjp(lambda x, w: loss(x, w, y), x, w)[1](g)))
    used = np.where(np.isin(np.arange(N), [0, 2, 3]), 0, 1).astype(np.float32)
    value, (x_bar, w_bar) = f(bad_x, w, bad_y, used)
    clean, (x_clean, w_clean) = f(np.where(used[:, None] * (bad_y != -100)[:, None], x, 0), w, bad_y, used)
    value, x_bar, poisoned = (np.asarray(a) for a in (value, x_bar, f(bad_x, w, bad_y, np.ones(N, np.float32))[1][0]))
    assert np.isnan(value[[0, 2, 3]]).all() and value[1] == 0
    rest = np.arange(4, N)
    assert np.array_equal(value[rest], clean[rest]) and np.array_equal(x_bar[rest], x_clean[rest])
    assert np.all(x_bar[:4] == 0) and np.array_equal(w_bar, w_clean) and np.isfinite(w_bar).all()
    assert np.isnan(poisoned[[0, 2]]).all() and np.all(poisoned[1] == 0) and np.isfinite(poisoned[rest]).all()


@arcface_first
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, slow(np.float16)], ids=lambda d: np.dtype(d).name)
def test_half_precision(name, dtype):
    """Cosines and logits are float32: the loss is that of the same numbers."""
    x, w, y = problem(dtype=dtype)
    loss = functools.partial(getattr(jsoftmax, name), labels=y)
    of = jax.jit(lambda x, w: (loss(x, w), jax.vjp(loss, x, w)[1](jnp.ones(N))))
    (value, bars), (expected, exact) = of(x, w), of(x.astype(np.float32), w.astype(np.float32))
    tolerance.check(value, np.float64(expected), np.float32, GRADIENT, name, scale=64)
    for bar, e in zip(bars, exact, strict=True):
        bound = tolerance.HALF_PRODUCTS[np.dtype(dtype).name]
        tolerance.check(bar, np.float64(e), dtype, bound, name, scale=np.abs(e).max())


# transformations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arcface_loss", slow("large_margin_softmax_loss"), slow("cosface_loss")])
@pytest.mark.parametrize("block", [None, slow((4, 5))], ids=str)
@pytest.mark.parametrize("how", ["forward over reverse", slow("reverse over reverse")])
def test_second_order(how, name, block):
    """Derivative of the gradient, both ways, against differences in float64."""
    with jax.enable_x64(True):
        x, w, y = problem(dtype=np.float64)
        v, u = (np.random.default_rng(5).standard_normal(a.shape) for a in (x, w))
        g = np.linspace(0.5, 1.5, N)
        loss = lambda x, w: getattr(jsoftmax, name)(x, w, y, scale=2.0, block_size=block)  # noqa: E731
        gradient = jax.grad(lambda x, w: jnp.vdot(g, loss(x, w)), (0, 1))

        def along(x, w):
            bars = gradient(x, w)
            return sum(jnp.vdot(a, b) for a, b in zip(bars, (v, u), strict=True)), bars

        def both(x, w):  # the gradient and its derivative
            if how == "forward over reverse":
                return jax.jvp(gradient, (x, w), (v, u))
            return jax.grad(along, (0, 1), has_aux=True)(x, w)[::-1]

        run, h = jax.jit(both), 1e-5
        up, down = run(x + h * v, w + h * u)[0], run(x - h * v, w - h * u)[0]
        for a, *ends in zip(run(x, w)[1], up, down, strict=True):
            e = np.subtract(*ends) / (2 * h)
            tolerance.check(a, e, np.float64, tolerance.SLOPES, name, scale=np.abs(e).max())


def test_second_order_where_the_angle_is_0_or_pi():
    hessian = jax.jit(jax.hessian(lambda x: jsoftmax.arcface_loss(x, W, Y, scale=4.0)[0]))
    for x in (W[:1], 3 * W[2:], 0 * W[:1]):
        assert np.isfinite(hessian(x)).all()


def value_and_pulled(g):
    x, w, y = problem()
    loss = lambda x, w: jsoftmax.arcface_loss(x, w, y, scale=4.0)  # noqa: E731
    return loss, jax.jit(lambda x, w: (loss(x, w), jax.vjp(loss, x, w)[1](g)))(x, w)


def test_forward_mode_and_vmap():
    x, w, y = problem()
    g = np.linspace(-1, 1, N).astype(np.float32)
    loss, (value, bars) = value_and_pulled(g)
    v, u = x[::-1], w[::-1]
    with jsoftmax.forward_mode():
        _, moved = jax.jit(lambda x, w: jax.jvp(loss, (x, w), (v, u)))(x, w)
    total = np.vdot(np.float64(bars[0]), v) + np.vdot(np.float64(bars[1]), u)
    tolerance.check(jnp.vdot(g, moved), np.float64(total), np.float32, GRADIENT, "transpose", scale=np.abs(moved).sum())
    one = jax.vmap(lambda x, y: jsoftmax.arcface_loss(x, w, y, scale=4.0))
    verify.assert_same(one(x, y), value, GRADIENT, "vmap")


@pytest.mark.slow
def test_scan_remat_and_two_leading_axes():
    x, w, y = problem()
    g = np.linspace(-1, 1, N).astype(np.float32)
    loss, (_, bars) = value_and_pulled(g)
    value = loss(x, w)
    assert np.array_equal(jsoftmax.arcface_loss(x.reshape(2, 5, D), w, y.reshape(2, 5), scale=4.0), value.reshape(2, 5))
    again = jax.jit(jax.grad(lambda x: jnp.vdot(g, jax.checkpoint(loss)(x, w))))(x)
    verify.assert_same(again, bars[0], GRADIENT, "remat")

    @jax.jit
    def descend(w):
        step = lambda w, _: (w - 4.0 * jax.grad(lambda w: loss(x, w).mean())(w), loss(x, w).mean())  # noqa: E731
        return jax.lax.scan(step, w, None, 40)[1]

    assert descend(w)[-1] < 0.5 * descend(w)[0]


def test_numbers_compile_once():
    x, w, y = problem()
    f = jax.jit(lambda s, m: jsoftmax.arcface_loss(x, w, y, scale=s, margin=m))
    for s, m in itertools.product((4.0, 64.0, np.float32(2)), (0.0, 0.5)):
        f(s, m)
        jsoftmax.arcface_loss(x, w, y, scale=s, margin=m)
    assert f._cache_size() <= 2  # a Python float and an array


def test_of_a_million_classes_no_array_is_kept():
    """Value and gradient of 512 examples: 5 % of what their cosines would take."""
    n, c, d = 512, 10**6, 512
    shapes = [jax.ShapeDtypeStruct(s, t) for s, t in (((n, d), np.float32), ((c, d), np.float32), ((n,), np.int32))]
    f = jax.jit(jax.value_and_grad(lambda x, w, y: jsoftmax.arcface_loss(x, w, y, reduction="mean"), (0, 1)))
    assert f.lower(*shapes).compile().memory_analysis().temp_size_in_bytes <= 0.05 * 4 * n * c
