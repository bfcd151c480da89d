"""Logits that are made in the program that reads them: a product, or a narrower copy, which a compiler may make again
for each reader, rounded in another way or not at all. Results are those of the array of logits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from jsoftmax._partition import reference
from tests import tolerance
from tests.test_platforms import platform as accelerator  # noqa: F401

ROWS, CLASSES = 48, 20
MAKERS = {  # each of numbers that are rounded once, so that there is one right answer
    "scaled": lambda x: x * 0.3,
    "squared": lambda x: -(x * x),
    "capped": lambda x: 15 * jnp.tanh(x * 0.1),
    "bfloat16": lambda x: x.astype(jnp.bfloat16),
    "float16": lambda x: x.astype(jnp.float16),
    "bfloat16 product": lambda x: x.astype(jnp.bfloat16) * jnp.bfloat16(0.3),
}
BETAS = {"": {}, "steep": {"beta": 1.7}, "negative": {"beta": -1.3}}


def labels(z):
    """At the peak in every other row."""
    z = np.float64(z)
    return np.where(np.arange(len(z)) % 2, z.argmax(1), z.argmin(1)).astype(np.int32)


def operators(z):
    y, q = labels(z), np.float32(np.full(z.shape, 1 / z.shape[1]))
    return {
        "softmax": jsoftmax.softmax,
        "log_softmax": jsoftmax.log_softmax,
        "logsumexp": jsoftmax.logsumexp,
        "logmeanexp": jsoftmax.logmeanexp,
        "softmax_cross_entropy": lambda z, **beta: jsoftmax.softmax_cross_entropy(z, q.astype(z.dtype), **beta),
        "softmax_cross_entropy_with_integer_labels": lambda z, **beta: (
            jsoftmax.softmax_cross_entropy_with_integer_labels(z, y, **beta)
        ),
    }


def value_and_cotangent(f, z):
    y, pull = jax.vjp(f, z)
    return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]


def compare(make, x, names, betas, rounded=True):
    """`rounded` if logits are read as they are; else each may be off by its own rounding."""
    z = jax.jit(make)(x)
    size = 0 if rounded else np.abs(np.float64(z)).max()
    for name, f in operators(z).items():
        if name not in names:
            continue
        for what, beta in betas.items():
            run = functools.partial(value_and_cotangent, functools.partial(f, **beta))
            found, wanted = jax.jit(lambda x, run=run: run(make(x)))(x), jax.jit(run)(z)
            for kind, a, e in zip(("value", "cotangent"), found, wanted, strict=True):
                wide, e = a.astype(jnp.float32), np.float64(e)
                scale = size if kind == "value" else size + np.abs(e).max(-1, keepdims=True)
                ulps = tolerance.Bound(8 if a.dtype == np.float32 else 2.0**17 if a.dtype == jnp.bfloat16 else 2.0**14)
                tolerance.check(wide, e, np.float32, ulps, f"{name} {what} {kind}", scale=scale)


X = np.random.default_rng(5).normal(0, 20, (ROWS, CLASSES)).astype(np.float32)


FAST = (("scaled", ""), ("scaled", "steep"), ("bfloat16 product", ""))
ON_THE_SPOT = [*(("scaled", beta) for beta in BETAS), *((made, "") for made in MAKERS if made != "scaled")]


@pytest.mark.parametrize(
    ("made", "beta"), [pytest.param(*c, marks=() if c in FAST else pytest.mark.slow) for c in ON_THE_SPOT]
)
def test_logits_made_on_the_spot(made, beta):
    some = "log_softmax", "logsumexp", "softmax_cross_entropy_with_integer_labels"
    compare(MAKERS[made], X, some, {beta: BETAS[beta]})


@pytest.mark.slow
@pytest.mark.parametrize("made", MAKERS)
def test_every_operator(made):
    compare(MAKERS[made], X, operators(X), BETAS)


@pytest.mark.slow
@pytest.mark.parametrize("made", MAKERS)
def test_formulas_of_accelerators(made, accelerator):  # noqa: F811
    compare(MAKERS[made], X, operators(X), BETAS, rounded=False)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2**12, 512), (64, 2**15)], ids=str)
def test_large_arrays(shape):
    x = np.random.default_rng(6).normal(0, 20, shape).astype(np.float32)
    compare(MAKERS["scaled"], x, operators(X[:2]).keys() - {"softmax_cross_entropy"}, {"": {}, "steep": BETAS["steep"]})


def test_a_sure_row_keeps_its_loss():
    """exp(−80) of a peak that is a product, and not what its rounding leaves."""
    x = jnp.array([[3.3, 3.3 - 800 / 3]], jnp.float32)
    loss = jax.jit(lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x * 0.3, jnp.array([0])))(x)
    z = np.float64(np.float32(0.3) * np.asarray(x))
    tolerance.check(loss, np.exp(z[:, 1] - z[:, 0]), np.float32, tolerance.Bound(4, 1), "loss", gap=80)


def test_a_peak_with_the_noise_of_another_rounding():
    """Of every size that a rounding can have: what is not beside the peak stays 0 but for the noise itself."""
    noise = np.float32(2.0) ** -np.arange(8, 25, dtype=np.float32)
    e = np.stack([1 - noise, np.full_like(noise, 1e-9)], 1)

    @jax.jit
    def excess(e):
        below, total = (jnp.sum(a, 1, keepdims=True) for a in (reference.below_peak(e), e))
        return reference.excess_from(below, total)

    assert np.all(excess(e) == np.float32(1e-9))
    near = np.concatenate([e, 1 - noise[:, None]], 1)
    found = np.ravel(excess(near))
    assert np.all(np.abs(found - 1) <= 2 * noise + 3e-7)
