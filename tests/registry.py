"""One `Case` for each public operator: what test_value, test_grad, test_second_order, test_transforms … run over.

A new operator is tested by one entry here and its definition in oracle.py.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsoftmax
from tests import inputs, oracle


class Sample(NamedTuple):
    """One call: `arrays` are traced, `static` is not; the oracle takes both as they are."""

    id: str
    arrays: dict[str, Any]
    static: dict[str, Any]


class Case(NamedTuple):
    name: str
    differentiable: tuple[str, ...]
    extras: Callable  # (row, dtype) → the arrays that this operator takes besides the logits, β and the mask
    statics: tuple[dict, ...] = ({},)
    result_takes_classes: bool = False  # β has the rank of the logits, because the result does
    takes_where: bool = True
    takes_beta: bool = True
    without: tuple[str, ...] = ()  # inputs that it is not held to

    @property
    def logits(self):
        return self.differentiable[0]


def _index_labels(row, dtype):
    return {"labels": inputs.labels(row)}


def _index_labels_some_ignored(row, dtype):
    labels = inputs.labels(row)
    flat = labels.reshape(-1)
    flat[1::3] = -100
    return {"labels": labels, "ignore_label": np.int32(-100)}


def _multiplicities(row, dtype):
    # positive, with zeros: a negative total is NaN and tests little
    b = inputs.cotangent(row.shape, 3)
    return {"b": np.where(b < -1, 0, np.abs(b) + 0.1).astype(np.promote_types(dtype, np.float32))}


INTEGER = "softmax_cross_entropy_with_integer_labels"
CASES = (
    Case("softmax", ("x", "beta"), lambda row, dtype: {}, result_takes_classes=True),
    Case("log_softmax", ("x", "beta"), lambda row, dtype: {}, result_takes_classes=True),
    Case("softmax_jacobian", ("x", "beta"), lambda row, dtype: {}, takes_where=False),
    Case("logsumexp", ("x", "beta"), lambda row, dtype: {}, ({}, {"keepdims": True})),
    Case("logsumexp", ("x", "b", "beta"), _multiplicities),
    Case("logmeanexp", ("x", "beta"), lambda row, dtype: {}, ({"keepdims": True}, {})),
    Case("entropy", ("logits", "beta"), lambda row, dtype: {}, ({}, {"keepdims": True})),
    Case(
        "softmax_cross_entropy",
        ("logits", "labels", "beta"),
        lambda row, dtype: {"labels": inputs.distributions(row, np.float32).astype(dtype)},
        without=("huge",),  # log p itself is beyond float32, though y log p may not be
    ),
    Case(INTEGER, ("logits", "beta"), _index_labels),
    Case(INTEGER, ("logits", "beta"), _index_labels_some_ignored),
)


OPTIONS = ("label_smoothing", "z_loss", "class_weights")


def _options(names, some_ignored, case):
    """Extras of a cross-entropy with the options `names` on top of its own."""

    def extras(row, dtype):
        wide = np.promote_types(dtype, np.float32)
        w = np.abs(inputs.cotangent((row.classes,), 4)) + 0.1
        w[2::3] = 0
        given = {"label_smoothing": wide.type(0.15), "z_loss": wide.type(0.03), "class_weights": w.astype(wide)}
        own = _index_labels_some_ignored(row, dtype) if some_ignored else case.extras(row, dtype)
        return own | {name: given[name] for name in names}

    return extras


def _with_options():
    for n in range(1, len(OPTIONS) + 1):
        for names in itertools.combinations(OPTIONS, n):
            for base in CASES[-3:]:
                yield base._replace(
                    differentiable=base.differentiable + names,
                    extras=_options(names, base is CASES[-1], base),
                    without=("huge",),  # the logarithm of Z is beyond float32, and so is the sum over smoothed classes
                )


LOSSES_WITH_OPTIONS = tuple(_with_options())  # of either kind of label, ignored or not; the last three have all


def label(case: Case) -> str:
    extras = "".join(f"-{e}" for e in case.extras(inputs.BY_NAME["normal"], np.float32) if e != "labels")
    return case.name + extras


def rows(case: Case, dtype) -> Iterator[inputs.Row]:
    """The inputs that the operator takes: all, or those without a mask."""
    suiting = inputs.suiting(dtype)
    return (r for r in suiting if r.name not in case.without and (case.takes_where or r.where is None))


# A result of classes, one of rows, either kind of label: on these the fast lane tries what all operators have from one
# place. The others are LATER, in the slow lane.
KINDS = ("softmax", "logsumexp", "softmax_cross_entropy", INTEGER)
LATER = tuple(label(case) for case in CASES if label(case) not in KINDS)


def first(names=KINDS):
    """`case` of every operator, those not among `names` in the slow lane."""
    marked = [pytest.param(c, marks=() if label(c) in names else pytest.mark.slow, id=label(c)) for c in CASES]
    return pytest.mark.parametrize("case", marked)


def sample(case: Case, row: inputs.Row, dtype, beta: Any = 1.0, static: dict | None = None) -> Sample:
    """The operator's arguments on one input; `beta` a number, or "row" for one that differs from row to row."""
    static = {"axis": row.axis} | (case.statics[0] if static is None else static)
    arrays = {case.logits: row.x(dtype)} | case.extras(row, dtype)
    if isinstance(beta, str):
        kept = tuple(1 if i in row.class_axes else n for i, n in enumerate(row.shape))
        with_classes = case.result_takes_classes or static.get("keepdims", False)
        beta = inputs.beta_per_row(kept if with_classes else row.batch)
    arrays["beta"] = np.asarray(beta).astype(np.promote_types(dtype, np.float32))
    if case.takes_where and row.where is not None:
        arrays["where"] = row.where
    return Sample(row.name, arrays, static)


