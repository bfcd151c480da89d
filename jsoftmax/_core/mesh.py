"""Mesh-axis variance inside `shard_map`, and sharding where it is part of the type."""

import jax
from jax import lax
from jax.sharding import AxisType, reshard


def align(*operands):
    """The floating operands, each varying over every mesh axis that one of `operands` varies over.

    A rule may then return each cotangent as it comes: the sum over the devices that shared an operand is the
    transpose of this cast. `None` passes through.
    """
    axes = frozenset().union(*(_varying(x) for x in operands if x is not None))
    return tuple(x if x is None else _cast(x, axes - _varying(x)) for x in operands)


def _varying(x) -> frozenset[str]:
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def _cast(x, missing: frozenset[str]):
    return lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x


def like(cotangent, operand):
    """`cotangent` in the sharding of `operand`, where an Explicit mesh makes it part of the type."""
    wanted = jax.typeof(operand).sharding
    explicit = any(kind == AxisType.Explicit for kind in wanted.mesh.axis_types)
    return reshard(cotangent, wanted) if explicit and jax.typeof(cotangent).sharding != wanted else cotangent
