"""Figures of the word vectors, from their JSON alone."""

import matplotlib.pyplot as plt
import numpy as np

from experiments import _word_costs as costs
from experiments import _word_methods as methods
from experiments._plots import BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, save
from experiments._results import numbers
from experiments._word_bias import VARIANTS
from experiments._word_table import by_name

GREY, SKY = "0.35", "#56B4E9"
LOOKS = {
    methods.FULL: ("black", "-"),
    methods.HUFFMAN: (GREEN, "-"),
    methods.BALANCED: (GREEN, "--"),
    methods.ADAPTIVE: (PURPLE, "-"),
    methods.SAMPLED: (BLUE, "-"),
    methods.NCE: (ORANGE, "-"),
    methods.LEARNED: (ORANGE, "--"),
    methods.UNIFORM: (ORANGE, ":"),
    methods.NEGATIVE: (RED, "-"),
}
STEPS = {
    costs.FULL: ("black", "-", "o"),
    costs.ADAPTIVE: (PURPLE, "-", "D"),
    costs.TREE: (GREEN, "-", "^"),
    costs.TREE_ROWS: (GREEN, "--", "^"),
    costs.SAMPLED: (BLUE, "-", "s"),
    costs.SAMPLED_ROWS: (BLUE, "--", "s"),
    costs.REPLACED_ROWS: (SKY, ":", "s"),
}
BIASES = dict(
    zip(
        VARIANTS,
        ((BLUE, "-"), (GREEN, "-"), (BLUE, "--"), (GREEN, "--"), (ORANGE, ":"), (RED, ":")),
        strict=True,
    )
)
LEAST = 1e-4  # that is shown of a bias
SHOWN = 1.0  # nats above the unigram loss


def draw(results, out, stem):
    with plt.style.context(STYLE):
        figures = [_losses(results, out / f"{stem}_loss.png"), _partition(results, out / f"{stem}_log_z.png")]
        if results["costs"]:
            figures.append(_costs(results, out / f"{stem}_costs.png"))
        if results["bias"]:
            figures.append(_bias(results["bias"], out / f"{stem}_bias.png"))
        return figures


def _curve(run, *names):
    """Arrays of a training's held-out judgements."""
    return [numbers([judged[name] for judged in run["held_out"]]) for name in names]


def _losses(results, path):
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.4), sharey=True)
    unigram, lowest = results["corpus"]["unigram_loss"], np.inf
    for run in results["training"]:
        step, seconds, loss = _curve(run, "step", "seconds", "nll")
        lowest, (colour, line) = min(lowest, loss.min()), LOOKS[run["name"]]
        for panel, horizontal in zip(panels, (step, seconds), strict=True):
            panel.plot(horizontal[1:], loss[1:], line, color=colour, label=run["name"])
    for panel, label in zip(panels, ("step", "seconds of training"), strict=True):
        panel.axhline(unigram, color=GREY, linewidth=1, label="unigram")
        panel.set_xlabel(label)
        panel.set_xscale("log")
    panels[0].set_ylim(lowest - 0.03, unigram + SHOWN)
    panels[0].set_ylabel("nats")
    figure.suptitle("held-out loss of a neighbour, exactly normalised over all classes")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return save(figure, path)


def _partition(results, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    for run in results["training"]:
        if run["name"] not in (methods.NCE, methods.LEARNED, methods.UNIFORM, methods.NEGATIVE):
            continue
        step, as_it_is, loss = _curve(run, "step", "as_it_is", "nll")
        low, mean, high = (numbers([judged["log_z"][k] for judged in run["held_out"]]) for k in ("p5", "mean", "p95"))
        colour, line = LOOKS[run["name"]]
        left.plot(step, mean, line, color=colour, label=run["name"])
        left.fill_between(step, low, high, color=colour, alpha=0.12, linewidth=0)
        right.plot(step, as_it_is - loss, line, color=colour, label=f"{run['name']}")
    left.set_title("log Z of held-out words: mean, 5 % to 95 %")
    right.set_title("loss as it is − normalised, nats")
    right.set_yscale("symlog", linthresh=0.01)
    for panel in (left, right):
        panel.axhline(0, color=GREY, linewidth=1)
        panel.set_xlabel("step")
        panel.legend()
    return save(figure, path)


def _costs(results, path):
    figure, axes = plt.subplots(figsize=(9, 6))
    parts, settings = results["costs"], results["run"]["settings"]
    classes = numbers([part["classes"] for part in parts])
    for i, program in enumerate(parts[0]["programs"]):
        colour, line, marker = STEPS[program["name"]]
        least = numbers([1000 * part["programs"][i]["least"] for part in parts])
        axes.plot(classes, least, line, color=colour, marker=marker, label=program["name"])
    last = 1000 * parts[-1]["programs"][0]["least"]
    axes.plot(classes, last * classes / classes[-1], color="0.7", linewidth=1, zorder=0, label="∝ V")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("classes V")
    axes.set_ylabel("ms, least of the rounds")
    sizes = f"{settings['timed_batch']} examples, {settings['timed_width']} features"
    axes.set_title(f"a training step: {sizes}, {settings['timed_samples']} candidates")
    axes.legend()
    return save(figure, path)


def _bias(bias, path):
    figure, axes = plt.subplots(figsize=(9, 6.2))
    for name, cases in by_name(bias).items():
        # all classes, once each: rounding is left, which a logarithmic axis would be stretched for
        exact = [c["candidates"] for c in cases if VARIANTS[name].unique and c["candidates"] == c["classes"]]
        shown = [case for case in cases if case["candidates"] not in exact]
        size, value, error = (numbers([case[k] for case in shown]) for k in ("candidates", "bias", "standard_error"))
        colour, line = BIASES[name]
        axes.plot(size, value, line, color=colour, marker="o", label=name)
        axes.plot(size, error, "_", color=colour, markersize=9, alpha=0.7)
        if exact:
            arrow = {"arrowstyle": "->", "color": colour}
            axes.annotate("", (exact[0], LEAST), (size[-1], value[-1]), arrowprops=arrow)
    classes = bias[0]["classes"]
    guide = 2.0 ** np.arange(0, 1 + np.log2(max(case["candidates"] for case in bias)))
    axes.plot(guide, 1 / guide, color="0.7", linewidth=1, zorder=0, label="1 / S")
    axes.plot([], [], "_", color=GREY, markersize=9, label="standard error of each")
    axes.axvline(classes, color="0.7", linestyle=":", linewidth=1)
    axes.text(1.05 * classes, 1.2 * LEAST, "every class once:\nrounding", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1.2)
    axes.set_xlabel(f"candidates S, of {classes} classes")
    axes.set_ylabel("| mean sampled gradient − whole | / | whole |")
    axes.set_title("bias of the sampled softmax's gradient")
    axes.legend(loc="lower left", fontsize=9)
    return save(figure, path)
