"""Figures of the restricted Boltzmann machines, from their JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._plots import BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, save
from experiments._results import numbers

COLOURS = {"CD-1": BLUE, "CD-10": GREEN, "PCD": ORANGE, "PCD, constant rate": PURPLE, "scikit-learn": RED}
SIDE = 8  # pixels


def draw(results, out):
    with plt.style.context(STYLE):
        return [
            _training(results, out / "rbm_training.png"),
            _samples(results, out / "rbm_samples.png"),
            _reconstructions(results, out / "rbm_reconstructions.png"),
            _thermodynamics(results, out / "rbm_thermodynamics.png"),
        ]


def _training(results, path):
    """Exact likelihood of the smallest machines, free-energy gap and pseudo-likelihood of the largest."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.8))
    smallest, largest = (results["run"]["settings"]["hidden"][i] for i in (0, -1))
    for run in results["training"]:
        constant = "constant" in run["name"]
        if not run["course"] or (constant and run["rate"] != results["run"]["settings"]["constant_rates"][-1]):
            continue
        epoch, colour = run["course"]["epoch"], COLOURS[run["name"]]
        label = f"{run['name']} {run['rate']:g}" if constant else run["name"]
        if run["hidden"] == smallest:
            training, held_out = numbers(run["course"]["likelihood"]).T
            panels[0].plot(epoch, held_out, color=colour, label=label)
            panels[0].plot(epoch, training, color=colour, linestyle=":", linewidth=1.2)
        if run["hidden"] == largest:
            panels[1].plot(epoch, run["course"]["free_energy_gap"], color=colour, label=label)
            training, held_out = numbers(run["course"]["pseudo"]).T
            panels[2].plot(epoch, held_out, color=colour, label=label)
            panels[2].plot(epoch, training, color=colour, linestyle=":", linewidth=1.2)
    panels[0].plot([], [], ":", color="0.35", linewidth=1.2, label="training images")
    panels[0].axhline(results["independent"]["likelihood"][1], color="0.35", linewidth=1, linestyle="--")
    panels[0].text(0.98, 0.02, "dashed: independent pixels", transform=panels[0].transAxes, ha="right", fontsize=9)
    panels[0].set_title(f"log-likelihood, nats; {smallest} hidden units")
    panels[1].set_title(f"free energy, held out − training; {largest} units")
    panels[2].set_title(f"pseudo-log-likelihood, nats; {largest} units")
    for panel in panels:
        panel.set_xlabel("epoch")
    panels[0].legend(loc="center right")
    panels[1].legend()
    return save(figure, path)


def _pictures(panel, rows, names, title=""):
    """Rows of images [N, 64] in one picture, with a name beside each row."""
    gap = 1
    rows = [numbers(row).reshape(-1, SIDE, SIDE) for row in rows]
    height, width = len(rows) * (SIDE + gap) - gap, len(rows[0]) * (SIDE + gap) - gap
    whole = np.full((height, width), np.nan)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (SIDE + gap), j * (SIDE + gap)
            whole[top : top + SIDE, left : left + SIDE] = image
    panel.imshow(whole, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    panel.set_yticks([(SIDE + gap) * i + SIDE / 2 - 0.5 for i in range(len(rows))], names)
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.set_title(title)


def _samples(results, path):
    images = results["images"]
    figure, panel = plt.subplots(figsize=(9, 3.3))
    names = [f"T = {t:g}".replace("inf", "∞") for t in numbers(images["temperature"])]
    steps = results["run"]["settings"]["steps"]
    title = f"PCD, {images['hidden']} hidden units: pixel probabilities after {steps} steps from noise"
    _pictures(panel, images["samples"], names, title)
    return save(figure, path)


def _reconstructions(results, path):
    images = results["images"]
    figure, panel = plt.subplots(figsize=(9, 2.6))
    rows = [images["held_out"], *images["reconstructed"].values()]
    title = f"held-out digits, and from their hidden units; {images['hidden']} of them"
    _pictures(panel, rows, ["binary", *images["reconstructed"]], title)
    return save(figure, path)


def _thermodynamics(results, path):
    found = results["thermodynamics"]
    temperature, entropy, capacity, energy = (
        numbers(found[name]) for name in ("temperature", "entropy", "heat_capacity", "energy")
    )
    units = results["data"]["pixels"] + found["hidden"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    left.plot(temperature, entropy / np.log(2), color=BLUE, label="entropy, bits")
    left.axhline(units, color=BLUE, linestyle=":", linewidth=1, label=f"{units} units at random")
    left.plot(temperature, energy, color=ORANGE, label="mean energy")
    left.set_title("visible and hidden units together")
    right.plot(temperature, capacity, color=GREEN, label="heat capacity: variance of E/T")
    right.set_ylim(bottom=0)
    right.set_title(f"PCD, {found['hidden']} hidden units")
    for panel, place in ((left, {"loc": "upper left", "bbox_to_anchor": (0, 0.88)}), (right, {"loc": "lower center"})):
        panel.set_xscale("log", base=2)
        panel.axvline(1, color="0.35", linestyle="--", linewidth=1, label="trained at T = 1")
        panel.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        panel.set_xlabel("temperature T")
        panel.legend(**place)
    return save(figure, path)
