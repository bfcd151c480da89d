"""Every operator lowered for CUDA, ROCm and TPU, which asks for no compiler and no device."""

import re

import jax
import jax.numpy as jnp

from experiments.benchmarks.operators import CASES, MAP, label
from experiments.structure.programs import modes

PLATFORMS = ("cuda", "rocm", "tpu")
EXPONENTIALS = r"stablehlo\.(?:exponential|exponential_minus_one|log|log_plus_one|tanh|logistic) .*"


def lowered(case, platform):
    """{mode: text} of one case."""
    shape = (2, 3, 4, 5) if CASES[case] is MAP else (4, 6)
    return {mode: text(run, taken, platform) for mode, run, taken in modes(CASES[case].ours, case, shape, jnp.float32)}


def text(f, arguments, platform):
    return jax.export.export(jax.jit(f), platforms=[platform])(*arguments).mlir_module()


def failures(progress):
    """[(case, platform, what is wrong)]"""
    plan = [(case, platform) for case in CASES for platform in PLATFORMS]
    found = []
    for case, platform in progress(plan, desc="lowering", unit="case"):
        try:
            texts = lowered(case, platform)
        except Exception as error:  # whatever JAX makes of it is what is wrong
            found.append((label(*case), platform, f"{type(error).__name__}: {error}"))
            continue
        found += [
            (label(*case), platform, f"{mode}: {why}") for mode, t in texts.items() for why in faults(t, platform)
        ]
    return found


def faults(text, platform):
    """What no accelerator's program should have."""
    found = [f"has {name}" for name in ("stablehlo.scatter", "stablehlo.sort", "stablehlo.while") if name in text]
    if platform == "tpu":
        found += [f"accuracy not asked for: {line}" for line in re.findall(EXPONENTIALS, text) if "HIGHEST" not in line]
    return found
