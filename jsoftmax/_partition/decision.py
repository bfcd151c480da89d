"""The log-partition function of two logits, 0 and v, in closed form: peak max(0, v), excess e^{−|v|}.

log Z  =  max(0, v) + log1p(e^{−|v|})          (log Z)˙  =  σ(v) v̇          σ̇  =  σ(v) σ(−v) v̇

Of a gap v at β:  σ(β v)˙  =  σ(β v) σ(−β v) (β v̇ + v β̇)
"""

import jax
import jax.numpy as jnp
from jax import Array

from jsoftmax._core import accurate
from jsoftmax._partition.reference import finite_part


@jax.custom_jvp
def log_partition(v: Array) -> Array:
    """−log σ(−v): softplus."""
    return jnp.maximum(v, 0) + accurate.log1p(accurate.exp(-jnp.abs(v)))


@log_partition.defjvp
def _(primals, tangents):
    return log_partition(*primals), weight(*primals) * tangents[0]


@jax.custom_jvp
def weight(v: Array) -> Array:
    """σ(v), of which also the small ones are exact."""
    e = accurate.exp(-jnp.abs(v))
    return jnp.where(v < 0, e, 1) / (1 + e)


@weight.defjvp
def _(primals, tangents):
    (v,) = primals
    return weight(v), weight(v) * weight(-v) * tangents[0]


def finite_gap(v: Array, beta: Array) -> Array:
    """v, and 0 where nothing depends on β any more."""
    return jnp.where(jnp.isinf(v) | jnp.isinf(beta), 0, v)


@jax.custom_jvp
def chance(v: Array, beta: Array) -> Array:
    """σ(β v); ½ at v = 0 and at β = 0, but 1 and 0 at v = ±∞ whatever β is: no state is forbidden by a temperature."""
    limit = jnp.isinf(v) & ~jnp.isnan(beta)
    tie = (v == 0) & ~jnp.isnan(beta)  # of which β = ±∞ would make a NaN
    return weight(jnp.where(limit | tie, v, beta * v))


@chance.defjvp
def _(primals, tangents):
    v, beta = primals
    moved = finite_part(beta) * tangents[0] + finite_gap(v, beta) * tangents[1]
    return chance(v, beta), chance(v, beta) * chance(-v, beta) * moved
