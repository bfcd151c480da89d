"""Caffe's spatial loss: its four normalisations, axes without transposing, weights, and what it shares with the
cross-entropies it is made of."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from jsoftmax._partition import classes
from tests import inputs, oracle, tolerance
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
NORMALIZATIONS = ("valid", "full", "batch_size", "none")
LOGITS = (2 * inputs.cotangent((3, 5, 4, 6), 20)).astype(np.float32)
LABELS = np.random.default_rng(3).integers(0, 5, (3, 4, 6)).astype(np.uint8)
LABELS[:, 0], LABELS[1, :, 2] = 255, 255
SOFT = np.abs(inputs.cotangent(LOGITS.shape, 21)).astype(np.float32)
WEIGHTS = np.abs(inputs.cotangent(LABELS.shape, 22)).astype(np.float32)
WEIGHTS[0, 2] = 0
BOUND = tolerance.Bound(64, 2)  # a sum over positions in float32, in units of its largest terms


def caffe(logits, labels, axis=1, ignore=255, normalization="valid"):
    """(loss, bottom diff) as SoftmaxWithLossLayer computes them, in float64: loops over outer, classes, inner."""
    shape = logits.shape
    outer, dim, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    x = logits.astype(np.float64).reshape(outer, dim, inner)
    label = labels.reshape(outer, inner)
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss, diff, count = 0.0, p.copy(), 0
    for i, j in itertools.product(range(outer), range(inner)):
        if label[i, j] == ignore:
            diff[i, :, j] = 0
            continue
        loss -= math.log(max(p[i, label[i, j], j], float(np.finfo(np.float32).tiny)))
        diff[i, label[i, j], j] -= 1
        count += 1
    n = max(1, {"valid": count, "full": outer * inner, "batch_size": outer, "none": 1}[normalization])
    return loss / n, (diff / n).reshape(shape)


def agree(actual, expected, what):
    expected = np.asarray(expected, np.float64)
    scale = np.max(np.abs(expected), initial=0.0)
    tolerance.check(jnp.asarray(actual), expected, np.float32, BOUND, what, scale=scale, gap=8.0)


FORMS = [
    pytest.param(axis, n, marks=() if axis == 1 or n == "valid" else pytest.mark.slow, id=f"{axis}-{n}")
    for axis in range(4)
    for n in NORMALIZATIONS
]


@pytest.mark.parametrize(("axis", "normalization"), FORMS)
def test_caffe(axis, normalization):
    """Any axis, the same numbers: classes are moved in the data, and never in the call."""
    logits = np.ascontiguousarray(np.moveaxis(LOGITS, 1, axis))
    loss = lambda x: jsoftmax.spatial_softmax_cross_entropy(  # noqa: E731
        x, LABELS, axis=axis, ignore_label=255, normalization=normalization
    )
    value, gradient = jax.value_and_grad(loss)(logits)
    wanted_value, wanted_gradient = caffe(logits, LABELS, axis, 255, normalization)
    agree(value, wanted_value, "loss")
    agree(gradient, wanted_gradient, "gradient")


@pytest.mark.parametrize("shape", [(5,), *(slow(n) for n in ((4, 5), (2, 5, 3))), (2, 5, 2, 2, 3)], ids=str)
def test_any_rank(shape):
    axis = shape.index(5)
    logits = inputs.cotangent(shape, 23).astype(np.float32)
    labels = np.random.default_rng(4).integers(0, 5, shape[:axis] + shape[axis + 1 :])
    loss = lambda x: jsoftmax.spatial_softmax_cross_entropy(x, labels, axis=axis, normalization="full")  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    wanted_value, wanted_gradient = caffe(logits, labels, axis, None, "full")
    agree(value, wanted_value, "loss")
    agree(gradient, wanted_gradient, "gradient")


def test_a_label_map_with_a_channel_of_its_own():
    """Caffe's label blob is N × 1 × H × W."""
    flat = jsoftmax.spatial_softmax_cross_entropy(LOGITS, LABELS, ignore_label=255)
    assert flat == jsoftmax.spatial_softmax_cross_entropy(LOGITS, LABELS[:, None], ignore_label=255)


def test_exact_where_caffe_clamps():
    logits = np.zeros((1, 2, 1, 1), np.float32)
    logits[0, 1] = 1000
    label = np.zeros((1, 1, 1), np.uint8)
    assert abs(caffe(logits, label)[0] - 87.3365) < 1e-4
    assert jsoftmax.spatial_softmax_cross_entropy(logits, label) == 1000


