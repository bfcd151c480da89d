"""Skip-gram's output layer in each of the library's ways: parameters, the loss of a batch, every probability.

The inputs of a layer are a vector for each word and a 1 behind it, so that each method has biases of its own kind.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jsoftmax

FULL, SAMPLED, NEGATIVE = "full softmax", "sampled softmax", "negative sampling"
HUFFMAN, BALANCED, ADAPTIVE = "hierarchical, Huffman", "hierarchical, balanced", "adaptive softmax"
NCE, LEARNED, UNIFORM = "NCE, c = 0", "NCE, c learned", "NCE, c = log V"
METHODS = FULL, HUFFMAN, BALANCED, ADAPTIVE, SAMPLED, NCE, LEARNED, UNIFORM, NEGATIVE


class Method(NamedTuple):
    """An output layer over V classes and D features."""

    initial: Callable[[Any], Any]  # (key) → parameters
    loss: Callable[..., Any]  # (parameters, inputs [N, D], labels [N], key) → losses [N]
    scores: Callable[..., Any]  # (parameters, inputs [N, D]) → [N, V], log-probabilities or what tends to them
    free: bool = False  # of scores: a constant may be missing, which is another for each input


def methods_of(counts, width, samples, distortion):
    """{name: `Method`} for classes with these counts; `samples` candidates are shared by a batch."""
    classes, features = len(counts), width + 1
    return {
        **_of_all(classes, features),
        HUFFMAN: _hierarchical(jsoftmax.huffman_tree(counts), features),
        BALANCED: _hierarchical(balanced_tree(classes), features),
        ADAPTIVE: _adaptive(classes, features),
        **_of_noise(counts, features, samples, distortion),
        SAMPLED: _sampled(classes, features, samples),
    }


def _product(weight, x):
    return x @ weight.T


def _of_all(classes, features):
    def loss(weight, x, labels, key):
        return jsoftmax.linear_softmax_cross_entropy(x, weight, labels, class_axis=0)

    def log_prob(weight, x):
        return jsoftmax.log_softmax(_product(weight, x))

    return {FULL: Method(lambda key: jnp.zeros((classes, features)), loss, log_prob)}


def _sampled(classes, features, samples):
    def loss(weight, x, labels, key):
        drawn = jsoftmax.log_uniform_sampler(key, num_sampled=samples, num_classes=classes)
        return jsoftmax.sampled_softmax_loss(x, weight, labels, drawn, class_axis=0)

    return Method(lambda key: jnp.zeros((classes, features)), loss, _product, free=True)


def _of_noise(counts, features, samples, distortion):
    """c is a parameter of all three NCEs, which are one program; whether it learns is another."""
    classes, noise = len(counts), np.float64(counts) ** distortion
    log_expected_count = jnp.asarray(np.log(samples * noise / noise.sum()), jnp.float32)

    def drawn(key):
        return jsoftmax.unigram_sampler(key, counts, num_sampled=samples, distortion=distortion, unique=False)

    def nce(parameters, x, labels, key):
        weight, c, learns = parameters
        c = jnp.where(jax.lax.stop_gradient(learns) > 0, c, jax.lax.stop_gradient(c))
        return jsoftmax.nce_loss(x, weight, labels, drawn(key), class_axis=0, log_normalizer=c)

    def negative(weight, x, labels, key):
        return jsoftmax.negative_sampling_loss(x, weight, labels, drawn(key), class_axis=0)

    def start(c, learns):
        return lambda key: (jnp.zeros((classes, features)), jnp.float32(c), jnp.float32(learns))

    def log_prob(parameters, x):
        return _product(parameters[0], x) - parameters[1]

    return {
        NCE: Method(start(0, False), nce, log_prob),
        LEARNED: Method(start(0, True), nce, log_prob),
        UNIFORM: Method(start(math.log(classes), False), nce, log_prob),
        NEGATIVE: Method(
            lambda key: jnp.zeros((classes, features)), negative, lambda w, x: _product(w, x) + log_expected_count[None]
        ),
    }


def _hierarchical(tree, features):
    def loss(nodes, x, labels, key):
        return jsoftmax.hierarchical_softmax_loss(x, nodes, labels, tree)

    def log_prob(nodes, x):
        return jsoftmax.hierarchical_log_prob(x, nodes, tree)

    return Method(lambda key: jnp.zeros((len(tree.paths) - 1, features)), loss, log_prob)


def balanced_tree(classes):
    """Paths that differ by one turn at most; words of like frequency share their first turns."""
    low = classes.bit_length() - 1  # turns of the shorter paths
    deep = 2 * (classes - 2**low)
    codes = [format(i, f"0{low + 1}b") for i in range(deep)]
    return jsoftmax.tree_from_codes(codes + [format(i, f"0{low}b") for i in range(deep // 2, 2**low)])


def _adaptive(classes, features):
    def initial(key):
        return jsoftmax.adaptive_weights(key, features, classes, cutoffs_of(classes), div_value=2.0)

    def loss(weights, x, labels, key):
        return jsoftmax.adaptive_softmax_loss(x, weights, labels)

    return Method(jax.jit(initial), loss, lambda weights, x: jsoftmax.adaptive_log_prob(x, weights))


def cutoffs_of(classes):
    """A head of a sixteenth of the classes, a cluster up to a quarter, and the rest."""
    return (classes // 16, classes // 4)
