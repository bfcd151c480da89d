"""What devices send each other when the classes of a row are spread over them, from programs lowered for any number.

A mesh that is only described is enough to lower for, not to compile; what `shard_map` sends is the same then.
"""

import functools
import re

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jsoftmax

DEVICES = (8, 64, 1024)
ROWS, FEATURES, CLASSES = 4, 64, 128  # classes of each device
INTEGER, LINEAR = "softmax_cross_entropy_with_integer_labels", "linear_softmax_cross_entropy"
EACH = ("softmax", "log_softmax")  # results with the classes of their device
OPERATORS = (*EACH, "logsumexp", INTEGER, LINEAR)


def lowered(name, devices):
    """The text of value and gradient for that many devices."""
    mesh = AbstractMesh((devices,), ("model",), axis_types=(AxisType.Auto,))
    of_classes, rows = P(None, "model"), P()

    def given(shape, dtype, spec):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    labels = given((ROWS,), jnp.int32, rows)
    if name == LINEAR:
        features, weight = (ROWS, FEATURES), (FEATURES, CLASSES * devices)
        arrays = [given(features, jnp.bfloat16, rows), given(weight, jnp.bfloat16, of_classes), labels]
    else:
        x = given((ROWS, CLASSES * devices), jnp.float32, of_classes)
        arrays = [x, labels] if name == INTEGER else [x]
    f = functools.partial(getattr(jsoftmax, name), axis_name="model")
    specs = tuple(a.sharding.spec for a in arrays)
    spread = jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=of_classes if name in EACH else rows)

    def run(*arrays):
        value, back = jax.vjp(spread, *arrays)
        return value, back(value)

    return jax.jit(run).trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()


def sent(text):
    """[(operation, (dimensions), dtype)] of what devices send each other."""
    kinds = "all_reduce|all_gather|all_to_all|collective_permute|reduce_scatter|collective_broadcast"
    found = re.findall(rf'"stablehlo\.({kinds})".*?: \((tensor<[^)]*)\) ->', text, re.DOTALL)
    return [
        (kind, tuple(int(n) for n in dims.split("x") if n), dtype)
        for kind, operands in found
        for dims, dtype in re.findall(r"tensor<((?:\d+x)*)(\w+)>", operands)
    ]


def row(name, devices):
    """Numbers a row, and of the linear loss how often the gradient of the inputs, on that many devices."""
    found = sent(lowered(name, devices))
    return {
        "operator": name,
        "devices": devices,
        "operations": sorted({kind for kind, *_ in found}),
        "dtypes": sorted({dtype for *_, dtype in found}),
        "numbers a row": sum(dims == (ROWS, 1) for _, dims, _ in found),
        "gradients of inputs": sum(dims == (ROWS, FEATURES) for _, dims, _ in found),
        "others": sum(dims not in ((ROWS, 1), (ROWS, FEATURES)) for _, dims, _ in found),
    }


def broken(rows):
    """What is wrong, in words: something else than sums of rows travels, or more with more devices."""
    wrong = []
    for name in OPERATORS:
        some = [{k: v for k, v in row.items() if k != "devices"} for row in rows if row["operator"] == name]
        if some[1:] != some[:-1]:
            wrong.append(f"{name}: what travels depends on the number of devices")
        if some[0]["operations"] != ["all_reduce"] or some[0]["others"] or some[0]["gradients of inputs"] > 1:
            wrong.append(f"{name}: {some[0]}")
    return wrong
