"""Loss and accuracy of a classifier against temperature, and the temperature of least loss."""

import jax
import jax.numpy as jnp
from scipy.optimize import brentq

from experiments._regression import mean_loss
from jsoftmax import softmax, softmax_cross_entropy_with_integer_labels, weighted_mean


@jax.jit
def temperature_curves(logits, labels, temperature):
    """Mean loss, accuracy, and mean probability of the label, each [B], at temperatures [B] from 0 to ∞.

    Accuracy is that of a most probable class, ties shared: the softmax of the probabilities at β = ∞.
    """
    of_label = labels[:, None] == jnp.arange(logits.shape[-1])[None, :]

    def mean_at_label(p):
        return weighted_mean(jnp.sum(jnp.where(of_label, p, 0.0), axis=-1))[0]

    def at(temperature):
        p = softmax(logits, temperature=temperature)
        losses = softmax_cross_entropy_with_integer_labels(logits, labels, temperature=temperature)
        return {
            "loss": weighted_mean(losses)[0],
            "accuracy": mean_at_label(softmax(p, beta=jnp.inf)),
            "label_probability": mean_at_label(p),
        }

    return jax.vmap(at)(temperature)


loss_beta_gradient = jax.jit(jax.grad(mean_loss, argnums=2))
"""∂ mean loss / ∂β = mean(E_p[x] − x_label), increasing in β: the loss is convex in it."""


def best_temperature(logits, labels, lowest=1 / 64, highest=64.0):
    """The temperature of least mean loss: the root of the loss's derivative in β. Needs at least one wrong answer."""
    beta = brentq(lambda beta: float(loss_beta_gradient(logits, labels, beta)), 1 / highest, 1 / lowest, xtol=1e-6)
    return 1 / beta
