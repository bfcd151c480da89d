"""ArcFace's loss, mean over rows, beside the formula as it is usually written, under autodiff.

Each is a function of (embeddings, prototypes, labels), the classes on axis 0 of the prototypes. "one-hot" gives every
cosine a margin and picks with a one-hot mask; "gathered" gives one to that of the label alone, and writes it back. Both
clip the cosine, for the arc cosine has no slope at 1, and so give no gradient there.
"""

import jax
import jax.numpy as jnp
import optax

import jsoftmax
from experiments.benchmarks import linear
from experiments.benchmarks import programs as p

ARCFACE = "arcface_loss"
CASES = ((ARCFACE, ""),)
ONE_HOT, GATHERED = "one-hot", "gathered"
SCALE, MARGIN, EDGE = 64.0, 0.5, 1 - 1e-6


def ours(embeddings, prototypes, labels):
    return jsoftmax.arcface_loss(embeddings, prototypes, labels, scale=SCALE, margin=MARGIN, reduction="mean")


def cosines(embeddings, prototypes):
    unit = [a / jnp.linalg.norm(a, axis=1, keepdims=True) for a in (embeddings, prototypes)]
    return unit[0] @ unit[1].T


def with_margin(cosine):
    return jnp.cos(jnp.arccos(jnp.clip(cosine, -EDGE, EDGE)) + MARGIN)


def one_hot(embeddings, prototypes, labels):
    z = cosines(embeddings, prototypes)
    z = jnp.where(jax.nn.one_hot(labels, z.shape[1], dtype=bool), with_margin(z), z)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(SCALE * z, labels))


def gathered(embeddings, prototypes, labels):
    z = cosines(embeddings, prototypes)
    at = jnp.arange(z.shape[0]), labels
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(SCALE * z.at[at].set(with_margin(z[at])), labels))


FUNCTIONS = {p.OURS: ours, ONE_HOT: one_hot, GATHERED: gathered}


def programs(workload, dtype, cases):
    """Key → program: values, and values with the gradients in embeddings and prototypes."""
    embeddings, weight, labels = linear.arrays(workload.shape, dtype)
    taken = [embeddings, weight.T, labels]
    found = p.yardsticks(taken[1])
    found[p.Key(p.YARDSTICK, "", p.VALUE, p.MATMUL)] = p.compiled(linear.matmul, [embeddings, weight])
    for case in cases:
        for name, f in FUNCTIONS.items():
            found[p.Key(*case, p.VALUE, name)] = p.compiled(f, taken)
            found[p.Key(*case, p.GRADIENT, name)] = p.compiled(jax.value_and_grad(f, (0, 1)), taken)
    return found