def samples(case: Case, dtype, betas=(1.0,)) -> Iterator[Sample]:
    for row in rows(case, dtype):
        for beta in betas:
            yield sample(case, row, dtype, beta)


def call(name: str, static: tuple, arrays: dict) -> Any:
    return getattr(jsoftmax, name)(**arrays, **dict(static))


@functools.cache
def _compiled(name: str, static: tuple, differentiable: tuple[str, ...], jit: bool) -> Callable:
    def value_and_cotangents(arrays, g):
        rest = {k: v for k, v in arrays.items() if k not in differentiable}
        value, pull = jax.vjp(
            lambda *d: call(name, static, dict(zip(differentiable, d, strict=True)) | rest),
            *(jnp.asarray(arrays[k]) for k in differentiable),
        )
        return value, dict(zip(differentiable, pull(g), strict=True))

    return jax.jit(value_and_cotangents) if jit else value_and_cotangents


def value_and_cotangents(
    case: Case, s: Sample, g: np.ndarray, jit: bool, omitted: tuple[str, ...] = ()
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What the library gives; under an outer jit, or as called; the arguments in `omitted` left to their defaults."""
    arrays = {k: v for k, v in s.arrays.items() if k not in omitted}
    differentiable = tuple(k for k in case.differentiable if k not in omitted)
    return _compiled(case.name, tuple(s.static.items()), differentiable, jit)(arrays, jnp.asarray(g))


_DTYPES: dict[tuple, Any] = {}  # those that result_shape found


def result_shape(case: Case, s: Sample) -> jax.ShapeDtypeStruct:
    """As documented; the library is traced once for each combination of dtypes, which takes long."""
    key = (case.name, jax.config.jax_enable_x64, *((k, a.dtype) for k, a in s.arrays.items()))
    if key not in _DTYPES:
        _DTYPES[key] = jax.eval_shape(lambda a: call(case.name, tuple(s.static.items()), a), s.arrays).dtype
    whole, axes = s.arrays[case.logits].shape, class_axes(case, s)
    if case.result_takes_classes:
        shape = whole
    elif s.static.get("keepdims", False):
        shape = tuple(1 if a in axes else n for a, n in enumerate(whole))
    else:
        shape = tuple(n for a, n in enumerate(whole) if a not in axes)
    if case.name == "softmax_jacobian":
        shape += 2 * tuple(whole[a] for a in axes)
    return jax.ShapeDtypeStruct(shape, _DTYPES[key])


def cotangent(case: Case, s: Sample) -> np.ndarray:
    like = result_shape(case, s)
    return inputs.cotangent(like.shape).astype(like.dtype)


def exact(case: Case, s: Sample, g: np.ndarray | None = None) -> Any:
    """The oracle's value, or its cotangents for `g`."""
    if g is None:
        return getattr(oracle, case.name)(**s.arrays, **s.static)
    return getattr(oracle, f"{case.name}_vjp")(g, **s.arrays, **s.static)


class Geometry(NamedTuple):
    """Of each row, with size 1 along the class axes: what the tolerances depend on."""

    peak: np.ndarray  # m
    gap: np.ndarray  # |β (x − m)| of every element, 0 where absent
    beside: np.ndarray  # its mean beside the peak, as exp weighs it
    reach: np.ndarray  # |x − m| of every element, 0 where absent
    own: np.ndarray  # |β (x − m)| of every finite element


def class_axes(case: Case, s: Sample) -> tuple[int, ...]:
    axis, ndim = s.static["axis"], s.arrays[case.logits].ndim
    return tuple(range(ndim)) if axis is None else tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def geometry(case: Case, s: Sample) -> Geometry:
    x, axes = s.arrays[case.logits].astype(np.float64), class_axes(case, s)
    beta = s.arrays["beta"].astype(np.float64)
    if beta.ndim < x.ndim:
        beta = np.expand_dims(np.broadcast_to(beta, [n for i, n in enumerate(x.shape) if i not in axes]), axes)
    live = np.isfinite(x) & np.broadcast_to(s.arrays.get("where", True), x.shape)
    if "b" in s.arrays:
        live &= s.arrays["b"] != 0
    high = np.max(x, axes, keepdims=True, initial=-np.inf, where=live)
    low = np.min(x, axes, keepdims=True, initial=np.inf, where=live)
    peak = np.where(beta < 0, low, high)
    peak = np.where(np.isfinite(peak), peak, 0)
    reach = np.where(live, np.abs(np.where(live, x, 0) - peak), 0)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(np.isfinite(beta), np.abs(beta), 0) * reach
        weight = np.where(live & (x != peak), np.exp(-gap), 0)
        total = weight.sum(axes, keepdims=True)
        beside = np.where(total > 0, (weight * gap).sum(axes, keepdims=True) / np.where(total > 0, total, 1), 0)
        # where all others underflow in float64 too, the nearest of them decides
        nearest = np.min(gap, axes, keepdims=True, initial=np.inf, where=live & (x != peak))
        beside = np.where(total > 0, beside, np.where(np.isfinite(nearest), nearest, 0))
    own = np.where(np.isfinite(beta), np.abs(beta), 0) * np.abs(np.where(np.isfinite(x), x, peak) - peak)
    return Geometry(peak, gap, beside, reach, own)
