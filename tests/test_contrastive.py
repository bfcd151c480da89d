"""The contrastive cross-entropy beside its definition in float64: both directions, masks, own documents, devices."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from tests import tolerance, verify
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
N, M, D = 6, 9, 4
loss = jsoftmax.contrastive_cross_entropy
VALUE, GRADIENT = tolerance.Bound(64, 2), tolerance.Bound(256, 4)
P = PartitionSpec("data")


def problem(m=M, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, D)).astype(dtype), rng.standard_normal((m, D)).astype(dtype)


def exact(q, d, beta, where=True):
    """[N], of documents [M, D] or [N, M, D]."""
    q, d = np.float64(q), np.float64(d) if np.ndim(d) == 3 else np.broadcast_to(np.float64(d), (len(q), *d.shape))
    cosines = (d @ q[..., None])[..., 0] / np.linalg.norm(q, axis=-1)[:, None] / np.linalg.norm(d, axis=-1)
    z = np.where(where, np.reshape(beta, (-1, 1)) * cosines, -np.inf)
    at = np.arange(len(q)) if np.ndim(where) == 2 and where.shape[1] == N else None
    return z, at


def losses(z, at):
    peak = z.max(1, keepdims=True)
    return np.log(np.exp(z - peak).sum(1)) + peak[:, 0] - z[np.arange(len(z)), at]


def check(found, expected, what):
    tolerance.check(found, np.asarray(expected), np.float32, VALUE, what, scale=np.abs(expected).max() + 8)


OF_EACH = slow(np.linspace(1, 30, N))


@pytest.mark.parametrize("beta", [1.0, 20.0, -3.0, 0.0, OF_EACH], ids=["1", "20", "-3", "0", "of each"])
def test_its_own_document_among_all(beta):
    q, d = problem()
    z, _ = exact(q, d, beta)
    check(loss(q, d, beta=beta), losses(z, np.arange(N)), "all")
    check(loss(q, d, beta=beta, block_size=(4, 5)), losses(z, np.arange(N)), "blocks")
    assert np.array_equal(
        loss(q, d, beta=np.inf), np.where(np.argmax(exact(q, d, 1.0)[0], 1) == np.arange(N), 0, np.inf)
    )


def test_masks_and_documents_of_each_query():
    q, d = problem()
    where = np.random.default_rng(1).random((N, M)) < 0.6
    where[np.arange(N), np.arange(N)] = np.arange(N) != 2
    z, _ = exact(q, d, 5.0, where)
    with np.errstate(divide="ignore"):
        expected = losses(z, np.arange(N))
    found = np.asarray(loss(q, d, beta=5.0, where=where))
    assert found[2] == np.inf
    check(np.delete(found, 2), np.delete(expected, 2), "mask")
    own = np.random.default_rng(2).standard_normal((N, 5, D)).astype(np.float32)
    z, _ = exact(q, own, 5.0)
    check(loss(q, own, beta=5.0), losses(z, np.zeros(N, int)), "own")
    z, _ = exact(q, own, 5.0, np.arange(5) < 3)
    check(loss(q, own, beta=5.0, where=np.arange(5)[None] < 3), losses(z, np.zeros(N, int)), "own, masked")


def value_and_bars(f, *given):
    return jax.jit(jax.value_and_grad(f, tuple(range(len(given)))))(*given)


@pytest.mark.parametrize("reduction", [slow("sum"), "mean"])
def test_both_ways(reduction):
    """With a learned β; with a mask the same by another way, and weights that leave out a query."""
    q, d = problem(N)
    w = np.array([1, 0, 2, 1, 0.5, 1], np.float32)
    b = np.float32(7)
    both = functools.partial(loss, symmetric=True, weights=w, reduction=reduction)
    z, _ = exact(q, d, 7.0)
    of_each = (losses(z, np.arange(N)) + losses(z.T, np.arange(N))) / 2
    check(loss(q, d, beta=7.0, symmetric=True), of_each, "each")
    found = value_and_bars(lambda q, d, b: both(q, d, beta=b), q, d, b)
    check(found[0], (w * of_each).sum() / (w.sum() if reduction == "mean" else 1), reduction)
    kept = np.ones((N, N), bool)
    verify.assert_same(value_and_bars(lambda q, d, b: both(q, d, beta=b, where=kept), q, d, b), found, GRADIENT, "mask")

    def plain(q, d, b):
        z = b * (q / jnp.linalg.norm(q, axis=1, keepdims=True)) @ (d / jnp.linalg.norm(d, axis=1, keepdims=True)).T
        each = -(jnp.diag(jax.nn.log_softmax(z, 1)) + jnp.diag(jax.nn.log_softmax(z, 0))) / 2
        return jnp.sum(w * each) / (w.sum() if reduction == "mean" else 1)

    verify.assert_same(found, value_and_bars(plain, q, d, b), GRADIENT, "autodiff")


@pytest.mark.parametrize("masked", [False, slow(True)])
@pytest.mark.parametrize("symmetric", [True, slow(False)])
@pytest.mark.parametrize("check_vma", [True, slow(False)])
def test_documents_of_all_devices(symmetric, masked, check_vma):
    q, d = problem(N)
    where = (np.random.default_rng(1).random((N, N)) < 0.7) | np.eye(N, dtype=bool) if masked else None
    mesh = jax.make_mesh((3,), ("data",), axis_types=(AxisType.Auto,))
    f = functools.partial(loss, symmetric=symmetric)
    own = lambda q, d, b, *w: f(q, d, beta=b, where=w[0] if w else None, axis_name="data")  # noqa: E731
    masks = (where,) if masked else ()
    specs = (P, P, PartitionSpec(), *(P for _ in masks))
    spread = jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=P, check_vma=check_vma)
    g = np.linspace(0.5, 1.5, N).astype(np.float32)
    found = value_and_bars(lambda q, d, b: jnp.vdot(g, spread(q, d, b, *masks)), q, d, np.float32(5))
    whole = value_and_bars(lambda q, d, b: jnp.vdot(g, f(q, d, beta=b, where=where)), q, d, np.float32(5))
    verify.assert_same(found, whole, GRADIENT, "devices")


def test_no_length_and_no_number():
    q, d = problem()
    q[0], q[1], d[2] = 0, np.nan, 0
    g = np.where(np.arange(N) == 1, 0, 1).astype(np.float32)
    f = lambda q, d: loss(q, d, beta=5.0)  # noqa: E731
    value, (q_bar, d_bar) = jax.jit(lambda *a: (f(*a), jax.vjp(f, *a)[1](g)))(q, d)
    assert np.isnan(np.asarray(value)[1]) and np.isfinite(np.delete(value, 1)).all()
    tolerance.check(value[0], np.log(np.float64(M)), np.float32, VALUE, "zero")
    assert np.isfinite(q_bar).all() and np.isfinite(d_bar).all() and np.all(q_bar[:2] == 0) and np.all(d_bar[2] == 0)


def test_half_precision_and_vmap():
    q, d = problem(dtype=ml_dtypes.bfloat16)
    expected = loss(q.astype(np.float32), d.astype(np.float32), beta=20.0)
    check(loss(q, d, beta=20.0), np.float64(expected), "bfloat16")
    batched = jax.vmap(lambda q, b: loss(q, d.astype(np.float32), beta=b))
    many = batched(jnp.stack([q, -q]).astype(jnp.float32), jnp.array([20.0, 3.0]))
    check(many[0], np.float64(expected), "vmap")
    total = lambda b: loss(q, d, beta=b).sum()  # noqa: E731
    with jsoftmax.forward_mode():
        moved = jax.jit(lambda b: jax.jvp(total, (b,), (1.0,))[1])(5.0)
    check(moved, np.float64(jax.jit(jax.grad(total))(5.0)), "slope in β")
