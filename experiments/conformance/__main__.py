"""Holds this library and its peers to the cases, and writes down who passes what.

python -m experiments.conformance                       every library that is here: results/conformance.json, the page
python -m experiments.conformance --libraries torch     only these; what the JSON has of others stays
python -m experiments.conformance --eager               without jit
python -m experiments.conformance --write               the cases again: data/*.json
python -m experiments.conformance --page-only           the page again, from the JSON
"""

import dataclasses
import sys
from pathlib import Path

import tyro

from experiments._results import provenance, read_json, write_json, write_whole
from experiments.conformance import libraries as others
from experiments.conformance import page, run, write

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options."""

    out: Path = ROOT / "experiments" / "results"
    """Folder for conformance.json."""
    page: Path = ROOT / "docs" / "conformance.md"
    """The page whose tables are made from it."""
    libraries: tuple[str, ...] = others.LIBRARIES
    """Which to run."""
    operators: tuple[str, ...] = tuple(run.operators())
    """Which operators to hold them to."""
    eager: bool = False
    """Call what is made with JAX as it is, not under jit."""
    write: bool = False
    """Write data/*.json again, and run nothing."""
    page_only: bool = False
    """Write the page from the JSON, and run nothing."""
    smoke: bool = False
    """A few seconds: one operator of this library; no page."""


SMOKE = {"libraries": ("jsoftmax",), "operators": ("boltzmann",)}


def main(config):
    """Runs `config`; the results as they are in the JSON."""
    if config.write:
        for operator, text in write.files().items():
            write_whole(run.DATA / f"{operator}.json", text)
        return None
    path = config.out / "conformance.json"
    used = dataclasses.replace(config, **SMOKE) if config.smoke else config
    if not config.page_only:
        here = [name for name in used.libraries if others.is_here(name)]
        for name in sorted(set(used.libraries) - set(here)):
            print(f"SKIPPED: {name} is not installed; what the results have of it stays.", file=sys.stderr)
        found = read_json(path)["libraries"] if path.exists() else {}
        for name, operator, rows in others.measured(here, used.operators, not used.eager):
            kept = [row for row in found.get(name, {"rows": []})["rows"] if row[0].split("/")[0] != operator]
            found[name] = {"version": others.version(name), "rows": sorted(rows + kept)}
            libraries = {name: found[name] for name in others.LIBRARIES if name in found}
            write_json(path, {"run": provenance("experiments.conformance", config, used), "libraries": libraries})
    if not path.exists():
        raise SystemExit(f"conformance: nothing to report, for {path} is missing and no library was run")
    results = read_json(path)
    if not config.smoke:
        page.write(config.page, results)
    print(page.summary(results))
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
