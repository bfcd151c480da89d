"""Text as windows of word numbers, from what is installed: the topics of Python's own manual, the King James Bible out
of Debian's package, or the Lee news corpus out of gensim's. Nothing is downloaded.
"""

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from itertools import groupby
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import numpy as np

UNKNOWN, START = 0, 1  # the numbers of a word outside the vocabulary and of what stands before a document
IGNORED = -1
HELD_OUT = 10  # one window of so many


class Corpus(NamedTuple):
    """Windows of documents; one does not see the end of the one before it."""

    words: tuple[str, ...]  # the vocabulary, most frequent first
    inputs: np.ndarray  # [N, length] int32: the word before each label
    labels: np.ndarray  # [N, length] int32: IGNORED behind the end of a document
    held_out: np.ndarray  # [N] bool


def load(name, vocabulary, length):
    """The corpus "pydoc", "bible" or "lee" in the `vocabulary` most frequent words of its training windows."""
    documents = [re.findall(r"\w+|[^\w\s]+", text.lower()) for text in _SOURCES[name]()]
    texts = [part for words in documents for part in _windows(words, length)]
    held_out = np.arange(len(texts)) % HELD_OUT == HELD_OUT - 1
    count = Counter(w for (_, words), held in zip(texts, held_out, strict=True) if not held for w in words)
    common = sorted(count, key=lambda word: (-count[word], word))[: vocabulary - 2]
    words = ("<unknown>", "<start>", *common)
    number = {word: i for i, word in enumerate(words)}
    inputs, labels = np.full((len(texts), length), START, np.int32), np.full((len(texts), length), IGNORED, np.int32)
    for i, (before, part) in enumerate(texts):
        labels[i, : len(part)] = [number.get(word, UNKNOWN) for word in part]
        inputs[i, 0] = START if before is None else number.get(before, UNKNOWN)
        inputs[i, 1 : len(part)] = labels[i, : len(part) - 1]
    return Corpus(words, inputs, labels, held_out)


def passages(name):
    """Paragraphs of the topics, verses of the Bible, or news."""
    return [line for text in _SOURCES[name]() for line in text.splitlines()]


def _windows(words, length):
    """(word before, at most `length` words), one window after the other."""
    for i in range(0, len(words), length):
        yield words[i - 1] if i else None, words[i : i + length]


def _topics():
    """Of the topics, each paragraph once: some topics quote others in full, and the held-out part must be unseen."""
    seen = set()
    for name in sorted(topics):
        paragraphs = [" ".join(text.split()) for text in re.split(r"\n\s*\n", topics[name])]
        new = [text for text in dict.fromkeys(paragraphs) if text not in seen]
        seen.update(new)
        yield "\n".join(new)


def _chapters():
    command = shutil.which("bible")
    if command is None:
        raise FileNotFoundError("The King James Bible is read with the command `bible`: apt install bible-kjv.")
    verses = subprocess.run([command, "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True).stdout
    for _, chapter in groupby(verses.splitlines(), key=lambda verse: verse.partition(":")[0]):
        yield "\n".join(verse.partition(" ")[2] for verse in chapter)


def _news():
    folder = gensim_data()
    if folder is None:
        raise FileNotFoundError("The Lee news corpus is part of gensim: pip install gensim.")
    return (folder / "lee_background.cor").read_text(encoding="utf-8").splitlines()


_SOURCES = {"pydoc": _topics, "bible": _chapters, "lee": _news}


def gensim_data():
    """The folder of gensim's test data; None where gensim is not installed. It is not imported."""
    found = importlib.util.find_spec("gensim")
    return None if found is None else Path(found.origin).parent / "test" / "test_data"
