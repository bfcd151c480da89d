"""Losses of a linear layer over many classes in which a few candidates stand for all of them.

    z_j  =  β (⟨w_j, x⟩ + b_j)          of T true classes and S candidates          q_j  expected count of j

    sampled softmax      ℓ  =  −(1/T) Σ_t log softmax(z − log q)_t     over the true classes and the candidates      (1)
    NCE                  ℓ  =  −Σ_t log σ(z_t − c − log q_t) − Σ_s log σ(c + log q_s − z_s)                          (2)
    negative sampling    ℓ  =  −Σ_t log σ(z_t) − Σ_s log σ(−z_s)                                                     (3)

Given that the classes in sight are those and that one of them is true, softmax(log p − log q) is the probability of
each to be it: (1) is least for z = log p + const., whatever was drawn. (2) is least for z = log p + c, with no sum over
classes anywhere. (1) carries the rule of the cross-entropy; those of logits that are looked up and of a decision are
here.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes, mesh
from jsoftmax._core.candidates import Candidates
from jsoftmax._core.labels import as_int32, is_ignored
from jsoftmax._core.rule import with_vjp
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._ops.cross_entropy import distribution_loss_of, index_loss_of, poison
from jsoftmax._partition import chosen, decision
from jsoftmax._partition.penalties import Options
from jsoftmax._partition.statistics import gap, signed_gap, statistics

PLAIN, AXES = Options(None, None, None), (1,)  # classes in sight are on the last axis


def sampled_softmax_loss(
    inputs: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    candidates: Candidates,
    *,
    bias: ArrayLike | None = None,
    class_axis: int = 1,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    remove_accidental_hits: bool = True,
    correct_labels: bool = True,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Cross-entropy over the label and candidates in place of all classes: `−log softmax(z − log q)_y`, in nats.

    q are expected counts, and z = β (⟨w, x⟩ + b). With `all_classes` it is the cross-entropy of all classes; else no
    estimate of that, only its gradient and its minimum are alike.

    Args:
      inputs: real, shape [..., D].
      weight: real, [D, V], or [V, D] with class_axis=0, whose rows are faster to look up.
      labels: integers of any width, [...], or [..., T] for T true classes an example. None wraps, and one that is no
        class makes its loss NaN. So does one with expected count 0, unless `correct_labels` is False.
      candidates: `Candidates`, of one of the samplers or one's own.
      bias: real, one for each class, [V].
      class_axis: axis of `weight` that has the classes.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result. log q does not
        depend on it; at ±inf classes at the extremum are compared by 1/q.
      temperature, base: T = 1/β or e^β instead of `beta`.
      remove_accidental_hits: candidates that are a true class of an example do not count for it. Where classes are
        drawn with replacement and often, S p > 1, the gradient converges to that of the cross-entropy with False if
        labels are corrected, and with True if they are not.
      correct_labels: False leaves log q of the label out. The sum over candidates then estimates the partition function
        (without bias if they are drawn without replacement), and the gradient that of the whole loss, at the
        price that the minimum depends on the candidates.
      ignore_label: examples with this label have loss 0 and gradient 0, whatever they hold; among T true classes it
        fills up those that have fewer.

    Returns:
      losses [...], float32 or wider; of T true classes their mean.

    Raises:
      TypeError: `inputs`, `weight`, `bias` or expected counts are not real, `labels` or ids are not integers,
        `candidates` is none.
      ValueError: shapes that do not fit; two of beta, temperature, base.

    Derivatives: reverse mode in `inputs`, `weight`, `bias`, expected counts and `beta`, `temperature` or `base`, to any
    order; forward mode inside `forward_mode()`. Only classes in sight get a gradient, the others 0; an example whose
    cotangent is 0 has gradient 0, also when it is NaN. Saves `inputs`, `weight`, `bias`, β, `labels`, the candidates
    and, for each example, T + S logits in float32 or wider and two numbers.

    References: Bengio & Senécal (2003, 2008); Jean et al. (2015), arXiv:1412.2007.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w, labels = jnp.ones((2, 3)), jnp.zeros((3, 8)), jnp.array([0, 7])
      >>> jsoftmax.sampled_softmax_loss(x, w, labels, jsoftmax.all_classes(8))
      Array([2.0794415, 2.0794415], dtype=float32)
    """
    name = "sampled_softmax_loss"
    slope = (beta, temperature, base)
    given, static = _checked(name, inputs, weight, labels, candidates, bias, class_axis, slope, ignore_label)
    return _softmax_loss(given, static, bool(remove_accidental_hits), bool(correct_labels))


