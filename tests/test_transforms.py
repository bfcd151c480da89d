"""Every operator under every transformation of JAX: value and all gradients against the oracle.

A cell of the matrix is an operator and a transformation. To keep compilation short each cell meets one input, in turn,
so that every operator and every transformation meets all of INPUTS.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import jsoftmax
from tests import bounds, inputs, oracle, registry, tolerance
from tests.marks import slow
from tests.registry import CASES, Case, Sample

INPUTS = (
    ("normal", 1 / 3),  # one β for all rows: its cotangent is a sum over them
    ("mask on holes", "row"),  # absent classes, β of both signs and 0
    ("axes (2, 0)", "row"),  # a batch axis between the class axes
)
COMPILE_LIGHTLY = True
POLICIES = ("nothing_saveable", "dots_saveable")
OPERATORS = pytest.mark.parametrize("case", CASES, ids=registry.label)
SLOW = {  # each near to another that stays
    "jit",
    "checkpoint nothing_saveable",
    "checkpoint dots_saveable",
    "map",
    "map in batches",
    "fori_loop",
    "reverse_over_forward",
    "hessian",
    "jax_softmax_custom_jvp",
}
KINDS = [c for c in CASES if registry.label(c) in registry.KINDS]
# of the others, which have their rules from the same function, the fast lane tries some
OF_OTHERS = ("reverse of jit", "forward_mode", "vmap")


def each(name, transformations, others=OF_OTHERS):
    """Operator × transformation, most of them fast."""

    def marks(case, t):
        return pytest.mark.slow if t in SLOW or (case not in KINDS and t not in others) else ()

    return pytest.mark.parametrize(
        ("case", name),
        [
            pytest.param(case, t, marks=marks(case, t), id=f"{registry.label(case)}-{t}")
            for t in transformations
            for case in CASES
        ],
    )


FIRST = registry.first()
TWO = ("softmax", registry.INTEGER)


def sample(case: Case, turn: int, dtype: Any = np.float32) -> Sample:
    name, beta = INPUTS[turn % len(INPUTS)]
    if not case.takes_where:
        name = name.removeprefix("mask on ")
    return registry.sample(case, inputs.BY_NAME[name], dtype, beta)


def turn(case: Case, transformation: int) -> int:
    return CASES.index(case) + transformation


def operator(case: Case, s: Sample) -> Callable:
    return functools.partial(registry.call, case.name, tuple(s.static.items()))


def pull(f: Callable, names: tuple[str, ...], arrays: dict, g: Any) -> tuple[Any, dict]:
    """f(arrays) and its cotangents in the arrays `names`."""
    rest = {k: v for k, v in arrays.items() if k not in names}
    value, back = jax.vjp(lambda d: f(d | rest), {k: arrays[k] for k in names})
    return value, back(g)[0]


def check(case: Case, s: Sample, g: np.ndarray, value: Any, cotangents: dict) -> None:
    assert cotangents.keys() == set(case.differentiable)
    bounds.check_value(case, s, value, registry.exact(case, s))
    bounds.check_cotangents(case, s, g, cotangents, registry.exact(case, s, g))


def on_device(s: Sample) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v) for k, v in s.arrays.items()}


# of the whole call: (f, names, arrays, g) → value and cotangents ----------------------------------------------------


def jitted(f, names, arrays, g):
    return jax.jit(functools.partial(pull, f, names))(arrays, g)


def reverse_of_jit(f, names, arrays, g):
    return pull(jax.jit(f), names, arrays, g)


def value_and_grad(f, names, arrays, g):
    def loss(d, rest):
        value = f(d | rest)
        return jnp.vdot(g, value), value

    d, rest = ({k: v for k, v in arrays.items() if (k in names) is kept} for kept in (True, False))
    (_, value), cotangents = jax.jit(jax.value_and_grad(loss, has_aux=True))(d, rest)
    alone, _ = jax.jit(jax.grad(loss, has_aux=True))(d, rest)
    jax.tree.map(np.testing.assert_array_equal, alone, cotangents)
    return value, cotangents


def checkpoint(policy):
    policy = policy and getattr(jax.checkpoint_policies, policy)
    return lambda f, names, arrays, g: jitted(jax.checkpoint(f, policy=policy), names, arrays, g)


def cond(f, names, arrays, g):
    """Taken and not taken, under a predicate that is not known when compiled."""

    @jax.jit
    def run(taken, arrays, g):
        return pull(lambda a: lax.cond(taken, f, lambda a: jnp.zeros_like(g), a), names, arrays, g)

    value, cotangents = run(False, arrays, g)
    assert not any(jnp.any(v) for v in (value, *cotangents.values()))
    return run(True, arrays, g)


def export_round_trip(f, names, arrays, g):
    """Exported with its derivative for all platforms, and read back from bytes."""
    pytest.importorskip("flatbuffers", reason="jax.export serializes with it")
    exported = export.export(jax.jit(f), platforms=("cpu", "cuda", "tpu"))(arrays)
    restored = export.deserialize(exported.serialize(vjp_order=1))
    assert set(restored.platforms) == {"cpu", "cuda", "tpu"}
    return pull(restored.call, names, arrays, g)


def donated(f, names, arrays, g):
    """The logits' buffer given up to their cotangent."""
    logits, rest = names[0], dict(arrays)
    x = rest.pop(logits)
    step = jax.jit(lambda x, rest, g: pull(f, names, rest | {logits: x}, g), donate_argnums=0)
    out = step(x, rest, g)
    assert x.is_deleted()
    return out


