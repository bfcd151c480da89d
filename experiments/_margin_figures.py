"""Figures of the margin experiment, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments import _margin_losses as losses
from experiments._margin_angles import to_prototypes, unit
from experiments._plots import BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, save
from experiments._results import numbers

DIGITS = plt.get_cmap("tab10").colors
LOOKS = {
    losses.SOFTMAX: ("black", "-"),
    losses.COSINE: ("0.55", "-"),
    losses.LARGE: (GREEN, "-"),
    losses.SPHERE: (GREEN, "--"),
    losses.COSFACE: (BLUE, "-"),
    losses.AM: (PURPLE, "--"),
    losses.ARCFACE: (RED, "-"),
}
WIDEST = 64  # degrees from a prototype that are shown
LIMIT_LOOKS = (BLUE, "-", 5), (RED, "-", 1.8), (ORANGE, "--", 1.8), ("black", ":", 1.8)


def draw(results, out):
    with plt.style.context(STYLE):
        return [
            _embeddings(results, out / "margins_embeddings.png"),
            *([_sphere(results["sphere"], out / "margins_sphere.png")] if results["sphere"] else []),
            _angles(results, out / "margins_angles.png"),
            _roc(results, out / "margins_roc.png"),
            _limit(results["limit"], out / "margins_limit.png"),
        ]


def _embeddings(results, path):
    runs = results["plane"]
    columns = min(4, len(runs))
    lines = -(-len(runs) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.5 * columns, 3.7 * lines), squeeze=False)
    for panel, run in zip(axes.flat, runs, strict=False):
        x, w, labels = (numbers(run[name]) for name in ("embeddings", "prototypes", "labels"))
        reach = np.linalg.norm(x, axis=1).max()
        for digit, colour in enumerate(DIGITS):
            panel.plot(*(reach * np.stack([0 * w[digit], w[digit]]).T), color=colour, linewidth=0.8, zorder=1)
            panel.plot(*x[labels == digit].T, ".", color=colour, markersize=3, zorder=2)
            panel.annotate(str(digit), 1.1 * reach * w[digit], color=colour, ha="center", va="center", weight="bold")
        panel.set_xlim(-1.2 * reach, 1.2 * reach)
        panel.set_ylim(-1.2 * reach, 1.2 * reach)
        panel.set_aspect("equal")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        panel.set_title(
            f"{run['name']}: {100 * run['accuracy']:.1f} % right,\n{run['own_angle']:.1f}° from the own prototype"
        )
    for panel in axes.flat[len(runs) :]:
        panel.set_axis_off()
    figure.suptitle("Test digits in two dimensions; lines: directions of the prototypes")
    return save(figure, path)


def _sphere(runs, path):
    looks = {"subplot_kw": {"projection": "mollweide"}, "squeeze": False}
    figure, axes = plt.subplots(1, len(runs), figsize=(7 * len(runs), 4.4), **looks)
    for panel, run in zip(axes[0], runs, strict=True):
        x, w, labels = (numbers(run[name]) for name in ("embeddings", "prototypes", "labels"))
        for digit, colour in enumerate(DIGITS):
            panel.plot(*_on_the_map(x[labels == digit]), ".", color=colour, markersize=3)
            place = _on_the_map(w[digit])
            panel.plot(*place, "o", color="white", markeredgecolor=colour, markersize=15, markeredgewidth=1.5, zorder=3)
            panel.text(*place, str(digit), color=colour, ha="center", va="center", weight="bold", zorder=4)
        panel.set_xticks(panel.get_xticks(), [])
        panel.set_yticks(panel.get_yticks(), [])
        panel.set_title(f"{run['name']}: {100 * run['accuracy']:.1f} % right, {run['own_angle']:.1f}° from the own")
    figure.suptitle("Directions of test digits in three dimensions, on a map of equal areas; circles: prototypes")
    return save(figure, path)


def _on_the_map(x):
    """Longitude and latitude."""
    return np.arctan2(x[..., 1], x[..., 0]), np.arcsin(unit(x)[..., 2])


def _angles(results, path):
    runs, strangers = results["plane"], {run["name"]: run for run in results["strangers"]}
    figure, axes = plt.subplots(len(runs), 2, figsize=(11, 1.55 * len(runs) + 1), sharex="col", squeeze=False)
    edges = np.arange(WIDEST + 1)
    pair_bins = numbers(results["pair_bins"])
    for (left, right), run in zip(axes, runs, strict=True):
        x, w, labels = (numbers(run[name]) for name in ("embeddings", "prototypes", "labels"))
        for angle, colour, label in zip(
            to_prototypes(x, w, labels.astype(int)),
            (BLUE, ORANGE),
            ("to the own prototype", "to the nearest other"),
            strict=True,
        ):
            left.hist(angle, edges, color=colour, alpha=0.7, label=label, weights=np.full(len(angle), 1 / len(angle)))
            left.axvline(angle.mean(), color=colour, linewidth=1)
        for part, colour, label in (("within", BLUE, "of one class"), ("between", ORANGE, "of two")):
            count = sum(numbers(seed[part]) for seed in strangers[run["name"]]["seeds"])
            right.stairs(count / count.sum(), pair_bins, fill=True, color=colour, alpha=0.7, label=label)
            right.axvline(np.mean([seed[f"angle_{part}"] for seed in strangers[run["name"]]["seeds"]]), color=colour)
        for panel in (left, right):
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
        left.set_ylabel(run["name"], rotation=0, ha="right", va="center")
    axes[0, 0].set_title("test digits, two dimensions")
    axes[0, 1].set_title("pairs of digits of unknown classes")
    axes[0, 0].set_xlim(0, WIDEST)
    axes[0, 1].set_xlim(0, 180)
    axes[-1, 0].set_xlabel(f"angle, degrees; line: mean of all, also those beyond {WIDEST}°")
    axes[-1, 1].set_xlabel("angle, degrees; line: mean")
    for panel in axes[0]:
        panel.legend(loc="upper right", fontsize=9)
    return save(figure, path)


def _roc(results, path):
    figure, axes = plt.subplots(figsize=(8.4, 5.6))
    false = numbers(results["false_accepts"])
    for run in results["strangers"]:
        colour, line = LOOKS[run["name"]]
        curves = numbers([found["true_accepts"] for found in run["seeds"]])
        auc = np.mean([found["auc"] for found in run["seeds"]])
        axes.plot(false, curves.mean(0), line, color=colour, label=f"{run['name']}: AUC {auc:.3f}")
        axes.fill_between(false, curves.min(0), curves.max(0), color=colour, alpha=0.1, linewidth=0)
    axes.plot(false, false, ":", color="0.6", linewidth=1, label="chance")
    axes.set_xscale("log")
    axes.set_xlim(false[0], 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("false accepts, share of the pairs of two classes")
    axes.set_ylabel("true accepts, share of the pairs of one class")
    settings = results["run"]["settings"]
    known, seeds = settings["known"], settings["seeds"]
    axes.set_title(f"pairs of digits {known} to 9, learned: 0 to {known - 1}; mean and extremes of {seeds} seeds")
    axes.legend(loc="upper left")
    return save(figure, path)


def _limit(runs, path):
    figure, axes = plt.subplots(figsize=(8.4, 4.4))
    for run, (colour, line, width) in zip(runs, LIMIT_LOOKS, strict=False):
        loss, gone = numbers(run["loss"]), run["first_nan"]
        label = f"{run['name']}: " + ("no NaN" if gone is None else f"NaN from step {gone}")
        axes.plot(np.arange(len(loss)), loss, line, color=colour, linewidth=width, label=label)
        if gone is not None:
            axes.plot(gone - 1, loss[-1], "x", color="black", markersize=10, markeredgewidth=2, zorder=4)
    axes.set_xlabel("step")
    axes.set_ylim(0, 1)
    axes.set_ylabel("loss, nats")
    axes.set_title("ArcFace of a few digits, trained until embeddings and prototypes are parallel")
    axes.legend()
    return save(figure, path)
