"""P1 over the whole range of floats: no NaN from valid input, in value, gradient or derivative of the gradient."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import registry
from tests.laws import INTEGER
from tests.marks import fast

SHAPE = (3, 4)
LARGEST = float(np.finfo(np.float32).max)
ANY = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-30, 30, width=32),
    st.sampled_from([0.0, 1.0, -np.inf, LARGEST, -LARGEST, float(np.float32(1e-40)), float(np.finfo(np.float32).tiny)]),
)
LOGITS = hnp.arrays(np.float32, SHAPE, elements=ANY)
MASK = hnp.arrays(bool, SHAPE)
BETA = st.one_of(
    st.floats(-50, 50, width=32),
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0.0, 1.0, np.inf, -np.inf]),
)
LABELS = hnp.arrays(np.int32, SHAPE[:1], elements=st.integers(0, SHAPE[1] - 1))
SETTINGS = hypothesis.settings(max_examples=120, deadline=None, derandomize=True, database=None)
CASES = {c.name: c for c in registry.CASES if c.takes_where and "b" not in c.differentiable}
G = np.random.default_rng(3).uniform(0.5, 1.0, SHAPE).astype(np.float32)


@functools.cache
def everything(name, jit):
    """(value, gradient, derivative of the gradient along G) in the logits."""
    case = CASES[name]

    def of(x, where, beta, labels):
        def f(x):
            arrays = {case.logits: x, "where": where, "beta": beta}
            if case.name == INTEGER:
                arrays["labels"] = labels
            elif "labels" in case.differentiable:
                arrays["labels"] = jax.nn.one_hot(labels, SHAPE[1])
            return registry.call(case.name, (), arrays)

        def gradient(x):
            y, pull = jax.vjp(f, x)
            return pull(jnp.asarray(G[tuple(slice(n) for n in y.shape)] if y.ndim == 2 else G[:, 0]))[0]

        bar, moved = jax.jvp(gradient, (x,), (jnp.asarray(G),))
        return f(x), bar, moved

    return jax.jit(of) if jit else of


def check_no_nan(name, jit, x, where, beta, labels):
    parts = everything(name, jit)(jnp.asarray(x), jnp.asarray(where), jnp.float32(beta), jnp.asarray(labels))
    for part, what in zip(parts, ("value", "gradient", "derivative of the gradient"), strict=True):
        assert not np.any(np.isnan(part)), (what, np.asarray(part))
    value, gradient, _ = (np.asarray(p) for p in parts)
    assert np.all(gradient[~where] == 0)
    if name == "softmax":
        live = (where & (x != -np.inf)).any(-1)
        assert np.all((value >= 0) & (value <= 1)) and np.all(np.abs(value.sum(-1) - live) < 1e-6)
    if "cross_entropy" in name:
        assert np.all(value >= 0)


@pytest.mark.parametrize("name", fast(CASES, registry.KINDS))
def test_P1_no_nan_from_valid_input(name):
    @SETTINGS
    @hypothesis.given(LOGITS, MASK, BETA, LABELS)
    def check(x, where, beta, labels):
        check_no_nan(name, True, x, where, beta, labels)

    check()


def test_P1_eager():
    @hypothesis.settings(SETTINGS, max_examples=15)
    @hypothesis.given(LOGITS, MASK, BETA, LABELS)
    def check(x, where, beta, labels):
        check_no_nan("softmax", False, x, where, beta, labels)

    check()


@hypothesis.settings(SETTINGS, max_examples=60)
@hypothesis.given(LOGITS, st.floats(0.0625, 30, width=32))
def test_logsumexp_lies_between_the_maximum_and_its_bound(x, beta):
    """max ≤ lse ≤ max + ln n / β, to the rounding of the sum; subnormal numbers may count as 0."""
    y = np.asarray(_lse(x, jnp.float32(beta)), np.float64)
    peak = x.max(-1).astype(np.float64)
    slack = np.abs(np.where(np.isfinite(peak), peak, 0)) * 2.0**-23 + np.finfo(np.float32).tiny
    bound = peak + np.log(SHAPE[1]) / beta
    assert np.all(y >= peak - slack)
    assert np.all((y <= bound + slack + 1e-5 / beta) | (y == peak))


_lse = jax.jit(lambda x, beta: jsoftmax.logsumexp(x, beta=beta))
