"""The linear layer under the softmax with its classes on several devices, against the definition of the whole layer."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests import inputs, oracle, tolerance
from tests.marks import fast, slow
from tests.test_linear import ROUNDED, arguments, assert_close, cotangents, layer, loss

COMPILE_LIGHTLY = True
P = PartitionSpec
N, V = 8, 24  # tokens on two or four devices, six or twelve classes on each of those that share them
PLANS = {"whole": None, "tokens": 3, "classes": (64, 4), "both": (3, 4), "one by one": (1, 1)}
OF_CLASSES, OF_LAYER = ("weight", "bias"), ("soft_cap", "label_smoothing", "z_loss", "ignore_label")


def specs(arrays, class_axis=1):
    of = {"weight": P(None, "model") if class_axis else P("model", None), "bias": P("model")}
    return {k: of[k] if k in of else P() if k in OF_LAYER else P("data") for k in arrays}


def on_devices(f, devices, arrays, out, class_axis=1, check_vma=True):
    mesh = jax.make_mesh((8 // devices, devices), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    return jax.shard_map(f, mesh=mesh, in_specs=(specs(arrays, class_axis),), out_specs=out, check_vma=check_vma)


def with_measures(plan, devices, class_axis=1, check_vma=True):
    """arguments → (losses, logsumexp, entropy)."""

    def local(given):
        y, measures = loss(**given, class_axis=class_axis, block_size=PLANS[plan], axis_name="model", return_stats=True)
        return y, measures.logsumexp, measures.entropy

    def f(given):
        given = given if class_axis else given | {"weight": given["weight"].T}
        return on_devices(local, devices, given, (P("data"),) * 3, class_axis, check_vma)(given)

    return f


def of_sharded_classes(dtype=np.float32):
    given, rest = arguments(N, V, dtype)
    rest["labels"][[0, 1, 3, 4]] = 0, 5, 6, V - 1  # the first and the last of a device
    given["bias"][12:18] = -np.inf  # nothing on the third of four
    rest["labels"][6] = 11
    return given, rest


FORMS = [*itertools.product(PLANS, (2, 4), (0, 1), (True, False))]
FAST = [("both", 4, 0, True)]


@pytest.mark.parametrize("form", fast(FORMS, FAST), ids=str)
def test_every_argument(form):
    """Bias, soft cap, β of each token, all options, ignored tokens, through losses and measures."""
    plan, devices, class_axis, check_vma = form
    given, rest = of_sharded_classes()
    g, f = cotangents(N), with_measures(plan, devices, class_axis, check_vma)
    run = lambda given, g: (f(given | rest), jax.vjp(lambda given: f(given | rest), given)[1](g)[0])  # noqa: E731
    value, bars = jax.jit(run)(given, g)
    expected = oracle.linear_softmax_cross_entropy(**given, **rest)
    exact = oracle.linear_softmax_cross_entropy_vjp(g, **given, **rest)
    for name, a, b in zip(("losses", "logsumexp", "entropy"), value, expected, strict=True):
        tolerance.check(a, b, np.float32, ROUNDED, name, scale=np.abs(b[np.isfinite(b)]).max())
    for name, bar in bars.items():
        tolerance.check(bar, exact[name], np.float32, ROUNDED, name, scale=np.abs(exact[name]).max(), gap=8.0)


@pytest.mark.parametrize("form", fast([*itertools.product(PLANS, (True, False))], [("both", True)]))
def test_mean(form):
    """Σ w l / Σ w over the tokens of a device, in the weights too; then the mean of the devices' means."""
    plan, check_vma = form
    given, rest = of_sharded_classes()
    w = np.abs(inputs.cotangent((N,), 7)).astype(np.float32)
    arrays = given | rest | {"weights": w}

    def local(arrays):
        mean = loss(**arrays, reduction="mean", block_size=PLANS[plan], axis_name="model")
        return jax.lax.pmean(mean, "data")

    f = on_devices(local, 4, arrays, P(), check_vma=check_vma)
    differentiable = [*given, "weights"]
    run = jax.jit(jax.value_and_grad(lambda d: f(arrays | d)))
    value, bars = run({k: arrays[k] for k in differentiable})
    losses, *_ = oracle.linear_softmax_cross_entropy(**given, **rest)
    counted = np.where(rest["labels"] == -100, 0, w).astype(np.float64).reshape(2, -1)
    share = counted / counted.sum(1, keepdims=True)
    means = (share * losses.reshape(2, -1)).sum(1, keepdims=True)
    tolerance.check(value, means.mean(), np.float32, ROUNDED, "mean")
    exact = oracle.linear_softmax_cross_entropy_vjp((share.ravel() / 2, 0 * w, 0 * w), **given, **rest)
    exact["weights"] = ((losses.reshape(2, -1) - means) / counted.sum(1, keepdims=True) / 2).ravel()
    exact["weights"] = np.where(rest["labels"] == -100, 0, exact["weights"])
    for name, bar in bars.items():
        tolerance.check(bar, exact[name], np.float32, ROUNDED, name, scale=np.abs(exact[name]).max(), gap=8.0)


