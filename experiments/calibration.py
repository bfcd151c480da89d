"""Temperature scaling: the one number that makes a classifier's probabilities honest, found through β's own derivative.

python -m experiments.calibration              trains on the digits, results/calibration.json, figures
python -m experiments.calibration --smoke      the same in a few seconds: a smaller network
python -m experiments.calibration --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

from experiments import _classifier as classifier
from experiments._calibration_figures import draw
from experiments._digits import load_digits
from experiments._regression import mean_loss
from experiments._results import plain, provenance, read_json, write_json
from experiments._temperature import best_temperature
from jsoftmax import softmax


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the calibration experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for calibration.json and the figures."""
    seed: int = 0
    """Split of the digits; initial weights."""
    smoke: bool = False
    """A few seconds: a smaller network, fewer steps."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    smoothings: tuple[float, ...] = (0.0, 0.05, 0.2)
    """label_smoothing of each training."""
    train_images: int = 300
    """Few enough to be learned by heart; of the other images one half fits β and the other half is the test."""
    hidden: tuple[int, ...] = (256, 256)
    steps: int = 1000
    descent_steps: int = 300
    """Of gradient descent in log β."""
    bins: int = 10
    """Of confidence, equally wide."""


SMOKE = {"smoothings": (0.0, 0.2), "hidden": (64,), "steps": 300, "descent_steps": 200}


@jax.jit
def _descend(log_beta, state, logits, labels):
    value, slope = jax.value_and_grad(lambda log_beta: mean_loss(logits, labels, jnp.exp(log_beta)))(log_beta)
    updates, state = _DESCENT.update(slope, state)
    return optax.apply_updates(log_beta, updates), state, value, slope


_DESCENT = optax.adam(0.05)


def fit_beta(logits, labels, steps):
    """(β, loss at each step, last slope): gradient descent in log β from β = 1, which keeps β positive."""
    log_beta = jnp.zeros(())
    state, history, path = _DESCENT.init(log_beta), [], []
    for _ in tqdm(range(steps), desc="descending in β", unit="step", leave=False):
        path.append(float(jnp.exp(log_beta)))
        log_beta, state, value, slope = _descend(log_beta, state, logits, labels)
        history.append(float(value))
    return path, history, float(slope)


def reliability(logits, labels, beta, bins):
    """Of the probability of the likeliest class: its mean, how often it is right, and how many images, a bin each."""
    p = np.asarray(softmax(jnp.asarray(logits), beta=jnp.float32(beta)), np.float64)
    confidence, right = p.max(-1), p.argmax(-1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = (np.bincount(index, weights=values, minlength=bins) for values in (confidence, right))
    mean_confidence, accuracy = (np.where(count > 0, s / np.maximum(count, 1), 0) for s in sums)
    return {
        "confidence": mean_confidence,
        "accuracy": accuracy,
        "count": count,
        "ece": np.sum(count * np.abs(mean_confidence - accuracy)) / len(labels),
    }


def judge(logits, labels, beta, bins):
    return {
        "nll": mean_loss(jnp.asarray(logits), jnp.asarray(labels), jnp.float32(beta)),
        **reliability(logits, labels, beta, bins),
    }


def calibrate(config, smoothing):
    """Trains with label smoothing `smoothing`, fits β on one half of the held-out images, judges on the other."""
    digits = load_digits(config.seed)
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    learned, held_out = np.split(np.arange(len(labels)), [config.train_images])
    fitting, testing = np.array_split(held_out, 2)
    parameters, history = classifier.fit(
        images[learned],
        labels[learned],
        smoothing=smoothing,
        hidden=config.hidden,
        steps=config.steps,
        seed=config.seed,
    )
    scores = classifier.logits(parameters, images)
    path, descent, slope = fit_beta(scores[fitting], labels[fitting], config.descent_steps)
    seen = np.asarray(scores[testing])
    return {
        "smoothing": smoothing,
        "training_loss": history,
        "training_accuracy": np.mean(np.argmax(np.asarray(scores[learned]), -1) == labels[learned]),
        "beta_path": path,
        "beta": path[-1],
        "slope": slope,
        "fitting_nll": descent,
        "root": 1 / best_temperature(scores[fitting], labels[fitting]),
        "accuracy": np.mean(np.argmax(seen, -1) == labels[testing]),
        "before": judge(seen, labels[testing], 1.0, config.bins),
        "after": judge(seen, labels[testing], path[-1], config.bins),
    }


def table(models):
    lines = ["label smoothing |    β |  NLL before  after |  ECE before  after | accuracy"]
    for m in models:
        before, after = m["before"], m["after"]
        lines.append(
            f"{m['smoothing']:15.2f} | {m['beta']:4.2f} | {before['nll']:11.4f} {after['nll']:6.4f} "
            f"| {before['ece']:11.4f} {after['ece']:6.4f} | {m['accuracy']:8.4f}"
        )
    return "\n".join(lines)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "calibration.json"
    if config.figures_only:
        results = read_json(path)
    else:
        used = dataclasses.replace(config, **SMOKE) if config.smoke else config
        results = {"run": provenance("experiments.calibration", config, used), "models": []}
        started = time.perf_counter()
        for smoothing in tqdm(used.smoothings, desc="calibration", unit="network"):
            results["models"].append(plain(calibrate(used, smoothing)))
            write_json(path, results)
        print(table(results["models"]), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
