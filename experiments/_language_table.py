"""The results of the language model as tables in Markdown, from its JSON alone; docs/language_model.md holds them."""

import numpy as np

from experiments._results import numbers
from experiments._tables import document, rows_of


def difference(results, name):
    """Loss of the training `name` minus that of the dense one, of every step."""
    runs = {run["name"]: numbers(run["loss"]) for run in results["training"]}
    return runs[name] - runs["dense"]


def table(results):
    parts = [_corpus(results["corpus"]), _training(results)]
    if results["costs"]:
        *vocabularies, swept = results["costs"]
        parts += [_by_vocabulary(vocabularies), _by_block(swept)]
    return document(parts)


def _corpus(c):
    head = "corpus", "training words", "held-out words", "vocabulary", "unknown", "padding", "unigram perplexity"
    words = (f"{c['words'][part]:,}" for part in ("training", "held_out"))
    shares = (f"{100 * c[name]:.1f} %" for name in ("unknown", "padding"))
    return rows_of(head, [(c["name"], *words, f"{c['vocabulary']}", *shares, f"{c['unigram_perplexity']:.1f}")])


def _training(results):
    head = "loss", "held-out perplexity", "difference from dense: first step, largest", "ms a step"
    rows = []
    for run in results["training"]:
        apart = np.abs(difference(results, run["name"]))
        ms = 1000 * run["seconds_a_step"]
        rows.append((run["name"], f"{run['perplexity']:.3f}", f"{apart[0]:.1e}, {apart.max():.1e}", f"{ms:.0f}"))
    return rows_of(head, rows)


def _cost(program):
    ratio = "{median:.2f} ({p20:.2f}–{p80:.2f})".format(**program["ratio"])
    return f"{program['temporary_bytes'] / 1e6:.1f} MB", ratio


def _by_vocabulary(parts):
    dense, *fused = (p["name"] for p in parts[0]["programs"])
    rows = []
    for part in parts:
        memory, _ = _cost(part["programs"][0])
        ms = f"{1000 * part['programs'][0]['seconds']['median']:.0f} ms"
        rows.append((f"{part['classes']}", f"{memory}, {ms}", *(", ".join(_cost(p)) for p in part["programs"][1:])))
    return rows_of(("classes", dense, *(f"blocks: {name}" for name in fused)), rows)


def _by_block(part):
    return rows_of(
        (f"block, of {part['tokens']} × {part['classes']}", "temporaries", "time / dense (p20–p80)"),
        [(p["name"], *_cost(p)) for p in part["programs"]],
    )
