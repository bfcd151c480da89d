"""Checks of addresses: a memory and its keys, the axes of a map and their coordinates; as `check`."""

from typing import Any

from jsoftmax._core import check
from jsoftmax._core.check import Operand


def memory(name: str, keys: Any, value: Any) -> tuple[Operand, Operand]:
    """Keys, and a memory for all of them or one for each position along its leading axes."""
    keys, value = check.real(name, "keys", keys), check.real(name, "memory", value)
    if value.ndim < 2:
        raise ValueError(f"{name}: `memory` must have shape (M, D), or (..., M, D) for several, got {value.shape}.")
    lead, d = value.shape[:-2], value.shape[-1]
    if keys.ndim <= len(lead) or keys.shape[-1] != d or keys.shape[: len(lead)] != lead:
        wanted = ", ".join(map(str, (*lead, "...", d)))
        raise ValueError(
            f"{name}: `keys` must have the leading axes of `memory` {value.shape} and its features, shape ({wanted}), "
            f"got {keys.shape}."
        )
    return keys, value


def map_axes(name: str, x: Any, axis: Any) -> tuple[Operand, tuple[int, ...], bool]:
    """A map, its axes, and whether that is one axis, given as a number."""
    x, axes = check.logits(name, "x", x, axis)
    if not axes:
        raise ValueError(f"{name}: `axis` must name an axis, got {axis!r} for an array of shape {x.shape}.")
    return x, axes, axis is not None and not isinstance(axis, tuple | list)


def coordinates(
    name: str, value: Any, logits_dtype: Any, sizes: tuple[int, ...], single: bool
) -> tuple[str | None, tuple[Operand, ...]]:
    """(which of the usual ones, ()), or (None, one array for each axis)."""
    if isinstance(value, str):
        return check.choice(name, "coordinates", value, ("pixels", "centers", "edges")), ()
    if not single and not (isinstance(value, tuple | list) and len(value) == len(sizes)):
        got = f"{len(value)}" if isinstance(value, tuple | list) else type(value).__name__
        raise ValueError(
            f"{name}: `coordinates` must be pixels, centers, edges or a tuple of {len(sizes)} arrays, one for each of "
            f"the axes, got {got}."
        )
    found = []
    for given, n in zip((value,) if single else value, sizes, strict=True):
        numbers = check.real(name, "coordinates", given)
        if numbers.shape != (n,):
            raise ValueError(
                f"{name}: `coordinates` must have one entry for each of the {n} indices, got shape {numbers.shape}."
            )
        found.append(check.row_number(name, "coordinates", numbers, logits_dtype, (n,)))
    return None, tuple(found)