def in_forward_mode(f, names, arrays, g):
    with jsoftmax.forward_mode():
        return jitted(f, names, arrays, g)


def transpose_of_linearized(f, names, arrays, g):
    rest = {k: v for k, v in arrays.items() if k not in names}
    d = {k: arrays[k] for k in names}
    with jsoftmax.forward_mode():
        value, push = jax.linearize(lambda d: f(d | rest), d)
        return value, jax.linear_transpose(push, d)(g)[0]


OF_THE_CALL = {
    "jit": jitted,
    "reverse of jit": reverse_of_jit,
    "value_and_grad": value_and_grad,
    "checkpoint": checkpoint(None),
    **{f"checkpoint {policy}": checkpoint(policy) for policy in POLICIES},
    "cond": cond,
    "export": export_round_trip,
    "donated": donated,
    "forward_mode": in_forward_mode,
    "linear_transpose": transpose_of_linearized,
}


@each("name", OF_THE_CALL)
def test_of_the_call(case, name):
    s = sample(case, turn(case, list(OF_THE_CALL).index(name)))
    g = registry.cotangent(case, s)
    f = operator(case, s)
    check(case, s, g, *OF_THE_CALL[name](f, case.differentiable, on_device(s), jnp.asarray(g)))


# of one slice along a batch axis, run over the slices ---------------------------------------------------------------


def sliced(case: Case, s: Sample, axis: int) -> tuple[Sample, dict, int]:
    """The call on one slice along a batch axis, at which axis each array is sliced, and where the results go."""
    ndim, axes = s.arrays[case.logits].ndim, registry.class_axes(case, s)
    at_row = axis - sum(a < axis for a in axes)  # in an array without class axes
    keepdims = case.result_takes_classes or s.static.get("keepdims", False)
    in_axes = {k: axis if a.ndim == ndim else at_row if a.ndim else None for k, a in s.arrays.items()}
    first = {k: v if in_axes[k] is None else np.take(v, 0, in_axes[k]) for k, v in s.arrays.items()}
    static = s.static | {"axis": tuple(a - (a > axis) for a in axes)}
    return Sample(s.id, first, static), in_axes, axis if keepdims else at_row


def by_loop(loop):
    """Like vmap: `loop(one, stacked)` runs over the leading axis and stacks the results there."""

    def lift(one, in_axes, out_axes):
        def f(arrays):
            rest = {k: v for k, v in arrays.items() if in_axes[k] is None}
            stacked = {k: jnp.moveaxis(v, in_axes[k], 0) for k, v in arrays.items() if k not in rest}
            out = loop(lambda row: one(rest | row), stacked)
            return jax.tree.map(lambda axis, v: jnp.moveaxis(v, 0, axis), out_axes, out)

        return f

    return lift


def scan(one, stacked):
    return lax.scan(lambda carry, row: (carry, one(row)), (), stacked)[1]


