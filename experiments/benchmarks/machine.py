"""Where and with what a run was made: the columns that all of its rows share."""

import datetime
import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import jax

import jsoftmax
from experiments.benchmarks import programs as p

PACKAGES = dict.fromkeys(("jax.nn", "autodiff", *p.YARDSTICKS), "jax") | {
    **dict.fromkeys(("matmul + optax", "one-hot", "gathered"), "optax"),
    p.COMPILED: "torch",
    p.CUDNN: "jax",
    p.CHUNKED: p.TOKAMAX,
}  # if not its name
MEASURED = ("jsoftmax", "experiments", ":(exclude)*/results/*")  # writing down the results is no change


def run(of=""):
    """`of`: the commit, where it is known."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": of or commit(),
        "device": device(),
        "cores": os.cpu_count(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
    }


def load():
    """Processes that want a core, mean of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


@functools.cache
def device():
    """A CPU by its model and number of cores, for "cpu" is all that JAX knows of it."""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return kind
    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else []
    model = re.sub(r"\((R|TM)\)|CPU", "", models[0] if models else platform.processor() or platform.machine())
    return f"{' '.join(model.split())}, {os.cpu_count()} cores"


def slug(name):
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit(root=Path(__file__).parents[2]):
    """Short hash, with "+changes" if what is measured differs from it; "unknown" without git."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    hash, changes = (
        subprocess.run([git, "-C", root, *arguments], capture_output=True, text=True)
        for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", *MEASURED])
    )
    if hash.returncode:
        return "unknown"
    return hash.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


@functools.cache
def version(function):
    """That of the package which a function is of; the yardsticks are JAX's, and ours need not be installed."""
    if function in (p.OURS, "all classes"):
        return jsoftmax.__version__
    return importlib.metadata.version(PACKAGES.get(function, function))
