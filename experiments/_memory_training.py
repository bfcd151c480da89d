"""Training of the two towers with which a memory is addressed: one for its keys, one for what is left of a query."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments._memory_episodes import drawn
from jsoftmax import (
    content_addressing,
    cosine_logits,
    dot_product_attention,
    softmax,
    softmax_cross_entropy_with_integer_labels,
)


class Method(NamedTuple):
    """How scores of slots become weights."""

    name: str
    cosine: bool  # else q·k
    beta: float
    learned: bool = False


def methods(config):
    root = config.dimension**0.5
    return [
        Method("β = 1", True, 1.0),
        Method("β = √d", True, root),
        *(Method(f"β learned from {b:g}", True, b, True) for b in config.starts),
        Method("q·k/√d", False, 1 / root),
    ]


class Trained(NamedTuple):
    """What a training leaves; a number of each step."""

    parameters: Any
    loss: list[float]
    pull: list[float]  # norm of the gradient in the towers
    beta: list[float]  # and in the end
    watched: list[dict[str, float]]  # at the start and after every so many steps
    seconds: float  # a step, median


def train(config, text, method, test, seed):
    """A `Trained`; the same starts and memories for every method."""
    rng = np.random.default_rng(seed)
    shape = text.features.shape[1], config.dimension
    parameters = {name: rng.standard_normal(shape).astype(np.float32) for name in ("key", "query")}
    parameters["log_beta"] = np.log(np.float32(method.beta))
    optimiser, take = step_of(method.cosine, config.learning_rate, config.steps)
    state, loss, pull, seconds = jax.jit(optimiser.init)(parameters), [], [], []
    beta, watched = [float(np.exp(parameters["log_beta"]))], [judge(parameters, text, method, test)]
    with tqdm(range(config.steps), desc=f"training, {method.name}", unit="step", leave=False) as bar:
        for step in bar:
            counts = {"memories": config.memories, "queries": config.queries, "share": config.share}
            given = spelled(text, drawn(rng, text, text.training, config.slots, **counts))
            started = time.perf_counter()
            parameters, state, value, norm = take(parameters, state, given, np.float32(method.learned))
            loss.append(float(value))
            seconds.append(time.perf_counter() - started)
            pull.append(float(norm))
            beta.append(float(np.exp(parameters["log_beta"])))
            if (step + 1) % config.every == 0:
                watched.append(judge(parameters, text, method, test))
            bar.set_postfix_str(f"loss {loss[-1]:.3f}, β {beta[-1]:.1f}", refresh=False)
    return Trained(parameters, loss, pull, beta, watched, float(np.median(seconds)))


def spelled(text, episodes):
    """(features of keys [B, M, F], of queries [B, Q, F], of values [B, M, F], slots [B, Q])."""
    keys = text.features[episodes.keys]
    queries = np.take_along_axis(keys, episodes.asked[..., None], 1) * episodes.kept
    return keys, queries, text.features[episodes.values], episodes.asked


@functools.lru_cache
def step_of(cosine, learning_rate, steps):
    """(optimiser, (parameters, state, spelled, learned) → (parameters, state, loss, norm of the towers' gradient))."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(parameters, keys, queries, asked):
        k, q, beta = keys @ parameters["key"], queries @ parameters["query"], jnp.exp(parameters["log_beta"])
        scores = jax.vmap(cosine_logits)(q, k) if cosine else jnp.einsum("bqd,bmd->bqm", q, k)
        # the weight of the right slot is the probability of its value; its logarithm is taken before it can underflow
        return softmax_cross_entropy_with_integer_labels(scores, asked, beta=beta).mean()

    @jax.jit
    def take(parameters, state, given, learned):
        keys, queries, _, asked = given
        value, gradient = jax.value_and_grad(loss)(parameters, keys, queries, asked)
        norm = jnp.sqrt(sum(jnp.sum(gradient[name] ** 2) for name in ("key", "query")))
        updates, state = optimiser.update(gradient, state)
        updates["log_beta"] *= learned
        return optax.apply_updates(parameters, updates), state, value, norm

    return optimiser, take


def judge(parameters, text, method, episodes, hard=False):
    """How the slots are addressed and what is read, as numbers."""
    beta = np.float32(np.inf) if hard else np.exp(parameters["log_beta"])
    found = _judged(parameters, spelled(text, episodes), beta, method.cosine)
    return {name: float(value) for name, value in found.items()}


@functools.partial(jax.jit, static_argnums=(3,))
def _judged(parameters, given, beta, cosine):
    keys, queries, values, asked = given
    k, q = keys @ parameters["key"], queries @ parameters["query"]
    if cosine:
        w = content_addressing(q, k, beta=beta)
        read = w @ values
    else:
        w = softmax(jnp.einsum("bqd,bmd->bqm", q, k), beta=beta)
        read = dot_product_attention(q[:, :, None], k[:, :, None], values[:, :, None], beta=beta)[:, :, 0]
    right = jnp.take_along_axis(w, asked[..., None], -1)[..., 0]
    wanted = jnp.take_along_axis(values, asked[..., None], 1)
    return {
        "accuracy": jnp.mean(jnp.argmax(w, -1) == asked),
        "entropy": -jnp.mean(jnp.sum(jnp.where(w > 0, w * jnp.log(jnp.where(w > 0, w, 1)), 0), -1)),
        "largest_weight": jnp.mean(w.max(-1)),
        "right_weight": jnp.mean(right),
        "read": jnp.mean(jax.vmap(jax.vmap(lambda a, b: cosine_logits(a, b[None])[0]))(read, wanted)),
    }
