"""Candidates: what is drawn has the probabilities that are said, and expected counts are exact.

Draws of a fixed key are compared with their law by tests of significance 1/1000.
"""

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jsoftmax
from jsoftmax._core import candidates
from tests import tolerance

COMPILE_LIGHTLY = "fast lane"
KEY = jax.random.key(3)
COUNTS = np.array([50, 0, 20, 15, 10, 5], np.float64)
SAMPLERS = {
    "log uniform": lambda key, **draws: jsoftmax.log_uniform_sampler(key, num_classes=6, **draws),
    "uniform": lambda key, **draws: jsoftmax.uniform_sampler(key, num_classes=6, **draws),
    "unigram": lambda key, **draws: jsoftmax.unigram_sampler(key, COUNTS, distortion=0.75, **draws),
}
LAWS = {
    "log uniform": np.log1p(1 / np.arange(1, 7)) / np.log(7),
    "uniform": np.full(6, 1 / 6),
    "unigram": COUNTS**0.75 / np.sum(COUNTS**0.75),
}
# of the log-uniform distribution over 8 classes: the first is expected 1.26 times among 4 draws
ZIPF = [0.31546488, 0.18453512, 0.13092975, 0.10155701, 0.08297812, 0.070157, 0.06077276, 0.05360537]
each_law = pytest.mark.parametrize("law", LAWS)


def likely(counts, p):
    return scipy.stats.chisquare(counts[p > 0], counts.sum() * p[p > 0]).pvalue > 1 / 1000


def test_printed_digits():
    drawn = jsoftmax.log_uniform_sampler(KEY, num_sampled=4, num_classes=8, unique=False)
    q = np.exp(np.float64(drawn.log_expected_count))
    assert np.abs(q / 4 - ZIPF).max() < 3 * 2.0**-26  # float32, and half a printed digit
    tolerance.check(
        drawn.log_expected_count[:1], np.log([1.261859507]), np.float32, tolerance.Bound(4), "count", scale=1
    )


@settings(max_examples=60, deadline=None)
@example([3, 4, 0, 0, 0, 0, 0, 0])
@given(st.lists(st.integers(0, 1000) | st.sampled_from([0, 1, 2**40]), min_size=1, max_size=40))
def test_an_alias_table_has_the_law_it_is_made_of(counts):
    """The slots' shares added up; whole ones, and sums that come out even, are where running sums go wrong."""
    counts = np.array(counts, np.float64)
    counts[0] += 1
    p, n = counts / counts.sum(), len(counts)
    thresholds, aliases = candidates.alias_table(p)
    kept = np.where(aliases == np.arange(n), 1, thresholds / 2.0**32) / n
    found = kept.copy()
    np.add.at(found, aliases, 1 / n - kept)
    assert np.abs(found - p).max() <= 2.0**-31 and np.all(found[p == 0] == 0)


@each_law
def test_draws_with_replacement(law):
    p = LAWS[law]
    drawn = SAMPLERS[law](KEY, num_sampled=8, unique=False, batch_shape=(50, 100))
    assert drawn.ids.shape == (50, 100, 8) and drawn.ids.dtype == np.int32
    assert likely(np.bincount(np.ravel(drawn.ids), minlength=6), p)
    with np.errstate(divide="ignore"):
        expected = np.log(8 * p)
    tolerance.check(drawn.log_expected_count, expected, np.float32, tolerance.Bound(4), law, scale=1)


def subsets(p, size):
    """(classes, probability) of all ways to draw `size` different classes one after another."""
    ways = [((), 1.0)]
    for _ in range(size):
        ways = [((*w, k), q * p[k] / (1 - sum(p[i] for i in w))) for w, q in ways for k in range(len(p)) if k not in w]
    return ways


