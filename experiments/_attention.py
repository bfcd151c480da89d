"""The gradient of attention weights over random keys, with and without the division by √d."""

import jax
import numpy as np

from experiments._sweep import jacobian_norm
from jsoftmax import softmax


@jax.jit
def _at_scales(scores, scales):
    return jax.vmap(lambda scale: (jacobian_norm(scores * scale, 1.0), softmax(scores * scale).max(axis=-1)))(scales)


def attention_gradients(generator, dimension, *, keys, queries):
    """(‖∂p/∂x‖_F, largest weight), each [2, queries]: x = q·k, then x = q·k / √dimension.

    Entries of queries and keys are standard normal; x are the scores as they enter the softmax.
    """
    scores = generator.standard_normal((queries, dimension)) @ generator.standard_normal((dimension, keys))
    return _at_scales(scores.astype(np.float32), np.float32([1.0, dimension**-0.5]))
