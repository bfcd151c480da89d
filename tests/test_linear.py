"""The linear layer under the softmax, by blocks, compiled as users do: value and cotangents against the oracle, half
precision, memory and products. What may stand in a row and how it transforms: test_linear_rules.py.

Inputs and weights are small multiples of powers of two, so that the logits have no rounding and a block cannot differ.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import jsoftmax
from tests import bounds, inputs, oracle, registry, tolerance
from tests.marks import fast
from tests.test_structure import equations

COMPILE_LIGHTLY = "fast lane"
P = jax.sharding.PartitionSpec
loss = jsoftmax.linear_softmax_cross_entropy
DENSE = next(case for case in registry.CASES if case.name == registry.INTEGER)
# of the largest terms of a product: those of the logits' cotangent, and their sum
PRODUCT = tolerance.Bound(32, 2)
# after one more rounding of each logit, of its own size
ROUNDED = tolerance.Bound(64, 8)
B = 8


def layer(n, v, scale=1.0, d=4, seed=0):
    """Multiples of 1/8 and of scale/8, so that x W is exact in float32."""
    rng = np.random.default_rng((seed, n, v))
    x, w = rng.integers(-8, 9, (n, d)) / 8, rng.integers(-8, 9, (d, v)) / 8 * scale
    return x.astype(np.float32), w.astype(np.float32), rng.integers(0, v, n).astype(np.int32)


def dense_sample(x, w, y, beta=1.0, bias=None):
    """The same logits as an input of the dense loss: what its bounds are made of."""
    z = x.astype(np.float64) @ w.astype(np.float64) + (0 if bias is None else bias)
    assert np.array_equal(z, z.astype(np.float32)), "the logits are exact"
    arrays = {"logits": z.astype(np.float32), "labels": y, "beta": np.asarray(beta, np.float32)}
    return registry.Sample("linear", arrays, {"axis": -1})


def check_products(x, w, bars, exact, sample, what):
    """Cotangents of inputs and weight, in units of the terms that are added up."""
    of_row = registry.geometry(DENSE, sample)
    gap = 2 * np.minimum(of_row.gap.max(initial=0.0), 88)
    x, w = np.abs(x.astype(np.float64)), np.abs(w.astype(np.float64))
    # a row's p and 1 − p add up to at most 2
    tolerance.check(bars[0], exact["inputs"], np.float32, PRODUCT, f"inputs, {what}", scale=2 * w.max(1), gap=gap)
    scale = 2 * x.sum(0)[:, None] * np.ones_like(w)
    tolerance.check(bars[1], exact["weight"], np.float32, PRODUCT, f"weight, {what}", scale=scale, gap=gap)


def marked(given, kept):
    """The form of each, several arguments, those not among `kept` slow."""
    return [pytest.param(*a, marks=() if a in kept else pytest.mark.slow, id="-".join(map(str, a))) for a in given]


SIZES = [(1, 1), (3, 7), (B - 1, B - 1), (B, B), (B + 1, B + 1), (2 * B - 1, 2 * B - 1), (13, 13), (17, 31)]
PLANS = {"whole": None, "tokens": B, "classes": (64, B), "both": (B, B), "one by one": (1, 1)}


@functools.cache
def value_and_bars(block, reduction):
    @jax.jit
    def run(x, w, y):
        return jax.value_and_grad(lambda x, w: loss(x, w, y, block_size=block, reduction="sum"), (0, 1))(x, w)

    @jax.jit
    def each(x, w, y):
        value, pull = jax.vjp(lambda x, w: loss(x, w, y, block_size=block), x, w)
        return value, pull(jnp.ones_like(value))

    return run if reduction == "sum" else each


@pytest.mark.parametrize("size", fast(SIZES, [(17, 31)]), ids=str)
@pytest.mark.parametrize("plan", fast(PLANS, ["whole", "classes"]))
def test_blocks(plan, size):
    """F01, F04, F05: every block boundary; faint, loud and far logits."""
    n, v = size
    for scale, offset in ((0.03125, 0), (16.0, 0), (1.0, -30)):
        x, w, y = layer(n, v, scale)
        if offset:  # the first feature is 1 and has the offset as its weight
            x[:, 0], w[0] = 1, offset
        y[-1] = v - 1
        sample, ones = dense_sample(x, w, y), np.ones(n, np.float32)
        expected, *_ = oracle.linear_softmax_cross_entropy(x, w, y)
        exact = oracle.linear_softmax_cross_entropy_vjp((ones, 0 * ones, 0 * ones), x, w, y)
        value, bars = value_and_bars(PLANS[plan], "none")(x, w, y)
        what = f"{plan}, scale {scale}, offset {offset}"
        bounds.check_value(DENSE, sample, value, expected)
        check_products(x, w, bars, exact, sample, what)
        total, bars = value_and_bars(PLANS[plan], "sum")(x, w, y)
        tolerance.check(total, expected.sum(), np.float32, tolerance.Bound(8, 1), what, gap=8.0 + n)
        check_products(x, w, bars, exact, sample, f"summed, {what}")


# all arguments -----------------------------------------------------------------------------------------------------

OPTIONS = {"label_smoothing": np.float32(0.125), "z_loss": np.float32(0.25)}


def arguments(n=9, v=21, dtype=np.float32):
    x, w, y = layer(n, v)
    y[2::3] = -100
    bias = (inputs.cotangent((v,), 6) * 2).round() / 4
    bias[4] = -np.inf
    given = {"inputs": x, "weight": w, "bias": bias, "beta": np.linspace(-1, 2, n), "soft_cap": np.float64(1.5)}
    given = {k: np.asarray(a, dtype) for k, a in (given | OPTIONS).items()}
    return given, {"labels": y, "ignore_label": np.int32(-100)}


def cotangents(n):
    return tuple(inputs.cotangent((n,), k).astype(np.float32) for k in (1, 2, 3))


def with_measures(block, class_axis, rest):
    """arguments → (losses, logsumexp, entropy)."""

    def f(given):
        given = given if class_axis else given | {"weight": given["weight"].T}
        y, measures = loss(**given, **rest, class_axis=class_axis, block_size=block, return_stats=True)
        return y, measures.logsumexp, measures.entropy

    return f


@pytest.mark.parametrize("form", fast([*itertools.product(PLANS, (0, 1))], [("tokens", 1), ("both", 0)]), ids=str)
def test_every_argument(form):
    """With a soft cap, a bias that masks a class (F02), a β for each token, all options and ignored tokens."""
    plan, class_axis = form
    given, rest = arguments()
    g = cotangents(9)
    f = with_measures(PLANS[plan], class_axis, rest)
    value, bars = jax.jit(lambda given, g: (f(given), jax.vjp(f, given)[1](g)[0]))(given, g)
    expected = oracle.linear_softmax_cross_entropy(**given, **rest)
    exact = oracle.linear_softmax_cross_entropy_vjp(g, **given, **rest)
    for name, a, b in zip(("losses", "logsumexp", "entropy"), value, expected, strict=True):
        tolerance.check(a, b, np.float32, ROUNDED, name, scale=np.abs(b).max())
    for name, bar in bars.items():
        tolerance.check(bar, exact[name], np.float32, ROUNDED, name, scale=np.abs(exact[name]).max(), gap=8.0)


@pytest.mark.parametrize("reduction", fast(["sum", "mean"], ["mean"]))
@pytest.mark.parametrize("plan", fast(["tokens", "both"], ["both"]))
def test_reductions(plan, reduction):
    """Σ w l and Σ w l / Σ w, in the weights too."""
    given, rest = arguments()
    w = np.abs(inputs.cotangent((9,), 7)).astype(np.float32)
    w[0] = 0
    counted = np.where(rest["labels"] == -100, 0, w).astype(np.float64)

    def f(given, w):
        return loss(**given, **rest, weights=w, reduction=reduction, block_size=PLANS[plan])

    value, (bars, w_bar) = jax.jit(jax.value_and_grad(f, (0, 1)))(given, w)
    losses, *_ = oracle.linear_softmax_cross_entropy(**given, **rest)
    count = counted.sum() if reduction == "mean" else 1.0
    mean = (counted * losses).sum() / count
    tolerance.check(value, np.asarray(mean), np.float32, ROUNDED, reduction)
    exact = oracle.linear_softmax_cross_entropy_vjp((counted / count, 0 * w, 0 * w), **given, **rest)
    for name, bar in bars.items():
        tolerance.check(bar, exact[name], np.float32, ROUNDED, name, scale=np.abs(exact[name]).max(), gap=8.0)
    exact = np.where(rest["labels"] == -100, 0, losses - (mean if reduction == "mean" else 0)) / count
    tolerance.check(w_bar, exact, np.float32, ROUNDED, "weights", scale=np.abs(exact).max())


@pytest.mark.parametrize("plan", fast(["whole", "both"], ["both"]))
def test_prediction(plan):
    """The first class of those that are most likely, of the lowest logit where β < 0; at β = 0 that of the highest."""
    x, w, y = layer(9, 21)
    w[:, 17] = w[:, 3]  # ties in two blocks

    @jax.jit
    def predicted(x, beta):
        return loss(x, w, y, beta=beta, block_size=PLANS[plan], return_stats=True)[1].prediction

    run = lambda beta: predicted(x, beta)  # noqa: E731
    for beta in (1.0, -0.7, 0.0, np.inf, -np.inf):
        first = np.argmax(-(x @ w) if beta < 0 else x @ w, -1)
        found = run(np.float32(beta))
        assert found.dtype == np.int32 and np.array_equal(found, first)
    x[1] = np.nan
    assert run(np.float32(1))[1] == 0


@pytest.mark.parametrize("plan", fast(PLANS, ["classes", "both"]))
def test_confident_tokens(plan):
    """[0, −20, …] and label 0: 2e-9 is representable, in value and gradient; the peak in any block."""
    v = 2 * B + 3
    w = np.full((1, v), -20, np.float32)
    for label in (0, B, v - 1):
        w[0] = -20
        w[0, label] = 0
        x, y = np.ones((3, 1), np.float32), np.full(3, label, np.int32)
        value, (x_bar, w_bar) = value_and_bars(PLANS[plan], "none")(x, w, y)
        exact = (v - 1) * np.exp(-20.0)
        one = tolerance.Bound(8)
        tolerance.check(value, np.full(3, np.log1p(exact)), np.float32, one, "value")
        tolerance.check(w_bar[0, label], np.asarray(-3 * exact / (1 + exact)), np.float32, one, "label gradient")
        tolerance.check(x_bar[:, 0], np.full(3, -20 * exact / (1 + exact)), np.float32, tolerance.Bound(16), "inputs")


# dtypes ------------------------------------------------------------------------------------------------------------


HALVES = [*itertools.product(("tokens", "both"), ("bfloat16", "float16"))]


@pytest.mark.parametrize(("plan", "dtype"), marked(HALVES, [("tokens", "float16"), ("both", "bfloat16")]))
def test_half_precision(plan, dtype):
    """The loss is that of exact logits in float32; gradients round each logit's cotangent once, and at the end."""
    dtype = np.dtype(dtype)
    x, w, y = layer(9, 21)
    g = inputs.cotangent((9,), 1).astype(np.float32) * np.float32(2.0**-20)  # as of a mean over a million tokens

    @jax.jit
    def run(x, w):
        value, pull = jax.vjp(lambda x, w: loss(x, w, y, block_size=PLANS[plan]), x, w)
        return value, pull(g)

    value, bars = run(x.astype(dtype), w.astype(dtype))
    expected, *_ = oracle.linear_softmax_cross_entropy(x, w, y)
    bounds.check_value(DENSE, dense_sample(x, w, y), value, expected)
    exact = oracle.linear_softmax_cross_entropy_vjp((g, 0 * g, 0 * g), x, w, y)
    for bar, name, scale in zip(bars, ("inputs", "weight"), (np.abs(w).max(1), np.abs(x).sum(0)[:, None]), strict=True):
        assert bar.dtype == dtype
        u = float(ml_dtypes.finfo(dtype).eps)
        size = scale * 2 * np.abs(g).max() * np.ones_like(exact[name])
        least = float(ml_dtypes.finfo(dtype).smallest_subnormal)
        assert np.all(np.abs(np.asarray(bar).astype(np.float64) - exact[name]) <= u * size + least)
        assert np.any(bar)


