"""Label smoothing, z-loss and class weights, in every combination, with either kind of label and with ignored rows:
value and every cotangent against the oracle, second derivatives, transformations, and the peers' conventions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsoftmax
from tests import bounds, inputs, oracle, registry, tolerance
from tests.marks import slow
from tests.verify import DEFAULT, check_moved, directions, finite_labels, moved, verify

COMPILE_LIGHTLY = "fast lane"
P = jax.sharding.PartitionSpec
ALL = registry.LOSSES_WITH_OPTIONS[-3:]
WHOLE = pytest.mark.parametrize("case", ALL, ids=registry.label)
SOME = pytest.mark.parametrize(
    "case",
    # the one that ignores some labels has all rows of this one, but for those
    [pytest.param(c, marks=[pytest.mark.slow] if c is ALL[1] else [], id=registry.label(c)) for c in ALL],
)
ROWS = ("zeros", "empty row", "nan row", "inf row", "confident")  # of one shape, which is a program


@SOME
def test_all_options(case):
    """test_everything has all rows."""
    for name in ROWS:
        for beta in (0.7, 0.0, -1.3, np.inf, -np.inf):
            verify(case, inputs.BY_NAME[name], np.float32, beta, jit=True)
    for beta in (DEFAULT, "row"):
        verify(case, inputs.BY_NAME["mask on holes"], np.float32, beta, jit=True)


SINGLES = registry.LOSSES_WITH_OPTIONS[:9]  # one of the options; the others have two


def quick(case, beta):
    """Each option alone with either kind of label, two of them where labels are ignored."""
    return beta is not DEFAULT and ("ignore_label" in registry.label(case)) is (case not in SINGLES)


@pytest.mark.parametrize(
    ("case", "beta"),
    [
        pytest.param(
            case,
            beta,
            marks=[] if quick(case, beta) else [pytest.mark.slow],
            id=f"{registry.label(case)}-{'default' if beta is DEFAULT else beta}",
        )
        for case in registry.LOSSES_WITH_OPTIONS[:-3]
        for beta in (DEFAULT, -1.3)
    ],
)
def test_every_combination(case, beta):
    verify(case, inputs.BY_NAME["mask on holes"], np.float32, beta, jit=True)


@WHOLE
@pytest.mark.slow
def test_everything(case):
    for dtype in (np.float32, jnp.bfloat16, np.float16):
        for row in registry.rows(case, dtype):
            for beta in (DEFAULT, *inputs.BETAS.values(), "row"):
                verify(case, row, np.dtype(dtype), beta, jit=True)


def on(fast):
    """Each kind of label on each row; in the fast lane those that `fast` has for the row."""
    params = [
        pytest.param(c, row, marks=[] if c in cases else [pytest.mark.slow], id=f"{row}-{registry.label(c)}")
        for c in ALL
        for row, cases in fast.items()
    ]
    return pytest.mark.parametrize(("case", "name"), params)


@on({"confident": (), "axes (2, 0)": ALL[2:]})
def test_float64(case, name):
    with jax.enable_x64(True):
        verify(case, inputs.BY_NAME[name], np.float64, 1 / 3, jit=True)


@on({"ties": ALL[:1], "mask on holes": ALL[2:]})
def test_second_order(case, name):
    with jax.enable_x64(True):
        s = finite_labels(case, registry.sample(case, inputs.BY_NAME[name], np.float64, 0.7))
        g = registry.cotangent(case, s)
        kwargs = {k: v for k, v in (s.arrays | s.static).items() if k != case.logits}
        for along, v in directions(case, s):
            expected = registry.oracle.hvp(case.name, (s.arrays[case.logits],), kwargs, g, {along: v})
            check_moved(case, s, along, v, g, moved(case, s, along, v, g), expected)


# what the peers compute ----------------------------------------------------------------------------------------------

Z = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])
W = np.array([1.0, 2.0, 3.0])
PRINTED = tolerance.Bound(2e9)  # digits of a float32 result, and a difference of two values


def near(actual, expected):
    tolerance.check(actual, np.asarray(expected, np.float64), np.float64, PRINTED, "printed value")


def test_torch_weighted_smoothing():
    """Printed by torch's cross_entropy with weight, label_smoothing=0.1 and ignore_index."""
    with jax.enable_x64(True):
        for labels, mean in (([0, 2], 0.832875669), ([-100, 2], 0.316600949)):
            y = np.array(labels)
            losses = jsoftmax.softmax_cross_entropy_with_integer_labels(
                Z, y, label_smoothing=0.1, class_weights=W, ignore_label=-100
            )
            near(losses.sum() / W[y[y >= 0]].sum(), mean)


def test_printed_values():
    """z = [1, 2, 3], label 0: torch's smoothing, and T5X's z-loss with its factor on the softmax in the gradient."""
    with jax.enable_x64(True):
        z, y = jnp.array([1.0, 2.0, 3.0]), jnp.array(0)
        near(jsoftmax.softmax_cross_entropy_with_integer_labels(z, y, label_smoothing=0.1), 2.307605964444380)
        loss = lambda z: jsoftmax.softmax_cross_entropy_with_integer_labels(z, y, z_loss=1e-4)  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(loss))(z)
        near(value - 2.407605964444380, 1.161177840891691e-3)
        near(gradient[1:] / jax.nn.softmax(z)[1:], [1.000681521192889] * 2)


