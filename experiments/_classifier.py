"""A small network for the digits, trained with optax until it is sure of its training images."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jsoftmax import softmax_cross_entropy_with_integer_labels, weighted_mean

_OPTIMISER = optax.adam(3e-3)


def logits(parameters, images):
    hidden = images
    for weight, bias in parameters[:-1]:
        hidden = jax.nn.relu(hidden @ weight + bias[None, :])
    weight, bias = parameters[-1]
    return hidden @ weight + bias[None, :]


def initial(seed, widths):
    """He's initialisation of dense layers between `widths`."""
    rng = np.random.default_rng(seed)
    shapes = itertools.pairwise(widths)
    return [(jnp.asarray(rng.normal(0, np.sqrt(2 / n), (n, m)), jnp.float32), jnp.zeros(m)) for n, m in shapes]


@functools.partial(jax.jit, static_argnums=(5,))
def _epochs(parameters, state, images, labels, smoothing, steps):
    def loss(parameters):
        losses = softmax_cross_entropy_with_integer_labels(
            logits(parameters, images), labels, label_smoothing=smoothing
        )
        return weighted_mean(losses)[0]

    def step(carry, _):
        parameters, state = carry
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = _OPTIMISER.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state), value

    return jax.lax.scan(step, (parameters, state), length=steps)


def fit(images, labels, *, smoothing, hidden, steps, seed):
    """(parameters, loss at each step): full batches, `label_smoothing` as given."""
    parameters = initial(seed, (images.shape[1], *hidden, int(labels.max()) + 1))
    state, history, chunk = _OPTIMISER.init(parameters), [], max(1, steps // 20)
    with tqdm(total=chunk * (steps // chunk), desc=f"training, ε = {smoothing:g}", unit="step", leave=False) as bar:
        while bar.n < bar.total:
            (parameters, state), values = _epochs(parameters, state, images, labels, jnp.float32(smoothing), chunk)
            history.append(np.asarray(values))
            bar.update(chunk)
            bar.set_postfix_str(f"loss {history[-1][-1]:.2e}")
    return parameters, np.concatenate(history)
