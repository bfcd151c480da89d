"""The operators and their rivals at the shapes of large models, and how much each compiled program may take.

A pass is the logits read or written once. The least passes are every argument read once and every result written once.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks import linear
from experiments.benchmarks.operators import CASES, label, with_gradient
from experiments.benchmarks.programs import GRADIENT, OURS, VALUE
from experiments.benchmarks.workloads import CROSS_ENTROPY, INTEGER, SPATIAL
from experiments.structure import hlo


class Shape(NamedTuple):
    name: str
    shape: tuple[int, ...]  # classes on axis 1
    dtypes: dict[str, tuple[str, ...]]  # by target
    cases: tuple[tuple[str, str], ...]


class LinearShape(NamedTuple):
    name: str
    rows: int
    width: int
    classes: int


ROWS = tuple((name, "") for name in ("softmax", "log_softmax", "logsumexp", CROSS_ENTROPY, INTEGER))
ROWS += (("softmax", "β"), ("logsumexp", "β"), (INTEGER, "β"))
MAP = (("softmax", ""), (SPATIAL, ""))
BOTH, HALF, FLOAT = ("bfloat16", "float32"), ("bfloat16",), ("float32",)
SHAPES = (  # compiling for TPU takes seconds each, and what fits into its vector memory is moved there and back
    Shape("Llama-3's vocabulary", (4096, 128256), {"H100": BOTH, "v5e": HALF, "v6e": HALF}, ROWS),
    Shape("8192 classes", (16384, 8192), {"H100": BOTH, "v5e": HALF}, ROWS),
    Shape("ImageNet", (65536, 1000), {"H100": FLOAT}, ROWS),
    Shape("segmentation", (8, 21, 512, 512), {"H100": FLOAT, "v5e": FLOAT}, MAP),
)
LINEAR = LinearShape("Llama-3 8B's last layer", 8192, 4096, 128256)
SHORT = 16384  # classes of the longest row that a GPU has on chip


def rows(compiled, target, progress):
    """Yields a row for each program; `compiled` is that of `targets.compiler`, `progress` wraps an iterable."""
    plan = [(shape, dtype, case) for shape in SHAPES for dtype in shape.dtypes.get(target, ()) for case in shape.cases]
    for shape, dtype, case in progress(plan):
        for function, f in functions(case).items():
            for mode, run, arguments in modes(f, case, shape.shape, jnp.dtype(dtype)):
                about = {"target": target, "workload": shape.name, "shape": list(shape.shape), "dtype": dtype}
                about |= {"operator": case[0], "variant": case[1], "mode": mode, "function": function}
                yield about | measured(compiled(run, arguments), arguments, math.prod(shape.shape) * itemsize(dtype))
    yield from linear_rows(compiled, target)


def key(row):
    """What a row is about."""
    return tuple(str(row[k]) for k in ("workload", "shape", "dtype", "operator", "variant", "mode", "function"))


def itemsize(dtype):
    return jnp.dtype(dtype).itemsize


def functions(case):
    operator = CASES[case]
    return {OURS: operator.ours, operator.peer_name: operator.peer}


def modes(f, case, shape, dtype):
    """(mode, function, shapes of its arguments)"""

    def given(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype)

    x = given(shape, dtype)
    labels = {"index": given(shape[:1] + shape[2:], jnp.int32), "distribution": x}
    taken = [x, *([labels[CASES[case].labels]] if CASES[case].labels != "none" else [])]
    taken += [given((), jnp.float32)] if case[1] == "β" else []

    def run(*taken):
        return f(*taken, axis=1)

    g = jax.eval_shape(run, *taken)
    yield VALUE, run, taken
    yield GRADIENT, with_gradient(run), [given(g.shape, g.dtype), *taken]


def measured(program, arguments, logits):
    """Kernels, and bytes in units of those of the logits."""
    cost = (program.cost_analysis() or {}).get("bytes accessed")
    try:
        found = hlo.kernels(program.as_text())
    except jax.errors.JaxRuntimeError:  # libtpu does not print every program that moves slices asynchronously
        if cost is None:
            raise
        found = None
    results = program.out_info
    least = sum(math.prod(a.shape) * a.dtype.itemsize for a in (*arguments, *jax.tree.leaves(results)))
    return {
        "kernels": None if found is None else len(found),
        "passes": round((hlo.moved(found) if cost is None else cost) / logits, 3),
        "least": round(least / logits, 3),
        "temporary": round(program.memory_analysis().temp_size_in_bytes / logits, 4),
    }


def linear_rows(compiled, target):
    """Of the linear loss the memory alone: its blocks are loops."""
    shape = (LINEAR.rows, LINEAR.width, LINEAR.classes)
    about = {"target": target, "workload": LINEAR.name, "shape": list(shape), "dtype": "bfloat16", "variant": ""}
    x, w = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((shape[0], shape[1]), (shape[1], shape[2])))
    labels = jax.ShapeDtypeStruct((shape[0],), jnp.int32)
    for function, f in {OURS: linear.reduced, "matmul + optax": linear.naive}.items():
        for mode, run in ((VALUE, f), (GRADIENT, jax.value_and_grad(f, (0, 1)))):
            program = compiled(run, [x, w, labels])
            temporary = program.memory_analysis().temp_size_in_bytes / (shape[0] * shape[2] * 2)
            yield about | {
                "operator": "linear_softmax_cross_entropy",
                "mode": mode,
                "function": function,
                "kernels": None,
                "passes": None,
                "least": None,
                "temporary": round(temporary, 4),
            }


# what is asserted --------------------------------------------------------------------------------------------------

# passes over the logits, by operator: value, value and gradient
LONG = {
    "softmax": (3.1, 9.1),
    "log_softmax": (3.1, 7.1),
    "logsumexp": (1.1, 3.1),
    CROSS_ENTROPY: (2.1, 5.1),
    INTEGER: (1.1, 3.1),
}
LONG_ON_GPU = LONG | {"log_softmax": (3.1, 6.2)}
OF_MAP = {"softmax": (4.3, 10.5), SPATIAL: (1.1, 5.3)}
ON_CHIP = LONG | {"softmax": (2.1, 5.1), "log_softmax": (2.1, 5.1), CROSS_ENTROPY: (2.1, 6.1)}
# and kernels of the H100: one of a few numbers costs as much as any where the logits are small
KERNELS = {
    "softmax": (6, 11),
    "log_softmax": (4, 5),
    "logsumexp": (4, 7),
    CROSS_ENTROPY: (3, 4),
    INTEGER: (4, 7),
    SPATIAL: (3, 6),
}
KERNELS_ON_CHIP = KERNELS | {"softmax": (2, 3), "log_softmax": (1, 2), CROSS_ENTROPY: (1, 3)}
NEEDS = 0.05  # of the logits, beside arguments and results
MAP_NEEDS = 0.3  # of few classes a few numbers a row are more
LINEAR_NEEDS = 1.25  # the gradient of the weight is added up in float32, which is as large as the logits in bfloat16


def broken(row):
    """What is wrong with a row of ours, in words; None if nothing is."""
    if row["function"] != OURS:
        return None
    name = (
        f"{row['target']}, {row['workload']}, {row['dtype']}, {label(row['operator'], row['variant'])}, {row['mode']}"
    )
    most = limit(row)
    if most is not None and row["passes"] > most:
        return f"{name}: {row['passes']} passes over the logits, at most {most}"
    kernels = most_kernels(row)
    if kernels is not None and row["kernels"] > kernels:
        return f"{name}: {row['kernels']} kernels, at most {kernels}"
    if row["temporary"] > needs(row):
        return f"{name}: temporaries of {row['temporary']} of the logits, at most {needs(row)}"
    return None


def needs(row):
    if row["passes"] is None:
        return LINEAR_NEEDS
    return MAP_NEEDS if len(row["shape"]) > 2 else NEEDS


def limit(row):
    if row["passes"] is None:
        return None
    of_long = LONG_ON_GPU if row["target"] == "H100" else LONG
    of_rows = OF_MAP if len(row["shape"]) > 2 else ON_CHIP if on_chip(row) else of_long
    return of_rows[row["operator"]][row["mode"] == GRADIENT]


def most_kernels(row):
    if row["target"] != "H100" or row["kernels"] is None:
        return None
    return (KERNELS_ON_CHIP if on_chip(row) else KERNELS)[row["operator"]][row["mode"] == GRADIENT]


def on_chip(row):
    return row["target"] == "H100" and len(row["shape"]) == 2 and row["shape"][1] <= SHORT
