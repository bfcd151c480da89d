"""The libraries that are held to the cases, each by its adapter, in processes of their own."""

import concurrent.futures
import functools
import importlib.metadata
import importlib.util
import multiprocessing
import os

from tqdm import tqdm

import jsoftmax
from experiments.conformance import run

LIBRARIES = ("jsoftmax", "jax", "optax", "torch")


def is_here(library):
    return importlib.util.find_spec(library) is not None


def version(library):
    return jsoftmax.__version__ if library == "jsoftmax" else importlib.metadata.version(library)


@functools.cache
def adapter(library, compiled):
    module = importlib.import_module(f"experiments.conformance._{library}")
    return module.adapter() if library == "torch" else module.adapter(compiled)


def outcomes(library, operator, compiled):
    """[id, outcome and reason of the value, of the gradient] of each case."""
    of = adapter(library, compiled)
    found = [(case.id, run.verdicts(case, of)) for case in run.load(operator)]
    return [[name, *verdict["value"], *verdict["gradient"]] for name, verdict in found]


def measured(libraries, operators, compiled):
    """(library, operator, rows) as they are done, shared between as many processes as there are cores."""
    tasks = [(library, operator) for library in libraries for operator in operators]
    processes = max(1, min(os.cpu_count() or 1, len(tasks)))
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(outcomes, *task, compiled): task for task in tasks}
        done = concurrent.futures.as_completed(futures)
        for f in tqdm(done, total=len(tasks), desc="conformance", unit="operator"):
            yield *futures[f], f.result()
