"""Rows with a value attached to each class: attention of a block of queries over a memory of keys.

s_tj  =  ⟨q_t, k_j⟩       z_tj  =  β s_tj + b_tj       p_t  =  softmax of z_t       o_t  =  Σ_j p_tj v_j

a_tj  =  ⟨o_bar_t, v_j⟩
z_bar_tj  =  p_tj (a_tj − Σ_i p_ti a_ti + (log Z)_bar_t)                                        (18)
q_bar_t  =  β Σ_j z_bar_tj k_j       k_bar_j  =  β Σ_t z_bar_tj q_t
v_bar_j  =  Σ_t p_tj o_bar_t         b_bar  =  z_bar                                            (19)
β_bar_t  =  Σ_j z_bar_tj (s_tj − m_t) + (log Z)_bar_t m_t                                       (20)

At once the weights of a row are those of `statistics`. In blocks of keys a row is a peak and an excess with values:
with r a key at the peak, if that has half of the weight or more

o_t  =  v_r + Σ_{j≠r} p_tj (v_j − v_r)
a_tj − Σ_i p_ti a_ti  =  (a_tj − a_tr) − ⟨o_bar_t, o_t − v_r⟩                                   (21)

and neither cancels where p_r is nearly all the weight; else v_r = 0 in both, for it may be far larger than o. No
derivative passes through blocks of keys: it is that of whole rows.

Queries are [B, K, G, T, H], keys [B, K, S, H] and values [B, K, S, V]: G heads share those of one. What is of a row is
[B, K, G, T, 1] or has size 1 somewhere, what is of a score [B, K, G, T, S].
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jsoftmax._core import axes as ax
from jsoftmax._core import blocks, dtypes, mesh
from jsoftmax._core.types import Logits, Mask, Rows
from jsoftmax._partition import limits, merge, pullback, reference
from jsoftmax._partition.reference import Statistics, masked, times
from jsoftmax._partition.statistics import gap, log_partition, statistics, weights
from jsoftmax._partition.streamed import NONE

AXES = (4,)


class Attention(NamedTuple):
    """What the gradient is taken in."""

    query: Any
    key: Any
    value: Any
    bias: Any  # of the scores; None if there is none
    beta: Any  # of the rows; None for a constant


class Hidden(NamedTuple):
    """What hides keys from queries; None what does not."""

    where: Any  # boolean, of the scores
    index: Any  # of the rows, int32: keys behind the own index are not seen


class Scores(NamedTuple):
    products: Logits  # s
    logits: Logits  # z, up to β or a number of the row
    beta: Rows | None  # of these logits
    origin: Any  # of products, where β takes them to logits without being theirs


class Gathered(NamedTuple):
    """A row of which some keys were seen."""

    stats: Statistics
    first: Array  # r, int32
    own: Rows  # exp(t_r)
    rest: Rows  # Σ_{j≠r} exp(t_j)
    at: Array  # v_r
    below: Array  # Σ_{j≠r} exp(t_j) v_j


# products ----------------------------------------------------------------------------------------------------------


def _product(a: Array, b: Array, of_a: tuple[int, ...], of_b: tuple[int, ...]) -> Array:
    """Over the axes `of_a` and `of_b`, in float32 or wider; the first two axes are batches."""
    return lax.dot_general(a, b, ((of_a, of_b), ((0, 1), (0, 1))), preferred_element_type=dtypes.wide(b.dtype))


def _with_each(q: Array, k: Array) -> Logits:
    """⟨q_t, k_j⟩."""
    return _product(q, k, (4,), (3,))


def _read(p: Logits, v: Array) -> Array:
    """Σ_j p_tj v_j."""
    return _product(p.astype(v.dtype), v, (4,), (2,))


def _write(p: Logits, q: Array) -> Array:
    """Σ_t p_tj q_t, over the heads that share a memory too."""
    return _product(p.astype(q.dtype), q, (2, 3), (2, 3))


def _settled(a: Array) -> Array:
    """What is hidden, 0 · NaN must not bring back."""
    return jnp.where(jnp.isfinite(a), a, 0)


def marked(a: Attention) -> Attention:
    """Keys whose values are no numbers are none either: rows that see them are NaN, and of others nothing changes."""
    bad = ~jnp.all(jnp.isfinite(a.value), 3, keepdims=True)
    return a._replace(key=jnp.where(bad, jnp.nan, a.key), value=_settled(a.value))


# rows at once ------------------------------------------------------------------------------------------------------


def visible(hidden: Hidden, bias: Any, keys: int, start: Any = 0) -> Mask:
    """Which of the keys from `start` on a query sees; a bias of −∞ hides one as `where` does."""
    where, index = hidden
    if bias is not None:
        where = bias != -jnp.inf if where is None else where & (bias != -jnp.inf)
    if index is None:
        return where
    before = start + lax.broadcasted_iota(jnp.int32, (1, 1, 1, 1, keys), 4) <= index
    return before if where is None else where & before


def scores(a: Attention, where: Mask, scale: float, origin: Rows | None = None) -> Scores:
    """With a bias and β, logits are made of gaps of the products, so that at β = ±∞ their order comes first."""
    s = _with_each(a.query, a.key)
    if a.beta is None:
        z = s * scale
        return Scores(s, z if a.bias is None else z + a.bias, None, None)
    if a.bias is None:
        return Scores(s, s, a.beta, None)
    origin = (
        lax.stop_gradient(reference.peak_of(*lax.stop_gradient((s, a.beta)), where, AXES)) if origin is None else origin
    )
    return Scores(s, gap(s, a.beta, where, origin) + a.bias, None, origin)


def _log_z(z: Scores, a: Attention, where: Mask, stats: Statistics) -> Rows:
    y = log_partition(z.logits, z.beta, where, stats, AXES)
    return y if z.origin is None else y + _offset(a.beta, z.origin)


def _offset(beta: Rows, origin: Rows) -> Rows:
    """β m of the products; at β = ±∞ nothing depends on β."""
    beta = jnp.where(jnp.isinf(beta), lax.stop_gradient(beta), beta)
    return jnp.where(origin == 0, 0, beta * origin)


def value(a: Attention, hidden: Hidden, scale: float, measured: bool) -> tuple[Array, Any, Statistics]:
    """(o, log Z if `measured`, statistics)."""
    where = visible(hidden, a.bias, a.key.shape[2])
    z = scores(a, where, scale)
    stats = statistics(z.logits, z.beta, where, AXES, fine=measured)
    p = weights(z.logits, z.beta, where, stats, AXES)
    return _read(p, a.value), _log_z(z, a, where, stats) if measured else None, stats


def pull(
    shared: Attention,
    g: Array,
    log_z_bar: Any,
    a: Attention,
    hidden: Hidden,
    stats: Statistics,
    scale: float,
    wanted: Any,
) -> tuple[Attention, Attention]:
    """(19) and (20): (shared + what queries have in common, what is of each query), the bias in one of them."""
    where = visible(hidden, a.bias, a.key.shape[2])
    z = scores(a, where, scale)
    p = weights(z.logits, z.beta, where, stats, AXES)
    z_bar = pullback.through_weights(_with_each(g.astype(a.value.dtype), a.value), z.logits, z.beta, where, stats, AXES)
    z_bar = z_bar if log_z_bar is None else z_bar + p * log_z_bar  # (18)
    shared, own, moved = _bars(shared, p, masked(z_bar, where), g, z, a, where, stats, scale, wanted)
    return shared, _with_beta(own, moved, log_z_bar, z.origin, a, stats, wanted)


def _with_beta(own, moved, log_z_bar, origin, a, stats, wanted):
    """The second term of (20) added to the first."""
    if not wanted.beta:
        return own
    if log_z_bar is not None:
        origin = stats.peak if origin is None else origin
        moved = moved + log_z_bar * limits.held(origin, a.beta, stats.excess)
    return own._replace(beta=moved)


def _bars(shared, p, z_bar, g, z, a, where, stats, scale, wanted, start=0):
    """(shared, own, the first term of (20)) for the keys of `a`, which are those from `start` on in `shared`."""
    own, moved = Attention(*(None for _ in a)), None
    if wanted.value:
        g = g.astype(a.value.dtype)
        value_bar = _write(p, g) if where is None else _write(_poisoned(p, g, where), _settled(g))
        shared = shared._replace(value=blocks.add_at(shared.value, value_bar, start, 2))
    if wanted.bias:
        each = _summed(z_bar, a.bias)
        if shared.bias is None:
            own = own._replace(bias=each)
        else:
            shared = shared._replace(bias=blocks.add_at(shared.bias, each, start, 4))
    if wanted.beta:
        frame = stats if z.origin is None else Statistics(z.origin, stats.excess)
        moved = pullback.to_beta(z_bar, z.products, a.beta, where, frame, AXES)
    if wanted.query or wanted.key:
        s_bar = z_bar * scale if a.beta is None else limits.saturate(times(a.beta, z_bar))
        s_bar = masked(s_bar, where).astype(a.query.dtype)
        if wanted.query:
            own = own._replace(query=_read(s_bar, _settled(a.key)))
        if wanted.key:
            shared = shared._replace(key=blocks.add_at(shared.key, _write(s_bar, _settled(a.query)), start, 2))
    return shared, own, moved


def _poisoned(p, g, where):
    """Weights of rows whose cotangent is no number: NaN where they are seen, so that it reaches nothing else."""
    return masked(p + jnp.where(jnp.isfinite(g).all(4, keepdims=True), 0, jnp.nan).astype(p.dtype), where)


def _summed(z_bar, bias):
    """Over the axes on which the bias has size 1, but for that of the queries in a block of theirs."""
    spread = tuple(i for i, n in enumerate(bias.shape) if n == 1 and z_bar.shape[i] != 1)
    return jnp.sum(z_bar, spread, keepdims=True)


# block of keys after block of keys ---------------------------------------------------------------------------------


def _part(a: Attention, hidden: Hidden, start: Any, length: int) -> tuple[Attention, Mask]:
    """Of the keys from `start` on."""

    def cut(a, axis):
        return a if a is None or a.shape[axis] == 1 else lax.dynamic_slice_in_dim(a, start, length, axis)

    part = a._replace(key=cut(a.key, 2), value=cut(a.value, 2), bias=cut(a.bias, 4))
    return part, visible(hidden._replace(where=cut(hidden.where, 4)), part.bias, length, start)


def _needed(hidden: Hidden) -> Any:
    """How many keys some query sees, if that is known."""
    return None if hidden.index is None else jnp.max(hidden.index, initial=-1) + 1


def _over_keys(f, carry, a, hidden, block):
    """f(carry, part, where, start) of each block of keys."""

    def step(carry, start, length):
        return f(carry, *_part(a, hidden, start, length), start)

    return blocks.over_slices(step, carry, a.key.shape[2], block, _needed(hidden))


def _zeros(a: Attention, hidden: Hidden, width: int) -> Array:
    """Zeros, `width` for each query."""
    like = [b for b in (*a, *hidden) if b is not None]
    return mesh.vary(jnp.zeros((*a.query.shape[:4], width), dtypes.wide(a.query.dtype)), *like)[0]


def _origin(a: Attention, hidden: Hidden, block: int) -> Any:
    """Of products, over all keys."""
    if a.bias is None or a.beta is None:
        return None
    nothing = _zeros(a, hidden, 1)

    def look(found, part, where, _):
        s = _with_each(part.query, part.key)
        peak = reference.peak_of(s, a.beta, where, AXES)
        empty = ~jnp.any(reference.live(s, where), AXES, keepdims=True)
        return merge.merge(found, Statistics(peak, jnp.where(empty, -1.0, 0 * peak)), a.beta)

    return _over_keys(look, Statistics(nothing, nothing - 1), a, hidden, block).peak


def gather(a: Attention, hidden: Hidden, scale: float, block: int) -> tuple[Gathered, Any]:
    """(The rows over all keys, what `scores` takes as their origin)."""
    origin, nothing = _origin(a, hidden, block), _zeros(a, hidden, 1)
    zeros = _zeros(a, hidden, a.value.shape[3])

    def look(found, part, where, start):
        z = scores(part, where, scale, origin)
        return _joined(found, _of_block(z, part.value, where, start), _beta(z))

    start = Gathered(Statistics(nothing, nothing - 1), nothing.astype(jnp.int32), nothing, nothing, zeros, zeros)
    return _over_keys(look, start, a, hidden, block), origin


def _beta(z: Scores) -> Rows:
    return jnp.ones((1,) * 5, z.logits.dtype) if z.beta is None else z.beta


def _of_block(z: Scores, v: Array, where: Mask, start: Any) -> Gathered:
    stats = reference.statistics_of(z.logits, z.beta, where, AXES)
    e = reference.masses(z.logits, z.beta, where, stats.peak)
    index = ax.class_index(e.shape, AXES)
    # not where z is the peak: logits that are made again may be rounded otherwise
    first = jnp.min(jnp.where(e + reference.NEAR >= 1, index, NONE), AXES, keepdims=True, initial=NONE)
    here = index == first
    own = jnp.sum(jnp.where(here, e, 0), AXES, keepdims=True)
    others = jnp.where(here, 0, e)
    rest = jnp.sum(others, AXES, keepdims=True)
    return Gathered(
        stats, jnp.where(first == NONE, NONE, start + first), own, rest, value_at(v, first), _read(others, v)
    )


def value_at(v: Array, index: Array) -> Array:
    """v_r of each query, in float32 or wider; 0 if r is no key."""
    n, width = index.shape[:4], v.shape[3]
    inside = (index >= 0) & (index < v.shape[2])
    rows = jnp.where(inside, index, 0).reshape(*n[:2], n[2] * n[3], 1)
    found = jnp.take_along_axis(v, rows, 2, mode="clip").reshape(*n, width)
    return jnp.where(inside, found, 0).astype(dtypes.wide(v.dtype))


def _joined(a: Gathered, b: Gathered, beta: Rows) -> Gathered:
    """The row over the keys of both, relative to r of the one that leads."""
    stats, leads, kept = merge.leading(a.stats, b.stats, beta)

    def chosen(x, y):
        return jnp.where(leads, x, y), jnp.where(leads, y, x)

    first, _ = chosen(a.first, b.first)
    (own, own_tail), (rest, rest_tail) = chosen(a.own, b.own), chosen(a.rest, b.rest)
    (at, at_tail), (below, below_tail) = chosen(a.at, b.at), chosen(a.below, b.below)
    rest = rest + kept * (rest_tail + own_tail)
    return Gathered(stats, first, own, rest, at, below + kept * (below_tail + own_tail * at_tail))


def read(found: Gathered) -> tuple[Array, Array, Array]:
    """(o, o − v_r, r) of (21); r is no key where none has half of the weight. NaN in a poisoned row."""
    empty, leads = found.stats.excess == -1, found.rest <= found.own
    total = jnp.where(empty, 1, found.own + found.rest + 0 * found.stats.excess)
    at = jnp.where(leads, found.at, 0)
    away = jnp.where(leads, found.below - found.rest * found.at, found.below + found.own * found.at)
    away = jnp.where(empty, 0, away / total)
    return jnp.where(empty, 0, at + away), away, jnp.where(leads, found.first, NONE)


def log_z_of(found: Gathered, a: Attention, origin: Any) -> Rows:
    beta = a.beta if a.bias is None else None
    y = reference.log_partition(beta, found.stats)
    return y if origin is None else y + _offset(a.beta, origin)


def pull_gathered(shared, g, log_z_bar, a, hidden, saved, scale, wanted, block):
    """As `pull`, from what was gathered: (statistics, origin, r, o − v_r)."""
    stats, origin, first, moved_away = saved
    wide = dtypes.wide(a.query.dtype)
    g_v = g.astype(a.value.dtype)
    at = jnp.sum(g_v.astype(wide) * value_at(a.value, first), 4, keepdims=True)
    level = jnp.sum(g.astype(wide) * moved_away, 4, keepdims=True)
    level = -level if log_z_bar is None else log_z_bar - level

    def step(carry, part, where, start):
        shared, query_bar, bias_bar, moved = carry
        z = scores(part, where, scale, origin)
        p = reference.weights(z.logits, z.beta, where, stats)
        here = start + ax.class_index(p.shape, AXES) == first
        z_bar = masked(p * (jnp.where(here, 0, _with_each(g_v, part.value) - at) + level), where)  # (18), (21)
        shared, own, more = _bars(shared, p, z_bar, g, z, part, where, stats, scale, wanted, start)
        query_bar = query_bar if own.query is None else query_bar + own.query
        bias_bar = bias_bar if own.bias is None else blocks.add_at(bias_bar, own.bias, start, 4)
        return shared, query_bar, bias_bar, moved if more is None else moved + more

    nothing = _zeros(a, hidden, 1)
    start = (
        shared,
        _zeros(a, hidden, a.query.shape[4]) if wanted.query else None,
        mesh.vary(jnp.zeros(a.bias.shape, wide), nothing)[0] if wanted.bias and shared.bias is None else None,
        nothing if wanted.beta else None,
    )
    shared, query_bar, bias_bar, moved = _over_keys(step, start, a, hidden, block)
    own = Attention(query_bar, None, None, bias_bar, None)
    return shared, _with_beta(own, moved, log_z_bar, origin, a, stats, wanted)
