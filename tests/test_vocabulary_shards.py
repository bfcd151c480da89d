"""Losses of large vocabularies in `shard_map`, the batch spread over devices: as on one, also of shared parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from jsoftmax._ops import adaptive
from tests import tolerance
from tests.marks import slow

COMPILE_LIGHTLY = "fast lane"
D, V, N = 4, 12, 2 * (adaptive.TOKENS + 8)  # two blocks on each of two devices
ROWS = PartitionSpec("data")


def losses():
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    tree, groups = jsoftmax.huffman_tree(np.arange(1, V + 1)), jsoftmax.tree_from_paths([(w // 4, w) for w in range(V)])
    drawn = jsoftmax.Candidates(np.array([0, 5, 9]), np.zeros(V, np.float32))
    clusters = ((normal(2, D), normal(4, 2)), (normal(1, D), normal(5, 1)))
    path = jsoftmax.hierarchical_softmax_loss
    of_sample = lambda loss: lambda x, w, y: loss(x, w, y, drawn, class_axis=0)  # noqa: E731
    return {
        "tree": (lambda x, w, y: path(x, w, y, tree), normal(V - 1, D)),
        "groups": (lambda x, w, y: path(x, w, y, groups), normal(V + 3, D)),
        "log p": (lambda x, w, y: jsoftmax.hierarchical_log_prob(x, w, tree)[:, 3], normal(V - 1, D)),
        "adaptive": (jsoftmax.adaptive_softmax_loss, jsoftmax.AdaptiveWeights(normal(5, D), clusters, normal(5))),
        "sampled": (of_sample(jsoftmax.sampled_softmax_loss), normal(V, D)),
        "nce": (of_sample(jsoftmax.nce_loss), normal(V, D)),
    }


OTHERS = [slow(name) for name in ("groups", "nce")]  # of the same place as another


@pytest.mark.parametrize("name", ["tree", "log p", "adaptive", "sampled", *OTHERS])
def test_batches_spread_over_devices(name):
    f, weights = losses()[name]
    x = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    y = (np.arange(N) % V).astype(np.int32)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(f, mesh=mesh, in_specs=(ROWS, PartitionSpec(), ROWS), out_specs=ROWS)
    g = jnp.cos(jnp.arange(N, dtype=jnp.float32))
    run = lambda f: jax.jit(jax.value_and_grad(lambda x, w: jnp.vdot(g, f(x, w, y)), (0, 1)))  # noqa: E731
    found, wanted = (jax.tree.leaves(run(h)(x, weights)) for h in (spread, f))
    for a, e in zip(found, wanted, strict=True):
        scale = np.abs(e).max() + np.sqrt(N)
        tolerance.check(a, np.float64(e), np.float32, tolerance.Bound(32), name, scale=scale)
