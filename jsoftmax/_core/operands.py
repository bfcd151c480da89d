"""The operands of an operator, traced, as its rule wants them: equal ranks, one β, one mesh variance."""

import jax.numpy as jnp
from jax import Array

from jsoftmax._core import axes as ax
from jsoftmax._core import dtypes, mesh
from jsoftmax._core.temperature import inverse_temperature


def prepare(
    x: Array, where: Array | None, beta: Array | None, kind: str, axes: tuple[int, ...], keepdims: bool, *others
):
    """(x, where, β, *others): x floating; where and β at the rank of x, β with size 1 along the class axes."""
    x = x.astype(dtypes.of_logits(x.dtype))
    where = where if where is None else ax.lift(where, x.ndim)
    beta = jnp.ones((), dtypes.wide(x.dtype)) if beta is None else inverse_temperature(beta, kind)
    beta = ax.lift_rows(beta, x.ndim, axes, keepdims)
    return mesh.align(x, where, beta, *others)
