"""The adapter of optax: its losses, β and smoothing where a user would write them."""

import jax
import optax

from experiments.conformance import _vjp
from experiments.conformance._jax import scaled
from experiments.conformance.run import Unsupported


def _refuse(arrays, options, *kinds):
    for name in (*arrays, *options):
        if name in kinds:
            raise Unsupported(f"no {name}")


def _distribution(arrays, options):
    _refuse(arrays, options, "z_loss", "class_weights")
    labels = arrays["labels"]
    if "label_smoothing" in arrays:
        labels = optax.smooth_labels(labels, arrays["label_smoothing"])
    return optax.softmax_cross_entropy(scaled(arrays, "logits"), labels, where=arrays.get("where"), **options)


def _integer(arrays, options):
    _refuse(arrays, options, "z_loss", "class_weights", "ignore_label")
    if "label_smoothing" in arrays:
        x = arrays["logits"]
        labels = jax.nn.one_hot(arrays["labels"], x.shape[-1], dtype=x.dtype)
        return _distribution(arrays | {"labels": labels}, options)
    return optax.softmax_cross_entropy_with_integer_labels(
        scaled(arrays, "logits"), arrays["labels"], where=arrays.get("where"), **options
    )


def _kl_divergence(arrays, options):
    p, q = (jax.nn.log_softmax(scaled(arrays, name), where=arrays.get("where")) for name in ("logits_p", "logits_q"))
    return optax.losses.kl_divergence_with_log_targets(q, p, where=arrays.get("where"))


FUNCTIONS = {
    "softmax_cross_entropy": _distribution,
    "softmax_cross_entropy_with_integer_labels": _integer,
    "kl_divergence": _kl_divergence,
}


def adapter(compiled):
    return {name: _vjp.member(f, compiled) for name, f in FUNCTIONS.items()}
