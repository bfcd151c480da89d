"""The laws of torture.LAWS that relate two calls; ids in the names of the tests."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jsoftmax
from tests import inputs, oracle, tolerance
from tests.laws import ACTIVATIONS, INTEGER, apply, same_bits
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
OPERATORS = (*ACTIVATIONS, "softmax_cross_entropy", INTEGER)


MASKED = pytest.mark.parametrize("name", OPERATORS)
X = np.random.default_rng(7).standard_normal((8, 6)).astype(np.float32)


def value_and_grad(name, x, **kwargs):
    """Value, and the gradient of a random combination of it."""

    def f(x):
        y = apply(name, x, **kwargs)
        w = jnp.asarray(inputs.cotangent(y.shape), y.dtype)
        return jnp.sum(jnp.where(jnp.isfinite(y), w * y, w * jnp.where(jnp.isnan(y), y, 0))), y

    (_, y), gradient = jax.value_and_grad(f, has_aux=True)(jnp.asarray(x))
    return y, gradient


def reordered(name, a, b, x):
    """Equal but for the order of a sum, and for exp, whose bits differ between a vector's body and its tail."""
    scale = np.abs(b) if "softmax" in name else np.maximum(np.abs(b), np.abs(x).max())  # a peak and what it lacks
    return np.all(np.abs(a - b) <= tolerance.REORDERED * 2.0**-23 * scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [slow((0,)), (0, 3), (2, 0)])
def test_T12_empty_arrays_keep_shape_and_dtype(name, shape):
    for dtype in (jnp.float32, jnp.bfloat16):
        y, gradient = jax.jit(functools.partial(value_and_grad, name))(np.zeros(shape, dtype))
        assert y.shape == (shape if "softmax" in name else shape[:-1]) and y.dtype == dtype
        assert gradient.shape == shape and gradient.dtype == dtype


def test_T17_shift_has_the_same_bits(compiled):
    x = np.round(X * 64) / 64
    f = compiled(jsoftmax.softmax)
    assert same_bits(f(x + np.float32(1024)), f(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_T18_permutation_of_classes(name, rng):
    """Another order of the sum: its rounding, and that of what is taken of it."""
    order = rng.permutation(X.shape[-1])
    y, permuted = (np.asarray(apply(name, jnp.asarray(x)), np.float64) for x in (X, X[:, order]))
    y = y[:, order] if y.ndim == 2 else y
    assert reordered(name, permuted, y, X)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "axis",
    [-1, 0, None, (), (-1, 0), *map(slow, ([0, 2], (0, 1), np.int64(1), 1))],
    ids=str,
)
def test_T19_axis_is_moved_and_flattened(name, axis, rng):
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    axes = tuple(range(3)) if axis is None else tuple(a % 3 for a in (axis if np.ndim(axis) else (axis,)))
    y = np.asarray(getattr(jsoftmax, name)(x, axis), np.float64)
    rest = tuple(a for a in range(3) if a not in axes)
    flat = np.transpose(x, rest + axes).reshape(*(x.shape[a] for a in rest), -1)
    expected = np.asarray(getattr(jsoftmax, name)(flat, -1), np.float64)
    if "softmax" in name:
        y = np.transpose(y, rest + axes).reshape(flat.shape) if axes else y[..., None]
    assert reordered(name, y, expected, x)


def test_a_constant_cotangent_moves_no_softmax(compiled, rng):
    """Σ p is 1: what is left is the rounding of a rounding, in equal, plain and confident rows."""
    gradient = compiled(jax.grad(lambda x: 3 * jsoftmax.softmax(x).sum()))
    for x in (np.ones(10), np.ones(1000), rng.standard_normal((8, 129)), np.array([0.0, -15, -30])):
        x = np.asarray(x, np.float32)
        terms = tolerance.ulp(3 * np.asarray(jsoftmax.softmax(x)), np.float32)
        assert np.all(np.abs(gradient(x)) <= (tolerance.REORDERED**2 * np.finfo(np.float32).eps) * terms)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_T21_minus_infinity_is_a_mask(name, compiled, rng):
    mask = rng.random(X.shape) < 0.6
    mask[0] = False
    f = compiled(lambda x, where, beta: getattr(jsoftmax, name)(x, where=where, beta=beta))
    for beta in (1.0, -0.7, 0.0, np.inf, -np.inf):
        beta = jnp.float32(beta)
        assert same_bits(f(np.where(mask, X, -np.inf), np.full(X.shape, True), beta), f(X, mask, beta))


@MASKED
@pytest.mark.parametrize("payload", [np.nan, np.inf, -np.inf, 3.4e38, *map(slow, (-3.4e38, 1e-40, 0.0, 17.0))])
def test_P2_masked_content_changes_no_bit(name, payload, rng):
    mask = rng.random(X.shape) < 0.6
    mask[:, 0], mask[3] = True, False
    clean, poisoned = (value_and_grad(name, np.where(mask, X, np.float32(p)), where=mask) for p in (1.0, payload))
    assert same_bits(clean[0], poisoned[0])
    assert same_bits(clean[1], poisoned[1])
    assert np.all(np.asarray(poisoned[1])[~mask] == 0)


@MASKED
@pytest.mark.parametrize("payload", [np.nan, np.inf, -np.inf])
def test_T23_a_poisoned_row_changes_no_other(name, payload):
    bad = X.copy()
    bad[3, 2] = payload
    clean, poisoned = value_and_grad(name, X), value_and_grad(name, bad)
    others = np.arange(8) != 3
    for a, b in zip(clean, poisoned, strict=True):
        assert same_bits(np.asarray(a)[others], np.asarray(b)[others])
    assert not same_bits(np.asarray(clean[0])[3], np.asarray(poisoned[0])[3])


def test_T25_subnormal_probability_is_small_or_zero(compiled):
    p = np.asarray(compiled(jsoftmax.softmax)(np.array([0.0, -88.0], np.float32)), np.float64)
    assert p[0] == 1 and (p[1] == 0 or abs(p[1] - 6.05e-39) < 1e-41)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("distribution", inputs.DISTRIBUTIONS.values())
def test_T26_gradient_rows_sum_to_zero(distribution, dtype):
    row = inputs.BY_NAME[distribution]
    x, labels = row.x(dtype), inputs.labels(row)
    loss = lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels).sum()  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(loss))(x), np.float64)
    assert np.any(gradient != 0)
    assert np.all(
        np.abs(gradient.sum(-1)) <= (tolerance.ROW_SUM if dtype == np.float32 else tolerance.ROW_SUM_BFLOAT16)
    )


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_T27_half_precision_is_float32_rounded_once(name, dtype):
    x = (3 * X).astype(dtype)
    shape = apply(name, jnp.asarray(x)).shape
    w = inputs.cotangent(shape).astype(dtype)

    @jax.jit
    def f(x, w):
        y, pull = jax.vjp(lambda x: apply(name, x), x)
        return y, pull(w)[0]

    half, single = f(x, w), f(x.astype(np.float32), w.astype(np.float32))
    for a, b in zip(half, single, strict=True):
        assert same_bits(a, np.asarray(b).astype(dtype))