def test_optax_smooth_labels():
    x = inputs.cotangent((4, 5), 30).astype(np.float32)
    q = jax.nn.softmax(jnp.asarray(inputs.cotangent((4, 5), 31), jnp.float32))
    ours, theirs = (
        jax.jit(jax.value_and_grad(f))(x)
        for f in (
            lambda x: jsoftmax.softmax_cross_entropy(x, q, label_smoothing=0.3).sum(),
            lambda x: optax.losses.softmax_cross_entropy(x, optax.smooth_labels(q, 0.3)).sum(),
        )
    )
    for a, b in zip(ours, theirs, strict=True):
        tolerance.check(a, np.asarray(b, np.float64), np.float32, tolerance.Bound(32), "optax", scale=np.abs(b).max())


def test_smoothing_is_a_distribution():
    """L06 and L08: the options with an integer label, and the distribution they stand for over the live classes."""
    x = inputs.cotangent((4, 5), 32).astype(np.float32)
    where = np.array([True, True, False, True, True])
    y, eps = np.array([0, 1, 3, 4]), np.float32(0.25)
    q = (1 - eps) * np.eye(5, dtype=np.float32)[y] + eps * where / np.float32(4)
    (a, by_index), (b, by_mass) = (
        jax.jit(jax.value_and_grad(lambda x, f=f: f(x).sum()))(x)
        for f in (
            lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, y, where=where, label_smoothing=eps),
            lambda x: jsoftmax.softmax_cross_entropy(x, q, where=where),
        )
    )
    tolerance.check(a, np.asarray(b, np.float64), np.float32, tolerance.TORTURE, "value")
    tolerance.check(by_index, np.asarray(by_mass, np.float64), np.float32, tolerance.TORTURE, "gradient", scale=1.0)


# programs ------------------------------------------------------------------------------------------------------------


def test_no_value_of_an_option_compiles_anew():
    """P12: floats, arrays and 0.0 alike, once the option is given."""
    f = jsoftmax.softmax_cross_entropy_with_integer_labels
    x, y = jnp.asarray(inputs.cotangent((3, 4), 33), jnp.float32), jnp.array([0, 1, 2])
    losses, seen = [], []

    def count(event, duration, **kwargs):
        seen.append(event)

    f(x, y, label_smoothing=0.5, z_loss=1.0, class_weights=np.ones(4, np.float32), ignore_label=7).block_until_ready()
    weights = [jnp.full(4, w, jnp.float32) for w in (0.5, 2.0)]
    ignored = [jnp.asarray(i, jnp.int32) for i in (1, 2)]
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for smoothing, z in ((0.0, 0.0), (0.1, 1e-4), (np.float32(0.2), np.float64(3)), (1, 2)):
            for w, i in zip(weights, ignored, strict=True):
                losses.append(f(x, y, label_smoothing=smoothing, z_loss=z, class_weights=w, ignore_label=i))
        assert not [event for event in seen if "compile" in event or "trace" in event], seen
        f(x, y, z_loss=1.0, ignore_label=7)  # the ear is open: fewer options are another program
        assert [event for event in seen if "compile" in event]
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len({tuple(np.asarray(loss)) for loss in losses}) == len(losses)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", registry.INTEGER])
def test_saves_no_array_of_all_classes(name):
    """P13: logits (and labels that are distributions), and numbers for each row; with every option."""
    x = jnp.zeros((64, 32))
    labels = x + 1 if name == "softmax_cross_entropy" else jnp.zeros(64, jnp.int32)
    options = {"label_smoothing": jnp.float32(0.1), "z_loss": jnp.float32(0.1), "class_weights": jnp.ones(32)}
    _, pull = jax.vjp(lambda x, o: getattr(jsoftmax, name)(x, labels, **o), x, options)
    sizes = [leaf.size for leaf in jax.tree.leaves(pull)]
    assert sorted(size for size in sizes if size > 64) == [x.size] * (1 + (labels.ndim == 2))


@pytest.mark.parametrize("case", [ALL[-1]], ids=registry.label)
def test_transformations(case):
    """vmap, checkpoint and forward mode with every option."""
    s = registry.sample(case, inputs.BY_NAME["mask on holes"], np.float32, 0.7)
    g = registry.cotangent(case, s)
    f = lambda d, rest: registry.call(case.name, tuple(s.static.items()), d | rest)  # noqa: E731
    d = {k: jnp.asarray(s.arrays[k]) for k in case.differentiable}
    rest = {k: jnp.asarray(v) for k, v in s.arrays.items() if k not in d}
    wanted = registry.exact(case, s, g)

    def check(value, bars):
        bounds.check_value(case, s, value, registry.exact(case, s))
        bounds.check_cotangents(case, s, g, bars, wanted)

    def pulled(f, *d):
        value, pull = jax.vjp(f, *d)
        return value, pull(g)

    value, (bars,) = jax.jit(lambda d: pulled(jax.checkpoint(lambda d: f(d, rest)), d))(d)
    check(value, bars)
    slope = lambda d: jax.jacfwd(lambda d: jnp.vdot(g, f(d, rest)))(d)  # noqa: E731
    with jsoftmax.forward_mode():
        (value, (bars,)), slopes = jax.jit(lambda d: (pulled(lambda d: f(d, rest), d), slope(d)))(d)
    check(value, bars)
    check(value, {k: v.astype(d[k].dtype) for k, v in slopes.items()})
    rows = {k: v for k, v in rest.items() if k in ("labels", "where")}
    rest = {k: v for k, v in rest.items() if k not in rows}
    x = d.pop(case.logits)

    def mapped(d, x):
        return jax.vmap(lambda x, r: f(d | {case.logits: x}, rest | r), (0, 0))(x, rows)

    value, (bars, x_bar) = jax.jit(functools.partial(pulled, mapped))(d, x)
    check(value, bars | {case.logits: x_bar})


