"""What the experiment with restricted Boltzmann machines has to obey: of a smoke run and of the committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _rbm_training as training
from experiments import rbm
from experiments._rbm_table import table
from experiments._results import numbers, plain

EXPERIMENT = rbm
COMPILE_LIGHTLY = True
COMMITTED = Path(rbm.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "rbm.md"


def read(directory):
    return json.loads((directory / "rbm.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


def named(results, hidden, name, rate=None):
    return next(
        run
        for run in results["training"]
        if (run["hidden"], run["name"]) == (hidden, name) and rate in (None, run["rate"])
    )


def test_every_run_is_there(results):
    settings = results["run"]["settings"]
    count = len(settings["hidden"]) * (
        sum(len(settings["constant_rates"]) if "constant" in name else 1 for name in settings["methods"])
        + len(settings["constant_rates"])
    )
    assert len(results["training"]) == count
    for run in results["training"]:
        assert len(run["seeds"]) == settings["seeds"] and run["seconds"] > 0
        assert ("likelihood" in run["seeds"][0]) == (run["hidden"] <= training.EXACT)
        if run["name"] != rbm.SCIKIT_LEARN:
            assert run["course"]["epoch"] == list(range(0, settings["epochs"] + 1, settings["every"]))


def test_the_free_energy_gap_is_that_of_the_likelihoods(results):
    """log Z is the same on both sides."""
    for run in results["training"]:
        for seed in run["seeds"]:
            if "likelihood" in seed:
                on_training, held_out = seed["likelihood"]
                assert abs(seed["free_energy_gap"] - (on_training - held_out)) < 1e-3
                assert held_out < 0 and 0 < seed["standard_error"] < 1


def test_courses_end_where_the_first_seed_does(results):
    for run in results["training"]:
        if run["course"]:
            for name in ("free_energy_gap", "pseudo", "reconstruction"):
                last, first = numbers(run["course"][name][-1]), numbers(run["seeds"][0][name])
                assert np.abs(last - first).max() < 1e-4


def test_a_machine_without_hidden_units_is_of_independent_pixels():
    """Their cross-entropy, and a pseudo-likelihood that is the likelihood."""
    images = training.binary_digits(0)
    machine = training.alone(images[0])
    found = training.measured(machine, *images)
    share = 1 / (1 + np.exp(-np.float64(machine.visible_bias)))
    for side in range(2):
        each = np.float64(images[side])
        wanted = (each * np.log(share) + (1 - each) * np.log1p(-share)).sum(1).mean()
        assert abs(found["likelihood"][side] - wanted) < 1e-3 and abs(found["pseudo"][side] - wanted) < 1e-3


def test_thermodynamics(results):
    """Entropy rises with T up to that of random units, dH/d ln T is the heat capacity, and F is ⟨E⟩ − T H."""
    found = {name: numbers(values) for name, values in results["thermodynamics"].items()}
    temperature, entropy, capacity = found["temperature"], found["entropy"], found["heat_capacity"]
    units = results["data"]["pixels"] + results["thermodynamics"]["hidden"]
    assert np.all(np.diff(entropy) > 0) and np.all(entropy > 0) and entropy[-1] < units * np.log(2)
    assert np.all(np.diff(found["energy"]) > 0) and np.all(capacity > 0)
    free = found["energy"] - temperature * entropy
    assert np.abs(free + temperature * found["log_z"]).max() < 1e-3
    rise = np.diff(entropy)
    mean = (capacity[1:] + capacity[:-1]) / 2 * np.diff(np.log(temperature))
    assert abs(rise.sum() - mean.sum()) < 0.05 * rise.sum()


def test_pictures(results):
    images, settings = results["images"], results["run"]["settings"]
    drawn = numbers(images["samples"])
    assert drawn.shape == (len(settings["temperatures"]), settings["samples"], results["data"]["pixels"])
    assert np.all(drawn >= 0) and np.all(drawn <= 1)
    hottest = drawn[numbers(images["temperature"]).argmax()]
    assert np.all(hottest == 0.5), "at T = ∞ nothing is left"
    assert set(np.unique(images["held_out"])) == {0, 1}
    for made in images["reconstructed"].values():
        assert numbers(made).shape == drawn.shape[1:]


def test_training_serves(committed):
    """All methods are better than independent pixels; a falling rate makes persistent chains better ones."""
    small, large = committed["run"]["settings"]["hidden"]
    alone = committed["independent"]["pseudo"][1]
    assert all(seed["pseudo"][1] > alone + 5 for run in committed["training"] for seed in run["seeds"])

    def likelihood(*run):
        return np.mean([seed["likelihood"][1] for seed in named(committed, small, *run)["seeds"]])

    assert likelihood("PCD") > likelihood("PCD, constant rate", 0.05) + 0.5
    assert likelihood("PCD") > likelihood("scikit-learn", 0.05) + 0.5
    gaps = numbers(named(committed, large, "PCD")["course"]["free_energy_gap"])
    assert gaps[-1] > 1 and gaps[-1] > gaps[len(gaps) // 2] > gaps[1]


def test_cold_samples_are_surer_than_hot_ones(committed):
    drawn, temperature = numbers(committed["images"]["samples"]), numbers(committed["images"]["temperature"])
    sure = np.abs(drawn - 0.5).mean((1, 2))[np.argsort(temperature)]
    assert np.all(np.diff(sure) < 0)


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "rbm.json").write_bytes((directory / "rbm.json").read_bytes())
    rbm.main(rbm.Config(figures_only=True, out=tmp_path))
    for folder in (tmp_path, directory):
        for name in ("training", "samples", "reconstructions", "thermodynamics"):
            assert 3_000 < (folder / f"rbm_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.rbm"
    assert run["settings"] == plain({k: v for k, v in vars(rbm.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 20 and not set(rows) - set(page)
