"""The rows as text: the table on the terminal and the tables of docs/performance.md, from the rows alone."""

import itertools

import numpy as np

from experiments.benchmarks import programs as p
from experiments.benchmarks.operators import label
from experiments.benchmarks.results import case
from experiments.benchmarks.workloads import BY_NAME, CROSS_ENTROPY, INTEGER, LINEAR, SPATIAL

SLOWER = 1.25  # ratios above it are marked
SHORT = {
    INTEGER: "integer cross-entropy",
    CROSS_ENTROPY: "cross-entropy",
    SPATIAL: "spatial cross-entropy",
    LINEAR: "linear cross-entropy",
}
HEADER = ("case", "mode", "ms", "best rival", "ratio (p20–p80)", "× floor", "temporary MB", "best rival's")


def name(row):
    return label(SHORT.get(row["operator"], row["operator"]), row["variant"])


def by_part(rows):
    """Yields ((workload, dtype), its rows); rows of a part are next to each other."""
    yield from itertools.groupby(rows, lambda row: (row["workload"], row["dtype"]))


def ours(rows):
    return [row for row in rows if row["function"] == p.OURS]


def by_case(rows):
    """Case → function → row."""
    found = {}
    for row in rows:
        found.setdefault(case(row), {})[row["function"]] = row
    return found


def jax_ratio(functions):
    """Ours to the best rival that is made with JAX, of the rows of one case."""
    return max(row["ratio"] for function, row in functions.items() if function not in (p.OURS, *p.OF_TORCH))


def geometric_mean(rows):
    """Of the ratios to the best JAX rival."""
    return np.exp(np.mean(np.log([jax_ratio(f) for f in by_case(rows).values() if p.OURS in f])))


def summary(rows):
    """Eager calls are a matter of dispatch, far from the others in either direction, so they are left out once; losses
    that are not those of all classes always."""
    rows = [row for row in rows if BY_NAME[row["workload"]].kind != "vocabulary"]
    if not rows:
        return "No row of a loss that has a rival to be equal to."
    compiled = [row for row in rows if BY_NAME[row["workload"]].kind != "eager"]
    parts = [(rows, "all"), (compiled, "the compiled")] if compiled else [(rows, "all")]
    means = [f"{geometric_mean(some):.3f} over {what} {len(ours(some))} rows" for some, what in parts]
    return f"Geometric mean of the ratios to the best JAX rival: {'; '.join(means)}."


def compiling(rows):
    """Ours beside the best JAX rival, which is here the one that takes the least."""
    found = []
    for functions in by_case(rows).values():
        took = {
            f: row["compile_ms"]
            for f, row in functions.items()
            if f not in p.OF_TORCH and row["compile_ms"] is not None
        }
        if p.OURS in took:
            found.append(took.pop(p.OURS) / min(took.values()))
    if not found:
        return ""
    quartiles = " to ".join(f"{q:.1f}" for q in np.percentile(found, (25, 75)))
    return (
        f"Time to trace and compile, once, beside the JAX rival that takes the least: median {np.median(found):.1f}, "
        f"half of the {len(found)} rows {quartiles}."
    )


def lines(rows):
    """The cells of the table, a line for each row of ours."""
    return [cells(functions) for functions in by_case(rows).values() if p.OURS in functions]


def cells(functions):
    row = functions[p.OURS]
    best = functions[row["best_rival"]]
    return (
        *(name(row), row["mode"], f"{row['ms']:.3g}", row["best_rival"]),
        f"{row['ratio']:.2f} ({row['ratio_p20']:.2f}–{row['ratio_p80']:.2f})",
        "" if row["floor_ratio"] is None else f"{row['floor_ratio']:.1f}",
        *("" if r["temp_bytes"] is None else f"{r['temp_bytes'] / 1e6:.1f}" for r in (row, best)),
    )


def yardsticks(rows):
    found = {row["function"]: row for row in rows if row["operator"] == p.YARDSTICK}
    times = ", ".join(f"{name} {row['ms']:.3g} ms" for name, row in found.items())
    return f"{times}; p80/p20 of the copy {found[p.COPY]['copy_p80_p20']:.2f}; {found[p.COPY]['rounds']} rounds"


def table(rows):
    """Rows above SLOWER end in ◀."""
    text = []
    for (workload, dtype), part in by_part(rows):
        part = list(part)
        body = [HEADER, *lines(part)]
        widths = [max(map(len, column)) for column in zip(*body, strict=True)]
        marks = ["", *(" ◀" if row["ratio"] > SLOWER else "" for row in ours(part))]
        text.append(f"{workload} [{part[0]['shape']}], {dtype}: {yardsticks(part)}")
        for line, mark in zip(body, marks, strict=True):
            text.append("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() + mark)
        text.append("")
    return "\n".join([*text, summary(rows), compiling(rows)])
