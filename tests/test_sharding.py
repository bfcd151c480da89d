"""Every operator on logits that are spread over devices: by batch, by class and by both.

Under a mesh of Auto axes the compiler places things, under one of Explicit axes the sharding is part of the type, and
inside `shard_map` a device sees its rows only.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jsoftmax
from tests import bounds, inputs, oracle, registry
from tests.marks import slow
from tests.test_transforms import FIRST, check, operator, pull

P = PartitionSpec
ROWS, CLASSES = 8, 12
MASK = np.random.default_rng(1).random((ROWS, CLASSES)) < 0.7
MASK[:, 5] = True
PLAIN = inputs.Row("sharded", lambda rng: rng.standard_normal((ROWS, CLASSES)))
MASKED = PLAIN._replace(name="sharded, masked", where=MASK)
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SPECS = {"batch": P("data", None), "class": P(None, "model"), "both": P("data", "model")}

COMPILE_LIGHTLY = True


def sample(case, beta="row"):
    return registry.sample(case, MASKED if case.takes_where else PLAIN, np.float32, beta)


def mesh_of(kind):
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(KINDS[kind],) * 2)


def spec_of(array, spec):
    """Of an array with rows, classes, both or neither; of classes that come twice the first are spread."""
    named = [{ROWS: spec[0], CLASSES: spec[1], 1: None}[n] for n in np.shape(array)]
    return P(*(None if name in named[:i] else name for i, name in enumerate(named)))


def put(mesh, array, spec):
    return jax.device_put(array, NamedSharding(mesh, spec_of(array, spec)))


FAST = [("both", name) for name in (*registry.KINDS, "logsumexp-b")] + [("batch", "softmax_jacobian")]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(
            *(name, case),
            marks=() if (name, registry.label(case)) in FAST else pytest.mark.slow,
            id=f"{name}-{registry.label(case)}",
        )
        for name in SPECS
        for case in registry.CASES
    ],
)
def test_replicated_operands_beside_sharded_logits(case, name):
    """On an Explicit mesh: β for each row, labels, `b` and the mask as every device has them whole."""
    if case.name == "softmax_jacobian" and name != "batch":
        pytest.skip("both class axes of the result on one mesh axis: refused by JAX")
    s = sample(case)
    g = registry.cotangent(case, s)
    mesh = mesh_of("explicit")
    with jax.set_mesh(mesh):
        d = {k: jnp.asarray(s.arrays[k]) for k in case.differentiable}
        d[case.logits] = put(mesh, s.arrays[case.logits], SPECS[name])
        rest = {k: jnp.asarray(v) for k, v in s.arrays.items() if k not in d}
        f = lambda d: registry.call(case.name, tuple(s.static.items()), d | rest)  # noqa: E731
        value, pull = jax.vjp(f, d)
        bars = pull(jax.device_put(g, NamedSharding(mesh, jax.typeof(value).sharding.spec)))[0]
        assert all(jax.typeof(bars[k]).sharding == jax.typeof(d[k]).sharding for k in d)
    bounds.check_value(case, s, value, registry.exact(case, s))
    bounds.check_cotangents(case, s, g, bars, registry.exact(case, s, g))


def collectives(compiled):
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return set(re.findall(rf"\b(?:{names})\b", compiled.as_text()))


def sent(compiled):
    """How many numbers each array has that travels."""
    arrays = re.findall(r"= (.*?) all-reduce(?:-start)?\(", compiled.as_text())
    return [math.prod(int(n) for n in dims.split(",") if n) for a in arrays for dims in re.findall(r"\[([\d,]*)\]", a)]


MESH_FAST = [("auto", "both"), ("explicit", "batch")]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        pytest.param(kind, spec, marks=() if (kind, spec) in MESH_FAST else pytest.mark.slow)
        for kind in KINDS
        for spec in SPECS
    ],
)
@FIRST
def test_mesh(case, kind, spec):
    """Each gradient is placed as its argument; rows need no communication, and classes no more than sums of rows."""
    s, mesh, jacobian = sample(case), mesh_of(kind), case.name == "softmax_jacobian"
    g = registry.cotangent(case, s)
    with jax.set_mesh(mesh):
        placed = {k: put(mesh, a, SPECS[spec]) for k, a in s.arrays.items()}, put(mesh, g, SPECS[spec])
        run = jax.jit(functools.partial(pull, operator(case, s), case.differentiable))
        if jacobian and kind == "explicit" and spec != "batch":  # classes twice: JAX wants to be told which to spread
            with pytest.raises(Exception, match="illegally sharded"):
                run(*placed)
            return
        run = run.lower(*placed).compile()
        value, cotangents = run(*placed)
    check(case, s, g, value, cotangents)
    for k, a in cotangents.items():
        assert a.sharding.is_equivalent_to(placed[0][k].sharding, a.ndim), (k, a.sharding)
    if spec == "batch":
        assert not collectives(run)
    elif not jacobian:
        assert collectives(run) == {"all-reduce"}
        assert 0 < max(sent(run)) <= ROWS  # numbers: one a row at a time, never logits


def test_optax_on_sharded_classes():
    """It gathers by label, which Explicit axes refuse. Once this stops raising, optax has caught up."""
    mesh = mesh_of("explicit")
    with jax.set_mesh(mesh):
        logits = put(mesh, np.zeros((ROWS, CLASSES), np.float32), SPECS["class"])
        labels = put(mesh, np.zeros(ROWS, np.int32), SPECS["class"])
        with pytest.raises(Exception, match="out_sharding"):
            jax.jit(optax.losses.softmax_cross_entropy_with_integer_labels)(logits, labels)
        loss = jax.jit(jsoftmax.softmax_cross_entropy_with_integer_labels)(logits, labels)
    np.testing.assert_array_equal(loss, np.log(np.full(ROWS, CLASSES, np.float32)))


# inside shard_map ---------------------------------------------------------------------------------------------------

SHARD_MAPS = pytest.mark.parametrize(
    ("check_vma", "beta"),
    [
        pytest.param(True, 1 / 3, id="checked-shared"),
        slow(True, "row", id="checked-sharded"),
        slow(False, 1 / 3, id="unchecked-shared"),
        slow(False, "row", id="unchecked-sharded"),
    ],
)


def line():
    return jax.make_mesh((ROWS,), ("data",), axis_types=(AxisType.Auto,))


@SHARD_MAPS
@FIRST
def test_reverse_of_shard_map(case, check_vma, beta):
    """The gradient of what the devices share is summed over them, once."""
    s = sample(case, beta)
    g = registry.cotangent(case, s)
    specs = {k: spec_of(a, SPECS["batch"]) for k, a in s.arrays.items()}
    out_specs = spec_of(g, SPECS["batch"])
    f = jax.shard_map(operator(case, s), mesh=line(), in_specs=(specs,), out_specs=out_specs, check_vma=check_vma)
    check(case, s, g, *jax.jit(functools.partial(pull, f, case.differentiable))(s.arrays, g))


@SHARD_MAPS
@FIRST
def test_shard_map_of_reverse(case, check_vma, beta):
    """JAX sums the gradient of what is shared where it checks what varies; where it does not, the caller has to."""
    s = sample(case, beta)
    g = registry.cotangent(case, s)
    specs, g_spec = {k: spec_of(a, SPECS["batch"]) for k, a in s.arrays.items()}, spec_of(g, SPECS["batch"])

    def step(arrays, g):
        value, cotangents = pull(operator(case, s), case.differentiable, arrays, g)
        if beta != "row" and not check_vma:
            cotangents["beta"] = jax.lax.psum(cotangents["beta"], "data")
        return value, cotangents

    out_specs = g_spec, {k: specs[k] for k in case.differentiable}
    run = jax.shard_map(step, mesh=line(), in_specs=(specs, g_spec), out_specs=out_specs, check_vma=check_vma)
    check(case, s, g, *jax.jit(run)(s.arrays, g))


@FIRST
def test_shared_logits_in_shard_map(case):
    """One β on each device and all else on every one; all gradients arrive from the one device with a cotangent."""
    s = sample(case)
    betas, last = np.linspace(-1, 2.5, ROWS, dtype=np.float32), ROWS - 1
    here = s._replace(arrays=s.arrays | {"beta": betas[last]})
    g = registry.cotangent(case, here)
    g_here = np.zeros((ROWS, *g.shape), g.dtype)
    g_here[last] = g

    def step(arrays, g):
        arrays = arrays | {"beta": arrays["beta"][0]}
        value, cotangents = pull(operator(case, s), case.differentiable, arrays, g[0])
        return value[None], cotangents | {"beta": cotangents["beta"][None]}

    specs = dict.fromkeys(s.arrays, P()) | {"beta": P("data")}
    out_specs = P("data"), {k: specs[k] for k in case.differentiable}
    run = jax.shard_map(step, mesh=line(), in_specs=(specs, P("data")), out_specs=out_specs)
    value, cotangents = jax.jit(run)(s.arrays | {"beta": betas}, g_here)
    assert not cotangents["beta"][:last].any()
    check(case, here, g, value[last], cotangents | {"beta": cotangents["beta"][last]})


# the weighted mean, in numbers that are exact -----------------------------------------------------------------------

LOSSES, WEIGHTS = np.arange(2.0 * ROWS, dtype=np.float32).reshape(ROWS, 2), np.array([1, 3], np.float32)


def check_mean(mean, gradients):
    expected = oracle.weighted_mean_vjp(1.0, LOSSES, WEIGHTS)
    assert mean == oracle.weighted_mean(LOSSES, WEIGHTS)[0]
    for actual, name in zip(gradients, ("losses", "weights"), strict=True):
        np.testing.assert_array_equal(actual, expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_mean_on_a_mesh(kind):
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        losses = jax.device_put(LOSSES, NamedSharding(mesh, P("data", None)))
        step = jax.jit(jax.value_and_grad(lambda *args: jsoftmax.weighted_mean(*args)[0], (0, 1)))
        mean, gradients = step(losses, WEIGHTS)
    check_mean(mean, gradients)
    assert gradients[0].sharding.is_equivalent_to(losses.sharding, 2)


@pytest.mark.parametrize("check_vma", [True, slow(False)])
def test_weighted_mean_over_shards(check_vma):
    """The counts make one mean of the devices' means."""

    def mean_of_all(losses, weights):
        mean, count = jsoftmax.weighted_mean(losses, weights)
        return jax.lax.psum(mean * count, "data") / jax.lax.psum(count, "data")

    def over_all(losses, weights):
        return jsoftmax.weighted_mean(losses, weights, axis_name="data")[0]

    specs = P("data", None), P()
    for f in (mean_of_all, over_all):
        f = jax.shard_map(f, mesh=line(), in_specs=specs, out_specs=P(), check_vma=check_vma)
        check_mean(*jax.jit(jax.value_and_grad(f, (0, 1)))(LOSSES, WEIGHTS))


def test_weighted_mean_over_uneven_shards():
    """The count is of all: a device with one valid loss among many weighs one. And none at all is 0."""
    valid = np.zeros((ROWS, 2), bool)
    valid[0], valid[3, 1] = True, True
    f = functools.partial(jsoftmax.weighted_mean, axis_name="data")
    f = jax.jit(jax.shard_map(f, mesh=line(), in_specs=(P("data", None),) * 2, out_specs=P()))
    assert f(LOSSES, valid) == ((LOSSES[0].sum() + LOSSES[3, 1]) / 3, 3)
    assert f(LOSSES, valid & False) == (0, 0)
