"""Named adversarial inputs: logits with an axis and a mask, labels, inverse temperatures, cotangents.

    for row in inputs.suiting(dtype):
        x, where = row.x(dtype), row.where

The values are drawn in float64 and rounded to the dtype, so every dtype sees nearly the same numbers. Inputs
that need no shape of their own share one, and so what is compiled for it.
"""

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

INF, NAN = np.inf, np.nan
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}


def _rng(name, seed):
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


class Row(NamedTuple):
    name: str
    make: Callable  # generator → float64 logits
    axis: int | tuple | None = -1
    where: np.ndarray | None = None  # broadcasts to the logits

    def x(self, dtype, seed=0):
        return self.make(_rng(self.name, seed)).astype(dtype)

    @property
    def shape(self):
        return self.make(_rng(self.name, 0)).shape

    @property
    def class_axes(self):
        axes = range(len(self.shape)) if self.axis is None else np.atleast_1d(np.asarray(self.axis, int)).tolist()
        return tuple(a % len(self.shape) for a in axes)

    @property
    def batch(self):
        return tuple(n for a, n in enumerate(self.shape) if a not in self.class_axes)

    @property
    def classes(self):
        """Number of classes of a row."""
        return math.prod(self.shape[a] for a in self.class_axes)


def _normal(*shape, scale=1.0, offset=0.0):
    return lambda rng: offset + scale * rng.standard_normal(shape)


def _fixed(values):
    return lambda rng: np.array(values, np.float64)


def _with(base, index, value):
    def make(rng):
        x = base(rng)
        x[index] = value
        return x

    return make


def _ties(rng):
    return rng.integers(-1, 2, (4, 9)).astype(np.float64)


def _holes(rng):
    return np.where(rng.random((4, 9)) < 0.3, -INF, rng.standard_normal((4, 9)))


def _confident(rng):
    # the peak in the first, a middle and the last place; 5 … 80 below it lie losses of 7e-3 … 2e-35
    x = -rng.uniform(5.0, 80.0, (6, 5))
    x[np.arange(6), [0, 2, 4, 1, 3, 0]] = 0.0
    return x


_huge = _fixed(
    [
        [3e38, -3e38, 0.0, 1.0, -2e38],
        [3e38, 3e38, -3e38, -3e38, 1e38],
        [1e38, -1e38, 3e38, 2e38, 1e30],
        [-3e38, -3e38, -1e38, -2e38, -3e38],
        [0.0, 1.0, -3e38, 2.0, 1.0],
        [1e38, 1e38, 1e38, 1e38, 1e38],
    ]
)
_huge_half = _fixed(
    [
        [6e4, -6e4, 0.0, 1.0, -3e4],
        [6e4, 6e4, 59968.0, -6e4, 59968.0],
        [-6e4, -6e4, -6e4, -6e4, -6e4],
        [-6e4, -59968.0, 0.0, -1.0, -6e4],
        [0.0, 1.0, -6e4, 2.0, 1.0],
        [6e4, 59968.0, 6e4, 59968.0, 6e4],
    ]
)

_MASK = np.random.default_rng(0).random((4, 9)) < 0.6  # a fixed mask, with live classes in every row
_MASK[:, 3] = True
_GARBAGE = np.array([[NAN, INF, -INF, 1.0, 1e4], [2.0, NAN, 3.0, -1.0, INF], [INF, -INF, NAN, NAN, INF]])

ROWS = (
    Row("zeros", _fixed(np.zeros((6, 5)))),  # every class a peak
    Row("faint", _normal(4, 33, scale=1e-3)),  # a network at its first step: nearly uniform
    Row("normal", _normal(3, 16)),
    Row("loud", _normal(4, 33, scale=20.0)),  # most classes far below the peak; 33: one past a warp
    Row("offset 1e4", _normal(3, 8, offset=1e4)),  # lse − x_y cancels
    Row("offset 2^17", _normal(3, 8, offset=2.0**17)),  # the same, at 1/64 between neighbouring floats
    Row("offset -1e4", _normal(3, 8, offset=-1e4)),  # exp(x) without a shift underflows to log 0
    Row("huge", _huge),  # differences overflow float32
    Row("huge half", _huge_half),  # … and float16
    Row("tiny", _normal(6, 5, scale=1e-30)),  # no difference survives exp
    Row("ties", _ties),  # several peaks a row: ties counted once
    Row("confident", _confident),  # loss and gradient below the rounding of 1
    Row("near tie", _fixed([[1.0, 1.0 + 2.0**-7, 0.0], [0.0, 2.0**-7, 2.0**-7]])),  # a peak that is nearly shared
    Row("one class", _normal(3, 1)),  # p = 1, every gradient 0
    Row("single", _fixed([7.0])),  # rank 1 and one class
    Row("no batch", _fixed(np.zeros((0, 4)))),  # nothing to reduce over
    Row("no classes", _fixed(np.zeros((2, 0)))),  # an empty sum in every row
    Row("past a lane", _normal(3, 129)),  # 129: one past a TPU lane
    Row("prime", _normal(5, 7)),  # divides no block
    Row("vector", _normal(13)),  # no batch axis at all
    Row("axis 0", _normal(5, 7), 0),  # classes not contiguous
    Row("axis 0 of 3", _normal(2, 3, 5), 0),
    Row("axis 1 of 3", _normal(2, 3, 5), 1),  # channels first
    Row("axis 2 of 3", _normal(2, 3, 5), 2),
    Row("axis -2 of 3", _normal(2, 3, 5), -2),  # counted from the end
    Row("axes (0, 2)", _normal(2, 3, 5), (0, 2)),  # a joint law over axes that are not neighbours
    Row("axes (2, 0)", _normal(2, 3, 5), (2, 0)),  # the order of the axes numbers the classes
    Row("axes (-1, 0)", _normal(4, 3), (-1, 0)),
    Row("all axes", _normal(2, 3, 5), None),  # one row
    Row("no axes", _normal(2, 3), ()),  # every element its own row
    Row("holes", _holes),  # −inf means absent
    Row("empty row", _with(_normal(6, 5), 1, -INF)),  # nothing live between two good rows
    Row("empty rows", _fixed(np.full((2, 3), -INF))),
    Row("one live", _with(_normal(6, 5), (slice(None), slice(-1)), -INF)),  # a simplex of one point
    Row("nan row", _with(_normal(6, 5), (2, 1), NAN)),  # poisons its row and no other
    Row("inf row", _with(_normal(6, 5), (1, 4), INF)),  # the same for +inf
    Row("inf rows", _fixed([[INF, INF], [INF, -INF], [-INF, 0.0]])),  # all +inf; +inf with an absent class
    Row("nan in an empty row", _fixed([[NAN, -INF, -INF], [-INF, -INF, NAN]])),  # must not pass for an empty row
    Row("mask", _normal(4, 9), -1, _MASK),
    Row("mask on holes", _holes, -1, _MASK),  # masked and −inf together
    Row("mask of classes", _normal(3, 5), -1, np.array([True, False, True, True, False])),  # broadcasts over rows
    Row("mask of rows", _normal(3, 5), -1, np.array([[True], [False], [True]])),  # a padded example
    Row("mask on axis 0", _normal(5, 3), 0, np.array([[True], [False], [True], [True], [False]])),
    Row("nothing unmasked", _normal(2, 3), -1, np.array(False)),
    Row("mask leaves -inf", _fixed([[1.0, -INF, 2.0]]), -1, np.array([False, True, False])),  # empty by both together
    Row("mask on garbage", _fixed(_GARBAGE), -1, np.isfinite(_GARBAGE)),  # the last row is all garbage
)
BY_NAME = {row.name: row for row in ROWS}

