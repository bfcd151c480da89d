"""The operators and, beside each, what JAX's users call today, as functions of the same arguments.

Each is called as f(x), f(x, labels), f(x, beta) or f(x, labels, beta), with the class axis as the keyword `axis`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jsoftmax
from experiments.benchmarks.workloads import CROSS_ENTROPY, INTEGER, SPATIAL


class Operator(NamedTuple):
    ours: Callable
    peer: Callable
    peer_name: str
    labels: str = "none"  # "none", "index" or "distribution"
    per_row: bool = True  # one result a row of logits, or one a logit


OPERATORS = {
    "softmax": Operator(jsoftmax.softmax, jax.nn.softmax, "jax.nn", per_row=False),
    "log_softmax": Operator(jsoftmax.log_softmax, jax.nn.log_softmax, "jax.nn", per_row=False),
    "logsumexp": Operator(jsoftmax.logsumexp, lambda x, axis=-1: jax.nn.logsumexp(x, axis), "jax.nn"),
    "logmeanexp": Operator(jsoftmax.logmeanexp, lambda x, axis=-1: jax.nn.logmeanexp(x, axis), "jax.nn"),
    CROSS_ENTROPY: Operator(jsoftmax.softmax_cross_entropy, optax.softmax_cross_entropy, "optax", "distribution"),
    INTEGER: Operator(
        jsoftmax.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        "optax",
        "index",
    ),
}


def _with_beta(name, peer):
    """β where it belongs in ours, and in the peer where one without β has it: on the logits."""
    ours = OPERATORS[name].ours
    return OPERATORS[name]._replace(ours=lambda x, *rest, axis=-1: ours(x, *rest[:-1], axis, beta=rest[-1]), peer=peer)


WITH_BETA = {
    "softmax": _with_beta("softmax", lambda x, beta, axis=-1: jax.nn.softmax(beta * x, axis)),
    "logsumexp": _with_beta("logsumexp", lambda x, beta, axis=-1: jax.nn.logsumexp(beta * x, axis) / beta),
    INTEGER: _with_beta(
        INTEGER,
        lambda x, labels, beta, axis=-1: optax.softmax_cross_entropy_with_integer_labels(beta * x, labels, axis),
    ),
}


# Losses with options: what optax's users write for the same number.
IGNORED, SMOOTHING, Z_LOSS = 0, 0.1, 1e-4


def class_weights(x, axis=1):
    """One a class, of logits `x`."""
    return jnp.resize(jnp.asarray((0.5, 1.5), x.dtype), x.shape[axis])


def _ours(weighted=False, **options):
    def loss(x, labels, axis=1):
        given = options | ({"class_weights": class_weights(x, axis)} if weighted else {})
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels, axis, **given)

    return loss


def _smoothed(x, labels, axis):
    return optax.smooth_labels(jax.nn.one_hot(labels, x.shape[axis], axis=axis, dtype=x.dtype), SMOOTHING, axis=axis)


def _optax_ignoring(x, labels, axis=1):
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels, axis)
    return jnp.where(labels != IGNORED, losses, 0.0)


def _optax_smoothing(x, labels, axis=1):
    return optax.softmax_cross_entropy(x, _smoothed(x, labels, axis), axis)


def _optax_z_loss(x, labels, axis=1):
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels, axis)
    return losses + Z_LOSS * jax.nn.logsumexp(x, axis) ** 2


def _optax_all(x, labels, axis=1):
    weights = jnp.expand_dims(class_weights(x, axis), tuple(i for i in range(x.ndim) if i != axis % x.ndim))
    losses = optax.softmax_cross_entropy(x, weights * _smoothed(x, labels, axis), axis)
    return losses + Z_LOSS * jax.nn.logsumexp(x, axis) ** 2


LOSSES = {
    "ignored label": Operator(_ours(ignore_label=IGNORED), _optax_ignoring, "optax", "index"),
    "smoothing": Operator(_ours(label_smoothing=SMOOTHING), _optax_smoothing, "optax", "index"),
    "z-loss": Operator(_ours(z_loss=Z_LOSS), _optax_z_loss, "optax", "index"),
    "all options": Operator(  # smoothing, z-loss and class weights
        _ours(label_smoothing=SMOOTHING, z_loss=Z_LOSS, weighted=True), _optax_all, "optax", "index"
    ),
}
MAP = Operator(
    lambda x, labels, axis=1: jsoftmax.spatial_softmax_cross_entropy(x, labels, axis=axis),
    lambda x, labels, axis=1: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x, labels, axis)),
    "optax",
    "index",
)
CASES = (
    {(name, ""): operator for name, operator in OPERATORS.items()}
    | {(name, "β"): operator for name, operator in WITH_BETA.items()}
    | {(INTEGER, variant): operator for variant, operator in LOSSES.items()}
    | {(SPATIAL, ""): MAP}
)


def label(operator, variant):
    """A case in words: of workloads, tables and figures."""
    return f"{operator}, {variant}" if variant else operator


def with_gradient(f, differentiated=1):
    """(g, x, …) → (f(x, …), gradient of ⟨g, f(x, …)⟩ in the first `differentiated` arguments)."""

    def run(g, *arguments):
        rest = arguments[differentiated:]
        value, pull = jax.vjp(lambda *first: f(*first, *rest), *arguments[:differentiated])
        return value, *pull(g.astype(value.dtype))

    return run
