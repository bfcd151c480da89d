"""Time of a training step of an output layer by the number of its classes: draw, value, gradients, update in place."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jsoftmax
from experiments._layer_costs import timed
from experiments._word_methods import cutoffs_of

RATE = 0.1
FULL, ADAPTIVE, TREE, SAMPLED = "full", "adaptive", "hierarchical", "sampled"
TREE_ROWS, SAMPLED_ROWS, REPLACED_ROWS = (
    "hierarchical, rows in sight",
    "sampled, rows in sight",
    "sampled with replacement, rows in sight",
)
TWINS = {TREE_ROWS: TREE, SAMPLED_ROWS: SAMPLED}  # take the same step


class Batch(NamedTuple):
    """What a step is given."""

    x: Any  # [N, D]
    labels: Any  # [N]
    tree: jsoftmax.Tree


def _dense(loss):
    """Differentiates the whole table."""

    def step(table, batch, key, samples):
        def value(table, x):
            return loss(table, batch._replace(x=x), key, samples).mean()

        value, (bar, x_bar) = jax.value_and_grad(value, (0, 1))(table, batch.x)
        return jax.tree.map(lambda w, g: w - RATE * g, table, bar), value, x_bar

    return step


def _full(table, batch, key, samples):
    return jsoftmax.linear_softmax_cross_entropy(batch.x, table, batch.labels, class_axis=0)


def _adaptive(weights, batch, key, samples):
    return jsoftmax.adaptive_softmax_loss(batch.x, weights, batch.labels)


def _hierarchical(nodes, batch, key, samples):
    return jsoftmax.hierarchical_softmax_loss(batch.x, nodes, batch.labels, batch.tree)


def _sampled(table, batch, key, samples):
    drawn = jsoftmax.log_uniform_sampler(key, num_sampled=samples, num_classes=len(table))
    return jsoftmax.sampled_softmax_loss(batch.x, table, batch.labels, drawn, class_axis=0)


def _update_rows(loss, table, ids, x):
    """Looks up, differentiates and updates the rows `ids`; len(table) among them is none."""
    rows = table.at[ids].get(mode="fill", fill_value=0)
    value, (bar, x_bar) = jax.value_and_grad(loss, (0, 1))(rows, x)
    return table.at[ids].add(-RATE * bar, mode="drop"), value, x_bar


def _sampled_rows(unique, table, batch, key, samples):
    n, classes = len(batch.labels), len(table)
    drawn = jsoftmax.log_uniform_sampler(key, num_sampled=samples, num_classes=classes, unique=unique)
    seen = jnp.concatenate([batch.labels, drawn.ids])
    ids, places = jnp.unique(seen, return_inverse=True, size=seen.size, fill_value=classes)
    counts = drawn.log_expected_count.at[ids].get(mode="fill", fill_value=0)
    there = jsoftmax.Candidates(places[n:], counts)

    def loss(rows, x):
        return jsoftmax.sampled_softmax_loss(x, rows, places[:n], there, class_axis=0).mean()

    return _update_rows(loss, table, ids, batch.x)


def _hierarchical_rows(nodes, batch, key, samples):
    """The classes are the examples; others that nobody asks for fill the tree up to its number of nodes."""
    n = len(batch.labels)
    paths, codes, mask = (a[batch.labels] for a in batch.tree[:3])
    ids, places = jnp.unique(paths, return_inverse=True, size=paths.size, fill_value=len(nodes))
    fill = ((0, paths.size + 1 - n), (0, 0))
    there = jsoftmax.Tree(*(jnp.pad(a, fill) for a in (places.reshape(paths.shape), codes, mask)))

    def loss(rows, x):
        return jsoftmax.hierarchical_softmax_loss(x, rows, jnp.arange(n), there).mean()

    return _update_rows(loss, nodes, ids, batch.x)


STEPS = {
    FULL: _dense(_full),
    ADAPTIVE: _dense(_adaptive),
    TREE: _dense(_hierarchical),
    TREE_ROWS: _hierarchical_rows,
    SAMPLED: _dense(_sampled),
    SAMPLED_ROWS: functools.partial(_sampled_rows, True),
    REPLACED_ROWS: functools.partial(_sampled_rows, False),
}


class Trainer:
    """A compiled step that is called with its own table again and again."""

    def __init__(self, step, table, batch, samples):
        self.table, self.rest = jax.tree.map(jnp.copy, table), (batch, jax.random.key(0))
        program = jax.jit(functools.partial(step, samples=samples), donate_argnums=0)
        self.program = program.lower(self.table, *self.rest).compile()

    def __call__(self):
        self.table, value, x_bar = self.program(self.table, *self.rest)
        return self.table, value, x_bar


def batch_of(examples, width, classes):
    """(Batch, table [V, D]); labels follow Zipf's law."""
    rng = np.random.default_rng(0)
    labels = np.minimum(np.exp(rng.uniform(0, np.log(classes + 1), examples)) - 1, classes - 1)
    x, table = (rng.standard_normal((n, width), np.float32) / np.float32(width**0.5) for n in (examples, classes))
    tree = jsoftmax.huffman_tree(1 / np.arange(1, classes + 1))
    return Batch(jnp.asarray(x), jnp.asarray(labels, jnp.int32), tree), jnp.asarray(table)


def trainers(names, examples, width, samples, classes):
    """({name: what it starts from}, {name: `Trainer`})."""
    batch, table = batch_of(examples, width, classes)
    weights = jax.jit(lambda key: jsoftmax.adaptive_weights(key, width, classes, cutoffs_of(classes)))
    tables = dict.fromkeys(STEPS, table) | dict.fromkeys((TREE, TREE_ROWS), table[:-1])
    tables[ADAPTIVE] = weights(jax.random.key(1))
    return tables, {name: Trainer(STEPS[name], tables[name], batch, samples) for name in names}


def difference(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def measure(config):
    """Yields the list of what is measured so far, one part for each number of classes."""
    finished = []
    for classes in tqdm(config.vocabularies, desc="timing", unit="vocabulary"):
        sizes = config.timed_batch, config.timed_width, config.timed_samples, classes
        tables, found = trainers(config.timed, *sizes)
        twins = [
            {
                "name": name,
                "apart": difference(found[name]()[0], found[twin]()[0]),
                "moved": difference(found[name].table, tables[name]),
            }
            for name, twin in TWINS.items()
            if name in found and twin in found
        ]
        *_, times = timed({name: (call, 0) for name, call in found.items()}, config.rounds, f"{classes} classes")
        programs = [{"name": name, "least": t.min(), "median": np.median(t)} for name, t in times.items()]
        finished.append({"classes": classes, "programs": programs, "twins": twins})
        yield finished
