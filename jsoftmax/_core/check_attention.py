"""Checks of attention's arguments, as those of `check`."""

from typing import Any

import numpy as np

from jsoftmax._core import check
from jsoftmax._core.check import Operand


def memory(name: str, query: Any, key: Any, value: Any) -> tuple[Operand, Operand, Operand]:
    """Queries [B, T, N, H], keys [B, S, K, H] and values [B, S, K, V], or all without B."""
    query, key, value = (check.real(name, k, v) for k, v in (("query", query), ("key", key), ("value", value)))
    if query.ndim not in (3, 4):
        raise ValueError(f"{name}: `query` must have shape (B, T, N, H) or (T, N, H), got {query.shape}.")
    *batch, _, heads, width = query.shape
    wanted = f"({', '.join(map(str, batch))}{', ' if batch else ''}S, K, {width})"
    if key.ndim != query.ndim or key.shape[-1] != width or list(key.shape[:-3]) != batch:
        raise ValueError(f"{name}: `key` must have shape {wanted} for `query` {query.shape}, got {key.shape}.")
    if value.ndim != key.ndim or value.shape[:-1] != key.shape[:-1]:
        raise ValueError(
            f"{name}: `value` must have the shape of `key` {key.shape} but for its last axis, got {value.shape}."
        )
    groups = key.shape[-2]
    if groups == 0 or heads % groups:
        raise ValueError(
            f"{name}: the {heads} heads of `query` must be a multiple of those of `key` and `value`, got {groups}."
        )
    return query, key, value


def score_shape(query: Operand, key: Operand) -> tuple[int, ...]:
    """[B, N, T, S], or [N, T, S]."""
    *batch, t, n, _ = query.shape
    return *batch, n, t, key.shape[-3]


def of_scores(name: str, argument: str, value: Any, shape: tuple[int, ...]) -> Operand | None:
    """What broadcasts to the scores: a boolean mask, or a real bias."""
    if value is None:
        return None
    what = "the scores (B, N, T, S)" if len(shape) == 4 else "the scores (N, T, S)"
    if argument == "where":
        value = check.array(name, argument, value)
        if value.dtype != np.bool_:
            raise TypeError(f"{name}: `where` must be boolean, got dtype {value.dtype}. Additive masks go to `bias`.")
    else:
        value = check.real(name, argument, value)
    check.broadcasts(name, argument, value.shape, shape, what)
    return value