def test_T30_x64_and_its_caches():
    """The same call, in one process, without, with and again without x64."""
    x = np.array([1.0, 2.0, 3.0])
    for enabled in (False, True, False, True):
        with jax.enable_x64(enabled):
            y = jsoftmax.logsumexp(jnp.asarray(x))
            assert y.dtype == (jnp.float64 if enabled else jnp.float32)
            error = abs(float(y) - 3.40760596444438)
            assert error <= (4e-16 if enabled else 3e-7) and (enabled or error > 1e-10)


@pytest.mark.parametrize("payload", [np.nan, np.inf, slow(-np.inf)])
@pytest.mark.parametrize("name", OPERATORS)
def test_T31_a_masked_tangent_is_not_read(name, payload, rng):
    mask = rng.random(X.shape) < 0.6
    mask[:, 0] = True
    v = rng.standard_normal(X.shape).astype(np.float32)
    with jsoftmax.forward_mode():
        push = lambda v: jax.jvp(lambda x: apply(name, x, where=mask), (jnp.asarray(X),), (jnp.asarray(v),))[1]  # noqa: E731
        assert same_bits(push(np.where(mask, v, np.float32(payload))), push(np.where(mask, v, np.float32(0))))
        assert np.all(np.isfinite(push(v)) | (np.asarray(apply(name, jnp.asarray(X), where=mask)) == np.inf))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_B07_jit_equals_eager_for_large_scaled_logits(name, rng):
    f = getattr(jsoftmax, name)
    jitted = jax.jit(lambda x, beta: f(x, beta=beta))
    for shape in ((3,), (1, 3), (8, 5), (1, 1000)):
        for size in (1e3, 1e10, 1e20, 1e30):
            for beta in (1 / 3, 0.1, 1.1):
                x = (size * rng.standard_normal(shape)).astype(np.float32)
                eager, compiled = f(x, beta=beta), jitted(x, jnp.float32(beta))
                assert np.all(np.isfinite(eager) | (name == "log_softmax"))
                assert not np.any(np.isnan(eager))
                assert np.all(oracle.ulp_error(compiled, np.asarray(eager, np.float64), "float32") <= 4)


