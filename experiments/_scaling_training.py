"""A classifier of the digits that sees them only through one layer of attention, with its scores scaled or as they are.

An image is 16 tokens of 2×2 pixels. At the start every entry of queries and keys has variance 1, as in the random case.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._digits import load_digits
from experiments._sweep import jacobian_norm
from jsoftmax import dot_product_attention, softmax, softmax_cross_entropy_with_integer_labels

WATCHED = 64  # test images whose attention is measured


class Patches(NamedTuple):
    """Images [N, 16, 4] with mean 0 and variance 1 over all of them; labels [N]."""

    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray


def load(seed):
    digits = load_digits(seed)
    mean, deviation = digits.train_images.mean(), digits.train_images.std()

    def cut(images):
        images = ((images - mean) / deviation).reshape(-1, 4, 2, 4, 2)
        return images.transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4)

    return Patches(cut(digits.train_images), cut(digits.test_images), digits.train_labels, digits.test_labels)


def initial(rng, width, dimension):
    """Of a network with queries, keys and values of `dimension`."""
    shapes = {"embed": (4, width), "place": (16, width)}
    shapes |= {name: (width, dimension) for name in ("query", "key", "value")}
    fan = {"embed": 4, "place": 1}
    parameters = {k: rng.standard_normal(s) * fan.get(k, width) ** -0.5 for k, s in shapes.items()}
    return {k: a.astype(np.float32) for k, a in parameters.items()} | {"readout": np.zeros((dimension, 10), np.float32)}


def heads(parameters, images):
    """(query, key, value), each [N, 16, 1, d]: one head."""
    tokens = _normed(images @ parameters["embed"] + parameters["place"][None])
    return [(tokens @ parameters[name])[:, :, None] for name in ("query", "key", "value")]


def scores(parameters, images):
    """Products q·k [N, 16, 16]."""
    query, key, _ = heads(parameters, images)
    return jnp.einsum("ntod,nsod->nts", query, key)


def logits(parameters, images, beta):
    return dot_product_attention(*heads(parameters, images), beta=beta).mean((1, 2)) @ parameters["readout"]


def _normed(x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


class Course(NamedTuple):
    """Of each seed, [seeds, …]."""

    loss: np.ndarray  # mean of each chunk of steps
    pull: np.ndarray  # norm of the gradient in the matrices of queries and keys, likewise
    watched: dict[str, np.ndarray]  # at the start and after every chunk


def train(patches, config, dimension, beta, rate):
    """A `Course` under Adam: the same starts and batches for each scaling."""
    beta, rate, rng = np.float32(beta), np.float32(rate), np.random.default_rng(config.seed)
    starts = [initial(rng, config.width, dimension) for _ in range(config.seeds)]
    parameters = jax.tree.map(lambda *a: np.stack(a), *starts)
    state = jax.jit(jax.vmap(_OPTIMISER.init))(parameters)
    seen, test = (patches.train_images, patches.train_labels), (patches.test_images, patches.test_labels)
    found, watched = [], [_watch(parameters, *test, beta)]
    for _ in range(config.steps // config.every):
        some = rng.integers(len(patches.train_labels), size=(config.seeds, config.every, config.batch))
        parameters, state, *new = _chunk(parameters, state, *seen, some.astype(np.int32), beta, rate)
        found.append(new)
        watched.append(_watch(parameters, *test, beta))
    loss, pull = (np.stack(part, 1) for part in zip(*found, strict=True))
    return Course(loss, pull, {name: np.stack([w[name] for w in watched], 1) for name in watched[0]})


_OPTIMISER = optax.scale_by_adam()


@jax.jit
def _chunk(parameters, state, images, labels, some, beta, rate):
    """(parameters, state, mean loss, mean pull) of each seed after some steps."""

    def loss(parameters, some):
        losses = softmax_cross_entropy_with_integer_labels(logits(parameters, images[some], beta), labels[some])
        return losses.mean()

    def step(carry, some):
        parameters, state = carry
        value, gradient = jax.value_and_grad(loss)(parameters, some)
        updates, state = _OPTIMISER.update(gradient, state)
        pull = jnp.sqrt(sum(jnp.sum(gradient[name] ** 2) for name in ("query", "key")))
        return (jax.tree.map(lambda p, u: p - rate * u, parameters, updates), state), (value, pull)

    def of_seed(parameters, state, some):
        (parameters, state), (value, pull) = jax.lax.scan(step, (parameters, state), some)
        return parameters, state, value.mean(), pull.mean()

    return jax.vmap(of_seed)(parameters, state, some)


@jax.jit
def _watch(parameters, images, labels, beta):
    def of_seed(parameters):
        products = scores(parameters, images[:WATCHED])
        norm = jacobian_norm(products * beta, 1.0)
        return {
            "gradient_mean": norm.mean(),
            "gradient_median": jnp.median(norm),
            "largest_weight": softmax(products, beta=beta).max(-1).mean(),
            "accuracy": jnp.mean(jnp.argmax(logits(parameters, images, beta), -1) == labels),
        }

    return jax.vmap(of_seed)(parameters)
