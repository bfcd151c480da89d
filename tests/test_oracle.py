"""The oracle against independent witnesses: SciPy, printed numbers, finite differences, unshifted sums."""

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from mpmath import mp, mpf

from . import inputs, oracle, torture

CE, DIST = torture.CE, torture.DIST
OPERATORS = ("softmax", "log_softmax", "softmax_jacobian", "logsumexp", "logmeanexp", DIST, CE)
RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4))


# ------------------------------------------------------------------------------------------------------ torture list


def _arguments(entry):
    # float32 holds every bfloat16, so the oracle need not know that type
    dtype = {"bfloat16": "float32"}.get(entry.dtype, entry.dtype)
    first, *rest = entry.args
    rest = [np.asarray(r).astype(entry.label_dtype if entry.op == CE else dtype) for r in rest]
    wide = np.float64 if entry.dtype == "float64" else np.float32
    kwargs = {k: np.asarray(v, wide) if k in torture.NUMBERS else v for k, v in entry.kwargs.items()}
    return (np.asarray(first).astype(dtype), *rest), kwargs


def _agree(literal, exact):
    """Literals are doubles, or expressions of two roundings; past the largest float32 they say inf."""
    literal = np.asarray(literal, np.float64)
    past = np.isinf(literal) & (oracle.ulp_error(literal, exact, "float32") == 0)
    assert np.all(past | (oracle.ulp_error(literal, exact, "float64") <= 2)), (literal, exact)


SMALL = [e for e in torture.ENTRIES if np.size(e.args[0]) < 10_000]


@pytest.mark.parametrize("entry", SMALL, ids=lambda e: f"{e.id}-{e.op}")
def test_torture_entry(entry):
    args, kwargs = _arguments(entry)
    with mp.workdps(oracle.DIGITS):
        value = getattr(oracle, entry.op).exact(*args, **kwargs)
        for literal, exact in (
            zip(entry.value, value, strict=True) if isinstance(value, tuple) else [(entry.value, value)]
        ):
            _agree(literal, exact)
        g = 1.0 if isinstance(value, tuple) else np.ones(value.shape)
        g = g if entry.cotangent is None else np.asarray(list(entry.cotangent), np.float64)
        bars = getattr(oracle, f"{entry.op}_vjp").exact(g, *args, **kwargs)
        first = next(iter(bars))
        stated = {first: entry.gradient, "beta": entry.beta_gradient, "labels": entry.labels_gradient}
        for name, literal in stated.items():
            if literal is not None:
                _agree(literal, bars[name])
    if entry.hvp is not None:
        _agree(entry.hvp, oracle.to_mpf(oracle.hvp(entry.op, args, kwargs, g, {first: entry.direction})[first]))


def test_torture_large():
    """n equal logits: every entry too large for the row loop has a closed form."""
    large = [e for e in torture.ENTRIES if np.size(e.args[0]) >= 10_000]
    assert {e.id for e in large} == {"T16"} and {e.dtype for e in large} == {"float16", "bfloat16"}
    for e in large:
        n, (x, *label) = len(e.args[0]), e.args
        assert set(x) == {0}
        log_n, equal = float(mp.log(n)), [1 / n] * n
        loss_gradient = [1 / n - (j in label) for j in range(n)]
        value, gradient = {
            "logsumexp": (log_n, equal),
            CE: (log_n, loss_gradient),
            "softmax": (equal, [0] * n),
            "log_softmax": ([-log_n] * n, [0] * n),
        }[e.op]
        assert e.value == value and e.gradient == gradient


def test_torture_is_complete():
    wanted = {f"T{i:02}" for i in range(1, 32)} | {f"B{i:02}" for i in range(1, 10)} | {f"L{i:02}" for i in range(1, 9)}
    wanted |= {
        *(f"W{i:02}" for i in range(1, 5)),
        *(f"R{i:02}" for i in range(1, 6)),
        *(f"X{i:02}" for i in range(1, 7)),
    }
    assert {e.id for e in torture.ENTRIES} | set(torture.LAWS) == wanted
    assert {e.op for e in torture.ENTRIES} == {*OPERATORS, "weighted_mean"}


