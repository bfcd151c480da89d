"""Why attention divides its scores by √d: the gradient of its softmax with and without, for random and learned scores.

python -m experiments.attention_scaling              random keys, the digits, results/attention_scaling.json, figures
python -m experiments.attention_scaling --smoke      the same in a few seconds: fewer dimensions, draws and steps
python -m experiments.attention_scaling --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _scaling_training as training
from experiments._attention import attention_gradients
from experiments._results import plain, provenance, read_json, write_json
from experiments._scaling_figures import draw
from experiments._scaling_table import table


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the attention-scaling experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for attention_scaling.json and the figures."""
    seed: int = 0
    """Random queries and keys; split of the digits; initial weights and batches."""
    smoke: bool = False
    """A few seconds: fewer dimensions, draws and steps."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    dimensions: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    """Of random queries and keys."""
    keys: int = 64
    draws: int = 32
    """Sets of random keys for each dimension."""
    queries: int = 64
    """Random ones for each set of keys."""
    trained: tuple[int, ...] = (16, 64, 256)
    """Dimensions of the attention that is trained."""
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Learning rates of Adam, each for both scalings."""
    seeds: int = 3
    """Trainings of each, with other weights and batches."""
    width: int = 32
    """Of a token."""
    batch: int = 32
    steps: int = 400
    every: int = 20
    """Steps between two looks at the attention."""


SMOKE = {"dimensions": (16, 256), "draws": 4, "trained": (64,), "rates": (3e-3,), "seeds": 2, "steps": 60}
SCALINGS = ("raw", "scaled")


def random_scores(config):
    """Yields a row of the JSON for each dimension."""
    generator = np.random.default_rng(config.seed)
    for dimension in tqdm(config.dimensions, desc="random keys", unit="d"):
        found = [
            attention_gradients(generator, dimension, keys=config.keys, queries=config.queries)
            for _ in range(config.draws)
        ]
        norm, largest = (np.concatenate([np.asarray(pair[i]) for pair in found], 1) for i in range(2))
        row = {"dimension": dimension}
        for i, name in enumerate(SCALINGS):
            row[name] = {
                "gradient_mean": norm[i].mean(),
                "gradient_median": np.median(norm[i]),
                "gradient_tenth": np.quantile(norm[i], 0.1),
                "gradient_nine_tenths": np.quantile(norm[i], 0.9),
                "largest_weight_mean": largest[i].mean(),
                "largest_weight_median": np.median(largest[i]),
            }
        yield row


def trained(config, patches):
    """Yields a row of the JSON for each training."""
    runs = [(d, rate, name) for d in config.trained for rate in config.rates for name in SCALINGS]
    for dimension, rate, name in tqdm(runs, desc="attention to digits", unit="training"):
        beta = 1.0 if name == "raw" else dimension**-0.5
        started = time.perf_counter()
        course = training.train(patches, config, dimension, beta, rate)
        yield {
            "dimension": dimension,
            "rate": rate,
            "scores": name,
            "beta": beta,
            "loss": course.loss,
            "pull": course.pull,
            **course.watched,
            "seconds": time.perf_counter() - started,
        }


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    results = {"run": provenance("experiments.attention_scaling", config, used), "random": [], "training": []}
    for row in random_scores(used):
        results["random"].append(plain(row))
    write_json(path, results)
    for row in trained(used, training.load(used.seed)):
        results["training"].append(plain(row))
        write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "attention_scaling.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        results = run(config, dataclasses.replace(config, **SMOKE) if config.smoke else config, path)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
