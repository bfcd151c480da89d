"""Skip-gram pairs of a text: a word, and one that stands near it. Windows of text are held out whole."""

from typing import NamedTuple

import numpy as np

from experiments import _text as text


class Words(NamedTuple):
    """A vocabulary, and which of its words stand near which."""

    names: tuple[str, ...]  # V, in falling frequency
    counts: np.ndarray  # [V]: how often each is there in the training windows
    training: np.ndarray  # [N, 2] int32: word, neighbour
    held_out: np.ndarray  # [M, 2]


def load(corpus, least, length, radius):
    """Words that the training windows have `least` times; neighbours are at most `radius` words apart."""
    windows = text.load(corpus, EVERY, length)
    training = windows.labels[~windows.held_out]
    counts = np.bincount(training[training != text.IGNORED], minlength=len(windows.words))
    kept = [i for i, word in enumerate(windows.words) if counts[i] >= least and word[0].isalnum()]
    number = np.full(len(windows.words) + 1, -1)  # one more for text.IGNORED, which is −1
    number[kept] = np.arange(len(kept))
    parts = (number[windows.labels[windows.held_out == held]] for held in (False, True))
    pairs = (_pairs(part, radius) for part in parts)
    return Words(tuple(windows.words[i] for i in kept), counts[kept], *pairs)


EVERY = 10**9  # more words than a text has


def _pairs(windows, radius):
    """Words outside of the vocabulary are taken out first, so that a neighbour is the next one that counts."""
    found = []
    for window in windows:
        words = window[window >= 0]
        for apart in range(1, radius + 1):
            near = np.stack([words[:-apart], words[apart:]], 1)
            found += [near, near[:, ::-1]]
    return np.concatenate(found).astype(np.int32)


def unigram_loss(words):
    """Mean loss of the held-out neighbours under the frequency of each as a neighbour in training, plus one."""
    count = 1 + np.bincount(words.training[:, 1], minlength=len(words.names))
    return float(np.mean(np.log(count.sum() / count[words.held_out[:, 1]])))
