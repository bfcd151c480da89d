"""Adaptive softmax: frequent classes in a head, the others in clusters behind it, with fewer features.

    p(w)  =  softmax(β H x)_w                                            w among the frequent ones
    p(w)  =  softmax(β H x)_{cluster k} softmax(β W_k P_k x)_w           w in cluster k
    ℓ(w)  =  −log p(w)                                                                                   (1)

Both factors are the cross-entropy of a linear layer, and carry its rule; that of the projection P_k is here. Examples
are sorted by cluster, and a layer goes through the blocks that have some of its own: what a cluster costs is as much as
its examples, in programs of one shape.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import blocks as bl
from jsoftmax._core import check, dtypes, mesh
from jsoftmax._core.adaptive import AdaptiveWeights
from jsoftmax._core.labels import as_int32, is_ignored
from jsoftmax._core.rule import with_vjp
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._ops.linear import Plan, losses_of
from jsoftmax._ops.softmax import log_softmax_of
from jsoftmax._partition.layer import Form, Layer

TOKENS = 128  # in a block of a cluster: fewer are rarely all of others; the features are few, and read often for little
IGNORED, NO_CLASS = -2, -1


def adaptive_weights(
    key: Array,
    num_features: int,
    num_classes: int,
    cutoffs: Sequence[int],
    *,
    div_value: float = 4.0,
    head_bias: bool = False,
    dtype: Any = None,
) -> AdaptiveWeights:
    """Random parameters of an adaptive softmax, of PyTorch's sizes and by its law: uniform in ±1/√(features in).

    Args:
      key: of `jax.random`.
      num_features: D.
      num_classes: V, in falling order of frequency.
      cutoffs: where each cluster begins: increasing numbers in [1, V − 1]. Classes below the first are in the head.
      div_value: cluster k = 1, 2, … has D // div_valueᵏ features, at least 1.
      head_bias: whether the head has a bias.
      dtype: floating; that of jax.numpy by default.

    Returns:
      `AdaptiveWeights`.

    Raises:
      TypeError: a size that is no integer, `div_value` no number, `dtype` not floating. ValueError: a size below 1;
        `cutoffs` that do not increase or leave the range; `div_value` ≤ 0.

    References: Grave et al. (2017), arXiv:1609.04309; torch.nn.AdaptiveLogSoftmaxWithLoss.

    Examples:
      >>> import jax, jsoftmax
      >>> weights = jsoftmax.adaptive_weights(jax.random.key(0), 64, 1000, [100, 300])
      >>> weights.head.shape, [(p.shape, w.shape) for p, w in weights.tails]
      ((102, 64), [((16, 64), (200, 16)), ((4, 64), (700, 4))])
    """
    name = "adaptive_weights"
    features, classes = (
        check.size(name, a, n) for a, n in (("num_features", num_features), ("num_classes", num_classes))
    )
    ends = [*check.cutoffs(name, cutoffs, classes), classes]
    shrink, dtype = check.div_value(name, div_value), check.floating_dtype(name, dtype)
    layers = [(ends[0] + len(ends) - 1, features)]
    for k in range(1, len(ends)):
        inner = max(int(features // shrink**k), 1)
        layers += [(inner, features), (ends[k] - ends[k - 1], inner)]

    def draw(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(1 / math.sqrt(fan_in), dtype)

    keys = jax.random.split(key, len(layers) + 1)
    head, *rest = (draw(k, shape, shape[1]) for k, shape in zip(keys[1:], layers, strict=True))
    bias = draw(keys[0], (layers[0][0],), features) if head_bias else None
    return AdaptiveWeights(head, tuple(zip(rest[::2], rest[1::2], strict=True)), bias)


def adaptive_softmax_loss(
    inputs: ArrayLike,
    weights: AdaptiveWeights,
    labels: ArrayLike,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of an adaptive softmax, in nats: of the head, and of the label's cluster if it is in one.

    Args:
      inputs: real, shape [..., D].
      weights: `AdaptiveWeights` over V classes in falling order of frequency.
      labels: integers of any width, [...]. None wraps, and one that is no class makes its loss NaN.
      beta: inverse temperature of head and clusters, any real or ±inf; a scalar, or an array that broadcasts to the
        result.
      temperature, base: T = 1/β or e^β instead of `beta`.
      ignore_label: examples with this label have loss 0 and gradient 0, whatever they hold.

    Returns:
      losses, the shape of `labels`, float32 or wider.

    Raises:
      TypeError: `inputs` or a weight is not real, `labels` are not integers, `weights` is no `AdaptiveWeights`.
      ValueError: shapes that do not fit; two of beta, temperature, base.

    Derivatives: reverse mode in `inputs`, `weights` and `beta`, `temperature` or `base`, to any order; forward mode
    inside `forward_mode()`. An example whose cotangent is 0 has gradient 0, also when it is NaN. Saves `inputs`,
    `weights`, `labels`, β and for each cluster the projected inputs; logits are made again.

    References: Grave et al. (2017), arXiv:1609.04309; torch.nn.AdaptiveLogSoftmaxWithLoss.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> weights = jax.tree.map(jnp.zeros_like, jsoftmax.adaptive_weights(jax.random.key(0), 8, 10, [2]))
      >>> jsoftmax.adaptive_softmax_loss(jnp.ones((2, 8)), weights, jnp.array([0, 9]))  # 1/3, and 1/3 of 1/8
      Array([1.0986123, 3.1780539], dtype=float32)
    """
    name = "adaptive_softmax_loss"
    inputs, weights = check.adaptive(name, inputs, weights)
    labels = check.integer_labels(name, labels, inputs.shape[:-1])
    given, kind = check.beta(name, beta, temperature, base, inputs.dtype, inputs.shape[:-1], ())
    return _loss(inputs, weights, labels, given, check.ignore_label(name, ignore_label), kind)


