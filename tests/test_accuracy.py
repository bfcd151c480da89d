"""The measurement of errors: the bounds it finds, in a smoke run made here and in the committed results; the page made
of them; its own arithmetic."""

import json

import numpy as np
import pytest

from experiments import _accuracy_bounds as bounds
from experiments import _accuracy_exact as exact
from experiments import _accuracy_inputs as inputs
from experiments import accuracy
from experiments._accuracy_page import BOUNDS, INTEGER, OURS, missed, number, page, rows_of, select, worst
from experiments._results import plain
from experiments.benchmarks.operators import OPERATORS, WITH_BETA
from tests import oracle
from tests.tolerance import ulp

COMMITTED = accuracy.Config.out
LOST = [(name, q) for name in ("softmax_cross_entropy", INTEGER) for q in ("value", "gradient")]
LOST += [(INTEGER, "label gradient"), ("log_softmax", "value"), ("logsumexp", "value"), ("softmax", "gradient")]


def load(directory):
    def reject(token):
        raise ValueError(f"{token} is not JSON")

    return json.loads((directory / "accuracy.json").read_text(encoding="utf-8"), parse_constant=reject)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    directory = tmp_path_factory.mktemp("smoke")
    results = accuracy.main(accuracy.Config(smoke=True, out=directory, page=directory / "accuracy.md"))
    assert results == load(directory)
    assert not (directory / "accuracy.md").exists()  # a smoke run says nothing to the page
    return directory


@pytest.fixture(scope="module")
def results(directory):
    return load(directory)


@pytest.fixture
def rows(results):
    return rows_of(results["errors"])


@pytest.mark.parametrize("name, quantity", BOUNDS)
def test_within_the_contract(rows, name, quantity):
    found = select(rows, operator=name, quantity=quantity, function=OURS)
    assert {row["input"] for row in found} >= {"D1 normal", "[0, −20]"}
    assert all(row["of_bound"] is not None for row in found)
    over = [row for row in found if float(row["of_bound"]) > 1]
    assert not over


@pytest.mark.parametrize("name, quantity", LOST)
def test_a_confident_row_is_lost_by_the_peers_alone(rows, name, quantity):
    """When a peer mends this, the page has to say so."""
    at = {"operator": name, "quantity": quantity, "input": "[0, −20]", "dtype": "float32", "mode": "jit"}
    (ours,), (peer,) = (select(rows, function=f, **at) for f in (OURS, OPERATORS[name].peer_name))
    assert float(ours["max"]) <= 2
    assert float(peer["max"]) >= 1e6


def test_at_most_two_ulp_where_the_peers_lose_everything():
    rows = rows_of(load(COMMITTED)["errors"])
    for name, quantity in (("log_softmax", "value"), (INTEGER, "value"), (INTEGER, "label gradient")):
        at = {"operator": name, "quantity": quantity, "input": "D6 confident", "dtype": "float32"}
        assert worst(select(rows, function=OURS, **at))["max"] <= 2
        assert worst(select(rows, function=OPERATORS[name].peer_name, **at))["max"] >= 1.6e7


def test_beta_inside_stays_finite_where_beta_outside_does_not(results):
    counts = {(r["operator"], r["function"]): r for r in rows_of(results["beta"]) if r["mode"] == "jit"}
    for name, operator in WITH_BETA.items():
        ours, peer = counts[name, OURS], counts[name, operator.peer_name]
        assert ours["not finite"] == ours["off by 1 %"] == 0
        assert peer["not finite"] > 0
        assert ours["configurations"] == peer["configurations"]
    assert "nan" in results["beta"]["example"]["jax.nn.softmax(beta * x)"]
    assert np.isfinite(results["beta"]["example"]["jsoftmax.softmax(x, beta=beta)"]).all()


def test_everything_was_measured():
    results, default = load(COMMITTED), accuracy.Config()
    assert results["run"]["command"] == "python -m experiments.accuracy"
    assert results["run"]["settings"] == plain({k: v for k, v in vars(default).items() if k not in ("out", "page")})
    assert {"jsoftmax", "jax", "optax", "scipy", "mpmath"} <= results["run"]["versions"].keys()
    seen = {(r["operator"], r["input"], r["dtype"], r["function"]) for r in rows_of(results["errors"])}
    wanted = [(s, d) for s in inputs.INPUTS for d in default.dtypes if inputs.suits(s, d)]
    for name, operator in OPERATORS.items():
        functions = {OURS, operator.peer_name} | ({"SciPy"} if name in accuracy.SCIPY else set())
        for source, dtype in wanted:
            expected = functions - {"SciPy"} if dtype in bounds.HALF else functions
            assert {f for f in functions if (name, source.name, dtype, f) in seen} == expected
    assert {r["configurations"] for r in rows_of(results["beta"])} == {216}


# the page ----------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_results_say(tmp_path):
    committed = accuracy.Config.page.read_text(encoding="utf-8")
    assert page(load(COMMITTED)) == committed
    path = tmp_path / "accuracy.md"
    accuracy.main(accuracy.Config(page_only=True, page=path))
    assert path.read_text(encoding="utf-8") == committed


