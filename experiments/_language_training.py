"""Training of the language model under one loss or another; the same batches in the same order for each."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments import _transformer as transformer
from experiments._text import IGNORED
from jsoftmax import linear_softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, weighted_mean

BACKWARDS = "dense, classes backwards"
WARM_UP = 50  # steps until the learning rate is there
# Adam divides by the root of what it has seen of a gradient's square: at optax's 1e-8 that is rounding for rare words
EPSILON = 1e-6


class Run(NamedTuple):
    """What a training leaves."""

    loss: list[float]  # of the batch of each step
    held_out: list[tuple[int, float]]  # (step, mean loss of the held-out windows)
    seconds_a_step: float


def losses_of(block):
    """{name: loss(features, embedding, labels)}: the mean over the labels that are words.

    The second is the first with its sums over classes in another order: how far roundings alone take a training.
    """

    def dense(x, embedding, labels):
        losses = softmax_cross_entropy_with_integer_labels(x @ embedding.T, labels, ignore_label=IGNORED)
        return weighted_mean(losses, labels != IGNORED)[0]

    def backwards(x, embedding, labels):
        return dense(x, embedding[::-1], jnp.where(labels == IGNORED, IGNORED, len(embedding) - 1 - labels))

    def fused(x, embedding, labels):
        return linear_softmax_cross_entropy(
            x, embedding, labels, class_axis=0, ignore_label=IGNORED, reduction="mean", block_size=block
        )

    return {"dense": dense, BACKWARDS: backwards, "fused": fused}


def train(config, corpus, loss, name):
    """A `Run` of the loss `name`."""
    optimiser = optimiser_of(config)
    parameters = transformer.initial(config.seed, len(corpus.words), config.length, config.width, config.layers)
    state, history, held_out, seconds = optimiser.init(parameters), [], [], []

    def value(parameters, inputs, labels):
        return loss(transformer.features(parameters, inputs), parameters["embedding"], labels)

    @jax.jit
    def step(parameters, state, inputs, labels):
        loss, gradient = jax.value_and_grad(value)(parameters, inputs, labels)
        updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    judge = jax.jit(value)
    every = max(1, config.steps // config.evaluations)
    batches = batches_of(np.flatnonzero(~corpus.held_out), config)
    with tqdm(total=config.steps, desc=f"training, {name}", unit="step", leave=False) as bar:
        for chosen in batches:
            started = time.perf_counter()
            parameters, state, loss_now = step(parameters, state, corpus.inputs[chosen], corpus.labels[chosen])
            history.append(float(loss_now))
            seconds.append(time.perf_counter() - started)
            if len(history) % every == 0 or len(history) == config.steps:
                held_out.append((len(history), _mean_over_held_out(judge, parameters, corpus, config.batch)))
            bar.update()
            bar.set_postfix_str(f"loss {history[-1]:.4f}", refresh=False)
    return Run(history, held_out, float(np.median(seconds)))


def optimiser_of(config):
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, min(WARM_UP, config.steps // 2), config.steps
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, eps=EPSILON, weight_decay=0.1))


def batches_of(windows, config):
    """Numbers of windows for each step, epoch after epoch."""
    order, waiting = np.random.default_rng(config.seed), np.empty(0, int)
    for _ in range(config.steps):
        while len(waiting) < config.batch:
            waiting = np.concatenate([waiting, order.permutation(windows)])
        yield waiting[: config.batch]
        waiting = waiting[config.batch :]


def _mean_over_held_out(judge, parameters, corpus, batch):
    windows, total, words = np.flatnonzero(corpus.held_out), 0.0, 0
    for i in range(0, len(windows), batch):
        chosen = windows[i : i + batch]
        missing = [(0, batch - len(chosen)), (0, 0)]  # one shape for all batches, or the last compiles anew
        labels = np.pad(corpus.labels[chosen], missing, constant_values=IGNORED)
        count = np.sum(labels != IGNORED)
        total += count * float(judge(parameters, np.pad(corpus.inputs[chosen], missing), labels))
        words += count
    return float(total / words)


def unigram_loss(corpus):
    """Mean loss of the held-out words under their frequencies in training, each word seen once more than it was."""
    training, test = (
        part[part != IGNORED] for part in (corpus.labels[~corpus.held_out], corpus.labels[corpus.held_out])
    )
    count = 1 + np.bincount(training, minlength=len(corpus.words))
    return float(np.mean(np.log(count.sum() / count[test])))
