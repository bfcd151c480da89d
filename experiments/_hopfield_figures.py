"""Figures of the experiment on associative memories, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._hopfield_table import kinds_of, of
from experiments._plots import BETA, BLUE, GREEN, ORANGE, STYLE, save
from experiments._results import numbers

CAPACITY = 0.138  # Amit, Gutfreund & Sompolinsky (1985)


def draw(results, out):
    with plt.style.context(STYLE):
        return [
            _gallery(results, out / "hopfield_gallery.png"),
            _capacity(results, out / "hopfield_capacity.png"),
            _modern(results, out / "hopfield_beta.png"),
            _energy(results, out / "hopfield_energy.png"),
        ]


def _spoilt(results, cue):
    how = "not shown" if cue == "masked" else "turned"
    return f"{100 * results['run']['settings'][cue]:g} % of the pixels {how}"


def _gallery(results, path):
    parts = {cue: of(results["gallery"], cue=cue) for cue in ("masked", "noise")}
    rows, columns = len(parts["masked"]), len(parts["masked"][0]["images"])
    figure, panels = plt.subplots(1, 2, figsize=(12, 8.3), sharey=True)
    side = round(results["units"] ** 0.5)
    for panel, (cue, images) in zip(panels, parts.items(), strict=True):
        sheet = np.full((rows * (side + 2), columns * (side + 2)), np.nan)
        for i, row in enumerate(images):
            for j, image in enumerate(row["images"]):
                grey = np.array([int(level) for level in image]).reshape(side, side) / 9
                sheet[i * (side + 2) + 1 :, j * (side + 2) + 1 :][:side, :side] = grey
        panel.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(_spoilt(results, cue))
        panel.set_xticks([])
        panel.set_yticks((np.arange(rows) + 0.5) * (side + 2), [row["name"].replace(", ", "\n", 1) for row in images])
        panel.grid(False)
        panel.tick_params(length=0)
        for edge in panel.spines.values():
            edge.set_visible(False)
    return save(figure, path)


def _capacity(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
    settings = results["run"]["settings"]
    for kind, colour in zip(kinds_of(results["classic"]), (BLUE, ORANGE, GREEN), strict=True):
        rows = of(results["classic"], kind=kind)
        load = numbers([row["stored"] for row in rows]) / results["units"]
        left.plot(load, [row["kept"] for row in rows], "o-", color=colour, markersize=4, label=kind)
        right.plot(load, [row["restored_mostly"] for row in rows], "o-", color=colour, markersize=4, label=kind)
    left.axhline(results["dark"], color=ORANGE, linestyle="--", linewidth=1, label="of digits, an image all dark")
    left.set_title("shown what is stored: pixels that stay right")
    mostly = f"{100 * settings['mostly']:g} % of the pixels are right again"
    right.set_title(f"shown with {100 * settings['turned']:g} % turned: patterns of which\n{mostly}")
    for panel in (left, right):
        panel.axvline(CAPACITY, color="0.35", linestyle=":", linewidth=1, label=f"M / D = {CAPACITY}")
        panel.set_xlabel("load M / D")
    left.set_ylim(-0.03, 1.03)
    left.legend()
    return save(figure, path)


def _modern(results, path):
    rows = results["modern"]
    sizes = list(dict.fromkeys(row["stored"] for row in rows))
    figure, panels = plt.subplots(2, 2, figsize=(12, 8.4), sharex=True, sharey="row")
    for column, cue in enumerate(("masked", "noise")):
        for kind, line in (("digits", "-"), ("random", ":")):
            for size, colour in zip(sizes, (BLUE, ORANGE, GREEN), strict=False):
                here = of(rows, kind=kind, cue=cue, stored=size)
                beta = numbers([row["beta"] for row in here])
                for panel, name in zip(panels[:, column], ("whole", "averaged"), strict=True):
                    values = [row["once"][name] for row in here]
                    panel.plot(beta, values, line, marker="o", markersize=4, color=colour, label=f"{kind}, M = {size}")
        panels[0, column].set_title(_spoilt(results, cue))
        panels[1, column].set_yscale("log")
        panels[1, column].set_xscale("log", base=2)
        ticks = beta[:: max(1, len(beta) // 6)]
        panels[1, column].set_xticks(ticks, [f"{b:g}" for b in ticks])
        panels[1, column].set_xlabel(BETA)
    panels[0, 0].set_ylabel("patterns found after one step")
    panels[1, 0].set_ylabel("patterns in the mean, exp H")
    panels[0, 0].legend()
    return save(figure, path)


def _energy(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    for row, colour in zip(of(results["energy"], network="classic"), (BLUE, ORANGE, GREEN), strict=True):
        left.plot(
            numbers(row["mean"]), "o-", markersize=4, color=colour, label=f"{row['kind']}, {row['stored']} stored"
        )
    left.set_title("classic")
    left.set_xlabel("sweeps")
    left.set_ylabel("energy, mean of the cues")
    modern = of(results["energy"], network="modern")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(modern)))
    for row, colour in zip(modern, colours, strict=True):
        right.plot(numbers(row["mean"]), "o-", markersize=4, color=colour, label=f"β = {row['beta']:g}")
    right.set_title(f"modern, {modern[0]['stored']} digits stored")
    right.set_xlabel("steps")
    right.legend(ncols=2)
    left.legend()
    return save(figure, path)
