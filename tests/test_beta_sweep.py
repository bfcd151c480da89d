"""The laws that the numbers of the β sweep obey: of a smoke run made here, and of the committed results."""

import json
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro
from scipy.special import softmax as scipy_softmax

from experiments import _sweep, beta_sweep
from experiments._results import numbers, plain

COMPILE_LIGHTLY = True
COMMITTED = Path(beta_sweep.__file__).parent / "results"
ROWS = sorted(beta_sweep.ROWS)
FIGURES = {
    f"beta_sweep_{name}.png"
    for name in ("probabilities", "ties", "off_mass", "entropy", "gradient", "lse_bound", "temperature", "training")
}


def reject(token):
    raise ValueError(f"{token} is not JSON")


def load(directory):
    return json.loads((directory / "beta_sweep.json").read_text(encoding="utf-8"), parse_constant=reject)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    directory = tmp_path_factory.mktemp("smoke")
    results = beta_sweep.main(beta_sweep.Config(smoke=True, out=directory))
    assert results == load(directory)  # what the figures were drawn from is what the JSON holds
    return directory


@pytest.fixture(scope="module")
def results(directory):
    return load(directory)


@pytest.fixture(params=ROWS)
def row(request, results):
    """One hand-written row: its scores and, beside β, each quantity that was measured."""
    values = {name: numbers(value) for name, value in results["hand"]["rows"][request.param].items()}
    return {"beta": numbers(results["hand"]["beta"]), **values}


def side(x, sign):
    """(k, m, gap) at the end of the row that β → sign·∞ selects, by other means than the experiment's."""
    behind = np.sort(sign * x)[::-1][0] - sign * x
    next_best = behind[behind > 0].min(initial=np.inf)
    return np.sum(behind == 0), np.sum(behind == next_best), next_best


def at(row, quantity, beta):
    (found,) = np.flatnonzero(row["beta"] == beta)
    return row[quantity][found]


# the run


def test_provenance(results):
    run = results["run"]
    assert run["command"].startswith("python -m experiments.beta_sweep")
    assert run["settings"]["seed"] == 0
    assert {"python", "jsoftmax", "jax", "optax", "scikit-learn"} <= run["versions"].keys()


def test_committed_results_are_of_the_default_run():
    run = load(COMMITTED)["run"]
    assert run["command"] == "python -m experiments.beta_sweep"
    assert run["settings"] == plain({f: v for f, v in vars(beta_sweep.Config()).items() if f != "out"})


@pytest.mark.slow
def test_command_repeats_the_run(smoke):
    command = shlex.split(load(smoke)["run"]["command"])
    assert command[:3] == ["python", "-m", "experiments.beta_sweep"]
    assert tyro.cli(beta_sweep.Config, args=command[3:]) == beta_sweep.Config(smoke=True, out=smoke)


def test_figures_are_there_and_small(directory):
    files = {path.name: path for path in directory.glob("beta_sweep_*.png")}
    assert files.keys() == FIGURES
    for path in files.values():
        header = path.read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        assert int.from_bytes(header[16:20], "big") >= 1000  # pixels wide
        assert path.stat().st_size < 200_000


def test_the_page_shows_every_figure():
    page = (COMMITTED.parents[1] / "docs" / "beta_sweep.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(\.\./experiments/results/(beta_sweep_\w+\.png)\)", page)) == sorted(FIGURES)


