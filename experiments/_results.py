"""The JSON file of an experiment: strict JSON, written whole or not at all, with what is needed to run it again.

JSON has no infinities, so ±inf are the strings "inf" and "-inf" (`numbers` reads them back), and a NaN is an error: no
experiment has one to report.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
from pathlib import Path

import jax
import numpy as np

import jsoftmax

_PEERS = ("jax", "jaxlib", "numpy", "optax", "scikit-learn")


def provenance(module, config, used):
    """Command, settings, versions and device of a run of `python -m module` with the dataclass `config`.

    `used` is what `config` came to, presets such as --smoke applied; where the results lie is no setting.
    """
    arguments = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            flag = "--" + field.name.replace("_", "-")
            arguments += [flag] if value is True else [flag, *map(str, value if isinstance(value, tuple) else [value])]
    return {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "settings": plain({name: v for name, v in dataclasses.asdict(used).items() if not isinstance(v, Path)}),
        "versions": {
            "python": platform.python_version(),
            "jsoftmax": jsoftmax.__version__,
            **{name: importlib.metadata.version(name) for name in _PEERS},
        },
        "device": str(jax.devices()[0].device_kind),
        "infinities": 'written as the strings "inf" and "-inf"',
    }


def plain(value):
    """`value` (dicts, lists, arrays, numbers) as strict JSON; a float32 in nine digits, which name it exactly."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        digits, value = 9 if value.dtype == np.float32 else 17, np.asarray(value)
        return [plain(item) for item in value] if value.ndim else _number(value.item(), digits)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _number(value, 17)


def _number(value, digits):
    if isinstance(value, float):
        return str(value) if math.isinf(value) else float(f"{value:.{digits}g}")
    return value


def write_json(path, results):
    """Replaces `path` in one step: a run that is interrupted leaves the last complete file."""
    text = json.dumps(plain(results), indent=1, allow_nan=False, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda flat: f"[{' '.join(flat[0][1:-1].split())}]", text)  # one line a list
    write_whole(path, text + "\n")


def write_whole(path, text):
    """Replaces `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_json(path):
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: run the experiment without --figures-only first.")
    return json.loads(path.read_text(encoding="utf-8"))


def numbers(values):
    """A list of the JSON as float64; "inf" and "-inf" become what they name."""
    return np.asarray(values, np.float64)
