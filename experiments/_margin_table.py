"""Results of the margin experiment as Markdown tables, from its JSON alone; docs/margin_embeddings.md holds them."""

import numpy as np

from experiments._tables import document, rows_of


def table(results):
    parts = [_digits(results[name], dimension) for name, dimension in (("plane", 2), ("sphere", 3)) if results[name]]
    return document(
        [*parts, _strangers(results["strangers"]), _parallel(results["parallel"]), _limit(results["limit"])]
    )


def _options(run):
    names = {"scale": "s", "margin": "m"}
    return ", ".join(f"{names[k]} = {v:g}" for k, v in run["options"].items()) or "–"


def _digits(runs, dimension):
    head = (
        f"loss, {dimension} dimensions",
        "options",
        "accuracy by angle",
        "by product",
        "own angle",
        "nearest other",
        "ms a step",
    )
    return rows_of(
        head,
        [
            (
                run["name"],
                _options(run),
                f"{run['accuracy']:.3f}",
                f"{run['accuracy_of_products']:.3f}",
                f"{run['own_angle']:.1f}°",
                f"{run['other_angle']:.1f}°",
                f"{1000 * run['seconds_a_step']:.0f}",
            )
            for run in runs
        ],
    )


def spread(run, name, digits=3):
    """Mean over the seeds, and the least and the largest."""
    values = [found[name] for found in run["seeds"]]
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def mean(run, name):
    return np.mean([found[name] for found in run["seeds"]])


def _strangers(runs):
    head = (
        "loss, unknown digits",
        "options",
        "AUC",
        "true accepts at 1 % false",
        "within",
        "between",
        "known: accuracy",
        "own angle",
        "nearest other",
        "ms a step",
    )
    return rows_of(
        head,
        [
            (
                run["name"],
                _options(run),
                spread(run, "auc"),
                spread(run, "true_accepts_judged"),
                *(f"{mean(run, name):.1f}°" for name in ("angle_within", "angle_between")),
                f"{mean(run, 'accuracy'):.3f}",
                *(f"{mean(run, name):.1f}°" for name in ("own_angle", "other_angle")),
                f"{1000 * mean(run, 'seconds_a_step'):.0f}",
            )
            for run in runs
        ],
    )


def _parallel(runs):
    head = "ArcFace of parallel vectors", "losses NaN", "gradients NaN", "largest gradient × length"
    return rows_of(
        head,
        [
            (
                run["name"],
                *(f"{run[name]} of {run['examples']}" for name in ("losses_nan", "gradients_nan")),
                f"{run['largest_gradient']:.3f}",
            )
            for run in runs
        ],
    )


def _limit(runs):
    head = "ArcFace trained to the limit", "first NaN", "last finite loss", "largest angle in the end"
    return rows_of(
        head,
        [
            (
                run["name"],
                "none" if run["first_nan"] is None else f"step {run['first_nan']}",
                f"{run['loss'][-1]:.3f}",
                "–" if run["largest_own_angle"] is None else f"{run['largest_own_angle']:.4f}°",
            )
            for run in runs
        ],
    )
