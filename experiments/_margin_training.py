"""Training of embeddings and prototypes under one loss or another; the same digits in the same order for each."""

import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

from experiments import _margin_network as network


class Trained(NamedTuple):
    """What a training leaves."""

    layers: Any
    prototypes: Any  # [C, D]
    history: list[float]  # loss of each step
    seconds: float  # a step, median


def train(loss, digits, dimension, config, *, seed, steps, name, start=None):
    """A `Trained` of the loss `(embeddings, prototypes, labels, step)`; `start`: one to go on from."""
    rng = np.random.default_rng(seed)
    if start is None:
        layers = network.initial(rng, config.width, dimension)
        parameters = layers, spread(rng, int(digits.labels.max()) + 1, dimension)
    else:
        parameters = start.layers, start.prototypes
    optimiser, take = step_of(loss, config.learning_rate, steps)
    state, history, seconds = jax.jit(optimiser.init)(parameters), [], []
    with tqdm(range(steps), desc=f"training, {name}", unit="step", leave=False) as bar:
        for step in bar:
            some = rng.choice(len(digits.labels), min(config.batch, len(digits.labels)), replace=False)
            images = np.roll(digits.images[some], rng.integers(-config.shift, config.shift + 1, 2), (2, 3))
            started = time.perf_counter()
            parameters, state, value = take(parameters, state, images, digits.labels[some], step)
            history.append(float(value))
            seconds.append(time.perf_counter() - started)
            bar.set_postfix_str(f"loss {history[-1]:.4f}", refresh=False)
    return Trained(*parameters, history, float(np.median(seconds)))


@functools.lru_cache
def step_of(loss, learning_rate, steps):
    """(optimiser, (parameters, state, images, labels, step) → (parameters, state, loss))."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    @jax.jit
    def take(parameters, state, images, labels, step):
        of = lambda p: loss(network.embeddings(p[0], images), p[1], labels, step)  # noqa: E731
        value, gradient = jax.value_and_grad(of)(parameters)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, value

    return optimiser, take


def spread(rng, classes, dimension):
    """Unit prototypes [C, D] to start from; in a plane evenly around, none beside another."""
    if dimension == 2:
        angle = 2 * np.pi * rng.permutation(classes) / classes
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    w = rng.standard_normal((classes, dimension))
    return (w / np.linalg.norm(w, axis=1, keepdims=True)).astype(np.float32)


def embedded(trained, images):
    """Embeddings [N, D] as float64."""
    return np.asarray(_embeddings(trained.layers, images), np.float64)


_embeddings = jax.jit(network.embeddings)
