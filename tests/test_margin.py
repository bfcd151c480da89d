"""Margin softmaxes: known values, mpmath at cosines of 1, −1 and between, conventions by their definition, vectors of
no length. Over blocks and devices, and how they transform: test_margin_rules.py.

Gradients are held to one unit of roundoff over the angle: as far as rounding the vectors turns the way between them.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import jsoftmax
from jsoftmax._ops import margin
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
P = PartitionSpec
X, W = np.array([[2.0, 1.0]], np.float32), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
Y = np.array([0], np.int32)
C, D, N = 12, 6, 10
VALUE, GRADIENT = tolerance.Bound(64, 2), tolerance.Bound(256, 4)
FORMS = {  # loss: (its m1, m2, m3, extension, what |x| and |w| are divided out)
    "arcface_loss": (1, 0.5, 0, "linear", (True, True), 64),
    "cosface_loss": (1, 0, 0.35, "cosine", (True, True), 64),
    "am_softmax_loss": (1, 0, 0.35, "cosine", (True, True), 30),
    "sphereface_loss": (4, 0, 0, "staircase", (False, True), 1),
    "large_margin_softmax_loss": (4, 0, 0, "staircase", (False, False), 1),
    "combined_margin_loss": (1, 0.5, 0, "cosine", (True, True), 64),
}


def problem(n=N, c=C, d=D, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, d)), rng.standard_normal((c, d))
    return x.astype(dtype), w.astype(dtype), (np.arange(n) * 5 % c).astype(np.int32)


def psi(theta, m1, m2, m3, extension, lib=np):
    alpha = m1 * theta + m2
    if extension == "linear" and alpha > lib.pi:
        return lib.cos(theta) - m2 * lib.sin(m2) - m3
    if extension == "clip" and alpha > lib.pi:
        return -1 - m3
    if extension == "easy" and theta >= lib.pi / 2:
        return lib.cos(theta) - m3
    if extension == "staircase":
        k = lib.floor(alpha / lib.pi)
        return (-1) ** int(k) * lib.cos(alpha) - 2 * k - m3
    return lib.cos(alpha) - m3


# values ------------------------------------------------------------------------------------------------------------


def test_known_values():
    losses = (
        (jsoftmax.arcface_loss, 3.7360396e-4),
        (jsoftmax.cosface_loss, 1.98395638e-3),
        (jsoftmax.am_softmax_loss, 5.271366930e-2),
        (jsoftmax.sphereface_loss, 1.846424578067),
        (functools.partial(jsoftmax.sphereface_loss, annealing=5.0), 0.4689156725),
    )
    every = [*(loss for loss, _ in losses), jsoftmax.margin_logits, lambda x, w, y: jsoftmax.cosine_logits(x, w)]
    *found, of_margin, of_cosines = jax.jit(lambda *a: [f(*a) for f in every])(X, W, Y)
    for (loss, expected), value in zip(losses, found, strict=True):
        tolerance.check(value[0], np.float64(expected), np.float32, VALUE, str(loss), scale=1.0)
    logits = np.array([[36.51379756, 28.62167011, -57.24334022]])
    tolerance.check(of_margin, logits, np.float32, VALUE, "ArcFace's logits")
    cosines = np.array([[2, 1, -2]]) / np.sqrt(5)
    tolerance.check(of_cosines, cosines, np.float32, VALUE, "cosines")


@pytest.mark.parametrize(
    ("given", "expected"),
    [((), (892.857142857, 8.264462810, 5)), ((1000, 2.5e-5, 35, 0), (999.1253936, 421.3710664, 0.4056482))],
)
def test_annealing(given, expected):
    schedule = jsoftmax.margin_annealing(*given)
    found = jnp.stack([schedule(1), schedule(jnp.int32(1000)), jax.jit(schedule)(10000)])
    tolerance.check(found, np.array(expected), np.float32, tolerance.Bound(64), "λ", scale=np.array(expected))
    state = optax.scale_by_schedule(schedule).init(jnp.zeros(1))
    assert state.count == 0


COSINES = [1, 1 - 1e-12, 0.999999, 0.5, 0, -0.5, -0.999999, -1 + 1e-12, -1]
IN_FLOAT64 = [(np.float64, c) if c == 1 - 1e-12 else slow(np.float64, c) for c in COSINES]


@pytest.mark.parametrize(("dtype", "c"), [*((np.float32, c) for c in COSINES), *IN_FLOAT64])
def test_value_and_gradient(dtype, c):
    """Every loss beside mpmath, which moves the vectors by 1e-20."""
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    s = np.sqrt((1 - c) * (1 + c))
    x = (2 * (c * q[0] + s * q[1])).astype(dtype)
    w = np.stack([3 * q[0], q[1] - 0.3 * q[0], 0.4 * q[2] + 0.1 * q[0]]).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        for name, (*m, extension, unit, _) in FORMS.items():
            scale, alone = (4 if unit[0] else 1), {"scale": 4.0} if unit[0] else {}
            value, bars = run(name, dtype)(x, w, **alone)
            expected, exact, theta = beside(x, w, scale, m, extension, unit)
            tolerance.check(value, np.float64(expected), dtype, VALUE, f"{name} at {c}", scale=1.0 + scale * 8)
            if abs(c) == 1:  # the way between them is lost in rounding, and so is which it would have been
                assert all(np.isfinite(bar).all() for bar in bars)
                steepest = scale * (2 + m[0]) / np.linalg.norm(np.float64(x))
                assert np.linalg.norm(np.float64(bars[0])) <= steepest or not unit[0]
                continue
            largest = np.abs(np.concatenate([a.ravel() for a in exact])).max() + scale
            turned = 1 + 1 / min(theta, np.pi - theta)
            for bar, e in zip(bars, exact, strict=True):
                tolerance.check(bar, e, dtype, GRADIENT, f"{name} at {c}", scale=largest * turned)


@functools.cache
def run(name, dtype):
    del dtype  # a program for each

    def f(x, w, scale):
        loss = getattr(jsoftmax, name)
        return loss(x[None], w, Y, **({} if scale is None else {"scale": scale}))[0]

    jitted = jax.jit(jax.value_and_grad(f, (0, 1)))
    return lambda x, w, scale=None: jitted(x, w, scale)


def beside(x, w, scale, m, extension, unit):
    """(loss, gradients, angle) with 60 digits."""
    mpmath.mp.dps = 60
    shapes = [x.shape, w.shape]
    v = [mpmath.mpf(float(a)) for a in np.concatenate([x.ravel(), w.ravel()])]

    def norm(a):
        return mpmath.sqrt(mpmath.fsum(b * b for b in a))

    def parts(v):
        x, w = v[:3], [v[3 + 3 * j : 6 + 3 * j] for j in range(3)]
        cosines = [mpmath.fsum(a * b for a, b in zip(x, u, strict=True)) / norm(x) / norm(u) for u in w]
        return x, w, cosines

    def f(v):
        x, w, cosines = parts(v)
        theta = mpmath.acos(max(min(cosines[0], 1), -1))
        cosines[0] = psi(theta, *map(mpmath.mpf, m), extension, mpmath)
        size = [(1 if unit[0] else norm(x)) * (1 if unit[1] else norm(u)) for u in w]
        z = [scale * n * c for n, c in zip(size, cosines, strict=True)]
        return mpmath.log(mpmath.fsum(mpmath.exp(a - z[0]) for a in z))

    h, slopes = mpmath.mpf(10) ** -20, []
    for i in range(len(v)):
        up, down = list(v), list(v)
        up[i], down[i] = v[i] + h, v[i] - h
        slopes.append(float((f(up) - f(down)) / (2 * h)))
    flat = np.array(slopes)
    gradients = flat[:3].reshape(shapes[0]), flat[3:].reshape(shapes[1])
    return float(f(v)), gradients, float(mpmath.acos(max(min(parts(v)[2][0], 1), -1)))


@pytest.mark.parametrize("sizes", [(7, 33, 100), slow((64, 500, 32))], ids=str)
def test_without_a_margin_bit_for_bit(sizes):
    """M02: the scaled cross-entropy of the cosines."""
    x, w, y = problem(*sizes)
    expected = jsoftmax.softmax_cross_entropy_with_integer_labels(jsoftmax.cosine_logits(x, w), y, beta=64.0)
    for loss in (jsoftmax.arcface_loss, jsoftmax.cosface_loss):
        assert np.array_equal(loss(x, w, y, margin=0.0), expected)
    assert np.array_equal(jsoftmax.combined_margin_loss(x, w, y, m2=0.0), expected)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(7, 33, 100), (64, 500, 32)], ids=str)
def test_a_multiple_of_1_bit_for_bit(sizes):
    x, w, y = problem(*sizes)
    assert np.array_equal(
        jsoftmax.sphereface_loss(x, w, y, margin=1), jsoftmax.sphereface_loss(x, w, y, annealing=np.inf)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own with NumPy
@pytest.mark.parametrize("name", [n for n in FORMS if n not in ("am_softmax_loss", "combined_margin_loss")])
def test_pytorch_metric_learning(name):
    """One more witness, where it is installed: value, and gradient of what it calls the embeddings."""
    theirs = pytest.importorskip("pytorch_metric_learning.losses", reason="an optional witness")
    torch = pytest.importorskip("torch", reason="an optional witness")
    kind, options = {
        "arcface_loss": (theirs.ArcFaceLoss, {"margin": 28.6}),  # degrees
        "cosface_loss": (theirs.CosFaceLoss, {}),
        "sphereface_loss": (theirs.SphereFaceLoss, {}),
        "large_margin_softmax_loss": (theirs.LargeMarginSoftmaxLoss, {}),
    }[name]
    with jax.enable_x64(True):
        x, w, y = problem(dtype=np.float64)
        loss, taken = kind(C, D, **options), torch.tensor(x, requires_grad=True)
        loss.W.data = torch.tensor(w.T.copy())
        expected = loss(taken, torch.tensor(y).long())
        expected.backward()
        ours = functools.partial(getattr(jsoftmax, name), labels=y, prototypes=w, reduction="mean")
        if name == "arcface_loss":
            ours = functools.partial(ours, margin=np.deg2rad(28.6))
        value, bar = jax.value_and_grad(ours)(x)
        tolerance.check(value, np.float64(expected.item()), np.float64, VALUE, name, scale=64.0)
        tolerance.check(bar, taken.grad.numpy(), np.float64, GRADIENT, name, scale=np.abs(bar).max())


# conventions -------------------------------------------------------------------------------------------------------


LATER = ("linear", "cosine")  # those of ArcFace and CosFace, which other tests have


@pytest.mark.parametrize("extension", [slow(e) if e in LATER else e for e in margin.EXTENSIONS])
def test_extensions(extension):
    """Behind θ + m = π; M03: those that promise it never rise."""
    theta = np.linspace(0, np.pi, 401)
    x = np.stack([np.cos(theta), np.sin(theta)], 1).astype(np.float32)
    m = 0.7
    labels = np.zeros(theta.size, np.int32)
    found = jsoftmax.margin_logits(x, W, labels, scale=1.0, m2=m, extension=extension)[:, 0]
    expected = np.array([psi(t, 1, m, 0, extension) for t in theta])
    steps = np.abs(theta + m - np.pi) < 1e-5
    shown = ~steps & (np.abs(theta - np.pi / 2) > 1e-5)
    tolerance.check(found[shown], expected[shown], np.float32, VALUE, extension, scale=1.0)
    rises = np.diff(np.float64(found)).max() > 1e-6
    assert rises == (extension in ("cosine", "easy"))
    losses = jsoftmax.arcface_loss(x, W, labels, scale=1.0, margin=m, extension=extension)
    rest = np.exp(np.float64(x) @ W.T)[:, 1:].sum(1)
    expected = np.log(np.exp(expected) + rest) - expected
    tolerance.check(losses[shown], expected[shown], np.float32, VALUE, extension, scale=1.0)


@pytest.mark.parametrize("m1", [1.7, 3.0])
def test_the_staircase_of_a_real_multiple_never_rises(m1):
    theta = np.linspace(0, np.pi, 401)
    x = np.stack([np.cos(theta), np.sin(theta)], 1).astype(np.float32)
    labels = np.zeros(theta.size, np.int32)
    found = jsoftmax.margin_logits(x, W, labels, scale=1.0, m1=m1, m2=0.3, extension="staircase")[:, 0]
    expected = np.array([psi(t, m1, 0.3, 0, "staircase") for t in theta])
    tolerance.check(found, expected, np.float32, VALUE, "staircase", scale=4.0)
    assert np.diff(np.float64(found)).max() < 1e-6


def test_straight_through():
    """insightface's gradient: s (p_y − 1) of the label's cosine, whatever the margin makes of it."""
    x, w, y = problem()
    of_labels = np.eye(C, dtype=np.float32)[y]

    @jax.jit
    def through(x, w):
        p = jax.nn.softmax(jsoftmax.margin_logits(x, w, y, scale=8.0, extension="linear"))
        return jax.vjp(jsoftmax.cosine_logits, x, w)[1](8 * (p - of_labels))

    def gradient(kind):
        def loss(x, w, m):
            return jsoftmax.arcface_loss(x, w, y, scale=8.0, margin=m, gradient=kind, reduction="sum")

        return jax.jit(jax.grad(loss, (0, 1, 2)))(x, w, 0.5)

    expected, (*found, of_margin) = through(x, w), gradient("straight_through")
    verify.assert_same(found, expected, GRADIENT, "through")
    exact = gradient("exact")
    assert min(np.abs(a - b).max() for a, b in zip(exact[:2], expected, strict=True)) > 0.01
    assert of_margin == 0 and exact[2] != 0


def test_numbers_have_gradients():
    """Scale, margins and λ, one for all and one an example, against differences in float64."""
    with jax.enable_x64(True):
        x, w, y = problem(dtype=np.float64)
        given = {"scale": 7.0, "m1": 1.2, "m2": 0.3, "m3": 0.1, "annealing": 0.5}
        rows = {k: v * np.linspace(0.9, 1.1, N) for k, v in given.items()}

        @jax.jit
        @jax.value_and_grad
        def total(given):
            return jsoftmax.combined_margin_loss(x, w, y, **given, extension="staircase", reduction="sum")

        bars, of_rows = total(given)[1], total(rows)[1]
        for name, value in given.items():
            h = 1e-6
            slope = (total(given | {name: value + h})[0] - total(given | {name: value - h})[0]) / (2 * h)
            tolerance.check(bars[name], np.float64(slope), np.float64, tolerance.SLOPES, name, scale=10.0)
            k = 3
            up, down = (rows[name] + h * np.eye(N)[k], rows[name] - h * np.eye(N)[k])
            slope = (total(rows | {name: up})[0] - total(rows | {name: down})[0]) / (2 * h)
            tolerance.check(of_rows[name][k], np.float64(slope), np.float64, tolerance.SLOPES, name, scale=10.0)


def test_bias_of_the_linear_layer():
    x, w, y = problem()
    b = np.linspace(-1, 1, C).astype(np.float32)
    f = lambda x, w, b: jsoftmax.large_margin_softmax_loss(x, w, y, bias=b, margin=1)  # noqa: E731
    g = lambda x, w, b: jsoftmax.linear_softmax_cross_entropy(x, w, y, bias=b, class_axis=0)  # noqa: E731
    of = lambda f: jax.jit(lambda *a: (f(*a), jax.vjp(f, *a)[1](jnp.ones(N))))(x, w, b)  # noqa: E731
    (value, bars), (expected, exact) = of(f), of(g)
    assert np.array_equal(value, expected)
    for bar, e in zip(bars, exact, strict=True):
        tolerance.check(bar, np.float64(e), np.float32, VALUE, "bias", scale=np.abs(e).max())


# what a vector may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n if n == "arcface_loss" else slow(n) for n in FORMS])
def test_vectors_of_no_length_and_far_from_1(name):
    """M01: cosine 0 and gradient 0 of a zero vector; lengths that squares cannot hold do not matter."""
    x, w, y = problem()
    loss = functools.partial(getattr(jsoftmax, name), labels=y)
    both = jax.jit(lambda x, w: (loss(x, w), jax.grad(lambda x, w: loss(x, w).sum(), (0, 1))(x, w)))
    zero_x, zero_w = x.copy(), w.copy()
    zero_x[0], zero_w[y[1]] = 0, 0
    value, (x_bar, w_bar) = both(zero_x, zero_w)
    assert np.isfinite(value).all() and np.isfinite(x_bar).all() and np.isfinite(w_bar).all()
    of_inputs, of_prototypes = FORMS[name][4]
    if of_inputs:
        assert np.all(x_bar[0] == 0)
        for size in (1e-30, 1e30):
            tolerance.check(
                both(x * np.float32(size), w)[0], np.float64(both(x, w)[0]), np.float32, GRADIENT, name, scale=64
            )
    if of_prototypes:
        assert np.all(w_bar[y[1]] == 0)
        sizes = np.where(np.arange(C) % 2, 1e30, 1e-30).astype(np.float32)[:, None]
        tolerance.check(both(x, w * sizes)[0], np.float64(both(x, w)[0]), np.float32, GRADIENT, name, scale=64)
