"""What β⁻¹ log Z and its slopes are at the edges: β = 0, no live entry, a +∞ among them."""

import jax.numpy as jnp
from jax import Array

from jsoftmax._core.types import Rows


def inverse(beta: Rows) -> Rows:
    """1/β, and at 0 the largest power of two in its place, so that a quotient saturates instead of being 0/0.

    Quotients by powers of β multiply by it: XLA turns a/β/β into a/(β β), and β β underflows.
    """
    return 1 / jnp.where(beta == 0, jnp.finfo(beta.dtype).tiny, beta)


def saturate(y: Array) -> Array:
    """`y` within 2⁻³² of the largest number, so that infinite slopes of both signs can still be added over rows."""
    largest = float(jnp.finfo(y.dtype).max) * 2.0**-32
    return jnp.clip(y, -largest, largest)


def held(slope: Rows, beta: Rows | None, excess: Rows) -> Rows:
    """A slope in β, and 0 at ±∞, where no operator depends on β any more; NaN rows stay."""
    return slope if beta is None else jnp.where(jnp.isinf(beta) & ~jnp.isnan(excess), 0, slope)


def of_nothing(beta: Rows) -> Rows:
    """β⁻¹ log 0."""
    return jnp.where(jnp.isnan(beta), beta, jnp.where(beta < 0, jnp.inf, -jnp.inf))


def smooth_extremum(y: Rows, empty: Rows, peak: Rows, beta: Rows | None) -> Rows:
    """`y`; of a row without a live entry what `of_nothing` says, and +∞ at a peak of +∞ unless β is NaN."""
    if beta is None:
        return jnp.where(peak == jnp.inf, jnp.inf, jnp.where(empty, -jnp.inf, y))
    y = jnp.where(empty, of_nothing(beta), y)
    return jnp.where((peak == jnp.inf) & ~jnp.isnan(beta), jnp.inf, y)