def nce_loss(
    inputs: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    candidates: Candidates,
    *,
    bias: ArrayLike | None = None,
    class_axis: int = 1,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    log_normalizer: ArrayLike = check.NO_PENALTY,
    remove_accidental_hits: bool = False,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Noise-contrastive estimation: `−log σ(z_y − c − log q_y) − Σ_s log σ(c + log q_s − z_s)`, in nats.

    Tells a label from the candidates, which are noise. At its minimum z − c are log-probabilities, without a sum over
    classes in it, if there are enough parameters for that.

    Args:
      inputs, weight, labels, candidates, bias, class_axis, beta, temperature, base: as for `sampled_softmax_loss`.
        Noise is usually drawn with replacement: q = k p for k candidates. β = ±inf decides by the sign of
        ⟨w, x⟩ + b; at 0 of it z is 0.
      log_normalizer: c, a constant, or a parameter to be learned; a scalar, or an array that broadcasts to the result.
      remove_accidental_hits: candidates that are a true class of an example do not count for it; z are then
        log-odds, not log-probabilities.
      ignore_label: as for `sampled_softmax_loss`.

    Returns:
      losses [...], float32 or wider; summed over true classes, each of which is to be told from noise by itself.

    Raises:
      TypeError: `inputs`, `weight`, `bias`, `log_normalizer` or expected counts are not real, `labels` or ids are not
        integers, `candidates` is none.
      ValueError: shapes that do not fit; two of beta, temperature, base.

    Derivatives: as for `sampled_softmax_loss`, and in `log_normalizer`. Saves `inputs`, `weight`, `bias`, β, `labels`,
    the candidates and, for each example, T + S logits and twice as many numbers.

    References: Gutmann & Hyvärinen (2012), JMLR 13:307; Mnih & Teh (2012), arXiv:1206.6426; Ma & Collins (2018),
    arXiv:1809.01812.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> noise = jsoftmax.unigram_sampler(jax.random.key(0), [3, 2, 1], num_sampled=2, unique=False)
      >>> jsoftmax.nce_loss(jnp.ones((1, 4)), jnp.zeros((4, 3)), jnp.array([0]), noise).shape
      (1,)
    """
    name = "nce_loss"
    slope = (beta, temperature, base)
    given, static = _checked(name, inputs, weight, labels, candidates, bias, class_axis, slope, ignore_label)
    dtype = jnp.result_type(given[0].dtype, given[1].dtype)
    c = check.row_option(name, "log_normalizer", log_normalizer, dtype, given[0].shape[:-1])
    return _logistic_loss(given, c, static, bool(remove_accidental_hits), True)


def negative_sampling_loss(
    inputs: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    candidates: Candidates,
    *,
    bias: ArrayLike | None = None,
    class_axis: int = 1,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    remove_accidental_hits: bool = False,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Skip-gram's negative sampling: `−log σ(z_y) − Σ_s log σ(−z_s)`, in nats: NCE with 1 for every expected count.

    At its minimum z is log p − log q: pointwise mutual information less log k where noise is drawn by frequency.

    Args:
      inputs, weight, labels, candidates, bias, class_axis, beta, temperature, base: as for `nce_loss`; of the
        candidates only the ids are used.
      remove_accidental_hits: candidates that are a true class of an example do not count for it: word2vec leaves them
        out, the formula of the paper does not.
      ignore_label: as for `sampled_softmax_loss`.

    Returns:
      losses [...], float32 or wider; summed over true classes.

    Raises:
      TypeError: `inputs`, `weight` or `bias` is not real, `labels` or ids are not integers, `candidates` is none.
      ValueError: shapes that do not fit; two of beta, temperature, base.

    Derivatives: as for `sampled_softmax_loss`. Saves `inputs`, `weight`, `bias`, β, `labels`, the ids and, for each
    example, T + S logits and twice as many numbers.

    References: Mikolov et al. (2013), arXiv:1310.4546; Levy & Goldberg (2014).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> five = jsoftmax.Candidates(jnp.arange(5), jnp.zeros(9))
      >>> jsoftmax.negative_sampling_loss(jnp.ones((1, 4)), jnp.zeros((4, 9)), jnp.array([8]), five)
      Array([4.158883], dtype=float32)
    """
    name = "negative_sampling_loss"
    slope = (beta, temperature, base)
    given, static = _checked(name, inputs, weight, labels, candidates, bias, class_axis, slope, ignore_label)
    return _logistic_loss(given, None, static, bool(remove_accidental_hits), False)


def _checked(
    name: str,
    inputs: Any,
    weight: Any,
    labels: Any,
    candidates: Any,
    bias: Any,
    class_axis: Any,
    slope: tuple[Any, Any, Any],
    ignore_label: Any,
) -> tuple[tuple[Any, ...], tuple[int, str]]:
    """What both losses take: arrays, then what is static."""
    inputs, weight, axis = check.linear(name, inputs, weight, class_axis)
    rows, classes = inputs.shape[:-1], weight.shape[axis]
    dtype = dtypes.of_logits(jnp.result_type(inputs.dtype, weight.dtype))
    labels = check.true_classes(name, labels, rows)
    candidates = check.candidates(name, candidates, rows, classes)
    bias = check.class_numbers(name, "bias", bias, dtype, classes)
    ignored = check.ignore_label(name, ignore_label)
    beta, kind = check.beta(name, *slope, dtype, rows, ())
    return (inputs, weight, labels, candidates, bias, beta, ignored), (axis, kind)


class _Seen(NamedTuple):
    """Of each example the classes in sight, T true ones before S candidates."""

    z: Array  # ⟨w, x⟩ + b, [N, T + S]
    log_q: Array  # the same shape, or with size 1 for all examples
    where: Array | None  # what counts
    ignored: Array | None  # true classes that do not, [N, T]
    beta: Array | None  # [N, 1] or [1, 1]


def _sight(given, static, remove):
    (inputs, weight, labels, candidates, bias, beta, ignore_label), (axis, kind) = given, static
    rows, true = labels.shape[:-1], labels.shape[-1]
    n, classes = math.prod(rows), weight.shape[axis]
    dtype = dtypes.of_logits(jnp.result_type(inputs.dtype, weight.dtype))
    x, weight = inputs.astype(dtype).reshape(n, inputs.shape[-1]), weight.astype(dtype)
    labels = as_int32(labels).reshape(n, true)
    ignored = is_ignored(labels, ignore_label)
    if beta is not None:
        beta = ax.one_a_row(inverse_temperature(beta, kind), rows)
    x, weight, bias, beta, labels = mesh.vary(x, weight, bias, beta, labels)
    ids, log_q = as_int32(candidates.ids), candidates.log_expected_count.astype(dtypes.wide(dtype))
    ids = chosen.valid(ids.reshape(-1 if ids.ndim == 1 else (n, ids.shape[-1])), classes)
    log_q = log_q.reshape(classes if log_q.ndim == 1 else (n, classes))
    at = chosen.valid(labels, classes)
    at = at if ignored is None else jnp.where(ignored, 0, at)  # a number, for NaN times 0 is NaN in a second derivative
    if ids.ndim == 1:
        z = _looked_up(x, weight, bias, at.T, ids, axis)
    else:
        z = _looked_up(x, weight, bias, jnp.concatenate([at, ids], 1).T, None, axis)
    return _Seen(
        z,
        jnp.concatenate([_expected(log_q, at), jnp.broadcast_to(_expected(log_q, ids), (n, ids.shape[-1]))], 1),
        _counted(labels, ignored, jnp.broadcast_to(ids, (n, ids.shape[-1])), remove),
        ignored,
        beta,
    )


def _expected(log_q, ids):
    """log q of classes [N, K] or [K]; NaN for what is no class."""
    if log_q.ndim == 1:
        return chosen.look_up(log_q, ids)
    ids = ids if ids.ndim == 2 else jnp.broadcast_to(ids, (log_q.shape[0], ids.size))
    return jnp.take_along_axis(log_q, ids, 1, mode="fill", fill_value=jnp.nan)


def _counted(labels, ignored, ids, remove):
    """Of true classes and candidates those that count; None for all."""
    if ignored is None and not remove:
        return None
    kept = jnp.ones(labels.shape, bool) if ignored is None else ~ignored
    hits = jnp.zeros(ids.shape, bool)
    for t in range(labels.shape[1] if remove else 0):
        hits |= (ids == labels[:, t, None]) & kept[:, t, None]
    return jnp.concatenate([kept, ~hits], 1)


# logits that are looked up -----------------------------------------------------------------------------------------


def _looked_up_primal(x, weight, bias, each, shared, axis):
    """z [N, K + S] of classes [K, N] and of [S], or None, for all."""
    z = chosen.in_turn(x, weight, bias, each, axis).T
    return z if shared is None else jnp.concatenate([z, chosen.of_all(x, weight, bias, shared, axis)], 1)


def _looked_up_fwd(x, weight, bias, each, shared, axis):
    return _looked_up_primal(x, weight, bias, each, shared, axis), (x, weight, bias, each, shared)


def _looked_up_bwd(axis, residuals, z_bar):
    """An example on which nothing depends may hold anything."""
    x, weight, bias, each, shared = residuals
    kept = jnp.any(z_bar != 0, 1)
    x = jnp.where(kept[:, None], x, 0)
    bars = chosen.nothing(x, weight, bias)
    bars = chosen.pull_in_turn(bars, z_bar[:, : each.shape[0]].T, x, weight, each, axis)
    if shared is not None:
        bars = chosen.pull_of_all(bars, z_bar[:, each.shape[0] :], x, kept, weight, shared, axis)
    x_bar, weight_bar, bias_bar = bars
    return x_bar.astype(x.dtype), weight_bar.astype(weight.dtype), bias_bar, None, None


_looked_up = with_vjp(_looked_up_primal, _looked_up_fwd, _looked_up_bwd, static=(5,))


def _surprise_primal(v):
    """−log σ(−v)."""
    return decision.log_partition(v)


def _surprise_fwd(v):
    return decision.log_partition(v), v


def _surprise_bwd(v, g):
    return (jnp.where(g == 0, 0, g * decision.weight(v)),)


_surprise = with_vjp(_surprise_primal, _surprise_fwd, _surprise_bwd, static=())


# losses ------------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _softmax_loss(given, static, remove, correct):
    """(1)."""
    labels = given[2]
    true = labels.shape[-1]
    z, log_q, where, ignored, beta = _sight(given, static, remove)
    if beta is not None:
        z = gap(z, beta, where, statistics(z, beta, where, AXES).peak)
    log_q = log_q if correct else log_q.at[:, :true].set(0)
    z -= log_q
    if true == 1:
        losses = index_loss_of(z, jnp.zeros((z.shape[0], 1), jnp.int32), ignored, where, None, PLAIN, AXES)
    else:
        counts = jnp.ones((z.shape[0], true), z.dtype) if ignored is None else 1 - ignored.astype(z.dtype)
        share = counts / jnp.maximum(jnp.sum(counts, 1, keepdims=True), 1)
        where = where if where is None else where & (jnp.sum(counts, 1, keepdims=True) > 0)
        losses = distribution_loss_of(z, jnp.pad(share, [(0, 0), (0, z.shape[1] - true)]), where, None, PLAIN, AXES)
    return losses.reshape(labels.shape[:-1])


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _logistic_loss(given, log_normalizer, static, remove, noise):
    """(2), and (3) if candidates are not `noise` of a known probability."""
    labels = given[2]
    rows, true = labels.shape[:-1], labels.shape[-1]
    z, log_q, where, ignored, beta = _sight(given, static, remove)
    z = z if where is None else jnp.where(where, z, 0)
    s = z if beta is None else _times(z, beta)
    if log_normalizer is not None:
        s -= ax.one_a_row(log_normalizer, rows)
    if noise:
        s = poison(s - log_q, log_q == -jnp.inf)
    losses = _surprise(jnp.where(jnp.arange(s.shape[1])[None] < true, -s, s))
    losses = losses if where is None else jnp.where(where, losses, 0)
    losses = jnp.sum(losses, 1)
    return (losses if ignored is None else jnp.where(jnp.all(ignored, 1), 0, losses)).reshape(rows)


def _times(z, beta):
    """β z, of any sign; ±∞ at β = ±∞, but 0 of 0."""
    limit = jnp.isinf(beta)
    far = jnp.where(z == 0, 0, jnp.sign(z) * lax.stop_gradient(beta))
    return jnp.where(limit, far, signed_gap(z, jnp.where(limit, 1, beta), None, jnp.zeros_like(beta)))
