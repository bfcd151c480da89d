"""The protocol: rounds in alternating direction over all programs of a workload, and ratios within a round.

In a round every program runs once, ours beside its rivals, so that a slow spell of the machine is in both and cancels.
torch's are at one end of the round, for its threads spin for a while after each call and would take the cores from the
program that follows; between the two there is a pause and a call without the clock.
"""

import time

import numpy as np
from tqdm import tqdm

from experiments.benchmarks import programs as p

WARM_UP = 2
PAUSE = 0.02  # seconds: OpenMP's threads spin for a few milliseconds


def seconds(program, calls, together=False):
    """Mean time of a call. Arguments are made, and results freed, while the clock stands.

    `together` calls follow each other on the device without waiting: what it takes to start one is not in the time.
    """
    if together:
        given = program.wait([program.arguments() for _ in range(calls)])
        started = time.perf_counter()
        for arguments in given:
            result = program.run(*arguments)
        program.wait(result)
        return (time.perf_counter() - started) / calls
    total = 0.0
    for _ in range(calls):
        given = program.wait(program.arguments())
        started = time.perf_counter()
        result = program.wait(program.run(*given))
        total += time.perf_counter() - started
        del result
    return total / calls


def working(found):
    """Without the kernels of others that do not run on this machine, or on such arrays; each is called once."""
    kept = dict(found)
    for key, program in found.items():
        if key.function in p.KERNELS:
            try:
                seconds(program, 1)
            except Exception as error:
                p.left_out(key, error)
                del kept[key]
    return kept


def timed(found, rounds, calls, description, together=False):
    """Key → seconds of every round after the warm-up."""
    times, by_torch = {key: [] for key in found}, False
    for i in tqdm(range(WARM_UP + rounds), desc=description, unit="round", leave=False):
        for key in list(found)[:: 1 if i % 2 else -1]:
            if by_torch != (key.function in p.OF_TORCH):
                by_torch = not by_torch
                time.sleep(PAUSE)
                seconds(found[key], 1)
            times[key].append(seconds(found[key], calls, together))
    return {key: np.array(t[WARM_UP:]) for key, t in times.items()}


def copy(times):
    """Milliseconds of the copy into fresh memory and their p80 / p20, which says how steady the machine was."""
    ms = 1e3 * times[p.Key(p.YARDSTICK, "", p.VALUE, p.COPY)]
    low, high = np.percentile(ms, (20, 80))
    return {"copy_ms": np.median(ms), "copy_p80_p20": high / low}
