"""Time and memory of each operator beside jax.nn, optax, its formula under autodiff and, where installed, PyTorch.

python -m experiments.benchmarks              three to four minutes: a table, results/*.csv, docs/performance.md; on a
                                              GPU its own workloads
python -m experiments.benchmarks --full       every case on every workload in both dtypes, about an hour
python -m experiments.benchmarks --smoke      a few seconds on small arrays, nothing for the page
python -m experiments.benchmarks --page-only  draws the figures and writes the page again from the CSV

The rows of a workload are written when it is finished, so that an interrupted run keeps those before.
"""

import dataclasses
import math
import sys
from pathlib import Path

import jax
import tyro
from tqdm import tqdm

from experiments.benchmarks import cases, machine, measure, plan, ratios, results
from experiments.benchmarks.page import draw_and_write
from experiments.benchmarks.report import table

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    out: Path = HERE / "results"
    """Folder of the CSV file and the figure of each device."""
    page: Path = HERE.parents[1] / "docs" / "performance.md"
    """The page whose tables are made from them."""
    full: bool = False
    """Every case on every workload in both dtypes."""
    smoke: bool = False
    """A few seconds: small arrays, few rounds, whether the machine is steady or not."""
    page_only: bool = False
    """Make figures and page from the CSV files in `out`; measure nothing."""
    workloads: tuple[str, ...] = ()
    """Those to measure, by name; all when none is given."""
    rounds: int = 20
    steady: float = 1.5
    """p80 / p20 of the copy above which a workload is rejected."""
    commit: str = ""
    """What is measured, for a copy of the sources that git knows nothing of."""


TRIED = ("tiny", "4096 rows", "linear 16k", "keys and values", "vocabulary", "attention, GPU")
SMOKE = {"workloads": TRIED, "rounds": 3, "steady": math.inf}


def smaller(workload):
    return workload._replace(shape=tuple(min(n, 13) for n in workload.shape), calls=min(2, workload.calls))


def measured(part, config):
    """The rows of a part, or None where the machine was not steady; then it is measured once more."""
    workload, dtype = part.workload, part.dtype
    if workload.kind in plan.OF_KIND:
        found = plan.OF_KIND[workload.kind].programs(workload, dtype, part.cases)
    else:
        found = cases.programs(workload, dtype, part.cases, part.in_place)
    found, rounds = measure.working(found), min(config.rounds, workload.rounds)
    for attempt in ("", ", again"):
        title, together = f"{workload.name}, {dtype}{attempt}", workload.on == "gpu"
        times = measure.timed(found, rounds, workload.calls, title, together)
        copy = measure.copy(times)
        if copy["copy_p80_p20"] <= config.steady:
            about = {"workload": workload.name, "shape": " × ".join(map(str, workload.shape)), "dtype": dtype}
            about |= {"rounds": rounds, "calls": workload.calls, "load": machine.load()} | copy
            return [row | about for row in ratios.statistics(found, times)]
        tqdm.write(f"{workload.name}, {dtype}: p80/p20 of the copy {copy['copy_p80_p20']:.2f}, above {config.steady}.")
    return None


def main(config):
    """Runs `config`; returns the names of what was not written because the machine was not steady."""
    unsteady = [] if config.page_only else run(config)
    if not config.smoke:
        draw_and_write(config.out, config.page)
    return unsteady


def run(config):
    smoke = SMOKE | ({"workloads": config.workloads} if config.workloads else {})
    used = dataclasses.replace(config, **smoke) if config.smoke else config
    parts = plan.plan(used.full, used.workloads, jax.default_backend())
    shared = machine.run(used.commit)
    path = results.path(used.out, shared["device"])
    new, unsteady = [], []
    for part in tqdm(parts, desc="workloads", unit="workload"):
        part = part._replace(workload=smaller(part.workload)) if used.smoke else part
        rows = measured(part, used)
        if rows is None:
            unsteady.append(f"{part.workload.name}, {part.dtype}")
            continue
        new += [row | shared | {"version": machine.version(row["function"])} for row in rows]
        old = results.read(path)
        results.write(path, plan.ordered(results.merged(old, new, plan.exists)))
    if new:
        done = {results.case(row) for row in new}
        print(table([row for row in results.read(path) if results.case(row) in done]))
    if unsteady:
        print(f"NOT WRITTEN, the machine was not steady: {'; '.join(unsteady)}. Measure again.", file=sys.stderr)
    return unsteady


def status(unsteady):
    return 1 if unsteady else 0


if __name__ == "__main__":
    sys.exit(status(main(tyro.cli(Config, description=__doc__))))
