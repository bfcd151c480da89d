"""Contrastive cross-entropy: each query is to find its own document among many, by the cosine.

    P(d | q)  =  softmax(β cos(q, d))_d  over the documents          ℓ_i  =  −log P(d_i | q_i)

That of a margin softmax without a margin, whose prototypes are the documents.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import blocks as bl
from jsoftmax._core import check
from jsoftmax._core.reduce import weighted_mean, weighted_sum
from jsoftmax._ops.cross_entropy import softmax_cross_entropy_with_integer_labels
from jsoftmax._ops.margin import COSINES, CUT, Given, Rows, cosine_logits, plan_of, reduced_losses


def contrastive_cross_entropy(
    queries: ArrayLike,
    documents: ArrayLike,
    *,
    beta: ArrayLike,
    where: ArrayLike | None = None,
    symmetric: bool = False,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Cross-entropy of `softmax(β cos(q, d))` over documents d at the query's own: DSSM's posterior, InfoNCE, CLIP.

    Args:
      queries: real, [N, D]. Lengths do not matter; one of length 0 has cosine 0 with everything.
      documents: real, [M, D] with M ≥ N: that of query i is document i, and all others are its negatives, those behind
        the N-th for every query. Or [N, K, D]: documents of each query alone, its own the first.
      beta: inverse temperature, any real or ±inf, also a parameter to be learned (CLIP's starts at 1/0.07; DSSM's γ);
        a scalar, or one a query [N].
      where: boolean, broadcasts to [N, M] or [N, K]: False leaves a document out for a query, such as another one that
        is right too. All cosines are there at once then, as the mask is.
      symmetric: the mean of this and of the loss with queries and documents in each other's place, as CLIP's. Both are
        [N, D] then, and β is one number.
      weights: real or boolean, broadcasts to [N]: factor of each loss in the sum and the mean.
      reduction: "none": one loss a query; "sum": Σ w l; "mean": Σ w l / Σ w, 0 if there is nothing to count.
      block_size: queries of a block, or (queries, documents), as in `linear_softmax_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, that a batch is spread over: documents of all
        devices are gathered, and are the negatives of each query (`where` is [N, M] of all of them). Sums and means are
        those of a device.

    Returns:
      losses [N], or a scalar; float32 or wider. +inf where a query's own document is left out.

    Raises:
      TypeError: an array is boolean, complex or a list; `where` is not boolean.
      ValueError: shapes that do not fit; `reduction` is none of those; `weights` without one; a `block_size` below 1;
        `symmetric` or `axis_name` with documents of each query alone.

    Derivatives: in `queries`, `documents`, `beta` and `weights`, to any order; forward mode inside `forward_mode()`.
    Saves `queries`, `documents`, inverse lengths and a few numbers a query; with `where` the cosines.

    References: Huang et al. (2013), doi:10.1145/2505515.2505665 (DSSM); van den Oord et al. (2018), arXiv:1807.03748
    (InfoNCE); Radford et al. (2021), arXiv:2103.00020 (CLIP).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.contrastive_cross_entropy(jnp.eye(3), jnp.eye(3), beta=10.0)
      Array([9.079574e-05, 9.079574e-05, 9.079574e-05], dtype=float32)
    """
    name = "contrastive_cross_entropy"
    names = check.axis_names(name, axis_name)
    queries, documents = check.documents(name, queries, documents, symmetric, names)
    n, m = queries.shape[0], documents.shape[-2]
    dtype = jnp.result_type(queries.dtype, documents.dtype)
    beta = check.row_number(name, "beta", beta, dtype, () if symmetric else (n,))
    weights = check.loss_weights(name, weights, (n,), "the number of queries")
    check.reduction(name, reduction, weights)
    size = check.block_size(name, block_size)
    everywhere = lax.axis_size(names) if names else 1
    where = check.mask(name, where, (n, m * everywhere))
    plan = plan_of(documents[:1] if documents.ndim == 3 else documents, *bl.sizes(m * everywhere, size, CUT))
    return _loss(queries, documents, beta, where, weights, names, bool(symmetric), reduction, plan)


@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8))
def _loss(queries, documents, beta, where, weights, names, symmetric, reduction, plan):
    there = where
    if symmetric and where is not None:
        there = _gathered(jnp.broadcast_to(where, (queries.shape[0], _everywhere(documents, names))), names)
        there = lax.dynamic_slice_in_dim(there, _first(documents, names), documents.shape[0], 1).T
    one_way = functools.partial(_one_way, beta=beta, weights=weights, names=names, reduction=reduction, plan=plan)
    loss = one_way(queries, documents, where)
    return (loss + one_way(documents, queries, there)) / 2 if symmetric else loss


def _one_way(queries, documents, where, beta, weights, names, reduction, plan):
    labels = _first(documents, names) + jnp.arange(queries.shape[0], dtype=jnp.int32)
    if documents.ndim == 2:
        documents = _gathered(documents, names)
    if where is None and documents.ndim == 2:
        given = Given(queries, documents, labels, None, Rows(beta, None, None), None, weights, None)
        return reduced_losses(given, COSINES, reduction, plan)
    if documents.ndim == 3:
        z, labels = jax.vmap(cosine_logits)(queries, documents), jnp.zeros_like(labels)
    else:
        z = cosine_logits(queries, documents)
    losses = softmax_cross_entropy_with_integer_labels(z, labels, where=where, beta=beta)
    if reduction == "none":
        return losses
    if reduction == "mean":
        return weighted_mean(losses, weights)[0]
    w = jnp.ones((), losses.dtype) if weights is None else weights.astype(losses.dtype)
    return weighted_sum(losses, jnp.broadcast_to(w, losses.shape))


def _gathered(a, names):
    """The rows of all devices."""
    return lax.all_gather(a, names, axis=0, tiled=True) if names else a


def _everywhere(a: Any, names: tuple[str, ...]) -> int:
    return a.shape[0] * (lax.axis_size(names) if names else 1)


def _first(a, names):
    """Index of the first row of this device among those of all."""
    return lax.axis_index(names) * a.shape[0] if names else jnp.int32(0)
