"""The operators and, beside each, what is used today, as functions of the same arguments.

Each is called as f(x) or f(x, labels); those of `WITH_BETA` as f(x, beta) or f(x, labels, beta).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
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


def with_gradient(f):
    """(g, x, …) → (f(x, …), gradient of ⟨g, f(x, …)⟩ in x)."""

    def run(g, x, *rest):
        value, pull = jax.vjp(lambda x: f(x, *rest), x)
        return value, *pull(g.astype(value.dtype))

    return run
