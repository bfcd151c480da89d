"""Strict JAX for every test: no implicit promotion of dtypes or ranks, eight CPU devices."""

import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def programs(request):
    """Those of a module are dropped after it, for they fill gigabytes. COMPILE_LIGHTLY in a module is for one that asks
    which program JAX makes, not what XLA makes of it: that is most of the time, and other modules compile as users do.
    """
    jax.config.update("jax_disable_most_optimizations", getattr(request.module, "COMPILE_LIGHTLY", False))
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(params=["eager", "jit"])
def compiled(request):
    """How a function is called: as a user types it, or under an outer jit, where XLA sees it with its surroundings."""
    return jax.jit if request.param == "jit" else lambda f: f


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


@pytest.fixture(scope="module", params=["smoke", "committed"])
def directory(request):
    """Folder of an experiment's results: of a short run made now, and those that are committed."""
    if request.param == "smoke":
        return request.getfixturevalue("smoke")
    return pathlib.Path(__file__).parents[1] / "experiments" / "results"
