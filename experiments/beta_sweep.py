"""From argmin through uniform to argmax: the β-softmax on hand-written rows and on a classifier's logits.

python -m experiments.beta_sweep              the whole of it: table, results/beta_sweep.json, figures
python -m experiments.beta_sweep --smoke      the same in a few seconds, fewer points
python -m experiments.beta_sweep --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _regression as regression
from experiments import _sweep as sweep
from experiments import _temperature as temperature
from experiments._attention import attention_gradients
from experiments._beta_figures import draw
from experiments._beta_table import row_table, summary
from experiments._digits import load_digits
from experiments._results import plain, provenance, read_json, write_json

ROWS = {
    "one winner": [1.0, 0.7, 0.2, 0.0],
    "two tie at the top": [1.0, 1.0, 0.7, 0.0],
    "three tie at the top": [1.0, 1.0, 1.0, 0.7],
    "two tie at the bottom": [1.0, 0.7, 0.2, 0.2],
    "all equal": [1.0, 1.0, 1.0, 1.0],
}
PERCENTILES = (5, 25, 50, 75, 95)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the β sweep."""

    out: Path = Path(__file__).parent / "results"
    """Folder for beta_sweep.json and the figures."""
    seed: int = 0
    """Split of the digits; random queries and keys."""
    smoke: bool = False
    """A few seconds: fewer β, one regularisation, fewer dimensions."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    inverse_penalties: tuple[float, ...] = (0.01, 1.0, 100.0)
    """scikit-learn's C of each softmax regression; the one at position `swept` gives the logits for the β sweep."""
    swept: int = 1
    max_steps: int = 1000
    tolerance: float = 2e-6
    """Training ends when the objective's gradient is shorter than this."""
    points_per_octave: int = 2
    """Grid of β (2⁻⁶ … 2⁸, both signs) and of temperatures."""
    dimensions: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    """Of the attention queries and keys."""
    keys: int = 64
    queries: int = 512


SMOKE = {"inverse_penalties": (1.0,), "swept": 0, "points_per_octave": 1, "dimensions": (16, 128, 1024), "queries": 128}


def beta_grid(points_per_octave):
    """−∞, −2⁸ … −2⁻⁶, 0, 2⁻⁶ … 2⁸, +∞ in float32, the precision in which they are used."""
    magnitude = np.exp2(np.linspace(-6, 8, 14 * points_per_octave + 1)).astype(np.float32)
    return np.concatenate([[-np.inf], -magnitude[::-1], [0], magnitude, [np.inf]]).astype(np.float32)


def sweep_hand(config):
    beta = beta_grid(config.points_per_octave)
    x = np.float32(list(ROWS.values()))
    seen = sweep.observe(x, beta)
    return {
        "beta": beta,
        "rows": {
            name: {
                "x": row,
                "off_mass_law": [sweep.off_mass_law(row, b) for b in beta],
                **{quantity: values[:, i] for quantity, values in seen.items()},
            }
            for i, (name, row) in enumerate(zip(ROWS, x, strict=True))
        },
    }


def sweep_attention(config):
    generator = np.random.default_rng(config.seed)
    gradients, largest = [], []
    for dimension in tqdm(config.dimensions, desc="attention", unit="d", leave=False):
        norm, weight = attention_gradients(generator, dimension, keys=config.keys, queries=config.queries)
        gradients.append(np.asarray(norm))
        largest.append(np.asarray(weight).mean(axis=-1))
    quantiles = {"mean": np.mean, "median": np.median}
    return {
        "dimensions": config.dimensions,
        "keys": config.keys,
        "queries": config.queries,
        **{
            scores: {
                **{f"gradient_{name}": [of(norm[i]) for norm in gradients] for name, of in quantiles.items()},
                "largest_weight_mean": [weight[i] for weight in largest],
            }
            for i, scores in enumerate(("raw", "scaled"))
        },
    }