@each_law
@pytest.mark.parametrize("size", [1, 3])
def test_draws_without_replacement(law, size):
    """How often each class is among them, and that 1 / q makes of it 1 on average, to 4 standard errors."""
    p, sets = LAWS[law], 20_000
    drawn = SAMPLERS[law](KEY, num_sampled=size, batch_shape=(sets,))
    assert drawn.ids.shape == (sets, size) and drawn.log_expected_count.shape == (sets, 6)
    there = np.any(np.asarray(drawn.ids)[..., None] == np.arange(6), 1)
    assert np.all(there.sum(1) == size)
    included = np.zeros(6)
    for way, probability in subsets(p, size):
        included[list(way)] += probability
    occurs = p > 0
    error = np.sqrt(included * (1 - included) / sets)
    assert np.all(np.abs(there.mean(0) - included)[occurs] <= 4 * error[occurs])
    q = np.exp(np.float64(drawn.log_expected_count))
    assert np.all(q[:, ~occurs] == 0) and not there[:, ~occurs].any() and np.all(q <= 1)
    once = there[:, occurs] / q[:, occurs]
    assert np.all(np.abs(once.mean(0) - 1) <= 4 * once.std(0) / np.sqrt(sets))


@each_law
def test_the_first_to_come_is_drawn_by_its_probability(law):
    drawn = SAMPLERS[law](KEY, num_sampled=3, batch_shape=(20_000,))
    assert likely(np.bincount(drawn.ids[:, 0], minlength=6), LAWS[law])


def test_all_of_them_are_there_once():
    for drawn in (
        jsoftmax.uniform_sampler(KEY, num_sampled=6, num_classes=6),
        jsoftmax.log_uniform_sampler(KEY, num_sampled=6, num_classes=6),
        jsoftmax.all_classes(6),
    ):
        assert sorted(drawn.ids.tolist()) == list(range(6)) and np.all(drawn.log_expected_count == 0)
    five = jsoftmax.unigram_sampler(KEY, COUNTS, num_sampled=5)
    assert 1 not in five.ids and five.log_expected_count.tolist() == [0, -np.inf, 0, 0, 0, 0]


def test_rare_classes_have_small_counts_that_are_not_0():
    """1 in 10³⁰ is below what exp and a rounding of 1 leave of the probability; where it is small it is p τ."""
    counts = np.array([1.0, 1e-30, 1e-8])
    drawn = jsoftmax.unigram_sampler(KEY, counts, num_sampled=1)
    assert drawn.ids.tolist() == [0]
    tau = -np.log1p(-np.exp(np.float64(drawn.log_expected_count[2]))) * 1e8
    expected = np.log([tau * 1e-30])
    tolerance.check(drawn.log_expected_count[1:2], expected, np.float32, tolerance.Bound(8), "rare", scale=100)
    again = jsoftmax.unigram_sampler(KEY, counts, num_sampled=1, unique=False)
    tolerance.check(again.log_expected_count, np.log(counts), np.float32, tolerance.Bound(4), "rare", scale=1)


@pytest.mark.parametrize("unique", [True, False])
def test_the_same_key_draws_the_same(unique):
    draw = lambda key: jsoftmax.log_uniform_sampler(key, num_sampled=5, num_classes=40, unique=unique)  # noqa: E731
    one, jitted = draw(KEY), jax.jit(draw)(KEY)
    assert all(np.array_equal(a, b) for a, b in zip(one, jitted, strict=True))
    assert not np.array_equal(one.ids, draw(jax.random.key(4)).ids)
    assert np.array_equal(jax.vmap(draw)(KEY[None]).ids[0], one.ids)
    raw = draw(jax.random.PRNGKey(3))
    assert np.array_equal(raw.ids, one.ids)


def test_double_precision():
    with jax.enable_x64(True):
        drawn = jsoftmax.log_uniform_sampler(KEY, num_sampled=4, num_classes=8, unique=False)
        expected = np.log(4 * np.log1p(1 / np.arange(1.0, 9)) / np.log(9))
        tolerance.check(drawn.log_expected_count, expected, np.float64, tolerance.Bound(4), "wide", scale=1)
        assert jsoftmax.all_classes(3).log_expected_count.dtype == np.float64
