"""The figures of the β sweep, drawn from its JSON alone."""

import matplotlib.pyplot as plt

from experiments._limit_figures import entropy, lse_bound, probabilities, ties
from experiments._model_figures import temperature, training
from experiments._plots import STYLE
from experiments._rate_figures import gradient, off_mass

FIGURES = {
    probabilities: {"hand"},
    ties: {"hand"},
    off_mass: {"hand", "digits"},
    entropy: {"hand", "digits"},
    gradient: {"hand", "digits", "attention"},
    lse_bound: {"hand", "digits"},
    temperature: {"temperature"},
    training: {"training"},
}
"""Each figure and the parts of the results that it shows."""


def draw(results, directory):
    """Writes each figure whose parts are there; returns the paths."""
    paths = []
    with plt.rc_context(STYLE):
        for figure, parts in FIGURES.items():
            if parts <= results.keys():
                paths.append(directory / f"beta_sweep_{figure.__name__}.png")
                drawn = figure(results)
                drawn.savefig(paths[-1])
                plt.close(drawn)
    return paths
