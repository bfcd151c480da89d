"""Known faults of jax.nn and optax: each has to be there still, and not here.

The first assertion of a test is about the peer. When it fails the peer has been mended, in the installed version and on
this machine: rejoice, and drop the sentence about it from the documentation. The second is about this library, against
the exact answer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsoftmax
from tests import inputs, oracle, tolerance

INT = "softmax_cross_entropy_with_integer_labels"
ours_int = jsoftmax.softmax_cross_entropy_with_integer_labels
optax_int = optax.losses.softmax_cross_entropy_with_integer_labels
NEG = -np.inf


@pytest.fixture(autouse=True)
def promotion():
    """The peers are written for JAX's default."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def mended(issue):
    return f"{issue}: the peer is right now; the canary has done its work"


def check_ours(actual, expected, bound, what):
    tolerance.check(actual, np.asarray(expected, np.float64), actual.dtype, bound, what, gap=88.0)


def pulled(f, x, g):
    y, pull = jax.vjp(f, x)
    return pull(jnp.asarray(g, y.dtype))[0]


def test_gradient_of_logsumexp_of_nothing():
    """jax#6811."""
    x = jnp.full((2, 3), NEG)
    summed = {f: jax.grad(lambda x, f=f: f(x, axis=-1).sum())(x) for f in (jax.nn.logsumexp, jsoftmax.logsumexp)}
    assert np.isnan(summed[jax.nn.logsumexp]).all(), mended("jax#6811")
    assert not summed[jsoftmax.logsumexp].any()
    assert (jsoftmax.logsumexp(x) == NEG).all()


# A product with a scale that is no power of two is fused with the subtraction of the peak, and rounds only once there.
SCALED = [(c, size) for c in (1 / 3, 0.1, 1.1) for size in (1e10, 1e20, 1e30)]


def test_softmax_of_scaled_logits_under_jit():
    """jax#37234: NaN for finite logits as soon as the scale is fused with the softmax. One row, three classes."""
    peers, x = [], np.array([[-0.9, 0.4, 1.3]], np.float32)
    for c, size in SCALED:
        row = x * np.float32(size)
        peer = jax.jit(lambda x, c=c: jax.nn.softmax(c * x))(row)
        peers.append(np.isnan(peer).any())
        assert not np.isnan(jax.nn.softmax(c * jnp.asarray(row))).any()  # eager is right
        p = jax.jit(lambda x, c=c: jsoftmax.softmax(x, beta=c))(row)
        check_ours(p, oracle.softmax(row, beta=np.float32(c)), tolerance.VALUE["softmax"], f"{c} · {size}")
    assert any(peers), mended("jax#37234")


def test_attention_weights_under_jit():
    """jax#38609: the same with the product of two matrices and a scale in front; whole numbers, so scores are exact."""
    scale, peers = 1 / np.sqrt(3), []
    peer = jax.jit(lambda q, k: jax.nn.softmax((q @ k.T) * scale, axis=-1))
    ours = jax.jit(lambda q, k: jsoftmax.softmax(q @ k.T, beta=scale))
    for seed in range(4):
        q, k = (np.ldexp(np.round(9 * inputs.cotangent((n, 3), seed + n)), 32).astype(np.float32) for n in (1, 4))
        peers.append(np.isnan(peer(q, k)).any())
        expected = oracle.softmax(np.float64(q) @ np.float64(k).T, beta=np.float32(scale))
        check_ours(ours(q, k), expected, tolerance.VALUE["softmax"], "attention")
    assert any(peers), mended("jax#38609")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_softmax_in_a_confident_row(dtype):
    """jax#40344: the gradient at the peak, −Σ of the others, comes out as 0."""
    with jax.enable_x64(dtype == "float64"):
        x, g = jnp.asarray([40.0, 0.0], dtype), np.array([1.0, 0.3])
        assert pulled(jax.nn.softmax, x, g)[0] == 0, mended("jax#40344")
        expected = oracle.softmax_vjp(g.astype(dtype), np.asarray(x))["x"]
        assert abs(expected[0]) > 2e-18
        check_ours(pulled(jsoftmax.softmax, x, g), expected, tolerance.COTANGENT["x"], "x_bar")


def test_gradient_of_log_softmax_in_a_confident_row():
    """jax#40384, in float64; and the loss with it."""
    with jax.enable_x64(True):
        x, g = jnp.asarray([37.42994775023705, 0.0], np.float64), np.array([1.0, 0.0])
        assert pulled(jax.nn.log_softmax, x, g)[0] == 0, mended("jax#40384")
        expected = oracle.log_softmax_vjp(g, np.asarray(x))["x"]
        check_ours(pulled(jsoftmax.log_softmax, x, g), expected, tolerance.COTANGENT["x"], "x_bar")
        assert jax.nn.log_softmax(x)[0] == 0, mended("jax#40384")
        check_ours(jsoftmax.log_softmax(x), oracle.log_softmax(np.asarray(x)), tolerance.VALUE["log_softmax"], "value")


def test_loss_of_a_confident_row():
    """[0, −20], label 0: the loss 2.06e-9 is a float32 number, and so is the gradient at the label."""
    x, y = jnp.asarray([[0.0, -20.0]]), np.array([0])
    assert optax_int(x, y)[0] == 0 and pulled(lambda x: optax_int(x, y), x, [1.0])[0, 0] == 0, mended("optax")
    check_ours(ours_int(x, y), oracle.softmax_cross_entropy_with_integer_labels(x, y), tolerance.VALUE[INT], "loss")
    expected = oracle.softmax_cross_entropy_with_integer_labels_vjp([1.0], np.asarray(x), y)["logits"]
    check_ours(pulled(lambda x: ours_int(x, y), x, [1.0]), expected, tolerance.COTANGENT["x"], "logits_bar")


