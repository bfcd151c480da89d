"""Where the tests run: rows as long as vocabularies against float64 on the host, and the same bits each time.

16 384 classes are the longest row that a GPU has on chip, and no block divides 50 257.
"""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jsoftmax
from tests import inputs, registry, tolerance

ON_DEVICES = (pytest.mark.slow, pytest.mark.device)
LENGTHS = [pytest.param(n, id=str(n), marks=m) for n, m in ((16384, ON_DEVICES), (16385, ()))]
LENGTHS += [pytest.param(n, id=str(n), marks=ON_DEVICES) for n in (50257, 128256)]
DTYPES = [np.float32, ml_dtypes.bfloat16]
BETAS = {"none": {}, "scalar": {"beta": 0.7}}


def logits(n, dtype):
    """Rows: normal; confident; four at the peak; most absent; all of one size."""
    x = np.random.default_rng(n).standard_normal((5, n))
    x[1, n // 2] = 40
    x[2, [0, 7, n // 2, n - 1]] = 8
    x[3, 2::2] = -np.inf
    x[4] = 3
    return x.astype(dtype)


def exact(x, beta):
    """(t, log1p of the excess, p, 1 − p) in float64."""
    t = beta * (x - x.max(-1, keepdims=True))
    e = np.exp(t)
    at = np.argmax(t, -1)[:, None]
    excess = np.sum(np.where(np.arange(x.shape[1]) == at, 0, e), -1, keepdims=True)
    p = e / (1 + excess)
    others = np.where(np.arange(x.shape[1]) == at, excess / (1 + excess), 1 - p)
    return t, np.log1p(excess), p, others


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("given", BETAS.values(), ids=BETAS)
def test_long_rows(n, dtype, given):
    x, beta = logits(n, dtype), np.float64(np.float32(given.get("beta", 1.0)))
    wide = x.astype(np.float64)
    t, log_z, p, _ = exact(wide, beta)
    gap = np.where(np.isfinite(t), -t, 0) * (1 + len(given))
    mean_gap = np.sum(p * gap, -1, keepdims=True)
    f = jax.jit(lambda x, name: getattr(jsoftmax, name)(x, **given), static_argnums=1)
    for name, expected, of_row in (("softmax", p, gap + mean_gap), ("log_softmax", t - log_z, gap + mean_gap)):
        tolerance.check(f(x, name), expected, dtype, tolerance.VALUE[name], f"{name} on {n}", gap=of_row)
    peak = beta * wide.max(-1)
    scale = np.maximum(np.abs(peak), log_z[:, 0]) / beta
    what, value = f"logsumexp on {n}", (peak + log_z[:, 0]) / beta
    tolerance.check(
        f(x, "logsumexp"), value, dtype, tolerance.VALUE["logsumexp"], what, scale=scale, gap=mean_gap[:, 0]
    )


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_losses_of_long_rows(n, dtype):
    x, labels = logits(n, dtype), np.array([3, n // 2, n // 2, 1, n - 1], np.int32)
    t, log_z, p, others = exact(x.astype(np.float64), 1.0)
    at = np.arange(n) == labels[:, None]
    gap = np.where(np.isfinite(t), -t, 0)
    mean_gap, of_label = np.sum(p * gap, -1), np.sum(np.where(at, gap, 0), -1)
    f = jax.jit(jax.value_and_grad(lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels).sum()))
    losses = jax.jit(jsoftmax.softmax_cross_entropy_with_integer_labels)(x, labels)
    bound = tolerance.VALUE[registry.INTEGER]
    expected = log_z[:, 0] - np.sum(np.where(at, t, 0), -1)
    tolerance.check(losses, expected, np.float32, bound, f"loss on {n}", gap=mean_gap + of_label)
    expected = np.where(at, -others, p)
    bar = f(x)[1]
    tolerance.check(bar, expected, dtype, tolerance.COTANGENT["x"], f"gradient on {n}", gap=gap + mean_gap[:, None])


QUICK = ("softmax", "logsumexp", registry.INTEGER)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if registry.label(c) in QUICK else ON_DEVICES) for c in registry.CASES],
    ids=registry.label,
)
def test_the_same_bits_each_time(case):
    s = registry.sample(case, inputs.BY_NAME["past a lane"], np.float32, "row")
    g = registry.cotangent(case, s)
    run = functools.partial(registry.value_and_cotangents, case, s, g, True)
    bits = {tuple(np.asarray(a).tobytes() for a in jax.tree.leaves(run())) for _ in range(20)}
    assert len(bits) == 1


def test_the_same_bits_of_blocks():
    """Of the linear layer, whose blocks add up on top of each other."""
    x, w = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((37, 16), (16, 1003)))
    labels = np.arange(37, dtype=np.int32)
    loss = lambda x, w: jsoftmax.linear_softmax_cross_entropy(x, w, labels, block_size=8, reduction="mean")  # noqa: E731
    run = jax.jit(jax.value_and_grad(loss, (0, 1)))
    assert len({tuple(np.asarray(a).tobytes() for a in jax.tree.leaves(run(x, w))) for _ in range(20)}) == 1
    assert jnp.isfinite(run(x, w)[0])
