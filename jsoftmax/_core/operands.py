"""The operands of an operator, traced, as its rule wants them: equal ranks, one β, one mesh variance."""

import jax.numpy as jnp
from jax import Array

from jsoftmax._core import axes as ax
from jsoftmax._core import dtypes, mesh
from jsoftmax._core.temperature import inverse_temperature


def prepare(
    x: Array, where: Array | None, beta: Array | None, kind: str, axes: tuple[int, ...], keepdims: bool, *others
):
    """(x, where, β, *others): x floating; where and β at the rank of x, β with size 1 along the class axes.

    No β stands for 1, which nothing is multiplied by and nothing is differentiated in.
    """
    x = x.astype(dtypes.of_logits(x.dtype))
    where = where if where is None else ax.lift(where, x.ndim)
    if beta is not None:
        beta = ax.lift_rows(inverse_temperature(beta, kind), x.ndim, axes, keepdims)
    return mesh.align(x, where, beta, *others)


def unit(x: Array, beta: Array | None) -> Array:
    """β as an array."""
    return mesh.vary(jnp.ones((1,) * x.ndim, dtypes.wide(x.dtype)), x)[0] if beta is None else beta
