"""What associative memories are asked for: patterns of ±1, spoilt copies of them, and how well they come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jsoftmax
from experiments._mnist import load_mnist

UNITS = 784  # pixels of a digit, and as many in random patterns
WEAK = 0.01  # field of the mean image: a pixel that is the same in all patterns has no other


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


def remembered(patterns, cues, centred, sweeps):
    """(States, whether they have settled). Centred: of what differs from the mean image, which decides where nothing
    else does, and stands for what is not known."""
    if centred:
        mean = np.mean(np.float32(patterns), 0)
        weights = jsoftmax.hopfield_weights(np.float32(patterns) - mean)
        threshold, cues = weights @ mean - WEAK * mean, np.where(cues == 0, mean, cues)
    else:
        weights, threshold = jsoftmax.hopfield_weights(patterns), None
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


@jax.jit
def _step(state, patterns, beta):
    """(Energy of a state, the next)."""
    energy = jsoftmax.modern_hopfield_energy(state, patterns, beta=beta)
    return energy, jsoftmax.modern_hopfield_retrieve(state, patterns, beta=beta)


def modern_course(patterns, cues, beta, steps):
    """Energies [steps + 1, N]."""
    energies, state = [], cues
    for _ in range(steps + 1):
        energy, state = _step(state, patterns, beta)
        energies.append(np.asarray(energy))
    return np.stack(energies)
