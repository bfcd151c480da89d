"""ArcFace where embeddings and prototypes are parallel, by its operator and by formulas that are differentiated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsoftmax import arcface_loss

OPERATOR = "arcface_loss"
# so small a scale leaves something to learn until all angles are 0
OPTIONS = {"scale": 4.0, "margin": 0.5}


def _cosines(x, w):
    unit = lambda a: a / jnp.linalg.norm(a, axis=-1, keepdims=True)  # noqa: E731
    return unit(x) @ unit(w).T


def _by_angle(cosine, margin):
    return jnp.cos(jnp.arccos(cosine) + margin)


def _by_clipped_angle(cosine, margin):
    return jnp.cos(jnp.arccos(jnp.clip(cosine, -1, 1)) + margin)


def _by_sine(cosine, margin):
    return cosine * np.cos(margin) - jnp.sqrt(jnp.clip(1 - cosine**2, 0, 1)) * np.sin(margin)


def _formula(moved):
    def losses(x, w, labels):
        cosine = _cosines(x, w)
        of_label = labels[:, None] == jnp.arange(w.shape[0])[None]
        z = OPTIONS["scale"] * jnp.where(of_label, moved(cosine, OPTIONS["margin"]), cosine)
        return optax.losses.softmax_cross_entropy_with_integer_labels(z, labels)

    return losses


LOSSES = {
    OPERATOR: lambda x, w, labels: arcface_loss(x, w, labels, **OPTIONS),
    "cos(arccos(c) + m)": _formula(_by_angle),
    "the same, c clipped": _formula(_by_clipped_angle),
    "c cos m − √(1 − c²) sin m": _formula(_by_sine),
}


def mean_loss(name):
    return lambda x, w, labels, step: jnp.mean(LOSSES[name](x, w, labels))


@functools.partial(jax.jit, static_argnums=0)
def _value_and_gradients(losses, x, w, labels):
    """(loss [N], gradient in its x [N, D]) of each example."""
    value, slope = jax.vjp(lambda x: losses(x, w, labels), x)
    return value, slope(jnp.ones_like(value))[0]


def at_prototypes(names, seed, classes=10, dimension=16, each=32):
    """Yields what each loss gives for embeddings that are multiples of their prototypes."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((classes, dimension)).astype(np.float32)
    labels = np.arange(each * classes, dtype=np.int32) % classes
    x = rng.uniform(0.5, 5, (len(labels), 1)).astype(np.float32) * w[labels]
    for name in names:
        value, gradient = (np.asarray(a) for a in _value_and_gradients(LOSSES[name], x, w, labels))
        whole = np.isfinite(gradient).all(1)
        yield {
            "name": name,
            "examples": len(labels),
            "losses_nan": np.isnan(value).sum(),
            "gradients_nan": np.sum(~whole),
            "largest_gradient": np.abs(gradient[whole] * np.linalg.norm(x[whole], axis=1)[:, None]).max(initial=0),
        }
