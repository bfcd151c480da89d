"""The cases: which inputs each operator is given, what that tests, and where the answer is a convention.

A `Draft` is a case without its answer. `ROWS` are logits that every operator of logits is given; `drafts(operator)` has
these and the operator's own.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np

INF, NAN = float("inf"), float("nan")
VALUE, GRADIENT, BOTH = ("value",), ("gradient",), ("value", "gradient")
INTEGER, DISTRIBUTION = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"
GROUPS = {
    "ordinary": "moderate logits, several shapes and axes, float32 and float64",
    "confident": "one class far above the rest: the small results have digits too",
    "ties": "equal logits, the peak among them",
    "large exponents": "offsets, exponentials or differences that overflow where the result does not",
    "absent classes": "logits of −∞ and entries with where=False",
    "masks do not leak": "NaN, ∞ or huge numbers where where=False",
    "empty rows": "rows without a live class",
    "infinities": "+∞ and NaN in a row, and the rows beside it",
    "inverse temperature": "β positive, negative, small, large, one for each row",
    "limits of beta": "β of 0, ±∞ and NaN",
    "half precision": "bfloat16 and float16",
    "labels": "any integer type, distributions that are not normalised, several class axes",
    "bad labels": "labels that are no class",
    "options": "ignored labels, smoothing, z-loss, class weights, multiplicities",
}
WIDE_INPUTS = ("beta", "b", "label_smoothing", "z_loss", "class_weights")


class Draft(NamedTuple):
    group: str
    slug: str
    tests: str
    inputs: dict  # name → array
    options: dict = {}  # noqa: RUF012
    convention: tuple = ()


class Row(NamedTuple):
    """Logits with what goes with them; `label` is that of the integer cross-entropy."""

    group: str
    slug: str
    tests: str
    x: list
    more: dict = {}  # noqa: RUF012
    options: dict = {}  # noqa: RUF012
    dtype: str = "float32"
    label: object = 0


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def array(name, values, dtype):
    """An input of a case whose logits have `dtype`."""
    if name == "where":
        return np.asarray(values, bool)
    wide = "float64" if dtype == "float64" else "float32"
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(wide if name in WIDE_INPUTS else dtype_of(dtype))


THREE, FOUR = [1, 2, 3], [-1.3, 0.7, 2.1, 0.2]
BATCH = [[1, 2, 3], [-0.5, 0.25, 0.1]]
MASK = {"where": [True, False, True]}
MANY = [0.3, -1.7, 2.2, 0.9, -0.4, 1.1, 3.3, -2.6, 0.05, 1.9, -0.8, 2.7, 0.6, -3.1, 1.4, -0.2]

ROWS = [
    Row("ordinary", "three", "Three logits.", THREE),
    Row("ordinary", "decimals", "Logits that are no binary fractions.", [-1.3, 0.7, 2.1]),
    Row("ordinary", "one-class", "One class has all the probability.", [7.0]),
    Row("ordinary", "sixteen", "Sixteen classes.", MANY, label=6),
    Row("ordinary", "batch", "Two rows: each has its own sum.", BATCH, label=[0, 2]),
    Row(
        "ordinary",
        "first-axis",
        "Classes along the first axis.",
        np.transpose(BATCH).tolist(),
        {},
        {"axis": 0},
        label=[0, 2],
    ),
    Row("ordinary", "two-axes", "Classes along both axes together.", BATCH, {}, {"axis": [0, 1]}, label=4),
    Row("ordinary", "float64", "Three logits in float64.", THREE, dtype="float64"),
    Row("ordinary", "negative-zero", "A logit of −0 is 0.", [-0.0, 0.0, -1.0]),
    Row("ties", "two-at-the-peak", "The peak is shared by two.", [2, 2, 1]),
    Row("ties", "all-equal", "Three equal logits: a third each.", [0.3, 0.3, 0.3]),
    Row("ties", "large-and-equal", "Equal logits of 3e38.", [3e38, 3e38, 3e38]),
    Row("ties", "below-the-peak", "Equal logits below the peak.", [5, 1, 1]),
    Row("confident", "minus-5", "The rest is e⁻⁵.", [0, -5, -5]),
    Row("confident", "minus-20", "The rest is e⁻²⁰: 1 + e⁻²⁰ is 1 in float32, log1p(e⁻²⁰) is not 0.", [0, -20, -22]),
    Row("confident", "minus-40", "The rest is e⁻⁴⁰.", [0, -40, -41]),
    Row("confident", "minus-80", "The rest is e⁻⁸⁰, near the end of float32.", [0, -80, -82]),
    Row("confident", "away-from-0", "The same at a peak of 12: x − log Z would cancel.", [12, -8, -9]),
    Row("confident", "unlikely-label", "The label is not the likely class.", [-20, 0, -1]),
    Row("confident", "float64", "The rest is e⁻⁴⁰ in float64, whose ulp of 1 is e⁻³⁶.", [0, -40, -41], dtype="float64"),
    Row(
        "large exponents",
        "offset-1e4",
        "An offset that cancels: no digit of the differences is lost.",
        [10000, 10001, 9999.5],
    ),
    Row("large exponents", "exp-overflows", "exp(x) overflows.", [500, 501, 499]),
    Row("large exponents", "exp-underflows", "exp(x) underflows for every class.", [-500, -501, -499]),
    Row("large exponents", "huge", "Logits near the end of float32.", [1e38, -1e38, 3e38], label=2),
    Row("large exponents", "tied-and-huge", "Two at the peak of 1e30, and −1e30.", [1e30, 1e30, -1e30]),
    Row("absent classes", "minus-infinity", "A logit of −∞ is a class that is not there.", [1, -INF, 2]),
    Row("absent classes", "mask", "So is an entry with where=False.", [1, 5, 2], MASK),
    Row("absent classes", "mask-hides-the-peak", "The largest logit is masked, by far.", [1, 300, 2], MASK),
    Row("absent classes", "one-left", "One class is left.", [-INF, -INF, 4], label=2),
    Row("absent classes", "confident-beside", "A confident row beside an absent class.", [0, -INF, -20]),
    Row("masks do not leak", "nan", "NaN where where=False.", [1, NAN, 2], MASK),
    Row("masks do not leak", "infinity", "+∞ where where=False.", [1, INF, 2], MASK),
    Row("masks do not leak", "minus-infinity", "−∞ where where=False.", [1, -INF, 2], MASK),
    Row("masks do not leak", "huge", "The largest number where where=False.", [1, 3.4e38, 2], MASK),
    Row(
        "masks do not leak",
        "nan-and-beta",
        "NaN where where=False, with β: its gradient too.",
        [1, NAN, 2],
        MASK | {"beta": 0.7},
    ),
    Row("empty rows", "all-minus-infinity", "Every logit is −∞.", [-INF, -INF, -INF]),
    Row("empty rows", "all-masked", "where=False everywhere.", THREE, {"where": [False] * 3}),
    Row(
        "empty rows",
        "masked-or-minus-infinity",
        "What the mask leaves is −∞.",
        [1, -INF, 2],
        {"where": [False, True, False]},
    ),
    Row(
        "empty rows",
        "beside-another",
        "An empty row does not disturb the one beside it.",
        [[-INF] * 3, THREE],
        label=[0, 0],
    ),
    Row("infinities", "plus-infinity", "A logit of +∞.", [1, INF, 2]),
    Row("infinities", "two-plus-infinities", "Two logits of +∞.", [INF, INF, 2]),
    Row("infinities", "nan", "A logit of NaN.", [1, NAN, 2]),
    Row(
        "infinities",
        "nan-beside-another",
        "A NaN does not disturb the row beside it.",
        [[1, NAN, 2], THREE],
        label=[0, 0],
    ),
    Row("inverse temperature", "two", "β = 2.", [-1.3, 0.7, 2.1], {"beta": 2.0}),
    Row("inverse temperature", "a-third", "β = 1/3, which rounds.", [-1.3, 0.7, 2.1], {"beta": 1 / 3}),
    Row("inverse temperature", "minus-1", "β = −1: the smaller logits win.", THREE, {"beta": -1.0}),
    Row("inverse temperature", "minus-2.5", "β = −2.5.", [-1.3, 0.7, 2.1], {"beta": -2.5}),
    Row("inverse temperature", "small", "β = 1e−3: nearly uniform.", THREE, {"beta": 1e-3}),
    Row("inverse temperature", "large", "β = 30: nearly one-hot.", [-0.3, 0.7, 1.1], {"beta": 30.0}, label=2),
    Row(
        "inverse temperature",
        "beta-x-overflows",
        "β x overflows, β (x − m) does not where it counts.",
        [3e38, 3e38, 2e38],
        {"beta": 1e3},
    ),
    Row(
        "inverse temperature",
        "x-minus-m-overflows",
        "x − m overflows, β (x − m) = −12 does not.",
        [3e38, -3e38, 3e38],
        {"beta": 2e-38},
    ),
    Row(
        "inverse temperature",
        "absent-class",
        "A logit of −∞ does not disturb the gradient in β.",
        [1, -INF, 2],
        {"beta": 0.7},
    ),
    Row(
        "inverse temperature",
        "absent-class-negative",
        "−∞ is absent for β < 0 too, not the smallest.",
        [1, -INF, 2],
        {"beta": -0.7},
    ),
    Row(
        "inverse temperature",
        "mask",
        "A masked entry does not disturb the gradient in β.",
        [1, 5, 2],
        MASK | {"beta": 0.7},
    ),
    Row("inverse temperature", "one-a-row", "A β for each row.", BATCH, {"beta": [0.5, -1.5]}, label=[0, 2]),
    Row("inverse temperature", "float64", "β = 0.37 in float64.", [-1.3, 0.7, 2.1], {"beta": 0.37}, dtype="float64"),
    Row("limits of beta", "zero", "β = 0: uniform.", THREE, {"beta": 0.0}),
    Row(
        "limits of beta",
        "zero-absent-class",
        "β = 0: uniform over the classes that are there.",
        [1, -INF, 2],
        {"beta": 0.0},
    ),
    Row("limits of beta", "infinity", "β = +∞: the largest.", [1, 3, 2], {"beta": INF}, label=1),
    Row("limits of beta", "infinity-tie", "β = +∞: tied peaks share evenly.", [3, 1, 3], {"beta": INF}),
    Row("limits of beta", "infinity-at-0", "β = +∞ where logits are 0: ∞ · 0.", [0, -1, 0], {"beta": INF}),
    Row("limits of beta", "minus-infinity", "β = −∞: the smallest.", [1, 3, 2], {"beta": -INF}),
    Row(
        "limits of beta", "minus-infinity-tie", "β = −∞: tied minima share evenly.", [3, 1, 1], {"beta": -INF}, label=1
    ),
    Row("limits of beta", "infinity-absent-class", "β = −∞ beside an absent class.", [1, -INF, 2], {"beta": -INF}),
    Row("limits of beta", "nan", "β is NaN.", THREE, {"beta": NAN}),
    Row("half precision", "bfloat16", "bfloat16: the exact result, rounded once.", [-1.3, 0.7, 2.1], dtype="bfloat16"),
    Row("half precision", "float16", "float16: the exact result, rounded once.", [-1.3, 0.7, 2.1], dtype="float16"),
    Row("half precision", "bfloat16-confident", "A confident row in bfloat16.", [0, -7, -9], dtype="bfloat16"),
    Row("half precision", "bfloat16-offset", "An offset in bfloat16.", [100, 101, 99.5], dtype="bfloat16"),
    Row(
        "half precision", "float16-near-its-end", "Logits near the end of float16.", [6e4, 6e4, 59968], dtype="float16"
    ),
    Row(
        "half precision",
        "bfloat16-sixteen",
        "Sixteen classes: sums are wider than bfloat16.",
        MANY,
        dtype="bfloat16",
        label=6,
    ),
    Row(
        "half precision",
        "bfloat16-beta",
        "β = 0.7 in bfloat16, β itself in float32.",
        [-1.3, 0.7, 2.1],
        {"beta": 0.7},
        dtype="bfloat16",
    ),
]

LOSSES = (INTEGER, DISTRIBUTION)
WIDENING = (*LOSSES, "entropy", "kl_divergence")
LOG_Z = ("logsumexp", "logmeanexp", "free_energy")
OF_ENERGIES = ("boltzmann", "free_energy")
FEW = [
    "ordinary/three",
    "confident/minus-20",
    "confident/minus-40",
    "ties/two-at-the-peak",
    "large-exponents/huge",
    "absent-classes/minus-infinity",
    "absent-classes/mask",
    "empty-rows/all-minus-infinity",
    "infinities/nan",
    "inverse-temperature/a-third",
    "inverse-temperature/minus-1",
    "limits-of-beta/zero",
    "limits-of-beta/infinity-tie",
    "half-precision/bfloat16",
    "ordinary/float64",
]  # what an operator is given that is another with the sign of its argument changed
MORE = [
    "ordinary/decimals",
    "ordinary/first-axis",
    "ordinary/two-axes",
    "ordinary/negative-zero",
    "ties/below-the-peak",
    "ties/large-and-equal",
    "confident/minus-5",
    "confident/minus-80",
    "large-exponents/exp-underflows",
    "large-exponents/tied-and-huge",
    "absent-classes/one-left",
    "absent-classes/mask-hides-the-peak",
    "masks-do-not-leak/minus-infinity",
    "masks-do-not-leak/huge",
    "empty-rows/masked-or-minus-infinity",
    "infinities/two-plus-infinities",
    "inverse-temperature/two",
    "inverse-temperature/minus-2.5",
    "inverse-temperature/small",
    "inverse-temperature/beta-x-overflows",
    "inverse-temperature/absent-class-negative",
    "inverse-temperature/mask",
    "limits-of-beta/zero-absent-class",
    "limits-of-beta/infinity",
    "limits-of-beta/infinity-at-0",
    "limits-of-beta/minus-infinity",
    "limits-of-beta/infinity-absent-class",
    "half-precision/float16",
    "half-precision/bfloat16-confident",
    "half-precision/bfloat16-offset",
    "half-precision/bfloat16-sixteen",
]  # what is left out where much is tested by another operator already


def given(operator, row):
    """Is the operator given this row?"""
    name = f"{row.group.replace(' ', '-')}/{row.slug}"
    if operator in OF_ENERGIES:
        return name in FEW
    if operator == DISTRIBUTION and row.slug == "huge":
        return False  # log p is beyond float32, though y log p may not be
    if operator == "entropy" and row.slug == "x-minus-m-overflows":
        return False  # −β Var[x] is near the end of float32 there
    return operator not in ("logmeanexp", "entropy", DISTRIBUTION) or name not in MORE


def convention(operator, row):
    """Which parts of the answer of a row another library may define otherwise."""
    group, slug = row.group, row.slug
    if group == "empty rows":
        return GRADIENT if operator in ("logsumexp", "free_energy") else BOTH  # log of an empty sum is −∞
    if group == "infinities":
        return BOTH if "plus" in slug and operator not in LOG_Z else GRADIENT
    beta = np.max(row.more.get("beta", 1.0))
    if np.any(np.asarray(row.x) == -INF) and (operator == "logmeanexp" or beta <= 0):
        return BOTH  # is it no class, or one of probability 0?
    if group == "limits of beta" and not np.isnan(beta):
        if beta == 0:  # of a free energy there is a limit from one side only
            return BOTH if operator in ("logsumexp", "free_energy") else ()
        return GRADIENT
    if operator in LOG_Z and slug == "x-minus-m-overflows":
        return GRADIENT  # that in β overflows; where it saturates is a choice
    if group == "half precision" and operator in WIDENING:
        return BOTH  # a float32 result of half-precision logits
    return GRADIENT if np.isnan(beta) else ()


def drafts(operator):
    """The cases of an operator without their answers."""
    if operator == "kl_divergence":
        return _divergences()
    found = [_draft(operator, row) for row in ROWS if given(operator, row)]
    return found + OWN.get(operator, list)()


def _draft(operator, row):
    inputs, options = {}, dict(row.options)
    x = np.asarray(row.x, np.float64)
    if operator in OF_ENERGIES:
        inputs["energies"] = array("energies", -x, row.dtype)
    else:
        inputs["logits" if operator in WIDENING else "x"] = array("x", x, row.dtype)
    if operator == INTEGER:
        inputs["labels"] = np.asarray(row.label, np.int32)
    if operator == DISTRIBUTION:
        inputs["labels"] = array("labels", _masses(x, row), row.dtype)
    for name, values in row.more.items():
        given = array(name, values, row.dtype)
        if name == "beta" and given.ndim and operator in ("softmax", "log_softmax", "boltzmann"):
            given = given[:, None]  # it has the rank of the result
        inputs[name] = given
    said = convention(operator, row)
    if operator in LOSSES and _label_is_absent(operator, inputs, row):
        said = tuple(sorted({*said, "gradient"}, reverse=True))
    return Draft(row.group, row.slug, row.tests, inputs, options, said)


def _masses(x, row):
    """Labels as a distribution: 5/8 on the label, 3/8 on the last class that is there."""
    axis = row.options.get("axis", -1)
    if isinstance(axis, list):
        flat = _masses(x.ravel(), row._replace(options={}))
        return flat.reshape(x.shape)
    rows = np.moveaxis(x, axis, -1)
    y, labels = np.zeros(rows.shape), np.reshape(row.label, rows.shape[:-1])
    shown = np.broadcast_to(row.more.get("where", True), rows.shape)
    for index in np.ndindex(rows.shape[:-1]):
        there = np.flatnonzero(shown[index] & (rows[index] != -INF))
        last = there[-1] if len(there) else labels[index]
        y[index][labels[index]] += 0.625
        y[index][last] += 0.375
    return np.moveaxis(y, -1, axis)


def _label_is_absent(operator, inputs, row):
    """The loss is +∞ there; its gradient is a convention."""
    if operator != INTEGER or np.ndim(row.x) > 1:
        return False
    label = int(inputs["labels"])
    return inputs["logits"][label] == -INF or not np.broadcast_to(row.more.get("where", True), (len(row.x),))[label]


def own(operator, group, slug, tests, x, more=None, convention=(), dtype="float32", options=None):
    """A case of one operator; the names of its inputs are given, logits first."""
    more = more or {}
    logits = "logits" if operator in WIDENING else "x"
    inputs = {logits: array(logits, x, dtype)}
    for name, values in more.items():
        inputs[name] = values if isinstance(values, np.ndarray) else array(name, values, dtype)
    return Draft(group, slug, tests, inputs, options or {}, convention)


def _index(values, dtype="int32"):
    return np.asarray(values, dtype)


def _logsumexps():
    op = "logsumexp"
    return [
        own(op, "ordinary", "keepdims", "The reduced axis is kept with size 1.", BATCH, options={"keepdims": True}),
        own(op, "options", "b", "Multiplicities: log Σ b exp x.", THREE, {"b": [0.5, 2.0, 1.25]}),
        own(op, "options", "b-negative", "A negative multiplicity: log(e² − e).", [1, 2], {"b": [-1.0, 1.0]}),
        own(
            op,
            "options",
            "b-zero",
            "A multiplicity of 0 is an absent class, whatever its logit.",
            [1, 5, 2],
            {"b": [1.0, 0.0, 1.0]},
        ),
        own(op, "options", "b-zero-nan", "A multiplicity of 0 hides a NaN.", [1, NAN, 2], {"b": [1.0, 0.0, 1.0]}, BOTH),
        own(
            op,
            "options",
            "b-cancels",
            "Multiplicities that cancel at the peak leave what is below it.",
            [3, 3, 1],
            {"b": [1.0, -1.0, 2.0]},
        ),
        own(
            op,
            "options",
            "b-log-of-negative",
            "The logarithm of a negative sum is NaN.",
            [1, 2],
            {"b": [1.0, -1.0]},
            GRADIENT,
        ),
        own(op, "options", "b-confident", "Multiplicities on a confident row.", [0, -20, -21], {"b": [1.0, 3.0, 0.5]}),
        own(op, "options", "b-beta", "Multiplicities with β = 0.7.", THREE, {"b": [0.5, 2.0, 1.25], "beta": 0.7}),
    ]


def _integers():
    op, cases = INTEGER, []
    four = [1, 2, 3, 4]
    for slug, label in (
        ("four", 4),
        ("hundred", 100),
        ("minus-1", -1),
        ("minus-4", -4),
        ("minus-5", -5),
        ("minus-100", -100),
        ("largest", 2**31 - 1),
        ("smallest", -(2**31)),
    ):
        tests = f"Label {label} of four classes: neither wrapped nor clamped, the row is NaN."
        cases.append(own(op, "bad labels", slug, tests, four, {"labels": _index(label)}, BOTH))
    cases += [
        own(
            op,
            "bad labels",
            "beside-another",
            "A bad label does not disturb the row beside it.",
            BATCH,
            {"labels": _index([-1, 2])},
            BOTH,
        ),
        own(op, "labels", "int8", "A label of int8.", four, {"labels": _index(3, "int8")}),
        own(op, "labels", "uint8", "A label of uint8.", four, {"labels": _index(3, "uint8")}),
        own(
            op,
            "labels",
            "of-two-axes",
            "Class axes (1, 0): the label is the flat index in that order.",
            [[1, 5], [2, 4], [3, 6]],
            {"labels": _index(1)},
            VALUE + GRADIENT,
            options={"axis": [1, 0]},
        ),
        own(
            op,
            "absent classes",
            "label-at-minus-infinity",
            "The label's logit is −∞: the loss is +∞, its gradient the limit.",
            [1, -INF, 2],
            {"labels": _index(1)},
            GRADIENT,
        ),
        own(
            op,
            "absent classes",
            "label-is-masked",
            "The label's class is masked: the loss is +∞.",
            [1, 5, 2],
            {"labels": _index(1)} | MASK,
            BOTH,
        ),
        own(op, "large exponents", "loss-of-2e38", "The loss itself is 2e38.", [1e38, -1e38, 0], {"labels": _index(1)}),
        own(
            op,
            "large exponents",
            "loss-beyond-float32",
            "The loss, 6e38, is beyond float32; its gradient is not.",
            [3e38, -3e38, 0],
            {"labels": _index(1)},
        ),
        own(
            op,
            "options",
            "ignored",
            "The ignored label: loss and gradient 0.",
            BATCH,
            {"labels": _index([-100, 2])},
            options={"ignore_label": -100},
        ),
        own(
            op,
            "options",
            "ignored-class",
            "A class may be the ignored label: only its rows.",
            BATCH,
            {"labels": _index([1, 2])},
            options={"ignore_label": 1},
        ),
        own(
            op,
            "options",
            "ignored-nan",
            "An ignored row that holds NaN.",
            [[1, NAN, 2], THREE],
            {"labels": _index([-100, 0])},
            options={"ignore_label": -100},
        ),
        own(
            op,
            "options",
            "ignored-bad-label",
            "With an ignored label the others are still checked.",
            BATCH,
            {"labels": _index([-1, -100])},
            BOTH,
            options={"ignore_label": -100},
        ),
        own(
            op,
            "options",
            "smoothing",
            "Label smoothing of 0.1: ε/K on every class.",
            four,
            {"labels": _index(3), "label_smoothing": 0.1},
        ),
        own(
            op,
            "options",
            "smoothing-confident",
            "Label smoothing on a confident row.",
            [0, -20, -21],
            {"labels": _index(0), "label_smoothing": 0.1},
        ),
        own(
            op,
            "options",
            "smoothing-absent-class",
            "Smoothing is shared by the classes that are there.",
            [1, -INF, 2],
            {"labels": _index(0), "label_smoothing": 0.1},
            BOTH,
        ),
        own(
            op,
            "options",
            "smoothing-mask",
            "The same with a mask.",
            [1, 5, 2],
            {"labels": _index(0), "label_smoothing": 0.1} | MASK,
            BOTH,
        ),
        own(
            op, "options", "z-loss", "A z-loss of 1e−3: λ (log Z)² on top.", four, {"labels": _index(3), "z_loss": 1e-3}
        ),
        own(
            op,
            "options",
            "z-loss-offset",
            "A z-loss at an offset of 50.",
            [50, 51, 49],
            {"labels": _index(0), "z_loss": 1e-3},
        ),
        own(
            op,
            "options",
            "class-weights",
            "The loss counts as the weight of the label's class.",
            BATCH,
            {"labels": _index([0, 2]), "class_weights": [2.0, 0.5, 3.0]},
        ),
        own(
            op,
            "options",
            "class-weight-0",
            "A class of weight 0 drops an infinite loss: 0 · ∞ = 0.",
            [-INF, 2, 1],
            {"labels": _index(0), "class_weights": [0.0, 1.0, 1.0]},
            BOTH,
        ),
        own(
            op,
            "options",
            "smoothing-and-weights",
            "Smoothing and class weights: w_j ((1 − ε) y_j + ε/K).",
            BATCH,
            {"labels": _index([0, 2]), "label_smoothing": 0.2, "class_weights": [2.0, 0.5, 3.0]},
        ),
        own(
            op,
            "options",
            "all-of-them",
            "Ignored label, smoothing, z-loss, class weights and β together.",
            BATCH,
            {
                "labels": _index([0, -100]),
                "label_smoothing": 0.2,
                "z_loss": 1e-2,
                "class_weights": [2.0, 0.5, 3.0],
                "beta": 0.7,
            },
            options={"ignore_label": -100},
        ),
    ]
    return cases


def _distributions():
    op = DISTRIBUTION
    return [
        own(op, "labels", "one-hot", "A distribution with one class is its label.", THREE, {"labels": [0, 0, 1]}),
        own(
            op,
            "labels",
            "not-normalised",
            "Labels are not normalised: Σ_j y_j (−log p_j).",
            THREE,
            {"labels": [2, 0, 1]},
        ),
        own(op, "labels", "all-zero", "No mass, no loss.", THREE, {"labels": [0, 0, 0]}),
        own(op, "labels", "negative-mass", "Negative mass is a number like another.", THREE, {"labels": [-1, 0.5, 1]}),
        own(
            op,
            "absent classes",
            "mass-there",
            "Mass on a class at −∞: the loss is +∞.",
            [1, -INF, 2],
            {"labels": [0.5, 0.5, 0]},
            GRADIENT,
        ),
        own(
            op,
            "confident",
            "mass-on-the-peak",
            "All mass on the peak of a confident row.",
            [0, -20, -22],
            {"labels": [1, 0, 0]},
        ),
        own(
            op,
            "options",
            "smoothing",
            "Label smoothing of 0.1.",
            THREE,
            {"labels": [0.25, 0, 0.75], "label_smoothing": 0.1},
        ),
        own(op, "options", "z-loss", "A z-loss of 1e−3.", THREE, {"labels": [0.25, 0, 0.75], "z_loss": 1e-3}),
        own(
            op,
            "options",
            "class-weights",
            "Class weights: w_j y_j.",
            THREE,
            {"labels": [0.25, 0, 0.75], "class_weights": [2.0, 0.5, 3.0]},
        ),
    ]


def _entropies():
    op = "entropy"
    return [own(op, "ordinary", "keepdims", "The reduced axis is kept with size 1.", BATCH, options={"keepdims": True})]


OWN = {"logsumexp": _logsumexps, INTEGER: _integers, DISTRIBUTION: _distributions, "entropy": _entropies}
OPERATORS = (
    *("softmax", "log_softmax", "logsumexp", "logmeanexp", DISTRIBUTION, INTEGER, "entropy", "kl_divergence"),
    *("boltzmann", "free_energy"),
)


def _divergences():
    pairs = (
        ("ordinary", "three", "Three logits.", THREE, [2, 0, 1]),
        ("ordinary", "batch", "Two rows.", BATCH, [[0, 1, 0], [0.5, 2, -1]]),
        ("ordinary", "sixteen", "Sixteen classes.", MANY, MANY[::-1]),
        ("ordinary", "equal", "Equal distributions: exactly 0.", THREE, THREE),
        ("ordinary", "offset", "Equal but for an offset: 0 all the same.", THREE, [5, 6, 7]),
        ("ordinary", "nearly-equal-1e-2", "Logits 1e−2 apart: some 1e−5.", THREE, [1.01, 1.995, 3.0]),
        (
            "ordinary",
            "nearly-equal-1e-4",
            "Logits 1e−4 apart: a difference of two sums keeps no digit in float32.",
            THREE,
            [1.0001, 1.99995, 3.0],
        ),
        ("ties", "uniform", "A row of ties and another.", [0.3, 0.3, 0.3], THREE),
        ("confident", "both-minus-20", "Both confident at the same class.", [0, -20, -22], [0, -21, -20]),
        ("confident", "minus-40", "Both confident: some 1e−18.", [0, -40, -44], [0, -42, -41]),
        ("confident", "opposed", "Confident at different classes.", [0, -20, -22], [-20, 0, -1]),
        (
            "large exponents",
            "offset-1e4",
            "An offset that cancels in both.",
            [10000, 10001, 9999.5],
            [-10000, -9999, -10001.5],
        ),
        ("absent classes", "of-p", "A class that p has not adds nothing: 0 log 0 = 0.", [1, -INF, 2], [2, 0, 1]),
        ("absent classes", "of-both", "A class that neither has.", [1, -INF, 2], [2, -INF, 1]),
    )
    found = [_pair(*given) for given in pairs]
    masks = [("mask", "A masked class is in neither.", 5.0, 7.0, "absent classes")]
    masks += [
        ("nan", "NaN where where=False.", NAN, NAN, "masks do not leak"),
        ("infinity", "+∞ where where=False.", INF, 1.0, "masks do not leak"),
    ]
    for slug, tests, a, b, group in masks:
        found.append(_pair(group, slug, tests, [1, a, 2], [2, b, 1], MASK))
    for slug, beta in (("two", 2.0), ("a-third", 1 / 3), ("minus-1", -1.0), ("large", 30.0)):
        found.append(_pair("inverse temperature", slug, f"β = {beta:.3g}.", THREE, [2, 0, 1], {"beta": beta}))
    found.append(_pair("infinities", "nan", "A logit of NaN.", [1, NAN, 2], [2, 0, 1])._replace(convention=GRADIENT))
    found.append(
        _pair("half precision", "bfloat16", "bfloat16.", THREE, [2, 0, 1], dtype="bfloat16")._replace(convention=BOTH)
    )
    found.append(
        _pair("ordinary", "float64", "Logits 1e−7 apart in float64.", THREE, [1 + 1e-7, 2 - 5e-8, 3], dtype="float64")
    )
    return found


def _pair(group, slug, tests, p, q, more=None, dtype="float32"):
    inputs = {"logits_p": array("logits_p", p, dtype), "logits_q": array("logits_q", q, dtype)}
    return Draft(group, slug, tests, inputs | {k: array(k, v, dtype) for k, v in (more or {}).items()})