def test_products_are_taken_in_the_common_dtype_and_added_in_float32():
    """F03."""
    x, w, y = layer(9, 21)
    for dtype in (ml_dtypes.bfloat16, np.float16, np.float32):
        f = lambda x, w: loss(x, w, y, block_size=4, reduction="sum")  # noqa: E731
        jaxpr = jax.make_jaxpr(jax.grad(f, (0, 1)))(x.astype(dtype), w.astype(dtype)).jaxpr
        dots = [e for e in equations(jaxpr) if e.primitive.name == "dot_general"]
        assert len(dots) >= 3
        for e in dots:
            assert [v.aval.dtype for v in e.invars] == [dtype, dtype] and e.outvars[0].aval.dtype == np.float32
    with jax.numpy_dtype_promotion("standard"):
        gradient = jax.grad(lambda x, w: loss(x, w, y).sum(), (0, 1))
        x_bar, w_bar = jax.eval_shape(gradient, x.astype(ml_dtypes.bfloat16), w)
    assert (x_bar.dtype, w_bar.dtype) == (ml_dtypes.bfloat16, np.float32)


def gradients(x, w, y, block, reduction="mean"):
    return jax.value_and_grad(lambda x, w: loss(x, w, y, block_size=block, reduction=reduction), (0, 1))(x, w)


