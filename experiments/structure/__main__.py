"""Compiles every operator for accelerators that need not be there, and says what its program is made of.

python -m experiments.structure                all that have a compiler: results/structure.json and the page
python -m experiments.structure --targets v5e  only these
python -m experiments.structure --page-only    the page again, from the JSON

Ends with status 1 where a program of ours takes more than `programs.LONG`, `ON_CHIP` and `NEEDS` allow.
"""

import dataclasses
import functools
import importlib.metadata
import sys
from pathlib import Path

import jax
import tyro
from tqdm import tqdm

from experiments._results import read_json, write_json
from experiments.structure import lowering, meshes, page, programs
from experiments.structure.targets import TARGETS, Unavailable, compiler, versions

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options."""

    out: Path = ROOT / "experiments" / "results" / "structure.json"
    """The JSON file; what it has of other targets stays."""
    page: Path = ROOT / "docs" / "structure.md"
    """The page whose tables are made from it."""
    targets: tuple[str, ...] = tuple(TARGETS)
    """H100, v5e, v6e."""
    page_only: bool = False
    """Write the page from the JSON; compile nothing."""


def main(config):
    """Runs `config`; returns what is wrong, in words."""
    wrong = [] if config.page_only else run(config)
    page.write(config.page, config.out)
    return wrong + list(filter(None, map(programs.broken, read_json(config.out)["programs"])))


def run(config):
    jax.config.update("jax_platforms", "cpu")  # without it JAX gives up the CUDA plugin for want of a device
    if unknown := [name for name in config.targets if name not in TARGETS]:
        raise ValueError(f"{unknown} are no targets: {list(TARGETS)}.")
    old = read_json(config.out) if config.out.exists() else {}
    kept = {name: [row for row in old.get("programs", ()) if row["target"] == name] for name in TARGETS}
    wrong = [f"{name} for {platform}: {why}" for name, platform, why in lowering.failures(tqdm)]
    spread = [meshes.row(name, n) for name in meshes.OPERATORS for n in meshes.DEVICES]
    wrong += meshes.broken(spread)

    def write():
        write_json(config.out, {"programs": [row for some in kept.values() for row in some], "meshes": spread})

    write()
    for name in config.targets:
        try:
            found = versions(TARGETS[name])
        except Unavailable as error:
            print(f"SKIPPED: {TARGETS[name].name}, {error}.", file=sys.stderr)
            continue
        shared = {"compiler": found, "jax": importlib.metadata.version("jax")}
        before, new = kept[name], []
        for row in programs.rows(compiler(TARGETS[name]), name, functools.partial(tqdm, desc=name, unit="case")):
            new.append(row | shared)
            done = {programs.key(row) for row in new}
            kept[name] = new + [row for row in before if programs.key(row) not in done]
            write()
        kept[name] = new  # what is no case any more goes
        write()
    return wrong


if __name__ == "__main__":
    wrong = main(tyro.cli(Config, description=__doc__))
    print("\n".join(["TOO MUCH:", *wrong]) if wrong else "Every program of ours is within its limits.")
    sys.exit(bool(wrong))