def test_the_page_names_every_miss(rows):
    over = [r for r in select(rows, function=OURS) if r["of_bound"] is not None and float(r["of_bound"]) > 1]
    text = missed(rows)
    assert text.count("\n| `") == len(over)
    assert "In none" in missed([row for row in rows if row not in over])


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (0.004, "0.00"), (0.523, "0.52"), (2.06, "2.1"), (99.7, "100"), (133.4, "133"), (16431234.5, "1.6e7")],
)
def test_numbers(value, text):
    assert number(value) == text
    assert number("inf") == "inf"


# its arithmetic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_equal_classes_may_be_merged(name):
    """The exact results, from merged classes, are the oracle's."""
    source = inputs.Input("ties", lambda rng: rng.integers(-2, 3, (6, 9)) * 3.0)
    given = inputs.problem(source, np.dtype(np.float64))
    found = exact.exact(name, given)
    labels, operator = given.labels(name), getattr(oracle, name)
    g = np.ones(len(given.x)) if OPERATORS[name].per_row else given.cotangent
    vjp = getattr(oracle, f"{name}_vjp")(g, given.x, *labels)
    wanted = {"value": operator(given.x, *labels), "gradient": vjp.get("x", vjp.get("logits"))}
    for quantity, numbers in wanted.items():
        np.testing.assert_allclose(found[quantity].nearest, numbers, rtol=1e-15, atol=1e-45)
        assert np.all(np.abs(found[quantity].rest) <= np.spacing(np.abs(numbers)))
    if OPERATORS[name].labels == "index":
        np.testing.assert_array_equal(
            found["label gradient"].nearest, [row[y] for row, y in zip(vjp["logits"], given.index, strict=True)]
        )


def test_labels_are_likely_and_any_in_turn():
    given = inputs.problem(inputs.INPUTS[0], np.dtype(np.float32))
    assert np.array_equal(given.index[::2], given.x[::2].argmax(-1))
    assert np.any(given.index[1::2] != given.x[1::2].argmax(-1))
    np.testing.assert_array_equal(given.distribution.sum(-1), 1)


def test_errors_are_in_ulp_of_their_scale():
    x = np.float32([[0.0, -1.0], [3.0, 1.0]])
    near = np.array([[0.75, 0.25], [0.5, 0.5]])
    expected, unit = exact.Exact(near, np.zeros_like(near)), 2.0**-24
    shifted = near + unit * np.array([[0, 3], [0, 0]])
    most, middle, share, actual, there = bounds.compare("softmax", "value", shifted, expected, x, "float32")
    assert (most, middle, actual, there) == (6.0, 0.0, shifted[0, 1], 0.25)  # an ulp is unit / 2 at ¼
    assert share == pytest.approx(3 / ((8 + 1) * 0.25), rel=1e-5)
    most, *_ = bounds.compare("softmax", "gradient", shifted, expected, x, "float32")
    assert most == 3.0  # of the row's largest, ¾
    lost = np.where(shifted == 0.75, np.nan, shifted)
    most, _, share, actual, _ = bounds.compare("softmax", "value", lost, expected, x, "float32")
    assert (most, share, actual) == (np.inf, np.inf, "nan")
    tiny = exact.Exact(np.full((2, 2), 1e-39), np.zeros((2, 2)))
    assert bounds.compare("softmax", "value", near, tiny, x, "float32") is None


def test_the_bounds_are_those_of_the_contract():
    x, u, one = np.array([[0.0, -1.0, -3.0]]), 2.0**-24, np.ones(1)
    mean = (np.exp(-1) + 3 * np.exp(-3)) / (np.exp(-1) + np.exp(-3))
    assert bounds.mean_gap(-x) == pytest.approx([mean])
    np.testing.assert_array_equal(bounds.mean_gap(np.array([[0.0, 0.0], [0.0, 2e4]])), [0.0, 2e4])
    assert bounds.allowed(INTEGER, "value", one, x, "float32") == pytest.approx([(4 + mean) * u])
    assert bounds.allowed(INTEGER, "label gradient", -one, x, "float32") == pytest.approx([(4 + mean) * u])
    assert bounds.allowed(INTEGER, "value", one, x, "bfloat16") == pytest.approx([(4 + mean) * u])
    np.testing.assert_allclose(
        bounds.allowed("softmax", "value", np.ones((1, 3)), x, "float32"), [[8 * u, 9 * u, 11 * u]]
    )
    assert bounds.allowed("logsumexp", "value", one, x - 5, "float32") == pytest.approx([(4 + mean) * u * 5])
    assert bounds.allowed("logsumexp", "value", one, x, "float16") == 0.51 * ulp(1.0, np.float16)
    assert bounds.allowed("softmax", "gradient", np.ones((1, 3)), x, "float32") is None


@pytest.mark.parametrize("actual, found", [([0.5, 0.5], (False, False, False)), ([np.nan, 0.5], (True, False, True))])
def test_outcomes_of_beta(actual, found):
    x = np.zeros(2, np.float32)
    assert bounds.outcome("softmax", np.array(actual), np.array([0.5, 0.5]), x, np.float32(3)) == found


def test_a_finite_result_may_be_wrong():
    x, wanted = np.float32([0, -1]), np.array([0.9, 0.1])
    assert bounds.outcome("softmax", np.array([0.8, 0.2]), wanted, x, np.float32(2)) == (False, True, True)
    assert bounds.outcome("softmax", np.array([0.9, 0.1001]), wanted, x, np.float32(2)) == (False, False, True)