def assert_close(a, b):
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = np.abs(np.asarray(q, np.float64)).max()
        tolerance.check(p, np.asarray(q, np.float64), np.float32, PRODUCT, "transformed", scale=scale)


@pytest.mark.parametrize("plan", fast(["tokens", "both"], ["both"]))
def test_is_the_loss_of_the_product(plan):
    """What optax gives for x @ w, up to its own rounding."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((33, 16), np.float32), rng.standard_normal((16, 101), np.float32)
    y = rng.integers(0, 101, 33)
    f = lambda x, w: optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()  # noqa: E731
    ours = jax.jit(lambda x, w: gradients(x, w, y, PLANS[plan]))(x, w)
    assert_close(ours, jax.jit(jax.value_and_grad(f, (0, 1)))(x, w))


# memory and products -----------------------------------------------------------------------------------------------

N, D, V = 512, 64, 2048


def shapes(dtype=np.float32):
    return (
        jax.ShapeDtypeStruct((N, D), dtype),
        jax.ShapeDtypeStruct((D, V), dtype),
        jax.ShapeDtypeStruct((N,), np.int32),
    )


def program(block, reduction, wanted=(0, 1), **options):
    f = lambda x, w, y: loss(x, w, y, block_size=block, reduction=reduction, **options).sum()  # noqa: E731
    return jax.value_and_grad(f, wanted)


FORMS = [*itertools.product((64, (512, 128), (64, 128)), ("none", "mean"))]


OPTIONAL = {"plain": {}, "options": {"label_smoothing": 0.1, "z_loss": 1e-4, "soft_cap": 30.0}}
FORMS = [(options, *form) for options in OPTIONAL for form in FORMS]
FAST = [("plain", 64, "none"), ("options", (512, 128), "mean")]


@pytest.mark.parametrize(("options", "block", "reduction"), marked(FORMS, FAST))
def test_the_logits_are_nowhere(options, block, reduction):
    """No array of their size, forward or backward; temporaries of a few blocks and gradients."""
    f = program(block, reduction, **OPTIONAL[options])
    jaxpr = jax.make_jaxpr(f)(*shapes()).jaxpr
    assert max(v.aval.size for e in equations(jaxpr) for v in e.outvars) < N * V / 2
    temps = jax.jit(f).lower(*shapes()).compile().memory_analysis().temp_size_in_bytes
    tokens, classes = block if isinstance(block, tuple) else (block, V)
    assert temps <= 4 * (4 * tokens * classes + 2 * D * (N + V))


def dots(f):
    return len(re.findall(r" dot\(|custom-call.*matmul", jax.jit(f).lower(*shapes()).compile().as_text()))


PRODUCTS = {("mean", (0, 1)): 3, ("none", (0, 1)): 4, ("mean", (0,)): 2, ("mean", (1,)): 2, ("none", (0,)): 3}


@pytest.mark.parametrize(("reduction", "wanted"), marked(PRODUCTS, [("mean", (0, 1)), ("none", (0,))]))
def test_number_of_products(reduction, wanted):
    """In the loop over blocks three where the losses are summed, four where they are not; what is not differentiated
    costs none."""
    assert dots(program(256, reduction, wanted)) == PRODUCTS[reduction, wanted]


def test_the_loss_alone_is_one_product():
    assert dots(lambda x, w, y: loss(x, w, y, reduction="mean")) == 1


def test_default_blocks():
    """As documented: 512 tokens over all classes; more where classes are few, and of very many classes a part."""
    from jsoftmax._core import blocks

    assert blocks.sizes(50257, (None, None)) == (512, 50257)
    assert blocks.sizes(1024, (None, None)) == (4096, 1024)
    assert blocks.sizes(2**20, (None, None)) == (1024, 2**15)
    assert blocks.sizes(2**20, (64, None)) == (64, 2**20)
    assert blocks.sizes(100, (7, 1000)) == (7, 100)


def test_saved_for_the_backward_pass():
    """Inputs, weight and labels, or the gradients instead of them; a few numbers a token."""
    x, w, y = layer(9, 21)

    def saved(**options):
        pull = jax.eval_shape(lambda x, w, y: jax.vjp(lambda x, w: loss(x, w, y, **options), x, w)[1], x, w, y)
        return sum(a.size for a in jax.tree.leaves(pull))

    for block, numbers in ((4, 0), ((4, 8), 3)):
        assert saved(block_size=block) <= x.size + w.size + y.size + numbers * 9 + 4
    assert saved(block_size=4, reduction="mean") <= 2 * (x.size + w.size) + 3 * 9 + 4
