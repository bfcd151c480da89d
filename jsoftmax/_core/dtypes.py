"""Which dtype an operator computes in: never less than float32, never less than its logits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def default_float() -> Any:
    """float32, or float64 where x64 is enabled."""
    return jnp.result_type(float)


@functools.cache
def _is_floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def of_logits(dtype: Any) -> Any:
    """The dtype that logits of `dtype` have as floating numbers: integers become the default float."""
    return dtype if _is_floating(dtype) else default_float()


def common(*dtypes: Any) -> Any:
    """What floating numbers are promoted to, and integers with them; NumPy's float64 is float32 without x64."""
    floating = [dtype for dtype in dtypes if _is_floating(dtype)] or [default_float()]
    return jnp.result_type(*map(jax.dtypes.canonicalize_dtype, floating))


@functools.cache
def wide(dtype: Any) -> Any:
    """`dtype`, or float32 if it is narrower."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def widen(x: Array) -> Array:
    """`x` in the dtype that sums over it have.

    Half precision may have been narrowed from a wider array in the same program, and XLA leaves out a narrowing that is
    widened again. On CPU the maximum of a row is of the narrow numbers, and so has to be the rest: what is read by its
    bits is rounded. Elsewhere all of a row is read widened.
    """
    return _widened(x) if jnp.finfo(x.dtype).bits < 32 else x


@jax.custom_jvp
def _widened(x: Array) -> Array:
    return lax.platform_dependent(x, cpu=_rounded, default=_converted)


@_widened.defjvp
def _(primals, tangents):
    return _widened(*primals), _converted(tangents[0])


def _converted(x: Array) -> Array:
    return x.astype(wide(x.dtype))


def _rounded(x: Array) -> Array:
    bits, sign = lax.bitcast_convert_type(x, jnp.uint16), np.uint16(1 << 15)
    return _converted(lax.bitcast_convert_type((bits ^ sign) ^ sign, x.dtype))
