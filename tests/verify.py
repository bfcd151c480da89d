"""A case on an input against the oracle: value and cotangents, and the derivative of the cotangents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests import bounds, inputs, registry, tolerance

DEFAULT = None  # β not given: a constant of the program, which XLA makes another program of


def verify(case, row, dtype, beta, jit, static=None):
    s = registry.sample(case, row, np.dtype(dtype), 1.0 if beta is DEFAULT else beta, static)
    g = registry.cotangent(case, s)
    value, cotangents = registry.value_and_cotangents(case, s, g, jit, ("beta",) if beta is DEFAULT else ())
    bounds.check_value(case, s, value, registry.exact(case, s))
    bounds.check_cotangents(case, s, g, cotangents, registry.exact(case, s, g))


def on(case, dtype, names=None):
    rows = [row for row in registry.rows(case, dtype) if names is None or row.name in names]
    assert rows
    return rows


def assert_same(found, wanted, bound, what):
    """Trees of float32 arrays, each in units of the largest number that is wanted of it."""
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        tolerance.check(a, np.float64(e), np.float32, bound, what, scale=np.abs(e).max())


# second order ------------------------------------------------------------------------------------------------------


def directions(case, s):
    """A random direction in each differentiable argument; absent logits stand still, for nothing moves them."""
    for i, name in enumerate(case.differentiable):
        a = s.arrays[name]
        v = inputs.cotangent(a.shape, 10 + i)
        if name in (case.logits, "labels"):
            v = np.where(np.isfinite(s.arrays[case.logits]), v, 0)
        if name == "labels":  # mass on an absent class is an infinite loss
            v = np.where(np.broadcast_to(s.arrays.get("where", True), v.shape), v, 0)
        yield name, v


@functools.cache
def _compiled(name, static, differentiable):
    """Derivative of the cotangents: forward over reverse; one program for every direction and value of β."""

    def derivative(arrays, g, tangents):
        rest = {k: v for k, v in arrays.items() if k not in differentiable}

        def cotangents(*d):
            f = lambda *d: registry.call(name, static, dict(zip(differentiable, d, strict=True)) | rest)  # noqa: E731
            return jax.vjp(f, *d)[1](g)

        return jax.jvp(cotangents, [arrays[k] for k in differentiable], tangents)[1]

    return jax.jit(derivative)


def moved(case, s, name, v, g):
    """Derivative of all cotangents along `v` in argument `name`."""
    arrays = {k: jnp.asarray(a) for k, a in s.arrays.items()}
    tangents = [jnp.asarray(v) if k == name else jnp.zeros_like(arrays[k]) for k in case.differentiable]
    f = _compiled(case.name, tuple(s.static.items()), case.differentiable)
    return dict(zip(case.differentiable, f(arrays, jnp.asarray(g), tangents), strict=True))


def check_moved(case, s, along, v, g, bars, expected):
    gap = registry.geometry(case, s).gap.max(initial=0.0)
    for name, actual in bars.items():
        if name == "beta" and case.name == "logsumexp" and not s.arrays["beta"].all():
            continue  # at β = 0 the slope in β is infinite and stands still where it saturates
        size = np.abs(np.where(np.isfinite(expected[name]), expected[name], 0))
        axes = registry.class_axes(case, s) if size.ndim == s.arrays[case.logits].ndim else None
        # the oracle's difference quotient is exact to 30 digits
        scale = size.max(axes, keepdims=True, initial=0.0) + 1e-20
        # there the peak is no origin, or there is one β for all rows, and the terms cancel
        if "b" in s.arrays or case.name == "logmeanexp" or name in ("beta", *registry.OPTIONS):
            scale = scale + np.abs(v).max(initial=0.0) * np.abs(g).max(initial=0.0)
        what = f"derivative of {name} along {along}, {registry.label(case)} on {s.id!r} at {s.arrays['beta'].tolist()}"
        tolerance.check(actual, expected[name], np.float64, tolerance.SECOND_ORDER, what, scale=scale, gap=gap)


def finite_labels(case, s):
    """Soft labels without mass where the class is absent, so that the loss is finite."""
    if case.name != "softmax_cross_entropy":
        return s
    present = np.isfinite(s.arrays["logits"]) & np.broadcast_to(s.arrays.get("where", True), s.arrays["logits"].shape)
    return s._replace(arrays=s.arrays | {"labels": np.where(present, s.arrays["labels"], 0)})
