"""Every argument check and every message: operator, argument, wanted, got, and the fix where there is one.

Checks read shapes, dtypes and static values only, never an element. TypeError for kinds, ValueError for shapes.
"""

import functools
import itertools
import operator as op
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsoftmax._core import axes as ax
from jsoftmax._core import dtypes, mesh, trees
from jsoftmax._core.adaptive import AdaptiveWeights
from jsoftmax._core.candidates import Candidates
from jsoftmax._core.labels import UNREPRESENTABLE
from jsoftmax._core.trees import Tree

Operand = Array | np.ndarray

# defaults known by identity: an explicit `beta=1.0` beside `temperature=` is noticed, and an explicit 0.0 is an operand
# like any other value and compiles nothing anew when a schedule leaves it
DEFAULT_BETA = float("1")
NO_PENALTY = float("0")


def array(name: str, argument: str, value: Any) -> Operand:
    """`value` as something with a shape and a dtype; lists are refused as jax.numpy refuses them."""
    if isinstance(value, Array | np.ndarray):
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # NumPy would make an object of it
        value = float(value)
    if isinstance(value, np.generic | int | float | complex):  # bool is an int
        return np.asarray(value)
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    kind = type(value).__name__
    raise TypeError(f"{name}: `{argument}` must be an array, got {kind}. Convert it with jnp.asarray first.")


