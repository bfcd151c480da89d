"""Training of restricted Boltzmann machines on binary images, and what is measured of one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._digits import load_digits
from jsoftmax import (
    rbm_contrastive_divergence,
    rbm_free_energy,
    rbm_gibbs,
    rbm_hidden_probability,
    rbm_log_partition,
    rbm_pseudo_log_likelihood,
    rbm_visible_probability,
)

EXACT = 16  # hidden units up to which log Z is worth its time here


class Method(NamedTuple):
    """How samples and steps are made."""

    steps: int  # of Gibbs sampling
    goes_on: bool  # chains are persistent
    constant: bool = False  # a constant learning rate, and as many chains as images of a batch: as scikit-learn has it


METHODS = {
    "CD-1": Method(1, False),
    "CD-10": Method(10, False),
    "PCD": Method(1, True),
    "PCD, constant rate": Method(1, True, True),
}


class Machine(NamedTuple):
    """Parameters, in the order in which the operators take them."""

    weight: jax.Array
    visible_bias: jax.Array
    hidden_bias: jax.Array


def binary_digits(seed):
    """(training, held-out) images [N, 64] of 0 and 1: 8×8 digits, a pixel on from half of its range on."""
    digits = load_digits(seed)
    return [np.float32(images >= 0.5) for images in (digits.train_images, digits.test_images)]


def initial(images, hidden, seed):
    """Small weights, and biases that the pixels have by themselves."""
    share = np.clip(images.mean(0), 0.01, 0.99)
    weight = 0.01 * np.random.default_rng(seed).standard_normal((images.shape[1], hidden))
    return Machine(*map(jnp.float32, (weight, np.log(share / (1 - share)), np.zeros(hidden))))


def alone(images):
    """A machine without hidden units: the likelihood of independent pixels."""
    return initial(images, 0, 0)


def train(config, images, hidden, method, rate, seed):
    """Yields (epoch, machine), the first before any step."""
    how, machine = METHODS[method], initial(images, hidden, seed)
    rng, batches = np.random.default_rng(seed), len(images) // config.batch
    count = config.batch if how.constant else config.chains
    optimiser, epoch = epoch_of(how, rate, config.epochs * batches)
    state, chains = optimiser.init(machine), np.float32(rng.integers(0, 2, (count, images.shape[1])))
    yield 0, machine
    for number in range(1, config.epochs + 1):
        order = rng.permutation(len(images))[: batches * config.batch].reshape(batches, config.batch)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), batches)
        machine, state, chains = epoch(machine, state, chains, images[order], keys)
        yield number, machine


@functools.lru_cache(1)  # of the last method alone
def epoch_of(how, rate, count):
    """(optimiser, (machine, its state, chains, batches, keys) → the first three after an epoch)."""
    optimiser = optax.sgd(rate if how.constant else optax.linear_schedule(rate, 0.0, count))

    def step(carried, given):
        (machine, state, chains), (batch, key) = carried, given

        def loss(machine):
            start = chains if how.goes_on else None
            return rbm_contrastive_divergence(key, batch, *machine, steps=how.steps, chains=start)

        gradient, samples = jax.grad(loss, has_aux=True)(machine)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(machine, updates), state, samples if how.goes_on else chains), None

    @jax.jit
    def epoch(machine, state, chains, batches, keys):
        return jax.lax.scan(step, (machine, state, chains), (batches, keys))[0]

    return optimiser, epoch


@jax.jit
def _measures(machine, training, held_out):
    free = [rbm_free_energy(v, *machine) for v in (training, held_out)]
    pseudo = [rbm_pseudo_log_likelihood(None, v, *machine) for v in (training, held_out)]
    wrong = [jnp.sum(jnp.square(reconstructed(machine, v) - v), -1) for v in (training, held_out)]
    return free, pseudo, wrong


_log_partition = jax.jit(rbm_log_partition)


def measured(machine, training, held_out):
    """Means over images, in nats: free-energy gap, pseudo-likelihoods, squared errors; of few units likelihoods too."""
    free, pseudo, wrong = _measures(machine, training, held_out)
    found = {
        "free_energy_gap": np.mean(free[1]) - np.mean(free[0]),
        "pseudo": [np.mean(p) for p in pseudo],
        "reconstruction": [np.mean(e) for e in wrong],
    }
    if machine.weight.shape[1] <= EXACT:
        each = [-f - _log_partition(*machine) for f in free]
        found["likelihood"] = [np.mean(p) for p in each]
        found["standard_error"] = np.std(each[1]) / np.sqrt(len(each[1]))
    return found


def reconstructed(machine, images):
    """Visible probabilities given hidden ones given the images."""
    hidden = rbm_hidden_probability(images, machine.weight, machine.hidden_bias)
    return rbm_visible_probability(hidden, machine.weight, machine.visible_bias)


def by_scikit_learn(config, images, hidden, rate, seed):
    """Its BernoulliRBM of the same size: persistent chains, a constant rate, as many epochs of as large batches."""
    from sklearn.neural_network import BernoulliRBM

    made = BernoulliRBM(
        hidden, learning_rate=rate, batch_size=config.batch, n_iter=config.epochs, random_state=seed
    ).fit(images)
    return Machine(*map(jnp.float32, (made.components_.T, made.intercept_visible_, made.intercept_hidden_)))


def sampled(machine, start, temperatures, steps, seed):
    """Visible probabilities [T, N, V] after `steps` of Gibbs sampling from the images `start` [N, V]."""
    temperatures = np.float32(temperatures)
    chains = jnp.broadcast_to(start, (len(temperatures), *start.shape))
    run = jax.jit(functools.partial(rbm_gibbs, steps=steps))
    return run(jax.random.key(seed), chains, *machine, temperature=temperatures[:, None])[1]


@jax.jit
def thermodynamics(machine, beta):
    """(log Z, mean energy, entropy, heat capacity) at each β, from log Z and its two derivatives."""

    def at(beta):
        log_z, slope = jax.value_and_grad(lambda b: rbm_log_partition(*machine, beta=b))(beta)
        curvature = jax.grad(jax.grad(lambda b: rbm_log_partition(*machine, beta=b)))(beta)
        return log_z, -slope, log_z - beta * slope, beta**2 * curvature

    return jax.lax.map(at, beta)
