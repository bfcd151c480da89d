"""A language model on real text learns under the loss that never holds its logits, and under the dense one.

python -m experiments.language_model              trains three times, measures, results/language_model.json, figures
python -m experiments.language_model --smoke      the same in a few seconds: a smaller model, smaller layers
python -m experiments.language_model --corpus bible --vocabulary 8192 --rounds 0      another text, no measurement
python -m experiments.language_model --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _text as text
from experiments._language_figures import draw
from experiments._language_table import table
from experiments._language_training import losses_of, train, unigram_loss
from experiments._layer_costs import measure
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the language model."""

    out: Path = Path(__file__).parent / "results"
    """Folder for language_model.json and the figures; language_model_bible.json for that corpus."""
    seed: int = 0
    """Initial weights; order of the windows."""
    smoke: bool = False
    """A few seconds: a smaller model, smaller layers."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    corpus: Literal["pydoc", "bible"] = "pydoc"
    """Topics of Python's manual, or the King James Bible where its command is installed (apt install bible-kjv)."""
    vocabulary: int = 4096
    """Words, the most frequent ones; others are one more, and so is the start of a document."""
    length: int = 64
    """Words of a window."""
    width: int = 128
    layers: int = 2
    steps: int = 800
    batch: int = 8
    """Windows of a step."""
    learning_rate: float = 1e-3
    block: int = 128
    """Tokens that the fused loss takes at a time in training."""
    evaluations: int = 8
    """How often the held-out windows are judged."""
    tokens: int = 1024
    """Of the layer whose time and memory are measured; its features are `width`."""
    vocabularies: tuple[int, ...] = (2048, 8192, 32768, 131072)
    few_blocks: tuple[int, int] = (128, 4096)
    """Tokens of a block over all classes; classes of a block of all tokens: both are measured with each vocabulary."""
    swept: int = 32768
    """Classes of the layer whose blocks are swept."""
    token_blocks: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    class_blocks: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16384)
    rounds: int = 7
    """Of the measurement; 0 leaves it out."""


SMOKE = {
    "vocabulary": 256,
    "length": 16,
    "width": 32,
    "layers": 1,
    "steps": 300,
    "batch": 32,
    "learning_rate": 3e-3,
    "block": 32,
    "evaluations": 2,
    "tokens": 256,
    "vocabularies": (512, 1024),
    "few_blocks": (32, 128),
    "swept": 1024,
    "token_blocks": (32, 64),
    "class_blocks": (128, 256),
    "rounds": 2,
}


def described(name, corpus):
    """What the JSON says of the text."""
    held_out = corpus.labels[corpus.held_out]
    words = {"training": corpus.labels[~corpus.held_out], "held_out": held_out}
    unigram = unigram_loss(corpus)
    return {
        "name": name,
        "vocabulary": len(corpus.words),
        "most_frequent": corpus.words[2:12],
        "windows": {"training": np.sum(~corpus.held_out), "held_out": len(held_out)},
        "words": {part: np.sum(labels != text.IGNORED) for part, labels in words.items()},
        "padding": np.mean(corpus.labels == text.IGNORED),
        "unknown": np.sum(held_out == text.UNKNOWN) / np.sum(held_out != text.IGNORED),
        "unigram_perplexity": np.exp(unigram),
    }


def measured(config):
    """Yields the lists of what is measured so far: each vocabulary, then the blocks of one."""
    layers = [
        (classes, [None, config.few_blocks[0], (config.tokens, config.few_blocks[1])])
        for classes in config.vocabularies
    ]
    layers.append((config.swept, [*config.token_blocks, *((config.tokens, block) for block in config.class_blocks)]))
    finished = []
    for classes, blocks in tqdm(layers, desc="measuring", unit="layer"):
        for part in measure(config.tokens, config.width, classes, blocks, config.rounds):
            yield [*finished, part]
        finished.append(part)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    stem = "language_model" if config.corpus == "pydoc" else f"language_model_{config.corpus}"
    path = config.out / f"{stem}.json"
    if config.figures_only:
        results = read_json(path)
    else:
        used = dataclasses.replace(config, **SMOKE) if config.smoke else config
        corpus = text.load(used.corpus, used.vocabulary, used.length)
        results = {
            "run": provenance("experiments.language_model", config, used),
            "corpus": described(used.corpus, corpus),
            "training": [],
            "costs": [],
        }
        started = time.perf_counter()
        for name, loss in tqdm(losses_of(used.block).items(), desc="language model", unit="loss"):
            run = train(used, corpus, loss, name)
            perplexity = np.exp(run.held_out[-1][1])
            results["training"].append({"name": name, "perplexity": perplexity, **run._asdict()})
            write_json(path, results)
        for costs in measured(used) if used.rounds else ():
            results["costs"] = costs
            write_json(path, results)  # a run that is interrupted keeps its rounds
        results = plain(results)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out, stem):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
