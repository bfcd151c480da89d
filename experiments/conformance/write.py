"""The cases as JSON: `files()` gives the same bytes whenever and wherever it is called."""

import json
import re

import mpmath
import numpy as np
from mpmath import mp, mpf

from experiments.conformance import cases, exact, run
from tests import oracle

DIGITS = 30  # of an exact number
LEAST = mpf("1e-400")  # what is smaller is written as 0: no dtype has it, and few readers of decimals
PATTERN = (1.0, -0.75, 0.5, 1.25, -0.25, 0.875, -1.5)  # of a cotangent: exact in every dtype
DIFFERENTIABLE = {
    "softmax": ("x", "beta"),
    "log_softmax": ("x", "beta"),
    "logsumexp": ("x", "b", "beta"),
    "logmeanexp": ("x", "beta"),
    "entropy": ("logits", "beta"),
    "kl_divergence": ("logits_p", "logits_q", "beta"),
    "boltzmann": ("energies", "beta"),
    "free_energy": ("energies", "beta"),
    cases.DISTRIBUTION: ("logits", "labels", "beta", "label_smoothing", "z_loss", "class_weights"),
    cases.INTEGER: ("logits", "beta", "label_smoothing", "z_loss", "class_weights"),
}
UNSIGNED = ("softmax", "boltzmann")


def files(version=mpmath.__version__):
    """{operator: text of its file}; `version` of mpmath is what the file says, for no digit depends on it."""
    return {operator: text(operator, version) for operator in cases.OPERATORS}


def text(operator, version=mpmath.__version__):
    found = [entry(operator, draft) for draft in cases.drafts(operator)]
    data = {
        "format": run.FORMAT,
        "operator": operator,
        "provenance": {
            "generator": "python -m experiments.conformance --write",
            "exact": f"tests/oracle.py with mpmath {version}, {oracle.DIGITS} digits, of which {DIGITS} are written",
            "bounds": "tests/tolerance.py and tests/bounds.py",
        },
        "groups": {group: cases.GROUPS[group] for group in cases.GROUPS if any(e["group"] == group for e in found)},
        "cases": found,
    }
    whole = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}\"]*\]|\[(?:\s*\"[^\"]*\",?)*\s*\]", _on_one_line, whole) + "\n"


def _on_one_line(found):
    return f"[{' '.join(found[0][1:-1].split())}]"


def entry(operator, draft):
    arrays = dict(draft.inputs)
    arrays.setdefault("beta", np.float32(1))
    arrays["beta"] = np.asarray(arrays["beta"])
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in draft.options.items()}
    differentiable = tuple(k for k in DIFFERENTIABLE[operator] if k in arrays)
    finite = operator == "log_softmax" and draft.group != "empty rows"
    weights = cotangent_of_finite if finite else cotangent
    value, bars = exact.answer(operator, arrays, options, weights, differentiable)
    logits = next(iter(draft.inputs.values()))
    dtype = exact.result_dtype(operator, logits.dtype)
    stated = [k for k in differentiable if k in draft.inputs and k in bars]
    if operator == cases.DISTRIBUTION and ("where" in arrays or (logits == -np.inf).any()):
        stated.remove("labels")  # −log p of an absent class is ∞ or, as something that cannot be, 0
    return {
        "id": f"{operator}/{draft.group.replace(' ', '-')}/{draft.slug}",
        "tests": draft.tests,
        "group": draft.group,
        "convention": list(draft.convention),
        "inputs": {name: _input(a) for name, a in draft.inputs.items()},
        "options": draft.options,
        "value": _expected(value, dtype) | ({"unsigned": True} if operator in UNSIGNED else {}),
        "cotangent": _input(weights(value.values).astype(dtype)),
        "gradients": {k: _expected(bars[k], draft.inputs[k].dtype) for k in stated},
    }


def cotangent(values):
    return np.resize(PATTERN, values.size).reshape(values.shape)


def cotangent_of_finite(values):
    """0 where a log-probability is −∞: what is made of it is infinite too, and has no derivative."""
    return np.where(values == mpf("-inf"), 0.0, cotangent(values))


def _input(a):
    a = np.asarray(a)
    return {"dtype": a.dtype.name, "shape": list(a.shape), "values": [_number(v) for v in a.ravel()]}


def _number(v):
    """A number as JSON: of the fewest digits that name it, read as float64 and rounded to the dtype."""
    if v.dtype.kind in "biu":
        return v.item()
    wide = v if v.dtype == np.float64 else np.float32(v)
    if not np.isfinite(wide):
        return "NaN" if np.isnan(wide) else "Infinity" if wide > 0 else "-Infinity"
    shortest = float(np.format_float_scientific(wide))
    if type(wide)(shortest) != wide:
        raise ValueError(f"{wide!r} is not {shortest!r} rounded.")
    return shortest


def _expected(found, dtype):
    values, bounds = found.values.ravel(), np.broadcast_to(found.bounds, found.values.shape).ravel()
    return {
        "dtype": np.dtype(dtype).name,
        "shape": list(found.values.shape),
        "exact": [decimal(v) for v in values],
        "bound": [0 if b == 0 else float(f"{b * 1.005:.2e}") for b in bounds.tolist()],  # up, to three digits
    }


def decimal(v):
    if mp.isnan(v):
        return "NaN"
    if mp.isinf(v):
        return "Infinity" if v > 0 else "-Infinity"
    return mp.nstr(v if abs(v) >= LEAST else mpf(0), DIGITS)
