"""What the language model has to obey: of a smoke run made here, and of the committed results. No timing."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import _language_training as training
from experiments import _layer_costs, _text, _transformer, language_model
from experiments._language_table import difference, table
from experiments._results import numbers, plain
from tests.marks import slow

EXPERIMENT = language_model
COMMITTED = Path(language_model.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "language_model.md"
LOSSES = ["dense", "dense, classes backwards", "fused"]
COMMANDS = {  # of the committed results
    "language_model": "python -m experiments.language_model",
    "language_model_bible": "python -m experiments.language_model --corpus bible --vocabulary 8192 --rounds 0",
}
# roundings, 2⁻²⁴ of the largest number: of one step, and what training may make of them; measured are 9 and 51
OF_A_STEP, OF_TRAINING = 16, 256

# one worker makes the smoke run and judges it
pytestmark = pytest.mark.xdist_group("language_model")


def read(directory, stem="language_model"):
    return json.loads((directory / f"{stem}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


# training ----------------------------------------------------------------------------------------------------------


def test_the_same_curve_without_the_logits(results):
    """Same words in the same order: the losses differ by roundings, also after training on their gradients."""
    dense = numbers(results["training"][0]["loss"])
    assert [run["name"] for run in results["training"]] == LOSSES
    for name in LOSSES[1:]:
        apart = np.abs(difference(results, name))
        assert len(apart) == results["run"]["settings"]["steps"]
        assert apart[0] <= OF_A_STEP * 2.0**-24 * dense[0]
        assert np.all(apart <= OF_TRAINING * 2.0**-24 * dense)


@pytest.mark.parametrize("stem", COMMANDS)
def test_roundings_alone_go_as_far(stem):
    """Where training amplifies them more, the dense loss with its sums in another order is the measure."""
    results = read(COMMITTED, stem)
    backwards, fused = (np.abs(difference(results, name)) for name in LOSSES[1:])
    assert fused.max() < 4 * backwards.max()
    before = numbers(results["training"][0]["loss"])[:100]  # the steps before it does
    assert np.all(fused[:100] <= OF_A_STEP * 2.0**-24 * before)


def test_the_losses_are_not_one_program(results):
    """A block is less than a batch, and each rounds in its own way."""
    settings = results["run"]["settings"]
    assert 4 * settings["block"] <= settings["batch"] * settings["length"]
    assert all(np.any(difference(results, name) != 0) for name in LOSSES[1:])


def test_the_model_learns_more_than_frequencies(results):
    corpus = results["corpus"]
    for run in results["training"]:
        history, (step, last) = numbers(run["loss"]), run["held_out"][-1]
        assert step == len(history) and abs(np.exp(last) - run["perplexity"]) < 1e-9
        assert history[-10:].mean() < history[:10].mean()
        assert run["perplexity"] < 0.8 * corpus["unigram_perplexity"]
        # an untrained model knows nothing
        assert abs(history[0] - np.log(corpus["vocabulary"])) < 0.5
    assert corpus["unigram_perplexity"] < corpus["vocabulary"]


def batch(rng):
    """Features, embedding and labels, some of them ignored; no size is a multiple of a block."""
    x, embedding = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 7, 4), (11, 4)))
    return x, embedding, np.int32([[1, 2, 3, 4, 5, 6, 10], [7, 0, 8, -1, -1, -1, -1]])


@functools.cache
def values_and_gradients():
    return [jax.jit(jax.value_and_grad(loss, (0, 1))) for loss in training.losses_of(4).values()]


def test_losses_and_gradients_agree(rng):
    arguments = batch(rng)
    dense, *others = (f(*arguments) for f in values_and_gradients())
    assert min(np.abs(g).max() for g in dense[1]) > 0.1
    for other in others:
        for a, b in zip(*map(jax.tree.leaves, (dense, other)), strict=True):
            assert np.abs(a - b).max() <= OF_A_STEP * 2.0**-24 * np.abs(a).max()


def test_padding_is_ignored(rng):
    """Neither the loss nor a gradient reads what stands where no word is."""
    x, embedding, labels = batch(rng)
    words = (labels >= 0)[..., None]
    for f in values_and_gradients():
        (value, bars), other = (f(np.where(words, x, np.float32(scale) * x), embedding, labels) for scale in (1, 3))
        for a, b in zip(*map(jax.tree.leaves, ((value, bars), other)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.array_equal(np.any(bars[0] != 0, -1, keepdims=True), words)


def test_the_model_does_not_look_ahead(rng):
    """What follows changes nothing before it, and a first word changes everything after it."""
    parameters = _transformer.initial(0, words=12, length=6, width=8, layers=2)
    inputs = rng.integers(0, 12, (3, 6), np.int32)

    logits = jax.jit(lambda words: _transformer.features(parameters, words) @ parameters["embedding"].T)

    def differs(changed):
        return np.any(logits(inputs) != logits(changed), -1)

    for seen in range(6):
        changed = inputs.copy()
        changed[:, seen:] = (changed[:, seen:] + 1) % 12
        assert np.array_equal(differs(changed), np.broadcast_to(np.arange(6) >= seen, (3, 6)))
    changed = inputs.copy()
    changed[:, 0] = (changed[:, 0] + 1) % 12
    assert np.all(differs(changed))


def corpus_of(training_words, held_out_words):
    """One of four words, in windows with unequal numbers of words."""
    labels = np.int32([*training_words, *held_out_words])
    held_out = np.arange(len(labels)) >= len(training_words)
    return _text.Corpus(("<unknown>", "<start>", "a", "b"), np.zeros_like(labels), labels, held_out)


def test_the_loss_of_unigrams():
    """Frequencies 0, 0, 2, 1 in training, one more each: 1/7, 1/7, 3/7, 2/7."""
    corpus = corpus_of([[2, 3], [2, -1]], [[2, 0], [3, -1]])
    assert training.unigram_loss(corpus) == -np.mean(np.log([3 / 7, 1 / 7, 2 / 7]))


def test_the_mean_is_over_words_not_over_batches():
    """Two windows of a batch of two, and one: five words in all."""
    corpus = corpus_of([[1, 1, 1]], [[3, 2, 1], [0, -1, -1], [2, -1, -1]])
    shapes = set()

    def judge(parameters, inputs, labels):
        shapes.add((inputs.shape, labels.shape))
        return labels[labels >= 0].mean()

    mean = training._mean_over_held_out(judge, None, corpus, batch=2)
    assert mean == (3 + 2 + 1 + 0 + 2) / 5 and shapes == {((2, 3), (2, 3))}


def test_batches_are_epochs_of_the_training_windows():
    windows = np.array([0, 1, 2, 4, 5, 7, 8])
    config = language_model.Config(batch=3, steps=7)
    first, again = (np.array(list(training.batches_of(windows, config))) for _ in range(2))
    assert first.shape == (7, 3) and np.array_equal(first, again)
    epochs = first.reshape(3, 7)
    assert np.array_equal(np.sort(epochs), [windows] * 3) and np.any(epochs[0] != epochs[1])


# text --------------------------------------------------------------------------------------------------------------


def test_windows_are_the_text():
    corpus = _text.load("pydoc", 2048, 64)
    used = corpus.labels != _text.IGNORED
    assert len(corpus.words) == len(set(corpus.words)) == 2048 and corpus.labels.max() == 2047
    assert corpus.held_out.mean() == pytest.approx(1 / _text.HELD_OUT, rel=0.01)
    assert np.all(used[:, 0]) and np.all(used[:, :-1] >= used[:, 1:])  # padding is behind the words
    # each input is the label before it, also from one window of a document to the next
    assert np.array_equal(np.where(used, corpus.inputs, 0)[:, 1:], np.where(used[:, 1:], corpus.labels[:, :-1], 0))
    goes_on = corpus.inputs[1:, 0] != _text.START
    assert np.array_equal(corpus.inputs[1:, 0][goes_on], corpus.labels[:-1, -1][goes_on])
    assert np.all(used[:-1, -1][goes_on])
    # the vocabulary is by frequency in the training windows
    count = np.bincount(corpus.labels[~corpus.held_out][used[~corpus.held_out]], minlength=2048)
    assert np.all(np.diff(count[2:]) <= 0) and count[_text.START] == 0 < count[_text.UNKNOWN]


def test_held_out_windows_are_unseen():
    corpus = _text.load("pydoc", 2048, 64)
    seen = {window.tobytes() for window in corpus.labels[~corpus.held_out]}
    assert not any(window.tobytes() in seen for window in corpus.labels[corpus.held_out])
    # nor is a paragraph of one topic there again in another
    paragraphs = [paragraph for topic in _text._topics() for paragraph in topic.splitlines()]
    assert len(paragraphs) == len(set(paragraphs)) > 1000


BIBLE = """#!/bin/sh
[ "$1 $2" = "-f gen1:1-rev22:21" ] || exit 1
printf 'Ge1:1 In the beginning: God.\\nGe1:2 And the earth\\nGe2:1 Thus the heavens\\n'
"""


def test_chapters_of_the_bible(tmp_path, monkeypatch):
    """One document a chapter, without the references; a machine without the command is told what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt install bible-kjv"):
        _text.load("bible", 100, 8)
    (tmp_path / "bible").write_text(BIBLE, encoding="utf-8")
    (tmp_path / "bible").chmod(0o755)
    corpus = _text.load("bible", 100, 8)
    found = [[corpus.words[i] for i in window[window != _text.IGNORED]] for window in corpus.labels]
    assert [" ".join(words) for words in found] == ["in the beginning : god . and the", "earth", "thus the heavens"]
    assert corpus.inputs[0, 0] == corpus.inputs[2, 0] == _text.START and corpus.words[corpus.inputs[1, 0]] == "the"


