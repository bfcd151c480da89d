"""The figure of the distributed language model, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BLUE, GREEN, ORANGE, STYLE, save
from experiments._results import numbers

LOOKS = ((ORANGE, 4, 0.5), (BLUE, 2, 1), (GREEN, 0.8, 1))  # colour, width, opacity: all are seen where they coincide
MARKERS = (None, ("o", 8), ("x", 4))


def draw(results, out):
    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4))
        first = numbers(results["training"][0]["loss"])
        steps = np.arange(1, 1 + len(first))
        for run, (colour, width, alpha), marker in zip(results["training"], LOOKS, MARKERS, strict=True):
            loss = numbers(run["loss"])
            left.plot(steps, loss, color=colour, linewidth=width, alpha=alpha, label=run["name"])
            apart = np.abs(loss / first - 1)
            if marker:
                shown = apart > 0
                shape, size = marker
                style = {"color": colour, "markersize": size, "markerfacecolor": "none", "label": run["name"]}
                right.plot(steps[shown], apart[shown], shape, **style)
        right.set_yscale("log")
        right.axhline(2.0**-24, color="0.4", linestyle=":", label="rounding of float32")
        left.set_title("cross-entropy of the next word, nats")
        right.set_title("relative difference from one device")
        right.set_ylim(top=30 * right.get_ylim()[1])  # the legend is above the points
        for panel in (left, right):
            panel.set_xlabel("step")
            panel.legend()
        return save(figure, out / "distributed_lm.png")
