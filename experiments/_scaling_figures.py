"""Figures of the attention-scaling experiment, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BLUE, RED, STYLE, save
from experiments._results import numbers

COLOUR = {"raw": RED, "scaled": BLUE}
TEXT = {"raw": "x = q·k", "scaled": "x = q·k/√d"}
FAINT = 1e-6  # medians below are drawn here
LINES = (":", "-", "--")


def draw(results, out):
    with plt.style.context(STYLE):
        return [
            _random(results, out / "attention_scaling_random.png"),
            _training(results, out / "attention_scaling_training.png"),
            _saturation(results, out / "attention_scaling_saturation.png"),
        ]


def _random(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    rows, settings = results["random"], results["run"]["settings"]
    dimension = [row["dimension"] for row in rows]
    for name, colour in COLOUR.items():
        part = {k: numbers([row[name][k] for row in rows]) for k in rows[0][name]}
        left.loglog(dimension, part["gradient_mean"], "o-", color=colour, label=f"{TEXT[name]}: mean")
        left.loglog(dimension, part["gradient_median"], "s:", color=colour, markersize=4, label="median")
        low = np.maximum(part["gradient_tenth"], FAINT)
        left.fill_between(dimension, low, part["gradient_nine_tenths"], color=colour, alpha=0.12, linewidth=0)
        right.semilogx(dimension, part["largest_weight_mean"], "o-", color=colour, label=TEXT[name])
        right.semilogx(dimension, part["largest_weight_median"], "s:", color=colour, markersize=4)
    left.set_ylim(FAINT, 1)
    left.set_title("‖∂p/∂x‖ (Frobenius); bands: 10 % to 90 % of the queries")
    left.legend(loc="lower left", ncols=2)
    right.axhline(1 / settings["keys"], color="0.5", linewidth=1)
    right.annotate("uniform", (dimension[0], 1 / settings["keys"]), xytext=(0, 4), textcoords="offset points")
    right.set_ylim(0, 1.03)
    right.set_title(f"largest of {settings['keys']} weights: mean, and median (dotted)")
    right.legend(loc="center right")
    for panel in (left, right):
        panel.set_xticks(dimension, [f"{d}" for d in dimension])
        panel.minorticks_off()
        panel.set_xlabel("dimension d of random queries and keys")
    return save(figure, path)


def _panels(results, curve, title, path, lowest=None):
    """One for each dimension: `curve(row, every)` of each training, the mean of its seeds."""
    settings = results["run"]["settings"]
    trained, rates = settings["trained"], settings["rates"]
    figure, axes = plt.subplots(1, len(trained), figsize=(4.4 * len(trained), 5.0), sharey=True, squeeze=False)
    for row in results["training"]:
        panel = axes[0, trained.index(row["dimension"])]
        line = LINES[rates.index(row["rate"]) % len(LINES)]
        label = f"{TEXT[row['scores']]}, rate {row['rate']:g}"
        panel.semilogy(*curve(row, settings["every"]), color=COLOUR[row["scores"]], linestyle=line, label=label)
    for panel, dimension in zip(axes[0], trained, strict=True):
        panel.set_title(f"d = {dimension}")
        panel.set_xlabel("step")
    axes[0, 0].set_ylim(bottom=lowest)
    figure.suptitle(title)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(rates))
    return save(figure, path)


def _training(results, path):
    def curve(row, every):
        loss = numbers(row["loss"]).mean(0)
        return every * (np.arange(len(loss)) + 0.5), loss

    return _panels(results, curve, "Digits seen through attention: training loss, nats, mean of the seeds", path)


def _saturation(results, path):
    def curve(row, every):
        norm = np.maximum(numbers(row["gradient_median"]).mean(0), FAINT)
        return every * np.arange(len(norm)), norm

    title = "Median ‖∂p/∂x‖ of attention to test images while it is trained; below 10⁻⁶ drawn there"
    return _panels(results, curve, title, path, FAINT / 1.5)
