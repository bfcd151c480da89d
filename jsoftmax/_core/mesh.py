"""Mesh-axis variance inside `shard_map`, and sharding where it is part of the type."""

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard


def align(x, *operands):
    """`x` and the operands, each varying over every mesh axis that one of them varies over, and on an Explicit mesh
    sharded as `x` is wherever they have its size.

    A rule may then return each cotangent as it comes: the sum over the devices that shared an operand is the
    transpose of this cast, and its own sharding comes back by the transpose of the resharding. `None` passes through.
    """
    return vary(*(a if a is None else _shard_as(a, x) for a in (x, *operands)))


def vary(*operands):
    """The operands, each varying over every mesh axis that one of them varies over; `None` passes through."""
    axes = frozenset().union(*(_varying(a) for a in operands if a is not None))
    return tuple(a if a is None else _cast(a, axes - _varying(a)) for a in operands)


def _varying(x) -> frozenset[str]:
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def _cast(x, missing: frozenset[str]):
    return lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x


def is_explicit(x) -> bool:
    return any(kind == AxisType.Explicit for kind in jax.typeof(x).sharding.mesh.axis_types)


def _shard_as(a, x):
    """`a`, of the rank of `x`, sharded as `x` on every axis where it is not of size 1."""
    if not (is_explicit(a) or is_explicit(x)) or a.ndim != x.ndim:
        return a
    here, there = jax.typeof(a).sharding, jax.typeof(x).sharding
    spec = PartitionSpec(*(s if n == m else None for s, n, m in zip(there.spec, a.shape, x.shape, strict=True)))
    return a if here.spec == spec else reshard(a, NamedSharding(there.mesh, spec))
