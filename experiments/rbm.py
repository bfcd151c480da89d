"""Restricted Boltzmann machines of real digits: contrastive divergence, the likelihood it reaches, temperatures.

python -m experiments.rbm              trains each method, results/rbm.json, figures
python -m experiments.rbm --smoke      the same in a few seconds: few units, few epochs
python -m experiments.rbm --figures-only      draws the figures again from the JSON
"""

import dataclasses
import math
import time
from pathlib import Path

import jax
import numpy as np
import tyro
from tqdm import tqdm

from experiments import _rbm_training as training
from experiments._rbm_figures import draw
from experiments._rbm_table import table
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the experiment with restricted Boltzmann machines."""

    out: Path = Path(__file__).parent / "results"
    """Folder for rbm.json and the figures."""
    seed: int = 0
    """Which digits are held out; the first of the seeds of a training."""
    smoke: bool = False
    """A few seconds: few units, few epochs."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    hidden: tuple[int, ...] = (16, 64)
    """Hidden units; up to 16 the likelihood is exact."""
    methods: tuple[str, ...] = tuple(training.METHODS)
    """Beside scikit-learn's."""
    epochs: int = 200
    batch: int = 20
    chains: int = 100
    """Persistent ones."""
    learning_rate: float = 0.2
    """At first; falls to 0 in a line."""
    constant_rates: tuple[float, ...] = (0.2, 0.05)
    """Of scikit-learn, and of the method that does what it does."""
    seeds: int = 3
    every: int = 5
    """Epochs between two measurements."""
    temperatures: tuple[float, ...] = (0.5, 1.0, 2.0, math.inf)
    """Of the samples."""
    samples: int = 12
    """Images of each temperature; reconstructed ones."""
    steps: int = 2000
    """Of Gibbs sampling before an image is shown."""
    points: int = 33
    """Temperatures of the thermodynamics, from 1/8 to 8."""


SMOKE = {"hidden": (6,), "methods": ("CD-1", "PCD"), "epochs": 4, "every": 2, "seeds": 1, "constant_rates": (0.05,)}
SMOKE |= {"steps": 20, "points": 9}
SCIKIT_LEARN = "scikit-learn"


def runs(config):
    """(hidden units, method, rate) of each row of the table."""
    for hidden in config.hidden:
        for name in config.methods:
            constant = training.METHODS[name].constant
            yield from (
                (hidden, name, rate) for rate in (config.constant_rates if constant else [config.learning_rate])
            )
        yield from ((hidden, SCIKIT_LEARN, rate) for rate in config.constant_rates)


def trained(config, images, hidden, name, rate):
    """(row of the JSON, machine of the first seed)."""
    found, course, first, seconds = [], [], None, []
    for seed in range(config.seed, config.seed + config.seeds):
        started, measuring = time.perf_counter(), 0.0
        if name == SCIKIT_LEARN:
            machine = training.by_scikit_learn(config, images[0], hidden, rate, seed)
        else:
            for epoch, made in training.train(config, images[0], hidden, name, rate, seed):
                machine = made
                if seed == config.seed and epoch % config.every == 0:
                    jax.block_until_ready(machine)
                    before = time.perf_counter()
                    course.append({"epoch": epoch, **training.measured(machine, *images)})
                    measuring += time.perf_counter() - before
        jax.block_until_ready(machine)
        seconds.append(time.perf_counter() - started - measuring)
        first = machine if first is None else first
        found.append(training.measured(machine, *images))
    row = {"hidden": hidden, "name": name, "rate": rate, "seeds": found, "seconds": np.median(seconds)}
    return row | {"course": columns(course)}, first


def columns(rows):
    """{name: values} of rows that have the same names."""
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def pictures(config, machines, held_out):
    """Reconstructions of held-out images, and samples at each temperature, rounded to what a picture shows."""
    some = held_out[np.linspace(0, len(held_out) - 1, config.samples).astype(int)]
    noise = np.float32(np.random.default_rng(config.seed).integers(0, 2, some.shape))
    drawn = training.sampled(machines["PCD"], noise, config.temperatures, config.steps, config.seed)
    return {
        "held_out": some,
        "reconstructed": {k: rounded(training.reconstructed(machine, some)) for k, machine in machines.items()},
        "temperature": config.temperatures,
        "samples": rounded(drawn),
    }


def rounded(images):
    return np.round(np.float64(images), 3)


def heated(config, machine):
    """Of the whole machine, exactly, at temperatures evenly spaced in their logarithm."""
    temperature = np.float32(2 ** np.linspace(-3, 3, config.points))
    found = training.thermodynamics(machine, 1 / temperature)
    names = ("log_z", "energy", "entropy", "heat_capacity")
    return {"temperature": temperature, **dict(zip(names, map(np.asarray, found), strict=True))}


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    images = training.binary_digits(used.seed)
    results = {
        "run": provenance("experiments.rbm", config, used),
        "data": {
            "training": len(images[0]),
            "held_out": len(images[1]),
            "pixels": images[0].shape[1],
            "on": images[0].mean(),
        },
        "independent": training.measured(training.alone(images[0]), *images),
        "training": [],
    }
    shown = {}
    for hidden, name, rate in tqdm(list(runs(used)), desc="machines", unit="run"):
        row, machine = trained(used, images, hidden, name, rate)
        results["training"].append(plain(row))
        write_json(path, results)
        if hidden == used.hidden[-1] and name in ("CD-1", "PCD"):
            shown[name] = machine
        if hidden == used.hidden[0] and name == "PCD":
            results["thermodynamics"] = {"hidden": hidden, **heated(used, machine)}
    results["images"] = {"hidden": used.hidden[-1], **pictures(used, shown, images[1])}
    write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "rbm.json"
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
