"""The operators and, beside each, what is used today, as functions of the same arguments.

Each is called as f(x) or f(x, labels); those of `WITH_BETA` as f(x, beta) or f(x, labels, beta).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import jsoftmax


class Operator(NamedTuple):
    ours: Callable
    peer: Callable
    peer_name: str
    labels: str = "none"  # "none", "index" or "distribution"
    per_row: bool = True  # one result a row of logits, or one a logit


OPERATORS = {
    "softmax": Operator(jsoftmax.softmax, jax.nn.softmax, "jax.nn", per_row=False),
    "log_softmax": Operator(jsoftmax.log_softmax, jax.nn.log_softmax, "jax.nn", per_row=False),
    "logsumexp": Operator(jsoftmax.logsumexp, lambda x: jax.nn.logsumexp(x, -1), "jax.nn"),
    "logmeanexp": Operator(jsoftmax.logmeanexp, lambda x: jax.nn.logmeanexp(x, -1), "jax.nn"),
    "softmax_cross_entropy": Operator(
        jsoftmax.softmax_cross_entropy, optax.softmax_cross_entropy, "optax", "distribution"
    ),
    "softmax_cross_entropy_with_integer_labels": Operator(
        jsoftmax.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        "optax",
        "index",
    ),
}


def _with_beta(name, peer):
    """β where it belongs in ours, and in the peer where one without β has it: on the logits."""
    ours = OPERATORS[name].ours
    return OPERATORS[name]._replace(ours=lambda x, *rest: ours(x, *rest[:-1], beta=rest[-1]), peer=peer)


WITH_BETA = {
    "softmax": _with_beta("softmax", lambda x, beta: jax.nn.softmax(beta * x)),
    "logsumexp": _with_beta("logsumexp", lambda x, beta: jax.nn.logsumexp(beta * x, -1) / beta),
    "softmax_cross_entropy_with_integer_labels": _with_beta(
        "softmax_cross_entropy_with_integer_labels",
        lambda x, labels, beta: optax.softmax_cross_entropy_with_integer_labels(beta * x, labels),
    ),
}


# Losses with options, classes on axis 1: what optax's users write for the same number.
IGNORED = 0
_WEIGHTS = (0.5, 1.5)  # of even and odd classes


def _class_weights(x):
    return jnp.resize(jnp.asarray(_WEIGHTS, x.dtype), x.shape[1])


def _smoothed(x, labels):
    return optax.smooth_labels(jax.nn.one_hot(labels, x.shape[1], axis=1, dtype=x.dtype), 0.1, axis=1)


def _ours(**options):
    def loss(x, labels):
        given = options | ({"class_weights": _class_weights(x)} if "class_weights" in options else {})
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels, axis=1, **given)

    return loss


def _optax_plain(x, labels):
    return optax.softmax_cross_entropy_with_integer_labels(x, labels, axis=1)


def _optax_ignoring(x, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels, axis=1)
    return jnp.where(labels != IGNORED, losses, 0.0)


def _optax_smoothing(x, labels):
    return optax.softmax_cross_entropy(x, _smoothed(x, labels), axis=1)


def _optax_z_loss(x, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels, axis=1)
    return losses + 1e-4 * jax.nn.logsumexp(x, 1) ** 2


def _optax_all(x, labels):
    weights = jnp.expand_dims(_class_weights(x), tuple(i for i in range(x.ndim) if i != 1))
    losses = optax.softmax_cross_entropy(x, weights * _smoothed(x, labels), axis=1)
    return losses + 1e-4 * jax.nn.logsumexp(x, 1) ** 2


LOSSES = {
    "integer labels": Operator(_ours(), _optax_plain, "optax", "index"),
    "ignored label": Operator(_ours(ignore_label=IGNORED), _optax_ignoring, "optax", "index"),
    "smoothing": Operator(_ours(label_smoothing=0.1), _optax_smoothing, "optax", "index"),
    "z-loss": Operator(_ours(z_loss=1e-4), _optax_z_loss, "optax", "index"),
    "smoothing, z-loss, weights": Operator(
        _ours(label_smoothing=0.1, z_loss=1e-4, class_weights=True), _optax_all, "optax", "index"
    ),
}


def with_gradient(f):
    """(g, x, …) → (f(x, …), gradient of ⟨g, f(x, …)⟩ in x)."""

    def run(g, x, *rest):
        value, pull = jax.vjp(lambda x: f(x, *rest), x)
        return value, *pull(g.astype(value.dtype))

    return run
