"""The monoid of (peak, excess): two disjoint sets of classes make one.

    M  = the larger peak (the smaller if β < 0)
    s' = Σ_{m_i = M} (1 + s_i) + Σ_{m_i ≠ M} (1 + s_i) exp(β (m_i − M)) − 1

The first term counts ties across the sets. An empty set has 1 + s = 0 and takes no part.
"""

import jax.numpy as jnp
from jax import lax

from jsoftmax._core import accurate
from jsoftmax._core.types import Rows
from jsoftmax._partition import reference
from jsoftmax._partition.reference import Statistics


def merge(a: Statistics, b: Statistics, beta: Rows) -> Statistics:
    """Statistics of the union of two disjoint sets of classes under one β."""
    return leading(a, b, beta)[0]


def leading(a: Statistics, b: Statistics, beta: Rows) -> tuple[Statistics, Rows, Rows]:
    """(Statistics of the union, whether the peak is that of `a`, what a mass of the other set counts).

    Of equal peaks, s' = s_a + (1 + s_b): 1 is added once and never subtracted, so a small s_a is not rounded away.
    """
    a_empty, b_empty = a.excess == -1, b.excess == -1
    a_leads = jnp.where(beta < 0, a.peak <= b.peak, a.peak >= b.peak)
    a_leads = b_empty | (a_leads & ~a_empty)
    lead_peak, lead = jnp.where(a_leads, a.peak, b.peak), jnp.where(a_leads, a.excess, b.excess)
    tail_peak, tail = jnp.where(a_leads, b.peak, a.peak), jnp.where(a_leads, b.excess, a.excess)
    # an empty tail has peak 0, which may lie beyond the lead's: no exponential of it
    t = reference.gap(jnp.where(tail == -1, lead_peak, tail_peak), beta, None, lead_peak)
    kept = accurate.exp(t)
    # a NaN never leads in a comparison, and must not be lost
    peak = jnp.where(jnp.isnan(tail_peak), tail_peak, lead_peak)
    return Statistics(peak, lead + (1 + tail) * kept), a_leads, kept


def over_devices(stats: Statistics, beta: Rows | None, names: tuple[str, ...]) -> Statistics:
    """Statistics of the union of what the devices along the mesh axes `names` have: three numbers a row travel.

    s' = Σ_{m_i = M} s_i + Σ_{m_i ≠ M} (1 + s_i) exp(β (m_i − M)) + (#{m_i = M} − 1), so that no small s_i meets a 1.
    """
    peak, excess = stats
    empty = excess == -1
    turned = peak if beta is None else jnp.where(beta < 0, -peak, peak)
    highest = lax.pmax(jnp.where(empty, -jnp.inf, turned), names)
    nothing = highest == -jnp.inf  # or for β < 0 nothing but +∞
    highest = jnp.where(nothing, 0, highest)
    highest = highest if beta is None else jnp.where(beta < 0, -highest, highest)
    leads = (peak == highest) & ~empty
    t = reference.gap(jnp.where(empty, highest, peak), beta, None, highest)
    apart = jnp.where(leads, excess, (1 + excess) * accurate.exp(t))
    # what pmax makes of a NaN differs from platform to platform
    count = jnp.where(jnp.isnan(peak), jnp.nan, leads.astype(peak.dtype))
    apart, count = lax.psum((apart, count), names)
    peak = jnp.where(nothing & jnp.isnan(apart), jnp.inf, highest)
    return Statistics(peak + 0 * count, apart + (count - 1))
