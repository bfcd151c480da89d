"""What the segmentation has to obey: of a smoke run made here, and of the committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import segmentation
from experiments._brain import IGNORED, load_slices
from experiments._results import numbers

EXPERIMENT = segmentation
COMPILE_LIGHTLY = "fast lane"
COMMITTED = Path(segmentation.__file__).parent / "results"
RUNS = ["optax", "labels", "class weights", "soft labels"]


@pytest.fixture(scope="module")
def results(directory):
    return json.loads((directory / "segmentation.json").read_text(encoding="utf-8"))


def runs(results):
    return {run["name"]: run for run in results["runs"]}


@pytest.mark.slow
def test_slices_are_disjoint_brains():
    training, test = load_slices()
    assert len(training.image) == 40 and len(test.image) == 8
    for part in (training, test):
        inside = part.labels != IGNORED
        assert set(np.unique(part.labels)) == {0, 1, 2, IGNORED}
        np.testing.assert_allclose(part.soft.sum(1), inside, rtol=0, atol=1e-5)
        assert np.array_equal(part.soft.argmax(1)[inside], part.labels[inside])
    assert not any((t == image).all() for t in test.image for image in training.image)


def test_the_same_curve_as_optax(results):
    """Same slices in the same order: two correct losses differ by rounding, which training amplifies slowly."""
    ours, theirs = (numbers(runs(results)[name]["loss"]) for name in ("labels", "optax"))
    assert np.abs(ours[:10] / theirs[:10] - 1).max() < 1e-4
    assert abs(ours[-10:].mean() / theirs[-10:].mean() - 1) < 0.05


def test_losses_fall(results):
    assert list(runs(results)) == RUNS
    for run in results["runs"]:
        history = numbers(run["loss"])
        assert history[-5:].mean() < history[:3].mean()


def test_the_network_learns_the_tissue():
    """Of the full run: every class is found, and weights of classes serve the rarest."""
    committed = runs(json.loads((COMMITTED / "segmentation.json").read_text(encoding="utf-8")))
    for run in committed.values():
        assert run["mean_iou"] > 0.7 and min(run["iou"]) > 0.5
        assert abs(np.mean(run["iou"]) - run["mean_iou"]) < 1e-12


def test_the_example_is_consistent(results):
    example = {name: numbers(v) for name, v in runs(results)["labels"]["example"].items()}
    outside = example["truth"] == IGNORED
    assert 0 < outside.sum() < outside.size
    assert np.all(example["loss"][outside] == 0) and np.all(example["loss"] >= 0)
    wrong = (example["predicted"] != example["truth"]) & ~outside
    right = (example["predicted"] == example["truth"]) & ~outside
    # of three classes, a wrong one at least ties with the label: p ≤ 1/2; a right one has p ≥ 1/3
    assert np.all(example["loss"][wrong] >= np.log(2) - 1e-3)
    assert np.all(example["loss"][right] <= np.log(3) + 1e-3)


def test_figures_are_there_and_small(directory):
    for name in ("training", "example"):
        assert 5_000 < (directory / f"segmentation_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(results):
    run = json.loads((COMMITTED / "segmentation.json").read_text(encoding="utf-8"))["run"]
    assert run["command"] == "python -m experiments.segmentation"
    assert (
        results["class_weights"]
        == json.loads((COMMITTED / "segmentation.json").read_text(encoding="utf-8"))["class_weights"]
    )
