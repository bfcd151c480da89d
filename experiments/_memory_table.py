"""The results of the memory experiment as tables in Markdown, from their JSON alone."""

import numpy as np

from experiments._results import numbers
from experiments._tables import document, rows_of

LAST = 50  # steps that the last loss is the mean of


def methods(results):
    """{name: its trainings}, in order."""
    found = {}
    for row in results["training"]:
        found.setdefault(row["name"], []).append(row)
    return found


def mean(rows, *path):
    """Of the seeds, of what is found along `path`."""
    picked = rows
    for name in path:
        picked = [row[name] for row in picked]
    return numbers(picked).mean(0)


def table(results):
    return document([_corpus(results), _training(results), _sizes(results, "accuracy"), _sizes(results, "read")])


def _corpus(results):
    c = results["corpus"]
    cells = c["name"], c["words"], c["keys"]["training"], c["keys"]["held_out"], c["pairs"]["training"], c["features"]
    return rows_of(
        ("corpus", "words", "training keys", "held-out keys", "training pairs", "letter trigrams"),
        [tuple(f"{cell}" for cell in cells)],
    )


def _training(results):
    head = "method", "β", "training loss", "accuracy", "weight of the right slot", "largest weight", "entropy, nats"
    rows = []
    for name, runs in methods(results).items():
        seen = {k: mean(runs, "watched", k)[-1] for k in runs[0]["watched"]}
        cells = f"{mean(runs, 'beta')[-1]:.3g}", f"{mean(runs, 'loss')[-LAST:].mean():.3f}", f"{seen['accuracy']:.3f}"
        more = f"{seen['right_weight']:.3f}", f"{seen['largest_weight']:.3f}", f"{seen['entropy']:.3f}"
        ms = f"{1000 * np.median([run['seconds_a_step'] for run in runs]):.0f}"
        rows.append((name, *cells, *more, ms))
    return rows_of((*head, "ms a step"), rows)


def _sizes(results, what):
    sizes = results["run"]["settings"]["sizes"]
    rows = [(name, *(f"{v:.3f}" for v in mean(runs, "by_size", what))) for name, runs in methods(results).items()]
    return rows_of((f"{what}, slots:", *(f"{size}" for size in sizes)), rows)