@pytest.mark.parametrize("plan", fast(["tokens", "both"], ["both"]))
def test_shard_map_of_reverse(plan):
    """The gradient is taken on each device: of the inputs all of it, of the weight that of its classes."""
    x, w, y = layer(N, V)

    def step(arrays):
        f = lambda x, w: loss(x, w, arrays["labels"], block_size=PLANS[plan], reduction="sum", axis_name="model")  # noqa: E731
        x_bar, w_bar = jax.grad(f, (0, 1))(arrays["inputs"], arrays["weight"])
        return x_bar, w_bar

    arrays = {"inputs": x, "weight": w, "labels": y}
    x_bar, w_bar = jax.jit(on_devices(step, 4, arrays, (P("data"), P(None, "model"))))(arrays)
    exact = oracle.linear_softmax_cross_entropy_vjp((np.ones(N), np.zeros(N), np.zeros(N)), x, w, y)
    for a, b in ((x_bar, exact["inputs"]), (w_bar, exact["weight"])):
        tolerance.check(a, b, np.float32, ROUNDED, "gradient", scale=np.abs(b).max(), gap=8.0)


@pytest.mark.parametrize("plan", ["tokens", slow("both")])
def test_confident_tokens(plan):
    """The label's device has the peak: 2e-9 survives in value and gradient, wherever it is."""
    exact = (V - 1) * np.exp(-20.0)

    @jax.jit
    def run(arrays):
        f = on_devices(functools.partial(_losses, plan=plan), 4, arrays, P("data"))
        value, pull = jax.vjp(lambda w: f(arrays | {"weight": w}), arrays["weight"])
        return value, pull(jnp.ones(N))[0]

    for label in (0, 5, 6, V - 1):
        w = np.full((1, V), -20, np.float32)
        w[0, label] = 0
        arrays = {"inputs": np.ones((N, 1), np.float32), "weight": w, "labels": np.full(N, label, np.int32)}
        value, w_bar = run(arrays)
        tolerance.check(value, np.full(N, np.log1p(exact)), np.float32, tolerance.Bound(8), "value")
        wanted = np.asarray(-N * exact / (1 + exact))
        tolerance.check(w_bar[0, label], wanted, np.float32, tolerance.Bound(8), "label gradient")


def _losses(arrays, plan):
    return loss(**arrays, block_size=PLANS[plan], axis_name="model")


@pytest.mark.parametrize("plan", fast(["whole", "both"], ["both"]))
def test_prediction(plan):
    """The first of the most likely classes, on whichever device."""
    x, w, y = layer(N, V)
    w[:, 13], w[:, 20] = w[:, 7], w[:, 7]
    x[0] = w[:, 7]  # likely to be at its peak there, and thrice
    arrays = {"inputs": x, "weight": w, "labels": y, "beta": np.ones(N, np.float32)}

    def local(arrays):
        _, measures = loss(**arrays, block_size=PLANS[plan], axis_name="model", return_stats=True)
        return measures.prediction

    run = jax.jit(on_devices(local, 4, arrays, P("data")))
    for beta in (1, -1):
        found = run(arrays | {"beta": beta * arrays["beta"]})
        assert np.array_equal(found, np.argmax(beta * (x @ w), -1))


ORDERS = [*itertools.product(("tokens", "both"), (True, False), ("forward", "reverse"))]


@pytest.mark.parametrize("form", fast(ORDERS, [("tokens", False, "forward")]), ids=str)
def test_second_order(form):
    """Forward over reverse or its transpose, in all arguments, against differences of exact cotangents."""
    plan, check_vma, outer = form
    with jax.enable_x64(True):
        given, rest = of_sharded_classes(np.float64)
        given["bias"][np.isinf(given["bias"])] = 0.25
        direction = {k: inputs.cotangent(a.shape, 9) for k, a in given.items()}
        d = {k: jnp.asarray(a) for k, a in direction.items()}
        g = tuple(jnp.asarray(a, jnp.float64) for a in cotangents(N))
        rest = {k: jnp.asarray(a) for k, a in rest.items()}
        f = with_measures(plan, 2, 1, check_vma)
        bars = lambda given: jax.vjp(lambda given: f(given | rest), given)[1](g)[0]  # noqa: E731
        along = lambda given: sum(jnp.vdot(a, d[k]) for k, a in bars(given).items())  # noqa: E731
        held = {k: np.asarray(a) for k, a in rest.items()} | {"g": cotangents(N)}
        exact = oracle.directional(
            lambda **given: oracle.linear_softmax_cross_entropy.exact(**given, **held), given, direction
        )
        moved = lambda given: jax.jvp(bars, (given,), (d,))[1]  # noqa: E731
        for name, a in jax.jit(moved if outer == "forward" else jax.grad(along))(given).items():
            b = oracle.rounded(exact[name])
            tolerance.check(a, b, np.float64, tolerance.SECOND_ORDER, name, scale=np.abs(b).max(), gap=8.0)