def fori(one, stacked, known=True):
    first = jax.eval_shape(one, jax.tree.map(lambda a: a[0], stacked))
    n = len(next(iter(stacked.values())))
    empty = jax.tree.map(lambda v: jnp.full((n, *v.shape), jnp.nan, v.dtype), first)

    def body(i, out):
        row = one(jax.tree.map(lambda a: a[i], stacked))
        return jax.tree.map(lambda o, v: o.at[i].set(v), out, row)

    return lax.fori_loop(0, n if known else lax.optimization_barrier(jnp.int32(n)), body, empty)


def lift_by_vmap(one, in_axes, out_axes):
    return jax.vmap(one, (in_axes,), out_axes)


def lift_by_pmap(one, in_axes, out_axes):
    return jax.pmap(one, in_axes=(in_axes,), out_axes=out_axes)


LIFTS = {
    "vmap": lift_by_vmap,
    "pmap": lift_by_pmap,
    "scan": by_loop(scan),
    "map": by_loop(lax.map),
    "map in batches": by_loop(functools.partial(lax.map, batch_size=2)),
    "fori_loop": by_loop(fori),
    "while_loop": by_loop(functools.partial(fori, known=False)),
}
BATCH_AXIS = {"normal": 0, "holes": 0, "mask on holes": 0, "axes (2, 0)": 1}


@each("name", [name for name in LIFTS if name != "while_loop"])  # it has no reverse mode
def test_reverse_of_loop(case, name):
    """Also B08: one β a row outside is a scalar β inside."""
    s = sample(case, turn(case, list(LIFTS).index(name)))
    g = registry.cotangent(case, s)
    one, in_axes, out_axis = sliced(case, s, BATCH_AXIS[s.id])
    f = LIFTS[name](operator(case, one), in_axes, out_axis)
    check(case, s, g, *jitted(f, case.differentiable, on_device(s), jnp.asarray(g)))


@pytest.mark.parametrize("name", ["vmap", slow("pmap"), "while_loop"])
@FIRST
def test_loop_of_reverse(case, name):
    s = sample(case, turn(case, list(LIFTS).index(name)) + 1)
    g = registry.cotangent(case, s)
    one, in_axes, out_axis = sliced(case, s, BATCH_AXIS[s.id])

    def pulled(arrays):
        arrays = dict(arrays)
        return pull(operator(case, one), case.differentiable, arrays, arrays.pop("g"))

    back_axes = {k: in_axes[k] or 0 for k in case.differentiable}
    f = LIFTS[name](pulled, in_axes | {"g": out_axis}, (out_axis, back_axes))
    value, cotangents = (f if name == "pmap" else jax.jit(f))(on_device(s) | {"g": jnp.asarray(g)})
    for k in case.differentiable:
        if in_axes[k] is None:  # the slices shared it
            cotangents[k] = np.asarray(cotangents[k], np.float64).sum(0).astype(cotangents[k].dtype)
    check(case, s, g, value, cotangents)


@FIRST
def test_nested_vmap(case):
    """Rows along the first and the last axis, the last given from the end."""
    s = registry.sample(case, inputs.BY_NAME["axis 1 of 3"], np.float32, "row")
    g = registry.cotangent(case, s)
    plane, outer, outer_out = sliced(case, s, 0)
    line, inner, inner_out = sliced(case, plane, plane.arrays[case.logits].ndim - 1)
    inner = {k: a if a is None else a - plane.arrays[k].ndim for k, a in inner.items()}
    f = lift_by_vmap(lift_by_vmap(operator(case, line), inner, inner_out), outer, outer_out)
    check(case, s, g, *jitted(f, case.differentiable, on_device(s), jnp.asarray(g)))


VARIANTS = 3