# time and memory ---------------------------------------------------------------------------------------------------


def test_blocks_take_less_memory(results):
    """Dense temporaries hold all logits at least; blocks hold less, the less the smaller they are."""
    *vocabularies, swept = results["costs"]
    for part in results["costs"]:
        dense, *others = (p["temporary_bytes"] for p in part["programs"])
        assert dense >= 4 * part["tokens"] * part["classes"]
        assert all(size <= dense for size in others) and min(others) < dense / 4
    # what blocks of all tokens take does not depend on the vocabulary
    of_dense, of_classes = ([part["programs"][i]["temporary_bytes"] for part in vocabularies] for i in (0, 3))
    assert of_classes[-1] - of_classes[-2] < (of_dense[-1] - of_dense[-2]) / 4
    for kind in (False, True):
        sizes = [p["temporary_bytes"] for p in swept["programs"][1:] if ("×" in p["name"]) == kind]
        assert len(sizes) >= 2 and sizes == sorted(set(sizes))


def test_costs_are_complete(results):
    settings = results["run"]["settings"]
    sizes = [part["classes"] for part in results["costs"]]
    assert sizes == [*settings["vocabularies"], settings["swept"]]
    for part in results["costs"]:
        assert part["rounds"] == settings["rounds"]
        dense, *fused = part["programs"]
        assert dense["name"] == "dense" and set(dense["ratio"].values()) == {1.0}
        for p in fused:
            for spread in (p["seconds"], p["ratio"]):
                assert 0 < spread["p20"] <= spread["median"] <= spread["p80"] < np.inf


