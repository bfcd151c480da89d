"""Value and gradients under JAX's debugging and precision switches; the same bits every time; an inert import.

The data are masked, −inf or ignored: there a debugging switch trips over what never reaches the result. Each switch is
first seen to trip over something, so that no test passes because it was off.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests import bounds, inputs, registry
from tests.marks import slow
from tests.registry import CASES, Case, Sample

COMPILE_LIGHTLY = True
OPERATORS = pytest.mark.parametrize("case", CASES, ids=registry.label)
SOME = registry.first()
HALVES = pytest.mark.parametrize(
    "dtype",
    [pytest.param(ml_dtypes.bfloat16, id="bfloat16"), slow(np.float16, id="float16")],
)
MASKED = ("mask on garbage", "mask on holes", "mask")
UNMASKED = ("holes", "empty row", "normal")


def samples(case: Case, dtype=np.float32) -> list[Sample]:
    """Of absent classes, and for the loss that can ignore rows one row of NaN that it ignores."""
    names = MASKED[:2] if case.takes_where else UNMASKED[:2]
    found = [registry.sample(case, inputs.BY_NAME[name], dtype, "row") for name in names]
    if "ignore_label" in found[0].arrays:
        row = inputs.BY_NAME["nan row"]
        s = registry.sample(case, row, dtype)
        s.arrays["labels"][~np.isfinite(s.arrays["logits"]).all(-1)] = s.arrays["ignore_label"]
        found.append(s)
    return found


def check(case: Case, s: Sample, jit: bool, switch: AbstractContextManager | None = None) -> None:
    """The operator and its derivative run under `switch`; what makes their inputs does not."""
    g = registry.cotangent(case, s)
    placed = s._replace(arrays={k: jnp.asarray(v) for k, v in s.arrays.items()})
    with switch or nullcontext():
        value, cotangents = registry.value_and_cotangents(case, placed, g, jit)
    bounds.check_value(case, s, value, registry.exact(case, s))
    bounds.check_cotangents(case, s, g, cotangents, registry.exact(case, s, g))


# switches ----------------------------------------------------------------------------------------------------------


BOTH = pytest.mark.parametrize(
    ("case", "jit"),
    [
        pytest.param(case, jit, marks=marks, id=f"{registry.label(case)}-{'jit' if jit else 'eager'}")
        for jit in (False, True)
        for case in CASES
        for marks in [pytest.mark.slow if registry.label(case) in registry.LATER else ()]
    ],
)


@BOTH
def test_debug_nans(case, jit):
    for s in samples(case)[-1:] if jit else samples(case):
        check(case, s, jit, jax.debug_nans(True))


@BOTH
def test_debug_infs(case, jit):
    """On the first input whose exact results are all finite."""
    for name in (*MASKED, *UNMASKED) if case.takes_where else UNMASKED:
        s = registry.sample(case, inputs.BY_NAME[name], np.float32)
        cotangents = registry.exact(case, s, registry.cotangent(case, s))
        if all(np.isfinite(a).all() for a in (registry.exact(case, s), *cotangents.values())):
            break
    check(case, s, jit, jax.debug_infs(True))


@SOME
def test_disable_jit(case):
    """Every primitive is run by itself."""
    check(case, samples(case)[0], False, jax.disable_jit())


@SOME
def test_checking_leaks(case):
    jax.clear_caches()  # a leak is found when a function is traced
    check(case, samples(case)[0], True, jax.checking_leaks())


@HALVES
@SOME
def test_no_sum_in_half_precision(case, dtype):
    check(case, samples(case, dtype)[-1], True, jax.allow_f16_reductions(False))


def test_the_switches_are_live():
    """Each trips over what it is for; the last over the gradient of jax.nn.softmax."""
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jnp.log(jnp.float32(-1))
    with jax.debug_infs(True), pytest.raises(FloatingPointError):
        jnp.log(jnp.float32(0))
    with jax.disable_jit():
        seen = []
        jax.jit(seen.append)(1.0)
        assert seen == [1.0]
    with jax.checking_leaks(), pytest.raises(Exception, match="Leaked"):
        leaked = []
        jax.jit(lambda x: leaked.append(x + 1))(1.0)
    with jax.allow_f16_reductions(False), pytest.raises(Exception, match="f16"):
        jax.vjp(jax.nn.softmax, jnp.ones(8, jnp.bfloat16))[1](jnp.ones(8, jnp.bfloat16))


@SOME
def test_x64_beside_x32(case):
    """No compiled code serves both modes."""
    check(case, samples(case)[0], False)
    with jax.enable_x64(True):
        s = samples(case, np.float64)[0]
        if "labels" in s.arrays and s.arrays["labels"].dtype == np.int32:
            s.arrays["labels"] = s.arrays["labels"].astype(np.int64)
        check(case, s, False)
    check(case, samples(case)[0], False)


@OPERATORS
def test_strict_promotion(case):
    """β as Python and NumPy write it, whatever the dtype of the logits: the same bits."""
    assert jax.config.jax_numpy_dtype_promotion == "strict" and jax.config.jax_numpy_rank_promotion == "raise"
    s = samples(case, ml_dtypes.bfloat16)[0]
    values = [
        registry.call(case.name, tuple(s.static.items()), s.arrays | {"beta": beta})
        for beta in (2.0, 2, np.float64(2), np.float32(2), np.array(2), jnp.asarray(2.0), jnp.bfloat16(2))
    ]
    for value in values:
        np.testing.assert_array_equal(value, values[0])


# the same bits -----------------------------------------------------------------------------------------------------

LARGE = inputs.Row("large", lambda rng: rng.standard_normal((64, 2048)))  # more than one thread's share


def fingerprint(cases=CASES) -> str:
    """Hash of all bits of all values and cotangents."""
    digest = hashlib.sha256()
    for case in cases:
        row = inputs.BY_NAME["loud"] if case.name == "softmax_jacobian" else LARGE
        s = registry.sample(case, row, np.float32, 1 / 3)
        value, cotangents = registry.value_and_cotangents(case, s, registry.cotangent(case, s), jit=True)
        for a in (value, *(cotangents[k] for k in case.differentiable)):
            digest.update(np.asarray(a).tobytes())
    return digest.hexdigest()


def in_fresh_process(source: str) -> str:
    root = pathlib.Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "-B", "-c", source], cwd=root, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def in_full():
    """Compiled as users do: otherwise there is less to choose between."""
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@registry.first(("softmax", registry.INTEGER))
@pytest.mark.usefixtures("in_full")
def test_same_bits_again(case):
    first = fingerprint([case])
    assert fingerprint([case]) == first
    jax.clear_caches()
    assert fingerprint([case]) == first


@pytest.mark.slow
@pytest.mark.usefixtures("in_full")
def test_same_bits_in_a_fresh_process():
    fresh = in_fresh_process("import tests.conftest\nfrom tests.test_lanes import fingerprint\nprint(fingerprint())")
    assert fresh.split()[-1] == fingerprint()


# import ------------------------------------------------------------------------------------------------------------

IMPORT = """
import atexit, json, logging, os, sys, threading, warnings
import jax, jaxtyping, numpy as np
from jax._src import xla_bridge