def variants(case: Case, s: Sample, name: str) -> list[np.ndarray]:
    """Several values of one argument, of one shape."""
    a, row = s.arrays[name], inputs.BY_NAME[s.id]
    if name == "beta":
        return [np.full_like(a, beta) for beta in (-1.3, np.inf, 0.7)]
    if name == case.logits:
        return [row.x(a.dtype, seed) for seed in range(VARIANTS)]
    if name == "labels" and a.dtype == np.int32:
        return [inputs.labels(row, seed) for seed in range(VARIANTS)]
    return [np.roll(a, shift, -1) for shift in range(VARIANTS)]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, marks=marks, id=f"{registry.label(case)}-{name}")
        for case in CASES
        for name in sample(case, 1).arrays
        if name != "ignore_label"
        for marks in [() if registry.label(case) in (*TWO, "logsumexp-b") else pytest.mark.slow]
    ],
)
def test_vmap_over_one_argument(case, name):
    """All else shared, so that its cotangents are summed; at the end of which axes makes no difference."""
    s = sample(case, 1)
    each = [s._replace(arrays=s.arrays | {name: v}) for v in variants(case, s, name)]
    g = registry.cotangent(case, s)
    stacked = on_device(s) | {name: jnp.stack([e.arrays[name] for e in each], -1)}
    f = jax.vmap(operator(case, s), ({k: -1 if k == name else None for k in stacked},), -1)
    run = jax.jit(functools.partial(pull, f, case.differentiable))
    for i in (0, VARIANTS - 1):
        g_here = np.zeros((*g.shape, VARIANTS), g.dtype)
        g_here[..., i] = g
        values, cotangents = run(stacked, g_here)
        if name in cotangents:
            assert not np.delete(cotangents[name], i, -1).any()
            cotangents[name] = cotangents[name][..., i]
        check(case, each[i], g, values[..., i], cotangents)


# forward mode -------------------------------------------------------------------------------------------------------


