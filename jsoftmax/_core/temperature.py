"""Inverse temperature, temperature or base: three names of one number β.

    β = 1/T        dβ/dT = −β²            T = 0 means β = +∞, T = ±∞ means β = 0
    β = ln base    dβ/dbase = 1/base      base = 0 means β = −∞, base = ∞ means β = +∞, base < 0 is NaN

At the limits the operators do not depend on β, so the derivative is set to 0 there instead of ∞.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jsoftmax._core import accurate


@jax.custom_jvp
def _of_temperature(temperature: Array) -> Array:
    cold = temperature == 0
    # 1/(−0.0) would be the other limit
    return jnp.where(cold, jnp.inf, 1 / jnp.where(cold, 1, temperature))


@_of_temperature.defjvp
def _(primals, tangents):
    beta = _of_temperature(*primals)
    finite = jnp.where(jnp.isinf(beta), 0, beta)
    return beta, -finite * (finite * tangents[0])


@jax.custom_jvp
def _of_base(base: Array) -> Array:
    return accurate.log(base)


@_of_base.defjvp
def _(primals, tangents):
    (base,) = primals
    limit = (base == 0) | jnp.isinf(base)
    return _of_base(base), jnp.where(limit, 0, 1 / jnp.where(limit, 1, base)) * tangents[0]


def inverse_temperature(value: Array, kind: str) -> Array:
    """β from a number that was given as `kind`."""
    if kind == "temperature":
        return _of_temperature(value)
    if kind == "base":
        return _of_base(value)
    return value
