"""What is kept of the times: their spread, ours beside the rivals', and beside what the machine cannot do without.

Ratios are taken within a round, and their median and percentiles over the rounds.
"""

import numpy as np

from experiments.benchmarks import programs as p


def statistics(found, times):
    """One dict a program: its milliseconds, and its ratios.

    `ratio` of a rival is ours divided by it, `ratio` of ours that to the best rival, the one with the largest median.
    """
    rows = []
    for key, program in found.items():
        ours, rivals = _beside(key, times)
        ms = 1e3 * times[key]
        row = key._asdict() | dict(zip(("ms", "ms_p20", "ms_p80"), _spread(ms), strict=True)) | {"ms_min": ms.min()}
        if ours and rivals:
            ratios = {rival: times[ours] / times[rival] for rival in rivals}
            best = max(rivals, key=lambda rival: np.median(ratios[rival])) if key == ours else key
            row["best_rival"] = best.function if key == ours else None
            row |= dict(zip(("ratio", "ratio_p20", "ratio_p80"), _spread(ratios[best]), strict=True))
        if program.compile_seconds is not None:
            row["compile_ms"] = 1e3 * program.compile_seconds
        row |= {"temp_bytes": program.temp_bytes, "floor_bytes": found.get(ours, program).floor_bytes}
        rows.append(row | _floor(key, found.get(ours, program), found, times))
    return rows


def _beside(key, times):
    """Ours in the operator, variant and mode of `key`, or None, and its rivals."""
    same = [] if key.operator == p.YARDSTICK else [other for other in times if other[:3] == key[:3]]
    ours = next((other for other in same if other.function == p.OURS), None)
    return ours, [other for other in same if other != ours]


def _spread(values):
    return np.percentile(values, (50, 20, 80))


def _floor(key, like, found, times):
    """The time beside that of what cannot be left out, as this machine does it in the same rounds.

    For a linear loss that is a matmul, or three of them with the gradients. Else it is the bytes of `like`, at the rate
    of a copy into fresh memory where the program has to return such an array, of a copy in place where the logits are
    donated, and of a sum over all where the result is small.
    """
    if key.operator == p.YARDSTICK or like.floor_bytes is None:
        return {}
    matmul = p.Key(p.YARDSTICK, "", p.VALUE, p.MATMUL)
    if matmul in found:
        return {
            "yardstick": p.MATMUL,
            "floor_ratio": _median_ratio(key, matmul, times) / (1 + 2 * (key.mode != p.VALUE)),
        }
    kind = p.COPY if like.fresh else p.COPY_IN_PLACE if key.mode.endswith(p.IN_PLACE) else p.READ
    yardstick = p.Key(p.YARDSTICK, "", p.VALUE, kind)
    bytes_ratio = found[yardstick].floor_bytes / like.floor_bytes
    return {"yardstick": yardstick.function, "floor_ratio": _median_ratio(key, yardstick, times) * bytes_ratio}


def _median_ratio(key, other, times):
    return np.median(times[key] / times[other])