def adaptive_log_prob(
    inputs: ArrayLike,
    weights: AdaptiveWeights,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
) -> Array:
    """Log-probabilities of all classes of an adaptive softmax, in nats: [..., V], whose exponentials sum to 1.

    Args:
      inputs, weights: as for `adaptive_softmax_loss`.
      beta, temperature, base: as there.

    Returns:
      log-probabilities, [..., V], float32 or wider.

    Raises:
      TypeError: `inputs` or a weight is not real, `weights` is no `AdaptiveWeights`. ValueError: shapes that do not
      fit; two of beta, temperature, base.

    Derivatives: as for `adaptive_softmax_loss`. Saves `inputs`, `weights` and the logits of head and clusters.

    References: as for `adaptive_softmax_loss`.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> weights = jax.tree.map(jnp.zeros_like, jsoftmax.adaptive_weights(jax.random.key(0), 8, 5, [1]))
      >>> jnp.exp(jsoftmax.adaptive_log_prob(jnp.ones(8), weights))
      Array([0.5  , 0.125, 0.125, 0.125, 0.125], dtype=float32)
    """
    name = "adaptive_log_prob"
    inputs, weights = check.adaptive(name, inputs, weights)
    given, kind = check.beta(name, beta, temperature, base, inputs.dtype, inputs.shape[:-1], ())
    return _log_prob(inputs, weights, given, kind)


def adaptive_predict(inputs: ArrayLike, weights: AdaptiveWeights) -> Array:
    """The likeliest class of each input in an adaptive softmax; the first of several.

    No class of a cluster is likelier than the cluster: where the head's likeliest is a class, that is it, and blocks of
    such inputs leave the clusters out. Of β > 0 it does not depend.

    Args:
      inputs, weights: as for `adaptive_softmax_loss`.

    Returns:
      labels, int32 [...]; −1 where a logit is NaN.

    Raises:
      TypeError: `inputs` or a weight is not real, `weights` is no `AdaptiveWeights`. ValueError: shapes that do not
      fit.

    References: as for `adaptive_softmax_loss`.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> weights = jsoftmax.adaptive_weights(jax.random.key(0), 8, 100, [10, 30])
      >>> x = jax.random.normal(jax.random.key(1), (4, 8))
      >>> bool((jsoftmax.adaptive_predict(x, weights) == jsoftmax.adaptive_log_prob(x, weights).argmax(-1)).all())
      True
    """
    return _predict(*check.adaptive("adaptive_predict", inputs, weights))


def _prepared(inputs, weights, beta, kind):
    """(inputs [N, D], weights, β [N, 1], [1, 1] or None), in the dtypes that they are computed with."""
    rows = inputs.shape[:-1]
    leaves = jax.tree.leaves((inputs, weights._replace(head_bias=None)))
    dtype = dtypes.of_logits(jnp.result_type(*(a.dtype for a in leaves)))
    head, tails, bias = weights
    x, head = inputs.astype(dtype).reshape(math.prod(rows), inputs.shape[-1]), head.astype(dtype)
    bias = bias if bias is None else bias.astype(dtypes.wide(dtype)).reshape(1, -1)
    if beta is not None:
        beta = ax.one_a_row(inverse_temperature(beta, kind), rows)
    weights = AdaptiveWeights(head, tuple((p.astype(dtype), w.astype(dtype)) for p, w in tails), bias)
    leaves, tree = jax.tree.flatten((x, weights, beta))
    return jax.tree.unflatten(tree, mesh.vary(*leaves))


def _ends(weights):
    """The first class of each cluster, and V."""
    ends = [weights.head.shape[0] - len(weights.tails)]
    for _, w in weights.tails:
        ends.append(ends[-1] + w.shape[0])
    return ends


def _product(x, w):
    return lax.dot_general(x, w, (((1,), (1,)), ((), ())), preferred_element_type=dtypes.wide(x.dtype))


# projections -------------------------------------------------------------------------------------------------------


def _project_primal(x, p):
    return _product(x, p).astype(x.dtype)