def test_one_weight_beyond_all_others():
    """The smoothed gradient of the class that has nearly all the weight and nearly all the probability."""
    x, w = np.array([[30.0, 0.0, 0.0]], np.float32), np.array([1e8, 1.0, 1.0], np.float32)
    y, eps = np.array([1]), np.float32(1)
    gradient = jax.grad(
        lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, y, label_smoothing=eps, class_weights=w).sum()
    )(x)
    exact = oracle.softmax_cross_entropy_with_integer_labels_vjp(
        np.ones(1), x, y, label_smoothing=eps, class_weights=w
    )["logits"]
    tolerance.check(gradient, exact, np.float32, tolerance.Bound(16, 2), "gradient", gap=30.0)


BOTH = P("data", "model")
ALONE = [slow(spec) for spec in (P(None, "model"), P("data", None))]


@pytest.mark.parametrize("spec", [*ALONE, BOTH], ids=str)
def test_options_on_an_explicit_mesh(spec):
    """Sharded logits with options that every device has whole: each cotangent in the sharding of what it belongs to."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    x, y = inputs.cotangent((8, 8), 34).astype(np.float32), np.arange(8, dtype=np.int32)
    w, eps = np.arange(1, 9, dtype=np.float32), np.full(8, 0.1, np.float32)
    loss = lambda x, y, w, eps: jsoftmax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
        x, y, class_weights=w, label_smoothing=eps, z_loss=0.1
    ).sum()
    gradient = jax.jit(jax.grad(loss, (0, 2, 3)))
    wanted = gradient(x, y, w, eps)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, jax.NamedSharding(mesh, spec))
        found = gradient(placed, jax.device_put(y, jax.NamedSharding(mesh, P(spec[0]))), w, eps)
        assert jax.typeof(found[0]).sharding == jax.typeof(placed).sharding
        for a, b, what in zip(found, wanted, ("logits", "class weights", "smoothing"), strict=True):
            b = np.asarray(b, np.float64)
            tolerance.check(a, b, np.float32, tolerance.Bound(64), what, scale=np.abs(b).max())


def test_a_weight_of_zero_gives_plus_zero():
    x = np.array([[1.0, -np.inf, 2.0]], np.float32)
    loss = jsoftmax.softmax_cross_entropy_with_integer_labels(
        x, np.array([1]), class_weights=np.array([1.0, 0.0, 1.0], np.float32)
    )
    assert loss == 0 and not np.signbit(loss)


def test_a_mask_of_one_entry_for_all_classes():
    loss = functools.partial(jsoftmax.softmax_cross_entropy_with_integer_labels, jnp.ones((2, 3)), jnp.array([0, 1]))
    for where, live in ((True, 3), (jnp.array([[True, True, False]]), 2)):
        expected = np.full(2, np.log(live), np.float32)
        assert np.all(np.abs(loss(where=where) - expected) <= tolerance.ulp(expected.astype(np.float64), np.float32))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "class_weights": jnp.ones(3)}], ids=["plain", "all"])
def test_beta_of_an_ignored_row_is_not_read(options):
    def loss(x, beta):
        labels = jnp.array([0, -100])
        f = jsoftmax.softmax_cross_entropy_with_integer_labels
        return jnp.sum(f(x, labels, beta=beta, ignore_label=-100, **options))

    x = jnp.ones((2, 3))
    run = jax.jit(jax.grad(loss, (0, 1)))
    bars = [run(x, jnp.array([1.0, b])) for b in (np.nan, 1.0)]
    for found, wanted in zip(*bars, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_z_loss_of_a_log_partition_far_below_one():
    """The label lies below the peak and weighs nothing: all that is left is (log Z)², of 1 + 2e-9."""
    x, w = jnp.array([0.0, -20.0, -30.0]), jnp.array([1.0, 1.0, 0.0])
    wanted = np.log1p(np.exp(-20) + np.exp(-30)) ** 2

    def loss(z, x, w=None):
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, 2, z_loss=z, class_weights=w)

    for found in (loss(1.0, x, w), jax.jit(jax.grad(loss))(1.0, x)):
        assert abs(float(found) - wanted) <= 4 * tolerance.ulp(wanted, np.float32)
