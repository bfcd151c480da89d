"""What temperature scaling has to obey: of a smoke run made here, and of the committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import calibration
from experiments._results import numbers

EXPERIMENT = calibration
COMPILE_LIGHTLY = "fast lane"
COMMITTED = Path(calibration.__file__).parent / "results"


@pytest.fixture(scope="module")
def models(directory):
    return json.loads((directory / "calibration.json").read_text(encoding="utf-8"))["models"]


def test_descent_ends_where_the_slope_is_zero(models):
    """The root is found by bisection on the slope in β; descent follows the same slope another way."""
    for m in models:
        assert abs(m["beta"] - m["root"]) <= 2e-3 * m["root"]
        assert abs(m["slope"]) <= 1e-4


def test_the_loss_that_was_descended_falls(models):
    for m in models:
        history = numbers(m["fitting_nll"])
        assert history[-1] <= history[0]
        assert history[-1] <= history.min() + 1e-6


def test_smoothing_makes_unsure(models):
    """Smoothed labels are learned: β has to rise above 1 to undo them, the more the smoother they are."""
    betas = [m["beta"] for m in models]
    assert [m["smoothing"] for m in models] == sorted(m["smoothing"] for m in models)
    assert betas == sorted(betas) and models[0]["smoothing"] == 0 and betas[0] < 1 < betas[-1]
    smoothest = models[-1]
    assert smoothest["after"]["nll"] < smoothest["before"]["nll"]
    assert smoothest["after"]["ece"] < smoothest["before"]["ece"] / 4


def test_bins_hold_all_test_images(models):
    for m in models:
        for part in (m["before"], m["after"]):
            count, right = numbers(part["count"]), numbers(part["accuracy"])
            assert count.sum() > 500
            # β does not move the likeliest class
            assert abs(count @ right / count.sum() - m["accuracy"]) <= 1e-9
            confidence = numbers(part["confidence"])
            edges = np.linspace(0, 1, len(count) + 1)
            filled = count > 0
            assert np.all(confidence[filled] >= edges[:-1][filled] - 1e-6)
            assert np.all(confidence[filled] <= edges[1:][filled] + 1e-6)
            ece = count @ np.abs(confidence - right) / count.sum()
            assert abs(ece - part["ece"]) <= 1e-9


def test_figures_are_there_and_small(directory):
    for name in ("reliability", "descent"):
        assert 5_000 < (directory / f"calibration_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run():
    run = json.loads((COMMITTED / "calibration.json").read_text(encoding="utf-8"))["run"]
    assert run["command"] == "python -m experiments.calibration"
