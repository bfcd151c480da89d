"""Figures of the retrieval, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BETA, BLUE, GREEN, ORANGE, STYLE, save
from experiments._results import numbers

SMOOTHED = 10  # steps that a point of the training loss is the mean of


def draw(results, out, stem):
    with plt.style.context(STYLE):
        return [_recall(results, out / f"{stem}_recall.png"), _training(results, out / f"{stem}_training.png")]


def _recall(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    *fixed, learned = results["training"]
    beta = numbers([run["beta"] for run in fixed])
    for k, colour in zip(results["run"]["settings"]["recalls"], (BLUE, ORANGE, GREEN), strict=False):
        name = f"recall_at_{k}"
        left.plot(beta, [run[name] for run in fixed], "o-", color=colour, label=f"recall@{k}")
        left.plot(learned["beta"], learned[name], "*", color=colour, markersize=14, markeredgecolor="black")
        left.axhline(results["untrained"][name], color=colour, linestyle=":", linewidth=1)
    left.plot([], [], "*", color="white", markeredgecolor="black", markersize=14, label="β learned")
    left.plot([], [], ":", color="0.35", linewidth=1, label="TF-IDF, not trained")
    left.set_ylim(0, 1)
    held_out = results["corpus"]["pairs"]["held_out"]
    left.set_title(f"own document among {held_out} held out")
    left.legend(ncols=2)
    right.plot(beta, [run["held_out_loss"] for run in fixed], "o-", color=BLUE, label="held out, at the β of training")
    right.plot(learned["beta"], learned["held_out_loss"], "*", color=BLUE, markersize=14, markeredgecolor="black")
    right.axhline(np.log(held_out), color="0.35", linestyle=":", linewidth=1, label=f"uniform: ln {held_out}")
    right.set_ylim(bottom=0)
    right.set_title("contrastive cross-entropy, nats")
    right.legend()
    for panel in (left, right):
        panel.set_xscale("log", base=2)
        panel.set_xticks(beta, [f"{b:g}" for b in beta])
        panel.set_xlabel(BETA)
    return save(figure, path)


def _training(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    *fixed, learned = results["training"]
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(fixed)))
    for run, colour in zip(fixed, colours, strict=True):
        left.plot(*_smoothed(run["loss"]), color=colour, label=f"β = {run['name']}")
    left.plot(*_smoothed(learned["loss"]), color="black", linestyle="--", label="β learned")
    left.set_title(f"training loss of the batch, nats; mean of {SMOOTHED} steps")
    left.set_ylim(bottom=0)
    left.legend(ncols=2)
    right.plot(numbers(learned["course"]), color="black", linestyle="--")
    right.set_title("learned β")
    for panel in (left, right):
        panel.set_xlabel("step")
    return save(figure, path)


def _smoothed(loss):
    loss = numbers(loss)
    means = loss[: len(loss) // SMOOTHED * SMOOTHED].reshape(-1, SMOOTHED).mean(1)
    return SMOOTHED * (np.arange(len(means)) + 0.5), means
