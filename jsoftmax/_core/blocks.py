"""Blocks of an axis, and loops over them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def count(size: int, block: int) -> int:
    """Number of blocks of at most `block`; one of nothing."""
    return max(1, -(-size // block))


TOKENS, LOGITS = 512, 2**22  # a block has so many tokens, or as many as make so many logits where classes are few
CLASSES = 2**19  # more are cut
CUT = 1024, 2**15  # tokens and classes of a block then


def sizes(classes: int, given: tuple[int | None, int | None], cut: tuple[int, int] = CUT) -> tuple[int, int]:
    """(tokens, classes) of a block of logits: as given, or by the shape alone; `cut` where classes are very many.

    A block of 512 tokens over all classes takes 2 KiB a class in float32: as much as a weight of 512 features. Measured
    on CPU: products over fewer tokens do too little with the weight that they read.
    """
    tokens, part = given
    if tokens is None and part is None and classes > CLASSES:
        return cut
    return tokens or max(TOKENS, LOGITS // max(classes, 1)), min(part or classes, max(classes, 1))


def over_rows(
    f: Callable[..., Any], carry: Any, rows: Any, block: int, axis: int = 0, adjacent: bool = False
) -> tuple[Any, Any]:
    """f(carry, rows of a block) → (carry, results), block after block.

    `rows` is a tree of arrays with the rows on `axis`, or with size 1 there, and None. The blocks are equal, so there
    may be rows of zeros that are none. A block takes every so manieth row, so that rows spread over devices stay there,
    or `adjacent` ones.
    """
    size = max((a.shape[axis] for a in jax.tree.leaves(rows)), default=0)
    blocks = count(size, block)
    if blocks == 1:
        return f(carry, rows)
    each = -(-size // blocks)
    shape, of_block = ((blocks, each), axis) if adjacent else ((each, blocks), axis + 1)

    def cut(a):
        padding = [(0, each * blocks - size if i == axis else 0) for i in range(a.ndim)]
        a = jnp.pad(a, padding) if each * blocks != size else a
        return jnp.moveaxis(a.reshape(*a.shape[:axis], *shape, *a.shape[axis + 1 :]), of_block, 0)

    def join(a):
        a = jnp.moveaxis(a, 0, of_block)
        a = a.reshape(*a.shape[:axis], each * blocks, *a.shape[axis + 2 :])
        return lax.slice_in_dim(a, 0, size, axis=axis)

    leaves, tree = jax.tree.flatten(rows)
    split = [a.shape[axis] == size for a in leaves]

    def body(carry, taken):
        parts = iter(taken)
        found = [next(parts) if s else a for s, a in zip(split, leaves, strict=True)]
        return f(carry, jax.tree.unflatten(tree, found))

    carry, results = lax.scan(body, carry, [cut(a) for s, a in zip(split, leaves, strict=True) if s])
    return carry, jax.tree.map(join, results)


def over_slices(f: Callable[..., Any], carry: Any, size: int, block: int, needed: Any = None) -> Any:
    """f(carry, start, length) → carry for the blocks of range(size): equal ones in a loop, and what is left.

    If only the first `needed` matter, a number that may be traced, the loop ends there.
    """
    whole = size // block
    turns = whole if needed is None else jnp.minimum(whole, -(-needed // block))

    def body(k, carry):
        return f(carry, k * block, block)

    carry = lax.fori_loop(0, turns, body, carry) if whole > 1 else (f(carry, 0, block) if whole else carry)
    rest = size - whole * block
    return f(carry, whole * block, rest) if rest else carry


def add_at(a, b, start, axis):
    """`a` with `b` added from `start` on."""
    if a is None:
        return b
    here = lax.dynamic_slice_in_dim(a, start, b.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(a, (here + b.astype(a.dtype)), start, axis)


def again(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, whose scores or logits are not kept but made again where its derivative needs them."""
    return jax.checkpoint(f, prevent_cse=False)
