"""Figures of the rates: how fast the mass off the maximum and the gradient vanish."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BETA, BLUE, COLOURS, ORANGE, PURPLE, RED, finite_positive
from experiments._results import numbers


def off_mass(results):
    figure, grid = plt.subplots(2, 2, figsize=(10, 8.4))
    _rows(grid[0, 0], results["hand"])
    _images(grid[0, 1], results["digits"])
    _fitted_rates(grid[1, 0], grid[1, 1], numbers(results["digits"]["gap"]), numbers(results["digits"]["fitted_rate"]))
    for axes in grid[0]:
        axes.set_xlabel(BETA)
        axes.set_ylabel("Σ of p off the maximum")
    figure.suptitle("The mass off the maximum dies as exp(−β · gap)")
    return figure


def _rows(axes, part):
    beta, shown = finite_positive(part)
    for colour, name, law in ((BLUE, "one winner", "e^{-β·gap}"), (ORANGE, "two tie at the top", "½ e^{-β·gap}")):
        row = part["rows"][name]
        gap = -np.subtract(*np.unique(row["x"])[[-2, -1]])
        axes.semilogy(beta[shown], numbers(row["off_mass"])[shown], "o", color=colour, markersize=5, label=name)
        axes.semilogy(
            beta[shown], numbers(row["off_mass_law"])[shown], color=colour, label=f"law ${law}$, gap {gap:.1f}"
        )
    naive = numbers(part["rows"]["one winner"]["one_minus_p_max"])[shown]
    axes.semilogy(
        beta[shown], np.maximum(naive, 1e-26), "x", color="black", label="$1 − p_{max}$, float32 (bottom: exactly 0)"
    )
    axes.set_xlim(0, 190)
    axes.set_ylim(1e-27, 1e3)
    axes.set_title("Hand-written scores (dots) and the law (lines)")
    axes.legend(loc="upper right", fontsize=9)


def _images(axes, digits):
    beta, shown = finite_positive(digits)
    dense = np.geomspace(0.05, 256, 400)
    for colour, example in zip(COLOURS, digits["examples"], strict=True):
        axes.loglog(beta[shown], numbers(example["off_mass"])[shown], "o", color=colour, markersize=5)
        label = f"gap {example['gap']:.2f} (percentile {example['percentile']})"
        axes.loglog(dense, np.exp(-dense * example["gap"]), color=colour, label=label)
    axes.set_xlim(0.05, 300)
    axes.set_ylim(1e-20, 10)
    axes.set_title("Five test digits (dots) and exp(−β · gap) (lines)")
    axes.legend(loc="lower left", fontsize=9)


def _fitted_rates(left, right, gap, rate):
    left.loglog(gap, rate, "o", color=BLUE, markersize=4, alpha=0.5, label=f"{len(gap)} test images")
    left.loglog([gap.min(), gap.max()], [gap.min(), gap.max()], color="black", linewidth=1, label="rate = gap")
    left.set_title("Fitted decay rate of every test image")
    left.set_xlabel("gap between the two largest logits")
    left.set_ylabel("fitted rate −d log(off-mass)/dβ")
    left.legend(loc="upper left")
    deviation = 100 * (rate / gap - 1)
    right.hist(deviation, bins=np.linspace(-0.2, 1.2, 29), color=BLUE)
    right.set_yscale("log")
    right.axvline(1, color=RED, linestyle="--")
    right.annotate("1 %", (1, 30), xytext=(5, 0), textcoords="offset points", color=RED)
    right.set_title(f"Rate against gap: at most {np.abs(deviation).max():.2f} % apart")
    right.set_xlabel("fitted rate / gap − 1 (%)")
    right.set_ylabel("number of test images")


def gradient(results):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5.2))
    _saturation(left, results["hand"], results["digits"])
    _attention(right, results["attention"])
    for axes in (left, right):
        axes.set_ylabel("gradient norm ‖∂p/∂x‖ (Frobenius)")
    figure.suptitle("Where softmax saturates its gradient vanishes; a tie keeps it alive")
    return figure


def _saturation(axes, rows, digits):
    beta, shown = finite_positive(rows)
    winner, tie = rows["rows"]["one winner"], rows["rows"]["two tie at the top"]
    late = shown & (beta >= 4)
    for colour, row, law, text in (
        (ORANGE, tie, beta / 2, "two tie at the top; law β/2"),
        (BLUE, winner, 2 * np.where(late, beta, 0) * numbers(winner["off_mass_law"]), "one winner; law 2β exp(−β·gap)"),
    ):
        axes.loglog(beta[shown], numbers(row["jacobian_norm"])[shown], "o", color=colour, markersize=5, label=text)
        axes.loglog(beta[late], law[late], color=colour)
    beta, shown = finite_positive(digits)
    for name, style in (("mean", "s-"), ("median", "s:")):
        values = numbers(digits["jacobian_norm"][name])[shown]
        label = f"{name} of {len(digits['gap'])} test digits"
        axes.loglog(beta[shown], values, style, color=PURPLE, markersize=4, label=label)
    axes.set_xlim(0.014, 280)
    axes.set_ylim(1e-9, 1e6)
    axes.set_xlabel(BETA)
    axes.set_title("softmax(βx): measured (dots), law (lines)")
    axes.legend(loc="upper left", fontsize=9)


def _attention(axes, attention):
    dimension = attention["dimensions"]
    for scores, colour, text, below in (("raw", RED, "x = q·k", False), ("scaled", BLUE, "x = q·k/√d", True)):
        part = attention[scores]
        axes.loglog(dimension, part["gradient_mean"], "o-", color=colour, label=f"{text}: mean")
        axes.loglog(dimension, part["gradient_median"], "s:", color=colour, markersize=4, label=f"{text}: median")
        for end, over in ((0, not below), (-1, below)):  # the scaled curve is the lower one at first, then the upper
            axes.annotate(
                f"$p_{{max}}$ {part['largest_weight_mean'][end]:.2f}",
                (dimension[end], part["gradient_mean"][end]),
                xytext=(-8 if end == 0 else 8, 12 if over else -22),
                textcoords="offset points",
                ha="left" if end == 0 else "right",
                color=colour,
            )
    axes.set_xticks(dimension, [str(d) for d in dimension])
    axes.minorticks_off()
    axes.set_ylim(5e-5, 2)
    axes.set_xlabel("dimension d of queries and keys")
    axes.set_title(f"Attention weights over {attention['keys']} random keys")
    axes.legend(loc="lower left", fontsize=9)