# ------------------------------------------------------------------------------------------------------- other values


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), None])
def test_values_scipy(axis, rng):
    close = {"rtol": 1e-14, "atol": 1e-15}
    b = rng.uniform(0.1, 2.0, X.shape)
    np.testing.assert_allclose(oracle.softmax(X, axis), scipy.special.softmax(X, axis), **close)
    np.testing.assert_allclose(oracle.log_softmax(X, axis), scipy.special.log_softmax(X, axis), **close)
    for keep in (False, True):
        ours, theirs = (f(X, axis=axis, b=b, keepdims=keep) for f in (oracle.logsumexp, scipy.special.logsumexp))
        np.testing.assert_allclose(ours, theirs, **close)
    n = X.size if axis is None else math.prod(X.shape[a] for a in np.atleast_1d(axis))
    beta = 1.7
    scaled = (scipy.special.logsumexp(beta * X, axis=axis) - math.log(n)) / beta
    np.testing.assert_allclose(oracle.logmeanexp(X, axis, beta=beta), scaled, **close)
    np.testing.assert_allclose(oracle.softmax(X, axis, beta=beta), scipy.special.softmax(beta * X, axis), **close)


def test_axes_are_ordered(rng):
    """Over axes (2, 0) the flat label counts axis 0 fastest, and the Jacobian has its class axes in that order."""
    labels = rng.integers(0, 8, 3)
    log_p = scipy.special.log_softmax(X, axis=(0, 2))
    expected = [-log_p[label % 2, i, label // 2] for i, label in enumerate(labels)]
    losses = oracle.softmax_cross_entropy_with_integer_labels(X, labels, axis=(2, 0))
    np.testing.assert_allclose(losses, expected, rtol=1e-14)
    p = np.exp(log_p)
    jacobian = np.einsum("ajb,ac,bd->jbadc", p, np.eye(2), np.eye(4)) - np.einsum("ajb,cjd->jbadc", p, p)
    np.testing.assert_allclose(oracle.softmax_jacobian(X, (2, 0)), jacobian, rtol=1e-13)


# β: p, E[x], Var[x] at x = [1, 2, 3]
PRINTED = {
    0.0: ([1 / 3, 1 / 3, 1 / 3], 2.0, 0.666666666667),
    1.0: ([0.090030573170380, 0.244728471054798, 0.665240955774822], 2.575210382604, 0.424404544689),
    2.5: ([0.00618829, 0.07538875, 0.91842297], 2.912234681491, 0.092439137921),
    -1.0: ([0.665240955774822, 0.244728471054798, 0.090030573170380], 1.424789617396, 0.424404544689),
    -3.0: ([0.95033021, 0.04731416, 0.00235563], 1.052025421383, 0.054030043075),
}


@pytest.mark.parametrize("beta", PRINTED)
def test_values_printed(beta):
    p, mean, variance = PRINTED[beta]
    x, label, one_hot = np.array([1.0, 2.0, 3.0]), np.array(0), np.eye(3)[0]
    np.testing.assert_allclose(oracle.softmax(x, beta=beta), p, atol=6e-9)
    slope = oracle.softmax_cross_entropy_with_integer_labels_vjp(1.0, x, label, beta=beta)["beta"]
    np.testing.assert_allclose(slope + x[0], mean, atol=6e-13)
    second = oracle.hvp(CE, (x, label), {"beta": beta}, 1.0, {"beta": 1.0})
    np.testing.assert_allclose(second["beta"], variance, atol=6e-13)
    np.testing.assert_allclose(second["logits"], p - one_hot + beta * np.array(p) * (x - mean), atol=3e-8)


def test_values_printed_smoothed():
    """Label smoothing 0.1 on [1, 2, 3] as torch and as Megatron define it, written as distributions."""
    for smoothed, printed in ((0.1, 2.307605964444380), (0.15, 2.257605964444380)):
        labels = (1 - smoothed) * np.eye(3)[0] + smoothed / 3
        np.testing.assert_allclose(oracle.softmax_cross_entropy([1.0, 2.0, 3.0], labels), printed, rtol=1e-15)


@pytest.mark.parametrize("name", ["confident", "loud", "offset 2^17", "ties", "near tie"])
@pytest.mark.parametrize("beta", [1.0, -0.3])
def test_values_unshifted(name, beta):
    """log Σ exp(β x) − β x_i term by term, with digits enough for the cancellation."""
    x = inputs.BY_NAME[name].x(np.float64)
    with mp.workdps(400):
        for row, log_p, lse in zip(
            oracle.to_mpf(x),
            oracle.log_softmax.exact(x, beta=mpf(beta)),
            oracle.logsumexp.exact(x, beta=mpf(beta)),
            strict=True,
        ):
            log_z = mp.log(sum(mp.exp(mpf(beta) * v) for v in row))
            assert abs(lse - log_z / mpf(beta)) <= abs(lse) * mpf(10) ** -380
            for v, ours in zip(row, log_p, strict=True):
                assert abs(ours - (mpf(beta) * v - log_z)) <= abs(ours) * mpf(10) ** -50


def test_limits_with_weights():
    """β → ∞ of β⁻¹ log Σ b exp(β x): peaks whose weights cancel give way to the next; +inf needs positive weight."""
    lse, b = oracle.logsumexp, [2.0, -2.0, 1.0]
    assert lse([3.0, 3.0, 1.0], b=b, beta=np.inf) == 1.0 == lse([-3.0, -3.0, 1.0], b=b, beta=-np.inf)
    assert abs(lse([3.0, 3.0, 1.0], b=b, beta=1e6) - 1.0) < 1e-5
    assert lse([3.0, 3.0], b=b[:2], beta=np.inf) == -np.inf and np.isnan(lse([1.0, 3.0], b=b[:2], beta=np.inf))
    assert lse([np.inf, 1.0], b=b[:2]) == np.inf and np.isnan(lse([1.0, np.inf], b=b[:2]))


def test_weighted_mean(rng):
    losses, weights = rng.standard_normal(9), rng.uniform(0, 1, 9)
    mean, count = oracle.weighted_mean(losses, weights)
    np.testing.assert_allclose([mean, count], [np.average(losses, weights=weights), weights.sum()], rtol=1e-15)


# ---------------------------------------------------------------------------------------------------------- derivatives

HOLES = np.where(RNG.random(X.shape) < 0.2, -np.inf, X)
WHERE = RNG.random(X.shape) < 0.8
WHERE[..., 0] = True
LAST_MASKED = np.array([True, True, True, False])
PER_ROW = RNG.uniform(-2, 2, (3, 1))  # β for a result in the shape of X
B = RNG.uniform(-0.3, 2.0, (3, 4)) + np.array([2.0, 1.0, 1.0, 0.0])  # some negative, every total positive
B[1, 3] = 0.0  # absent, but with a slope
Y = RNG.uniform(-0.5, 2.0, X.shape)
Y[0, 1, 2] = 0.0
LABELS = RNG.integers(0, 4, (2, 3))

OPTIONS = {"label_smoothing": 0.2, "z_loss": 0.1, "class_weights": np.arange(1.0, 9.0)}

# Points where value and cotangents are smooth in every argument named in `_directions`.
SMOOTH = [
    *(
        (name, arguments)
        for name in ("softmax", "log_softmax")
        for arguments in (
            {"x": X, "beta": 1.3},
            {"x": X, "beta": PER_ROW},
            {"x": X, "beta": 0.0, "axis": (2, 0)},
            {"x": 20 * X, "beta": -0.7, "axis": 1},
            {"x": HOLES, "beta": 0.9, "where": WHERE},
        )
    ),
    ("softmax_jacobian", {"x": X, "beta": PER_ROW[:, 0], "axis": (2, 0)}),
    ("softmax_jacobian", {"x": 10 * X[0], "beta": -0.6}),
    ("softmax_jacobian", {"x": X[0], "beta": 0.0}),
    ("softmax_jacobian", {"x": HOLES, "beta": 1.1}),
    ("logsumexp", {"x": X, "beta": 1.3}),
    ("logsumexp", {"x": X, "beta": PER_ROW[:, 0], "b": B}),
    ("logsumexp", {"x": X, "beta": np.full((1, 3, 1), -0.8), "axis": (0, 2), "keepdims": True, "where": WHERE}),
    ("logsumexp", {"x": HOLES, "beta": 1e-3, "b": 3.0, "where": WHERE}),
    ("logsumexp", {"x": 3 * X, "beta": 2.0, "b": B, "axis": None}),
    ("logmeanexp", {"x": X, "beta": 0.0}),
    ("logmeanexp", {"x": HOLES, "beta": PER_ROW[:, 0], "where": WHERE}),
    ("logmeanexp", {"x": X, "beta": -1e-20, "axis": (1, 0)}),
    ("logmeanexp", {"x": X, "beta": 1e-60}),
    (DIST, {"logits": X, "labels": Y, "beta": 1.3}),
    (DIST, {"logits": X, "labels": Y * LAST_MASKED, "beta": PER_ROW[:, 0], "where": LAST_MASKED}),
    (DIST, {"logits": 25 * X, "labels": Y, "beta": -0.4, "axis": (2, 1)}),
    (CE, {"logits": X, "labels": LABELS, "beta": 1.3}),
    (CE, {"logits": 40 * X, "labels": LABELS, "beta": PER_ROW[:, 0], "ignore_label": 2}),
    (CE, {"logits": X, "labels": np.array([0, 5, 7]), "beta": 0.0, "axis": (2, 0)}),
    (DIST, {"logits": X, "labels": Y, "beta": 1.3, "axis": (2, 0)} | OPTIONS),
    (DIST, {"logits": X, "labels": Y, "beta": PER_ROW[:, 0]} | OPTIONS | {"class_weights": np.arange(1.0, 5.0)}),
    (CE, {"logits": X, "labels": np.array([0, 5, 7]), "beta": -0.8, "axis": (2, 0), "ignore_label": 5} | OPTIONS),
    ("weighted_mean", {"losses": X, "weights": B}),
]
smooth = pytest.mark.parametrize(
    ("name", "arguments"), SMOOTH, ids=[f"{name}-{i}" for i, (name, _) in enumerate(SMOOTH)]
)


def _value(name):
    """NAME.exact; of weighted_mean the mean alone."""
    exact = getattr(oracle, name).exact
    return (lambda **arguments: exact(**arguments)[0]) if name == "weighted_mean" else exact


def _directions(name, arguments, seed):
    rng = np.random.default_rng(seed)
    integer = {"labels"} if name == CE else set()
    smooth = {"x", "logits", "labels", "losses", "weights", *torture.NUMBERS}
    names = smooth & set(arguments) - integer
    directions = {k: rng.standard_normal(np.shape(arguments[k])) for k in sorted(names)}
    if "labels" in directions and "where" in arguments:
        directions["labels"] *= arguments["where"]  # mass on a masked class would make the loss infinite
    return directions


def _dot(a, b):
    """(⟨a, b⟩, the sum of the absolute terms)."""
    terms = [u * v for u, v in zip(oracle.to_mpf(a).ravel(), oracle.to_mpf(b).ravel(), strict=True)]
    return mp.fsum(terms), mp.fsum(abs(t) for t in terms)


@smooth
def test_cotangents_are_derivatives(name, arguments, rng):
    with mp.workdps(oracle.DIGITS):
        value = _value(name)(**arguments)
        w = rng.standard_normal(value.shape)
        bars = getattr(oracle, f"{name}_vjp").exact(w, **arguments)
        directions = _directions(name, arguments, 1)
        assert set(directions) == set(bars)
        for argument, d in directions.items():
            assert bars[argument].shape == np.shape(arguments[argument])
            slope, size = _dot(w, oracle.directional(_value(name), arguments, {argument: d}))
            analytic, _ = _dot(bars[argument], d)
            assert size > 0 or np.all(arguments["beta"] == 0)  # where softmax is constant in x
            assert abs(slope - analytic) <= size * mpf(10) ** -25, (argument, slope, analytic)


@smooth
def test_second_order_is_symmetric(name, arguments, rng):
    w = rng.standard_normal(np.shape(_value(name)(**arguments)))
    one, two = (_directions(name, arguments, seed) for seed in (2, 3))
    along = [oracle.hvp(name, (), arguments, w, d) for d in (one, two)]
    with mp.workdps(oracle.DIGITS):
        left, right = ([_dot(h[k], d[k]) for k in d] for h, d in zip(along, (two, one), strict=True))
        size = sum(terms for _, terms in left + right)
        assert size > 0
        assert abs(sum(v for v, _ in left) - sum(v for v, _ in right)) <= 1e-14 * size


def test_second_order_analytic(rng):
    """The Hessian of logsumexp is β (diag p − p pᵀ)."""
    x, d, beta = X[0, 0], rng.standard_normal(4), 1.6
    p = scipy.special.softmax(beta * x)
    second = oracle.hvp("logsumexp", (x,), {"beta": beta}, 1.0, {"x": d})["x"]
    np.testing.assert_allclose(second, beta * (p * d - p * (p @ d)), rtol=1e-13)


def test_second_order_at_infinite_beta():
    """Ties do not break: the limit law is held constant, row by row."""
    x, beta = np.array([[3.0, 1.0, 3.0], [1.0, 2.0, 3.0]]), np.array([np.inf, 1.0])
    second = oracle.hvp("logsumexp", (x,), {"beta": beta}, np.ones(2), {"x": X[0, :2, :3], "beta": np.ones(2)})
    np.testing.assert_array_equal(second["x"][0], 0.0)
    assert np.all(second["x"][1] != 0.0) and second["beta"][0] == 0.0 != second["beta"][1]


# ------------------------------------------------------------------------------------------------------ ulp and inputs


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_error(dtype):
    one, info = dtype(1.0), np.finfo(dtype)
    actual = np.array(
        [one, np.nextafter(one, dtype(2)), -np.nextafter(one, dtype(2)), 0.0, np.nan, np.inf, 1.0, np.inf]
    )
    expected = np.array([1.0, 1.0, -1.0, info.smallest_subnormal, np.nan, np.inf, np.nan, -np.inf])
    errors = oracle.ulp_error(actual, expected, dtype)
    np.testing.assert_array_equal(errors, [0, 1, 1, 1, 0, 0, np.inf, np.inf])
    tiny = float(info.smallest_subnormal)
    np.testing.assert_array_equal(oracle.ulp_error(np.array([tiny, -3 * tiny, 0.0]), np.zeros(3), dtype), [1, 3, 0])
    with mp.workdps(oracle.DIGITS):
        half = oracle.to_mpf(np.array([1.0])) + mpf(float(info.eps)) / 2
        assert oracle.ulp_error(np.array([1.0]), half, dtype) == 0.5


def test_ulp_error_past_the_largest_number():
    largest = float(np.finfo(np.float32).max)
    actual, expected = np.array([np.inf, largest, -np.inf, np.inf]), np.array([6e38, largest, 6e38, largest])
    np.testing.assert_array_equal(oracle.ulp_error(actual, expected, "float32"), [0, 0, np.inf, np.inf])
    np.testing.assert_array_equal(oracle.ulp_error(np.array([1.0078125, 3e38]), [1.0, 3e38], "bfloat16"), [1, 0])


def test_inputs():
    assert len(inputs.BY_NAME) == len(inputs.ROWS)
    assert set(inputs.DISTRIBUTIONS.values()) <= set(inputs.BY_NAME)
    assert {r.name for r in inputs.ROWS} - {r.name for r in inputs.suiting("float16")} == {"offset 2^17", "huge"}
    for row in inputs.ROWS:
        x, labels = row.x(np.float32), inputs.labels(row)
        assert x.shape == row.shape and np.array_equal(x, row.x(np.float32), equal_nan=True)
        total = oracle.softmax(x, row.axis, row.where).sum(row.class_axes)
        assert total.shape == labels.shape == row.batch == oracle.logsumexp(x, row.axis, where=row.where).shape
        assert np.all(np.isnan(total) | (total == 0) | (np.abs(total - 1) < 1e-14))
        assert row.classes == 0 or np.all((labels >= 0) & (labels < row.classes))
        assert inputs.distributions(row).shape == row.shape
        bad = inputs.bad_labels(row.classes)
        assert np.all((bad < 0) | (bad >= row.classes))


def test_imports():
    """The witnesses know nothing of what they judge."""
    allowed = {"numpy", "scipy", "mpmath", "pytest"} | sys.stdlib_module_names
    for path in ("oracle", "inputs", "torture", "test_oracle"):
        for node in ast.walk(ast.parse(Path(__file__).with_name(f"{path}.py").read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert {m.partition(".")[0] for m in modules} <= allowed
