"""Arguments of associative memories; as in `check`, but weights on the host are read, for they have to be symmetric."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jsoftmax._core import check, dtypes
from jsoftmax._core.check import Operand


def patterns(name: str, value: Any, argument: str = "patterns") -> Operand:
    value = check.real(name, argument, value)
    if value.ndim != 2:
        raise ValueError(f"{name}: `{argument}` must have shape (M, D), one a row, got {value.shape}.")
    return value


def network(name: str, state: Any, weights: Any, threshold: Any) -> tuple[Operand, Operand, Operand | None]:
    """Units, how they are coupled, and what each has to pass."""
    state, weights = check.real(name, "state", state), check.real(name, "weights", weights)
    if jnp.issubdtype(state.dtype, jnp.unsignedinteger):
        raise TypeError(f"{name}: `state` must be of a dtype that has −1, got {state.dtype}.")
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"{name}: `weights` must have shape (D, D), got {weights.shape}.")
    units = weights.shape[0]
    if state.ndim < 1 or state.shape[-1] != units:
        raise ValueError(
            f"{name}: `state` must have the {units} units of `weights` on its last axis, got {state.shape}."
        )
    if isinstance(weights, np.ndarray) and _is_lopsided(weights):
        raise ValueError(f"{name}: `weights` must be symmetric, got w_ij and w_ji that differ by more than rounding.")
    if threshold is not None:
        threshold = check.real(name, "threshold", threshold)
        check.broadcasts(name, "threshold", threshold.shape, (units,), "the shape of one state")
    return state, weights, threshold


def _is_lopsided(weights: np.ndarray) -> bool:
    """By more than half of the digits that float32 or the dtype has; a NaN is not."""
    w = weights.astype(np.float64)
    digits = jnp.finfo(dtypes.of_logits(weights.dtype)).eps ** 0.5
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.abs(w - w.T) > float(digits) * np.abs(w).max(initial=0)))


def order(name: str, value: Any, key: Any, synchronous: bool, units: int) -> Operand | None:
    """In which units are updated, if it is not random."""
    given = [
        what
        for what, v in (("`order`", value), ("`key`", key), ("synchronous=True", synchronous or None))
        if v is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{name}: give one of `order`, `key` and synchronous=True, got {' and '.join(given)}.")
    if value is None:
        return None
    value = check.array(name, "order", value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: `order` must be integers, got dtype {value.dtype}.")
    if value.shape != (units,):
        raise ValueError(f"{name}: `order` must name each of the {units} units once, got shape {value.shape}.")
    if isinstance(value, np.ndarray):
        if not np.array_equal(np.sort(value), np.arange(units)):
            raise ValueError(f"{name}: `order` must name each of the {units} units once, got some twice or others.")
        value = value.astype(np.int32)
    return value


def memory(name: str, state: Any, given: Any, values: Any) -> tuple[Operand, Operand, Operand | None]:
    """A state, the patterns that it is compared with, and what is stored with them."""
    state, given = check.real(name, "state", state), patterns(name, given)
    if state.ndim < 1 or state.shape[-1] != given.shape[1]:
        raise ValueError(
            f"{name}: `state` and `patterns` must have as many features on their last axis, got shapes {state.shape} "
            f"and {given.shape}."
        )
    if values is not None:
        values = patterns(name, values, "values")
        if values.shape[0] != given.shape[0]:
            raise ValueError(
                f"{name}: `values` must have a row for each of the {given.shape[0]} patterns, got shape {values.shape}."
            )
    return state, given, values


def steps(name: str, value: Any) -> int | None:
    """How many; None for as many as it takes."""
    return None if value is None else check.size(name, "steps", value)
