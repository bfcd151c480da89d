"""Reads the cases and judges answers: NumPy and the standard library, no JAX.

    from experiments.conformance import run

    for case in run.load("softmax"):
        verdict = run.judge(case, *answer(case))  # {"value": Verdict, "gradient": Verdict}

An answer is an array, or a pair (array, "bfloat16") where NumPy has no such dtype; gradients are a dict of such.
"""

import json
import math
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).parent / "data"
FORMAT = 1
READ_AS = {"bfloat16": "float32"}  # holds every number of it, and NumPy has no bfloat16
LARGEST = {"bfloat16": (2 - Decimal(2) ** -7) * 2**127}
LARGEST |= {name: Decimal(float(np.finfo(name).max)) for name in ("float16", "float32", "float64")}
PASS, NEAR, FAIL, UNSUPPORTED = "pass", "near", "fail", "unsupported"
NEARLY = Decimal("0.01")  # of the largest entry: beyond its bound, and no further than that


class Unsupported(Exception):
    """An adapter raises it where the library has no such operator or option."""


class Expected(NamedTuple):
    """What a result has to be: the exact numbers, and how far each entry may be from them."""

    dtype: str
    shape: tuple
    exact: tuple  # of Decimal, row by row; NaN and ±Infinity among them
    bound: tuple  # of Decimal
    unsigned: bool = False  # a probability: neither below 0 nor −0


class Case(NamedTuple):
    id: str
    operator: str
    group: str
    tests: str
    convention: tuple  # which of "value" and "gradient" another library may define otherwise
    inputs: dict  # name → array; numbers of bfloat16 are in float32 arrays
    dtypes: dict  # name → dtype of the input
    options: dict
    value: Expected
    cotangent: np.ndarray  # of the value, in its dtype
    gradients: dict  # name of the input → Expected: the vector-Jacobian product with `cotangent`


class Verdict(NamedTuple):
    outcome: str  # PASS, NEAR, FAIL or UNSUPPORTED
    why: str = ""


def operators():
    """The operators that there are cases for."""
    return sorted(path.stem for path in DATA.glob("*.json"))


def load(operator, folder=DATA):
    """The cases of an operator, in the order of its file."""
    data = json.loads((folder / f"{operator}.json").read_text(encoding="utf-8"))
    if data["format"] != FORMAT:
        raise ValueError(f"{operator}.json has format {data['format']}; this reader knows format {FORMAT}.")
    return [_case(operator, entry) for entry in data["cases"]]


def _case(operator, entry):
    return Case(
        *(entry["id"], operator, entry["group"], entry["tests"], tuple(entry["convention"])),
        {name: _array(given) for name, given in entry["inputs"].items()},
        {name: given["dtype"] for name, given in entry["inputs"].items()},
        entry["options"],
        _expected(entry["value"]),
        _array(entry["cotangent"]),
        {name: _expected(given) for name, given in entry["gradients"].items()},
    )


def _array(given):
    """Numbers and the strings "NaN", "Infinity", "-Infinity", which `float` reads too."""
    dtype = np.dtype(READ_AS.get(given["dtype"], given["dtype"]))
    values = [float(v) if dtype.kind == "f" else v for v in given["values"]]
    return np.array(values, np.float64 if dtype.kind == "f" else dtype).astype(dtype).reshape(given["shape"])


def _expected(given):
    numbers = (tuple(Decimal(str(v)) for v in given[name]) for name in ("exact", "bound"))
    return Expected(given["dtype"], tuple(given["shape"]), *numbers, given.get("unsigned", False))


def judge(case, value, gradients=None):
    """{"value": Verdict, "gradient": Verdict}; a gradient that the answer lacks is unsupported."""
    of_value = Verdict(UNSUPPORTED, "no value") if value is None else _verdict({"value": fault(case.value, value)})
    gradients = gradients or {}
    given = {name: expected for name, expected in case.gradients.items() if gradients.get(name) is not None}
    found = _verdict({f"gradient in {name}": fault(expected, gradients[name]) for name, expected in given.items()})
    missing = [name for name in case.gradients if name not in given]
    if found.outcome == PASS and missing:
        found = Verdict(UNSUPPORTED, f"no gradient in {', '.join(missing)}")
    return {"value": of_value, "gradient": found}


def _verdict(faults):
    said = {name: fault for name, fault in faults.items() if fault}
    if not said:
        return Verdict(PASS)
    outcome = NEAR if all(fault.near for fault in said.values()) else FAIL
    return Verdict(outcome, "; ".join(f"{name}: {fault.text}" for name, fault in said.items()))


class Fault(NamedTuple):
    text: str
    near: bool = False  # a number beyond its bound by no more than NEARLY


def fault(expected, answer):
    """What is wrong with an answer; None if nothing is. Of several entries the first that is not merely near."""
    array, dtype = answer if isinstance(answer, tuple) else (answer, None)
    array = np.asarray(array)
    dtype = dtype or array.dtype.name
    if array.shape != expected.shape:
        return Fault(f"shape {array.shape}, wanted {expected.shape}")
    if dtype != expected.dtype:
        return Fault(f"dtype {dtype}, wanted {expected.dtype}")
    numbers, found = array.astype(np.float64).ravel().tolist(), []
    largest = max((abs(exact) for exact in expected.exact if exact.is_finite()), default=Decimal(0))
    for i, (number, exact, bound) in enumerate(zip(numbers, expected.exact, expected.bound, strict=True)):
        signed = expected.unsigned and math.copysign(1.0, number) < 0 and not math.isnan(number)
        if signed or not _within(number, exact, bound, LARGEST[dtype]):
            place = f" at {tuple(map(int, np.unravel_index(i, array.shape)))}" if array.ndim else ""
            near = not signed and _within(number, exact, NEARLY * largest, LARGEST[dtype])
            found.append(Fault(f"{number!r}{place}, wanted {_short(exact)} ± {_short(bound)}", near))
    return min(found, key=lambda fault: fault.near, default=None)


def _within(number, exact, bound, largest):
    """An exact number beyond the dtype's range may be the infinity of its sign."""
    if exact.is_nan() or math.isnan(number):
        return exact.is_nan() and math.isnan(number)
    if math.isinf(number):
        return abs(exact) > largest and (exact > 0) == (number > 0)
    if exact.is_infinite():
        return False
    with localcontext(prec=60):
        return abs(Decimal(number) - exact) <= bound


def _short(number):
    return f"{float(number):.9g}" if number.is_finite() else str(number)


def verdicts(case, adapter):
    """Verdicts of an adapter: a dict of operator → function of a case, which returns value or (value, gradients)."""
    if case.operator not in adapter:
        return dict.fromkeys(("value", "gradient"), Verdict(UNSUPPORTED, "no such operator"))
    try:
        answer = adapter[case.operator](case)
    except Unsupported as why:
        return dict.fromkeys(("value", "gradient"), Verdict(UNSUPPORTED, str(why)))
    except Exception as error:  # a library refuses a case in a way of its own
        words = " ".join(str(error).split())[:120]
        return dict.fromkeys(("value", "gradient"), Verdict(FAIL, f"raised {type(error).__name__}: {words}"))
    pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)
    return judge(case, *(answer if pair else (answer, None)))
