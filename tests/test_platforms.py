"""The formulas that other platforms than CPU choose, run on CPU; and that every operator can be lowered for them."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jsoftmax
from experiments.structure import lowering, meshes
from jsoftmax._partition import online, reference, resident
from tests import inputs, registry, test_second_order, test_torture, tolerance, torture, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
PLATFORMS = ("cuda", "tpu")
CASES = pytest.mark.parametrize("case", registry.CASES, ids=registry.label)
CACHES = (registry._compiled, verify._compiled, test_torture.functions)


@pytest.fixture(params=PLATFORMS)
def platform(request):
    """Operators take the formula that they have for it."""
    chosen = jax.lax.platform_dependent

    def dependent(*operands, default=None, **each):
        return each.get(request.param, default)(*operands)

    def forget():
        jax.clear_caches()
        for cache in CACHES:
            cache.cache_clear()

    forget()
    jax.lax.platform_dependent = dependent
    yield request.param
    jax.lax.platform_dependent = chosen
    forget()


# of few shapes, each of which is a program; test_everything has all
ROWS = ("ties", "confident", "mask on holes", "huge", "empty row", "nan row", "inf row")
UNGIVEN = (
    "confident",
    "mask on holes",
    "empty row",
    "nan row",
    "inf row",
)  # β = 1 as a constant: another program


def chosen(case):
    """The platforms with a formula of their own; that of TPU is the one of every accelerator."""
    return PLATFORMS if case.name in ("softmax", "log_softmax", "softmax_cross_entropy") else ("tpu",)


@pytest.mark.parametrize(
    ("case", "platform"),
    [
        pytest.param(
            c, p, id=f"{p}-{registry.label(c)}", marks=pytest.mark.slow if registry.label(c) in registry.LATER else ()
        )
        for c in registry.CASES
        for p in chosen(c)
    ],
    indirect=["platform"],
)
def test_values_and_cotangents(case, platform):
    for row in verify.on(case, np.float32, ROWS):
        for beta in (verify.DEFAULT, -1.3) if row.name in UNGIVEN else (-1.3,):
            verify.verify(case, row, np.float32, beta, jit=True)


@CASES
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16], ids=lambda d: np.dtype(d).name)
def test_everything(case, dtype, platform):
    for row in verify.on(case, dtype):
        for beta in (verify.DEFAULT, *inputs.BETAS.values(), "row"):
            verify.verify(case, row, dtype, beta, jit=True)


@pytest.mark.slow
@pytest.mark.parametrize("entry", torture.ENTRIES, ids=test_torture.IDS)
def test_torture_list(entry, platform):
    test_torture.assert_entry(entry, jax.jit)


# against the definition -----------------------------------------------------------------------------------------------

EXPONENTS = 16  # units in the last place: exponents up to 30 are rounded before exp is taken
BETAS = {"none": None, "row": "row"} | {str(b): b for b in (0.0, 1e-30, 0.3, -0.3, 3.0, -1e30, np.inf, -np.inf, np.nan)}


def hard():
    """Ties, −∞, +∞, NaN, no live class, numbers at both ends of float32."""
    top, least = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    rows = [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, -np.inf, 1.0, 0.5, -np.inf],
        [-np.inf] * 5,
        [np.inf, 1.0, 2.0, -np.inf, 0.0],
        [np.inf] * 5,
        [np.inf, -np.inf, -np.inf, np.inf, -np.inf],
        [np.nan, 1.0, 2.0, 3.0, np.inf],
        [top, -top, top, 0.0, -top],
        [least, 2 * least, -least, 0.0, least],
        [-20.0, 0.0, -90.0, -1e-6, -5.0],
        [1e4, 1e4 + 1, 1e4 - 3, 1e4, 0.0],
    ]
    return np.array(rows, np.float32)


def statistics(f, x, beta, where, axes):
    found = f(x, beta, where, axes)
    return found.peak, found.excess, reference.weights(x, beta, where, found), reference.log_partition(beta, found)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("axes", [(1,), *(slow(a) for a in ((0,), (1, 0)))], ids=str)
@pytest.mark.parametrize("beta", BETAS.values(), ids=BETAS)
def test_one_read_gives_the_same_pair(beta, axes, masked):
    x = hard()
    rows = [n if i not in axes else 1 for i, n in enumerate(x.shape)]
    if beta is not None:
        beta = np.resize([0.5, -2.0, 1.0, 0.0], rows) if isinstance(beta, str) else np.full((1, 1), beta)
        beta = jnp.asarray(beta, jnp.float32)
    where = np.arange(x.size).reshape(x.shape) % 3 != 1 if masked else None
    found = statistics(online.statistics_of, x, beta, where, axes)
    defined = statistics(reference.statistics_of, x, beta, where, axes)
    poisoned = np.isnan(defined[1])
    np.testing.assert_array_equal(np.isnan(found[1]), poisoned)
    for a, b in zip(
        (np.where(poisoned, 0, found[0]), *found[1:]), (np.where(poisoned, 0, defined[0]), *defined[1:]), strict=True
    ):
        least = np.abs(a - b) <= np.finfo(np.float32).tiny  # half of it may count as 0
        np.testing.assert_array_max_ulp(np.where(least, 0, a), np.where(least, 0, b), EXPONENTS)


def of_rows(x, beta, where, axes):
    """What the sums of one read are held to: exponents of the definition; which classes are the peak, all of them in a
    row without any; and which rows are poisoned."""
    stats = reference.statistics_of(x, beta, where, axes)
    t = np.float64(reference.gap(x, beta, where, stats.peak))
    there = (x == stats.peak) & (True if where is None else where) | (np.asarray(stats.excess) == -1)
    return t, np.asarray(there), np.isnan(np.asarray(stats.excess))


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("axes", [(1,), slow((1, 0))], ids=str)
@pytest.mark.parametrize("beta", [None, 0.0, 0.3, -3.0, np.inf, -np.inf], ids=str)
def test_one_read_gives_the_sums(beta, axes, masked):
    """Of masses, some where a class is absent, and of numbers of any sign: all, beside the peak, their exponents."""
    x, rng = hard(), np.random.default_rng(0)
    beta = None if beta is None else jnp.full((1, 1), beta, jnp.float32)
    where = np.arange(x.size).reshape(x.shape) % 3 != 1 if masked else None
    v = np.float32(rng.standard_normal(x.shape))
    q = np.float32(rng.random(x.shape)) * (np.isfinite(x) | (np.arange(len(x))[:, None] % 2 == 0))
    t, there, poisoned = of_rows(x, beta, where, axes)

    def agree(found, terms, what):
        expected, size = (
            np.sum(a, axes, keepdims=True) for a in (terms, np.abs(np.where(np.isfinite(terms), terms, 0)))
        )
        expected, found = (np.where(poisoned, 0, a) for a in (expected, found))
        bound = tolerance.Bound(64, 4)  # differences of the smallest numbers may count as 0
        tolerance.check(np.float32(found), expected, np.float32, bound, what, scale=size, gap=20.0, floor=16.0)

    stats, masses = online.mass_statistics_of(jnp.asarray(q), x, beta, where, axes)
    for a, b in zip(stats, online.statistics_of(x, beta, where, axes), strict=True):
        np.testing.assert_array_equal(a, b)
    wide = np.float64(q)
    agree(masses.total, wide, "masses")
    agree(masses.beside, np.where(there, 0, wide), "masses beside the peak")
    agree(masses.gap, np.where(q == 0, 0, -np.where(q == 0, 1, wide) * t), "their distance")
    total, beside = online.sums_of(v, x, beta, where, axes)
    agree(total, np.float64(v), "sum")
    agree(beside, np.where(there, 0, np.float64(v)), "sum beside the peak")


def test_a_distance_that_counts_as_0():
    """Where subnormal numbers do: two peaks that are not the same, at β = ∞; and an absent class at β = 0."""
    infinite = jnp.asarray(np.inf, np.float32)
    assert online._decay(jnp.zeros(()), infinite) == 0
    assert online._decay(infinite, jnp.zeros(())) == 0
    assert online._exponent(jnp.zeros(()), infinite) == np.inf
    assert online._exponent(infinite, jnp.zeros(())) == np.inf


def test_the_order_of_the_classes_does_not_matter():
    """A peak at the end makes every earlier sum be scaled; far more classes than a device goes through in turn."""
    x = np.linspace(-3, 3, 999, dtype=np.float32)
    rows = np.stack([x, x[::-1], np.random.default_rng(0).permutation(x)])
    exact = np.exp(np.float64(x) - x.max()).sum() - 1
    stats = online.statistics_of(rows, None, None, (1,))
    assert np.all(stats.peak == x.max())
    # one rounding for each time that the peak rises
    assert np.abs(np.float64(stats.excess) / exact - 1).max() <= x.size / 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("shape", "beta", "axes", "fine", "fits"),
    [
        ((3, 5), None, (1,), True, True),
        ((3, 5), 1, (1,), False, True),
        ((3, 5), 1, (1,), True, False),
        ((3, 5), 3, (1,), False, False),
        ((3, 5), None, (0,), True, False),
        ((3, resident.LONGEST + 1), None, (1,), True, False),
        ((3, 1), None, (1,), True, False),
        ((3, 5), None, (1, "model"), True, False),
    ],
)
def test_what_a_gpu_has_on_chip(shape, beta, axes, fine, fits):
    given = None if beta is None else jnp.ones((beta, 1))
    assert resident.fits(jnp.zeros(shape), given, axes, fine) == fits


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", registry.INTEGER, "softmax_cross_entropy"])
def test_a_masked_entry_is_minus_infinity_to_the_bit(name, platform):
    """T21 on every platform."""
    rng = np.random.default_rng(0)
    x, where = np.float32(2 * rng.standard_normal((64, 40))), rng.random((64, 40)) < np.float32(0.7)
    where[:, 0] = True
    q = np.where(where, np.float32(rng.random((64, 40))), 0)
    rest = {registry.INTEGER: (np.zeros(64, np.int32),), "softmax_cross_entropy": (q,)}.get(name, ())
    f = getattr(jsoftmax, name)
    assert np.array_equal(f(x, *rest, where=where), f(jnp.where(where, x, -np.inf), *rest))
    poisoned = np.where(np.arange(40) == 0, np.inf, x)
    for y in (f(poisoned, *rest, where=where), f(jnp.where(where, poisoned, -np.inf), *rest)):
        assert np.isnan(y).any() or name == "logsumexp"
    if name in ("softmax", "log_softmax"):
        assert np.all(f(poisoned, where=where)[~where] == (0 if name == "softmax" else -np.inf))


@pytest.mark.parametrize(
    ("name", "platform"),
    [("softmax", "cuda"), *((n, "tpu") for n in ("softmax", "logsumexp", registry.INTEGER))],
    indirect=["platform"],
)
def test_maps_of_few_classes(name, platform):
    """Which CPU takes class by class: the same values and gradients, rows of ±∞ and NaN, labels that are none."""
    rng = np.random.default_rng(0)
    x, labels = np.float32(rng.integers(-8, 9, (2, 5, 64, 64)) / 4), rng.integers(-1, 6, (2, 64, 64), np.int32)
    x[0, :, 0, 0], x[0, 1:, 0, 1], x[0, 2, 0, 2], x[1, 3, 0, 3] = -np.inf, -np.inf, np.inf, np.nan
    rest = (labels,) if name == registry.INTEGER else ()
    f = lambda x, beta: getattr(jsoftmax, name)(x, *rest, axis=1, **({} if beta is None else {"beta": beta}))  # noqa: E731

    def run(beta):
        y, pull = jax.vjp(lambda x: f(x, beta), x)
        return y, *pull(jnp.where(jnp.isnan(y), 0, 1.0).astype(y.dtype))

    found = [run(beta) for beta in (None, -0.5)]
    jax.lax.platform_dependent = lambda *operands, default=None, cpu=None, **_: (cpu or default)(*operands)
    jax.clear_caches()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves([run(beta) for beta in (None, -0.5)]), strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        size = np.float64(np.where(np.isfinite(b), b, 0))
        finite = np.where(np.isfinite(b), a, 0).astype(np.float32)
        tolerance.check(finite, size, np.float32, tolerance.Bound(16), f"{name} of a map", scale=1)


@pytest.mark.parametrize(
    ("case", "platform"),
    [
        pytest.param(c, "tpu", id=registry.label(c))
        for c in registry.CASES
        if c.name in ("softmax", "log_softmax", "softmax_cross_entropy")
    ],
    indirect=["platform"],
)
@pytest.mark.parametrize("name", ["ties", slow("confident"), slow("mask on holes")])
def test_derivatives_of_the_gradient(name, case, platform):
    """The sums of one read have rules of their own, of operations that can be turned round."""
    test_second_order.test_second_order(name, case)
    with jax.enable_x64(True):
        s = verify.finite_labels(case, registry.sample(case, inputs.BY_NAME[name], np.float64, 0.6))
        arrays, g = {k: jnp.asarray(a) for k, a in s.arrays.items()}, registry.cotangent(case, s)
        x, v = arrays.pop(case.logits), inputs.cotangent(s.arrays[case.logits].shape, 10)
        v = jnp.where(jnp.isfinite(x), v, 0)
        f = lambda x: jnp.vdot(registry.call(case.name, tuple(s.static.items()), {case.logits: x} | arrays), g)  # noqa: E731
        moved = np.asarray(jax.jit(lambda x: jax.jvp(jax.grad(f), (x,), (v,))[1])(x))
        turned = jax.jit(jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), v)))(x)
        scale = np.abs(v).max() * np.abs(g).max()  # of the terms that cancel
        tolerance.check(turned, moved, np.float64, tolerance.SECOND_ORDER, "turned round", scale=scale)


def test_masses_of_two_signs_on_absent_classes(platform):
    """∞ − ∞, whatever they add up to, and in whatever order."""
    x = jnp.array([[-np.inf, -np.inf, 3, 2], [3, -np.inf, 2, -np.inf], [-np.inf] * 4], jnp.float32)
    q = jnp.array([[0.5, -0.5, 1, 0], [1, 0.5, 0, -0.25], [1, -2, 0, 0]], jnp.float32)
    assert np.all(np.isnan(jsoftmax.softmax_cross_entropy(x, q)))


def test_a_peak_that_is_read_with_another_rounding():
    """Logits that are made where they are read: a product and the difference from the peak may be one operation."""
    e, excess = np.float32([1, 1 - 1e-6, 0.5, 1, 1]), np.float32([0, 1e-30, 0.5, 1, 3])
    assert reference.alone(e, excess).tolist() == [True, True, False, False, False]
    stats = reference.Statistics(jnp.float32([[1e-6]]), jnp.float32([[1e-30]]))
    assert reference.complements(jnp.zeros((1, 1)), None, None, stats)[0, 0] == np.float32(1e-30)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_a_poisoned_row_that_nothing_depends_on(masked, platform):
    """Its gradient is 0, and NaN where its loss is used; the loss of mass on an absent class is no poison."""
    x = jnp.array([[np.nan, 1, 2], [0, 1, 2], [-np.inf, 1, 2]], jnp.float32)
    q, where = jnp.full((3, 3), 1 / 3, jnp.float32), jnp.ones((3, 3), bool) if masked else None
    loss = lambda x, i: jsoftmax.softmax_cross_entropy(x, q, where=where)[i]  # noqa: E731
    for i in range(3):
        bar = np.asarray(jax.jit(jax.grad(loss), static_argnums=1)(x, i))
        assert np.all(np.delete(bar, i, 0) == 0)
        assert np.all(np.isnan(bar[i])) if i == 0 else np.all(np.isfinite(bar[i])) and np.any(bar[i] != 0)


@pytest.mark.parametrize("name", ["log_softmax", "softmax_cross_entropy"])
def test_a_confident_row_keeps_its_gradient(name, platform):
    """At the peak, where what is left of 1 − p is e⁻⁴⁰."""
    x = jnp.array([[0, 40, -1, 0.5]], jnp.float32)
    q = jnp.array([[0, 1, 0, 0]], jnp.float32)
    others = np.exp(np.float64([-40, -41, -39.5])).sum()
    if name == "log_softmax":
        bar, sign = jax.grad(lambda x: jsoftmax.log_softmax(x)[0, 1])(x), 1
    else:
        bar, sign = jax.grad(lambda x: jsoftmax.softmax_cross_entropy(x, q)[0])(x), -1
    tolerance.check(bar[0, 1], np.float64(sign * others), np.float32, tolerance.Bound(8, 1), name, gap=40.0)


def test_a_loss_of_nothing_has_no_penalty(platform):
    """W02: an empty row without mass, in a batch with others."""
    x = jnp.full((2, 5), -jnp.inf).at[1, 0].set(1.0)
    loss = lambda z: jsoftmax.softmax_cross_entropy(x, jnp.zeros((2, 5)), z_loss=z)  # noqa: E731
    z = jnp.float32(2**-10)
    assert loss(z).tolist() == [0, 2**-10] and jax.grad(lambda z: loss(z).sum())(z) == 1


# lowered for other platforms ------------------------------------------------------------------------------------------

LOSS = jsoftmax.softmax_cross_entropy_with_integer_labels
X, Y = jax.ShapeDtypeStruct((4, 6), np.float32), jax.ShapeDtypeStruct((4,), np.int32)


def test_every_operator_lowers_for_every_platform():
    """No scatter, no loop, no sort; on TPU full accuracy of every exponential and logarithm."""
    assert lowering.failures(lambda plan, **_: plan) == []


def test_full_accuracy_of_a_base_and_of_a_soft_cap():
    """In the gradients too, which have functions of their own."""
    x, w, one = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((4, 6), (6, 5), ()))

    def capped(x, w, cap):
        return jsoftmax.linear_softmax_cross_entropy(x, w, np.arange(4), soft_cap=cap).sum()

    based = jax.value_and_grad(lambda x, b: jsoftmax.softmax(x, base=b)[0, 0], (0, 1))
    for f, arguments in ((based, [x, one]), (jax.value_and_grad(capped, (0, 1, 2)), [x, w, one])):
        found = lowering.faults(lowering.text(f, arguments, "tpu"), "tpu")
        assert [why for why in found if "accuracy" in why] == []


def test_what_lowering_looks_for_is_seen():
    text = functools.partial(lowering.text, platform="tpu")
    assert [why for why in lowering.faults(text(jax.nn.softmax, [X]), "tpu") if "accuracy" in why]
    assert lowering.faults(text(jax.nn.softmax, [X]), "cuda") == []
    assert any("scatter" in why for why in lowering.faults(text(lambda x: x.at[1, 2].set(0), [X]), "tpu"))


@pytest.mark.parametrize("name", lowering.PLATFORMS)
def test_accelerators_read_the_logits_of_a_loss_once(name):
    """One reduction, of peak, excess, ties and the label's logit; two of one operand each on CPU."""

    def reductions(platform):
        lines = [line for line in lowering.text(LOSS, [X, Y], platform).splitlines() if "stablehlo.reduce(" in line]
        return sorted(line.count(" init: ") for line in lines)

    assert reductions(name) == [4]
    assert reductions("cpu") == [1, 1]


