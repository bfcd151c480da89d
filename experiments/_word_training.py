"""Training of word vectors under one output layer or another; the same pairs in the same order for each."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

# a gradient of the mean over a batch is small: from optax's 0.1 on Adagrad would hardly move
ACCUMULATOR = 1e-6


class Judged(NamedTuple):
    """What is said of the held-out pairs, exactly: over all classes."""

    step: int
    seconds: float  # of training, without compilation and judging
    nll: float  # normalised over all classes
    as_it_is: float | None  # the same if scores are taken for log-probabilities
    log_z: dict[str, float] | None  # of the scores of a held-out pair: mean, standard deviation and percentiles


class Run(NamedTuple):
    """What a training leaves."""

    held_out: list[Judged]
    mass_error: float | None  # the largest |Σ p − 1| in the end
    parameters: tuple[Any, Any]  # vectors of the words as inputs [V, D], the output layer


def train(config, words, method, name):
    """A `Run` of the method `name`."""
    rng, classes = np.random.default_rng(config.seed), len(words.names)
    vectors = jnp.asarray(rng.uniform(-1, 1, (classes, config.width)) / config.width, jnp.float32)
    layer_key, key = jax.random.split(jax.random.key(config.seed))
    parameters = vectors, method.initial(layer_key)
    optimiser, steps = steps_of(method.loss, config.learning_rate)
    carry = parameters, optimiser.init(parameters)
    batches = batches_of(words.training, config, rng)
    keys = jax.random.split(key, batches.shape[:2])
    jax.block_until_ready(steps(carry, batches[0], keys[0]))  # compiles
    judge = Judge(method, words.held_out)
    held_out, seconds = [judge(parameters, 0, 0.0)[0]], 0.0
    with tqdm(total=batches[..., 0, 0].size, desc=f"training, {name}", unit="step", leave=False) as bar:
        for chunk, some in zip(batches, keys, strict=True):
            started = time.perf_counter()
            carry = jax.block_until_ready(steps(carry, chunk, some))
            seconds += time.perf_counter() - started
            bar.update(len(chunk))
            judged, mass_error = judge(carry[0], bar.n, seconds)
            held_out.append(judged)
            bar.set_postfix_str(f"held-out loss {judged.nll:.3f}", refresh=False)
    return Run(held_out, mass_error, carry[0])


@functools.lru_cache
def steps_of(loss, learning_rate):
    """(optimiser, (parameters and state, batches, keys) → parameters and state)."""
    optimiser = optax.adagrad(learning_rate, initial_accumulator_value=ACCUMULATOR)

    def value(parameters, pairs, key):
        vectors, layer = parameters
        return jnp.mean(loss(layer, inputs_of(vectors[pairs[:, 0]]), pairs[:, 1], key))

    def step(carry, given):
        parameters, state = carry
        gradient = jax.grad(value)(parameters, *given)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    return optimiser, jax.jit(lambda carry, batches, keys: jax.lax.scan(step, carry, (batches, keys))[0])


def inputs_of(vectors):
    return jnp.pad(vectors, ((0, 0), (0, 1)), constant_values=1)


def batches_of(pairs, config, rng):
    """Pairs [evaluations, steps between, batch, 2], epoch after epoch."""
    each = config.steps // config.evaluations
    wanted = config.evaluations * each * config.batch
    epochs = [rng.permutation(len(pairs)) for _ in range(-(-wanted // len(pairs)))]
    return pairs[np.concatenate(epochs)[:wanted]].reshape(config.evaluations, each, config.batch, 2)


class Judge:
    """Scores of all classes for each word that is held out, in a program; all else here, in float64."""

    def __init__(self, method, pairs):
        self.free, self.labels = method.free, pairs[:, 1]
        present, self.rows = np.unique(pairs[:, 0], return_inverse=True)
        self.scores = jax.jit(lambda parameters: method.scores(parameters[1], inputs_of(parameters[0][present])))

    def __call__(self, parameters, step, seconds):
        """(`Judged`, the largest |Σ p − 1|)."""
        scores = np.asarray(self.scores(parameters), np.float64)
        peak = scores.max(1)
        log_z = peak + np.log(np.exp(scores - peak[:, None]).sum(1))
        at_labels, each = scores[self.rows, self.labels], log_z[self.rows]
        nll = np.mean(each - at_labels)
        if self.free:
            return Judged(step, seconds, nll, None, None), None
        low, high = np.percentile(each, (5, 95))
        spread = {"mean": each.mean(), "deviation": each.std(), "p5": low, "p95": high}
        return Judged(step, seconds, nll, -at_labels.mean(), spread), np.abs(np.expm1(log_z)).max()