def tangent(s: Sample, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {k: inputs.cotangent(s.arrays[k].shape, 5 + i).astype(s.arrays[k].dtype) for i, k in enumerate(names)}


def as_function(case: Case, s: Sample) -> tuple[Callable, dict]:
    """The operator as a function of its differentiable arguments."""
    arrays = on_device(s)
    d = {k: arrays.pop(k) for k in case.differentiable}
    return lambda d: operator(case, s)(d | arrays), d


def forward(case: Case, s: Sample) -> dict[str, Callable]:
    f, d = as_function(case, s)
    v = {k: jnp.asarray(a) for k, a in tangent(s, case.differentiable).items()}

    def linearize():
        value, push = jax.linearize(f, d)
        return value, push(v)

    return {"jvp": lambda: jax.jvp(f, (d,), (v,)), "linearize": linearize, "jacfwd": lambda: jax.jacfwd(f)(d)}


def without_zeros(s: Sample) -> Sample:
    """At β = 0 slopes are infinite and saturate: nothing beside them would be seen in a sum."""
    beta = s.arrays["beta"]
    return s._replace(arrays=s.arrays | {"beta": np.where(beta == 0, np.asarray(1.3, beta.dtype), beta)})


@each("name", ["jvp", "linearize"], others=["jvp"])
def test_forward_mode_is_the_transpose_of_reverse_mode(case, name):
    """⟨g, J v⟩ = ⟨Jᵀ g, v⟩ with Jᵀ g by the oracle; double precision leaves no room for a wrong term."""
    with jax.enable_x64(True), jsoftmax.forward_mode():
        s = without_zeros(sample(case, turn(case, name == "jvp"), np.float64))
        value, pushed = jax.jit(forward(case, s)[name])()
        bounds.check_value(case, s, value, registry.exact(case, s))
        g, v = registry.cotangent(case, s), tangent(s, case.differentiable)
        forth = g * np.asarray(pushed)
        back = [a * v[k] for k, a in registry.exact(case, s, g).items() if k in v]
        expected, size = (np.asarray(sum(np.sum(t) for t in terms)) for terms in (back, map(np.abs, [*back, forth])))
        what, gap = f"⟨g, Jv⟩ of {registry.label(case)} on {s.id!r}", registry.geometry(case, s).beside.max()
        tolerance.check(np.sum(forth), expected, np.float64, tolerance.COTANGENT["beta"], what, scale=size, gap=gap)


@each("name", ["jvp", "linearize", "jacfwd"], others=["jvp"])
def test_forward_mode_is_refused_outside_its_context(case, name):
    with pytest.raises(TypeError, match=r"forward-mode autodiff.*custom_vjp"):
        forward(case, sample(case, 0))[name]()


@each("mode", ["jacrev", "jacfwd"])
def test_jacobian(case, mode):
    """Each of its rows is the cotangents for one element of the value."""
    s = registry.sample(case, inputs.BY_NAME["mask on axis 0" if case.takes_where else "near tie"], np.float32, "row")
    f, d = as_function(case, without_zeros(s))
    s = without_zeros(s)
    if mode == "jacrev":
        jacobian = jax.jit(jax.jacrev(f))(d)
    else:
        with jsoftmax.forward_mode():
            jacobian = jax.jit(jax.jacfwd(f))(d)
    shape = registry.result_shape(case, s).shape
    for index in np.ndindex(shape):
        g = np.zeros(shape, np.float32)
        g[index] = 1
        bounds.check_cotangents(case, s, g, {k: j[index] for k, j in jacobian.items()}, registry.exact(case, s, g))


@registry.first(TWO)
def test_caches_keep_the_modes_apart(case):
    """Code compiled outside serves no call inside, nor the reverse; the user's jit and the operators' own."""
    s = sample(case, 0)
    f, d = as_function(case, s)
    v = jax.tree.map(jnp.ones_like, d)
    for call in (jax.jit(f), f):
        outside = call(d)
        with pytest.raises(TypeError, match="custom_vjp"):
            jax.jvp(call, (d,), (v,))
        with jsoftmax.forward_mode():
            inside, pushed = jax.jvp(call, (d,), (v,))
        bounds.check_value(case, s, outside, registry.exact(case, s))
        bounds.check_value(case, s, inside, registry.exact(case, s))
        assert jnp.any(pushed != 0)
        with pytest.raises(TypeError, match="custom_vjp"):
            jax.jvp(call, (d,), (v,))


# second order -------------------------------------------------------------------------------------------------------


def _dot(a: dict, b: dict) -> jax.Array:
    return sum(jnp.vdot(a[k], b[k]) for k in a)


def forward_over_reverse(loss, d, v):
    return jax.jvp(jax.grad(loss), (d,), (v,))[1]


def reverse_over_reverse(loss, d, v):
    return jax.grad(lambda d: _dot(jax.grad(loss)(d), v))(d)


def reverse_over_forward(loss, d, v):
    with jsoftmax.forward_mode():
        return jax.grad(lambda d: jax.jvp(loss, (d,), (v,))[1])(d)


def forward_over_forward(loss, d, v):
    with jsoftmax.forward_mode():
        return jax.jacfwd(lambda d: jax.jvp(loss, (d,), (v,))[1])(d)


def hessian(loss, d, v):
    return {
        k: sum(jnp.tensordot(h, v[i], v[i].ndim) for i, h in row.items()) for k, row in jax.hessian(loss)(d).items()
    }


NESTINGS = {
    f.__name__: f
    for f in (forward_over_reverse, reverse_over_reverse, reverse_over_forward, forward_over_forward, hessian)
}


def check_second_order(case: Case, s: Sample, nesting: Callable) -> None:
    g, v = registry.cotangent(case, s), tangent(s, case.differentiable)
    f, d = as_function(case, s)
    curved = jax.jit(functools.partial(nesting, lambda d: jnp.vdot(g, f(d))))(d, v)
    expected = oracle.hvp(case.name, (), s.arrays | s.static, g, v)
    gap = registry.geometry(case, s).gap.max()
    for k in case.differentiable:
        what, dtype = f"{nesting.__name__} of {registry.label(case)} in {k}", s.arrays[k].dtype
        scale = np.abs(expected[k]).max()
        assert scale > 0
        tolerance.check(curved[k], expected[k], dtype, tolerance.SECOND_ORDER, what, scale=scale, gap=2 * gap)


@each("name", NESTINGS)
def test_second_order(case, name):
    with jax.enable_x64(True):
        row = inputs.BY_NAME["prime"]
        check_second_order(case, registry.sample(case, row, np.float64, 1 / 3), NESTINGS[name])


# options of JAX that choose how custom rules are run ----------------------------------------------------------------


@contextlib.contextmanager
def option(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(c, name, marks=() if registry.label(c) in TWO and name not in SLOW else pytest.mark.slow)
        for name in ("jax_custom_vjp3", "jax_custom_jvp3", "jax_softmax_custom_jvp")
        for c in CASES
    ],
    ids=lambda value: value if isinstance(value, str) else registry.label(value),
)
def test_option(case, name):
    if not hasattr(jax.config, name):
        pytest.skip(f"this JAX has no option {name}")
    s = sample(case, turn(case, 0))
    g = registry.cotangent(case, s)
    with option(name, not getattr(jax.config, name)):
        check(case, s, g, *jitted(operator(case, s), case.differentiable, on_device(s), jnp.asarray(g)))
        if name != "jax_softmax_custom_jvp":  # that one is of jax.nn.softmax
            check_second_order(case, registry.sample(case, inputs.BY_NAME["prime"], np.float32), forward_over_reverse)
