"""Addresses that a gradient can move: by content, and by place.

    w_i  =  exp(β cos(k, M_i)) / Σ_j exp(β cos(k, M_j))          the slots of a memory that are like a key      (1)
    E    =  Σ_i p_i c_i,   p  =  softmax(β x)                    the place of the peak of x, c_i of entry i     (2)

    ∂E/∂x_j  =  β p_j (c_j − E)          ∂E/∂c_j  =  p_j          ∂E/∂β  =  Σ_i p_i (x_i − Σ_j p_j x_j) c_i     (3)

(2) does not change when the coordinates are counted from elsewhere. Counted from E they are small where the weight is,
and (3) keeps its digits however far from 0 the peak lies; E itself is taken twice, first from 0 and then from that.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, check_addressing, dtypes
from jsoftmax._core.axes import total
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._ops.margin import cosine_logits
from jsoftmax._ops.softmax import softmax_of
from jsoftmax._partition import pullback
from jsoftmax._partition.statistics import live, statistics, weights

Axis = int | tuple[int, ...] | None


def content_addressing(
    keys: ArrayLike,
    memory: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Weights of the slots of a memory by how like a key they are: `w_i = softmax(β cos(k, M_i))`.

    What a neural Turing machine reads and writes with, β its key strength, and DSSM's posterior over documents.
    `w @ memory` is what is read. Cosines are at most 1, so the sharpest weights have a ratio of e^(2β): of M slots one
    gets a weight of 0.9 only if β is above log(9 (M − 1)) / 2.

    Args:
      keys: real, [..., D]; their lengths do not matter. One of length 0 has cosine 0 with every slot.
      memory: real, [M, D], the same for all keys; or [*L, M, D], one memory for each position along the axes L, with
        which the shape of `keys` then begins: keys [B, R, D] and memory [B, M, D] are R keys for each of B memories.
        Nothing else is broadcast. The length of a slot does not matter either.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the shape of `keys` without
        features, one for each key. +inf is the most similar slot alone, −inf the least, shared evenly among those whose
        cosines are the same number; 0 is the same for all. Traced, and may be learned.
      temperature: T = 1/β, instead of `beta`.
      where: boolean, broadcasts to the result; False leaves out a slot for a key, whatever the slot holds.

    Returns:
      [..., M], float32 or wider: weights that add up to 1, 0 of what is left out, and all 0 where all is. A NaN in a
      key, or in a slot that is not left out, makes the weights of the key NaN.

    Raises:
      TypeError: `keys` or `memory` is boolean, complex or a list; `where` is not boolean.
      ValueError: shapes that do not fit; both `beta` and `temperature`.

    Derivatives: in `keys`, `memory` and `beta` or `temperature`, to any order, as `softmax` and `cosine_logits`; 0 at
    β = ±inf and in a vector of length 0. Forward mode inside `forward_mode()`.
    Saves `keys`, `memory`, their inverse lengths, the cosines, β, `where` and two numbers a key.

    References: Graves, Wayne & Danihelka (2014), arXiv:1410.5401, equations 5 and 6; Huang et al. (2013),
    doi:10.1145/2505515.2505665 (DSSM).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> memory = jnp.array([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
      >>> jsoftmax.content_addressing(jnp.array([5.0, 0.0]), memory, beta=2.0).round(2)
      Array([0.87, 0.12, 0.02], dtype=float32)
    """
    name = "content_addressing"
    keys, memory = check_addressing.memory(name, keys, memory)
    rows = keys.shape[:-1]
    where = check.mask(name, where, (*rows, memory.shape[-2]))
    dtype = jnp.result_type(keys.dtype, memory.dtype)
    given, kind = check.beta(name, beta, temperature, None, dtype, rows, ())
    return _content_addressing(keys, memory, where, given, kind)


