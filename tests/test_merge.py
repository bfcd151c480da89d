"""The merge rule: statistics of two disjoint sets of classes give those of the union, in any order and grouping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsoftmax._partition import merge as merging
from jsoftmax._partition import statistics as partition
from tests import tolerance

INF = np.inf
merge = jax.jit(merging.merge)
PIECES = {
    "distinct": ([1.0, 2.0], [3.0, 0.5], [2.5]),
    "tie across": ([1.0, 3.0], [3.0, 0.0], [3.0]),  # a tie in every piece: counted once each
    "empty first": ([-INF, -INF], [1.0, 2.0], [0.0]),  # no exponential of a difference of infinities
    "empty last": ([1.0, 2.0], [0.0], [-INF]),
    "all empty": ([-INF], [-INF, -INF], [-INF]),
    "negative, beside an empty": ([-5.0, -7.0], [-INF], [-6.0]),  # the empty's peak 0 leads nowhere
    "positive, beside an empty": ([5.0, 7.0], [-INF], [6.0]),
    "confident": ([0.0], [-20.0], [-40.0]),  # 2e-9 survives beside 1
    "huge": ([3e38], [-3e38], [0.0]),
    "nan": ([1.0], [np.nan], [2.0]),
    "inf": ([1.0, INF], [5.0], [2.0]),
}


@jax.jit
def statistics(x, beta):
    return partition.statistics(x, beta, None, (0,))


def pair(x, beta):
    return statistics(jnp.asarray(x, jnp.float32), jnp.full((1,), beta, jnp.float32))


@pytest.mark.parametrize("beta", [1.0, -0.7, 0.0, INF, -INF])
@pytest.mark.parametrize("name", PIECES)
def test_merge_is_the_statistics_of_the_union(name, beta):
    pieces = PIECES[name]
    whole = pair(np.concatenate(pieces), beta)
    a, b, c = (pair(p, beta) for p in pieces)
    b_row = jnp.full((1,), beta, jnp.float32)
    for merged in (
        merge(merge(a, b, b_row), c, b_row),
        merge(a, merge(b, c, b_row), b_row),
        merge(c, merge(b, a, b_row), b_row),
    ):
        excess = np.asarray(whole.excess, np.float64)
        tolerance.check(merged.excess, excess, np.float32, tolerance.MERGE, f"excess of {name} at {beta}")
        if excess > -1:  # an empty set has no peak
            assert np.array_equal(merged.peak, whole.peak)
