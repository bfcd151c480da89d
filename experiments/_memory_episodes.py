"""Memories out of real text: a word is the key of the word behind it; those of the test were never keys in training."""

import itertools
import re
from typing import NamedTuple

import numpy as np

from experiments._passages import frequencies, trigrams, vectors
from experiments._text import passages

HELD_OUT = 5  # one word of so many
LETTERS = 4  # of a key, at least: shorter ones are everywhere


class Text(NamedTuple):
    """Words with their spelling, and pairs (key, value) of words in the order of the text."""

    words: list[str]
    features: np.ndarray  # [V, F] float32: letter trigrams, each row of length 1
    training: np.ndarray  # [P, 2] int32
    held_out: np.ndarray  # [P', 2]: no key is one of the training's


class Episodes(NamedTuple):
    """Memories and what is asked of them."""

    keys: np.ndarray  # [B, M] words
    values: np.ndarray  # [B, M]
    asked: np.ndarray  # [B, Q] slots
    kept: np.ndarray  # [B, Q, F] bool: the trigrams of the query that are left of those of its key


def load(corpus, features):
    running = [re.findall(r"[a-z]+", text.lower()) for text in passages(corpus)]
    words = sorted({word for line in running for word in line})
    number = {word: i for i, word in enumerate(words)}
    counts, apart = trigrams(words), np.arange(len(words)) % HELD_OUT == HELD_OUT - 1
    present, texts = frequencies([counts], apart, features)
    known, weight = {trigram: i for i, trigram in enumerate(present)}, np.log(texts / np.array([*present.values()]))
    pairs = [(number[k], number[v]) for line in running for k, v in itertools.pairwise(line)]
    pairs = np.int32([(k, v) for k, v in pairs if len(words[k]) >= LETTERS])
    unseen = apart[pairs[:, 0]]
    return Text(words, vectors(counts, known, weight), pairs[~unseen], pairs[unseen])


def drawn(rng, text, pairs, size, *, memories, queries, share):
    """`Episodes` with so many slots: a passage each, whose keys are distinct and whose values are."""
    taken = np.stack([_distinct(pairs, rng.integers(len(pairs)), size) for _ in range(memories)])
    asked = rng.integers(size, size=(memories, queries))
    kept = rng.random((memories, queries, text.features.shape[1]), np.float32) < share
    return Episodes(taken[..., 0], taken[..., 1], asked.astype(np.int32), kept)


def _distinct(pairs, start, size):
    """The next pairs from there, round the end, without those of which the key or the value is there already."""
    keys, values, found = set(), set(), []
    for i in range(len(pairs)):
        key, value = pairs[(start + i) % len(pairs)].tolist()
        if key not in keys and value not in values:
            keys.add(key)
            values.add(value)
            found.append((key, value))
            if len(found) == size:
                return np.int32(found)
    raise ValueError(f"The text has {len(found)} distinct pairs, and {size} are asked for.")
