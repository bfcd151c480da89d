"""The excess by blocks of classes, for XLA:CPU: one exponential for each logit, and no array of the logits' size.

XLA:CPU writes an array out that two sums read. Here one sum over every block is all that reads the exponentials; where
1 is to be left out, the one block that has it is looked up and summed again.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core.dtypes import wide
from jsoftmax._core.mesh import is_explicit
from jsoftmax._core.types import Axes, Labels, Logits, Mask, Rows
from jsoftmax._partition import classes, reference
from jsoftmax._partition.reference import Frame

# Log-sum-exp against that of `reference` on two cores: 3.2 times as fast at [4096, 4096], 2.8 at [1024, 32000], 1.6 at
# [65536, 512], 2.5 at [512, 50257], where the blocks are a copy; 0.8 at [1024, 1000]. In bfloat16 as slow, or slower.
LARGE = 2**21
BLOCK = 128
FUSED = 4096  # rows, from which on XLA:CPU fuses sums with what is made of them by element (0.10.2)


def fuses(x: Logits) -> bool:
    """Whether sums along the last axis and an elementwise result of them are one kernel already.

    log_softmax by blocks is then 1.5 times as slow at [65536, 512], 1.1 at [4096, 4096].
    """
    return math.prod(x.shape[:-1]) >= FUSED


def suits(x: Logits, where: Mask, axes: Axes) -> bool:
    """From shape, dtype and sharding type alone."""
    if where is not None or x.size < LARGE or x.dtype != wide(x.dtype) or is_explicit(x):
        return False
    return axes == (x.ndim - 1,) and x.shape[-1] >= 2 * BLOCK and not classes.few(x, axes)


def _block(size: int) -> int:
    """The divisor nearest to BLOCK, if one is near."""
    divisors = [d for d in range(BLOCK // 4, BLOCK * 8 + 1) if size % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / BLOCK)), default=BLOCK)


def excess_in(f: Frame, x: Logits) -> Rows:
    """s of `reference`, its formula (2), along the last axis."""
    sums, apart, rest = _split(f, x)
    chosen = jnp.argmax(sums >= 1, -1, keepdims=True).astype(jnp.int32)
    total = below = _others(sums, chosen)
    for part in (_at(apart, chosen), rest):
        e = reference.masses_in(f, part, None)
        total += jnp.sum(e, -1, keepdims=True)
        below += jnp.sum(e - jnp.floor(e), -1, keepdims=True)
    return reference.excess_from(below, total)


def rest_in(f: Frame, x: Logits, labels: Labels) -> Rows:
    """Σ exp(t) without the label's own, along the last axis; over all if that is no class."""
    sums, apart, rest = _split(f, x)
    count, block = apart.shape[-2:]
    chosen = jnp.clip(labels // block, 0, count - 1)
    total = _others(sums, chosen)
    for part, start in ((_at(apart, chosen), chosen * block), (rest, count * block)):
        index = start + lax.broadcasted_iota(jnp.int32, part.shape, part.ndim - 1)
        total += jnp.sum(jnp.where(index == labels, 0, reference.masses_in(f, part, None)), -1, keepdims=True)
    return total


def _split(f: Frame, x: Logits) -> tuple[Array, Logits, Logits]:
    """(Σ exp(t) of each block, the logits of the blocks on an axis of their own, the logits behind the last)."""
    block = _block(x.shape[-1])
    count = x.shape[-1] // block
    apart = lax.slice_in_dim(x, 0, count * block, axis=-1).reshape(*x.shape[:-1], count, block)
    of_block: Frame = jax.tree.map(lambda a: lax.expand_dims(a, (a.ndim,)), f)
    rest = lax.slice_in_dim(x, count * block, x.shape[-1], axis=-1)
    return jnp.sum(reference.masses_in(of_block, apart, None), -1), apart, rest


def _others(sums: Array, chosen: Array) -> Rows:
    """The sum over all blocks but the chosen one.

    What that one has is not taken off the sum of all: XLA would take that sum over the exponentials, which then have
    two readers.
    """
    here = lax.broadcasted_iota(jnp.int32, sums.shape, sums.ndim - 1) == chosen
    return jnp.sum(jnp.where(here, 0, sums), -1, keepdims=True)


def _at(apart: Logits, chosen: Rows) -> Logits:
    """The chosen block of each row, rows being batching dimensions as in `labels.take`."""
    rows = tuple(range(apart.ndim - 2))
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(len(rows),),
        collapsed_slice_dims=(len(rows),),
        start_index_map=(len(rows),),
        operand_batching_dims=rows,
        start_indices_batching_dims=rows,
    )
    sizes = (1,) * (len(rows) + 1) + (apart.shape[-1],)
    return lax.gather(apart, chosen, numbers, sizes, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
