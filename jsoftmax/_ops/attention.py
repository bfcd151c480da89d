"""Attention: the softmax as an address into a memory, and what is read there.

o_t  =  Σ_j p_tj v_j          p_t  =  softmax over keys j of  β ⟨q_t, k_j⟩ + b_tj

Blocks of queries, one after the other, of all keys or of blocks of them too; `_partition.addressed` has the formulas of
a block, value and cotangents.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import blocks, check, check_attention, dtypes, mesh
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import addressed
from jsoftmax._partition.addressed import Attention, Hidden

ROWS = 3  # the axis of queries


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    beta: ArrayLike | None = None,
    where: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    is_causal: bool = False,
    return_logsumexp: bool = False,
    block_size: int | tuple[int, int] | None = None,
) -> Any:
    """Attention of queries over a memory: each reads values at the softmax of its products with the keys.

    Takes the place of `jax.nn.dot_product_attention`: the same layout, with β for `scale`, without an array of all
    scores, and with the gradients that are missing there.

    Args:
      query: real, [B, T, N, H] or [T, N, H]: T queries in each of N heads.
      key: real, [B, S, K, H] or [S, K, H]. K divides N: N / K heads in a row share the keys and values of one.
      value: real, [B, S, K, V] or [S, K, V]; V need not be H.
      beta: inverse temperature of the products, any real or ±inf; 1/√H by default. A scalar, or an array that
        broadcasts to the queries [B, T, N]: [N] has one a head, [T, 1] one a query. At ±inf the keys with the largest
        (smallest) product share the address, as their biases tell.
      where: boolean, broadcasts to the scores [B, N, T, S]: False hides a key from a query. Padding, lengths, windows.
      bias: real, broadcasts to the scores: added to β times the products. −inf hides a key.
      is_causal: query t sees the keys up to the t-th. Whole blocks of keys behind all queries of a block cost nothing.
      return_logsumexp: return also log Z of every query, the log-sum-exp of its scores in nats.
      block_size: queries of a block, or (queries, keys): as many scores are there at once, in float32 or wider, for
        every head, in the gradient some three times. By default up to 512 keys are one block, for up to 16 queries as
        many as make 2²² scores, and more are cut into blocks of 512; queries are as many as make 2²² scores, 512 at
        most and one at least. Axes of `jax.vmap` are not counted.

    Returns:
      [B, T, N, V] or [T, N, V], in the common dtype of the three; sums are taken in float32 or wider. With
      `return_logsumexp` a pair: this, and [B, T, N], float32 or wider. A query that sees no key reads 0, with log Z =
      −inf. A NaN in a query or in a key or value that it sees, a score of +inf and an infinite value make all of the
      query NaN: what it reads, log Z and gradients; what is hidden has no effect, whatever it holds.

    Raises:
      TypeError: an array is boolean, complex or a list; `where` is not boolean.
      ValueError: shapes that do not fit; K does not divide N; a `block_size` below 1.

    Derivatives: in `query`, `key`, `value`, `bias` and `beta`, also through log Z, to any order; forward mode inside
    `forward_mode()`. A bias beside β takes one more product in blocks of keys. What the softmax is moved by is summed
    without the key at the peak, so that it is exact where one key has nearly all the weight. Derivatives of the
    gradient make the scores of all keys of a block of queries.
    Products with values and of cotangents are taken in the common dtype too, in float32 for float16.
    Saves `query`, `key`, `value`, `bias`, `where`, β and two numbers a query; with blocks of keys one or two more, and
    an array like the result in float32 or wider.

    References: Vaswani et al. (2017), arXiv:1706.03762; Ainslie et al. (2023), arXiv:2305.13245 (shared heads);
    Milakov & Gimelshein (2018), arXiv:1805.02867; Dao et al. (2022), arXiv:2205.14135 (blocks of keys).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> memory = jnp.eye(3)[:, None]  # three keys in one head
      >>> jsoftmax.dot_product_attention(memory[:1], memory, memory, beta=jnp.inf)
      Array([[[1., 0., 0.]]], dtype=float32)
    """
    name = "dot_product_attention"
    query, key, value = check_attention.memory(name, query, key, value)
    shape = check_attention.score_shape(query, key)
    dtype = dtypes.common(query.dtype, key.dtype, value.dtype)
    if beta is not None:
        beta = check.row_number(name, "beta", beta, dtype, query.shape[:-1])
    where = check_attention.of_scores(name, "where", where, shape)
    bias = check_attention.of_scores(name, "bias", bias, shape)
    sizes = _sizes(shape, check.block_size(name, block_size, "(queries, keys)"))
    plan = Plan(*sizes, 1 / math.sqrt(max(query.shape[-1], 1)), bool(is_causal), bool(return_logsumexp))
    return _attention(query, key, value, bias, beta, where, plan)


SCORES, QUERIES, KEYS = 2**22, 512, 512  # of a block, at most
FEW = 16  # queries for which keys are not cut


def _sizes(shape: tuple[int, ...], given: tuple[int | None, int | None]) -> tuple[int, int]:
    """(queries, keys) of a block."""
    *heads, queries, keys = shape
    each = max(math.prod(heads), 1)
    few = queries <= FEW and each * queries * keys <= SCORES
    rows, part = given[0], given[1] or (keys if few else KEYS)
    part = max(min(part, keys), 1)
    return rows or max(min(SCORES // (each * part), QUERIES), 1), part


class Plan(NamedTuple):
    """What is known without a number."""

    queries: int  # at most so many in a block
    keys: int
    scale: float  # where there is no β
    causal: bool
    measured: bool

    def streams(self, a):
        return self.keys < a.key.shape[2]


@functools.partial(jax.jit, static_argnums=6)
def _attention(query, key, value, bias, beta, where, plan):
    spec = tuple(jax.typeof(query).sharding.spec)
    width = tuple(jax.typeof(value).sharding.spec)[-1:]
    out: Any = PartitionSpec(*spec[:-1], *width)
    out = (out, PartitionSpec(*spec[:-1])) if plan.measured else out
    run = functools.partial(_unplaced, plan=plan)
    return mesh.automatic(run, out, query, key, value, bias, beta, where)


def _unplaced(query, key, value, bias, beta, where, plan):
    """Operands brought to the axes of `addressed`."""
    dtype = dtypes.common(query.dtype, key.dtype, value.dtype)
    # weights and cotangents of scores leave the range of float16
    inside = jnp.float32 if dtype == jnp.float16 else dtype
    query, key, value = (a.astype(inside) for a in (query, key, value))
    batched, (t, n), k = query.ndim == 4, query.shape[-3:-1], key.shape[-2]
    q = query if batched else query[None]
    q = q.reshape(*q.shape[:2], k, n // k, q.shape[-1]).transpose(0, 2, 3, 1, 4)
    key, value = (jnp.moveaxis(a if batched else a[None], 2, 1) for a in (key, value))
    bias, where = (a if a is None else _of_heads(a, k) for a in (bias, where))
    bias = bias if bias is None else bias.astype(dtypes.wide(dtype))
    beta = beta if beta is None else _of_rows(beta, k, n)
    index = jnp.arange(t, dtype=jnp.int32).reshape(1, 1, 1, t, 1) if plan.causal else None
    *a, where, index = mesh.vary(q, key, value, bias, beta, where, index)
    y, log_z = _ruled(Attention(*a), Hidden(where, index), plan)
    y = y.transpose(0, 3, 1, 2, 4).reshape(q.shape[0], t, n, y.shape[-1])
    y = (y if batched else y[0]).astype(dtype)
    if not plan.measured:
        return y
    log_z = log_z.transpose(0, 3, 1, 2, 4).reshape(q.shape[0], t, n)
    return y, log_z if batched else log_z[0]


def _of_heads(a, k):
    """[B, N, T, S], or with fewer axes, as [B, K, G, T, S]."""
    a = ax.lift(a, 4)
    b, n, *scores = a.shape
    return a.reshape(b, *((1, 1) if n == 1 else (k, n // k)), *scores)


def _of_rows(a, k, n):
    """[B, T, N], or with fewer axes, as [B, K, G, T, 1]."""
    a = ax.lift(a, 3)
    a = a.reshape(*a.shape[:2], *((1, 1) if a.shape[2] == 1 else (k, n // k)))
    return a.transpose(0, 2, 3, 1)[..., None]


# block of queries after block of queries ---------------------------------------------------------------------------


OF_QUERIES = ("query", "bias", "beta")  # where they have the axis


def _over_queries(f, carry, a, hidden, plan, *rows):
    """f(carry, a, hidden, *rows) of each block of queries.

    Those that fill up a block are zeros, their cotangents too.
    """

    def of_block(carry, taken):
        own, hidden, rows = taken
        return f(carry, a._replace(**own), hidden, *rows)

    own = {name: getattr(a, name) for name in OF_QUERIES}
    return blocks.over_rows(of_block, carry, (own, hidden, rows), plan.queries, ROWS, adjacent=plan.causal)


def _value(a, hidden, plan):
    """(o, log Z or None, what `_pull` takes)."""

    def of_block(_, a, hidden):
        y, log_z, saved = (_gathered if plan.streams(a) else _whole)(a, hidden, plan)
        return None, (y.astype(a.value.dtype), log_z, saved)

    return _over_queries(blocks.again(of_block), None, addressed.marked(a), hidden, plan)[1]


def _whole(a, hidden, plan):
    return addressed.value(a, hidden, plan.scale, plan.measured)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _gathered(a, hidden, plan):
    found, origin = addressed.gather(a, hidden, plan.scale, plan.keys)
    y, away, first = addressed.read(found)
    log_z = addressed.log_z_of(found, a, origin) if plan.measured else None
    return y, log_z, (found.stats, origin, first, away)


@_gathered.defjvp
def _(plan, primals, tangents):
    """That of whole rows; what is saved is a constant."""
    y = _gathered(*primals, plan)
    _, moved = jax.jvp(lambda a: _whole(a, primals[1], plan)[:2], primals[:1], tangents[:1])
    return y, (*moved, jax.tree.map(_still, y[2]))


def _still(a):
    return jnp.zeros_like(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.zeros(a.shape, jax.dtypes.float0)


def _pull(g, log_z_bar, a, hidden, saved, wanted, plan):
    def of_block(shared, a, hidden, saved, g, log_z_bar):
        return (_pull_gathered if plan.streams(a) else _pull_whole)(
            shared, g, log_z_bar, a, hidden, saved, wanted, plan
        )

    once = blocks.count(a.query.shape[ROWS], plan.queries) == 1 and not plan.streams(a)
    start = Attention(*(None for _ in a)) if once else _nothing(a, wanted)
    shared, own = _over_queries(blocks.again(of_block), start, addressed.marked(a), hidden, plan, saved, g, log_z_bar)
    return Attention(*(b if s is None else s for s, b in zip(shared, own, strict=True)))


def _nothing(a, wanted):
    """Cotangents of what queries share, to add to: in float32 or wider."""
    shared = {"key": True, "value": True, "bias": a.bias is not None and a.bias.shape[ROWS] == 1}
    like = [b for b in a if b is not None]
    return Attention(
        *(
            mesh.vary(jnp.zeros(b.shape, dtypes.wide(b.dtype)), *like)[0] if w and shared.get(name) else None
            for name, b, w in zip(Attention._fields, a, wanted, strict=True)
        )
    )


def _pull_whole(shared, g, log_z_bar, a, hidden, saved, wanted, plan):
    return addressed.pull(shared, g, log_z_bar, a, hidden, saved, plan.scale, wanted)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def _pull_gathered(shared, g, log_z_bar, a, hidden, saved, wanted, plan):
    return addressed.pull_gathered(shared, g, log_z_bar, a, hidden, saved, plan.scale, wanted, plan.keys)


@_pull_gathered.defjvp
def _(wanted, plan, primals, tangents):
    bars = _pull_gathered(*primals, wanted, plan)
    hidden, (stats, *_) = primals[4:]

    def whole(shared, g, log_z_bar, a):
        return _pull_whole(shared, g, log_z_bar, a, hidden, stats, wanted, plan)

    _, moved = jax.jvp(whole, primals[:4], tangents[:4])
    return bars, moved


# rule --------------------------------------------------------------------------------------------------------------


def _primal(a, hidden, plan):
    return _value(a, hidden, plan)[:2]


def _fwd(wanted, a, hidden, plan):
    y, log_z, saved = _value(a, hidden, plan)
    return (y, log_z), (a, hidden, saved, Attention(*(() if w else None for w in wanted[0])))


def _bwd(plan, residuals, g):
    a, hidden, saved, marks = residuals
    wanted = Attention(*(m is not None for m in marks))
    y_bar, log_z_bar = (None if isinstance(b, SymbolicZero) else b for b in g)
    wide = dtypes.wide(a.query.dtype)
    if y_bar is None:
        y_bar = jnp.zeros((*a.query.shape[:4], a.value.shape[3]), wide)
    bars = _pull(y_bar, log_z_bar, a, hidden, saved, wanted, plan)
    bars = Attention(*(b if b is None else ax.sum_to(b, x.shape).astype(x.dtype) for b, x in zip(bars, a, strict=True)))
    return bars, None


_ruled = with_vjp(_primal, _fwd, _bwd, static=(2,), told=True)