def _project_fwd(x, p):
    return _project_primal(x, p), (x, p)


def _project_bwd(residuals, g):
    """A row on which nothing depends may hold anything."""
    (x, p), kept, wide = residuals, jnp.any(g != 0, 1, keepdims=True), dtypes.wide(g.dtype)
    x_bar = lax.dot_general(g, p, (((1,), (0,)), ((), ())), preferred_element_type=wide)
    p_bar = lax.dot_general(g, jnp.where(kept, x, 0), (((0,), (0,)), ((), ())), preferred_element_type=wide)
    return jnp.where(kept, x_bar, 0).astype(x.dtype), p_bar.astype(p.dtype)


_project = with_vjp(_project_primal, _project_fwd, _project_bwd, static=())


# the loss ----------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=5)
def _loss(inputs, weights, labels, beta, ignore_label, kind):
    shape, n = labels.shape, labels.size
    x, weights, beta = _prepared(inputs, weights, beta, kind)
    ends, (labels, _) = _ends(weights), mesh.vary(as_int32(labels).reshape(n), x)
    ignored = is_ignored(labels, ignore_label)
    cluster = jnp.sum(labels[:, None] >= jnp.array(ends, jnp.int32)[None], 1, dtype=jnp.int32)  # 0 is the head
    first = jnp.where(cluster == 0, labels, ends[0] + cluster - 1)
    first = jnp.where((labels < 0) | (cluster == len(ends)), NO_CLASS, first)
    cluster = cluster if ignored is None else jnp.where(ignored, 0, cluster)
    head = Plan(Form(0), *bl.sizes(weights.head.shape[0], (None, None)), False, ())
    losses = _layer_loss(x, weights.head, weights.head_bias, beta, first, ignored, head)
    order, back = _by_cluster(cluster)
    taken = functools.partial(jnp.take, indices=order, axis=0, mode="fill", fill_value=0)
    x, cluster, labels = taken(x), taken(cluster), taken(labels)
    beta = beta if beta is None or beta.shape[0] == 1 else taken(beta)
    more = jnp.zeros(order.shape, losses.dtype)
    for k, (p, w) in enumerate(weights.tails, 1):
        own = cluster == k
        h = _project(jnp.where(own[:, None], x, 0), p)
        plan = Plan(Form(0), *bl.sizes(w.shape[0], (TOKENS, None)), False, (), skips=True)
        more += _layer_loss(h, w, None, beta, jnp.where(own, labels - ends[k - 1], IGNORED), ~own, plan)
    return (losses + more[back]).reshape(shape)


def _layer_loss(x, w, bias, beta, labels, ignored, plan):
    beta = jnp.ones((1, 1), dtypes.wide(x.dtype)) if beta is None else beta
    layer = Layer(x, w, bias, None, beta, None, None)
    return losses_of(layer, labels[:, None], ignored if ignored is None else ignored[:, None], plan)[:, 0]


def _by_cluster(cluster):
    """(order, where each example is then): in blocks as `over_rows` takes them there are as few clusters as can be."""
    n = cluster.shape[0]
    blocks = bl.count(n, TOKENS)
    each = -(-n // blocks)
    order = jnp.pad(jnp.argsort(cluster).astype(jnp.int32), (0, each * blocks - n), constant_values=n)
    order = order.reshape(blocks, each).T.reshape(-1)
    back = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32), mode="drop")
    return order, back


# all classes -------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=3)
def _log_prob(inputs, weights, beta, kind):
    rows = inputs.shape[:-1]
    x, weights, beta = _prepared(inputs, weights, beta, kind)
    return _every(x, weights, beta).reshape(*rows, -1)


def _every(x, weights, beta):
    """Log-probabilities [N, V]."""
    first = _ends(weights)[0]
    head = _head(x, weights)
    head = log_softmax_of(head, None, beta, (1,))
    parts = [head[:, :first]]
    for k, (p, w) in enumerate(weights.tails):
        own = log_softmax_of(_product(_project(x, p), w), None, beta, (1,))
        parts.append(own + head[:, first + k, None])
    return jnp.concatenate(parts, 1)


def _head(x, weights):
    z = _product(x, weights.head)
    return z if weights.head_bias is None else z + weights.head_bias


@jax.jit
def _predict(inputs, weights):
    x, weights, _ = _prepared(inputs, weights, None, "beta")
    first = _ends(weights)[0]

    def of_block(_, x):
        z = _head(x, weights)
        best = jnp.argmax(z, 1).astype(jnp.int32)

        def over_all():
            every = _every(x, weights, None)
            bad = jnp.any(jnp.isnan(every), 1)
            return jnp.where(bad, -1, jnp.argmax(every, 1).astype(jnp.int32))

        bad = jnp.any(jnp.isnan(z), 1)
        return None, lax.cond(jnp.any((best >= first) | bad), over_all, lambda: best)

    return bl.over_rows(of_block, None, x, TOKENS)[1].reshape(inputs.shape[:-1])
