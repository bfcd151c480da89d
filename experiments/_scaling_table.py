"""The results of the attention-scaling experiment as tables in Markdown, from their JSON alone."""

from experiments._results import numbers
from experiments._tables import document, rows_of

NAMES = {"raw": "q·k", "scaled": "q·k/√d"}


def table(results):
    return document([_random(results), _training(results)])


def _random(results):
    head = "d", *(f"{NAMES[s]}: {what}" for s in NAMES for what in ("mean norm", "median norm", "largest weight"))
    rows = []
    for row in results["random"]:
        cells = [f"{row['dimension']}"]
        for name in NAMES:
            part = row[name]
            cells += [_short(part[k]) for k in ("gradient_mean", "gradient_median", "largest_weight_mean")]
        rows.append(cells)
    return rows_of(head, rows)


def _short(value):
    return f"{value:.3f}" if value >= 0.01 else f"{value:.1e}"


def _training(results):
    head = "d", "rate", "scores", "loss, first chunk", "loss, last chunk", "test accuracy"
    head = *head, "median norm, start", "median norm, end", "largest weight, end", "pull, first chunk"
    rows = []
    for row in results["training"]:
        loss, pull = numbers(row["loss"]).mean(0), numbers(row["pull"]).mean(0)
        norm, largest = numbers(row["gradient_median"]).mean(0), numbers(row["largest_weight"]).mean(0)
        accuracy = numbers(row["accuracy"])[:, -1].mean()
        last = f"{accuracy:.3f}", _short(norm[0]), _short(norm[-1]), f"{largest[-1]:.2f}", f"{pull[0]:.3f}"
        rows.append(
            (
                f"{row['dimension']}",
                f"{row['rate']:g}",
                NAMES[row["scores"]],
                f"{loss[0]:.3f}",
                f"{loss[-1]:.3f}",
                *last,
            )
        )
    return rows_of(head, rows)