def train(config, digits):
    """(what the JSON keeps, parameters) of the softmax regression at each C."""
    images, labels = digits.train_images, digits.train_labels
    report, models = [], []
    for inverse_penalty in config.inverse_penalties:
        penalty = 1 / (inverse_penalty * len(labels))
        ours = regression.fit(images, labels, penalty, max_steps=config.max_steps, tolerance=config.tolerance)
        theirs = regression.scikit_learn_fit(images, labels, inverse_penalty)
        scores = regression.logits(ours.parameters, images)
        report.append(
            {
                "inverse_penalty": inverse_penalty,
                "penalty": penalty,
                "objective": ours.history,
                "gradient_norm": ours.gradient_norm,
                "final_objective": regression.exact_objective(ours.parameters, images, labels, penalty),
                "scikit_learn_objective": regression.exact_objective(theirs, images, labels, penalty),
                "accuracy": accuracy(ours.parameters, digits.test_images, digits.test_labels),
                "scikit_learn_accuracy": accuracy(theirs, digits.test_images, digits.test_labels),
                "squared_weight_norm": np.sum(np.asarray(ours.parameters["weight"], np.float64) ** 2),
                "loss_beta_gradient": temperature.loss_beta_gradient(scores, labels, 1.0),
            }
        )
        models.append(ours.parameters)
    return report, models


def accuracy(parameters, images, labels):
    return np.mean(np.argmax(np.asarray(regression.logits(parameters, images)), axis=-1) == labels)


def sweep_digits(config, test_logits):
    beta = beta_grid(config.points_per_octave)
    seen = {name: np.asarray(values) for name, values in sweep.observe(test_logits, beta).items()}
    gaps = np.asarray([sweep.gap(row, 1.0)[0] for row in np.asarray(test_logits)])
    order = np.argsort(gaps)
    examples = [order[len(order) * percentile // 100] for percentile in PERCENTILES]
    spread = {
        quantity: {
            "mean": seen[quantity].mean(axis=1, dtype=np.float64),
            "median": np.median(seen[quantity], axis=1),
            "lowest": seen[quantity].min(axis=1),
            "highest": seen[quantity].max(axis=1),
        }
        for quantity in ("entropy", "lse_excess", "jacobian_norm")
    }
    return {
        "beta": beta,
        "inverse_penalty": config.inverse_penalties[config.swept],
        "gap": gaps,
        "fitted_rate": sweep.fitted_rates(test_logits, gaps),
        "examples": [
            {"percentile": percentile, "x": test_logits[i], "gap": gaps[i], "off_mass": seen["off_mass"][:, i]}
            for percentile, i in zip(PERCENTILES, examples, strict=True)
        ],
        **spread,
    }


def sweep_temperature(config, digits, models):
    grid = np.exp2(np.linspace(-5, 5, 10 * 2 * config.points_per_octave + 1)).astype(np.float32)
    grid = np.concatenate([[0], grid, [np.inf]]).astype(np.float32)
    curves = []
    for inverse_penalty, parameters in zip(config.inverse_penalties, models, strict=True):
        test_logits = regression.logits(parameters, digits.test_images)
        best = temperature.best_temperature(test_logits, digits.test_labels)
        curves.append(
            {
                "inverse_penalty": inverse_penalty,
                **temperature.temperature_curves(test_logits, digits.test_labels, grid),
                "best_temperature": best,
                "best_loss": regression.mean_loss(test_logits, digits.test_labels, 1 / best),
                "loss_at_one": regression.mean_loss(test_logits, digits.test_labels, 1.0),
            }
        )
    return {"temperature": grid, "curves": curves}


def parts(config):
    """Yields each part of the results as it is finished."""
    yield "hand", sweep_hand(config)
    yield "attention", sweep_attention(config)
    digits = load_digits(config.seed)
    report, models = train(config, digits)
    yield "training", report
    yield "digits", sweep_digits(config, regression.logits(models[config.swept], digits.test_images))
    yield "temperature", sweep_temperature(config, digits, models)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "beta_sweep.json"
    if config.figures_only:
        results = read_json(path)
    else:
        used = dataclasses.replace(config, **SMOKE) if config.smoke else config
        results = {"run": provenance("experiments.beta_sweep", config, used)}
        started = time.perf_counter()
        for part, numbers in tqdm(parts(used), total=5, desc="β sweep", unit="part"):
            results[part] = plain(numbers)
            write_json(path, results)
        seconds = f"{time.perf_counter() - started:.0f} s of computing, results in {path}"
        print(row_table(results["hand"], "two tie at the top"), summary(results), seconds, sep="\n\n")
    for figure in draw(results, config.out):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
