"""Figures of the trained classifier: its training, and its loss and accuracy against temperature."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from experiments._plots import COLOURS
from experiments._results import numbers


def training(results):
    figure, axes = plt.subplots(figsize=(10, 5))
    for colour, fit in zip(COLOURS, results["training"], strict=False):
        excess = numbers(fit["objective"]) - fit["scikit_learn_objective"]
        final = abs(fit["final_objective"] - fit["scikit_learn_objective"])
        label = f"C = {fit['inverse_penalty']:g}: ends within {final:.0e}"
        axes.semilogy(np.maximum(excess, 1e-8), color=colour, label=label)
    axes.axhline(1e-4, color="black", linestyle="--", linewidth=1, label="1e-4")
    axes.set_ylim(0.7e-8, 10)
    axes.set_xlabel("iteration of optax.lbfgs")
    axes.set_ylabel("objective − scikit-learn's optimum (nats)")
    axes.set_title("Softmax regression on the digits reaches scikit-learn's optimum (float32 resolves about 1e-8)")
    axes.legend()
    return figure


def temperature(results):
    part = results["temperature"]
    t = numbers(part["temperature"])
    shown = (t > 0) & np.isfinite(t)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5.4), sharex=True)
    handles = [
        Line2D([], [], color="black", label="most probable class"),
        Line2D([], [], color="black", linestyle="--", label="class drawn from p"),
        Line2D([], [], color="black", linestyle=":", label="T of least loss"),
    ]
    for colour, curve in zip(COLOURS, part["curves"], strict=False):
        best, label_probability = curve["best_temperature"], numbers(curve["label_probability"])
        label = f"C = {curve['inverse_penalty']:g}: least at T = {best:.2f}"
        left.loglog(t[shown], numbers(curve["loss"])[shown], color=colour, label=label)
        left.plot(best, curve["best_loss"], "*", color=colour, markersize=15, markeredgecolor="black")
        right.semilogx(t[shown], numbers(curve["accuracy"])[shown], color=colour)
        right.semilogx(t[shown], label_probability[shown], "--", color=colour)
        right.axvline(best, ymax=0.68, color=colour, linestyle=":", linewidth=1.5)
        handles.append(Line2D([], [], color=colour, linewidth=4, label=f"C = {curve['inverse_penalty']:g}"))
    left.axvline(1, ymax=0.68, color="black", linewidth=0.8)
    left.set_ylim(0.08, 12)
    left.set_ylabel("held-out loss (nats)")
    left.set_title("Loss; the star marks the best temperature")
    left.legend(title="C (larger: less regularised)", loc="upper center")
    right.set_ylim(0, 1.5)
    right.set_yticks(np.linspace(0, 1, 6))
    right.set_ylabel("held-out accuracy")
    right.set_title("Accuracy of two ways to answer")
    right.legend(handles=handles, loc="upper center", ncols=2)
    for axes, chance, text, end in ((left, np.log(10), "uniform: ln 10", -1), (right, 0.1, "uniform: 1/10", 0)):
        axes.axhline(chance, color="black", linestyle="-.", linewidth=1)
        side = "left" if end == 0 else "right"
        axes.annotate(text, (t[shown][end], chance), xytext=(0, 4), textcoords="offset points", ha=side)
        axes.set_xlabel("temperature T = 1/β")
    figure.suptitle("Temperature changes the loss and a drawn answer, never the most probable class")
    return figure
