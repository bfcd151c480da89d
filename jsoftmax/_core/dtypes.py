"""Which dtype an operator computes in: never less than float32, never less than its logits."""

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array


def default_float() -> Any:
    """float32, or float64 where x64 is enabled."""
    return jnp.result_type(float)


@functools.cache
def _is_floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def of_logits(dtype: Any) -> Any:
    """The dtype that logits of `dtype` have as floating numbers: integers become the default float."""
    return dtype if _is_floating(dtype) else default_float()


@functools.cache
def wide(dtype: Any) -> Any:
    """`dtype`, or float32 if it is narrower."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def widen(x: Array) -> Array:
    return x.astype(wide(x.dtype))
