"""`axis_name`: the classes of a row on several devices, in value and gradient against the whole row's definition."""

import functools
import itertools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from tests import bounds, inputs, oracle, registry, tolerance
from tests.marks import slow
from tests.test_transforms import NESTINGS, check, operator, pull, tangent

P = PartitionSpec
INF = np.inf
ROWS, CLASSES = 8, 16  # sizes apart, and 16 on 8 devices is two classes each
# the first and last class of a shard, on two, four and eight devices; and in the middle
LABELS = np.array([0, 3, 4, 7, 8, 11, 12, 15], np.int32)

COMPILE_LIGHTLY = True


def logits(rng):
    x = rng.standard_normal((ROWS, CLASSES))
    x[1, [0, 9, 15]] = 3.0  # the peak thrice, on different devices
    x[2, 4:8] = -INF  # nothing on the second of four devices
    x[3, 7] = 30.0  # confident
    x[4, 8:] = -INF  # nothing on the second of two; a label there
    x[5, :8] = -40.0
    return x


MASK = np.random.default_rng(1).random((ROWS, CLASSES)) < 0.7
MASK[np.arange(ROWS), LABELS] = True
MASK[6, :8] = False  # nothing on the first of two
SPLIT = inputs.Row("split", logits)
MASKED = SPLIT._replace(name="split, masked", where=MASK)
MESHES = {
    # rows × classes, and over which of the axes the classes are
    "one": ((8, 1), ("model",)),
    "two": ((4, 2), ("model",)),
    "four": ((2, 4), ("model",)),
    "eight": ((2, 4), ("data", "model")),
}
CASES = [case for case in (*registry.CASES, *registry.LOSSES_WITH_OPTIONS[-3:]) if case.name != "softmax_jacobian"]


def sample(case, beta="row", row=MASKED):
    s = registry.sample(case, row, np.float32, beta)
    if case.name == registry.INTEGER:
        labels = LABELS.copy()
        if "ignore_label" in s.arrays:
            labels[2::3] = -100
        s = s._replace(arrays=s.arrays | {"labels": labels})
    return s


def placed(a, rows, names):
    """Where the rows and the classes of an array are."""
    named = {ROWS: rows, CLASSES: names, 1: None}
    return P(*(named[n] for n in np.shape(a)))


def on_devices(f, name, arrays, g, check_vma=True, out=None):
    """f(arrays, g) in shard_map; its results are placed like `out`."""
    shape, names = MESHES[name]
    rows = None if "data" in names else "data"
    mesh = jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    of = functools.partial(jax.tree.map, lambda a: placed(a, rows, names))
    specs = (of(arrays),) if g is None else (of(arrays), of(g))
    return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=of(out), check_vma=check_vma)


def spread(case, s, name):
    return operator(case, s._replace(static=s.static | {"axis_name": MESHES[name][1]}))


FORMS = [*itertools.product(MESHES, (True, False))]
NEAR = [CASES[-2], next(case for case in CASES if "ignore" in registry.label(case))]  # to the last, with all options
# kept in the fast lane where the others have theirs from the same place
FEW = ("softmax", "logsumexp", registry.label(CASES[-1]))
OTHERS = [case for case in CASES if registry.label(case) not in FEW]


def with_forms(forms, fast, others=()):
    """Every operator in every form; in the fast lane those of `fast`, but for the operators `others`."""

    def named(case, form):
        marks = () if form in fast and case not in others else pytest.mark.slow
        words = ["unchecked" if part is False else str(part) for part in form]
        return pytest.param(case, *form, marks=marks, id="-".join([registry.label(case), *words]))

    return [named(case, form) for case, form in itertools.product(CASES, forms)]


@pytest.mark.parametrize(("case", "name", "check_vma"), with_forms(FORMS, [("eight", True)], NEAR))
def test_reverse_of_shard_map(case, name, check_vma):
    """β for each row; and what all rows share is summed over the devices, once."""
    s = sample(case)
    g = registry.cotangent(case, s)
    f = on_devices(spread(case, s, name), name, s.arrays, None, check_vma, out=g)
    run = jax.jit(functools.partial(pull, f, case.differentiable)).lower(s.arrays, g).compile()
    check(case, s, g, *run(s.arrays, g))
    if (name, check_vma) == ("eight", True):
        check_numbers_of_rows_travel(run.as_text())


