"""Retrieval of real text by contrastive cross-entropy: what β does, and where a learned one goes.

python -m experiments.retrieval              trains for each β and with a learned one, results/retrieval.json, figures
python -m experiments.retrieval --smoke      the same in a few seconds: fewer β, steps and features
python -m experiments.retrieval --corpus bible      verses instead of paragraphs
python -m experiments.retrieval --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _passages as passages
from experiments._results import plain, provenance, read_json, write_json
from experiments._retrieval_figures import draw
from experiments._retrieval_table import examples, table
from experiments._retrieval_training import judged, ranks, train


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the retrieval experiment."""

    out: Path = Path(__file__).parent / "results"
    """Folder for retrieval.json and the figures; retrieval_bible.json for that corpus."""
    seed: int = 0
    """Initial tower; order of the pairs; features left out."""
    smoke: bool = False
    """A few seconds: fewer β, steps and features."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    corpus: Literal["pydoc", "bible", "lee"] = "pydoc"
    """Topics of Python's manual; the King James Bible (apt install bible-kjv); Australian news (pip install gensim)."""
    least: int = 12
    """Words of a passage, at least."""
    features: int = 4096
    """Letter trigrams, at most."""
    betas: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    """Fixed ones; after them β is learned."""
    dimension: int = 128
    batch: int = 256
    steps: int = 300
    learning_rate: float = 1e-2
    kept: float = 0.5
    """Share of the features of a text that a step sees."""
    recalls: tuple[int, ...] = (1, 5, 10)
    asked: int = 4
    """Queries whose documents are written down."""
    shown: int = 3
    """Documents of each."""


SMOKE = {"betas": (2.0, 16.0), "features": 1024, "dimension": 64, "batch": 128, "steps": 60, "asked": 2}


def recall(rank, recalls):
    return {f"recall_at_{k}": np.mean(rank < k) for k in recalls}


def untrained(config, pairs):
    """What the features find by themselves: cosines of TF-IDF."""
    cosines = pairs.queries.features @ pairs.documents.features.T
    return recall(ranks(cosines), config.recalls)


def trained(config, training, held_out):
    """Yields what is in the JSON of each β; of the last, the learned one, what it finds."""
    for beta in tqdm([*config.betas, None], desc="retrieval", unit="β"):
        name = "learned" if beta is None else f"{beta:g}"
        found = train(config, training, beta, f"β {name}")
        last = np.float32(found.beta[-1])
        cosines, loss = judged(found.tower, held_out.queries.features, held_out.documents.features, last)
        row = {
            "name": name,
            "beta": last,
            **recall(ranks(np.asarray(cosines)), config.recalls),
            "held_out_loss": np.asarray(loss),
            "loss": np.float32(found.loss),
            "seconds_a_step": found.seconds,
        }
        if beta is None:
            row |= {"course": np.float32(found.beta), "examples": retrieved(config, held_out, np.asarray(cosines))}
        yield row


def retrieved(config, pairs, cosines):
    """Some queries, evenly spread over the text: the nearest documents, and how many are nearer than the own."""
    rank = ranks(cosines)
    asked = np.linspace(0, len(rank) - 1, config.asked + 2).astype(int)[1:-1]
    return [
        {
            "query": pairs.queries.texts[i],
            "own": pairs.documents.texts[i],
            "nearer": rank[i],
            "nearest": [pairs.documents.texts[j] for j in np.argsort(-cosines[i])[: config.shown]],
        }
        for i in asked
    ]


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    training, held_out = passages.load(used.corpus, used.least, used.features)
    results = {
        "run": provenance("experiments.retrieval", config, used),
        "corpus": {
            "name": used.corpus,
            "pairs": {"training": len(training.queries.texts), "held_out": len(held_out.queries.texts)},
            "features": training.queries.features.shape[1],
        },
        "untrained": untrained(used, held_out),
        "training": [],
    }
    for row in trained(used, training, held_out):
        results["training"].append(plain(row))
        write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    stem = "retrieval" if config.corpus == "pydoc" else f"retrieval_{config.corpus}"
    path = config.out / f"{stem}.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        results = run(config, dataclasses.replace(config, **SMOKE) if config.smoke else config, path)
        took = f"{time.perf_counter() - started:.0f} s, results in {path}"
        print(table(results), examples(results), took, sep="\n\n")
    for figure in draw(results, config.out, stem):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
