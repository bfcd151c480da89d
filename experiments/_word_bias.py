"""How far the mean of the sampled softmax's gradient is from that of all classes, by the number of candidates."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jsoftmax
from experiments._word_training import inputs_of

KEYS = 256  # at a time
PRECISE = 5  # times its standard error is what a difference has to be, or the keys are used up


class Variant(NamedTuple):
    """How candidates are drawn and used."""

    unique: bool
    correct_labels: bool
    remove_accidental_hits: bool


VARIANTS = {
    "without replacement": Variant(True, True, True),
    "without replacement, labels not corrected": Variant(True, False, True),
    "with replacement, hits in": Variant(False, True, False),
    "with replacement, labels not corrected, hits out": Variant(False, False, True),
    "with replacement, hits out": Variant(False, True, True),
    "with replacement, labels not corrected, hits in": Variant(False, False, False),
}


def measure(config, words, parameters):
    """Yields the list of what is measured so far: a softmax over the most frequent words alone, and pairs of them."""
    vectors, weight = parameters
    classes = min(config.bias_classes, len(words.names))
    pairs = words.held_out[words.held_out[:, 1] < classes][: config.bias_examples]
    layer = inputs_of(vectors[pairs[:, 0]]), weight[:classes], jnp.asarray(pairs[:, 1])
    cases = [
        (v, size) for v in config.variants for size in config.bias_sizes if size <= classes or not VARIANTS[v].unique
    ]
    finished = []
    for name, size in tqdm(cases, desc="bias of the gradient", unit="case"):
        found = _of_case(VARIANTS[name], size, layer, config.bias_keys, config.seed)
        finished.append({"name": name, "classes": classes, "candidates": size, **found})
        yield finished


def _of_case(variant, size, layer, most_keys, seed):
    x, weight, labels = layer
    options = {"correct_labels": variant.correct_labels, "remove_accidental_hits": variant.remove_accidental_hits}

    def mean_loss(x, weight, key):
        drawn = jsoftmax.log_uniform_sampler(key, num_sampled=size, num_classes=len(weight), unique=variant.unique)
        return jsoftmax.sampled_softmax_loss(x, weight, labels, drawn, class_axis=0, **options).mean()

    whole = full_gradient(*layer)

    @jax.jit
    def differences(keys):
        """(Σ d, Σ |d|²) of the sampled gradient less the whole one, over the keys."""
        apart = _flat(jax.vmap(jax.grad(mean_loss, (0, 1)), (None, None, 0))(x, weight, keys), KEYS) - whole[None]
        return apart.sum(0), jnp.sum(apart**2)

    total, squares, keys = np.zeros(whole.shape), 0.0, 0
    while True:
        some = jax.random.split(jax.random.fold_in(jax.random.key(seed), keys), KEYS)
        vector, square = differences(some)
        total, squares, keys = total + np.asarray(vector, np.float64), squares + float(square), keys + KEYS
        found = _relative(total / keys, squares / keys, keys, float(jnp.linalg.norm(whole)))
        if found["bias"] > PRECISE * found["standard_error"] or keys >= most_keys:
            return {"keys": keys, **found}


def _relative(mean, mean_square, keys, norm):
    """Size of the mean, and the standard error of the mean, in units of the whole gradient."""
    bias = float(np.linalg.norm(mean))
    error = math.sqrt(max(mean_square - bias**2, 0.0) / (keys - 1))
    return {"bias": bias / norm, "standard_error": error / norm}


@jax.jit
def full_gradient(x, weight, labels):
    def mean_loss(x, weight):
        return jsoftmax.linear_softmax_cross_entropy(x, weight, labels, class_axis=0, reduction="mean")

    return _flat(jax.grad(mean_loss, (0, 1))(x, weight), 1)[0]


def _flat(gradients, count):
    return jnp.concatenate([g.reshape(count, -1) for g in gradients], 1)
