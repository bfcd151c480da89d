"""A fully convolutional network learns brain tissue under the spatial loss, and under optax's for comparison.

python -m experiments.segmentation              trains four times, results/segmentation.json, figures
python -m experiments.segmentation --smoke      the same in a few seconds: fewer steps, a narrower network
python -m experiments.segmentation --figures-only      draws the figures again from the JSON
"""

import dataclasses
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

from experiments import _segmenter as segmenter
from experiments._brain import CLASSES, IGNORED, load_slices
from experiments._results import plain, provenance, read_json, write_json
from experiments._segmentation_figures import draw
from jsoftmax import softmax_cross_entropy_with_integer_labels, spatial_softmax_cross_entropy


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the segmentation experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for segmentation.json and the figures."""
    seed: int = 0
    """Initial weights; order of the slices."""
    smoke: bool = False
    """A few seconds: fewer steps, a narrower network."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    steps: int = 240
    batch: int = 8
    width: int = 16
    learning_rate: float = 1e-2


SMOKE = {"steps": 12, "batch": 4, "width": 4}


def class_weights(labels):
    """The inverse of each class's share of the labelled pixels, with mean 1 over them."""
    count = np.bincount(labels[labels != IGNORED], minlength=len(CLASSES))
    return (count.sum() / (len(CLASSES) * count)).astype(np.float32)


def losses_of(weights):
    """{name: loss(logits, labels, soft labels)}: of a batch, all means over the labelled pixels."""

    def by_optax(x, labels, soft):
        labelled = labels != IGNORED
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(x, jnp.where(labelled, labels, 0), axis=1)
        return jnp.sum(jnp.where(labelled, losses, 0.0)) / jnp.maximum(1, jnp.sum(labelled)).astype(x.dtype)

    def by_labels(x, labels, soft):
        return spatial_softmax_cross_entropy(x, labels, ignore_label=IGNORED)

    def weighted(x, labels, soft):
        return spatial_softmax_cross_entropy(x, labels, ignore_label=IGNORED, class_weights=weights)

    def by_maps(x, labels, soft):
        return spatial_softmax_cross_entropy(x, soft, weights=labels != IGNORED)

    return {"optax": by_optax, "labels": by_labels, "class weights": weighted, "soft labels": by_maps}


def train(config, loss, slices, name):
    """(parameters, loss at each step, seconds a step); the same order of slices for every loss."""
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    parameters = segmenter.initial(config.seed, config.width, len(CLASSES))
    state, order, history = optimiser.init(parameters), np.random.default_rng(config.seed), []

    @jax.jit
    def step(parameters, state, image, labels, soft):
        of = lambda p: loss(segmenter.logits(p, image), labels, soft)  # noqa: E731
        value, gradient = jax.value_and_grad(of)(parameters)
        updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    seconds = []
    with tqdm(range(config.steps), desc=f"training, {name}", unit="step", leave=False) as bar:
        for _ in bar:
            chosen = order.choice(len(slices.image), config.batch, replace=False)
            started = time.perf_counter()
            parameters, state, value = step(parameters, state, *(part[chosen] for part in slices))
            history.append(float(value))
            seconds.append(time.perf_counter() - started)
            bar.set_postfix_str(f"loss {history[-1]:.4f}", refresh=False)
    return parameters, history, float(np.median(seconds))


@functools.partial(jax.jit)
def predict(parameters, image, labels):
    """(likeliest class, loss at the label) of every pixel."""
    x = segmenter.logits(parameters, image)
    return jnp.argmax(x, 1), softmax_cross_entropy_with_integer_labels(x, labels, axis=1, ignore_label=IGNORED)


def intersection_over_union(predicted, labels):
    """Of each class, over the labelled pixels of all slices."""
    seen = labels != IGNORED
    pairs = [((predicted == c) & seen, labels == c) for c in range(len(CLASSES))]
    return [np.sum(p & t) / np.sum(p | t) for p, t in pairs]


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "segmentation.json"
    if config.figures_only:
        results = read_json(path)
    else:
        used = dataclasses.replace(config, **SMOKE) if config.smoke else config
        training, test = load_slices()
        weights = class_weights(training.labels)
        results = {
            "run": provenance("experiments.segmentation", config, used),
            "classes": CLASSES,
            "ignored": IGNORED,
            "class_weights": weights,
            "pixels": {"training": np.sum(training.labels != IGNORED), "test": np.sum(test.labels != IGNORED)},
            "runs": [],
        }
        started = time.perf_counter()
        losses = losses_of(weights)
        for name, loss in tqdm(losses.items(), desc="segmentation", unit="loss"):
            parameters, history, seconds = train(used, loss, training, name)
            predicted, test_losses = (np.asarray(a) for a in predict(parameters, test.image, test.labels))
            iou = intersection_over_union(predicted, test.labels)
            run = {
                "name": name,
                "loss": history,
                "seconds_a_step": seconds,
                "iou": iou,
                "mean_iou": np.mean(iou),
                "test_loss": test_losses.sum(dtype=np.float64) / np.sum(test.labels != IGNORED),
            }
            if name == "labels":
                middle = len(test.labels) // 2
                run["example"] = {
                    "image": np.round(test.image[middle, 0], 3),
                    "truth": test.labels[middle],
                    "predicted": predicted[middle].astype(np.uint8),
                    "loss": np.round(test_losses[middle], 3),
                }
            results["runs"].append(plain(run))
            write_json(path, results)
        results = plain(results)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out):
        print(figure)
    return results


def table(results):
    lines = [
        "loss          | test loss | mean IoU | " + " | ".join(f"{c:>12}" for c in results["classes"]) + " | ms a step"
    ]
    for run in results["runs"]:
        each = " | ".join(f"{v:12.3f}" for v in run["iou"])
        ms = 1000 * run["seconds_a_step"]
        lines.append(f"{run['name']:13} | {run['test_loss']:9.4f} | {run['mean_iou']:8.3f} | {each} | {ms:9.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
