"""Candidates for the sampled losses: which classes, and how often each was to be expected among them.

With replacement S draws hold class w  S p_w  times on average. Without, the classes arrive at times T_w ~ Exp(p_w) of
their own, and the first S are taken. Be τ the time of the next one:

    P(w is among the first S | the times of the others)  =  P(T_w < τ)  =  1 − exp(−p_w τ)                        (1)

so that Σ over the candidates of f(w) / (1 − exp(−p_w τ)) has the mean Σ_w f(w), exactly (Duffield, Lund & Thorup 2007).
−log T_w is log p_w and a Gumbel variable.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import accurate, candidates, check
from jsoftmax._core.candidates import Candidates
from jsoftmax._core.labels import as_int32, is_class


def log_uniform_sampler(
    key: Array, *, num_sampled: int, num_classes: int, unique: bool = True, batch_shape: tuple[int, ...] = ()
) -> Candidates:
    """Candidates drawn by Zipf's law: p_k = log((k + 2) / (k + 1)) / log(V + 1), for classes in falling frequency.

    Args:
      key: of `jax.random`; the same key gives the same candidates.
      num_sampled: S, how many; without replacement at most V.
      num_classes: V.
      unique: without replacement.
      batch_shape: draws a set of candidates for each example, when it is the shape of the labels; () is one for all.

    Returns:
      `Candidates`: `ids` int32 [*batch_shape, S], and `log_expected_count` [V] of the default float. Without
      replacement that depends on the draw, and is [*batch_shape, V].

    Raises:
      TypeError: `num_sampled` or `num_classes` is no integer. ValueError: one of them below 1; S above V without
      replacement; a `batch_shape` that is none.

    References: Jean et al. (2015), arXiv:1412.2007 (sampled softmax); Duffield, Lund & Thorup (2007),
    doi:10.1145/1314690.1314696, and Kool, van Hoof & Welling (2019), arXiv:1903.06059 (expected counts without
    replacement). TensorFlow's take the number of tries for the time τ, and are not exact.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> drawn = jsoftmax.log_uniform_sampler(jax.random.key(0), num_sampled=4, num_classes=8, unique=False)
      >>> jnp.exp(drawn.log_expected_count[0])
      Array(1.2618594, dtype=float32)
    """
    classes, draws = check.sampling("log_uniform_sampler", num_sampled, num_classes, unique, batch_shape)
    return _drawn(key, candidates.log_uniform(classes), draws)


def uniform_sampler(
    key: Array,
    *,
    num_sampled: int,
    num_classes: int,
    unique: bool = True,
    batch_shape: tuple[int, ...] = (),
    include: ArrayLike | None = None,
) -> Candidates:
    """Candidates of which each class is as likely as any other: p_k = 1 / V.

    Args:
      key, num_sampled, num_classes, unique, batch_shape: as for `log_uniform_sampler`.
      include: integers of any shape, such as the labels of a batch: these classes are among the candidates whatever is
        drawn, and the others fill up (partial FC). What is no class counts for nothing. Without replacement, and for
        one set of candidates.

    Returns:
      `Candidates`, as `log_uniform_sampler`; the expected count of what is included is 1.

    Raises:
      TypeError: `num_sampled` or `num_classes` is no integer, or `include` are none. ValueError: one of them below 1; S
      above V without replacement; a `batch_shape` that is none; `include` with more entries than S, with replacement or
      with a `batch_shape`.

    References: as for `log_uniform_sampler`.

    Examples:
      >>> import jax, jsoftmax
      >>> jsoftmax.uniform_sampler(jax.random.key(0), num_sampled=3, num_classes=3).log_expected_count
      Array([0., 0., 0.], dtype=float32)
    """
    classes, draws = check.sampling("uniform_sampler", num_sampled, num_classes, unique, batch_shape)
    include = check.included("uniform_sampler", include, draws)
    return _drawn(key, np.full(classes, 1 / classes), draws, include)


def unigram_sampler(
    key: Array,
    counts: ArrayLike,
    *,
    num_sampled: int,
    distortion: float = 1.0,
    unique: bool = True,
    batch_shape: tuple[int, ...] = (),
) -> Candidates:
    """Candidates by how often each class occurs: p_k ∝ counts_k^distortion.

    Args:
      key: as for `log_uniform_sampler`.
      counts: V numbers ≥ 0, on the host; a class with 0 is never drawn, and its expected count is 0.
      num_sampled: S; without replacement at most as many as classes that occur.
      distortion: a finite number; 1 are the counts themselves, 0.75 is word2vec's, 0 makes all that occur alike.
      unique, batch_shape: as for `log_uniform_sampler`.

    Returns:
      `Candidates`, as `log_uniform_sampler`.

    Raises:
      TypeError: `counts` or `distortion` is not real, `num_sampled` no integer. ValueError: no class, or none that
      occurs; a negative, infinite or NaN count; `distortion` not finite; `num_sampled` below 1, or without replacement
      more than classes that occur; a `batch_shape` that is none.

    References: as for `log_uniform_sampler`; Walker (1977), doi:10.1145/355744.355749 (alias method, with replacement);
    Mikolov et al. (2013), arXiv:1310.4546 (distortion).

    Examples:
      >>> import jax, jsoftmax
      >>> jsoftmax.unigram_sampler(jax.random.key(0), [9, 0, 1], num_sampled=2).ids
      Array([0, 2], dtype=int32)
    """
    name = "unigram_sampler"
    given = check.occurring(name, counts)
    exponent = check.distortion(name, distortion)
    _, draws = check.sampling(name, num_sampled, np.count_nonzero(given), unique, batch_shape)
    return _drawn(key, candidates.distorted(given, exponent), draws)


def all_classes(num_classes: int) -> Candidates:
    """Every class as a candidate, once: with it `sampled_softmax_loss` is the cross-entropy of all classes.

    Args:
      num_classes: V.

    Returns:
      `Candidates`: `ids` 0 … V − 1, `log_expected_count` 0.

    Raises:
      TypeError: `num_classes` is no integer. ValueError: it is below 1.

    Examples:
      >>> import jsoftmax
      >>> jsoftmax.all_classes(3).ids
      Array([0, 1, 2], dtype=int32)
    """
    classes = check.size("all_classes", "num_classes", num_classes)
    return Candidates(jnp.arange(classes, dtype=jnp.int32), jnp.zeros(classes, float))


def _drawn(key: Array, p: np.ndarray, draws: tuple[int, bool, tuple[int, ...]], include: Any = None) -> Candidates:
    sampled, unique, batch = draws
    with np.errstate(divide="ignore"):
        log_p = np.log(p).astype(jnp.result_type(float))
    if unique:
        return _first_to_arrive(key, log_p, include, sampled, batch)
    ids = _from_table(key, *candidates.alias_table(p), (*batch, sampled))
    return Candidates(ids, jnp.asarray(log_p) + np.log(sampled).astype(log_p.dtype))


@functools.partial(jax.jit, static_argnums=3)
def _from_table(key: Any, thresholds: Any, aliases: Any, shape: tuple[int, ...]) -> Array:
    slot_key, bits_key = jax.random.split(key)
    slots = jax.random.randint(slot_key, shape, 0, thresholds.shape[0], jnp.int32)
    below = jax.random.bits(bits_key, shape, jnp.uint32) < thresholds[slots]
    return jnp.where(below, slots, aliases[slots])


@functools.partial(jax.jit, static_argnums=(3, 4))
def _first_to_arrive(key: Any, log_p: Any, include: Any, sampled: int, batch: tuple[int, ...]) -> Candidates:
    def of_one(key):
        # with the low tail of the uniform variables, for the first times are the small ones
        earliness = log_p + jax.random.gumbel(key, log_p.shape, log_p.dtype, mode="high")
        if include is not None:  # before all others
            classes = as_int32(jnp.asarray(include)).reshape(-1)
            classes = jnp.where(is_class(classes, log_p.shape[0]), classes, log_p.shape[0])
            earliness = earliness.at[classes].set(jnp.inf, mode="drop")
        # two slices of a sorted array would be taken for a reason to sort all of it: 37 ms and not 3 on CPU, V = 131072
        first, ids = lax.optimization_barrier(lax.top_k(earliness, min(sampled + 1, log_p.shape[0])))
        if sampled == log_p.shape[0]:
            return Candidates(ids, jnp.zeros_like(log_p))
        expected = jnp.where(log_p == -jnp.inf, log_p, log_p - first[sampled])  # log(p τ)
        mean = accurate.exp(expected)
        # (1); the logarithm of a mean that is hardly above 0 is the one at hand
        log_q = jnp.where(mean < 1e-30, expected, accurate.log(-accurate.expm1(-mean)))
        return Candidates(ids[:sampled], jnp.where(earliness == jnp.inf, 0, log_q))

    if not batch:
        return of_one(key)
    each = jax.vmap(of_one)(jax.random.split(key, math.prod(batch)))
    return Candidates(*(a.reshape(*batch, *a.shape[1:]) for a in each))
