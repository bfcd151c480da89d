"""Every entry of the torture list, eager and under an outer jit: value, gradient, derivative of the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import tolerance, torture
from tests.marks import slow

INTEGER_LABELS = "softmax_cross_entropy_with_integer_labels"
COMPILE_LIGHTLY = "fast lane"
IDS = [f"{e.id}-{e.op}-{e.note}".replace(" ", "_") for e in torture.ENTRIES]


def arguments(entry):
    first, *rest = entry.args
    dtype = entry.label_dtype if entry.op == INTEGER_LABELS else entry.dtype
    x = jnp.asarray(np.asarray(first), entry.dtype)
    rest = [jnp.asarray(np.asarray(r).astype(dtype)) for r in rest]
    wide = jnp.float64 if entry.dtype == "float64" else jnp.float32
    arrays = {k: jnp.asarray(v, wide) for k, v in entry.kwargs.items() if k in torture.NUMBERS}
    if entry.kwargs.get("where") is not None:
        arrays["where"] = jnp.asarray(entry.kwargs["where"], bool)
    static = {k: v for k, v in entry.kwargs.items() if k not in (*torture.NUMBERS, "where")}
    arrays.setdefault("beta", jnp.asarray(1.0, jnp.float32))
    if entry.op == "weighted_mean":
        del arrays["beta"]
    return x, rest, arrays, static


def agree(actual, expected, what, scale=0.0):
    expected = np.asarray(expected, np.float64)
    tolerance.check(actual, expected, actual.dtype, tolerance.TORTURE, what, scale=scale)


def agree_in_sum(actual, expected, what):
    """Of the largest in the row: entries of both signs cancel."""
    size = np.abs(np.asarray(expected, np.float64))
    agree(actual, expected, what, np.max(size, initial=0.0, where=np.isfinite(size)))


@functools.cache
def functions(op, static, compiled):
    """(value, cotangents, derivative of the gradient): entries of one shape share what is compiled."""

    def value(x, rest, arrays):
        y = getattr(jsoftmax, op)(x, *rest, **arrays, **dict(static))
        return y if op == "weighted_mean" else (y, None)

    def cotangents(x, rest, arrays, g):
        y, pull = jax.vjp(lambda *args: value(*args)[0], x, rest, arrays)
        return pull(jnp.ones(y.shape, y.dtype) if g is None else g)

    def hvp(x, rest, arrays, g, v):
        return jax.jvp(lambda x: cotangents(x, rest, arrays, g)[0], (x,), (v,))[1]

    return compiled(value), compiled(cotangents), compiled(hvp)


def assert_entry(entry, compiled):
    with jax.enable_x64(entry.dtype == "float64" or entry.label_dtype in ("int64", "uint64")):
        x, rest, arrays, static = arguments(entry)
        what = f"{entry.id} {entry.op} {entry.note}"
        value, cotangents, hvp = functions(entry.op, tuple(sorted(static.items())), compiled)
        y, count = value(x, rest, arrays)
        if entry.op == "weighted_mean":
            agree(y, entry.value[0], f"{what}: mean")
            agree(count, entry.value[1], f"{what}: count")
        else:
            agree(y, entry.value, f"{what}: value")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return
        g = None
        if entry.cotangent is not None:
            g = jnp.asarray(np.asarray(list(entry.cotangent)), y.dtype).reshape(y.shape)
        x_bar, rest_bar, arrays_bar = cotangents(x, rest, arrays, g)
        if entry.gradient is not None:
            agree_in_sum(x_bar, entry.gradient, f"{what}: gradient")
        if entry.beta_gradient is not None:
            agree(arrays_bar["beta"], entry.beta_gradient, f"{what}: gradient in beta")
        if entry.labels_gradient is not None:
            agree(rest_bar[0], entry.labels_gradient, f"{what}: gradient in the labels")
        if entry.hvp is not None:
            direction = jnp.asarray(np.asarray(entry.direction), x.dtype)
            agree_in_sum(hvp(x, rest, arrays, g, direction), entry.hvp, f"{what}: derivative of the gradient")


def as_it_is(f):
    return f


@pytest.mark.parametrize("entry", torture.ENTRIES, ids=IDS)
def test_eager(entry):
    assert_entry(entry, as_it_is)


FIRST = {e.op: i for i, e in reversed([*enumerate(torture.ENTRIES)])}.values()  # of each operator
SOME = [e if i in FIRST else slow(e) for i, e in enumerate(torture.ENTRIES)]


@pytest.mark.parametrize("entry", SOME, ids=IDS)
def test_jit(entry):
    assert_entry(entry, jax.jit)
