"""Figures of the limits: probabilities, ties, entropy, log-sum-exp."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import (
    BETA,
    BLUE,
    COLOURS,
    against_beta,
    beta_axis,
    finite_positive,
    position,
    scores,
    spread_over_images,
)
from experiments._results import numbers


def probabilities(results):
    part = results["hand"]
    beta = numbers(part["beta"])
    figure, grid = plt.subplots(2, 2, figsize=(10, 7.4), sharey=True)
    names = ("one winner", "two tie at the top", "two tie at the bottom", "all equal")
    for axes, name in zip(grid.flat, names, strict=True):
        row = part["rows"][name]
        for i, p in enumerate(numbers(row["p"]).T):  # thick to thin: equal probabilities lie on one another
            style = {"color": COLOURS[i], "linewidth": 6.5 - 1.7 * i, "markersize": 12 - 2.7 * i}
            against_beta(axes, beta, p, label=f"{row['x'][i]:g}", **style)
        axes.set_title(f"{name}: x = {scores(row['x'])}")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.legend(title="class with score", loc="upper center", ncols=4)
        beta_axis(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("probability softmax(βx)")
    grid[0, 0].set_ylim(-0.05, 1.45)
    grid[0, 0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    figure.suptitle("From argmin (β = −∞) through uniform (β = 0) to argmax (β = +∞), ties shared equally")
    return figure


def ties(results):
    part = results["hand"]
    beta = numbers(part["beta"])
    shown = beta >= 0
    figure, axes = plt.subplots(figsize=(10, 5))
    names = ("one winner", "two tie at the top", "three tie at the top", "all equal")
    for k, (colour, name) in enumerate(zip(COLOURS, names, strict=False), start=1):
        row = part["rows"][name]
        axes.axhline(1 / k, color=colour, linestyle=":", linewidth=1.5)
        against_beta(
            axes, beta[shown], numbers(row["p"])[shown, 0], color=colour, label=f"k = {k}: x = {scores(row['x'])}"
        )
        text = f"1/{k}" if k > 1 else "1"
        axes.annotate(text, (position(np.inf), 1 / k), xytext=(8, 5), textcoords="offset points", color=colour)
    beta_axis(axes, lowest=0)
    axes.set_ylim(0, 1.06)
    axes.set_ylabel("probability of a winner")
    axes.set_title("k classes that tie for the largest score end with 1/k each (dotted), exactly so at β = +∞")
    axes.legend(title="winners k", loc="center left", bbox_to_anchor=(0.0, 0.74))
    return figure


def entropy(results):
    rows, digits = results["hand"], results["digits"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5))
    beta = numbers(rows["beta"])
    for i, (colour, row) in enumerate(zip(COLOURS, rows["rows"].values(), strict=True)):
        style = {"color": colour, "linewidth": 5 - 0.8 * i, "markersize": 11 - 1.5 * i}
        against_beta(left, beta, numbers(row["entropy"]), label=scores(row["x"]), **style)
    left.set_ylim(-0.04, 2.3)
    left.set_yticks(np.arange(0, 1.5, 0.2))
    left.set_ylabel("entropy of softmax(βx) (nats)")
    left.set_title("Hand-written scores: ends at ln(number of ties)")
    left.legend(title="x", loc="upper center", ncols=2)
    beta = numbers(digits["beta"])
    spread_over_images(right, position(beta), digits["entropy"], np.isfinite(beta))
    against_beta(right, beta, numbers(digits["entropy"]["mean"]), color=BLUE, label="mean over images")
    right.set_ylim(-0.04, 3.1)
    right.set_title(f"Logits of {len(digits['gap'])} test digits, 10 classes")
    right.legend(loc="upper center")
    for axes, counts in ((left, (2, 3, 4)), (right, (10,))):
        beta_axis(axes)
        for count in counts:
            axes.axhline(np.log(count), color="black", linestyle=":", linewidth=1)
            axes.annotate(f"ln {count}", (position(-256), np.log(count)), xytext=(-6, 3), textcoords="offset points")
    figure.suptitle("Entropy is largest at β = 0, ln n, and falls on both sides")
    return figure


def lse_bound(results):
    rows, digits = results["hand"], results["digits"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), sharex=True)
    beta, shown = finite_positive(rows)
    for i, (colour, row) in enumerate(zip(COLOURS, rows["rows"].values(), strict=True)):
        style = {"color": colour, "markersize": 9 - 1.3 * i, "linewidth": 4 - 0.7 * i}
        left.loglog(beta[shown], numbers(row["lse_excess"])[shown], "o-", label=scores(row["x"]), **style)
    left.loglog(beta[shown], np.log(4) / beta[shown], "k--", linewidth=1, label="bound ln 4 / β")
    left.set_title("Hand-written scores; all equal: the bound itself")
    left.set_ylabel("logsumexp(x; β) − max x")
    beta, shown = finite_positive(digits)
    spread_over_images(right, beta, digits["lse_excess"], shown, floor=1e-12)
    right.loglog(beta[shown], numbers(digits["lse_excess"]["mean"])[shown], "o-", color=BLUE, label="mean over images")
    right.loglog(beta[shown], np.log(10) / beta[shown], "k--", linewidth=1, label="bound ln 10 / β")
    right.set_title(f"Logits of {len(digits['gap'])} test digits")
    for axes in (left, right):
        axes.set_ylim(1e-9, 300)
        axes.set_xlabel(BETA)
        axes.legend(loc="lower left")
    figure.suptitle("The log-sum-exp is never more than ln n / β above the maximum")
    return figure
