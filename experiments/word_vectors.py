"""Skip-gram word vectors on real text under every loss for large vocabularies: what each costs, and what it finds.

python -m experiments.word_vectors              trains, measures, results/word_vectors.json, figures
python -m experiments.word_vectors --smoke      the same in a few seconds: fewer words, steps and methods
python -m experiments.word_vectors --corpus lee --no-measured      another text, the training only
python -m experiments.word_vectors --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import tyro
from tqdm import tqdm

from experiments import _word_bias as bias
from experiments import _word_costs as costs
from experiments import _word_methods as methods
from experiments import _word_pairs as pairs
from experiments._results import plain, provenance, read_json, write_json
from experiments._word_figures import draw
from experiments._word_neighbours import LEFT_OUT, neighbours, similarity
from experiments._word_table import table
from experiments._word_training import train


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the word vectors."""

    out: Path = Path(__file__).parent / "results"
    """Folder for word_vectors.json and the figures; word_vectors_lee.json for that corpus."""
    seed: int = 0
    """Initial vectors; order of the pairs; candidates."""
    smoke: bool = False
    """A few seconds: fewer words, steps and methods."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    corpus: Literal["pydoc", "bible", "lee"] = "pydoc"
    """Topics of Python's manual; the King James Bible (apt install bible-kjv); Australian news (pip install gensim)."""
    least: int = 2
    """How often a word is in the training text, at least."""
    length: int = 64
    """Words of a window; every tenth is held out."""
    radius: int = 3
    """How many words apart neighbours are, at most."""
    methods: tuple[str, ...] = methods.METHODS
    width: int = 64
    batch: int = 512
    """Pairs of a step."""
    steps: int = 3000
    evaluations: int = 30
    """How often the held-out pairs are judged."""
    learning_rate: float = 0.15
    """Of Adagrad."""
    samples: int = 64
    """Candidates of a batch: sampled softmax, NCE and negative sampling."""
    distortion: float = 0.75
    """Power of the frequency by which the noise of NCE and negative sampling is drawn."""
    asked: int = 6
    """Words whose neighbours are looked for."""
    neighbours: int = 5
    measured: bool = True
    """Time of a step, and bias of the sampled gradient."""
    timed: tuple[str, ...] = tuple(costs.STEPS)
    vocabularies: tuple[int, ...] = (512, 2048, 8192, 32768, 131072)
    timed_batch: int = 512
    timed_width: int = 64
    timed_samples: int = 64
    rounds: int = 7
    bias_classes: int = 128
    """The most frequent words; a softmax over them alone is the model whose gradient is looked at."""
    bias_examples: int = 32
    variants: tuple[str, ...] = tuple(bias.VARIANTS)
    bias_sizes: tuple[int, ...] = (1, 4, 16, 32, 64, 96, 128, 256)
    """Candidates; without replacement those that there are."""
    bias_keys: int = 16384
    """At most."""


SMOKE = {
    "least": 40,
    "length": 32,
    "radius": 2,
    "methods": tuple(name for name in methods.METHODS if name not in (methods.BALANCED, methods.NEGATIVE)),
    "width": 16,
    "batch": 256,
    "steps": 300,
    "evaluations": 3,
    "learning_rate": 0.3,
    "samples": 16,
    "timed": (costs.SAMPLED, costs.SAMPLED_ROWS),
    "vocabularies": (256,),
    "timed_batch": 32,
    "timed_width": 8,
    "timed_samples": 8,
    "rounds": 2,
    "bias_classes": 32,
    "bias_examples": 8,
    "variants": ("without replacement",),
    "bias_sizes": (2, 8, 32),
    "bias_keys": 4096,
}


def described(name, words):
    """What the JSON says of the text."""
    return {
        "name": name,
        "vocabulary": len(words.names),
        "most_frequent": words.names[:10],
        "pairs": {"training": len(words.training), "held_out": len(words.held_out)},
        "unigram_loss": pairs.unigram_loss(words),
    }


def trained(config, words):
    """Yields (what is in the JSON of a method, its parameters)."""
    every = methods.methods_of(words.counts, config.width, config.samples, config.distortion)
    for name in tqdm(config.methods, desc="word vectors", unit="method"):
        run = train(config, words, every[name], name)
        yield (
            {
                "name": name,
                "mass_error": run.mass_error,
                "seconds_a_step": run.held_out[-1].seconds / run.held_out[-1].step,
                "held_out": [judged._asdict() for judged in run.held_out],
                "neighbours": neighbours(words.names, run.parameters[0], config.asked, config.neighbours),
                "similarity": similarity(words.names, run.parameters[0]),
            },
            run.parameters,
        )


def measured(config, words, parameters):
    """Yields (name in the JSON, what is measured of it so far)."""
    yield from (("costs", part) for part in costs.measure(config))
    yield from (("bias", part) for part in bias.measure(config, words, parameters))


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    words = pairs.load(used.corpus, used.least, used.length, used.radius)
    results = {
        "run": provenance("experiments.word_vectors", config, used),
        "corpus": described(used.corpus, words),
        "training": [],
        "costs": [],
        "bias": [],
    }
    whole = None
    for found, parameters in trained(used, words):
        whole = parameters if found["name"] == methods.FULL else whole
        results["training"].append(found)
        write_json(path, results)
    if results["training"][0]["similarity"] is None:
        results["similarity"] = LEFT_OUT
    for name, part in measured(used, words, whole) if used.measured else ():
        results[name] = part
        write_json(path, results)
    write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    stem = "word_vectors" if config.corpus == "pydoc" else f"word_vectors_{config.corpus}"
    path = config.out / f"{stem}.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        results = run(config, dataclasses.replace(config, **SMOKE) if config.smoke else config, path)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out, stem):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
