"""The log-partition function of two logits, 0 and v, in closed form: peak max(0, v), excess e^{−|v|}.

log Z  =  max(0, v) + log1p(e^{−|v|})          (log Z)˙  =  σ(v) v̇          σ̇  =  σ(v) σ(−v) v̇
"""

import jax
import jax.numpy as jnp
from jax import Array

from jsoftmax._core import accurate


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
