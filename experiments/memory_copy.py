"""Recall from a memory by content: how sharp the address is, where a learned β goes, and what a longer memory does.

python -m experiments.memory_copy              trains every method, results/memory_copy.json, figures
python -m experiments.memory_copy --smoke      the same in a few seconds: fewer seeds, steps and features
python -m experiments.memory_copy --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _memory_episodes as episodes
from experiments import _memory_training as training
from experiments._memory_figures import draw
from experiments._memory_table import table
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the memory experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for memory_copy.json and the figures; memory_copy_bible.json for that corpus."""
    seed: int = 0
    """Initial towers; memories and what is asked of them."""
    smoke: bool = False
    """A few seconds: fewer seeds, steps and features."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    corpus: Literal["pydoc", "bible", "lee"] = "pydoc"
    """Topics of Python's manual; the King James Bible (apt install bible-kjv); Australian news (pip install gensim)."""
    features: int = 1024
    """Letter trigrams, at most."""
    dimension: int = 64
    """Of the vectors that are compared."""
    starts: tuple[float, ...] = (1.0, 64.0)
    """Where a learned β starts."""
    slots: int = 16
    """Of the memories of the training."""
    sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    """Slots of the memories of the test."""
    memories: int = 16
    """Of a batch; the test has four times as many of each size."""
    queries: int = 8
    """Asked of each memory."""
    share: float = 0.6
    """Of the trigrams of a key that are left in the query."""
    steps: int = 600
    every: int = 25
    """Steps between two looks at the test."""
    learning_rate: float = 1e-2
    seeds: int = 2
    """Trainings of each method."""


SMOKE = {"features": 256, "dimension": 32, "steps": 60, "every": 20, "seeds": 1, "sizes": (4, 16), "starts": (1.0,)}


def tests_of(config, text):
    rng = np.random.default_rng([config.seed, 1])
    counts = {"memories": 4 * config.memories, "queries": config.queries, "share": config.share}
    return {size: episodes.drawn(rng, text, text.held_out, size, **counts) for size in config.sizes}


def trained(config, text):
    """Yields a row of the JSON for each training."""
    tests = tests_of(config, text)
    runs = [(method, seed) for method in training.methods(config) for seed in range(config.seeds)]
    for method, seed in tqdm(runs, desc="memory", unit="training"):
        found = training.train(config, text, method, tests[config.slots], [config.seed, 2, seed])
        by_size = [training.judge(found.parameters, text, method, tests[size]) for size in config.sizes]
        hard = [training.judge(found.parameters, text, method, tests[size], hard=True) for size in config.sizes]
        yield {
            "name": method.name,
            "seed": seed,
            "beta": np.float32(found.beta),
            "loss": np.float32(found.loss),
            "pull": np.float32(found.pull),
            "watched": _columns(found.watched),
            "by_size": _columns(by_size) | {"read_hard": np.float32([row["read"] for row in hard])},
            "seconds_a_step": found.seconds,
        }


def _columns(rows):
    return {name: np.float32([row[name] for row in rows]) for name in rows[0]}


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    text = episodes.load(used.corpus, used.features)
    results = {
        "run": provenance("experiments.memory_copy", config, used),
        "corpus": {
            "name": used.corpus,
            "words": len(text.words),
            "pairs": {"training": len(text.training), "held_out": len(text.held_out)},
            "keys": {name: len(np.unique(getattr(text, name)[:, 0])) for name in ("training", "held_out")},
            "features": text.features.shape[1],
        },
        "training": [],
    }
    for row in trained(used, text):
        results["training"].append(plain(row))
        write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    stem = "memory_copy" if config.corpus == "pydoc" else f"memory_copy_{config.corpus}"
    path = config.out / f"{stem}.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        results = run(config, dataclasses.replace(config, **SMOKE) if config.smoke else config, path)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out, stem):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
