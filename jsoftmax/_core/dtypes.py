"""Which dtype an operator computes in: never less than float32, never less than its logits."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def default_float() -> DTypeLike:
    """float32, or float64 where x64 is enabled."""
    return jnp.result_type(float)


def of_logits(dtype: DTypeLike) -> DTypeLike:
    """The dtype that logits of `dtype` have as floating numbers: integers become the default float."""
    return jnp.result_type(dtype) if jnp.issubdtype(dtype, jnp.floating) else default_float()


def wide(dtype: DTypeLike) -> DTypeLike:
    """`dtype`, or float32 if it is narrower."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def widen(x: Array) -> Array:
    return x.astype(wide(x.dtype))
