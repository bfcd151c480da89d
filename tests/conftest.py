"""Strict JAX for every test: no implicit promotion of dtypes or ranks, eight CPU devices.

With --platform=cuda or tpu the operators run on the device that is there, held to the same bounds; --margins=FILE
writes down how much of its bound each took at most.
"""

import gc
import json
import pathlib

import jax
import numpy as np
import pytest
from jax._src import compiler

from tests import tolerance
from tests.marks import slow

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption("--platform", default="cpu", help="of JAX, where the operators run; default: cpu")
    parser.addoption(
        "--margins", type=pathlib.Path, help="JSON file for the largest error of each kind in units of its bound"
    )


def pytest_configure(config):
    chosen = config.getoption("--platform")
    jax.config.update("jax_platforms", chosen if chosen == "cpu" else f"{chosen},cpu")
    if chosen != "cpu" and jax.default_backend() == "cpu":
        raise pytest.UsageError(f"--platform={chosen}: JAX finds no such device here, {jax.devices()} is all there is.")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    tolerance.merge_margins(getattr(node, "workeroutput", {}).get("margins", {}))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a worker's, for the process that started it
        session.config.workeroutput["margins"] = tolerance.MARGINS
        return
    path = session.config.getoption("--margins")
    if path:
        path.write_text(json.dumps(dict(sorted(tolerance.MARGINS.items())), indent=1) + "\n", encoding="utf-8")


# Modules are handed out whole, so that one worker compiles a program and makes a smoke run; the longest first, so that
# all workers end together.
LONGEST = ("docs", "api", "value_and_grad", "attention", "transforms", "laws", "torture", "structure", "energy")


def pytest_collection_modifyitems(items):
    order = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: order.index(item.path.stem) if item.path.stem in order else len(order))


def pytest_collection_finish():
    """What has been imported stays: the garbage collector need not walk through it again and again. Nor so often
    through the many small objects that a trace makes and keeps."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


EMITTERS = "xla_cpu_use_fusion_emitters"  # what they set up for each kernel takes half of the time of a small program
options_of_a_user = compiler.get_compile_options


def compile_options(*args, **kwargs):
    """Without optimizations also without the newer of XLA's two ways to write kernels, while it has two."""
    options = options_of_a_user(*args, **kwargs)
    lightly = jax.config.values["jax_disable_most_optimizations"]
    if lightly and f"{EMITTERS}: true" in str(options.executable_build_options.debug_options):
        options.env_option_overrides = [*options.env_option_overrides, (EMITTERS, False)]
    return options


compiler.get_compile_options = compile_options


@pytest.fixture(scope="module", autouse=True)
def programs(request):
    """Those of a module are dropped after it, for they fill gigabytes. COMPILE_LIGHTLY in a module is for one that asks
    which program JAX makes, not what XLA makes of it: that is most of the time, and other modules compile as users do.
    Where it is "fast lane", so does the module in every other.
    """
    lightly = getattr(request.module, "COMPILE_LIGHTLY", False)
    if lightly == "fast lane":
        lightly = request.config.getoption("markexpr") == "not slow"
    jax.config.update("jax_disable_most_optimizations", lightly)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def as_it_is(f):
    return f


@pytest.fixture(params=["eager", "jit"])
def compiled(request):
    """How a function is called: as a user types it, or under an outer jit, where XLA sees it with its surroundings."""
    return jax.jit if request.param == "jit" else as_it_is


@pytest.fixture
def rng():
    """Random numbers that do not depend on which tests ran before."""
    return np.random.default_rng(8)


@pytest.fixture(scope="module")
def smoke(request, tmp_path_factory):
    """Folder of a short run of the module's EXPERIMENT, as a user's JAX is set."""
    directory, experiment = tmp_path_factory.mktemp("smoke"), request.module.EXPERIMENT
    with jax.numpy_dtype_promotion("standard"):
        experiment.main(experiment.Config(smoke=True, out=directory))
    return directory


@pytest.fixture(scope="module", params=[slow("smoke"), "committed"])
def directory(request):
    """Folder of an experiment's results: of a short run made now, and those that are committed, which the fast lane
    judges alone."""
    if request.param == "smoke":
        return request.getfixturevalue("smoke")
    return pathlib.Path(__file__).parents[1] / "experiments" / "results"