def state():
    return {
        "configuration of JAX": repr(sorted(jax.config.values.items())),
        "backends": sorted(xla_bridge._backends),
        "environment": dict(os.environ),
        "warnings": repr(warnings.filters),
        "floating-point errors": np.geterr(),
        "logging": repr((logging.root.level, logging.root.handlers)),
        "threads": len(threading.enumerate()),
        "at exit": atexit._ncallbacks(),
        "search path": list(sys.path),
    }

def audit(event, args):
    if event in ("subprocess.Popen", "socket.connect", "os.mkdir", "os.rename", "os.remove", "os.putenv"):
        done.append(event)
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        done.append(f"open {args[0]}")

done, before = [], state()
assert "jsoftmax" not in sys.modules and not before["backends"]
sys.addaudithook(audit)
STATEMENT
after = state()
print(json.dumps(done + [name for name in before if before[name] != after[name]]))
"""


def changed_by(statement: str) -> list[str]:
    return json.loads(in_fresh_process(IMPORT.replace("STATEMENT", statement)))


def test_import_is_inert():
    assert changed_by("import jsoftmax") == []


def test_what_import_must_not_do_is_seen():
    seen = changed_by(
        "jax.config.update('jax_enable_x64', True); jax.numpy.zeros(1); os.environ['A'] = 'b'; open(os.devnull, 'w')"
    )
    assert {"configuration of JAX", "backends", "environment", "os.putenv", f"open {os.devnull}"} <= set(seen)
