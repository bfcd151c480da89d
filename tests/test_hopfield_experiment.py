"""What the experiment on associative memories has to obey: a smoke run made here, and the committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _hopfield_memory as memory
from experiments import hopfield
from experiments._hopfield_table import of, table
from experiments._results import numbers, plain

EXPERIMENT = hopfield
COMPILE_LIGHTLY = True
COMMITTED = Path(hopfield.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "hopfield_images.md"


def read(directory):
    return json.loads((directory / "hopfield.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


def test_every_run_is_there(results):
    settings = results["run"]["settings"]
    assert [(row["kind"], row["stored"]) for row in results["classic"]] == [
        (kind, load) for kind in hopfield.KINDS for load in settings["loads"]
    ]
    assert len(results["modern"]) == 2 * 2 * len(settings["sizes"]) * len(settings["betas"])
    assert len(results["energy"]) == 3 + len(settings["betas"])
    assert all(len(row["mean"]) == settings["course"] + 1 for row in results["energy"])


def test_the_energy_never_rises(results):
    """Of the classic network exactly, for its numbers are; of the modern one by rounding at most."""
    for row in results["energy"]:
        if row["network"] == "classic":
            assert row["largest_rise"] <= 0
        else:
            assert row["largest_rise"] <= 2.0**-20 * row["scale"] and row["smallest"] >= 0
        assert row["mean"][-1] < row["mean"][0]


def test_few_random_patterns_are_kept_and_many_are_not(results):
    rows = of(results["classic"], kind="random")
    assert rows[0]["kept"] == rows[0]["restored"] == 1 and rows[0]["kept_settled"] == 1
    assert rows[-1]["stored"] / results["units"] > 0.2 and rows[-1]["kept"] < 0.85


def test_digits_are_lost_before_random_patterns(results):
    """But for two of them, from which nothing else can be mixed."""
    few = [row for row in of(results["classic"], kind="digits") if 6 <= row["stored"] <= 16]
    assert few and all(row["restored_mostly"] <= 0.2 for row in few)
    for row in few:
        (random,) = of(results["classic"], kind="random", stored=row["stored"])
        assert random["kept"] == random["restored"] == 1


def test_capacity_is_where_theory_has_it(committed):
    """Near 0.138 the share of random patterns that come back falls."""
    rows = of(committed["classic"], kind="random")
    load, kept = (numbers([row[k] for row in rows]) for k in ("stored", "kept"))
    load = load / committed["units"]
    assert np.all(kept[load <= 0.12] > 0.98) and np.all(kept[load >= 0.17] < 0.9)


def test_beta_goes_from_the_mean_to_a_pattern(results):
    for cue in ("masked", "noise"):
        for size in results["run"]["settings"]["sizes"]:
            for kind in ("random", "digits"):
                rows = of(results["modern"], kind=kind, cue=cue, stored=size)
                averaged = numbers([row["once"]["averaged"] for row in rows])
                assert np.all(np.diff(averaged) < 1e-3) and averaged[-1] < 1.5
                assert np.all((averaged >= 1 - 1e-4) & (averaged <= size * (1 + 1e-4)))
                assert rows[0]["once"]["whole"] < 0.1 and rows[-1]["once"]["whole"] > 0.9


def test_more_patterns_than_units_are_told_apart(committed):
    size = committed["run"]["settings"]["sizes"][-1]
    assert size > 6 * committed["units"]
    for kind in ("random", "digits"):
        for cue in ("masked", "noise"):
            *_, last = of(committed["modern"], kind=kind, cue=cue, stored=size)
            assert last["once"]["whole"] >= 0.95


def test_the_gallery_is_consistent(results):
    for cue in ("masked", "noise"):
        rows = {row["name"]: row["images"] for row in of(results["gallery"], cue=cue)}
        assert {len(image) for images in rows.values() for image in images} == {results["units"]}
        assert rows["classic, 2 stored"][:2] == rows["stored"][:2]
        assert list(rows.values())[-1] == rows["stored"] and rows["shown"] != rows["stored"]


def test_patterns_are_spoilt_as_said(rng):
    patterns = memory.random_patterns(rng, 200)
    masked, noisy = memory.spoilt(patterns, "masked", 0.5, rng), memory.spoilt(patterns, "noise", 0.3, rng)
    assert np.array_equal(masked[:, :392], patterns[:, :392]) and not masked[:, 392:].any()
    assert abs(np.mean(noisy != patterns) - 0.3) < 0.01 and set(np.unique(noisy)) == {-1, 1}
    assert memory.right(noisy, patterns).shape == (200,)


def test_classes_of_digits_take_turns():
    digits = memory.digits()
    assert digits.shape == (5000, 784) and set(np.unique(digits)) == {-1, 1}
    assert len(np.unique(digits[:10], axis=0)) == 10


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "hopfield.json").write_bytes((directory / "hopfield.json").read_bytes())
    hopfield.main(hopfield.Config(figures_only=True, out=tmp_path))
    for folder in (tmp_path, directory):
        for name in ("gallery", "capacity", "beta", "energy"):
            assert 5_000 < (folder / f"hopfield_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.hopfield"
    assert run["settings"] == plain({k: v for k, v in vars(hopfield.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 40 and not set(rows) - set(page)