def test_nothing_valid_is_zero_with_gradient_zero():
    bad = np.where(LOGITS > 1, np.float32(np.nan), LOGITS)
    for labels, weights in ((np.full_like(LABELS, 255), None), (LABELS, np.zeros_like(WEIGHTS))):
        for normalization in NORMALIZATIONS:
            value, gradient = jax.value_and_grad(
                lambda x, y=labels, w=weights, n=normalization: jsoftmax.spatial_softmax_cross_entropy(
                    x, y, ignore_label=255, weights=w, normalization=n
                )
            )(bad)
            assert value == 0 and not np.any(gradient)


def test_a_bad_label_is_not_hidden():
    labels = LABELS.copy()
    labels[2, 3, 3] = 200
    value, gradient = jax.value_and_grad(lambda x: jsoftmax.spatial_softmax_cross_entropy(x, labels, ignore_label=255))(
        LOGITS
    )
    assert np.isnan(value)
    assert np.isnan(gradient[2, :, 3, 3]).all() and not np.isnan(gradient[0]).any()


def test_sp01_is_the_flattened_cross_entropy():
    """Sp01: (N, H, W) labels, 255 ignored, 21 classes; channels first and last."""
    logits = inputs.cotangent((2, 21, 5, 7), 24).astype(np.float32)
    labels = np.random.default_rng(5).integers(0, 21, (2, 5, 7)).astype(np.uint8)
    labels[:, :, 0] = 255
    flat, kept = np.moveaxis(logits, 1, -1).reshape(-1, 21), (labels != 255).reshape(-1)
    exact = oracle.softmax_cross_entropy_with_integer_labels(flat[kept], labels.reshape(-1)[kept]).mean()
    first = jsoftmax.spatial_softmax_cross_entropy(logits, labels, ignore_label=255)
    last = jsoftmax.spatial_softmax_cross_entropy(np.moveaxis(logits, 1, -1), labels, axis=-1, ignore_label=255)
    agree(first, exact, "channels first")
    agree(last, exact, "channels last")


def test_vmap_over_space_and_batch_is_the_native_axis():
    def one(x, y):
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, y, ignore_label=255)

    def mapped(x):
        over_space = jax.vmap(jax.vmap(one, (1, 0)), (1, 0))
        return jax.vmap(over_space)(x, jnp.asarray(LABELS)).sum()

    def native(x):
        return jsoftmax.spatial_softmax_cross_entropy(x, LABELS, ignore_label=255, normalization="none")

    (a, by_map), (b, by_axis) = (jax.jit(jax.value_and_grad(f))(LOGITS) for f in (mapped, native))
    agree(a, np.float64(b), "loss")
    agree(by_map, by_axis, "gradient")


def test_every_option_reaches_the_positions():
    """Weights, class weights, smoothing, z-loss, a mask and a β for each position: the sum of the unreduced losses."""
    options = {
        "beta": np.abs(inputs.cotangent(LABELS.shape, 25)).astype(np.float32),
        "class_weights": np.arange(1, 6, dtype=np.float32),
        "label_smoothing": np.float32(0.125),
        "z_loss": np.float32(0.01),
        "where": np.array([True, True, True, False, True])[:, None, None],
    }
    labels = np.where(LABELS == 3, 255, LABELS)
    valid = (labels != 255) & (WEIGHTS != 0)
    exact = oracle.softmax_cross_entropy_with_integer_labels(LOGITS, labels, 1, ignore_label=255, **options)
    value = jsoftmax.spatial_softmax_cross_entropy(LOGITS, labels, ignore_label=255, weights=WEIGHTS, **options)
    agree(value, (exact * WEIGHTS).sum() / valid.sum(), "integer labels")
    soft = np.where(options["where"], SOFT, np.float32(0))
    exact = oracle.softmax_cross_entropy(LOGITS, soft, 1, **options)
    loss = lambda w, q, x: jsoftmax.spatial_softmax_cross_entropy(x, q, weights=w, **options)  # noqa: E731
    value, (by_weight, by_label) = jax.jit(jax.value_and_grad(loss, (0, 1)))(WEIGHTS, soft, LOGITS)
    agree(value, (exact * WEIGHTS).sum() / (WEIGHTS != 0).sum(), "soft labels")
    agree(by_weight, exact / (WEIGHTS != 0).sum(), "gradient in the weights")
    assert np.abs(by_label).sum() > 0


def test_boolean_weights_drop_positions():
    kept = LABELS != 255
    weighted = jsoftmax.spatial_softmax_cross_entropy(LOGITS, np.where(kept, LABELS, 0), weights=kept)
    assert weighted == jsoftmax.spatial_softmax_cross_entropy(LOGITS, LABELS, ignore_label=255)


