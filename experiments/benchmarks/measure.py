"""The protocol: rounds in alternating direction over all programs of a workload, and ratios within a round.

In a round every program runs once, ours beside its rivals, so that a slow spell of the machine is in both and cancels.
torch's are at one end of the round, for its threads spin for a while after each call and would take the cores from the
program that follows; between the two there is a pause and a call without the clock.
"""

import time

import jax
import numpy as np
from tqdm import tqdm

from experiments.benchmarks import programs as p

WARM_UP = 2
PAUSE = 0.02  # seconds: OpenMP's threads spin for a few milliseconds


def seconds(program, calls):
    """Mean time of a call. Arguments are made, and results freed, while the clock stands."""
    total = 0.0
    for _ in range(calls):
        given = jax.block_until_ready(program.arguments())
        started = time.perf_counter()
        result = jax.block_until_ready(program.run(*given))
        total += time.perf_counter() - started
        del result
    return total / calls


def timed(found, rounds, calls, description):
    """Key → seconds of every round after the warm-up."""
    times, by_torch = {key: [] for key in found}, False
    for i in tqdm(range(WARM_UP + rounds), desc=description, unit="round", leave=False):
        for key in list(found)[:: 1 if i % 2 else -1]:
            if by_torch != (key.function == p.TORCH):
                by_torch = not by_torch
                time.sleep(PAUSE)
                seconds(found[key], 1)
            times[key].append(seconds(found[key], calls))
    return {key: np.array(t[WARM_UP:]) for key, t in times.items()}


def copy(times):
    """Milliseconds of the copy into fresh memory and their p80 / p20, which says how steady the machine was."""
    ms = 1e3 * times[p.Key(p.YARDSTICK, "", p.VALUE, p.COPY)]
    low, high = np.percentile(ms, (20, 80))
    return {"copy_ms": np.median(ms), "copy_p80_p20": high / low}
