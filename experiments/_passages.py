"""Pairs of texts that belong together: the halves of a passage, as counts of letter trigrams. Nothing is downloaded."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from experiments._text import passages

HELD_OUT = 5  # one passage of so many


class Side(NamedTuple):
    """Halves, one way or the other."""

    texts: list[str]
    features: np.ndarray  # [N, F] float32, each row of length 1


class Pairs(NamedTuple):
    """Row i of the documents belongs to row i of the queries."""

    queries: Side
    documents: Side


def load(corpus, least, features):
    """(training, held out) of the passages with at least so many words: their first halves ask for their second."""
    halves = unlike([halved(text) for text in passages(corpus) if len(text.split()) >= least])
    held_out = np.arange(len(halves)) % HELD_OUT == HELD_OUT - 1
    queries, documents = zip(*halves, strict=True)
    counts = [trigrams(texts) for texts in (queries, documents)]
    present, texts = frequencies(counts, held_out, features)
    known, weight = {trigram: i for i, trigram in enumerate(present)}, np.log(texts / np.array([*present.values()]))
    sides = [Side(texts, vectors(c, known, weight)) for texts, c in zip((queries, documents), counts, strict=True)]
    return [Pairs(*(_chosen(side, part) for side in sides)) for part in (~held_out, held_out)]


def _chosen(side, part):
    return Side([text for text, here in zip(side.texts, part, strict=True) if here], side.features[part])


def halved(text):
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def unlike(halves):
    """Those of which neither half was there before: a held-out half is unseen, and a document answers one query."""
    seen, kept = set(), []
    for pair in halves:
        if not seen & set(pair):
            kept.append(pair)
        seen.update(pair)
    return kept


def trigrams(texts):
    """The count of each trigram of each text; a word has # before and behind it."""
    marked = [[f"#{word}#" for word in re.findall(r"\w+", text.lower())] for text in texts]
    return [Counter(word[i : i + 3] for word in words for i in range(len(word) - 2)) for words in marked]


def frequencies(counts, held_out, features):
    """({trigram: in how many training texts it is} of those in the most, how many texts there are)."""
    training = [count for side in counts for count, held in zip(side, held_out, strict=True) if not held]
    present = Counter(trigram for count in training for trigram in count)
    common = sorted(present, key=lambda trigram: (-present[trigram], trigram))[:features]
    return {trigram: present[trigram] for trigram in common}, len(training)


def vectors(counts, known, weight):
    """(1 + log count) times the weight; TF-IDF, of length 1."""
    rows = np.zeros((len(counts), len(known)))
    for row, count in zip(rows, counts, strict=True):
        for trigram, times in count.items():
            if trigram in known:
                row[known[trigram]] = (1 + np.log(times)) * weight[known[trigram]]
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