@functools.cache
def _is_real(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def real(name: str, argument: str, value: Any) -> Operand:
    """A real array: floating, or integer to be promoted."""
    value = array(name, argument, value)
    if not _is_real(value.dtype):
        raise TypeError(f"{name}: `{argument}` must be a floating or integer array, got dtype {value.dtype}.")
    if isinstance(value, np.ndarray) and _is_wide_integer(value):
        return value.astype(dtypes.default_float())
    return value


def _is_wide_integer(value: np.ndarray) -> bool:
    """64-bit integers on the host: without x64 JAX would keep their low half."""
    return value.dtype.kind in "iu" and value.dtype.itemsize > 4


def axes(name: str, axis: Any, ndim: int, argument: str = "axis") -> tuple[int, ...]:
    """`axis` as non-negative integers in the order given; None is all axes."""
    if axis is None:
        return tuple(range(ndim))
    try:
        given = tuple(op.index(i) for i in axis) if isinstance(axis, tuple | list) else (op.index(axis),)
    except TypeError:
        kind = type(axis).__name__
        raise TypeError(
            f"{name}: `{argument}` must be an int, a tuple of ints or None, known at trace time, got {kind}."
        ) from None
    for i in given:
        if not -ndim <= i < ndim:
            raise ValueError(f"{name}: `{argument}` must be in [{-ndim}, {ndim}) for an array of rank {ndim}, got {i}.")
    found = tuple(i % ndim for i in given)
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: `{argument}` must not name an axis twice, got {given} for an array of rank {ndim}.")
    return found


def broadcasts(name: str, argument: str, shape: tuple[int, ...], to: tuple[int, ...], what: str, fix: str = "") -> None:
    """`shape` must broadcast to `to` without enlarging it."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    if len(shape) > len(to) or any(n not in (1, m) for n, m in pairs):
        raise ValueError(f"{name}: `{argument}` must broadcast to {what} {to}, got shape {shape}.{fix}")


def mask(name: str, where: Any, shape: tuple[int, ...]) -> Operand | None:
    if where is None:
        return None
    where = array(name, "where", where)
    if where.dtype != bool:
        raise TypeError(f"{name}: `where` must be boolean, got dtype {where.dtype}.")
    broadcasts(name, "where", where.shape, shape, "the shape of the logits")
    return where


def class_mask(name: str, where: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Operand | None:
    """`where` of a loss, which masks classes; a mask of rows is refused, also where it would broadcast by accident."""
    rows = ax.row_shape(shape, axes)
    if where is not None and 0 < np.ndim(where) < len(shape) and np.shape(where) == rows:
        raise ValueError(
            f"{name}: `where` masks classes and must broadcast to the shape of the logits {shape}; got shape {rows}, "
            "which is one entry a row. To drop rows use `ignore_label` or the weights of `weighted_mean`; "
            "to mask classes give `where` the rank of the logits."
        )
    return mask(name, where, shape)


def beta(
    name: str, beta: Any, temperature: Any, base: Any, logits_dtype: Any, shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[Operand | None, str]:
    """The one given of beta, temperature and base, as a strongly typed array of the computing dtype, and its name.

    None if none was given: β = 1 is then a constant of the compiled program.

    `shape` is what it must broadcast to; along `axes` it must not vary.
    """
    if beta is DEFAULT_BETA and temperature is None and base is None:
        return None, "beta"
    named = (("beta", None if beta is DEFAULT_BETA else beta), ("temperature", temperature), ("base", base))
    given = {k: v for k, v in named if v is not None}
    if len(given) != 1:
        got = " and ".join(f"`{k}`" for k in given) or "none of them"
        raise ValueError(f"{name}: give one of `beta`, `temperature` and `base`, got {got}.")
    ((kind, value),) = given.items()
    value = _computing(real(name, kind, value), logits_dtype)
    broadcasts(name, kind, value.shape, shape, "the shape of the result")
    lifted = (1,) * (len(shape) - value.ndim) + value.shape
    if any(lifted[i] != 1 for i in axes):
        fix = f"A value for each row has shape {ax.row_shape(shape, axes, keepdims=True)}."
        raise ValueError(f"{name}: `{kind}` must have size 1 along the class axes, got shape {value.shape}. {fix}")
    return value, kind


def _computing(value: Operand, logits_dtype: Any) -> Operand:
    """`value` in a strong dtype whatever was given: otherwise an int, a float and an array would each compile anew."""
    computing = dtypes.wide(dtypes.common(logits_dtype))
    with np.errstate(over="ignore"):  # past the range means the limit, ±inf
        return value.astype(computing)


def row_option(name: str, argument: str, value: Any, logits_dtype: Any, rows: tuple[int, ...]) -> Operand | None:
    """A number for all rows or one for each; None if it was not given."""
    if value is NO_PENALTY:
        return None
    return row_number(name, argument, value, logits_dtype, rows)


def label_smoothing(name: str, value: Any, logits_dtype: Any, rows: tuple[int, ...]) -> Operand | None:
    """ε, refused outside [0, 1] where its value is on the host."""
    smoothing = row_option(name, "label_smoothing", value, logits_dtype, rows)
    if isinstance(smoothing, np.ndarray) and not np.all((smoothing >= 0) & (smoothing <= 1)):
        got = float(smoothing) if smoothing.ndim == 0 else "an array with entries outside"
        raise ValueError(f"{name}: `label_smoothing` must be in [0, 1], got {got}.")
    return smoothing


def class_numbers(
    name: str, argument: str, value: Any, logits_dtype: Any, count: int, what: str = "a class"
) -> Operand | None:
    if value is None:
        return None
    value = _computing(real(name, argument, value), logits_dtype)
    if value.shape != (count,):
        raise ValueError(f"{name}: `{argument}` must have one entry {what}, shape ({count},), got {value.shape}.")
    return value


def soft_cap(name: str, value: Any, logits_dtype: Any) -> Operand | None:
    """c > 0, refused where its value is on the host."""
    if value is None:
        return None
    value = _computing(real(name, "soft_cap", value), logits_dtype)
    if value.shape != ():
        raise ValueError(f"{name}: `soft_cap` must be one number, got shape {value.shape}.")
    if isinstance(value, np.ndarray) and not value > 0:
        raise ValueError(f"{name}: `soft_cap` must be positive, got {float(value)}.")
    return value


def linear(
    name: str, inputs: Any, weight: Any, class_axis: Any, argument: str = "weight"
) -> tuple[Operand, Operand, int]:
    """A linear layer and what it is applied to; the class axis of its weight."""
    inputs, weight = real(name, "inputs", inputs), real(name, argument, weight)
    if weight.ndim != 2:
        raise ValueError(f"{name}: `{argument}` must have two axes, got shape {weight.shape}.")
    if inputs.ndim < 1:
        raise ValueError(f"{name}: `inputs` must have an axis of features, got shape ().")
    found = axes(name, class_axis, 2, "class_axis")
    if len(found) != 1:
        raise ValueError(f"{name}: `class_axis` must be one axis, got {class_axis}.")
    (axis,) = found
    if inputs.shape[-1] != weight.shape[1 - axis]:
        fix = f" If that axis has the classes give class_axis={1 - axis}." if argument == "weight" else ""
        raise ValueError(
            f"{name}: `inputs` {inputs.shape} must have as many features as `{argument}` {weight.shape} has on axis "
            f"{1 - axis}, got {inputs.shape[-1]}.{fix}"
        )
    return inputs, weight, axis


def prototypes(name: str, embeddings: Any, value: Any) -> tuple[Operand, Operand]:
    """Vectors of examples, and one or several of each class."""
    embeddings, value = real(name, "embeddings", embeddings), real(name, "prototypes", value)
    if value.ndim not in (2, 3):
        raise ValueError(f"{name}: `prototypes` must have shape (C, D), or (C, K, D) for K centers, got {value.shape}.")
    if value.ndim == 3 and value.shape[1] == 0:
        raise ValueError(f"{name}: `prototypes` must have a center for each class, got shape {value.shape}.")
    if embeddings.ndim < 1 or embeddings.shape[-1] != value.shape[-1]:
        raise ValueError(
            f"{name}: `embeddings` and `prototypes` must have as many features on their last axis, got shapes "
            f"{embeddings.shape} and {value.shape}."
        )
    return embeddings, value


def bias_of_prototypes(name: str, value: Any, logits_dtype: Any, prototypes: Operand) -> Operand | None:
    if value is not None and prototypes.ndim == 3:
        raise ValueError(f"{name}: `bias` does not go with centers, got `prototypes` of shape {prototypes.shape}.")
    return class_numbers(name, "bias", value, logits_dtype, prototypes.shape[0])


def documents(name: str, queries: Any, value: Any, symmetric: bool, names: Any) -> tuple[Operand, Operand]:
    """Queries [N, D] and documents for all of them, or for each."""
    queries, value = real(name, "queries", queries), real(name, "documents", value)
    if queries.ndim != 2:
        raise ValueError(f"{name}: `queries` must have shape (N, D), got {queries.shape}. For more axes use jax.vmap.")
    n, d = queries.shape
    if value.ndim not in (2, 3) or value.shape[-1] != d or (value.ndim == 3 and value.shape[0] != n):
        raise ValueError(f"{name}: `documents` must have shape (M, {d}) or ({n}, K, {d}), got {value.shape}.")
    if value.ndim == 2 and value.shape[0] < n:
        raise ValueError(f"{name}: `documents` must be at least as many as the {n} queries, got shape {value.shape}.")
    if names and value.ndim == 3:
        raise ValueError(
            f"{name}: `axis_name` goes with documents for all queries, (M, D), got shape {value.shape} for each alone."
        )
    if symmetric and value.shape != queries.shape:
        raise ValueError(
            f"{name}: `documents` must have the shape of `queries` {queries.shape} if symmetric, got {value.shape}."
        )
    return queries, value


def scale(name: str, value: Any, logits_dtype: Any, rows: tuple[int, ...]) -> Operand:
    """s > 0, refused where its value is on the host."""
    value = row_number(name, "scale", value, logits_dtype, rows)
    if isinstance(value, np.ndarray) and not np.all(value > 0):
        got = float(value) if value.ndim == 0 else "an array with entries that are not"
        raise ValueError(f"{name}: `scale` must be positive, got {got}.")
    return value


def row_number(name: str, argument: str, value: Any, logits_dtype: Any, rows: tuple[int, ...]) -> Operand:
    """A number for all rows or one for each."""
    value = _computing(real(name, argument, value), logits_dtype)
    broadcasts(name, argument, value.shape, rows, "the shape of the result")
    return value


def multiple(name: str, value: Any) -> int:
    """By which an angle is multiplied."""
    try:
        given = op.index(value)
    except TypeError:
        raise TypeError(
            f"{name}: `margin` must be an int, got {value!r}. See combined_margin_loss for others."
        ) from None
    if given < 1:
        raise ValueError(f"{name}: `margin` must be at least 1, got {given}.")
    return given


def choice(name: str, argument: str, value: Any, among: tuple[str, ...]) -> str:
    if value not in among:
        raise ValueError(f"{name}: `{argument}` must be one of {', '.join(among)}, got {value!r}.")
    return value


def candidate_ids(name: str, value: Any) -> Operand | None:
    """Of candidates for all examples together; their expected counts are not used."""
    if value is None:
        return None
    if not isinstance(value, Candidates):
        raise TypeError(f"{name}: `candidates` must be a jsoftmax.Candidates or None, got {type(value).__name__}.")
    ids = _ids(name, value)
    if ids.ndim != 1:
        raise ValueError(f"{name}: `candidates.ids` must have shape (S,), one set for all examples, got {ids.shape}.")
    return ids


def nodes(name: str, inputs: Any, node_weight: Any, given: Tree) -> tuple[Operand, Operand]:
    """What decides at the inner nodes of a tree, and what it is applied to."""
    inputs, node_weight, _ = linear(name, inputs, node_weight, 0, "node_weight")
    wanted, classes = trees.vectors(given), given.paths.shape[0]
    if node_weight.shape[0] != wanted:
        what = "inner nodes" if given.children is None else "children of inner nodes"
        raise ValueError(
            f"{name}: `node_weight` must have a row for each of the {wanted} {what} of a tree with {classes} classes, "
            f"got shape {node_weight.shape}."
        )
    return inputs, node_weight


def block_size(name: str, value: Any, what: str = "(tokens, classes)") -> tuple[int | None, int | None]:
    """Both sizes of a block; None where one is not given."""
    given = value if isinstance(value, tuple) else (value, None)
    try:
        sizes = tuple(n if n is None else op.index(n) for n in given)
    except TypeError:
        sizes = ()
    if len(sizes) != 2 or any(n is not None and n < 1 for n in sizes):
        raise ValueError(f"{name}: `block_size` must be a positive int, a pair {what} or None, got {value!r}.")
    return sizes


def reduction(name: str, value: Any, weights: Any) -> None:
    choice(name, "reduction", value, ("none", "sum", "mean"))
    if weights is not None and value == "none":
        raise ValueError(f'{name}: `weights` need a `reduction`, "sum" or "mean"; got "none".')


def loss_weights(name: str, weights: Any, shape: tuple[int, ...], what: str) -> Operand | None:
    if weights is None:
        return None
    weights = array(name, "weights", weights)
    if weights.dtype != bool:
        weights = real(name, "weights", weights)
    broadcasts(name, "weights", weights.shape, shape, what)
    return weights


def axis_names(name: str, value: Any, **rows: Any) -> tuple[str, ...]:
    """The mesh axes that have the classes between them, in the order of the classes.

    What belongs to `rows` must not vary over them; where `check_vma` is off nothing tells.
    """
    if value is None:
        return ()
    given = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(a, str) for a in given) or len(set(given)) != len(given):
        raise TypeError(
            f"{name}: `axis_name` must be the name of a mesh axis, a tuple of distinct names or None, got {value!r}."
        )
    for argument, operand in rows.items():
        if isinstance(operand, Array) and (over := mesh.varying(operand) & set(given)):
            raise ValueError(
                f"{name}: `{argument}` must be the same on every device along `axis_name`, got one that varies over "
                f"{', '.join(sorted(over))}. Only what has a number for each class may differ there."
            )
    return given


def logits(name: str, argument: str, x: Any, axis: Any) -> tuple[Operand, tuple[int, ...]]:
    x = real(name, argument, x)
    return x, axes(name, axis, len(x.shape))


def multiplicity(name: str, b: Any, shape: tuple[int, ...]) -> Operand | None:
    if b is None:
        return None
    b = real(name, "b", b)
    broadcasts(name, "b", b.shape, shape, "the shape of `x`")
    return b


def integer_labels(name: str, labels: Any, rows: tuple[int, ...]) -> Operand:
    labels = array(name, "labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{name}: `labels` must be integers, got dtype {labels.dtype}.")
    if labels.shape != rows:
        raise ValueError(
            f"{name}: `labels` must have the shape of the logits without the class axes {rows}, got {labels.shape}."
        )
    return _narrow(labels)


def _narrow(indices: Operand) -> Operand:
    """64-bit indices on the host, as `labels.as_int32` makes them; JAX without x64 would let them wrap."""
    if not isinstance(indices, np.ndarray) or not _is_wide_integer(indices):
        return indices
    fits = (indices > UNREPRESENTABLE) & (indices < 2**31)
    return np.where(fits, np.where(fits, indices, 0).astype(np.int32), np.int32(UNREPRESENTABLE))


def distribution(name: str, labels: Any, shape: tuple[int, ...]) -> Operand:
    labels = array(name, "labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        fix = ""
        if jnp.issubdtype(labels.dtype, jnp.integer):
            fix = " For class indices use softmax_cross_entropy_with_integer_labels."
        raise TypeError(
            f"{name}: `labels` must be a floating distribution over classes, got dtype {labels.dtype}.{fix}"
        )
    if labels.shape != shape:
        raise ValueError(f"{name}: `labels` must have the shape of the logits {shape}, got {labels.shape}.")
    return labels


def ignore_label(name: str, ignore: Any) -> Operand | None:
    if ignore is None:
        return None
    wide = isinstance(ignore, int) or (isinstance(ignore, np.generic | np.ndarray) and np.ndim(ignore) == 0)
    if wide and np.asarray(ignore).dtype.kind in "iuO" and not UNREPRESENTABLE < int(ignore) < 2**31:
        raise ValueError(f"{name}: `ignore_label` must fit in 32 bits and be above -2**31, got {int(ignore)}.")
    ignore = array(name, "ignore_label", ignore)
    if not jnp.issubdtype(ignore.dtype, jnp.integer) or ignore.shape != ():
        raise TypeError(
            f"{name}: `ignore_label` must be an integer or None, got dtype {ignore.dtype} and shape {ignore.shape}."
        )
    return ignore.astype(np.int32) if isinstance(ignore, np.ndarray) else ignore


def counts(name: str, value: Any) -> np.ndarray:
    """How often each class occurs: on the host, for a tree is built from them."""
    try:
        given = np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        raise TypeError(f"{name}: `counts` must be on the host, got a traced array: build the tree outside.") from None
    if given.dtype.kind not in "iuf":
        raise TypeError(f"{name}: `counts` must be real, got dtype {given.dtype}.")
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"{name}: `counts` must have one entry a class, at least one, got shape {given.shape}.")
    given = given.astype(np.float64)
    if not (np.isfinite(given) & (given >= 0)).all():
        worst = int(np.argmin(np.isfinite(given) & (given >= 0)))
        raise ValueError(f"{name}: `counts` must be finite and not negative, got one that is not for class {worst}.")
    return given


def max_length(name: str, value: Any, classes: int) -> int:
    """Long enough for so many classes."""
    shortest = max(classes - 1, 0).bit_length()
    try:
        given = op.index(value)
    except TypeError:
        raise TypeError(f"{name}: `max_length` must be an int or None, got {type(value).__name__}.") from None
    if given < shortest:
        raise ValueError(f"{name}: `max_length` must be at least {shortest} for {classes} classes, got {given}.")
    return min(given, max(classes - 1, 0))


def codes(name: str, value: Any) -> list[tuple[int, ...]]:
    """The turns of each class."""
    try:
        found = [tuple(int(turn) if isinstance(turn, str) else op.index(turn) for turn in code) for code in value]
    except (TypeError, ValueError):
        raise TypeError(f"{name}: `codes` must be a sequence of sequences of 0 and 1, or of strings of them.") from None
    if not found:
        raise ValueError(f"{name}: `codes` must have one entry a class, at least one, got none.")
    for w, code in enumerate(found):
        if not set(code) <= {0, 1}:
            raise ValueError(f"{name}: `codes` must be of turns 0 and 1, got {value[w]!r} for class {w}.")
    return found


def paths(name: str, value: Any) -> list[tuple[Any, ...]]:
    """The steps to each class."""
    try:
        found = [tuple(path) for path in value]
        hash(tuple(found))
    except TypeError:
        raise TypeError(f"{name}: `paths` must be a sequence of sequences of hashable steps.") from None
    if not found:
        raise ValueError(f"{name}: `paths` must have one entry a class, at least one, got none.")
    return found


def tree(name: str, value: Any) -> Tree:
    if not isinstance(value, Tree):
        raise TypeError(f"{name}: `tree` must be a jsoftmax.Tree, got {type(value).__name__}.")
    named = {k: array(name, f"tree.{k}", a) for k, a in value._asdict().items() if a is not None}
    paths, codes, mask = (named[k] for k in ("paths", "codes", "mask"))
    whole = all(jnp.issubdtype(a.dtype, jnp.integer) for k, a in named.items() if k != "mask")
    if not whole or mask.dtype != bool:
        got = ", ".join(str(a.dtype) for a in named.values())
        raise TypeError(f"{name}: `tree` must have integer paths, codes and children and a boolean mask, got {got}.")
    if paths.ndim != 2 or paths.shape[0] == 0 or not paths.shape == codes.shape == mask.shape:
        got = f"{paths.shape}, {codes.shape} and {mask.shape}"
        raise ValueError(f"{name}: `tree` must have three tables of one shape [V, L], V at least 1, got {got}.")
    if value.children is not None and (named["children"].ndim != 2 or named["children"].shape[1] == 0):
        raise ValueError(f"{name}: `tree.children` must have shape [M, B], got {named['children'].shape}.")
    return Tree(**named)


def size(name: str, argument: str, value: Any) -> int:
    """A number of things, known at trace time."""
    try:
        given = op.index(value)
    except TypeError:
        raise TypeError(f"{name}: `{argument}` must be an int, got {type(value).__name__}.") from None
    if given < 1:
        raise ValueError(f"{name}: `{argument}` must be at least 1, got {given}.")
    return given


def occurring(name: str, value: Any) -> np.ndarray:
    """Counts, of which one at least is not 0."""
    given = counts(name, value)
    if not given.any():
        raise ValueError(f"{name}: `counts` must have a class that occurs, got zeros only.")
    return given


def sampling(
    name: str, num_sampled: Any, num_classes: Any, unique: Any, batch_shape: Any
) -> tuple[int, tuple[int, bool, tuple[int, ...]]]:
    """(V, (S, unique, shape of the sets)): no more than there are, without replacement."""
    sampled, classes = size(name, "num_sampled", num_sampled), size(name, "num_classes", num_classes)
    if unique and sampled > classes:
        raise ValueError(
            f"{name}: `num_sampled` must be at most {classes} without replacement, the number of classes to draw from, "
            f"got {sampled}. With unique=False classes may come again."
        )
    try:
        shape = tuple(op.index(n) for n in batch_shape)
    except TypeError:
        shape = (-1,)
    if any(n < 0 for n in shape):
        raise ValueError(f"{name}: `batch_shape` must be a tuple of ints from 0 on, got {batch_shape!r}.")
    return classes, (sampled, bool(unique), shape)


def included(name: str, value: Any, draws: tuple[int, bool, tuple[int, ...]]) -> Operand | None:
    """Classes that are candidates in any case."""
    if value is None:
        return None
    value, (sampled, unique, shape) = array(name, "include", value), draws
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name}: `include` must be integers, got dtype {value.dtype}.")
    if not unique or shape:
        raise ValueError(f"{name}: `include` goes with unique=True and batch_shape=(), got {unique} and {shape}.")
    if value.size > sampled:
        raise ValueError(
            f"{name}: `num_sampled` must be at least the {value.size} entries of `include`, got {sampled}."
        )
    return _narrow(value)


def distortion(name: str, value: Any) -> float:
    """An exponent, on the host."""
    try:
        given = float(value)
    except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
        raise TypeError(
            f"{name}: `distortion` must be a number known at trace time, got {type(value).__name__}."
        ) from None
    if not np.isfinite(given):
        raise ValueError(f"{name}: `distortion` must be finite, got {given}.")
    return given


def true_classes(name: str, labels: Any, rows: tuple[int, ...]) -> Operand:
    """Labels [..., T]; without that axis there is one of each example."""
    labels = array(name, "labels", labels)
    if labels.ndim == len(rows) + 1 and labels.shape[:-1] == rows and labels.shape[-1] > 0:
        return integer_labels(name, labels, labels.shape)
    if labels.shape != rows:
        raise ValueError(
            f"{name}: `labels` must have the shape of `inputs` without the features {rows}, or with one more axis of T "
            f"true classes each, got {labels.shape}."
        )
    return integer_labels(name, labels, rows)[..., None]


def _ids(name: str, given: Candidates) -> Operand:
    ids = array(name, "candidates.ids", given.ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"{name}: `candidates.ids` must be integers, got dtype {ids.dtype}.")
    return _narrow(ids)


def candidates(name: str, value: Any, rows: tuple[int, ...], classes: int) -> Candidates:
    """Ids [S] or one set for each example; expected counts [V] or one row for each example."""
    if not isinstance(value, Candidates):
        raise TypeError(f"{name}: `candidates` must be a jsoftmax.Candidates, got {type(value).__name__}.")
    ids, expected = _ids(name, value), real(name, "candidates.log_expected_count", value.log_expected_count)
    if ids.ndim == 0 or ids.shape[:-1] not in ((), rows):
        raise ValueError(
            f"{name}: `candidates.ids` must have shape (S,), or {(*rows, 'S')} for one set an example, got {ids.shape}."
        )
    if expected.shape not in ((classes,), (*rows, classes)):
        raise ValueError(
            f"{name}: `candidates.log_expected_count` must have one entry a class, shape ({classes},) or "
            f"{(*rows, classes)}, got {expected.shape}."
        )
    return Candidates(ids, expected)


def cutoffs(name: str, value: Any, classes: int) -> list[int]:
    try:
        given = [op.index(c) for c in value]
    except TypeError:
        raise TypeError(f"{name}: `cutoffs` must be a sequence of ints, got {value!r}.") from None
    if not all(a < b for a, b in itertools.pairwise([0, *given, classes])):
        raise ValueError(f"{name}: `cutoffs` must increase and be in [1, {classes - 1}], got {value!r}.")
    return given


def div_value(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name}: `div_value` must be a positive number, got {value!r}.")
    return float(value)


def floating_dtype(name: str, value: Any) -> Any:
    found = jnp.result_type(float if value is None else value)
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{name}: `dtype` must be floating, got {found}.")
    return found


def adaptive(name: str, inputs: Any, weights: Any) -> tuple[Operand, AdaptiveWeights]:
    """Parameters that belong together, and what they are applied to."""
    if not isinstance(weights, AdaptiveWeights):
        raise TypeError(f"{name}: `weights` must be a jsoftmax.AdaptiveWeights, got {type(weights).__name__}.")
    inputs, head, _ = linear(name, inputs, weights.head, 0, "weights.head")
    tails = []
    for k, pair in enumerate(weights.tails):
        argument = f"weights.tails[{k}]"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name}: `{argument}` must be a pair, projection and weight, got {type(pair).__name__}.")
        _, projection, _ = linear(name, inputs, pair[0], 0, f"{argument}[0]")
        weight = real(name, f"{argument}[1]", pair[1])
        if weight.ndim != 2 or weight.shape[1] != projection.shape[0] or weight.shape[0] == 0:
            raise ValueError(
                f"{name}: `{argument}[1]` must have a row for each class and {projection.shape[0]} features, as the "
                f"projection before it gives, got shape {weight.shape}."
            )
        tails.append((projection, weight))
    if head.shape[0] <= len(tails):
        raise ValueError(
            f"{name}: `weights.head` must have rows for classes, at least one, and for {len(tails)} clusters, got "
            f"shape {head.shape}."
        )
    bias = class_numbers(name, "weights.head_bias", weights.head_bias, head.dtype, head.shape[0], "a row of the head")
    return inputs, AdaptiveWeights(head, tuple(tails), bias)
