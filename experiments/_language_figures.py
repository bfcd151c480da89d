"""Figures of the language model, from its JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments._language_table import difference
from experiments._language_training import BACKWARDS
from experiments._layer_costs import DEFAULT, DENSE, MARK
from experiments._plots import BLUE, GREEN, ORANGE, PURPLE, STYLE, save
from experiments._results import numbers

_TOKENS, _CLASSES = {"color": GREEN, "marker": "^"}, {"color": PURPLE, "marker": "D"}


def draw(results, out, stem):
    with plt.style.context(STYLE):
        figures = [_training(results, out / f"{stem}_training.png")]
        return figures + ([_costs(results["costs"], out / f"{stem}_costs.png")] if results["costs"] else [])


def _training(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4))
    runs = {run["name"]: run for run in results["training"]}
    for name, colour, thick, thin in (("dense", ORANGE, (3, 0.5), ("o", 9)), ("fused", BLUE, (0.9, 1), ("x", 5))):
        loss, (step, held_out) = numbers(runs[name]["loss"]), numbers(runs[name]["held_out"]).T
        steps = np.arange(1, 1 + len(loss))
        left.plot(steps, loss, color=colour, label=name, linewidth=thick[0], alpha=thick[1])
        of = {"color": colour, "label": f"{name}, held out", "markersize": thin[1], "markeredgewidth": 1.5}
        left.plot(step, held_out, thin[0], zorder=3, **of)
    left.axhline(np.log(results["corpus"]["unigram_perplexity"]), color="0.4", linestyle=":", label="unigram, held out")
    left.set_title("cross-entropy of the next word, nats")
    right.set_yscale("log")
    for name, colour, marker in ((BACKWARDS, ORANGE, "x"), ("fused", BLUE, ".")):
        apart = np.abs(difference(results, name))
        right.plot(steps[apart > 0], apart[apart > 0], marker, color=colour, markersize=4, label=f"{name} − dense")
    right.set_ylim(top=10 * right.get_ylim()[1])  # the legend is above the points
    right.set_title("size of the difference from the dense training loss, nats")
    for panel in (left, right):
        panel.set_xlabel("step")
        panel.legend()
    return save(figure, path)


def _costs(costs, path):
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.4))
    *vocabularies, swept = costs
    for panel in axes.flat:
        panel.set_xscale("log", base=2)
    for panel in axes[:, 0]:
        panel.set_yscale("log")
        panel.set_ylabel("MB")
    _against_classes(vocabularies, *axes[0])
    _against_blocks(swept, *axes[1])
    for panel in axes[:, 1]:
        panel.axhline(1, color=ORANGE, label="all logits at once")
        panel.set_ylim(bottom=0)
        panel.legend()
    return save(figure, path)


def _looks(name):
    if name in (DENSE, DEFAULT):
        return {"color": ORANGE, "marker": "o"} if name == DENSE else {"color": BLUE, "marker": "s"}
    return _CLASSES if MARK in name else _TOKENS


def _curve(memory, ratio, horizontal, programs, look, label):
    memory.plot(horizontal, [p["temporary_bytes"] / 1e6 for p in programs], label=label, **look)
    if any(p["name"] != DENSE for p in programs):
        median, low, high = (numbers([p["ratio"][k] for p in programs]) for k in ("median", "p20", "p80"))
        ratio.errorbar(horizontal, median, (median - low, high - median), capsize=3, label=label, **look)


def _against_classes(parts, memory, ratio):
    titles = {DENSE: "all logits at once", DEFAULT: "fused, default blocks"}
    for programs in zip(*(part["programs"] for part in parts), strict=True):
        name = programs[0]["name"]
        kind = "tokens × classes" if MARK in name else "tokens"
        label = titles.get(name, f"fused, blocks of {name} {kind}")
        _curve(memory, ratio, [part["classes"] for part in parts], programs, _looks(name), label)
    memory.set_ylim(top=30 * parts[-1]["programs"][0]["temporary_bytes"] / 1e6)  # the legend is above the curves
    memory.legend()
    of = f"{parts[0]['tokens']} tokens, {parts[0]['width']} features"
    memory.set_title(f"temporaries of loss and gradient; {of}")
    ratio.set_title("time / that of all logits at once, p20 to p80 of rounds")
    for panel in (memory, ratio):
        panel.set_xlabel("classes")


def _against_blocks(part, memory, ratio):
    dense, *blocks = part["programs"]
    for label, look, whole in (("tokens, all classes", _TOKENS, part["classes"]), ("classes, all tokens", _CLASSES, 1)):
        programs = [p for p in blocks if (MARK in p["name"]) == (look is _CLASSES)]
        logits = [whole * np.prod([int(size) for size in p["name"].split(MARK)]) for p in programs]
        _curve(memory, ratio, logits, programs, look, f"fused, blocks of {label}")
    memory.axhline(dense["temporary_bytes"] / 1e6, color=ORANGE, label="all logits at once")
    memory.legend()
    memory.set_title(f"temporaries; {part['tokens']} tokens, {part['classes']} classes")
    ratio.set_title("time / that of all logits at once")
    for panel in (memory, ratio):
        panel.set_xlabel("logits of a block")