@pytest.mark.parametrize("beta", [0.0, np.inf, *map(slow, (-np.inf, np.nan))])
@pytest.mark.parametrize("name", OPERATORS)
def test_B09_a_constant_beta_is_a_traced_one(name, beta):
    """Of a constant XLA may multiply the factors first, and ∞ · 0 is none of them."""
    x = np.where(X > 1.5, -np.inf, X / 8).astype(np.float32)
    traced = value_and_grad(name, x, beta=jnp.float32(beta))
    constant = jax.jit(lambda x: value_and_grad(name, x, beta=beta))(x)
    for a, b in zip(constant, traced, strict=True):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert np.all(np.isnan(b) | (a == b) | reordered("softmax", a, b, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_B08_a_beta_for_each_row(name):
    betas = np.array([0.0, 1.0, -2.0, np.inf, -np.inf, 0.3, 7.0, -0.5], np.float32)
    f = getattr(jsoftmax, name)
    rows = np.stack([f(x, beta=b) for x, b in zip(X, betas, strict=True)])
    native = f(X, beta=betas[:, None] if "softmax" in name else betas)
    mapped = jax.vmap(lambda x, b: f(x, beta=b))(X, betas)
    for y in (native, mapped):
        assert np.all(oracle.ulp_error(y, rows.astype(np.float64), "float32") <= 1)


# what is in no derivative, and what is in all of them -----------------------------------------------------------------

ROWS = np.array([[1, 2, 3], [np.nan, 1, 2], [np.inf, 0, 1], [0, -np.inf, 2]], np.float32)
G = np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3)


def ignoring(x, beta):
    return jsoftmax.softmax_cross_entropy_with_integer_labels(x, np.array([0, -1, -1, 2]), ignore_label=-1, beta=beta)


@pytest.mark.parametrize("mode", [contextlib.nullcontext, jsoftmax.forward_mode])
def test_L02_an_ignored_row_is_in_no_derivative(mode):
    """Nor is it in the gradient of β, or in a second derivative, which all rows share."""
    beta, kept = np.float32(0.7), [0, 3]

    def derivatives(x, loss, g):
        first = jax.grad(lambda x, beta: loss(x, beta).sum(), (0, 1))
        second = jax.grad(lambda x, beta: jnp.vdot(g, first(x, beta)[0]), (0, 1))
        return *first(x, beta), *second(x, beta)

    def without(x, beta):
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, np.array([0, 2]), beta=beta)

    with mode():
        found = jax.jit(lambda x: derivatives(x, ignoring, G))(ROWS)
        wanted = jax.jit(lambda x: derivatives(x, without, G[kept]))(ROWS[kept])
    for a, b in zip(found, wanted, strict=True):
        if a.ndim:
            assert np.all(a[1:3] == 0)
            a = a[np.array(kept)]
        assert np.isfinite(b).all() and np.abs(b).max() > 0
        np.testing.assert_array_max_ulp(np.asarray(a), np.asarray(b), tolerance.REORDERED)


@pytest.mark.parametrize("loss", [INTEGER, "softmax_cross_entropy"])
def test_W03_an_unused_row_is_in_no_second_derivative(loss):
    labels = np.array([0, 1, 2, 2]) if loss == INTEGER else np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]

    def total(x):
        return jsoftmax.weighted_mean(getattr(jsoftmax, loss)(x, labels), np.array([1, 0, 0, 1]))[0]

    second = jax.grad(lambda x: jnp.vdot(G, jax.grad(total)(x)))(ROWS)
    assert np.all(second[1:3] == 0) and np.isfinite(second).all() and np.abs(second[0]).max() > 0


@pytest.mark.parametrize("label", [5, -1])
def test_L01_a_bad_label_is_nan_in_every_mode(label):
    f = lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, np.array(label))  # noqa: E731
    x = jnp.arange(3.0)
    assert np.isnan(jax.grad(f)(x)).all()
    with jsoftmax.forward_mode():
        assert np.isnan(jax.grad(f)(x)).all() and np.isnan(jax.jacfwd(f)(x)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_T08_a_poisoned_row_has_a_tangent_of_nan(name, value):
    x, v = jnp.array([1.0, value, 2.0]), jnp.array([1.0, 0.0, 0.0])
    with jsoftmax.forward_mode():
        tangent = jax.jvp(getattr(jsoftmax, name), (x,), (v,))[1]
    assert np.isnan(tangent).all()


@pytest.mark.parametrize("hole", [-np.inf, np.nan])
def test_T21_reverse_over_reverse_does_not_see_what_is_absent(hole):
    @functools.partial(jax.jit, static_argnums=1)
    def second(x, masked):
        where = np.array([True, False, True]) if masked else None
        f = lambda beta: jsoftmax.logsumexp(x, b=jnp.ones(x.size), where=where, beta=beta)  # noqa: E731
        return jax.grad(jax.grad(f))(1.0)

    found = second(jnp.array([1.0, hole, 2.0]), np.isnan(hole))
    wanted = second(jnp.array([1.0, 2.0]), False)
    np.testing.assert_array_max_ulp(np.asarray(found), np.asarray(wanted), tolerance.REORDERED)


def test_P1_the_mean_of_logits_as_far_apart_as_can_be():
    x = jnp.array([-3e38, -3e38, 3e38])
    for beta in (0.0, 1e-38):
        assert abs(jsoftmax.logmeanexp(x, beta=beta) / -1e38 - 1) < tolerance.REORDERED * 2.0**-23
    assert np.isfinite(jax.grad(lambda beta: jsoftmax.logmeanexp(x, beta=beta))(0.0))
    assert jax.grad(lambda beta: jsoftmax.logsumexp(jnp.array([1.0, 2.0, 3.0]), beta=beta))(1.8e38) == 0
    assert jax.grad(jax.grad(lambda beta: jsoftmax.logmeanexp(jnp.arange(3.0), beta=beta)))(1e-20) == 0
