"""Classes drawn beforehand, and the tables to draw from. Tables are built on the host, with NumPy."""

import functools
from typing import NamedTuple

import numpy as np
from jax import Array


class Candidates(NamedTuple):
    """Classes that stand for all V of them in a sampled loss, and how often each was expected: a pytree of arrays.

    Args:
      ids: integers [S], one set for all examples; or [..., S] with the shape of the labels in front, one for each. One
        that is no class makes losses NaN.
      log_expected_count: real [V], or [..., V] with one row for each example: the logarithm of how often a set holds
        each class on average; of the probability that it does where classes are drawn without replacement. −inf for a
        class that is never drawn.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> mine = jsoftmax.Candidates(jnp.array([0, 2]), jnp.log(jnp.array([0.9, 0.3, 0.6, 0.2])))
      >>> jsoftmax.sampled_softmax_loss(jnp.ones((1, 2)), jnp.zeros((2, 4)), jnp.array([1]), mine)
      Array([0.6061358], dtype=float32)
    """

    ids: Array | np.ndarray
    log_expected_count: Array | np.ndarray


@functools.lru_cache(maxsize=8)
def log_uniform(classes: int) -> np.ndarray:
    """p_k = log(1 + 1 / (k + 1)) / log(V + 1)."""
    return np.log1p(1 / np.arange(1.0, classes + 1)) / np.log1p(classes)


def distorted(counts: np.ndarray, distortion: float) -> np.ndarray:
    """p_k ∝ counts^distortion; 0 where nothing was counted."""
    occurs = counts > 0
    scaled = np.log(counts, where=occurs, out=np.zeros_like(counts)) * distortion
    p = np.where(occurs, np.exp(scaled - scaled.max(where=occurs, initial=-np.inf)), 0)
    return p / p.sum()


def alias_table(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(thresholds uint32, aliases int32): slot k, drawn evenly, stands for k below its threshold, else for its alias.

    Slots with less than their share fill up from those with more, in turn. One that has given too much is filled up
    from the next: what was missing up to some slot has to be what was given up to some other, so that running sums tell
    all pairs at once.
    """
    n = len(p)
    share = p * n
    light, heavy = np.flatnonzero(share < 1), np.flatnonzero(share >= 1)
    kept, alias = np.ones(n), np.arange(n)
    missing, given = np.cumsum(1 - share[light]), np.cumsum(share[heavy] - 1)
    before = missing - (1 - share[light])
    kept[light] = share[light]
    alias[light] = heavy[np.minimum(np.searchsorted(given, before, side="right"), len(heavy) - 1)]
    # of each but the last the slot in which it gives the rest, unless that one begins with the next
    through = np.searchsorted(missing, given[:-1], side="right")
    reaches = through < len(light)
    through, giver, all_given = through[reaches], np.flatnonzero(reaches), given[:-1][reaches]
    over = before[through] < all_given
    kept[heavy[giver[over]]] = 1 - (missing[through[over]] - all_given[over])
    alias[heavy[giver[over]]] = heavy[giver[over] + 1]
    whole = kept >= 1
    alias[whole] = np.flatnonzero(whole)
    thresholds = np.floor(np.clip(kept, 0, 1) * 2.0**32)
    return np.minimum(thresholds, 2**32 - 1).astype(np.uint32), alias.astype(np.int32)
