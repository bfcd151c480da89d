"""On what accuracy is measured: logits with labels and a cotangent, drawn in float64 and rounded to the dtype."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.operators import OPERATORS
from tests import inputs

ROWS, CLASSES = 32, 32


class Input(NamedTuple):
    name: str
    draw: Callable  # generator → float64 logits [rows, classes]


def _distribution(name):
    """Draws of an input of the tests, enough for [ROWS, CLASSES]: its elements are drawn independently."""
    draws = [inputs.BY_NAME[name].x(np.float64, seed).ravel() for seed in range(ROWS * CLASSES // 24 + 1)]
    return lambda rng: np.concatenate(draws)[: ROWS * CLASSES].reshape(ROWS, CLASSES)


def _confident(rng):
    return np.concatenate([inputs.BY_NAME["confident"].x(np.float64, seed) for seed in range(8)])


def _one_peak(shape, low, high):
    """One logit 0, the others between −high and −low, on a grid of 1/16."""

    def draw(rng):
        x = -np.round(16 * rng.uniform(low, high, shape)) / 16
        x[:, shape[1] // 3] = 0.0
        return x

    return draw


def _grid(*shape):
    return lambda rng: np.round(16 * rng.standard_normal(shape)) / 16


INPUTS = (
    *(Input(f"{tag} {name}", _distribution(name)) for tag, name in inputs.DISTRIBUTIONS.items() if tag != "D6"),
    Input("D6 confident", _confident),
    Input("offset 2^17", _distribution("offset 2^17")),
    *(Input(f"[0, −{c}]", lambda rng, c=c: np.array([[0.0, -c]])) for c in (5, 20, 40, 80)),
    Input("confident, n = 32", _one_peak((ROWS, CLASSES), 5, 80)),
    Input("zeros, n = 70000", lambda rng: np.zeros((1, 70000))),  # in float16 their count overflows
    Input("normal, n = 2^17", _grid(1, 2**17)),
    Input("confident, n = 2^17", _one_peak((1, 2**17), 20, 60)),
    Input("normal, n = 2^20", _grid(1, 2**20)),
)


class Problem(NamedTuple):
    """An input in one dtype, with labels: the likeliest class in every other row, any in the others."""

    x: np.ndarray
    index: np.ndarray
    distribution: np.ndarray  # at the label alone; in the other rows ½ there and ½ on the classes that follow
    cotangent: np.ndarray  # of a result a logit

    def labels(self, name):
        kind = OPERATORS[name].labels
        return () if kind == "none" else (getattr(self, kind),)

    def few_classes(self):
        return self.x.shape[1] <= CLASSES


def problem(source, dtype):
    rng = np.random.default_rng(list(source.name.encode()))
    x = source.draw(rng).astype(dtype)
    rows, n = x.shape
    odd = np.arange(rows) % 2 == 1
    index = np.where(odd, rng.integers(0, n, rows), np.argmax(x, -1)).astype(np.int32)
    mass = np.zeros((rows, n))
    others = min(n - 1, 4)
    for i in range(1, others + 1):
        mass[np.arange(rows), (index + i) % n] = np.where(odd, 0.5 / others, 0.0)
    mass[np.arange(rows), index] = np.where(odd, 0.5, 1.0)
    g = np.round(2 * rng.standard_normal(x.shape)) / 2
    return Problem(x, index, mass.astype(dtype), g.astype(dtype))


def suits(source, dtype):
    """Half precision is summed in float32: among the long rows it takes the one whose count overflows float16."""
    half = dtype in ("bfloat16", "float16")
    if source.name == "zeros, n = 70000":
        return half
    return not (half and "n = 2^" in source.name) and not (dtype == "float16" and source.name == "offset 2^17")


def scaled_logits(shape, beta, size, tie):
    """(logits, labels at their peak, β) in float32; with `tie` two classes share the peak."""
    x = (size * np.random.default_rng(len(shape) + shape[-1]).standard_normal(shape)).astype(np.float32)
    if tie:
        x[..., 0] = x[..., 1] = x.max(-1)
    return x, np.argmax(x, -1).astype(np.int32), np.float32(beta)
