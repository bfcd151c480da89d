"""What associative memories are asked for: patterns of ±1, spoilt copies of them, and how well they come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jsoftmax
from experiments._mnist import load_mnist

UNITS = 784  # pixels of a digit, and as many in random patterns


def digits():
    """All 5000 images as ±1, int8 [5000, 784], in an order in which the ten classes take turns."""
    training, test = load_mnist()
    images = np.concatenate([training.images, test.images]).reshape(-1, UNITS)
    labels = np.concatenate([training.labels, test.labels])
    within = np.empty(len(labels), int)
    for label in np.unique(labels):
        within[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.where(images[np.lexsort((labels, within))] > 0.5, np.int8(1), np.int8(-1))


def random_patterns(rng, count):
    return rng.choice(np.array([-1, 1], np.int8), (count, UNITS))


def spoilt(patterns, how, share, rng):
    """Copies of ±1: of each pixel the sign turned with this probability, or the lower part unknown, which is 0."""
    if how == "masked":
        return np.where(np.arange(UNITS) < round((1 - share) * UNITS), patterns, np.int8(0))
    return np.where(rng.random(patterns.shape) < share, -patterns, patterns)


def right(found, stored):
    """Share of pixels with the right sign, of each image."""
    return np.mean(np.sign(found) == stored, -1)


# classic -----------------------------------------------------------------------------------------------------------


def network(patterns, centred):
    """Weights and threshold; centred the mean image is taken off first, from what is shown later as well."""
    if not centred:
        return jsoftmax.hopfield_weights(patterns), jnp.zeros(UNITS)
    mean = jnp.mean(jnp.float32(patterns), 0)
    weights = jsoftmax.hopfield_weights(jnp.float32(patterns) - mean)
    return weights, weights @ mean


def remembered(patterns, cues, centred, sweeps):
    weights, threshold = network(patterns, centred)
    found = jsoftmax.hopfield_retrieve(cues, weights, threshold=threshold, max_sweeps=sweeps)
    return np.asarray(found.state), np.asarray(found.settled)


def classic_course(patterns, cues, sweeps):
    """Energies [sweeps + 1, N] by whole numbers in float64: exact but for their last division."""
    with jax.enable_x64(True):
        weights = jnp.round(jsoftmax.hopfield_weights(np.float64(patterns)) * UNITS)
        states = [np.float64(cues)]
        for _ in range(sweeps):
            states.append(jsoftmax.hopfield_update(states[-1], weights))
        return np.stack([np.asarray(jsoftmax.hopfield_energy(s, weights)) for s in states]) / UNITS


# modern ------------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=3)
def attended(cues, patterns, beta, steps):
    """(Retrieved state, entropy of the weights that it is a mean with)."""
    before = cues
    if steps is None:
        before = jsoftmax.modern_hopfield_retrieve(cues, patterns, beta=beta, steps=None)
    log_p = jsoftmax.log_softmax(before @ patterns.T, beta=beta)
    p = jnp.exp(log_p)
    entropy = -jnp.sum(jnp.where(p > 0, p * log_p, 0), -1)
    return jsoftmax.modern_hopfield_retrieve(before, patterns, beta=beta), entropy


def modern_course(patterns, cues, beta, steps):
    """Energies [steps + 1, N]."""
    step = jax.jit(lambda s: jsoftmax.modern_hopfield_retrieve(s, patterns, beta=beta))
    energy = jax.jit(lambda s: jsoftmax.modern_hopfield_energy(s, patterns, beta=beta))
    states = [cues]
    for _ in range(steps):
        states.append(step(states[-1]))
    return np.stack([np.asarray(energy(s)) for s in states])
