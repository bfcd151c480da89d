"""What a run measures: parts of one workload and dtype, each with its cases."""

import functools
from typing import NamedTuple

from experiments.benchmarks import attention, linear, margins, vocabulary
from experiments.benchmarks.operators import CASES, label
from experiments.benchmarks.programs import YARDSTICK
from experiments.benchmarks.workloads import BY_NAME, DTYPES, SPATIAL, WORKLOADS, Workload

BACKENDS = ("cpu", "gpu")
OF_KIND = {"linear": linear, "margin": margins, "attention": attention, "vocabulary": vocabulary}
ALL_CASES = [*CASES, *(case for module in OF_KIND.values() for case in module.CASES)]
LABELS = {label(*case): case for case in ALL_CASES}


class Part(NamedTuple):
    workload: Workload
    dtype: str
    cases: tuple[tuple[str, str], ...]  # (operator, variant)
    in_place: tuple[tuple[str, str], ...]  # those measured with donated logits too


def plan(full, names=(), on="cpu"):
    """The parts of the quick or the full run, of all workloads for a backend or of those named."""
    chosen = [w for w in WORKLOADS if (w.name in names if names else w.on == on)]
    parts = {w.name: _full(w) if full else _quick(w) for w in chosen}
    missing = [name for name in names if not parts.get(name)]
    if missing:
        raise ValueError(f"{missing} are no workloads{'' if full else ' of the quick run'}: {sorted(BY_NAME)}.")
    return [part for some in parts.values() for part in some]


def _full(workload):
    if workload.kind in OF_KIND:
        dtypes = DTYPES if workload.kind in ("linear", "attention") else DTYPES[:1]
        return [Part(workload, dtype, tuple(OF_KIND[workload.kind].CASES), ()) for dtype in dtypes]
    cases = tuple(case for case in CASES if case[0] != SPATIAL or len(workload.shape) > 2)
    return [Part(workload, dtype, cases, cases if workload.kind == "compiled" else ()) for dtype in DTYPES]


def _quick(workload):
    """Half precision is not measured in place: what it costs shows in the fresh rows already."""
    in_place = {"float32": tuple(LABELS[name] for name in workload.in_place)}
    return [
        Part(workload, dtype, tuple(LABELS[name] for name in names), in_place.get(dtype, ()))
        for dtype, names in workload.quick.items()
    ]


def exists(row):
    """Whether there is still the case of a row."""
    return (row["workload"], row["dtype"]) in _places() and (row["operator"], row["variant"]) in _ORDER


def quick_case(row):
    """Whether `make bench` measures the case of a row."""
    return (row["operator"], row["variant"]) in _quick_cases().get((row["workload"], row["dtype"]), ())


def ordered(rows):
    """In the order of the full plan, by version of JAX."""
    places = _places()

    def place(row):
        part, case = (row["workload"], row["dtype"]), (row["operator"], row["variant"])
        return row["jax"], places[part], _ORDER.index(case), row["mode"]

    return sorted(rows, key=place)


_ORDER = ((YARDSTICK, ""), *ALL_CASES)


@functools.cache
def _places():
    parts = [part for on in BACKENDS for part in plan(full=True, on=on)]
    return {(part.workload.name, part.dtype): i for i, part in enumerate(parts)}


@functools.cache
def _quick_cases():
    return {(part.workload.name, part.dtype): part.cases for on in BACKENDS for part in plan(full=False, on=on)}