def test_more_classes_than_float16_can_count():
    """jax#40409: 70 000 equal classes. All numbers are exact: log n, 1/n, and gradients of sums that cancel to 0."""
    n = 70_000
    x, log_n = jnp.zeros(n, jnp.float16), np.log(n)
    assert np.isinf(jax.nn.logsumexp(x)) and np.isinf(jax.nn.log_softmax(x)).all(), mended("jax#40409")
    assert not jax.nn.softmax(x).any(), mended("jax#40409")
    check_ours(jsoftmax.logsumexp(x), log_n, tolerance.VALUE["logsumexp"], "logsumexp")
    check_ours(jsoftmax.log_softmax(x), np.full(n, -log_n), tolerance.VALUE["log_softmax"], "log_softmax")
    check_ours(jsoftmax.softmax(x), np.full(n, 1 / n), tolerance.VALUE["softmax"], "softmax")
    check_ours(jax.grad(jsoftmax.logsumexp)(x), np.full(n, 1 / n), tolerance.COTANGENT["x"], "gradient")


@pytest.mark.parametrize("label", [-1, -4])
def test_a_negative_label_counts_from_the_end(label):
    """optax takes −1 for the last class, silently."""
    x, y = inputs.cotangent((1, 4), 2).astype(np.float32), np.array([label])
    assert np.allclose(optax_int(x, y), optax_int(x, y % 4), rtol=0, atol=0), mended("optax")
    assert np.isnan(ours_int(x, y)).all()
    assert np.isnan(pulled(lambda x: ours_int(x, y), jnp.asarray(x), [1.0])).all()


@pytest.mark.parametrize("label", [4, 100, -5, -100])
def test_a_label_that_is_no_class_has_a_plausible_gradient(label):
    """optax gives NaN for the loss, which a training step never looks at, and p for the gradient, which it applies."""
    x, y = jnp.asarray(inputs.cotangent((1, 4), 2), jnp.float32), np.array([label])
    gradient = pulled(lambda x: optax_int(x, y), x, [1.0])
    assert np.isnan(optax_int(x, y)).all() and np.isfinite(gradient).all(), mended("optax")
    assert np.isnan(ours_int(x, y)).all()
    assert np.isnan(pulled(lambda x: ours_int(x, y), x, [1.0])).all()


def test_a_label_under_the_mask_has_a_negative_loss():
    """optax leaves the label's logit in and its exponential out: a probability above 1."""
    x, where = jnp.asarray([[1.0, 5.0, 2.0]]), np.array([[True, False, True]])
    assert optax_int(x, np.array([1]), -1, where)[0] < 0, mended("optax")
    assert ours_int(x, np.array([1]), -1, where)[0] == np.inf


def test_mass_zero_on_an_absent_class():
    """optax#896: 0 · −inf."""
    x, q = jnp.asarray([[1.0, NEG, 2.0]]), jnp.asarray([[1.0, 0.0, 0.0]])
    assert np.isnan(optax.losses.softmax_cross_entropy(x, q)).all(), mended("optax#896")
    expected = oracle.softmax_cross_entropy(np.asarray(x), np.asarray(q))
    check_ours(jsoftmax.softmax_cross_entropy(x, q), expected, tolerance.VALUE["softmax_cross_entropy"], "loss")


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_in_bfloat16(name):
    """jax.nn multiplies, subtracts and adds in bfloat16 in its derivative, and rounds every time."""
    x = jnp.asarray(inputs.cotangent((2, 301), 3), jnp.bfloat16)
    g = np.asarray(jnp.asarray(inputs.cotangent((2, 301), 4), jnp.bfloat16))
    expected = getattr(oracle, f"{name}_vjp")(g, np.asarray(x))["x"]
    scale = np.abs(expected).max(-1, keepdims=True)

    def check(x_bar, what):
        tolerance.check(x_bar, expected, x.dtype, tolerance.COTANGENT["x"], what, scale=scale, gap=8.0)

    with pytest.raises(AssertionError, match="beyond their bound"):
        check(pulled(getattr(jax.nn, name), x, g), "jax.nn: if it is within the bound, the canary has done its work")
    check(pulled(getattr(jsoftmax, name), x, g), name)


def test_gradient_of_beta_beside_an_absent_class():
    """β outside the operator: −inf · dβ, with a mask or without."""
    x, where, beta = jnp.asarray([1.0, NEG, 2.0]), np.array([True, False, True]), jnp.float32(0.7)
    for mask in (None, where):
        peer = jax.grad(lambda b, m=mask: jax.nn.softmax(b * x, where=m)[0])(beta)
        assert np.isnan(peer), mended("jax.nn.softmax(β x)")
        ours = jax.grad(lambda b, m=mask: jsoftmax.softmax(x, where=m, beta=b)[0])(beta)
        expected = oracle.softmax_vjp([1.0, 0.0, 0.0], np.asarray(x), where=mask, beta=np.asarray(beta))["beta"]
        check_ours(ours, expected, tolerance.COTANGENT["beta"], "beta_bar")
