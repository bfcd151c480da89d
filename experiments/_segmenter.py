"""A small fully convolutional network in plain JAX, channels first: 3×3 convolutions, dilated, 31 pixels of context."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_DILATIONS = (1, 2, 4, 8)


def initial(seed, width, classes):
    """He's initialisation; the last layer is 1×1."""
    rng = np.random.default_rng(seed)
    shapes = [(width, 1, 3, 3), *((width, width, 3, 3) for _ in _DILATIONS[1:]), (classes, width, 1, 1)]
    return [
        {"w": jnp.asarray(rng.normal(0, np.sqrt(2 / np.prod(s[1:])), s), jnp.float32), "b": jnp.zeros((1, s[0], 1, 1))}
        for s in shapes
    ]


def logits(parameters, image):
    """[N, classes, H, W] of [N, 1, H, W]."""
    hidden = image
    for layer, dilation in zip(parameters, (*_DILATIONS, 1), strict=True):
        hidden = lax.conv_general_dilated(hidden, layer["w"], (1, 1), "SAME", rhs_dilation=(dilation, dilation))
        hidden = hidden + layer["b"]
        if layer is not parameters[-1]:
            hidden = jax.nn.relu(hidden)
    return hidden