@pytest.mark.slow
def test_interrupted_run_keeps_finished_parts(smoke, tmp_path, monkeypatch):
    def interrupt(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(beta_sweep, "load_digits", interrupt)
    with pytest.raises(KeyboardInterrupt):
        beta_sweep.main(beta_sweep.Config(smoke=True, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["beta_sweep.json"]
    kept = beta_sweep.main(beta_sweep.Config(figures_only=True, out=tmp_path))
    assert kept.keys() == {"run", "hand", "attention"}
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert drawn == {
        name: (smoke / name).read_bytes() for name in ("beta_sweep_probabilities.png", "beta_sweep_ties.png")
    }


def test_figures_need_the_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="without --figures-only"):
        beta_sweep.main(beta_sweep.Config(figures_only=True, out=tmp_path))


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        beta_sweep.write_json(Path("unused.json"), {"value": np.nan})


@pytest.mark.slow
def test_one_compilation_for_every_beta(smoke):
    x = np.float32(list(beta_sweep.ROWS.values()))
    grid = beta_sweep.beta_grid(beta_sweep.SMOKE["points_per_octave"])
    with jax.no_tracing():
        seen = _sweep.observe(x, grid[::-1].copy())
    np.testing.assert_array_equal(seen["p"][-1], _sweep.observe(x, grid)["p"][0])


# hand-written rows


def test_probabilities_sum_to_one(row):
    np.testing.assert_allclose(row["p"].sum(axis=-1), 1, rtol=2.4e-7)  # four float32 roundings


def test_probabilities_equal_float64(row):
    finite = np.isfinite(row["beta"])
    wanted = scipy_softmax(row["beta"][finite, None] * row["x"], axis=-1)
    held = wanted > 1.2e-38  # float32's smallest normal number
    difference = np.abs(row["p"][finite] - wanted) / wanted
    assert difference[held].max() < 100 * 6e-8  # (8 + β·distance) units in the last place, β·distance ≤ 87
    assert row["p"][finite][~held].max(initial=0) <= 1.2e-38


@pytest.mark.parametrize("sign", [-1, 1], ids=["argmin", "argmax"])
def test_ties_share_the_limit(row, sign):
    extremum = sign * row["x"] == np.max(sign * row["x"])
    np.testing.assert_array_equal(np.float32(at(row, "p", sign * np.inf)), np.float32(extremum / extremum.sum()))


def test_uniform_at_zero(row):
    np.testing.assert_array_equal(at(row, "p", 0), 1 / len(row["x"]))


@pytest.mark.parametrize("sign", [-1, 1], ids=["argmin", "argmax"])
def test_off_mass_decays_at_the_gap(row, sign):
    winners, next_best, gap = side(row["x"], sign)
    if winners == len(row["x"]):
        assert not row["off_mass"].any()
        return
    magnitude = sign * row["beta"]
    tail = (magnitude * gap > 10) & (magnitude * gap < 80)
    beyond = np.max(sign * row["x"]) - sign * row["x"] - gap
    third = np.exp(-magnitude[tail, None] * beyond[beyond > 0]).sum(axis=-1) / next_best
    tail[tail] = third < 0.02
    assert tail.sum() >= 3
    slope, height = np.polyfit(magnitude[tail], np.log(row["off_mass"][tail]), 1)
    assert slope == pytest.approx(-gap, rel=0.01)
    assert height == pytest.approx(np.log(next_best / winners), abs=0.02)
    ratio = row["off_mass"][tail] / row["off_mass_law"][tail]
    assert np.all(np.abs(ratio - 1) < third[third < 0.02] + row["off_mass"][tail] + 1e-5)


def test_one_minus_p_max_is_lost_where_the_sum_is_not(results):
    row = results["hand"]["rows"]["one winner"]
    beta, gap = numbers(results["hand"]["beta"]), side(numbers(row["x"]), 1)[2]
    saturated = (beta * gap > 17.4) & (beta * gap < 80)
    assert saturated.any()
    assert not numbers(row["one_minus_p_max"])[saturated].any()
    assert numbers(row["off_mass"])[saturated].all()


def test_entropy_of_the_limits(row):
    assert at(row, "entropy", 0) == pytest.approx(np.log(len(row["x"])), rel=1e-6)
    for sign in (-1, 1):
        assert at(row, "entropy", sign * np.inf) == pytest.approx(np.log(side(row["x"], sign)[0]), rel=1e-6, abs=0)


def assert_falls_on_both_sides(beta, entropy):
    """Largest at β = 0 and, up to four float32 roundings, never growing with |β|."""
    for sign in (-1, 1):
        outwards = entropy[sign * beta >= 0][::sign]
        assert np.all(np.diff(outwards) <= 2.4e-7 * outwards[0])


def test_entropy_falls_with_magnitude_of_beta(row):
    assert_falls_on_both_sides(row["beta"], row["entropy"])


def test_entropy_equals_float64(row):
    """Also where it is tiny. SciPy's −p log p is 2 % off there: its log p of a confident winner is rounded to 0."""
    finite = np.isfinite(row["beta"])
    scores = row["beta"][finite, None] * row["x"]
    below = scores.max(axis=-1, keepdims=True) - scores
    ties = np.sum(below == 0, axis=-1)
    excess = np.sum(np.exp(-below), axis=-1, where=below > 0) / ties
    wanted = np.log(ties) + np.log1p(excess) + np.sum(scipy_softmax(scores, axis=-1) * below, axis=-1)
    held = wanted > 1e-35
    np.testing.assert_allclose(row["entropy"][finite][held], wanted[held], rtol=100 * 6e-8)


def test_log_sum_exp_within_its_bound(row):
    beta = np.abs(row["beta"])
    with np.errstate(divide="ignore"):
        bound = np.log(len(row["x"])) / beta
    assert np.all(row["lse_excess"] >= 0)
    assert np.all(row["lse_excess"] <= bound * (1 + 3e-7))
    for sign in (-1, 1):  # k winners keep ln k / β of it: all of the bound where every score is equal
        assert at(row, "lse_excess", sign * 256) == pytest.approx(
            np.log(side(row["x"], sign)[0]) / 256, rel=1e-6, abs=1e-20
        )


@pytest.mark.parametrize("sign", [-1, 1], ids=["argmin", "argmax"])
def test_gradient_vanishes_without_a_tie_and_grows_with_one(row, sign):
    winners, next_best, gap = side(row["x"], sign)
    magnitude = sign * row["beta"]
    tail = (magnitude > 0) & np.isfinite(magnitude) & (magnitude * min(gap, 1) > 10)
    if winners > 1:
        wanted = np.where(tail, magnitude, 0) * np.sqrt(winners - 1) / winners
    else:  # p of the winner falls by what the m next best gain
        tail &= magnitude * gap < 80
        wanted = np.where(tail, magnitude, 0) * row["off_mass_law"] * np.sqrt(1 + 3 / next_best)
    assert tail.sum() >= 3
    np.testing.assert_allclose(row["jacobian_norm"][tail], wanted[tail], rtol=0.01)


# attention


def test_scaled_scores_keep_their_gradient(results):
    attention = results["attention"]
    raw, scaled = attention["raw"], attention["scaled"]
    assert attention["dimensions"][0] == 16
    assert attention["dimensions"][-1] == 1024
    for name in ("gradient_mean", "gradient_median"):
        assert max(scaled[name]) < 1.1 * min(scaled[name])
        assert np.all(np.diff(raw[name]) < 0)
    assert raw["gradient_mean"][-1] < raw["gradient_mean"][0] / 3
    assert raw["gradient_median"][-1] < raw["gradient_median"][0] / 100
    assert raw["largest_weight_mean"][-1] > 0.9
    assert max(scaled["largest_weight_mean"]) < 0.15


@pytest.mark.parametrize("dimension", [16, 1024])
def test_attention_equals_float64(results, dimension):
    attention = results["attention"]
    generator = np.random.default_rng(20)  # other queries and keys than the experiment's
    at = attention["dimensions"].index(dimension)
    keys = generator.standard_normal((20, dimension, attention["keys"]))
    scores = generator.standard_normal((20, 200, dimension)) @ keys
    for name, scale in (("raw", 1), ("scaled", dimension**-0.5)):
        p = scipy_softmax(scores * scale, axis=-1)
        power = [np.sum(p**exponent, axis=-1) for exponent in (2, 3)]
        norm = np.sqrt(np.maximum(power[0] - 2 * power[1] + power[0] ** 2, 0))  # ‖diag p − p pᵀ‖
        assert attention[name]["gradient_mean"][at] == pytest.approx(norm.mean(), rel=0.15)
        assert attention[name]["largest_weight_mean"][at] == pytest.approx(p.max(axis=-1).mean(), rel=0.08)


# digits


def test_training_reaches_the_optimum_of_scikit_learn(results):
    for fit in results["training"]:
        assert fit["final_objective"] == pytest.approx(fit["scikit_learn_objective"], abs=1e-6)
        assert fit["objective"][0] == pytest.approx(np.log(10), rel=1e-6)  # zero weights: uniform
        assert fit["objective"][-1] == pytest.approx(fit["final_objective"], abs=1e-6)
        assert fit["accuracy"] > 0.9
        assert fit["accuracy"] == pytest.approx(fit["scikit_learn_accuracy"], abs=1.5 / len(results["digits"]["gap"]))


def test_gradient_in_beta_at_the_optimum(results):
    """∂objective/∂W = 0 along W itself, and no penalty on the bias: ∂(mean loss)/∂β = −λ ‖W‖² at β = 1."""
    for fit in results["training"]:
        wanted = -fit["penalty"] * fit["squared_weight_norm"]
        assert fit["loss_beta_gradient"] == pytest.approx(wanted, rel=1e-3)


def test_every_image_decays_at_its_gap(results):
    gap, rate = numbers(results["digits"]["gap"]), numbers(results["digits"]["fitted_rate"])
    assert len(gap) == 540
    np.testing.assert_allclose(rate, gap, rtol=0.01)


def test_example_images_decay_at_their_gap(results):
    beta = numbers(results["digits"]["beta"])
    for example in results["digits"]["examples"]:
        gap = side(numbers(example["x"]), 1)[2]
        assert gap == pytest.approx(example["gap"], rel=1e-6)
        wanted = np.sum(np.sort(scipy_softmax(beta[1:-1, None] * numbers(example["x"]), axis=-1))[:, :-1], axis=-1)
        shown = (beta[1:-1] > 0) & (wanted > 1e-36)
        np.testing.assert_allclose(numbers(example["off_mass"])[1:-1][shown], wanted[shown], rtol=2e-5)


def test_limits_over_the_images(results):
    digits = results["digits"]
    beta = numbers(digits["beta"])
    for name in ("lowest", "mean", "median", "highest"):
        values = numbers(digits["entropy"][name])
        assert_falls_on_both_sides(beta, values)
        assert values[beta == 0] == pytest.approx(np.log(10), rel=1e-6)
        assert not values[np.isinf(beta)].any()  # no test image ties
        finite = np.isfinite(beta) & (beta != 0)
        excess = numbers(digits["lse_excess"][name])[finite]
        assert np.all((excess >= 0) & (excess <= np.log(10) / np.abs(beta[finite]) * (1 + 3e-7)))
        assert not numbers(digits["jacobian_norm"][name])[np.isinf(beta) | (beta == 0)].any()
    typical = numbers(digits["jacobian_norm"]["median"])
    assert typical[beta == 32] < 1e-12 * typical.max()


# temperature


def test_temperature_never_changes_the_most_probable_class(results):
    part = results["temperature"]
    temperature = numbers(part["temperature"])
    for fit, curve in zip(results["training"], part["curves"], strict=True):
        accuracy = numbers(curve["accuracy"])
        np.testing.assert_allclose(accuracy[np.isfinite(temperature)], fit["accuracy"], rtol=1e-6)
        assert accuracy[np.isinf(temperature)] == pytest.approx(0.1, rel=1e-6)


def test_limits_of_temperature(results):
    part = results["temperature"]
    assert part["temperature"][0] == 0
    assert part["temperature"][-1] == "inf"
    for fit, curve in zip(results["training"], part["curves"], strict=True):
        loss, label_probability = numbers(curve["loss"]), numbers(curve["label_probability"])
        assert loss[0] == np.inf  # one wrong answer is enough
        assert loss[-1] == pytest.approx(np.log(10), rel=1e-6)
        assert label_probability[0] == pytest.approx(fit["accuracy"], rel=1e-6)
        assert label_probability[-1] == pytest.approx(0.1, rel=1e-6)


def test_best_temperature_is_the_minimum(results):
    part = results["temperature"]
    temperature = numbers(part["temperature"])
    for curve in part["curves"]:
        loss = numbers(curve["loss"])
        least = np.argmin(loss)
        assert temperature[least - 1] < curve["best_temperature"] < temperature[least + 1]
        assert curve["best_loss"] <= loss[least] * (1 + 3e-7)
        assert curve["loss_at_one"] == pytest.approx(loss[temperature == 1][0], rel=1e-6)
        inverse, convex = 1 / temperature[1:-1], loss[1:-1]
        slope = np.diff(convex) / np.diff(inverse)
        assert np.all(np.diff(slope) <= 1e-5)  # convex in β, and the grid runs from large β to small


def test_less_regularisation_wants_a_higher_temperature():
    """Under-confident below T = 1, over-confident above: the three C of the full run lie on both sides."""
    results = load(COMMITTED)
    best = [curve["best_temperature"] for curve in results["temperature"]["curves"]]
    assert sorted(results["run"]["settings"]["inverse_penalties"]) == results["run"]["settings"]["inverse_penalties"]
    assert sorted(best) == best
    assert best[0] < 1 < best[-1]
