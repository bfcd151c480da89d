"""Value and every cotangent of every operator on every input, against the 60-digit oracle.

Value and cotangents come from one compiled function: compiling is what takes the time. The cotangent is random, for a
sum has gradient 0 through a softmax.
"""

import jax
import ml_dtypes
import numpy as np
import pytest

from tests import inputs, registry
from tests.marks import slow
from tests.verify import DEFAULT, on, verify

NEGATIVE, THIRD = inputs.BETAS["negative"], inputs.BETAS["third"]
ALL_BETAS = tuple(inputs.BETAS.values())  # where β has most to break
FEW_BETAS = (0.0, NEGATIVE, THIRD, np.inf)
# of few shapes, each of which is a program; test_everything has all
HARD = ("loud", "ties", "confident", "holes", "mask on holes", "huge", "huge half", "one live", "axes (2, 0)")
PLAIN = ("faint", "no classes", "axis 1 of 3", "all axes", "empty row", "nan row", "inf row")
UNGIVEN = ("confident", "mask on holes", "inf row")  # β = 1 as a constant: another program
BY_ROW = ("mask on holes", "axes (2, 0)")  # a β for each row: a third program
CASES = pytest.mark.parametrize("case", registry.CASES, ids=registry.label)
LONG = ("softmax_jacobian", "logsumexp-b")  # programs that take long to compile
NEAR = (
    *LONG,
    "log_softmax",
    "entropy",
    f"{registry.INTEGER}-ignore_label",
)  # to another, which meets every shape in the fast lane
OF_NEAR = (*HARD, "empty row", "nan row", "inf row")


def but(*later):
    """Every case, those named only in the slow lane."""
    return registry.first([registry.label(c) for c in registry.CASES if registry.label(c) not in later])


@CASES
def test_float32_jit(case):
    if registry.label(case) in NEAR:
        in_float32(case, OF_NEAR, (), BY_ROW[:1])
    else:
        in_float32(case, (*HARD, *PLAIN), UNGIVEN, BY_ROW)


@pytest.mark.parametrize("case", [c for c in registry.CASES if registry.label(c) in NEAR], ids=registry.label)
@pytest.mark.slow
def test_more_in_float32_jit(case):
    in_float32(case, (*HARD, *PLAIN), UNGIVEN, BY_ROW)


def in_float32(case, names, ungiven, by_row):
    for row in on(case, np.float32, names):
        betas = FEW_BETAS if registry.label(case) in LONG else ALL_BETAS
        for beta in betas if row.name in HARD else (NEGATIVE,):
            verify(case, row, np.float32, beta, jit=True)
        if row.name in ungiven:
            verify(case, row, np.float32, DEFAULT, jit=True)
        if row.name in by_row:
            verify(case, row, np.float32, "row", jit=True)


@registry.first()
def test_float32_eager(case):
    """As a user types it: XLA sees the operator alone, and its cotangents in a second program."""
    given = {"ties": (-1.3, np.inf), "mask on holes": ("row",), "huge": (DEFAULT,)}
    for row in on(case, np.float32, given):
        for beta in given[row.name]:
            verify(case, row, np.float32, beta, jit=False)


@CASES
@pytest.mark.slow
def test_more_in_float32_eager(case):
    for row in on(case, np.float32, ("ties", "confident", "mask on holes", "nan row", "huge")):
        for beta in (DEFAULT, 0.0, -1.3, np.inf, "row"):
            verify(case, row, np.float32, beta, jit=False)


@but("logmeanexp", "logsumexp-b")
@pytest.mark.parametrize("beta", [slow(1.0), "row"])
def test_every_static_argument(case, beta):
    for static in case.statics[1:]:
        for row in on(case, np.float32, ("normal", "axes (2, 0)", "all axes", "mask on axis 0")):
            verify(case, row, np.float32, beta, jit=True, static=static)


@but(*NEAR, "softmax_cross_entropy")
def test_float64(case):
    with jax.enable_x64(True):
        for row in on(case, np.float64, ("ties", "confident", "mask on holes", "huge")):
            verify(case, row, np.float64, DEFAULT if row.name == "huge" else THIRD, jit=True)


HALF = {
    ml_dtypes.bfloat16: ("loud", "confident", "mask on holes", "inf row"),
    np.float16: ("offset 1e4", "huge half", "mask on holes"),
}
QUICK = ("softmax", registry.INTEGER)  # whose range of exponents is tried in the fast lane


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            case,
            dtype,
            marks=[]
            if registry.label(case) in (QUICK if dtype == np.float16 else registry.KINDS)
            else pytest.mark.slow,
            id=f"{np.dtype(dtype).name}-{registry.label(case)}",
        )
        for dtype in HALF
        for case in registry.CASES
    ],
)
def test_half_precision(case, dtype):
    names = HALF[dtype]
    for row in on(case, dtype, names):
        constant = row.name == "loud" and dtype == ml_dtypes.bfloat16  # not the masked row, whose β has a cotangent
        verify(case, row, dtype, DEFAULT if constant else THIRD, jit=True)


@CASES
@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, ml_dtypes.bfloat16, np.float16], ids=lambda d: np.dtype(d).name
)
def test_everything(case, dtype):
    """Every input at every β, not only where they are known to meet."""
    with jax.enable_x64(dtype == np.float64):
        for row in on(case, dtype):
            for beta in (DEFAULT, *ALL_BETAS, "row"):
                verify(case, row, dtype, beta, jit=True)
