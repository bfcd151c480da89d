"""Embeddings of real digits under softmax and under the margin softmaxes: angles, strangers, and what parallel does.

python -m experiments.margins              trains, judges, results/margins.json, figures
python -m experiments.margins --smoke      the same in a few seconds: fewer losses and steps, a narrower network
python -m experiments.margins --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _margin_angles as angles
from experiments import _margin_limit as limit
from experiments import _margin_losses as margin_losses
from experiments._margin_figures import draw
from experiments._margin_table import table
from experiments._margin_training import embedded, train
from experiments._mnist import chosen, load_mnist
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the margin experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for margins.json and the figures."""
    seed: int = 0
    """Initial weights; order of the digits."""
    smoke: bool = False
    """A few seconds: fewer losses and steps, a narrower network."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    losses: tuple[str, ...] = margin_losses.LOSSES
    on_the_sphere: tuple[str, ...] = (margin_losses.SOFTMAX, margin_losses.ARCFACE)
    """Losses of the embeddings in three dimensions."""
    width: int = 16
    """Maps of the first convolution."""
    batch: int = 128
    shift: int = 2
    """Pixels by which training digits are moved, at most."""
    learning_rate: float = 3e-3
    softmax_steps: int = 400
    """Of softmax, from which every loss goes on in two and three dimensions."""
    steps: int = 700
    """In two and three dimensions."""
    dimension: int = 16
    """Of the embeddings that are to tell strangers apart."""
    known: int = 7
    """Classes that are learned for it; pairs of the others are compared."""
    known_steps: int = 400
    seeds: int = 3
    limit_formulas: tuple[str, ...] = tuple(limit.LOSSES)
    limit_digits: int = 40
    limit_steps: int = 400


SMOKE = {
    "losses": (margin_losses.SOFTMAX, margin_losses.COSFACE),
    "on_the_sphere": (),
    "width": 4,
    "batch": 32,
    "softmax_steps": 60,
    "steps": 60,
    "known_steps": 60,
    "seeds": 1,
    "limit_formulas": tuple(limit.LOSSES)[:2],
    "limit_digits": 10,
    "limit_steps": 200,
}


def low_dimensional(config, training, test, dimension, names):
    """Yields what is in the JSON of each loss: the test digits, judged by the angles to the prototypes."""
    every = margin_losses.losses_of((margin_losses.SOFTMAX, *names), margin_losses.PLANE)
    of = {"config": config, "seed": config.seed}
    start = train(every[margin_losses.SOFTMAX], training, dimension, steps=config.softmax_steps, name="start", **of)
    for name in tqdm(names, desc=f"{dimension} dimensions", unit="loss"):
        trained = train(every[name], training, dimension, steps=config.steps, name=name, start=start, **of)
        x, w = embedded(trained, test.images), np.asarray(trained.prototypes, np.float64)
        yield {
            "name": name,
            "options": margin_losses.PLANE[name],
            "loss": np.float32(trained.history),
            "seconds_a_step": trained.seconds,
            **angles.judged(x, w, test.labels),
            "embeddings": np.round(x / np.median(np.linalg.norm(x, axis=1)), 3),
            "prototypes": np.round(angles.unit(w), 6),
            "labels": test.labels,
        }


def of_strangers(config, training, test):
    """Yields what is in the JSON of each loss: pairs of digits of classes that were not learned."""
    every = margin_losses.losses_of(config.losses, margin_losses.SPACE)
    learned, seen = (chosen(part, part.labels < config.known) for part in (training, test))
    strange = [chosen(part, part.labels >= config.known) for part in (training, test)]
    images, labels = (np.concatenate(parts) for parts in zip(*strange, strict=True))
    for name in tqdm(config.losses, desc="strangers", unit="loss"):
        found = []
        for seed in range(config.seed, config.seed + config.seeds):
            of = {"config": config, "seed": seed, "steps": config.known_steps, "name": name}
            trained = train(every[name], learned, config.dimension, **of)
            known = angles.judged(embedded(trained, seen.images), np.float64(trained.prototypes), seen.labels)
            verified = angles.verified(embedded(trained, images), labels)
            found.append({"seconds_a_step": trained.seconds, **known, **verified})
        yield {"name": name, "options": margin_losses.SPACE[name], "seeds": found}


def to_the_limit(config, training):
    """Yields what is in the JSON of each formula of ArcFace, trained on few digits until nothing is left to learn."""
    few = chosen(training, np.linspace(0, len(training.labels) - 1, config.limit_digits).astype(int))
    still = dataclasses.replace(config, shift=0)
    for name in tqdm(config.limit_formulas, desc="to the limit", unit="formula"):
        loss = limit.mean_loss(name)
        of = {"seed": config.seed, "steps": config.limit_steps, "name": name}
        trained = train(loss, few, config.dimension, still, **of)
        history = np.float32(trained.history)
        gone = np.flatnonzero(np.isnan(history))
        finite = history[: gone[0]] if gone.size else history
        own = None
        if not gone.size:
            own = angles.to_prototypes(embedded(trained, few.images), np.float64(trained.prototypes), few.labels)[0]
        yield {
            "name": name,
            "first_nan": int(gone[0]) if gone.size else None,
            "loss": finite,
            "largest_own_angle": None if own is None else own.max(),
        }


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    training, test = load_mnist()
    parts = {
        "plane": lambda: low_dimensional(used, training, test, 2, used.losses),
        "sphere": lambda: low_dimensional(used, training, test, 3, used.on_the_sphere),
        "strangers": lambda: of_strangers(used, training, test),
        "parallel": lambda: limit.at_prototypes(used.limit_formulas, used.seed),
        "limit": lambda: to_the_limit(used, training),
    }
    results = {
        "run": provenance("experiments.margins", config, used),
        "digits": {"training": len(training.labels), "test": len(test.labels)},
        "annealing": margin_losses.ANNEALING,
        "arcface_at_the_limit": limit.OPTIONS,
        "pair_bins": angles.PAIR_BINS,
        "false_accepts": angles.FALSE_ACCEPTS,
        **{name: [] for name in parts},
    }
    for name, rows in parts.items():
        for row in rows():
            results[name].append(plain(row))
            write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "margins.json"
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
