"""What figures share: style, colours, how they are saved, the axis of β."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from experiments._results import numbers

matplotlib.use("Agg")  # files only, no display needed

# Okabe & Ito (2008): told apart by readers with any colour vision
BLUE, ORANGE, GREEN, RED, PURPLE = COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.8,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BETA = "inverse temperature β"
_TICKS = (-np.inf, -256, -32, -4, 0, 4, 32, 256, np.inf)
_INFINITY = 11.6


def save(figure, path):
    figure.savefig(path)
    plt.close(figure)
    return path


def finite_positive(part):
    """(β, selection) of the sweep `part`: the points that a logarithmic axis can show."""
    beta = numbers(part["beta"])
    return beta, (beta > 0) & np.isfinite(beta)


def scores(x):
    return "[" + ", ".join(f"{value:g}" for value in x) + "]"


def position(beta):
    """Where β stands on an axis that is linear near 0, logarithmic beyond, and has room for ±∞ at its ends."""
    beta = numbers(beta)
    finite = np.where(np.isinf(beta), 0, beta)
    return np.where(np.isinf(beta), np.sign(beta) * _INFINITY, np.sign(beta) * np.log2(1 + 2 * np.abs(finite)))


def beta_axis(axes, lowest=-np.inf):
    ticks = [tick for tick in _TICKS if tick >= lowest]
    names = {np.inf: "+∞", -np.inf: "−∞"}
    axes.set_xticks(position(ticks), [names.get(tick, f"{tick:g}".replace("-", "−")) for tick in ticks])
    axes.tick_params(axis="x", labelsize=10)
    axes.set_xlabel(BETA)


def against_beta(axes, beta, values, markersize=6, **style):
    """A curve over finite β, and a diamond for the value at each infinity."""
    finite = np.isfinite(beta)
    (line,) = axes.plot(position(beta[finite]), values[finite], **style)
    axes.plot(position(beta[~finite]), values[~finite], "D", color=line.get_color(), markersize=markersize)


def spread_over_images(axes, horizontal, values, shown, floor=-np.inf):
    """The band between the extreme images."""
    low, high = (np.maximum(numbers(values[name])[shown], floor) for name in ("lowest", "highest"))
    axes.fill_between(horizontal[shown], low, high, color=BLUE, alpha=0.2, label="lowest to highest image")