# as one version of XLA writes those that have the classes of a row between them, or another
CLASS_GROUPS = ("{{0,1,2,3},{4,5,6,7}}", "mesh['data'=2,'model'=4] {'model'}")


@pytest.mark.parametrize("plan", fast(["tokens", "both"], ["both"]))
def test_what_travels(plan):
    """The gradient of the inputs once, in float32; else a few numbers a token."""
    x, w, y = layer(N, V)
    arrays = {"inputs": x.astype(ml_dtypes.bfloat16), "weight": w.astype(ml_dtypes.bfloat16), "labels": y}
    f = on_devices(functools.partial(_losses, plan=plan), 4, arrays, P("data"))
    run = jax.jit(jax.value_and_grad(lambda x, w: f(arrays | {"inputs": x, "weight": w}).sum(), (0, 1)))
    text = run.lower(arrays["inputs"], arrays["weight"]).compile().as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    sent = [
        (kind, dtype, math.prod(int(n) for n in dims.split(",") if n), groups)
        for types, kind, groups in re.findall(rf"= (.*?) ({kinds})\(.*?replica_groups=(.*?), use_global", text)
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", types)
    ]
    assert {kind for kind, *_ in sent} == {"all-reduce"}
    tokens, of_classes = N // 2, [(dtype, size) for _, dtype, size, groups in sent if groups.startswith(CLASS_GROUPS)]
    assert len(of_classes) > 3
    assert [found for found in of_classes if found[1] > tokens] == [("f32", tokens * x.shape[1])]


# without shard_map ----------------------------------------------------------------------------------------------------

KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
PLACES = {
    "tokens": (P("data", None, None), P()),
    "classes": (P(), P(None, "model")),
    "both": (P("data", None, None), P(None, "model")),
}
MESH_FORMS = [*itertools.product(KINDS, PLACES, ("tokens", "both"), ("none", "mean"), (False, True))]
MESH_FAST = [("auto", "both", "tokens", "mean", False), ("explicit", "both", "tokens", "none", True)]
MESH_FAST += [("explicit", "classes", "both", "mean", False)]


@pytest.mark.parametrize("form", fast(MESH_FORMS, MESH_FAST), ids=str)
def test_on_a_mesh(form):
    """Losses lie where their tokens do, gradients where their arguments do; only blocks of classes are gathered."""
    kind, place, plan, reduction, measured = form
    x, w, y = layer(2 * N, 2 * V)
    x, y = x.reshape(4, 4, -1), y.reshape(4, 4)
    spread = dict(zip(("inputs", "weight"), PLACES[place], strict=True))
    spread["labels"] = P(*spread["inputs"][:2])
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(KINDS[kind],) * 2)
    block = {"tokens": 2, "both": (2, 16)}[plan]

    def f(inputs, weight, labels):
        y = loss(inputs, weight, labels, block_size=block, reduction=reduction, return_stats=measured)
        return (y[0], *y[1][:2]) if measured else y

    def run(inputs, weight, labels):
        value, back = jax.vjp(lambda *a: f(*a, labels), inputs, weight)
        return value, back(value)

    with jax.set_mesh(mesh):
        given = {"inputs": x, "weight": w, "labels": y}
        placed = {k: jax.device_put(a, jax.NamedSharding(mesh, spread[k])) for k, a in given.items()}
        program = jax.jit(run).lower(**placed).compile()
        value, bars = program(**placed)
    assert_close((value, bars), jax.jit(run)(x, w, y))
    for name, bar in zip(("inputs", "weight"), bars, strict=True):
        if kind == "explicit" or plan == "tokens":  # under Auto axes the compiler may choose otherwise
            assert bar.sharding.is_equivalent_to(placed[name].sharding, bar.ndim)
    if reduction == "none":
        first = value[0] if measured else value
        assert first.sharding.is_equivalent_to(placed["labels"].sharding, 2)
    if plan == "tokens":
        kinds = re.findall(r" (all-gather|all-to-all|collective-permute|reduce-scatter)\(", program.as_text())
        assert kinds == []
