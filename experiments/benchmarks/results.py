"""The rows as a CSV file for each device: written whole or not at all.

A row's key is (operator, variant, mode, workload, dtype, function) with device, JAX version and commit. A new run
replaces every function of a case that it measured, whatever commit the old rows are of, and keeps all others. So the
file holds one measurement of each case for each device and JAX version and does not grow; older ones are in git's
history. Rows whose case no longer exists go with the next run.
"""

import csv
import io

from experiments._results import write_whole
from experiments.benchmarks.machine import slug

CASE = ("operator", "variant", "mode", "workload", "dtype", "device", "jax")
NUMBERS = (
    *("cores", "threads", "load", "rounds", "calls", "ms", "ms_p20", "ms_p80", "ms_min"),
    *("ratio", "ratio_p20", "ratio_p80", "floor_bytes", "floor_ratio", "temp_bytes", "compile_ms"),
    *("copy_ms", "copy_p80_p20"),
)
FIELDS = (
    *("operator", "variant", "mode", "workload", "shape", "dtype", "function", "version"),
    *("ms", "ms_p20", "ms_p80", "ms_min", "rounds", "calls", "best_rival", "ratio", "ratio_p20", "ratio_p80"),
    *("yardstick", "floor_ratio", "floor_bytes", "temp_bytes", "compile_ms", "copy_ms", "copy_p80_p20"),
    *("date", "commit", "jax", "python", "device", "cores", "threads", "load", "xla_flags"),
)


def path(directory, device):
    return directory / f"{slug(device)}.csv"


def case(row):
    return tuple(row[name] for name in CASE)


def merged(old, new, existing):
    """The rows of the file after a run that measured `new`; `existing` says whether there is the case of a row."""
    measured = {case(row) for row in new}
    return [row for row in old if case(row) not in measured and existing(row)] + new


def write(path, rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _written(row.get(name)) for name in FIELDS} for row in rows)
    write_whole(path, text.getvalue())


def _written(value):
    """Four digits of a time or ratio."""
    return f"{value:.4g}" if isinstance(value, float) else value


def read(path):
    """The rows as they were written, numbers as numbers and None for what is empty."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(name, row.get(name, "")) for name in FIELDS} for row in csv.DictReader(file)]


def _value(name, text):
    if name not in NUMBERS:
        return text
    return None if text == "" else float(text) if "." in text or "e" in text else int(text)
