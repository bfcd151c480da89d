"""Figures of the segmentation experiment, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap

from experiments._plots import COLOURS, ORANGE, STYLE, save
from experiments._results import numbers

OUTSIDE = "#cfe2f3"


def draw(results, out):
    with plt.style.context(STYLE):
        return [_training(results, out), _example(results, out)]


def _training(results, out):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    runs = results["runs"]
    for run, colour in zip(runs, COLOURS, strict=False):
        dashed = {"linestyle": "--", "zorder": 3} if run["name"] == "optax" else {}
        left.plot(numbers(run["loss"]), color=colour, label=run["name"], **dashed)
    left.set_yscale("log")
    left.set_title("training loss of the batch, nats a pixel")
    left.set_xlabel("step")
    left.legend()
    classes = [*results["classes"], "mean"]
    width = 0.8 / len(runs)
    for k, (run, colour) in enumerate(zip(runs, COLOURS, strict=False)):
        heights = [*run["iou"], run["mean_iou"]]
        place = np.arange(len(classes)) + (k - (len(runs) - 1) / 2) * width
        right.bar(place, heights, width, color=colour, label=run["name"])
    right.set_xticks(np.arange(len(classes)), classes)
    right.set_ylim(0, 1)
    right.set_title("intersection over union on the test slab")
    return save(figure, out / "segmentation_training.png")


def _example(results, out):
    example = next(run["example"] for run in results["runs"] if "example" in run)
    truth, ignored = numbers(example["truth"]), results["ignored"]
    outside = truth == ignored
    figure, axes = plt.subplots(1, 4, figsize=(14, 4.3))
    classes = results["classes"]
    colours = ListedColormap([ORANGE, "0.5", "0.95"]).with_extremes(bad=OUTSIDE)
    norm = BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes))
    upright = lambda a: np.rot90(np.ma.masked_array(numbers(a), outside))  # noqa: E731
    axes[0].imshow(np.rot90(numbers(example["image"])), cmap="gray")
    axes[0].set_title("T1-weighted image")
    for panel, name, title in ((axes[1], "truth", "truth"), (axes[2], "predicted", "prediction")):
        shown = panel.imshow(upright(example[name]), cmap=colours, norm=norm)
        panel.set_title(f"{title}; ignored outside the brain" if name == "truth" else title)
    bar = figure.colorbar(shown, ax=axes[1:3].tolist(), ticks=range(len(classes)), shrink=0.7, location="bottom")
    bar.ax.set_xticklabels(classes)
    heat = plt.get_cmap("magma").with_extremes(bad=OUTSIDE)
    losses = axes[3].imshow(upright(example["loss"]), cmap=heat, vmin=0)
    axes[3].set_title("loss of each pixel, nats")
    figure.colorbar(losses, ax=axes[3], shrink=0.7, location="bottom")
    for panel in axes:
        panel.set_axis_off()
    return save(figure, out / "segmentation_example.png")
