"""Mesh-axis variance inside `shard_map`, and sharding where it is part of the type."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes, reshard

from jsoftmax._core.rule import with_vjp


def align(x, *operands, rows=(), names=()):
    """`x`, the operands and the rows, each varying over every mesh axis that one of them varies over, and on an
    Explicit mesh sharded as `x` is wherever they have its size.

    Along the mesh axes `names` devices have different classes of the same rows. There `x` and the operands vary; the
    rows, of which every device has all, do not.

    A rule may then return each cotangent as it comes: the sum over the devices that shared an operand is the
    transpose of this cast, and its own sharding comes back by the transpose of the resharding. `None` passes through.
    """
    here, count = [a if a is None else _shard_as(a, x) for a in (x, *operands, *rows)], 1 + len(operands)
    return apart(here[:count], here[count:], names)


def apart(each, rows, names):
    """(*each, *rows), varying as in `align`."""
    found = level(each, rows, names)
    return found if not names else (*found[: len(each)], *(enter(a, names) for a in found[len(each) :]))


def level(each, rows, names):
    """(*each, *rows), varying as in `align`, of which a device may use the rows for itself."""
    over = _over((*each, *rows))
    if not names:
        return _cast_all((*each, *rows), over)
    shared = over - frozenset(names)
    classes = frozenset(names) if is_checked(names) else frozenset()
    return *_cast_all(each, shared | classes), *_cast_all(rows, shared)


def is_checked(names) -> bool:
    """Whether `shard_map` keeps account of what varies over the mesh axes `names`."""
    return bool(varying(lax.axis_index(names)))


def enter(a, names):
    """`a`, of which every device has all. Without `check_vma` JAX takes its cotangent for the sum of the devices': then
    one of them has all of it."""
    floating = a is not None and jnp.issubdtype(a.dtype, jnp.floating)
    return _entering(a, names) if floating and not is_checked(names) else a


def leave(y, names):
    """`y`, the same on every device. Without `check_vma` each brings its part of the cotangent."""
    return _leaving(y, names) if names and not is_checked(names) else y


def _same(a, names):
    return a


def once(g, names):
    """A cotangent that all devices know, for a rule of JAX's own: without `check_vma` that adds up the devices'."""
    return _first(g, names) if names and not is_checked(names) else g


def added_up(bar, names):
    """What such a rule gives for an operand of which every device has all."""
    return lax.psum(bar, names) if names and not is_checked(names) else bar


def _first(g, names):
    return jnp.where(lax.axis_index(names) == 0, g, 0)


_entering = with_vjp(_same, lambda a, names: (a, None), lambda names, _, g: (_first(g, names),), static=(1,))
_leaving = with_vjp(_same, lambda y, names: (y, None), lambda names, _, g: (lax.psum(g, names),), static=(1,))


def vary(*operands):
    """The operands, each varying over every mesh axis that one of them varies over; `None` passes through."""
    return _cast_all(operands, _over(operands))


def _over(operands) -> frozenset[str]:
    return frozenset().union(*(varying(a) for a in operands if a is not None))


def _cast_all(operands, axes: frozenset[str]):
    return tuple(a if a is None else _cast(a, axes - varying(a)) for a in operands)


def varying(x) -> frozenset[str]:
    """The mesh axes over which `x` may differ, where `shard_map` keeps account of it."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def _cast(x, missing: frozenset[str]):
    return lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x


def is_explicit(x) -> bool:
    return any(kind == AxisType.Explicit for kind in jax.typeof(x).sharding.mesh.axis_types)


def automatic(f, out, *operands):
    """f(*operands), inside of which Explicit mesh axes are Auto; its results are sharded as `out`."""
    if not any(is_explicit(a) for a in jax.tree.leaves(operands)):
        return f(*operands)
    return auto_axes(f, out_sharding=out)(*operands)


def _shard_as(a, x):
    """`a`, of the rank of `x`, sharded as `x` on every axis where it is not of size 1."""
    if not (is_explicit(a) or is_explicit(x)) or a.ndim != x.ndim:
        return a
    here, there = jax.typeof(a).sharding, jax.typeof(x).sharding
    spec = PartitionSpec(*(s if n == m else None for s, n, m in zip(there.spec, a.shape, x.shape, strict=True)))
    return a if here.spec == spec else reshard(a, NamedSharding(there.mesh, spec))
