"""Figures of the memory experiment, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._memory_table import mean, methods
from experiments._plots import COLOURS, STYLE, save

SMOOTHED = 10  # steps that a point of a curve of steps is the mean of


def draw(results, out, stem):
    with plt.style.context(STYLE):
        return [
            _training(results, out / f"{stem}_training.png"),
            _sharpness(results, out / f"{stem}_sharpness.png"),
            _sizes(results, out / f"{stem}_sizes.png"),
        ]


def _each(results):
    return zip(methods(results).items(), COLOURS, strict=False)


def _smoothed(curve):
    means = curve[: len(curve) // SMOOTHED * SMOOTHED].reshape(-1, SMOOTHED).mean(1)
    return SMOOTHED * (np.arange(len(means)) + 0.5), means


def _training(results, path):
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6))
    for (name, runs), colour in _each(results):
        left.semilogy(*_smoothed(mean(runs, "loss")), color=colour, label=name)
        middle.semilogy(*_smoothed(mean(runs, "pull")), color=colour)
        if "learned" in name:
            right.semilogy(mean(runs, "beta"), color=colour)
    slots, d = (results["run"]["settings"][k] for k in ("slots", "dimension"))
    for panel, height, text in (
        (left, np.log1p((slots - 1) * np.exp(-2)), "least at β = 1"),
        (left, np.log(slots), "uniform"),
        (right, d**0.5, "√d"),
    ):
        panel.axhline(height, color="0.35", linestyle=":", linewidth=1)
        place = {"xytext": (-4, 4), "textcoords": "offset points", "ha": "right", "fontsize": 9}
        panel.annotate(text, (1, height), xycoords=panel.get_yaxis_transform(), **place)
    left.set_title(f"training loss, nats; {slots} slots")
    left.legend(fontsize=9)
    middle.set_title("norm of the towers' gradient")
    right.set_title("learned β")
    for panel in (left, middle, right):
        panel.set_xlabel("step")
    return save(figure, path)


def _sharpness(results, path):
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    settings = results["run"]["settings"]
    for (name, runs), colour in _each(results):
        for panel, what in zip(axes, ("entropy", "largest_weight", "accuracy"), strict=True):
            curve = mean(runs, "watched", what)
            panel.plot(settings["every"] * np.arange(len(curve)), curve, color=colour, label=name)
    axes[0].axhline(np.log(settings["slots"]), color="0.35", linestyle=":", linewidth=1)
    axes[0].set_ylim(bottom=0)
    titles = "entropy of the weights, nats; dotted: uniform", "largest weight", "right slot has the largest weight"
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        panel.set_xlabel("step")
    for panel in axes[1:]:
        panel.set_ylim(0, 1)
    axes[2].legend(fontsize=9, loc="lower right")
    figure.suptitle(f"Keys never seen in training, {settings['slots']} slots")
    return save(figure, path)


def _sizes(results, path):
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    settings = results["run"]["settings"]
    sizes = settings["sizes"]
    for (name, runs), colour in _each(results):
        for panel, what in zip(axes, ("accuracy", "right_weight", "read"), strict=True):
            panel.semilogx(sizes, mean(runs, "by_size", what), "o-", color=colour, label=name)
        axes[2].semilogx(sizes, mean(runs, "by_size", "read_hard"), "--", color=colour, linewidth=1)
    axes[2].plot([], [], "--", color="0.35", linewidth=1, label="the same towers at β = ∞")
    titles = "right slot has the largest weight", "weight of the right slot", "cosine of what is read and the value"
    for panel, title in zip(axes, titles, strict=True):
        panel.axvline(settings["slots"], color="0.35", linestyle=":", linewidth=1)
        panel.set_xticks(sizes, [f"{size}" for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(0, 1)
        panel.set_title(title)
        panel.set_xlabel("slots; dotted: of the training")
    axes[2].legend(fontsize=9, loc="lower left")
    return save(figure, path)
