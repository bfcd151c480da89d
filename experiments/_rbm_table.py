"""The results of the experiment as tables in Markdown, from their JSON alone; docs/rbm.md holds them."""

from experiments._results import numbers
from experiments._tables import document, rows_of

SIDES = ("training", "held out")


def table(results):
    return document([_data(results), *(_machines(results, hidden) for hidden in results["run"]["settings"]["hidden"])])


def _data(results):
    d = results["data"]
    numbers_of = f"{d['training']}", f"{d['held_out']}", f"{d['pixels']}", f"{100 * d['on']:.1f} %"
    return rows_of(("training images", "held-out images", "pixels", "pixels that are on"), [numbers_of])


def _machines(results, hidden):
    rows = [("independent pixels", "–", *_cells([results["independent"]], hidden, results), "–")]
    for run in results["training"]:
        if run["hidden"] == hidden:
            rate = f"{run['rate']:g}" + (
                "" if "constant" in run["name"] or run["name"] == "scikit-learn" else " falling"
            )
            rows.append((run["name"], rate, *_cells(run["seeds"], hidden, results), f"{run['seconds']:.1f}"))
    return rows_of((f"{hidden} hidden units", "rate", *_heads(results, hidden), "seconds"), rows)


def exact(results, hidden):
    """Whether likelihoods of so many units are there."""
    return any("likelihood" in run["seeds"][0] for run in results["training"] if run["hidden"] == hidden)


def _heads(results, hidden):
    likelihood = [f"log-likelihood, {side}" for side in SIDES] if exact(results, hidden) else []
    return (*likelihood, *(f"pseudo, {side}" for side in SIDES), "free-energy gap", "squared error, held out")


def _cells(seeds, hidden, results):
    found = []
    for name in ("likelihood", "pseudo") if exact(results, hidden) else ("pseudo",):
        found += [spread([seed[name][side] for seed in seeds]) for side in range(2)]
    found.append(spread([seed["free_energy_gap"] for seed in seeds]))
    return [*found, spread([seed["reconstruction"][1] for seed in seeds])]


def spread(values):
    """Mean, and half of the range over seeds where there are several."""
    values = numbers(values)
    text = f"{values.mean():.2f}".replace("-", "−")
    return text if len(values) == 1 else f"{text} ± {(values.max() - values.min()) / 2:.2f}"