def soft_argmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    where: ArrayLike | None = None,
    coordinates: str | ArrayLike | tuple[ArrayLike, ...] = "pixels",
    keepdims: bool = False,
) -> Array:
    """Where the peak of `x` is, as a number with a gradient: `Σ_i p_i c_i` with `p = softmax(β x)` along `axis`.

    The spatial softmax of keypoint detectors: with x [B, H, W, C] and axis=(1, 2) the result is [B, C, 2], row and
    column of each channel's peak.

    Args:
      x: floating or integer array. −inf marks an absent entry. Integers become the default float.
      axis: an int for one coordinate; a tuple of ints, or None for all axes, for a coordinate along each of them under
        one softmax over all.
      beta: inverse temperature, in units of 1/x: any real or ±inf; a scalar, or an array that broadcasts to the shape
        of `x` without the axes. +inf gives the argmax, −inf the argmin, of several alike the mean of their coordinates;
        0 gives the middle of the live entries.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      where: boolean, broadcasts to `x`; False marks an absent entry.
      coordinates: "pixels": 0 … n − 1. "centers": −1 and 1 are the first and the last entry. "edges": −1 and 1 are
        their outer edges, half an entry further out, so that entry i has (2i + 1)/n − 1 (DSNT's; that of one entry is 0
        with both). Or numbers, [n] for an int `axis`, else a tuple with an array for each axis.
      keepdims: keep the axes with size 1.

    Returns:
      for an int `axis` the shape of `x` without it; else the shape of `x` without the axes, and behind it a new last
      axis with a coordinate for each of them, in the order in which they are given. float32 or wider: half precision
      could not count the pixels of an image. Without a live entry 0. A live +inf or NaN gives NaN.

    Raises:
      TypeError: `x` or a coordinate is boolean, complex or a list; `where` is not boolean; `axis` is not static.
      ValueError: `axis` out of range, repeated or empty; `coordinates` that are none of those or do not fit; shapes
        that do not broadcast; two of beta, temperature, base.

    Derivatives: in `x`, `coordinates` and `beta`, `temperature` or `base`, to any order; forward mode inside
    `forward_mode()`. At β = ±inf those in x and β are 0. Those in x are exact to a few ulp of the distances from the
    result, also at the peak of a nearly one-hot row and at the far end of an image.
    Saves `x`, β, `where`, the coordinates, two numbers a row and the result.

    References: Chapelle & Wu (2010), doi:10.1007/s10791-009-9110-3; Levine et al. (2016), arXiv:1504.00702 (spatial
    softmax); Nibali et al. (2018), arXiv:1801.07372 (DSNT); Luvizon et al. (2019), doi:10.1016/j.cag.2019.09.002.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.soft_argmax(jnp.array([0.0, 4.0, 4.0, -jnp.inf])).round(2)
      Array(1.49, dtype=float32)
      >>> heatmap = jnp.zeros((5, 7)).at[3, 4].set(1.0)
      >>> jsoftmax.soft_argmax(heatmap, axis=(0, 1), beta=50.0)
      Array([3., 4.], dtype=float32)
    """
    name = "soft_argmax"
    x, axes, single = check_addressing.map_axes(name, x, axis)
    where = check.mask(name, where, x.shape)
    given, kind = check.beta(name, beta, temperature, base, x.dtype, ax.row_shape(x.shape, axes, keepdims), ())
    sizes = tuple(x.shape[i] for i in axes)
    usual, arrays = check_addressing.coordinates(name, coordinates, x.dtype, sizes, single)
    return _soft_argmax(x, where, given, arrays, usual, axes, kind, single, bool(keepdims))


@functools.partial(jax.jit, static_argnums=(4,))
def _content_addressing(keys, memory, where, beta, kind):
    z = _cosines(keys, memory) if where is None else _cosines_apart(keys, memory)
    axes = (z.ndim - 1,)
    return softmax_of(*prepare(z, where, beta, kind, axes, False), axes)


def _cosines(keys, memory):
    cosines = cosine_logits
    for _ in range(memory.ndim - 2):
        cosines = jax.vmap(cosines)
    return cosines(keys, memory)


def _cosines_apart(keys, memory):
    """The same where a mask may leave out what is no number: 0 · NaN in a product would bring it back."""
    here, there = (jnp.all(jnp.isfinite(a), -1, keepdims=True) for a in (keys, memory))
    z = _cosines(jnp.where(here, keys, 0), jnp.where(there, memory, 0))
    lead = memory.ndim - 2
    there = lax.expand_dims(jnp.squeeze(there, -1), range(lead, z.ndim - 1))
    return z + jnp.where(here & there, 0, jnp.nan).astype(z.dtype)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7, 8))
def _soft_argmax(x, where, beta, coordinates, usual, axes, kind, single, keepdims):
    if usual is not None:
        wide = dtypes.wide(dtypes.of_logits(x.dtype))
        coordinates = tuple(jnp.asarray(_usual(usual, x.shape[i]), wide) for i in axes)
    along = [ax.lift_classes(c, x.shape, (i,)) for c, i in zip(coordinates, axes, strict=True)]
    x, where, beta, *along = prepare(x, where, beta, kind, axes, keepdims, each=along)
    found = [ax.drop(e, axes, keepdims) for e in _expected(x, where, beta, tuple(along), axes)]
    return found[0] if single else jnp.stack(found, -1)


def _usual(usual, n):
    """On the host: a quotient by a constant is rounded twice by XLA."""
    i = np.arange(n, dtype=np.float64)
    if usual == "pixels":
        return i
    return (2 * i - (n - 1)) / (n if usual == "edges" else max(n - 1, 1))


# rule --------------------------------------------------------------------------------------------------------------


def _expected_primal(x, where, beta, coordinates, axes):
    return _expected_fwd(x, where, beta, coordinates, axes)[0]


def _expected_fwd(x, where, beta, coordinates, axes):
    stats = statistics(x, beta, where, axes, fine=False)
    p = weights(x, beta, where, stats, axes)

    def mean(c):
        first = lax.stop_gradient(total(p * c, axes))
        return first + total(p * (c - first), axes)  # (2)

    found = tuple(mean(_of_live(c, x, where)) for c in coordinates)
    return found, (x, where, beta, coordinates, stats, found)


def _expected_bwd(axes, residuals, g):
    x, where, beta, coordinates, stats, found = residuals
    each = zip(g, coordinates, lax.stop_gradient(found), strict=True)
    pull = sum(g * (_of_live(c, x, where) - e) for g, c, e in each)
    t_bar = pullback.through_weights(pull, x, beta, where, stats, axes)  # (3)
    x_bar = pullback.to_logits(t_bar, x, beta, where)
    beta_bar = None
    if beta is not None:
        beta_bar = ax.sum_to(pullback.to_beta(t_bar, x, beta, where, stats, axes), beta.shape)
    p = weights(x, beta, where, stats, axes)
    return x_bar, None, beta_bar, tuple(ax.sum_to(p * g, c.shape) for g, c in zip(g, coordinates, strict=True))


_expected = with_vjp(_expected_primal, _expected_fwd, _expected_bwd, static=(4,))


def _of_live(c, x, where):
    """A coordinate of an absent entry may be anything."""
    return jnp.where(live(x, where), c, 0)
