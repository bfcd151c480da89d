"""What the word vectors have to obey: of a smoke run made here, and of the committed results. No timing."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _text, word_vectors
from experiments import _word_bias as bias
from experiments import _word_costs as costs
from experiments import _word_methods as methods
from experiments import _word_neighbours as knowledge
from experiments import _word_pairs as pairs
from experiments import _word_training as training
from experiments._results import numbers, plain
from experiments._word_table import by_name, table

EXPERIMENT = word_vectors
COMPILE_LIGHTLY = True
COMMITTED = Path(word_vectors.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "word_vectors.md"
SUMS = 2**10 * 2.0**-24  # roundings of a sum of probabilities

# one worker makes the smoke run and judges it
pytestmark = pytest.mark.xdist_group("word_vectors")


def read(directory):
    return json.loads((directory / "word_vectors.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def trained(results):
    """{method: {quantity: its course}}."""
    fields = "step", "seconds", "nll", "as_it_is", "log_z"
    return {run["name"]: {f: [j[f] for j in run["held_out"]] for f in fields} for run in results["training"]}


# training ----------------------------------------------------------------------------------------------------------


def test_every_method_learns(results, trained):
    settings, corpus = results["run"]["settings"], results["corpus"]
    assert list(trained) == settings["methods"]
    for course in trained.values():
        assert course["step"][0] == 0 and course["step"][-1] == settings["steps"]
        assert np.all(np.diff(course["seconds"]) > 0)
        # NCE that starts at p = 1 for every word takes the longest
        assert course["nll"][-1] < course["nll"][0]
    for name in (methods.FULL, methods.HUFFMAN, methods.ADAPTIVE, methods.SAMPLED, methods.UNIFORM):
        assert trained[name]["nll"][-1] < corpus["unigram_loss"]


def test_untrained_scores_are_0(results, trained):
    """All words are alike then, of a tree only as far as their paths are."""
    classes = results["corpus"]["vocabulary"]
    for name in (methods.FULL, methods.SAMPLED, methods.NCE, methods.LEARNED, methods.UNIFORM):
        assert abs(trained[name]["nll"][0] - np.log(classes)) < 1e-6
    for name, log_z in ((methods.NCE, np.log(classes)), (methods.LEARNED, np.log(classes)), (methods.UNIFORM, 0)):
        assert abs(trained[name]["log_z"][0]["mean"] - log_z) < 1e-6


def test_probabilities_of_all_words_sum_to_1(results, trained):
    """Those of trees and clusters too, of which each is a product."""
    exact = {methods.FULL, methods.HUFFMAN, methods.BALANCED, methods.ADAPTIVE}
    for run in results["training"]:
        if run["name"] in exact:
            assert run["mass_error"] < SUMS
            assert np.abs(np.subtract(*(trained[run["name"]][k] for k in ("nll", "as_it_is")))).max() < SUMS


def test_nce_normalises_itself(trained):
    """log Z goes to 0, and with it what is lost by leaving it out."""
    for name in (methods.NCE, methods.LEARNED):
        first, *_, last = trained[name]["log_z"]
        assert abs(last["mean"]) < 0.1 * first["mean"]
        assert last["p5"] <= last["mean"] <= last["p95"] and last["deviation"] < 0.5
    for course in trained.values():
        if course["log_z"][-1] is not None:
            apart = numbers(course["nll"]) - numbers(course["as_it_is"]) - [z["mean"] for z in course["log_z"]]
            assert np.abs(apart).max() < 1e-6


def test_neighbours_are_other_words(results):
    settings = results["run"]["settings"]
    for run in results["training"]:
        assert len(run["neighbours"]) == settings["asked"]
        for word, near in run["neighbours"].items():
            assert len(set(near) - {word}) == settings["neighbours"] and len(word) >= knowledge.LONG


def test_the_loss_of_a_method_is_that_of_its_probabilities(rng):
    """What is trained on is −log of what is judged, where nothing is drawn."""
    every = methods.methods_of(np.arange(40, 0, -1), 4, 8, 0.75)
    x, labels = jnp.asarray(rng.standard_normal((6, 5)), jnp.float32), jnp.asarray(rng.integers(0, 40, 6), jnp.int32)
    for name, rows in ((methods.FULL, 40), (methods.BALANCED, 39)):
        parameters = jnp.asarray(rng.standard_normal((rows, 5)), jnp.float32)
        losses, log_p = every[name].loss(parameters, x, labels, None), every[name].scores(parameters, x)
        assert np.abs(losses + log_p[np.arange(6), labels]).max() < 1e-5
        assert np.abs(np.exp(log_p).sum(1) - 1).max() < SUMS


@pytest.mark.parametrize("classes", [2, 3, 8, 13])
def test_a_balanced_tree(classes):
    lengths = np.asarray(methods.balanced_tree(classes).mask).sum(1)
    assert len(lengths) == classes and np.ptp(lengths) <= 1 and np.sum(2.0**-lengths) == 1


# pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_are_neighbours():
    """a x b c, of which x is no word: b follows a."""
    found = pairs._pairs(np.array([[0, -1, 1, 2], [3, -1, -1, -1]]), 2)
    assert sorted(map(tuple, found.tolist())) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_words_fall_in_frequency():
    words = pairs.load("pydoc", 5, 64, 2)
    assert np.all(np.diff(words.counts) <= 0) and words.counts[-1] >= 5
    assert len(words.names) == len(set(words.names)) == words.counts.size
    for part in (words.training, words.held_out):
        assert part.min() == 0 and part.max() < words.counts.size
        # who is near is near from both sides
        assert np.array_equal(np.bincount(part[:, 0]), np.bincount(part[:, 1]))


def test_batches_are_epochs(rng):
    config = word_vectors.Config(batch=2, steps=6, evaluations=3)
    order = training.batches_of(np.arange(4)[:, None] + np.zeros((1, 2), int), config, rng)
    assert order.shape == (3, 2, 2, 2)
    assert np.array_equal(np.sort(order[..., 0].reshape(3, 4)), [range(4)] * 3)


def test_another_text_is_of_a_package(tmp_path, monkeypatch):
    """Without it the message names it; with it there are its documents, and what people say of pairs."""
    monkeypatch.setattr(_text.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install gensim"):
        pairs.load("lee", 1, 8, 1)
    assert knowledge.similarity(("a",), np.ones((1, 1))) is None
    (tmp_path / "lee_background.cor").write_text(10 * "the cat and\nthe dog\n", encoding="utf-8")
    for file in knowledge.JUDGEMENTS.values():
        rows = "# Word 1\tWord 2\tHuman\nCat\tdog\t9\nthe\tand\t8\ncat\tand\t1\ncat\tunknown\t1\n"
        (tmp_path / file).write_text(rows, encoding="utf-8")
    for module in (_text, knowledge):
        monkeypatch.setattr(module, "gensim_data", lambda: tmp_path)
    assert set(pairs.load("lee", 1, 8, 1).names) == {"the", "cat", "and", "dog"}
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.2, 0, 1], [0, 3, 1]])
    found = knowledge.similarity(("the", "cat", "and", "dog"), vectors)
    assert set(found) == set(knowledge.JUDGEMENTS) and found["SimLex-999"] == {"pairs": 3, "spearman": 1.0}


# costs and bias ----------------------------------------------------------------------------------------------------


def test_rows_in_sight_take_the_same_step(results):
    for part in results["costs"]:
        assert part["twins"]
        for twin in part["twins"]:
            assert 1000 * twin["apart"] < twin["moved"]


def test_a_tree_of_rows_takes_the_same_step():
    tables, found = costs.trainers((costs.TREE, costs.TREE_ROWS), 7, 3, 2, 20)
    (dense, loss, x_bar), (rows, of_rows, x_bar_of_rows) = (call() for call in found.values())
    assert costs.difference(dense, rows) < 1e-6 < 1e-3 < costs.difference(dense, tables[costs.TREE])
    assert abs(loss - of_rows) < 1e-5 and costs.difference(x_bar, x_bar_of_rows) < 1e-6


def test_costs_are_complete(results):
    settings = results["run"]["settings"]
    assert [part["classes"] for part in results["costs"]] == settings["vocabularies"]
    for part in results["costs"]:
        assert [p["name"] for p in part["programs"]] == settings["timed"]
        assert all(0 < p["least"] <= p["median"] for p in part["programs"])


def test_the_bias_falls_and_vanishes(results):
    for name, cases in by_name(results["bias"]).items():
        variant = bias.VARIANTS[name]
        size, value, error = (numbers([c[k] for c in cases]) for k in ("candidates", "bias", "standard_error"))
        # standard errors are below what they are of
        assert np.all(2 * error < value)
        if variant.unique:
            assert size[-1] == cases[0]["classes"] and value[-1] < 1e-6
            value = value[:-1]
        assert np.all(np.diff(value) < 2 * error[: len(value) - 1])
        if variant.unique or variant.correct_labels != variant.remove_accidental_hits:
            assert value[-1] < 0.3 * value[0]


def test_hits_are_in_or_out():
    """With replacement each way of correcting converges with one way of treating hits, and stays with the other."""
    last = {name: cases[-1]["bias"] for name, cases in by_name(read(COMMITTED)["bias"]).items()}
    ends = {bias.VARIANTS[name]: value for name, value in last.items() if not bias.VARIANTS[name].unique}
    assert len(ends) == 4
    for correct in (False, True):
        assert 3 * ends[bias.Variant(False, correct, not correct)] < ends[bias.Variant(False, correct, correct)]


def test_the_standard_error_is_that_of_the_mean(rng):
    """Of four draws around 3 and 4: the mean is 5 long."""
    draws = np.array([[3.0, 4.0]]) + np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    found = bias._relative(draws.mean(0), np.mean(np.sum(draws**2, 1)), 4, 10.0)
    assert found == {"bias": 0.5, "standard_error": np.sqrt(1 / 3) / 10}


# files -------------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_keeps_what_it_finished(tmp_path, monkeypatch):
    def interrupted(*arguments):
        found = {"name": "x", "mass_error": None, "similarity": None}
        yield found, None
        raise KeyboardInterrupt

    monkeypatch.setattr(word_vectors, "trained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        word_vectors.main(word_vectors.Config(smoke=True, out=tmp_path))
    assert [run["name"] for run in read(tmp_path)["training"]] == ["x"]


def test_what_is_run_is_written_down(results):
    run = results["run"]
    assert run["command"].startswith("python -m experiments.word_vectors")
    assert run["settings"]["seed"] == 0 and {"jax", "jsoftmax", "optax"} <= set(run["versions"])
    assert results["similarity"] == knowledge.LEFT_OUT or results["training"][0]["similarity"]


def test_figures_are_there_and_small(directory):
    for name in ("loss", "log_z", "costs", "bias"):
        assert 5_000 < (directory / f"word_vectors_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run():
    run = read(COMMITTED)["run"]
    assert run["command"] == "python -m experiments.word_vectors"
    assert run["settings"] == plain({k: v for k, v in vars(word_vectors.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(read(COMMITTED)).splitlines() if line]
    assert len(rows) >= 8 and not set(rows) - set(page)