def test_what_goes_with_the_peak_is_found_in_its_read():
    """Masses of a distribution with the statistics, once for value and gradient; sums of a cotangent with a peak."""

    def operands(f, *arguments):
        lines = [line for line in lowering.text(f, arguments, "tpu").splitlines() if "stablehlo.reduce(" in line]
        return sorted(line.count(" init: ") for line in lines)

    assert operands(jsoftmax.softmax_cross_entropy, X, X) == [6]
    assert operands(jax.value_and_grad(lambda x, q: jsoftmax.softmax_cross_entropy(x, q).sum()), X, X) == [1, 6]
    pulled = lambda x, g: jax.vjp(jsoftmax.log_softmax, x)[1](g)  # noqa: E731
    assert operands(pulled, X, X) == [3, 3]


def test_as_much_travels_on_any_number_of_devices():
    """Peak; excess and count; what each operator sums besides. The linear layer takes its statistics twice where the
    loss is not summed, and adds up the gradient of its inputs."""
    rows = [meshes.row(name, n) for name in meshes.OPERATORS for n in meshes.DEVICES]
    assert meshes.broken(rows) == []
    numbers = {row["operator"]: row["numbers a row"] for row in rows}
    assert numbers == dict(zip(meshes.OPERATORS, (5, 5, 3, 4, 4 + 3), strict=True))
    assert [r["gradients of inputs"] for r in rows if r["operator"] == meshes.LINEAR] == [1] * len(meshes.DEVICES)
