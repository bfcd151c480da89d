"""The results of the retrieval as tables in Markdown, from their JSON alone; docs/retrieval.md holds them."""

import textwrap

from experiments._tables import document, rows_of


def table(results):
    return document([_corpus(results), _training(results)])


def _corpus(results):
    c = results["corpus"]
    numbers = (f"{c['pairs']['training']}", f"{c['pairs']['held_out']}", f"{c['features']}")
    return rows_of(("corpus", "training pairs", "held-out pairs", "letter trigrams"), [(c["name"], *numbers)])


def _training(results):
    recalls = results["run"]["settings"]["recalls"]
    head = "β", *(f"recall@{k}" for k in recalls), "held-out loss, nats", "last training loss", "ms a step"
    rows = [("TF-IDF, not trained", *_recalls(results["untrained"], recalls), "–", "–", "–")]
    for run in results["training"]:
        name = f"learned: {run['beta']:.1f}" if run["name"] == "learned" else run["name"]
        losses = f"{run['held_out_loss']:.3f}", f"{sum(run['loss'][-10:]) / 10:.3f}"
        rows.append((name, *_recalls(run, recalls), *losses, f"{1000 * run['seconds_a_step']:.0f}"))
    return rows_of(head, rows)


def _recalls(run, recalls):
    return [f"{run[f'recall_at_{k}']:.3f}" for k in recalls]


def examples(results):
    """What the tower with the learned β finds."""
    short = lambda text: textwrap.shorten(text, 100, placeholder=" …")  # noqa: E731
    blocks = []
    for example in results["training"][-1]["examples"]:
        nearest = [f"  {'*' if text == example['own'] else ' '} {short(text)}" for text in example["nearest"]]
        blocks.append([f"{short(example['query'])}   (own document: place {1 + example['nearer']})", *nearest])
    return document(blocks)
