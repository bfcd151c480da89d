"""Integer labels: 32 bits, no wrapping, compared with an index and never used as one."""

import jax.numpy as jnp
import numpy as np
from jax import Array

UNREPRESENTABLE = int(np.iinfo(np.int32).min)  # no class has this index, and no label to be ignored


def as_int32(labels: Array) -> Array:
    """`labels` as int32; what does not fit becomes an index that no class has, instead of wrapping onto one."""
    info = jnp.iinfo(labels.dtype)
    narrow = labels.astype(jnp.int32)
    if info.max <= np.iinfo(np.int32).max:
        return narrow
    fits = labels <= jnp.asarray(np.iinfo(np.int32).max, labels.dtype)
    if info.min < 0:
        fits &= labels >= jnp.asarray(np.iinfo(np.int32).min, labels.dtype)
    return jnp.where(fits, narrow, UNREPRESENTABLE)


def is_class(labels: Array, classes: int) -> Array:
    return (labels >= 0) & (labels < classes)


def at_label(index: Array, labels: Array, x: Array) -> Array:
    """Where the class with this `index` is the row's label."""
    # the second factor only carries the sharding of x, which an Explicit mesh wants of a condition too
    return (index == labels) & jnp.ones_like(x, bool)
