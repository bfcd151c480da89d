"""The operands of an operator, traced, as its rule wants them: equal ranks, one β, one mesh variance."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jsoftmax._core import axes as ax
from jsoftmax._core import dtypes, mesh
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._core.types import ClassAxes


def prepare(
    x: Array,
    where: Array | None,
    beta: Array | None,
    kind: str,
    axes: ClassAxes,
    keepdims: bool,
    each: Any = (),
    rows: Any = (),
):
    """(x, where, β, *each, *rows): x floating; where and β at the rank of x, β with size 1 along the class axes.

    Of the others, which have that rank, `each` have numbers for the classes and `rows` one for all of them.

    No β stands for 1, which nothing is multiplied by and nothing is differentiated in.
    """
    x = x.astype(dtypes.of_logits(x.dtype))
    where = where if where is None else ax.lift(where, x.ndim)
    if beta is not None:
        beta = ax.lift_rows(inverse_temperature(beta, kind), x.ndim, axes, keepdims)
    x, where, *found = mesh.align(x, where, *each, rows=(beta, *rows), names=ax.names(axes))
    return x, where, found[len(each)], *found[: len(each)], *found[len(each) + 1 :]


def unit(x: Array, beta: Array | None, axes: ClassAxes) -> Array:
    """β as an array."""
    if beta is not None:
        return beta
    one = jnp.ones((1,) * x.ndim, dtypes.wide(x.dtype))
    return mesh.align(x, rows=(one,), names=ax.names(axes))[1]
