"""What the scaling of attention has to obey: of a smoke run made here, and of the committed results. No timing."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _scaling_training as training
from experiments import attention_scaling
from experiments._results import numbers, plain
from experiments._scaling_table import table

EXPERIMENT = attention_scaling
COMPILE_LIGHTLY = True
COMMITTED = Path(attention_scaling.__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "attention_scaling.md"


def read(directory):
    return json.loads((directory / "attention_scaling.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(directory):
    return read(directory)


@pytest.fixture(scope="module")
def committed():
    return read(COMMITTED)


def test_every_row_is_there(results):
    settings = results["run"]["settings"]
    assert [row["dimension"] for row in results["random"]] == settings["dimensions"]
    found = [(row["dimension"], row["rate"], row["scores"]) for row in results["training"]]
    assert found == [(d, rate, s) for d in settings["trained"] for rate in settings["rates"] for s in ("raw", "scaled")]
    chunks = settings["steps"] // settings["every"]
    for row in results["training"]:
        assert numbers(row["loss"]).shape == numbers(row["pull"]).shape == (settings["seeds"], chunks)
        for name in ("gradient_mean", "gradient_median", "largest_weight", "accuracy"):
            assert numbers(row[name]).shape == (settings["seeds"], chunks + 1)
        assert row["beta"] == (1 if row["scores"] == "raw" else row["dimension"] ** -0.5)


def test_scaled_scores_of_random_keys_do_not_know_the_dimension(results):
    scaled = [row["scaled"] for row in results["random"]]
    for name in ("gradient_mean", "gradient_median", "largest_weight_mean"):
        values = numbers([part[name] for part in scaled])
        assert values.max() < 1.1 * values.min()
    for part in scaled:
        assert 0.17 < part["gradient_mean"] < 0.2 and 0.1 < part["largest_weight_mean"] < 0.12


def test_raw_scores_of_random_keys_saturate(results):
    """Half of the norms vanish, and a few large ones keep up the mean."""
    raw = [row["raw"] for row in results["random"]]
    for name, sign in (("gradient_mean", -1), ("gradient_median", -1), ("largest_weight_mean", 1)):
        assert np.all(sign * np.diff([part[name] for part in raw]) > 0)
    known = {16: (0.301, 0.57), 64: (0.209, 0.79), 256: (0.133, 0.89), 1024: (0.072, 0.95)}  # of other draws
    for row in results["random"]:
        part = row["raw"]
        if row["dimension"] in known:
            norm, weight = known[row["dimension"]]
            assert abs(part["gradient_mean"] / norm - 1) < 0.15 and abs(part["largest_weight_mean"] / weight - 1) < 0.08
        assert part["gradient_tenth"] <= part["gradient_median"] <= part["gradient_nine_tenths"] < 0.75


def test_training_serves(results):
    for row in results["training"]:
        loss, accuracy = numbers(row["loss"]), numbers(row["accuracy"])
        assert np.all(loss[:, -1] < loss[:, 0]) and loss[:, 0].max() < np.log(10) + 0.1
        assert np.all(accuracy[:, -1] > 0.3) and np.all(accuracy[:, -1] > accuracy[:, 0])


def test_both_scalings_start_alike_and_differ_in_their_gradient(results):
    """The same weights: at first the raw scores are sharper, and the more so the larger d is."""
    pairs = zip(results["training"][::2], results["training"][1::2], strict=True)
    for raw, scaled in pairs:
        assert np.all(numbers(raw["largest_weight"])[:, 0] > numbers(scaled["largest_weight"])[:, 0])
        if raw["dimension"] >= 64:
            assert numbers(raw["gradient_median"])[:, 0].mean() < numbers(scaled["gradient_median"])[:, 0].mean()


def test_what_the_page_says_of_the_committed_run(committed):
    pairs = [*zip(committed["training"][::2], committed["training"][1::2], strict=True)]
    of = lambda row, name, at: numbers(row[name])[:, at].mean()  # noqa: E731
    assert sum(of(raw, "loss", 0) < of(scaled, "loss", 0) for raw, scaled in pairs) == 8
    pulls = [of(raw, "pull", 0) / of(scaled, "pull", 0) for raw, scaled in pairs]
    assert min(pulls) > 2.5 and max(pulls) < 5.6
    last = {(r["dimension"], r["rate"], r["scores"]): of(r, "loss", -1) for r in committed["training"]}
    rates = committed["run"]["settings"]["rates"]
    best = {(d, s): min(last[d, rate, s] for rate in rates) for d in (16, 64, 256) for s in ("raw", "scaled")}
    assert best[256, "raw"] > 2 * best[256, "scaled"]
    assert all(last[256, rate, "raw"] > 1.3 * last[256, rate, "scaled"] for rate in rates)
    assert all(abs(last[16, rate, "raw"] / last[16, rate, "scaled"] - 1) < 0.1 for rate in rates[:2])
    assert last[16, rates[2], "raw"] > 1.5 * last[16, rates[2], "scaled"]
    for raw, scaled in pairs:
        end = of(raw, "gradient_median", -1), of(scaled, "gradient_median", -1)
        assert end[0] < end[1] and (raw["dimension"] < 256 or (end[0] < 1e-5 and 5e-4 < end[1] < 0.3))


def test_patches_hold_their_pixels():
    patches = training.load(0)
    image = np.arange(64.0).reshape(8, 8)
    cut = image.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4)
    assert cut[0].tolist() == [0, 1, 8, 9] and cut[5].tolist() == [18, 19, 26, 27]
    pixels = patches.train_images
    assert pixels.shape[1:] == (16, 4) and abs(pixels.mean()) < 1e-5 and abs(pixels.std() - 1) < 1e-5
    digits = training.load_digits(0)
    mean, deviation = digits.train_images.mean(), digits.train_images.std()
    first = (digits.train_images[0].reshape(8, 8)[2:4, 2:4].ravel() - mean) / deviation
    assert np.array_equal(pixels[0, 5], first)


def test_queries_and_keys_start_with_variance_one():
    parameters = training.initial(np.random.default_rng(0), 32, 64)
    images = np.random.default_rng(1).standard_normal((50, 16, 4)).astype(np.float32)
    scores, value = training.scores(parameters, images), training.heads(parameters, images)[2]
    assert scores.shape == (50, 16, 16) and 0.6 < float(jnp.std(scores)) / 8 < 1.4 and 0.8 < float(value.std()) < 1.2
    assert np.all(np.asarray(training.logits(parameters, images, 1.0)) == 0)


def test_figures_are_drawn_from_the_json(directory, tmp_path):
    (tmp_path / "attention_scaling.json").write_bytes((directory / "attention_scaling.json").read_bytes())
    attention_scaling.main(attention_scaling.Config(figures_only=True, out=tmp_path))
    for folder in (tmp_path, directory):
        for name in ("random", "training", "saturation"):
            assert 5_000 < (folder / f"attention_scaling_{name}.png").stat().st_size < 300_000


def test_committed_results_are_of_the_full_run(committed):
    run = committed["run"]
    assert run["command"] == "python -m experiments.attention_scaling"
    assert run["settings"] == plain({k: v for k, v in vars(attention_scaling.Config()).items() if k != "out"})


def test_the_page_has_the_tables_of_the_results(committed):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in table(committed).splitlines() if line]
    assert len(rows) >= 20 and not set(rows) - set(page)
