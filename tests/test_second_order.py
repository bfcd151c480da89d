"""Second and third derivatives, right in value and not only finite: float64 against the oracle's exact derivatives.

A rule whose forward pass evaluates a formula that autodiff gets wrong (ties counted, limits taken) has a right gradient
and a wrong Hessian: ties and confident rows are where it shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import inputs, oracle, registry, tolerance
from tests.marks import slow
from tests.verify import check_moved, directions, finite_labels, moved

CASES = pytest.mark.parametrize("case", registry.CASES, ids=registry.label)
COMPILE_LIGHTLY = True
BETAS = {  # every kind of β where the peak is shared; elsewhere one, for compiling is what takes the time
    "ties": (1.0, -1.3, 0.0, np.inf),
    "normal": (0.6,),
    "confident": (1.0,),
    "mask on holes": (-1.3,),
    "axes (2, 0)": (1.7,),
}


# of few shapes, each of which is a program; the others meet confident rows where no β is given
FEW = {
    "normal": ("softmax_cross_entropy",),
    "axes (2, 0)": ("softmax",),
    "confident": ("softmax", "logsumexp", registry.INTEGER),
    "mask on holes": registry.KINDS,
}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=marks, id=f"{name}-{label}")
        for name in BETAS
        for case in registry.CASES
        for label in [registry.label(case)]
        for marks in [() if label in FEW.get(name, (label,)) else pytest.mark.slow]
    ],
)
def test_second_order(name, case):
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
                    check_moved(case, s, along, v, g, moved(case, s, along, v, g), expected)


@registry.first(("softmax", registry.INTEGER))  # all of them get their rules from one function
def test_second_order_inside_a_loop(case):
    """Of the body of a scan and of `lax.map`, which JAX takes apart to differentiate it: as without the loop."""
    with jax.enable_x64(True):
        s = finite_labels(case, registry.sample(case, inputs.BY_NAME["ties"], np.float64, 0.6))
        x, rest = s.arrays[case.logits], {k: v for k, v in s.arrays.items() if k != case.logits}
        g, v = registry.cotangent(case, s), inputs.cotangent(x.shape, 10)
        f = lambda x: jnp.sin(registry.call(case.name, tuple(s.static.items()), {case.logits: x} | rest))  # noqa: E731
        loops = {
            "none": f,
            "map": lambda x: jax.lax.map(f, x[None])[0],
            "scan": lambda x: jax.lax.scan(lambda c, _: (c, f(x + c)), 0.0, length=1)[1][0],
        }

        def derivatives(f):
            pulled = jax.grad(lambda x: jnp.vdot(g, f(x)))
            return jax.jvp(pulled, (x,), (v,))[1], jax.grad(lambda x: jnp.vdot(v, pulled(x)))(x)

        found = {name: jax.jit(lambda f=loop: derivatives(f))() for name, loop in loops.items()}
        for name in ("map", "scan"):
            for a, e in zip(found[name], found["none"], strict=True):
                tolerance.check(a, np.asarray(e), np.float64, tolerance.SECOND_ORDER, name, scale=np.abs(e).max())


@CASES
@pytest.mark.parametrize("name", [slow("ties"), "confident"])
def test_second_order_where_no_beta_is_given(case, name):
    with jax.enable_x64(True):
        s = finite_labels(case, registry.sample(case, inputs.BY_NAME[name], np.float64, 1.0))
        if "b" in s.arrays:
            s.arrays["b"] = np.maximum(s.arrays["b"], 0.1)
        g = registry.cotangent(case, s)
        kwargs = {k: v for k, v in (s.arrays | s.static).items() if k != case.logits}
        others = case._replace(differentiable=tuple(k for k in case.differentiable if k != "beta"))
        given = s._replace(arrays={k: a for k, a in s.arrays.items() if k != "beta"})
        for along, v in directions(others, given):
            expected = oracle.hvp(case.name, (s.arrays[case.logits],), kwargs, g, {along: v})
            check_moved(others, s, along, v, g, moved(others, given, along, v, g), expected)


THIRD = [c for c in registry.CASES if c.name != "softmax_jacobian"]


QUICK = ("log_softmax", registry.INTEGER)  # of each kind of result one
MARKED = [
    pytest.param(c, marks=[] if registry.label(c) in QUICK else pytest.mark.slow, id=registry.label(c)) for c in THIRD
]


@pytest.mark.parametrize("case", MARKED)
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
