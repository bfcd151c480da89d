"""Errors in units in the last place: value and gradient of each operator beside jax.nn, optax and SciPy.

python -m experiments.accuracy              the whole of it: results/accuracy.json and docs/accuracy.md
python -m experiments.accuracy --smoke      a few seconds: two inputs, float32, a part of the β grid
python -m experiments.accuracy --page-only  writes the page again from the JSON
"""

import dataclasses
import importlib.metadata
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import tyro
from tqdm import tqdm

import jsoftmax
from experiments import _accuracy_bounds as bounds
from experiments import _accuracy_exact as exact
from experiments import _accuracy_inputs as inputs
from experiments._accuracy_page import page, summary
from experiments._results import plain, provenance, read_json, write_json
from experiments.benchmarks.operators import OPERATORS, WITH_BETA, with_gradient


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the accuracy measurement."""

    out: Path = Path(__file__).parent / "results"
    """Folder for accuracy.json."""
    page: Path = Path(__file__).parents[1] / "docs" / "accuracy.md"
    """The page that is generated from it."""
    smoke: bool = False
    """A few seconds: two inputs, float32, jit, a part of the β grid."""
    page_only: bool = False
    """Write the page from the JSON in `out`; compute nothing."""
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16", "float16")
    inputs: tuple[str, ...] = tuple(source.name for source in inputs.INPUTS)
    eager: bool = True
    """Measure outside jit too, where there are few classes."""
    shapes: int = 4
    """How many of the shapes of the β grid."""
    betas: tuple[float, ...] = (1 / 3, 0.1, 1.1)
    scales: tuple[float, ...] = (1e0, 1e3, 1e6, 1e9, 1e12, 1e15, 1e20, 1e25, 1e30)
    """Sizes of the logits in the β grid."""


SMOKE = {
    "dtypes": ("float32",),
    "inputs": ("D1 normal", "[0, −20]"),
    "eager": False,
    "shapes": 1,
    "betas": (1 / 3,),
    "scales": (1e3, 1e20),
}
SCIPY = {name: getattr(scipy.special, name) for name in ("softmax", "log_softmax", "logsumexp")}
SHAPES = ((1, 3), (3,), (8, 5), (1, 1000))

COMPILED = {f: jax.jit(with_gradient(f)) for operator in OPERATORS.values() for f in (operator.ours, operator.peer)}
COMPILED_BETA = {f: jax.jit(f) for operator in WITH_BETA.values() for f in (operator.ours, operator.peer)}


def modes(compiled, eager, *arguments):
    """Mode → results as float64 arrays: under jit and, if `eager` is a function and gives other bits, eager."""
    arguments = [jnp.asarray(a) for a in arguments]
    found = {}
    with np.errstate(over="ignore"):  # jax.nn.logmeanexp casts its count to the dtype of the logits
        for mode, f in (("jit", compiled), ("eager", eager)):
            if f is not None:
                found[mode] = [np.asarray(a).astype(np.float64) for a in jax.tree.leaves(f(*arguments))]
    if all(
        np.array_equal(*pair, equal_nan=True)
        for pair in zip(found["jit"], found.get("eager", found["jit"]), strict=True)
    ):
        found.pop("eager", None)
    return found


def observations(name, given, dtype, eager):
    """Yields (function, mode, quantity, array)."""
    operator = OPERATORS[name]
    g = np.ones(len(given.x), dtype) if operator.per_row else given.cotangent
    arguments = (g, given.x, *given.labels(name))
    for label, f in (("jsoftmax", operator.ours), (operator.peer_name, operator.peer)):
        found = modes(COMPILED[f], with_gradient(f) if eager and given.few_classes() else None, *arguments)
        for mode, (value, gradient) in found.items():
            yield label, mode, "value", value
            yield label, mode, "gradient", gradient
            if operator.labels == "index":
                yield label, mode, "label gradient", exact.at_label(gradient, given)
    if name in SCIPY and dtype in ("float32", "float64"):
        yield "SciPy", "eager", "value", SCIPY[name](given.x, axis=-1)


def errors(config):
    """The rows of the table of errors, in the order of COLUMNS."""
    rows = []
    sources = [source for source in inputs.INPUTS if source.name in config.inputs]
    runs = [(s, d) for s in sources for d in config.dtypes if inputs.suits(s, d)]
    for source, dtype in tqdm(runs, desc="errors", unit="input"):
        given = inputs.problem(source, np.dtype(dtype))
        with jax.enable_x64(dtype == "float64"):
            for name in OPERATORS:
                expected = exact.exact(name, given)
                for function, mode, quantity, actual in observations(name, given, dtype, config.eager):
                    error = bounds.compare(name, quantity, actual, expected[quantity], given.x, dtype)
                    if error is not None:
                        rows.append([name, quantity, source.name, dtype, function, mode, *error])
    return rows


def beta_outcomes(configuration, eager):
    """Yields ((operator, function, mode), outcome, result) of one (shape, β, size of the logits, tie at the top)."""
    x, labels, beta = inputs.scaled_logits(*configuration)
    for name, operator in WITH_BETA.items():
        expected = exact.with_beta(name, x, labels, beta)
        arguments = (x, labels, beta) if operator.labels == "index" else (x, beta)
        for label, f in (("jsoftmax", operator.ours), (operator.peer_name, operator.peer)):
            found = modes(COMPILED_BETA[f], f if eager else None, *arguments)
            for mode in ("jit", "eager") if eager else ("jit",):
                (actual,) = found.get(mode, found["jit"])
                yield (name, label, mode), bounds.outcome(name, actual, expected, x, beta), actual


def beta_grid(config):
    """How many configurations have which outcome, and the first for which jax.nn.softmax is not finite."""
    grid = list(itertools.product(SHAPES[: config.shapes], config.betas, config.scales, (False, True)))
    outcomes, example = {}, None
    for configuration in tqdm(grid, desc="β under jit", unit="configuration"):
        for key, outcome, actual in beta_outcomes(configuration, config.eager):
            outcomes.setdefault(key, []).append(outcome)
            if example is None and outcome[0] and key == ("softmax", "jax.nn", "jit"):
                x, _, beta = inputs.scaled_logits(*configuration)
                example = {"beta": beta, "x": x.ravel(), "jax.nn.softmax(beta * x)": [str(v) for v in actual.ravel()]}
                example["jsoftmax.softmax(x, beta=beta)"] = jsoftmax.softmax(x, beta=beta).ravel()
    table = [[*key, len(found), *np.sum(found, axis=0)] for key, found in outcomes.items()]
    return {"shapes": SHAPES[: config.shapes], "columns": bounds.OUTCOMES, "rows": table, "example": example}


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "accuracy.json"
    if config.page_only:
        results = read_json(path)
    else:
        used = dataclasses.replace(config, **SMOKE) if config.smoke else config
        started = time.perf_counter()
        run = provenance("experiments.accuracy", config, used)
        run["versions"] |= {name: importlib.metadata.version(name) for name in ("scipy", "mpmath")}
        table = {"columns": bounds.COLUMNS, "rows": errors(used)}
        results = plain({"run": run, "errors": table, "beta": beta_grid(used)})
        write_json(path, results)
        print(f"{time.perf_counter() - started:.0f} s of computing, results in {path}")
    if not config.smoke:
        config.page.write_text(page(results), encoding="utf-8")
    print(summary(results))
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
