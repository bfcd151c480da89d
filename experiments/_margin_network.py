"""A small network that embeds digits, in plain JAX: two convolutions of stride 2, two dense layers."""

import jax
import numpy as np
from jax import lax

SIDE = 7  # of the maps after both convolutions


def initial(rng, width, dimension):
    """He's initialisation."""
    shapes = (width, 1, 5, 5), (2 * width, width, 3, 3), (2 * width * SIDE**2, 4 * width), (4 * width, dimension)
    inputs = 25, 9 * width, 2 * width * SIDE**2, 4 * width
    return [
        {
            "w": rng.normal(0, np.sqrt(2 / n), shape).astype(np.float32),
            "b": np.zeros(shape[0 if i < 2 else 1], np.float32),
        }
        for i, (n, shape) in enumerate(zip(inputs, shapes, strict=True))
    ]


def embeddings(layers, images):
    """[N, dimension] of [N, 1, 28, 28]; the last layer is linear."""
    *maps, hidden, last = layers
    x = images
    for layer in maps:
        x = lax.conv_general_dilated(x, layer["w"], (2, 2), "SAME")
        x = jax.nn.relu(x + layer["b"][None, :, None, None])
    x = jax.nn.relu(x.reshape(len(x), -1) @ hidden["w"] + hidden["b"][None])
    return x @ last["w"] + last["b"][None]