# The distributions over which accuracy is promised and measured.
DISTRIBUTIONS = {
    "D1": "normal",
    "D2": "faint",
    "D3": "loud",
    "D4": "offset 1e4",
    "D5": "ties",
    "D6": "confident",
}


def suiting(dtype):
    """The rows whose finite numbers are finite in `dtype`."""
    largest = LARGEST.get(np.dtype(dtype).name, np.finfo(np.float64).max)
    drawn = [(row, row.x(np.float64)) for row in ROWS]
    return [row for row, x in drawn if np.abs(x[np.isfinite(x)]).max(initial=0.0) <= largest]


def cotangent(shape, seed=0):
    """Random weights for the output: a sum or a mean has gradient 0 through softmax."""
    return _rng("cotangent", seed).standard_normal(shape)


def labels(row, seed=0):
    """int32 labels: the likeliest class in every other row, any class in the others."""
    x = np.moveaxis(row.x(np.float64), row.class_axes, range(-len(row.class_axes), 0) if row.class_axes else ())
    x = x.reshape(math.prod(row.batch), row.classes)
    if not row.classes:
        return np.zeros(row.batch, np.int32)  # no label is valid
    peak = np.argmax(np.where(np.isfinite(x), x, -INF), axis=1)
    drawn = _rng(row.name, seed + 1).integers(0, row.classes, len(x))
    return np.where(np.arange(len(x)) % 2, drawn, peak).astype(np.int32).reshape(row.batch)


def bad_labels(classes):
    """Labels that are no class: just outside, wrapping, the usual ignore values, the ends of int32."""
    return np.array(
        [classes, classes + 96, -1, -classes, -classes - 1, -100, 255 + classes, 2**31 - 1, -(2**31)], np.int32
    )


def distributions(row, dtype=np.float64, seed=0):
    """Label distributions in the logits' shape: positive, with zeros, one-hot, not normalised, nothing, in turn."""
    rng = _rng(row.name, seed + 2)
    y = rng.random((math.prod(row.batch), row.classes))
    for i, line in enumerate(y):
        if i % 5 in (1, 2) and row.classes:
            line[rng.permutation(row.classes)[: row.classes // 2 if i % 5 == 1 else row.classes - 1]] = 0.0
        line *= 0.0 if i % 5 == 4 else 2.5 if i % 5 == 3 else 1.0 / max(line.sum(), 1e-300)
    kept = [row.shape[a] for a in row.class_axes]
    y = y.reshape(*row.batch, *kept)
    return np.moveaxis(y, range(y.ndim - len(kept), y.ndim), row.class_axes).astype(dtype)


# Scalar inverse temperatures, each with what it can break.
BETAS = {
    "one": 1.0,
    "third": 1.0 / 3.0,  # not a power of two: β·x rounds
    "cold": 7.5,
    "zero": 0.0,  # uniform; 0 · (−inf)
    "negative": -1.3,  # the peak is the smallest logit
    "faint": 1e-20,  # lse grows as 1/β
    "sharp": 1e4,  # close to a one-hot
    "inf": INF,  # the limit: ties share
    "-inf": -INF,
    "nan": NAN,
}


def beta_per_row(shape, seed=0):
    """Positive, negative, zero and infinite β in turn."""
    cycle = np.array([0.7, -1.9, 0.0, 2.5, INF, 1.0, -INF])
    return np.resize(np.roll(cycle, -seed), math.prod(shape)).reshape(shape)
