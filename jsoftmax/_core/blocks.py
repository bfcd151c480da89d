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


def over_rows(f: Callable[..., Any], carry: Any, rows: Any, block: int) -> tuple[Any, Any]:
    """f(carry, rows of a block) → (carry, results), block after block.

    `rows` is a tree of arrays with the rows on axis 0, or with size 1 there, and None. The blocks are equal, so there
    may be rows of zeros that are none. A block takes every so manieth row: rows spread over devices stay there.
    """
    size = max((a.shape[0] for a in jax.tree.leaves(rows)), default=0)
    blocks = count(size, block)
    if blocks == 1:
        return f(carry, rows)
    each = -(-size // blocks)

    def cut(a):
        a = jnp.pad(a, [(0, each * blocks - size)] + [(0, 0)] * (a.ndim - 1)) if each * blocks != size else a
        return jnp.moveaxis(a.reshape(each, blocks, *a.shape[1:]), 1, 0)

    def join(a):
        a = jnp.moveaxis(a, 0, 1)
        return a.reshape(each * blocks, *a.shape[2:])[:size]

    leaves, tree = jax.tree.flatten(rows)
    split = [a.shape[0] == size for a in leaves]

    def body(carry, taken):
        parts = iter(taken)
        found = [next(parts) if s else a for s, a in zip(split, leaves, strict=True)]
        return f(carry, jax.tree.unflatten(tree, found))

    carry, results = lax.scan(body, carry, [cut(a) for s, a in zip(split, leaves, strict=True) if s])
    return carry, jax.tree.map(join, results)


def over_slices(f: Callable[..., Any], carry: Any, size: int, block: int) -> Any:
    """f(carry, start, length) → carry for the blocks of range(size): equal ones in a loop, and what is left."""
    whole = size // block

    def body(k, carry):
        return f(carry, k * block, block)

    carry = lax.fori_loop(0, whole, body, carry) if whole > 1 else (f(carry, 0, block) if whole else carry)
    rest = size - whole * block
    return f(carry, whole * block, rest) if rest else carry
