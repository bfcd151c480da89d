"""Second and third derivatives, right in value and not only finite: float64 against the oracle's exact derivatives.

A rule whose forward pass evaluates a formula that autodiff gets wrong (ties counted, limits taken) has a right gradient
and a wrong Hessian: ties and confident rows are where it shows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import inputs, oracle, registry, tolerance

CASES = pytest.mark.parametrize("case", registry.CASES, ids=registry.label)
BETAS = {  # every kind of β where the peak is shared; elsewhere one, for compiling is what takes the time
    "ties": (1.0, -1.3, 0.0, np.inf),
    "normal": (0.6,),
    "confident": (1.0,),
    "mask on holes": (-1.3,),
    "axes (2, 0)": (1.7,),
}


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


def check(case, s, along, v, g, bars, expected):
    gap = registry.geometry(case, s).gap.max(initial=0.0)
    for name, actual in bars.items():
        if name == "beta" and case.name == "logsumexp" and not s.arrays["beta"].all():
            continue  # at β = 0 the slope in β is infinite and stands still where it saturates
        size = np.abs(np.where(np.isfinite(expected[name]), expected[name], 0))
        axes = registry.class_axes(case, s) if size.ndim == s.arrays[case.logits].ndim else None
        # the oracle's difference quotient is exact to 30 digits
        scale = size.max(axes, keepdims=True, initial=0.0) + 1e-20
        # there the peak is no origin, or there is one β for all rows, and the terms cancel
        if "b" in s.arrays or case.name == "logmeanexp" or name == "beta":
            scale = scale + np.abs(v).max(initial=0.0) * np.abs(g).max(initial=0.0)
        what = f"derivative of {name} along {along}, {registry.label(case)} on {s.id!r} at {s.arrays['beta'].tolist()}"
        tolerance.check(actual, expected[name], np.float64, tolerance.SECOND_ORDER, what, scale=scale, gap=gap)


def finite_labels(case, s):
    """Soft labels without mass where the class is absent, so that the loss is finite."""
    if case.name != "softmax_cross_entropy":
        return s
    present = np.isfinite(s.arrays["logits"]) & np.broadcast_to(s.arrays.get("where", True), s.arrays["logits"].shape)
    return s._replace(arrays=s.arrays | {"labels": np.where(present, s.arrays["labels"], 0)})


@CASES
@pytest.mark.parametrize("name", BETAS)
def test_second_order(case, name):
    row = inputs.BY_NAME[name]
    if row.where is not None and not case.takes_where:
        row = inputs.BY_NAME["holes"]
    with jax.enable_x64(True):
        for beta in BETAS[name]:
            s = registry.sample(case, row, np.float64, beta)
            if case.name in ("logsumexp", "logmeanexp") or np.isfinite(beta):
                s = finite_labels(case, s)
                if "b" in s.arrays and name == "confident":  # where b = 0, 80 above the peak, the slope in b is e^80
                    s.arrays["b"] = np.maximum(s.arrays["b"], 0.1)
                g = registry.cotangent(case, s)
                kwargs = {k: v for k, v in (s.arrays | s.static).items() if k != case.logits}
                for along, v in directions(case, s):
                    if beta == 0 and along == "beta" and case.name == "logsumexp":
                        continue
                    if np.isinf(beta) and along == "beta":
                        continue
                    expected = oracle.hvp(case.name, (s.arrays[case.logits],), kwargs, g, {along: v})
                    check(case, s, along, v, g, moved(case, s, along, v, g), expected)


THIRD = [c for c in registry.CASES if c.name != "softmax_jacobian"]


@pytest.mark.parametrize("case", THIRD, ids=[registry.label(c) for c in THIRD])
def test_third_order(case):
    """Against the derivative of the oracle's second, with a tie at the peak."""
    with jax.enable_x64(True):
        s = finite_labels(case, registry.sample(case, inputs.BY_NAME["ties"], np.float64, 0.7))
        g = registry.cotangent(case, s)
        kwargs = {k: v for k, v in (s.arrays | s.static).items() if k != case.logits}
        for along in (case.logits, "beta"):
            v = dict(directions(case, s))[along]

            def second(e, s=s, v=v, along=along):
                there = s._replace(arrays=s.arrays | {along: s.arrays[along] + e * v})
                return moved(case, there, along, v, g)

            third = jax.jvp(second, (jnp.zeros(()),), (jnp.ones(()),))[1]
            h, sides = 1e-4, []
            for e in (h, -h):
                there = dict(kwargs) | {along: s.arrays[along] + e * v}
                x = there.pop(case.logits, s.arrays[case.logits])
                sides.append(oracle.hvp(case.name, (x,), there, g, {along: v}))
            for name, actual in third.items():
                expected = (sides[0][name] - sides[1][name]) / (2 * h)
                size = np.abs(expected).max(initial=0.0)
                assert np.abs(actual - expected).max() <= tolerance.DIFFERENCE_QUOTIENT * max(size, 1.0), (along, name)
