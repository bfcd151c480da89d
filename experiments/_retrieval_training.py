"""Training of a tower that embeds queries and documents, with β fixed or learned; the same batches for each."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jsoftmax import contrastive_cross_entropy, cosine_logits

LEARNED = 1 / 0.07  # where a learned β starts


class Trained(NamedTuple):
    """What a training leaves."""

    tower: Any  # [F, D]
    loss: list[float]  # of the batch, at each step
    beta: list[float]  # at each step, and in the end
    seconds: float  # a step, median


def train(config, pairs, beta, name):
    """A `Trained`; `beta` None: learned, as the exponential of a parameter."""
    rng = np.random.default_rng(config.seed)
    queries, documents = (side.features for side in pairs)
    tower = rng.standard_normal((queries.shape[1], config.dimension)).astype(np.float32)
    parameters = {"tower": tower, "log_beta": np.float32(np.log(LEARNED if beta is None else beta))}
    optimiser, take = step_of(config.learning_rate, config.steps)
    state, history, seconds, learned = jax.jit(optimiser.init)(parameters), [], [], np.float32(beta is None)
    course = [float(np.exp(parameters["log_beta"]))]
    with tqdm(range(config.steps), desc=f"training, {name}", unit="step", leave=False) as bar:
        for _ in bar:
            some = rng.choice(len(queries), config.batch, replace=False)
            batch = [thinned(side[some], config.kept, rng) for side in (queries, documents)]
            started = time.perf_counter()
            parameters, state, value = take(parameters, state, *batch, learned)
            history.append(float(value))
            seconds.append(time.perf_counter() - started)
            course.append(float(np.exp(parameters["log_beta"])))
            bar.set_postfix_str(f"loss {history[-1]:.3f}, β {course[-1]:.1f}", refresh=False)
    return Trained(parameters["tower"], history, course, float(np.median(seconds)))


def thinned(x, kept, rng):
    """Each feature stays with probability `kept`: a few hundred texts are learned by heart otherwise."""
    return x * (rng.random(x.shape, np.float32) < kept)


@functools.lru_cache
def step_of(learning_rate, steps):
    """(optimiser, (parameters, state, queries, documents, learned) → (parameters, state, loss))."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(parameters, queries, documents):
        q, d, beta = queries @ parameters["tower"], documents @ parameters["tower"], jnp.exp(parameters["log_beta"])
        return contrastive_cross_entropy(q, d, beta=beta, symmetric=True, reduction="mean")

    @jax.jit
    def take(parameters, state, queries, documents, learned):
        value, gradient = jax.value_and_grad(loss)(parameters, queries, documents)
        updates, state = optimiser.update(gradient, state)
        updates["log_beta"] *= learned
        return optax.apply_updates(parameters, updates), state, value

    return optimiser, take


@jax.jit
def judged(tower, queries, documents, beta):
    """(cosine of each query with each document, loss of finding the own among all)."""
    q, d = queries @ tower, documents @ tower
    loss = contrastive_cross_entropy(q, d, beta=beta, symmetric=True, reduction="mean")
    return cosine_logits(q, d), loss


def ranks(cosines):
    """How many documents are before the query's own, of each query."""
    own = np.diag(cosines)[:, None]
    return np.sum(cosines > own, 1)
