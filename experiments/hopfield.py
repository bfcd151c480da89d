"""Associative memories on real images: how much each holds, what β does, and whether the energy ever rises.

python -m experiments.hopfield              MNIST's digits and random patterns, results/hopfield.json, figures
python -m experiments.hopfield --smoke      the same in a few seconds: fewer patterns, loads and β
python -m experiments.hopfield --figures-only      draws the figures again from the JSON
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from experiments import _hopfield_memory as memory
from experiments._hopfield_figures import draw
from experiments._hopfield_table import table
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the experiment on associative memories."""

    out: Path = Path(__file__).parent / "results"
    """Folder for hopfield.json and the figures."""
    seed: int = 0
    """Random patterns; which pixels are turned."""
    smoke: bool = False
    """A few seconds: fewer patterns, loads and β."""
    figures_only: bool = False
    """Draw the figures from the JSON in `out`; compute nothing."""
    loads: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 104, 112, 120, 136, 160, 200)
    """Patterns stored in a classic network of 784 units."""
    sizes: tuple[int, ...] = (50, 500, 5000)
    """Patterns stored in a modern one."""
    betas: tuple[float, ...] = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)
    cues: int = 30
    """Spoilt patterns that a classic network is shown, at most."""
    asked: int = 100
    """The same of a modern one."""
    sweeps: int = 20
    """Of a classic network, at most."""
    turned: float = 0.1
    """Share of pixels whose sign is turned before a classic network is shown them."""
    mostly: float = 0.95
    """Share of pixels that have to be right again."""
    noise: float = 0.3
    """The same before a modern one is."""
    masked: float = 0.5
    """Share of pixels that a modern network is not shown."""
    course: int = 10
    """Steps whose energies are written down."""
    shown: int = 6
    """Images of the gallery."""


SMOKE = {
    "loads": (2, 6, 112, 200),
    "sizes": (50,),
    "betas": (0.001, 0.032, 1.024),
    "cues": 10,
    "asked": 10,
    "sweeps": 8,
    "course": 4,
}
KINDS = ("random", "digits", "digits, centred")


def capacity(config, digits):
    """Yields a row for each kind of pattern and load: how many pixels come back of what is stored, and of a cue."""
    for kind, load in tqdm([(kind, load) for kind in KINDS for load in config.loads], desc="classic", unit="network"):
        rng = np.random.default_rng(config.seed)
        stored = memory.random_patterns(rng, load) if kind == "random" else digits[:load]
        asked = stored[: config.cues]
        row = {"kind": kind, "stored": load}
        for name, share in (("kept", 0.0), ("restored", config.turned)):
            cues = memory.spoilt(asked, "noise", share, rng)
            found, settled = memory.remembered(stored, cues, kind.endswith("centred"), config.sweeps)
            share_right = memory.right(found, asked)
            row |= {name: share_right.mean(), f"{name}_mostly": np.mean(share_right >= config.mostly)}
            row |= {f"{name}_settled": settled.mean()}
        yield row


def attention(config, digits):
    """Yields a row for each kind of pattern, cue, size and β of a modern network."""
    cases = [(kind, cue, size) for kind in KINDS[:2] for cue in ("masked", "noise") for size in config.sizes]
    for kind, cue, size in tqdm(cases, desc="modern", unit="network"):
        rng = np.random.default_rng(config.seed)
        stored = memory.random_patterns(rng, size) if kind == "random" else digits[:size]
        asked = stored[:: max(1, size // config.asked)][: config.asked]
        cues = np.float32(memory.spoilt(asked, cue, getattr(config, cue), rng))
        for beta in config.betas:
            row = {"kind": kind, "cue": cue, "stored": size, "beta": beta}
            for name, steps in (("once", 1), ("settled", None)):
                found, entropy = map(np.asarray, memory.attended(cues, np.float32(stored), np.float32(beta), steps))
                whole = np.abs(found - asked).max(-1) < 0.5
                row[name] = {
                    "right": memory.right(found, asked).mean(),
                    "whole": whole.mean(),
                    "error": np.abs(found - asked).mean(),
                    "averaged": np.exp(entropy).mean(),
                }
            yield row


def energies(config, digits):
    """Yields the courses of some cues in networks of both kinds."""
    rng = np.random.default_rng(config.seed)
    largest = max(config.sizes[:-1] or config.sizes)
    few = max(load for load in config.loads if load <= 8)
    for kind, stored in (
        ("random", memory.random_patterns(rng, max(config.loads))),
        ("random", memory.random_patterns(rng, few)),
        ("digits", digits[: max(config.loads)]),
    ):
        cues = memory.spoilt(stored[: config.cues], "noise", config.noise, rng)
        course = memory.classic_course(stored, cues, config.course)
        yield {"network": "classic", "kind": kind, "stored": len(stored)} | summary(course)
    for beta in config.betas:
        stored = digits[:largest]
        cues = np.float32(memory.spoilt(stored[: config.cues], "masked", config.masked, rng))
        course = memory.modern_course(np.float32(stored), cues, np.float32(beta), config.course)
        yield {"network": "modern", "kind": "digits", "stored": largest, "beta": beta} | summary(course)


def summary(course):
    return {
        "mean": course.mean(-1),
        "largest_rise": np.diff(course, axis=0).max(),
        "smallest": course.min(),
        "scale": np.abs(course).max(),
    }


def gallery(config, digits):
    """Images as they are stored, spoilt and remembered, each a string of 784 grey levels from 0 to 9."""
    rng = np.random.default_rng(config.seed)
    asked = digits[: config.shown]
    many, all_of_them = max(load for load in config.loads if load <= 120), max(config.sizes)
    high, low = config.betas[-1], config.betas[0]
    middle = config.betas[len(config.betas) // 2]
    found = []
    for cue in ("masked", "noise"):
        cues = memory.spoilt(asked, cue, getattr(config, cue), rng)
        rows = [("stored", asked), ("shown", cues)]
        for load, centred in ((2, False), (config.shown, False), (config.shown, True), (many, False)):
            name = f"classic, {load} stored" + centred * ", centred"
            rows.append((name, memory.remembered(digits[:load], cues, centred, config.sweeps)[0]))
        for beta in (low, middle, high):
            state = memory.attended(np.float32(cues), np.float32(digits[:all_of_them]), np.float32(beta), 1)[0]
            rows.append((f"modern, {all_of_them} stored, β = {beta:g}", np.asarray(state)))
        for name, images in rows:
            found.append({"cue": cue, "name": name, "images": [levels(image) for image in images]})
    return found


def levels(image):
    return "".join(str(level) for level in np.clip(np.round((np.float64(image) + 1) / 2 * 9), 0, 9).astype(int))


def run(config, used, path):
    """Writes the results down as they come: a run that is interrupted keeps those that it has."""
    digits = memory.digits()
    results = {"run": provenance("experiments.hopfield", config, used), "units": memory.UNITS}
    results |= {
        "dark": np.mean(digits < 0),
        "gallery": gallery(used, digits),
        "classic": [],
        "modern": [],
        "energy": [],
    }
    for name, rows in (("classic", capacity), ("modern", attention), ("energy", energies)):
        for row in rows(used, digits):
            results[name].append(plain(row))
            write_json(path, results)
    return plain(results)


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    path = config.out / "hopfield.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        results = run(config, dataclasses.replace(config, **SMOKE) if config.smoke else config, path)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    for figure in draw(results, config.out):
        print(figure)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
