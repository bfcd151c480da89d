"""What the retrieval has to obey: of a smoke run made here, and of the committed results. No timing."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from experiments import _passages as passages
from experiments import _retrieval_training as training
from experiments import retrieval
from experiments._results import numbers, plain
from experiments._retrieval_table import table

EXPERIMENT = retrieval
COMPILE_LIGHTLY = True
COMMITTED = Path(retrieval.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "retrieval.md"


def read(directory):
    return json.loads((directory / "retrieval.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


def test_every_run_is_there(results):
    betas = results["run"]["settings"]["betas"]
    assert [run["name"] for run in results["training"]] == [*(f"{beta:g}" for beta in betas), "learned"]
    assert [run["beta"] for run in results["training"][:-1]] == betas
    for run in results["training"]:
        assert len(run["loss"]) == results["run"]["settings"]["steps"]


def test_own_documents_are_found(results):
    """Far more of them than by chance, which is 1 in all documents, and 5 and 10."""
    chance = 1 / results["corpus"]["pairs"]["held_out"]
    for run in [results["untrained"], *results["training"]]:
        for k in (1, 5, 10):
            assert run[f"recall_at_{k}"] > 10 * chance
        assert run["recall_at_1"] <= run["recall_at_5"] <= run["recall_at_10"]
    for run in results["training"]:
        assert np.mean(run["loss"][-5:]) < np.mean(run["loss"][:5])


def test_the_loss_is_bounded_by_beta(results):
    """Cosines are 2 apart at most: the loss of N documents is log(1 + (N − 1) e^±2β), or between."""
    settings = results["run"]["settings"]
    for run in results["training"][:-1]:
        beta = run["beta"]
        for count, losses in (
            (settings["batch"], run["loss"]),
            (results["corpus"]["pairs"]["held_out"], run["held_out_loss"]),
        ):
            low, high = (np.log1p((count - 1) * np.exp(sign * 2 * beta)) for sign in (-1, 1))
            assert np.all(numbers(losses) >= low) and np.all(numbers(losses) < high)


def test_a_learned_beta_moves_and_a_fixed_one_does_not(results):
    learned = results["training"][-1]
    course = numbers(learned["course"])
    assert abs(course[0] * 0.07 - 1) < 1e-6 and course[-1] == learned["beta"]
    assert np.all(course > 0) and np.ptp(course) > 1
    assert len(course) == len(learned["loss"]) + 1


def test_training_serves(committed):
    """A tower finds more than the features it is made of; β too small or too large finds less than one between."""
    runs = {run["name"]: run for run in committed["training"]}
    best = max(runs.values(), key=lambda run: run["recall_at_10"])
    assert best["recall_at_10"] > committed["untrained"]["recall_at_10"] + 0.02
    fixed = numbers([run["held_out_loss"] for run in committed["training"][:-1]])
    assert 0 < fixed.argmin() < len(fixed) - 1
    assert runs["learned"]["held_out_loss"] < np.log(committed["corpus"]["pairs"]["held_out"]) - 1


def test_examples_are_consistent(results):
    examples = results["training"][-1]["examples"]
    assert len(examples) == results["run"]["settings"]["asked"]
    for example in examples:
        assert len(example["nearest"]) == results["run"]["settings"]["shown"]
        assert (example["own"] in example["nearest"]) == (example["nearer"] < len(example["nearest"]))


def test_ranks():
    cosines = np.array([[0.9, 0.1, 0.2], [0.5, 0.3, 0.4], [0.0, 0.1, 0.05]])
    assert training.ranks(cosines).tolist() == [0, 2, 1]


def test_thinning_keeps_its_share(rng):
    x = training.thinned(np.ones((100, 100), np.float32), 0.25, rng)
    assert set(np.unique(x)) == {0, 1} and abs(x.mean() - 0.25) < 0.03


def test_passages_are_halved():
    assert passages.halved("a b c d e") == ("a b", "c d e")
    assert passages.trigrams(["To be, to"]) == [Counter({"#to": 2, "to#": 2, "#be": 1, "be#": 1})]


def test_held_out_pairs_are_unseen():
    seen, held_out = passages.load("pydoc", 12, 1024)
    assert not set(seen.queries.texts) & set(held_out.queries.texts)
    for part in (seen, held_out):
        assert len(part.queries.texts) == len(part.documents.texts) == len(part.queries.features)
        for side in part:
            assert side.features.shape[1] == 1024
            length = np.linalg.norm(side.features, axis=1)
            assert np.abs(length[length > 0] - 1).max() < 1e-5 and np.mean(length > 0) > 0.99


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "retrieval.json").write_bytes((directory / "retrieval.json").read_bytes())
    retrieval.main(retrieval.Config(figures_only=True, out=tmp_path))
    for folder in (tmp_path, directory):
        for name in ("recall", "training"):
            assert 5_000 < (folder / f"retrieval_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.retrieval"
    assert run["settings"] == plain({k: v for k, v in vars(retrieval.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 12 and not set(rows) - set(page)
