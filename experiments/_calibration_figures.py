"""Figures of the calibration experiment, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BLUE, COLOURS, ORANGE, STYLE, save
from experiments._results import numbers


def draw(results, out):
    with plt.style.context(STYLE):
        return [_reliability(results["models"], out), _descent(results["models"], out)]


def _reliability(models, out):
    """How often the likeliest class is right, against the probability it was given; before and after."""
    figure, axes = plt.subplots(1, len(models), figsize=(4.6 * len(models), 4.4), squeeze=False)
    for panel, model in zip(axes[0], models, strict=True):
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="honest")
        for when, colour, marker in (("before", ORANGE, "o"), ("after", BLUE, "s")):
            part = model[when]
            count = numbers(part["count"])
            shown = count > 0
            name = "β = 1" if when == "before" else f"β = {model['beta']:.2f}"
            label = f"{name}: NLL {part['nll']:.3f}, ECE {part['ece']:.3f}"
            confidence, right = numbers(part["confidence"])[shown], numbers(part["accuracy"])[shown]
            panel.plot(confidence, right, color=colour, linewidth=1, alpha=0.7)
            panel.scatter(
                confidence, right, 12 + 160 * count[shown] / count.sum(), color=colour, marker=marker, label=label
            )
        panel.set_title(f"trained with label smoothing {model['smoothing']:g}")
        panel.set_xlabel("probability of the likeliest class")
        panel.set_xlim(0, 1.03)
        panel.set_ylim(0, 1.03)
        panel.legend(loc="lower right", fontsize=9)
    axes[0, 0].set_ylabel("how often it is right")
    figure.suptitle("Reliability on test images; a marker's area is its share of them")
    return save(figure, out / "calibration_reliability.png")


def _descent(models, out):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for model, colour in zip(models, COLOURS, strict=False):
        label = f"smoothing {model['smoothing']:g}"
        left.plot(numbers(model["beta_path"]), color=colour, label=label)
        left.axhline(model["root"], color=colour, linestyle=":", linewidth=1)
        excess = numbers(model["fitting_nll"])
        right.semilogy(np.maximum(excess - excess.min(), 1e-8), color=colour, label=label)
    left.set_title("β on its way; dotted: where the loss's slope in β is 0")
    left.set_xlabel("step")
    left.set_ylabel("inverse temperature β")
    left.set_yscale("log")
    left.legend()
    right.set_title("loss of the images that fit β, above its least")
    right.set_xlabel("step")
    right.set_ylabel("nats")
    return save(figure, out / "calibration_descent.png")
