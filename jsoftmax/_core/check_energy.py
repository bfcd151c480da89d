"""Checks of what the operators of energies take besides logits, in the style of `check`."""

from typing import Any

from jsoftmax._core import check
from jsoftmax._core.check import Operand


def same_shape(name: str, argument: str, value: Any, other: str, shape: tuple[int, ...]) -> Operand:
    value = check.real(name, argument, value)
    if value.shape != shape:
        raise ValueError(f"{name}: `{argument}` must have the shape of `{other}` {shape}, got {value.shape}.")
    return value


def machine(name: str, weight: Any, visible_bias: Any, hidden_bias: Any) -> tuple[Operand, Operand, Operand]:
    """The parameters of a restricted Boltzmann machine."""
    weight = matrix(name, weight)
    return weight, bias(name, "visible", visible_bias, weight), bias(name, "hidden", hidden_bias, weight)


def matrix(name: str, weight: Any) -> Operand:
    weight = check.real(name, "weight", weight)
    if weight.ndim != 2 or weight.shape[0] == 0:
        raise ValueError(
            f"{name}: `weight` must have shape (V, H) for V visible units, one at least, and H hidden ones, got "
            f"{weight.shape}."
        )
    return weight


def bias(name: str, kind: str, value: Any, weight: Operand) -> Operand:
    argument, count = f"{kind}_bias", weight.shape[0 if kind == "visible" else 1]
    value = check.real(name, argument, value)
    if value.shape != (count,):
        raise ValueError(
            f"{name}: `{argument}` must have one entry a {kind} unit, shape ({count},), got {value.shape}."
        )
    return value


def units(name: str, argument: str, value: Any, weight: Operand) -> Operand:
    """States of one layer, the units last."""
    count = weight.shape[0 if argument != "hidden" else 1]
    value = check.real(name, argument, value)
    if value.ndim < 1 or value.shape[-1] != count:
        raise ValueError(
            f"{name}: `{argument}` must have its units on the last axis, as many as `weight` {weight.shape} has, "
            f"{count}, got shape {value.shape}."
        )
    return value


def hidden_beside(name: str, hidden: Any, visible: Operand, weight: Operand) -> Operand:
    hidden = units(name, "hidden", hidden, weight)
    if hidden.shape[:-1] != visible.shape[:-1]:
        raise ValueError(
            f"{name}: `hidden` must have the leading axes of `visible` {visible.shape}, got shape {hidden.shape}."
        )
    return hidden


def enumerable(name: str, weight: Operand, most: int) -> None:
    if min(weight.shape) > most:
        raise ValueError(
            f"{name}: `weight` must have a layer of at most {most} units, for its 2**{most} states are gone through, "
            f"got shape {weight.shape}."
        )
