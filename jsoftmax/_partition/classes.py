"""Sums and extrema over the classes of a row, of what is computed elementwise from some operands.

Either one reduction; or, where the classes are few and not next to each other in memory, class by class on slices. XLA
makes one loop over the positions of these, with nothing of the logits' size in between. It is the same formula on
smaller operands, on any platform.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import axes as ax
from jsoftmax._core.mesh import is_explicit
from jsoftmax._core.types import Axes, ClassAxes, Logits

FEW = 32  # more make long programs
SPREAD = 256  # positions behind the class axis: what a vector register wants, and more
LARGE = 2**15  # numbers; smaller maps stay in the cache whatever is done


INDEX = object()  # as an operand: the index of the class


def few(x: Logits, axes: ClassAxes) -> bool:
    """Whether to go class by class: from the shape alone, and from the sharding where it is part of the type."""
    if len(axes) != 1 or x.size < LARGE:
        return False
    (axis,) = ax.positions(axes)
    if not 2 <= x.shape[axis] <= FEW:
        return False
    return math.prod(x.shape[axis + 1 :]) >= SPREAD and not _is_split(x, axis)


def _is_split(x: Logits, axis: int) -> bool:
    """Whether an Explicit mesh has `axis` spread over devices."""
    return is_explicit(x) and jax.typeof(x).sharding.spec[axis] is not None


def _parts(axes: ClassAxes, x: Logits, operands: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """(x, *operands) whole, or of each class; an operand may be None, INDEX, or have size 1 along the class axis."""
    if not few(x, axes):
        return [(x, *(ax.class_index(x.shape, axes) if a is INDEX else a for a in operands))]
    (axis,) = ax.positions(axes)

    def of_class(c: int, a: Any) -> Any:
        if a is INDEX:
            return jnp.full((1,) * x.ndim, c, jnp.int32)
        return a if a is None or a.shape[axis] == 1 else lax.slice_in_dim(a, c, c + 1, axis=axis)

    return [tuple(of_class(c, a) for a in (x, *operands)) for c in range(x.shape[axis])]


def total(f: Callable[..., Any], axes: ClassAxes, x: Logits, *operands: Any) -> Any:
    """Σ_j f(x_j, …) of each row, with size 1 along the class axes; of each part if f gives a tuple."""
    first, *others = (f(*part) for part in _parts(axes, x, operands))
    if others:
        return jax.tree.map(lambda *terms: functools.reduce(jnp.add, terms), first, *others)
    return jax.tree.map(lambda terms: ax.total(terms, axes), first)


def largest(f: Callable[..., Array], axes: Axes, x: Logits, *operands: Any) -> Array:
    """max_j f(x_j, …) of each row, −∞ without a class."""
    first, *others = (f(*part) for part in _parts(axes, x, operands))
    return (
        functools.reduce(jnp.maximum, others, first)
        if others
        else jnp.max(first, axes, keepdims=True, initial=-jnp.inf)
    )


def alone(f: Callable[..., Any], axes: ClassAxes, x: Logits, *operands: Any, kept: bool = False) -> Any:
    """f(x, …), numbers of each row, where classes are few: on CPU never fused into what reads it.

    XLA:CPU would compute it again for each class that a reader writes. It fuses through every barrier but the edge of
    a conditional; that the condition holds is hidden from it. Where the numbers are `kept` for an array of the logits'
    size a barrier does on accelerators that all of them come from one read.
    """

    def branch(x, *operands):
        return lax.cond(lax.optimization_barrier(True), f, lambda x, *_: jax.tree.map(rows_of(x), like), x, *operands)

    def rows_of(x):
        return lambda row: lax.slice_in_dim(x, 0, 1, axis=ax.positions(axes)[0]).astype(row.dtype)

    def together(x, *operands):
        return lax.optimization_barrier(f(x, *operands))

    if not few(x, axes):
        return f(x, *operands)
    like = jax.eval_shape(f, x, *operands)
    return lax.platform_dependent(x, *operands, cpu=branch, default=together if kept else f)
