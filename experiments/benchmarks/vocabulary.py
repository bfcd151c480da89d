"""What takes the place of a softmax over a large vocabulary, beside the loss of all classes.

Each is the mean over rows of a loss with parameters of its own. They are other losses than the rival's: what is
compared is the time of a training step on as many rows, classes and features. Labels follow Zipf's law.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jsoftmax
from experiments.benchmarks import linear
from experiments.benchmarks import programs as p

SAMPLED = 8192  # candidates for all rows
TREE, CUT, SAMPLE = "hierarchical_softmax_loss", "adaptive_softmax_loss", "sampled_softmax_loss"
NOISE, NEGATIVE = "nce_loss", "negative_sampling_loss"
CASES = ((TREE, ""), (TREE, "groups"), (CUT, ""), (SAMPLE, ""), (NOISE, ""), (NEGATIVE, "5 for each row"))
ALL_CLASSES = "all classes"


def zipf(classes):
    p = 1 / np.arange(1.0, classes + 1)
    return p / p.sum()


def all_classes(inputs, weight, labels, key):
    return jsoftmax.linear_softmax_cross_entropy(inputs, weight, labels, class_axis=0, reduction="mean")


def of_tree(inputs, weight, labels, key, *tables):
    return jnp.mean(jsoftmax.hierarchical_softmax_loss(inputs, weight, labels, jsoftmax.Tree(*tables)))


def adaptive(inputs, weights, labels, key):
    return jnp.mean(jsoftmax.adaptive_softmax_loss(inputs, weights, labels))


def sampled(loss, inputs, weight, labels, key):
    classes = weight.shape[0]
    drawn = jsoftmax.log_uniform_sampler(key, num_sampled=min(SAMPLED, classes), num_classes=classes)
    return jnp.mean(loss(inputs, weight, labels, drawn, class_axis=0))


def negatives(inputs, weight, labels, key):
    drawn = jsoftmax.log_uniform_sampler(
        key, num_sampled=5, num_classes=weight.shape[0], unique=False, batch_shape=labels.shape
    )
    return jnp.mean(jsoftmax.negative_sampling_loss(inputs, weight, labels, drawn, class_axis=0))


def problem(shape, dtype):
    """(inputs, a row for each class, labels)."""
    inputs, weight, _ = linear.arrays(shape, dtype)
    labels = np.random.default_rng(1).choice(shape[2], shape[0], p=zipf(shape[2]))
    return inputs, weight.T, jnp.asarray(labels.astype(np.int32))


def ours(case, weight):
    """(function, its parameters, tables)."""
    classes, width = weight.shape
    if case == (TREE, ""):
        return of_tree, weight[: classes - 1], jsoftmax.huffman_tree(zipf(classes))[:3]
    if case == (TREE, "groups"):
        size = max(int(np.sqrt(classes)), 1)
        tree = jsoftmax.tree_from_paths([(w // size, w) for w in range(classes)])
        return of_tree, jnp.resize(weight, (classes + tree.children.shape[0] - 1, width)), tuple(tree)
    if case == (CUT, ""):
        ends = sorted({max(classes // 32, 1), max(classes // 4, 2)})
        weights = jsoftmax.adaptive_weights(jax.random.key(0), width, classes, ends, dtype=weight.dtype)
        return adaptive, weights, ()
    if case[0] == NEGATIVE:
        return negatives, weight, ()
    return functools.partial(sampled, getattr(jsoftmax, case[0])), weight, ()


def flat(f, inputs, parameters, labels, tables):
    """(value, value with gradients in inputs and parameters) as functions of arrays, and those."""
    leaves, tree = jax.tree.flatten((inputs, parameters))

    def value(*arrays):
        inputs, parameters = jax.tree.unflatten(tree, arrays[: len(leaves)])
        labels, key, *tables = arrays[len(leaves) :]
        return f(inputs, parameters, labels, jax.random.wrap_key_data(key), *tables)

    key = jax.random.key_data(jax.random.key(2))
    return value, jax.value_and_grad(value, tuple(range(len(leaves)))), [*leaves, labels, key, *tables]


def programs(workload, dtype, cases):
    inputs, weight, labels = problem(workload.shape, dtype)
    found = p.yardsticks(weight)
    for case in cases:
        for name, (f, parameters, tables) in {
            p.OURS: ours(case, weight),
            ALL_CLASSES: (all_classes, weight, ()),
        }.items():
            value, with_gradient, taken = flat(f, inputs, parameters, labels, tables)
            found[p.Key(*case, p.VALUE, name)] = p.compiled(value, taken)
            found[p.Key(*case, p.GRADIENT, name)] = p.compiled(with_gradient, taken)
    return found