def check_numbers_of_rows_travel(text):
    """Never a number for each class."""
    sent = re.findall(r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\(", text)
    assert sent and {kind for _, kind in sent} == {"all-reduce"}
    sizes = [
        [int(n) for n in re.findall(r"\d+", dims)] for kind, _ in sent for dims in re.findall(r"\[([\d,]*)\]", kind)
    ]
    assert max(int(np.prod(dims)) for dims in sizes) <= ROWS


PLACES = [*itertools.product(("four", "eight"), (None, 1 / 3, -INF))]


@pytest.mark.parametrize(("case", "name", "beta"), with_forms(PLACES, [("four", None)], OTHERS))
def test_shard_map_of_reverse(case, name, beta):
    """The gradient is taken on each device; β is one for all, or not given."""
    s = sample(case, 1.0 if beta is None else beta)
    used = case
    if beta is None:
        used = case._replace(differentiable=tuple(k for k in case.differentiable if k != "beta"))
    g = registry.cotangent(case, s)
    arrays = {k: a for k, a in s.arrays.items() if k != "beta"} if beta is None else s.arrays
    f = spread(case, s, name)
    run = on_devices(
        lambda arrays, g: pull(f, used.differentiable, arrays, g),
        *(name, arrays, g),
        out=(g, {k: s.arrays[k] for k in used.differentiable}),
    )
    check(used, s, g, *jax.jit(run)(arrays, g))


SOME_ORDERS = [("reverse_over_reverse", False)]
ORDERS = [*itertools.product(("reverse_over_reverse", "reverse_over_forward", "forward_over_reverse"), (True, False))]


@pytest.mark.parametrize(("case", "nesting", "check_vma"), with_forms(ORDERS, SOME_ORDERS, OTHERS))
def test_second_order(case, nesting, check_vma):
    name = "two"
    s = sample(case, 0.7, inputs.Row("second order, split", lambda rng: rng.standard_normal((ROWS, CLASSES))))
    g, names = registry.cotangent(case, s), case.differentiable
    v = tangent(s, names)
    rest = {k: a for k, a in s.arrays.items() if k not in names}
    f = on_devices(spread(case, s, name), name, s.arrays, None, check_vma, out=g)
    d = {k: jnp.asarray(s.arrays[k]) for k in names}
    loss = lambda d: jnp.vdot(g, f(d | rest))  # noqa: E731
    curved = jax.jit(functools.partial(NESTINGS[nesting], loss))(d, v)
    expected = oracle.hvp(case.name, (), s.arrays | s.static, g, v)
    gap = registry.geometry(case, s).gap.max()
    for k in names:
        scale = np.abs(expected[k]).max()
        assert scale > 0
        what = f"{nesting} of {registry.label(case)} in {k} on {name}"
        tolerance.check(curved[k], expected[k], np.float32, tolerance.SECOND_ORDER, what, scale=scale, gap=2 * gap)


# what a device must not take for its own ----------------------------------------------------------------------------


def losses(x, labels):
    """(losses, their gradients) of integer labels."""
    return tuple(np.asarray(a) for a in _of_labels(x, labels))


@jax.jit
def _of_labels(x, labels):
    loss = lambda a: jsoftmax.softmax_cross_entropy_with_integer_labels(**a, axis_name="model")  # noqa: E731
    f = on_devices(loss, "four", {"logits": x, "labels": labels}, None, out=labels)
    value, back = jax.vjp(lambda x: f({"logits": x, "labels": labels}), x)
    return value, back(jnp.ones_like(value))[0]


X = SPLIT.x(np.float32)


WIDTHS = [np.uint8, np.int8, *(slow(d) for d in (np.uint32, np.int16))]


@pytest.mark.parametrize("dtype", WIDTHS, ids=np.dtype)
def test_labels_of_any_width(dtype):
    """V05: the offset of a device is not taken in their dtype."""
    for actual, expected in zip(losses(X, LABELS.astype(dtype)), losses(X, LABELS), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_label_that_is_no_class_is_none_anywhere():
    labels = np.resize(inputs.bad_labels(CLASSES), ROWS)
    value, gradient = losses(X, labels)
    assert np.isnan(value).all() and np.isnan(gradient).all()


def test_the_gradient_of_a_device_without_the_label_is_p():
    """V07. On four devices the label is on the first."""
    _, gradient = losses(X, np.zeros(ROWS, np.int32))
    case = next(case for case in CASES if case.name == "softmax")
    p = registry.exact(case, registry.sample(case, SPLIT, np.float32))
    gap = registry.geometry(case, registry.sample(case, SPLIT, np.float32)).gap[:, 4:]
    tolerance.check(gradient[:, 4:], p[:, 4:], np.float32, tolerance.COTANGENT["x"], "p", gap=gap)


def test_one_not_a_number_is_everywhere():
    """Also beside a +inf on another device: the largest of both may be either."""
    x = X.copy()
    x[0, 13], x[1, 2], x[1, 13], x[2, 9] = np.nan, INF, np.nan, INF
    value, gradient = losses(x, LABELS)
    assert np.isnan(value[:3]).all() and np.isnan(gradient[:3]).all()
    assert np.isfinite(value[[3, 5, 6, 7]]).all() and np.isfinite(gradient[3:]).all()
    lse = reduced("logsumexp")({"x": x, "beta": np.float32(1)})
    np.testing.assert_array_equal(lse[:3], [np.nan, np.nan, INF])


@functools.cache
def reduced(name):
    f = lambda a: getattr(jsoftmax, name)(**a, axis_name="model")  # noqa: E731
    return jax.jit(on_devices(f, "four", {"x": X, "beta": np.float32(1)}, None, out=LABELS))


@pytest.mark.parametrize("beta", [-1.0, -INF, 1.0])
def test_nothing_but_infinities(beta):
    """All +inf, on all devices or beside empty ones, is +inf, also as the smallest; all −inf is a sum of none."""
    x = np.full((ROWS, CLASSES), INF, np.float32)
    x[1, :8] = x[2, 2:] = x[3] = -INF
    for name in ("logsumexp", "logmeanexp"):
        found = reduced(name)({"x": x, "beta": np.float32(beta)})
        np.testing.assert_array_equal(found[:4], [INF, INF, INF, INF if beta < 0 else -INF])


numbers = st.sampled_from([-INF, -90.0, -3.0, 0.0, 0.5, 1.0, 20.0])


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    st.lists(numbers, min_size=4 * CLASSES, max_size=4 * CLASSES), st.sampled_from(["two", "four", "eight"])
)
def test_any_row_on_any_devices(values, name):
    """Ties, −inf and lone peaks wherever they fall; the first class is live."""
    x = np.resize(np.array(values, np.float32), (ROWS, CLASSES))
    x[:, 0] = np.where(np.isinf(x).all(1), 0, x[:, 0])
    s = registry.Sample("drawn", {"x": x, "beta": np.float32(1)}, {"axis": -1})
    case = next(case for case in CASES if case.name == "logsumexp")
    f = _of_logits(name)
    value, gradient = f(x)
    expected = registry.exact(case, s)
    bounds.check_value(case, s, value, expected)
    g = np.ones(ROWS, np.float32)
    bounds.check_cotangents(case, s, g, {"x": gradient}, registry.exact(case, s, g))


@functools.cache
def _of_logits(name):
    f = lambda a: jsoftmax.logsumexp(a["x"], axis_name=MESHES[name][1])  # noqa: E731
    f = on_devices(f, name, {"x": X}, None, out=LABELS)
    return jax.jit(lambda x: (f({"x": x}), jax.grad(lambda x: f({"x": x}).sum())(x)))