def test_second_order_and_forward_mode():
    """Forward over reverse, and forward alone, against the difference of two gradients in float64."""
    with jax.enable_x64(True):
        x, v = LOGITS.astype(np.float64), inputs.cotangent(LOGITS.shape, 26)
        f = lambda x: jsoftmax.spatial_softmax_cross_entropy(x, LABELS, ignore_label=255, z_loss=0.1)  # noqa: E731
        gradient = jax.jit(jax.grad(f))
        moved = jax.jit(lambda x: jax.jvp(gradient, (x,), (v,))[1])(x)
        h = 1e-4
        quotient = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
        assert np.abs(moved - quotient).max() <= tolerance.DIFFERENCE_QUOTIENT * np.abs(quotient).max()
        with jsoftmax.forward_mode():
            slope = jax.jit(lambda x: jax.jvp(f, (x,), (v,))[1])(x)
        assert abs(slope - np.vdot(gradient(x), v)) <= tolerance.DIFFERENCE_QUOTIENT * abs(slope)


# few classes that are not next to each other in memory are summed class by class -----------------------------------

MAP = (2, 5, 64, 64)  # large enough for it


@pytest.mark.parametrize(
    "name",
    [
        slow("softmax_cross_entropy"),
        "softmax_cross_entropy_with_integer_labels",
        "logsumexp",
    ],
)
def test_class_by_class_is_one_reduction(name):
    """Value and gradient on a map of the size where the way changes, against the same rows with the classes last."""
    rng = np.random.default_rng(6)
    x = (3 * rng.standard_normal(MAP)).astype(np.float32)
    x[0, 2, :, 5], x[1, :, 7, 7], x[0, :, 9, 9], x[1, 3, 2, 2] = -np.inf, -np.inf, 1.5, np.nan
    where = rng.random(MAP) < 0.9
    labels = rng.integers(-1, 6, MAP[:1] + MAP[2:])
    soft = rng.random(MAP).astype(np.float32)
    given = {"logsumexp": (), "softmax_cross_entropy": (np.where(where & (x > -np.inf), soft, np.float32(0)),)}
    rest = given.get(name, (labels,))
    assert classes.few(jnp.asarray(x), (1,)) and not classes.few(jnp.moveaxis(jnp.asarray(x), 1, -1), (3,))
    options = {"where": where} | ({} if name == "logsumexp" else {"label_smoothing": np.float32(0.1)})
    last = lambda a: np.moveaxis(a, 1, -1) if a.ndim == 4 else a  # noqa: E731

    @functools.partial(jax.jit, static_argnums=2)
    def value_and_gradient(x, rest, axis, options):
        f = lambda x, beta: getattr(jsoftmax, name)(x, *rest, axis=axis, beta=beta, **options)  # noqa: E731
        y, pull = jax.vjp(f, x, np.float32(0.7))
        return y, *pull(jnp.where(jnp.isnan(y), 0, jnp.ones_like(y)))

    there = value_and_gradient(x, rest, 1, options)
    here = value_and_gradient(last(x), tuple(map(last, rest)), -1, {k: last(v) for k, v in options.items()})
    for a, b, what in zip(there, here, ("value", "gradient", "gradient in beta"), strict=True):
        b = np.moveaxis(b, -1, 1) if np.ndim(b) == 4 else b
        scale = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        tolerance.check(a, np.asarray(b, np.float64), np.float32, BOUND, what, scale=scale, gap=8.0)


def test_class_by_class_under_transformations():
    """vmap, forward mode, second order and shard_map of the loop over classes and of its conditional."""
    x = jnp.asarray(np.random.default_rng(7).standard_normal(MAP), jnp.float32)
    y = jnp.asarray(np.random.default_rng(8).integers(0, 5, MAP[:1] + MAP[2:]))
    loss = lambda x, y: jsoftmax.softmax_cross_entropy_with_integer_labels(x, y, axis=1)  # noqa: E731
    total = lambda x: loss(x, y).sum()  # noqa: E731
    value, v = loss(x, y), jnp.cos(x)
    one = lambda x, y: jsoftmax.softmax_cross_entropy_with_integer_labels(x, y, axis=0)  # noqa: E731
    agree(jax.jit(jax.vmap(one))(x, y), value, "vmap over the batch")
    gradient, moved = jax.jit(lambda x: jax.jvp(jax.grad(total), (x,), (v,)))(x)
    with jsoftmax.forward_mode():
        agree(jax.jit(lambda x: jax.jvp(total, (x,), (v,))[1])(x), np.vdot(gradient, v), "forward mode")
    p = jax.nn.softmax(x, axis=1)
    agree(moved, p * (v - (p * v).sum(1, keepdims=True)), "second order")
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    pulled = lambda x: jax.vjp(lambda x: mapped(x, y), x)  # noqa: E731
    found, (back,) = jax.jit(lambda x: (pulled(x)[0], pulled(x)[1](jnp.ones_like(value))))(x)
    agree(found, value, "shard_map")
    agree(back, gradient, "gradient of shard_map")
