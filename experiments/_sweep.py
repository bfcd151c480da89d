"""What a β-softmax does between argmin (β = −∞), uniform (0) and argmax (+∞), measured on rows of scores.

With the *extremum* of a row its largest score for β ≥ 0 and its smallest for β < 0, reached by k classes, and *gap* the
distance to the next score, held by m classes:

    off-mass     Σ_{x_j ≠ extremum} p_j       →  m/k · exp(−|β| gap)          (1)
    entropy      −Σ p log p                   →  ln k,  ln n at β = 0         (2)
    lse excess   |lse_β(x) − extremum|        ≤  ln n / |β|                   (3)
    ‖∂p/∂x‖_F    k = 1: → |β| √(1 + 3/m) · off-mass;  k > 1: → |β| √(k−1)/k   (4)
"""

import jax
import jax.numpy as jnp
import numpy as np

from jsoftmax import log_softmax, logsumexp, softmax, softmax_jacobian


def _extremum(x, beta):
    return jnp.where(beta < 0, x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True))


def off_mass(x, beta):
    """(1), summed over the other classes: 1 − p_max would be 0 in float32 from β·gap ≈ 17 on."""
    return jnp.sum(jnp.where(x == _extremum(x, beta), 0.0, softmax(x, beta=beta)), axis=-1)


def entropy(x, beta):
    p = softmax(x, beta=beta)
    return jnp.sum(jnp.where(p > 0, -p * log_softmax(x, beta=beta), 0.0), axis=-1)


def lse_excess(x, beta):
    """(3). The shift comes first, so that a small excess is not rounded away against the extremum."""
    return jnp.abs(logsumexp(x - _extremum(x, beta), beta=beta))


def jacobian_norm(x, beta):
    """(4). Scaled by the largest entry: the squares of a saturated Jacobian would underflow."""
    jacobian = softmax_jacobian(x, beta=beta)
    largest = jnp.max(jnp.abs(jacobian), axis=(-2, -1), keepdims=True)
    return jnp.linalg.norm(jacobian / jnp.where(largest > 0, largest, 1.0), axis=(-2, -1)) * largest[..., 0, 0]


def _observe(x, beta):
    p = softmax(x, beta=beta)
    return {
        "p": p,
        "off_mass": off_mass(x, beta),
        "one_minus_p_max": 1 - p.max(axis=-1),
        "entropy": entropy(x, beta),
        "lse_excess": lse_excess(x, beta),
        "jacobian_norm": jacobian_norm(x, beta),
    }


observe = jax.jit(jax.vmap(_observe, in_axes=(None, 0)))
"""Rows [N, n] and β [B] → a dict of [B, N, …]: one compilation for every β, ±∞ and 0 among them."""


def gap(x, beta):
    """(gap, k, m) of one row on the side of the sign of β, in float64; gap is inf for a row of equal scores."""
    values, counts = np.unique(np.asarray(x, np.float64) * (-1 if beta >= 0 else 1), return_counts=True)
    return (values[1] - values[0], counts[0], counts[1]) if len(values) > 1 else (np.inf, counts[0], 0)


def off_mass_law(x, beta):
    """The right-hand side of (1) for one row, in float64; a law for large |β|, of no meaning near 0."""
    distance, winners, next_best = gap(x, beta)
    return float(next_best / winners * np.exp(-abs(beta) * distance)) if np.isfinite(distance) else 0.0


@jax.jit
def _log_off_mass(x, beta):
    return jax.vmap(lambda b: jnp.log(off_mass(x, b)))(beta)


def fitted_rates(x, gaps):
    """Least-squares slope of −log off-mass against β for each row, over 60 ≤ β·gap ≤ 76.

    A third class at any distance moves the slope there by at most W(1/e)/60 = 0.46 % (W is Lambert's). The end keeps
    the classes that still count clear of float32's underflow at exp(−87).
    """
    beta = np.linspace(60, 76, 9)[:, None] / gaps
    heights = np.asarray(_log_off_mass(x, jnp.asarray(beta[..., None], jnp.float32)), np.float64)
    centred = beta - beta.mean(axis=0)
    return -(centred * heights).sum(axis=0) / (centred**2).sum(axis=0)
