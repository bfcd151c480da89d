"""What recall from a memory has to obey: of a smoke run made here, and of the committed results. No timing."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _memory_episodes as episodes
from experiments import _memory_training as training
from experiments import memory_copy
from experiments._memory_table import mean, methods, table
from experiments._results import numbers, plain

EXPERIMENT = memory_copy
COMPILE_LIGHTLY = True
COMMITTED = Path(memory_copy.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "memory_copy.md"


def read(directory):
    return json.loads((directory / "memory_copy.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


@pytest.fixture(scope="module")
def text():
    return episodes.load("pydoc", 256)


def test_every_run_is_there(results):
    settings = results["run"]["settings"]
    names = [method.name for method in training.methods(memory_copy.Config(starts=tuple(settings["starts"])))]
    found = [(row["name"], row["seed"]) for row in results["training"]]
    assert found == [(name, seed) for name in names for seed in range(settings["seeds"])]
    for row in results["training"]:
        assert len(row["loss"]) == len(row["pull"]) == len(row["beta"]) - 1 == settings["steps"]
        assert len(row["watched"]["entropy"]) == 1 + settings["steps"] // settings["every"]
        assert len(row["by_size"]["accuracy"]) == len(settings["sizes"])


def test_what_is_asked_is_found(results):
    """Far more often than by chance, and more often than at the start; less often in a longer memory."""
    sizes = numbers(results["run"]["settings"]["sizes"])
    for row in results["training"]:
        accuracy, course = numbers(row["by_size"]["accuracy"]), numbers(row["watched"]["accuracy"])
        assert np.all(accuracy[1:] > 3 / sizes[1:]) and accuracy[0] > accuracy[-1]
        assert course[-1] > course[0] + 0.1 and np.mean(row["loss"][-5:]) < np.mean(row["loss"][:5])


def test_weights_are_bounded_by_beta(results):
    """Cosines are 2 apart at most: a weight is at most 1/(1 + (M − 1) e^(−2β)), and the entropy at most ln M."""
    settings = results["run"]["settings"]
    sizes = numbers(settings["sizes"])
    for row in results["training"]:
        seen = row["by_size"]
        largest, entropy = numbers(seen["largest_weight"]), numbers(seen["entropy"])
        assert np.all(numbers(seen["right_weight"]) <= largest) and np.all(entropy <= np.log(sizes) + 1e-5)
        assert np.all(numbers(seen["read"]) <= 1)
        if row["name"] != "q·k/√d":
            assert np.all(largest <= 1 / (1 + (sizes - 1) * np.exp(-2 * row["beta"][-1])) + 1e-6)
            least = np.log1p((settings["slots"] - 1) * np.exp(-2 * numbers(row["beta"][:-1])))
            assert np.all(numbers(row["loss"]) >= least)


def test_a_learned_beta_moves_and_a_fixed_one_does_not(results):
    settings = results["run"]["settings"]
    root = settings["dimension"] ** 0.5
    for name, runs in methods(results).items():
        beta = numbers(runs[0]["beta"])
        start = {"β = 1": 1, "β = √d": root, "q·k/√d": 1 / root}.get(name) or float(name.rpartition(" ")[2])
        assert abs(beta[0] / start - 1) < 1e-5
        assert np.ptp(beta) > 0.1 if "learned" in name else np.ptp(beta) == 0


def test_what_the_page_says_of_the_committed_run(committed):
    found = methods(committed)
    at = {name: {k: mean(runs, "by_size", k) for k in runs[0]["by_size"]} for name, runs in found.items()}
    one, root, learned, hot, product = (at[name] for name in found)
    # the slot is found as well with β = 1; what is read there is none of the values
    assert np.abs(one["accuracy"] - learned["accuracy"]).max() < 0.02 and np.all(one["read"] < learned["read"] - 0.1)
    assert np.all(np.abs(one["read_hard"] - learned["read_hard"]) < 0.03)
    assert np.all(learned["right_weight"] > np.maximum(root["right_weight"], product["right_weight"]))
    assert np.all(hot["accuracy"] < learned["accuracy"])  # sharp before it knows where to
    assert mean(found["β learned from 64"], "beta")[-1] > 2 * mean(found["β learned from 1"], "beta")[-1]
    losses = {name: mean(runs, "loss")[-50:].mean() for name, runs in found.items()}
    assert min(losses, key=losses.get) == "β learned from 1"


def test_a_memory_has_distinct_keys_and_values_of_the_text(text):
    rng = np.random.default_rng(0)
    drawn = episodes.drawn(rng, text, text.held_out, 64, memories=5, queries=3, share=0.5)
    pairs = {tuple(pair) for pair in text.held_out.tolist()}
    for keys, values in zip(drawn.keys.tolist(), drawn.values.tolist(), strict=True):
        assert len(set(keys)) == len(set(values)) == 64 and set(zip(keys, values, strict=True)) <= pairs
    assert drawn.asked.shape == (5, 3) and drawn.asked.max() < 64 and abs(drawn.kept.mean() - 0.5) < 0.05
    with pytest.raises(ValueError, match="distinct pairs, and 9999 are asked for"):
        episodes.drawn(rng, text, text.held_out, 9999, memories=1, queries=1, share=0.5)


def test_keys_of_the_test_are_unseen(text):
    assert not set(text.training[:, 0].tolist()) & set(text.held_out[:, 0].tolist())
    assert len(text.training) > 4 * len(text.held_out) / 2 > 1000
    assert all(len(text.words[k]) >= 4 for k in text.held_out[:, 0])
    length = np.linalg.norm(text.features, axis=1)
    assert np.abs(length[length > 0] - 1).max() < 1e-5


def test_a_query_is_a_part_of_its_key(text):
    drawn = episodes.drawn(np.random.default_rng(1), text, text.training, 8, memories=2, queries=4, share=0.5)
    keys, queries, values, asked = training.spelled(text, drawn)
    own = np.take_along_axis(keys, asked[..., None], 1)
    assert np.all((queries == own) | (queries == 0)) and np.array_equal(values, text.features[drawn.values])
    whole = training.spelled(text, drawn._replace(kept=np.ones_like(drawn.kept)))[1]
    assert np.array_equal(whole, own)


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "memory_copy.json").write_bytes((directory / "memory_copy.json").read_bytes())
    memory_copy.main(memory_copy.Config(figures_only=True, out=tmp_path))
    for folder in (tmp_path, directory):
        for name in ("training", "sharpness", "sizes"):
            assert 5_000 < (folder / f"memory_copy_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.memory_copy"
    assert run["settings"] == plain({k: v for k, v in vars(memory_copy.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 20 and not set(rows) - set(page)