@pytest.mark.parametrize(
    "blocks",
    [{"16": 16}, slow({"default": None, "16": 16, "48×16": (48, 16)})],
    ids=len,
)
def test_the_measured_programs_compute_the_same(blocks):
    found = _layer_costs.programs(48, 8, 40, list(blocks.values()))
    assert list(found) == ["dense", *blocks]
    (value, gradients), *others = (call() for call, _ in found.values())
    assert min(float(np.abs(g).max()) for g in gradients) > 1e-3
    for other, others_gradients in others:
        for a, b in zip((other, *others_gradients), (value, *gradients), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


def test_a_ratio_compares_within_a_round(monkeypatch):
    """The machine is twice as slow in every second round: medians cannot tell, a ratio does."""
    slow = np.array([1.0, 2.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(_layer_costs, "programs", lambda *_: {"dense": (None, 2), "default": (None, 1)})
    monkeypatch.setattr(_layer_costs, "timed", lambda *_: [{"dense": 4 * slow, "default": 3 * slow}])
    (part,) = _layer_costs.measure(1, 1, 1, [None], 5)
    assert part["programs"][1]["ratio"] == {"median": 0.75, "p20": 0.75, "p80": 0.75}


def test_rounds_are_interleaved_and_warm_up_is_left_out():
    called = []
    found = {name: (lambda name=name: called.append(name), 0) for name in "abc"}
    *_, times = _layer_costs.timed(found, 3, "test")
    rounds = ["".join(called[i : i + 3]) for i in range(0, len(called), 3)]
    assert set(rounds) == {"abc", "cba"} and len(rounds) == _layer_costs.WARM_UP + 3
    assert {name: len(t) for name, t in times.items()} == dict.fromkeys("abc", 3)


# files -------------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_keeps_what_it_finished(tmp_path, monkeypatch):
    def trained(config, corpus, loss, name):
        return training.Run([1.0], [(1, 1.0)], 1.0)

    def rounds(*arguments):
        yield {"rounds": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(language_model, "train", trained)
    monkeypatch.setattr(language_model, "measure", rounds)
    with pytest.raises(KeyboardInterrupt):
        language_model.main(language_model.Config(smoke=True, out=tmp_path))
    kept = read(tmp_path)
    assert [run["name"] for run in kept["training"]] == LOSSES and kept["costs"] == [{"rounds": 1}]


def test_an_interrupted_training_keeps_those_before_it(tmp_path, monkeypatch):
    trained = iter([training.Run([1.0], [(1, 1.0)], 1.0)])

    def next_of(*arguments):
        for run in trained:
            return run
        raise KeyboardInterrupt

    monkeypatch.setattr(language_model, "train", next_of)
    with pytest.raises(KeyboardInterrupt):
        language_model.main(language_model.Config(smoke=True, out=tmp_path))
    assert [run["name"] for run in read(tmp_path)["training"]] == LOSSES[:1]


def test_figures_are_there_and_small(directory):
    for name in ("training", "costs"):
        assert 5_000 < (directory / f"language_model_{name}.png").stat().st_size < 300_000


@pytest.mark.parametrize(("stem", "command"), COMMANDS.items())
def test_committed_results_are_of_the_full_run(stem, command):
    results = read(COMMITTED, stem)
    assert results["run"]["command"] == command
    if stem == "language_model":
        settings = {k: v for k, v in vars(language_model.Config()).items() if k != "out"}
        assert results["run"]["settings"] == plain(settings)


def test_the_page_has_the_tables_of_the_results():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    for stem in COMMANDS:
        rows = [line for line in table(read(COMMITTED, stem)).splitlines() if line]
        assert len(rows) >= 8 and not set(rows) - set(page)
