"""A small causal transformer in plain JAX; its embedding is also the weight of its last layer."""

import jax
import jax.numpy as jnp
import numpy as np

from jsoftmax import softmax

HEADS = 4


def initial(seed, words, length, width, layers):
    """Parameters: standard deviation 0.02 for embeddings, 1/√inputs elsewhere, less where residual sums begin."""
    rng = np.random.default_rng(seed)

    def normal(shape, deviation):
        return jnp.asarray(rng.normal(0, deviation, shape), jnp.float32)

    def block():
        into, small = width**-0.5, (2 * layers) ** -0.5
        return {
            "attend": {"gain": jnp.ones(width), "qkv": normal((width, 3, HEADS, width // HEADS), into)},
            "mix": normal((HEADS, width // HEADS, width), into * small),
            "gain": jnp.ones(width),
            "up": normal((width, 4 * width), into),
            "down": normal((4 * width, width), into / 2 * small),
        }

    return {
        "embedding": normal((words, width), 0.02),
        "position": normal((length, width), 0.02),
        "blocks": [block() for _ in range(layers)],
        "gain": jnp.ones(width),
    }


def features(parameters, inputs, axis_name=None):
    """[N, length, width] of words [N, length]; a position sees itself and those before it.

    With `axis_name` the devices along that mesh axis have the words of the embedding between them.
    """
    x = _embedded(parameters["embedding"], inputs, axis_name) + parameters["position"][None]
    for block in parameters["blocks"]:
        x = x + _attention(block, _normed(x, block["attend"]["gain"]))
        hidden = _normed(x, block["gain"]) @ block["up"]
        x = x + jax.nn.gelu(hidden) @ block["down"]
    return _normed(x, parameters["gain"])


def _embedded(embedding, words, axis_name):
    if axis_name is None:
        return embedding[words]
    words -= len(embedding) * jax.lax.axis_index(axis_name)
    here = (words >= 0) & (words < len(embedding))
    found = embedding[jnp.where(here, words, 0)]
    return jax.lax.psum(jnp.where(here[..., None], found, 0), axis_name)


def _attention(block, x):
    q, k, v = jnp.moveaxis(jnp.einsum("ntd,dchk->ncthk", x, block["attend"]["qkv"]), 1, 0)
    earlier = jnp.tri(x.shape[1], dtype=bool)
    scores = jnp.einsum("nthk,nshk->nhts", q, k)
    p = softmax(scores, temperature=q.shape[-1] ** 0.5, where=earlier[None, None])
    return jnp.einsum("nhts,nshk,hkd->ntd", p, v, block["mix"])


def _normed(x, gain):
    scale = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
    return x * scale * gain[None, None]
