"""Softmax cross-entropy: minus a log-weight.

    p = softmax(β x)
    ℓ(x, y)  =  −log p_y                                    integer label y                        (1)
    ℓ(x, y)  =  −Σ_j y_j log p_j,  0 · log 0 = 0             distribution y                         (2)

    ∂ℓ/∂x_j  =  β (p_j − δ_jy)       or   β (p_j Σ_i y_i − y_j)                                    (3)
    ∂ℓ/∂y_j  =  −log p_j                                                                          (4)
    ∂ℓ/∂β    =  Σ_j (x_j − m) ∂ℓ/∂(β x_j)                                                           (5)

(3) at the label is −β (1 − p_y) with 1 − p_y summed over the other classes, so that a confident row keeps its gradient.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check
from jsoftmax._core.labels import UNREPRESENTABLE, as_int32
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import pullback
from jsoftmax._partition.statistics import Statistics, complements, live, log_weights, statistics, weights

Axis = int | tuple[int, ...] | None


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of `softmax(β logits)` relative to distributions: `−Σ_j y_j log p_j`, in nats.

    Takes the place of `optax.losses.softmax_cross_entropy` and of its `safe_` variant.

    Args:
      logits: floating or integer array. −inf marks an absent class.
      labels: floating array of the shape of `logits`; not renormalised. Differentiable.
      axis: class axis, tuple of axes or None for all.
      where: boolean, broadcasts to `logits`; False marks an absent class.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.

    Returns:
      one loss a row: shape of `logits` without the class axes, float32 or wider. 0 · log 0 = 0; mass on an absent class
      gives +inf. A live +inf or NaN makes its row NaN.

    Raises:
      TypeError: `logits` is boolean, complex or a list; `labels` is not floating; `where` is not boolean.
      ValueError: `labels` of another shape than `logits`; `axis` out of range or repeated; shapes that do not
        broadcast; a `where` of one entry a row; two of beta, temperature, base.

    Derivatives: reverse mode in `logits`, `labels` and `beta`, `temperature` or `base`, to any order; forward mode
    inside `forward_mode()`. In a label it is −log p_j, and 0 where p_j = 0. A −inf logit with mass y_j has gradient
    −β y_j; where masked, 0. At β = ±inf all but the labels' are 0. A row whose cotangent is 0 has gradient 0, also when
    it is NaN. Saves `logits`, `labels`, β, `where` and two numbers a row.

    References: Bridle (1990); Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.softmax_cross_entropy(jnp.array([[0.0, -20.0]]), jnp.array([[1.0, 0.0]]))
      Array([2.0611537e-09], dtype=float32)
    """
    name = "softmax_cross_entropy"
    logits, axes = check.logits(name, "logits", logits, axis)
    labels = check.distribution(name, labels, logits.shape)
    where = check.class_mask(name, where, logits.shape, axes)
    given, kind = check.beta(name, beta, temperature, base, logits.dtype, ax.row_shape(logits.shape, axes), ())
    return _distribution_loss(logits, labels, where, given, axes, kind)


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of `softmax(β logits)` at class indices: `−log p_y`, in nats.

    Takes the place of `optax.losses.softmax_cross_entropy_with_integer_labels`. Labels are compared with class indices:
    nothing is gathered or scattered by them, none wraps or is clamped.

    Args:
      logits: floating or integer array. −inf marks an absent class.
      labels: integers of any width, of the shape of `logits` without the class axes. With several class axes a label
        is the flat index over them, in the order of `axis`.
      axis: class axis, tuple of axes or None for all.
      where: boolean, broadcasts to `logits`; False marks an absent class.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      ignore_label: integer above −2³¹, may be traced. A row with this label has loss 0 and gradient 0, whatever it
        holds.

    Returns:
      one loss a row: shape of `labels`, float32 or wider. A label outside [0, V) that is not `ignore_label` gives NaN,
      a label on an absent class +inf. A live +inf or NaN makes its row NaN.

    Raises:
      TypeError: `logits` is boolean, complex or a list; `labels` or `ignore_label` is not integer; `where` not boolean.
      ValueError: `labels` of another shape; `axis` out of range or repeated; shapes that do not broadcast; a `where`
        of one entry a row; two of beta, temperature, base.

    Derivatives: reverse mode in `logits` and `beta`, `temperature` or `base`, to any order; forward mode inside
    `forward_mode()`. A label outside [0, V) gives a gradient row of NaN. A label on a −inf logit has gradient −β there;
    on a masked one 0. At β = ±inf the gradient is 0. A row whose cotangent is 0 has gradient 0, also when it is NaN.
    Saves `logits`, `labels`, β, `where` and two numbers a row.

    References: Bridle (1990); Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> logits = jnp.array([[0.0, -20.0], [1.0, 2.0], [3.0, 4.0]])
      >>> jsoftmax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 0, -100]), ignore_label=-100)
      Array([2.0611537e-09, 1.3132617e+00, 0.0000000e+00], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    logits, axes = check.logits(name, "logits", logits, axis)
    rows = ax.row_shape(logits.shape, axes)
    labels = check.integer_labels(name, labels, rows)
    where = check.class_mask(name, where, logits.shape, axes)
    given, kind = check.beta(name, beta, temperature, base, logits.dtype, rows, ())
    return _index_loss(logits, labels, where, given, check.ignore_label(name, ignore_label), axes, kind)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _distribution_loss(x, labels, where, beta, axes, kind):
    x, where, beta, labels = prepare(x, where, beta, kind, axes, False, labels)
    return ax.drop(_ruled_distribution_loss(x, labels, where, beta, axes), axes)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _index_loss(x, labels, where, beta, ignore_label, axes, kind):
    labels = as_int32(lax.expand_dims(labels, axes))
    ignored = jnp.zeros(labels.shape, bool)
    if ignore_label is not None:
        ignored = (labels == as_int32(ignore_label)) & (labels != UNREPRESENTABLE)
    x, where, beta, labels, ignored = prepare(x, where, beta, kind, axes, False, labels, ignored)
    return ax.drop(_ruled_index_loss(x, labels, ignored, where, beta, axes), axes)


def _poison(y, bad):
    """A product and not a choice, for the derivative is NaN too."""
    return y * jnp.where(bad, jnp.nan, 1)


def _unused(g, bad):
    """Rows that nothing depends on though they are NaN: their gradient is 0 and not 0 · NaN."""
    return (g == 0) & bad


def _without(rows, x, stats):
    """Zeros in these rows, so that no NaN of theirs meets a zero cotangent in a derivative of what follows."""
    return jnp.where(rows, 0, x), Statistics(*(jnp.where(rows, 0, s) for s in stats))


def _pull_of_absent(y, g, unused, x, beta, where, stats, axes):
    """What (5) counts for the mass on absent classes, whose loss is infinite whatever β is."""
    absent = jnp.sum(jnp.where(live(x, where), 0, y), axes, keepdims=True)
    p = weights(x, beta, where, stats, axes)
    return pullback.through_gap(g * absent * p, ~unused, x, beta, where, stats, axes)[1]


def _reach(labelled, x, where, stats):
    """Where a gradient may arrive: at live classes, and at a −∞ logit that a label points to, which is not masked."""
    pulled = labelled & ~jnp.isnan(stats.excess)
    return live(x, where) | (pulled if where is None else pulled & where)


# distribution ------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _times_log(y, log_p):
    """y log p with 0 · log 0 = 0, in value and in every derivative."""
    return jnp.where((y == 0) & (log_p == -jnp.inf), 0, y * log_p)


@_times_log.defjvp
def _(primals, tangents):
    y, log_p = primals
    bounded = jnp.where(log_p == -jnp.inf, 0, log_p)
    return _times_log(y, log_p), bounded * tangents[0] + y * tangents[1]


def _distribution_primal(x, labels, where, beta, axes):
    return _distribution_fwd(x, labels, where, beta, axes)[0]


def _distribution_fwd(x, labels, where, beta, axes):
    stats = statistics(x, beta, where, axes)
    y = labels.astype(stats.peak.dtype)
    loss = jnp.sum(-_times_log(y, log_weights(x, beta, where, stats, axes)), axes, keepdims=True)  # (2)
    return _poison(loss, jnp.isnan(stats.excess)), (x, labels, where, beta, stats)


def _distribution_bwd(axes, residuals, g):
    x, labels, where, beta, stats = residuals
    y, unused = labels.astype(stats.peak.dtype), _unused(g, jnp.isnan(stats.excess))
    x, stats = _without(unused, x, stats)
    t_bar = -jnp.where(unused, 0, pullback.through_log_weights(y, x, beta, where, stats, axes))  # (3)
    reach = _reach(y != 0, x, where, stats) & ~unused
    x_bar, beta_bar = pullback.through_gap(g * t_bar, reach, x, beta, where, stats, axes)  # (5)
    beta_bar -= _pull_of_absent(y, g, unused, x, beta, where, stats, axes)
    log_p = jnp.where(live(x, where) & ~unused, log_weights(x, beta, where, stats, axes), 0)
    labels_bar = -g * jnp.where(log_p == -jnp.inf, 0, log_p)  # (4)
    return x_bar, labels_bar.astype(labels.dtype), None, ax.sum_to(beta_bar, beta.shape)


_ruled_distribution_loss = with_vjp(_distribution_primal, _distribution_fwd, _distribution_bwd, static=(4,))


# integer labels ----------------------------------------------------------------------------------------------------


def _at_label(x, labels, axes):
    # the second factor only carries the sharding of x, which an Explicit mesh wants of a condition too
    return (ax.class_index(x.shape, axes) == labels) & jnp.ones_like(x, bool)


def _is_class(x, labels, axes):
    return (labels >= 0) & (labels < ax.class_count(x.shape, axes))


def _index_primal(x, labels, ignored, where, beta, axes):
    return _index_fwd(x, labels, ignored, where, beta, axes)[0]


def _index_fwd(x, labels, ignored, where, beta, axes):
    # an ignored row may hold anything, NaN included: nothing of it goes on
    kept, stats = _without(ignored, x, statistics(x, beta, where, axes))
    # without a class to point at a row is NaN, and so are the weights that its derivatives are made of
    no_class = ~ignored & ~_is_class(x, labels, axes)
    stats = Statistics(stats.peak, jnp.where(no_class, jnp.nan, stats.excess))
    log_p = log_weights(kept, beta, where, stats, axes)
    loss = jnp.sum(jnp.where(_at_label(x, labels, axes), -log_p, 0), axes, keepdims=True)  # (1)
    loss = _poison(loss, jnp.isnan(stats.excess))
    return jnp.where(ignored, 0, loss), (x, labels, ignored, where, beta, stats)


def _index_bwd(axes, residuals, g):
    x, labels, ignored, where, beta, stats = residuals
    bad = jnp.isnan(stats.excess)
    used = ~(ignored | _unused(g, bad))
    x, stats = _without(~used, x, stats)
    p, rest = weights(x, beta, where, stats, axes), complements(x, beta, where, stats, axes)
    at_label = _at_label(x, labels, axes)
    t_bar = jnp.where(at_label, -rest, p)  # (3)
    t_bar = jnp.where(used, _poison(t_bar, bad & used), 0)
    reach = _reach(at_label, x, where, stats) & used
    x_bar, beta_bar = pullback.through_gap(g * t_bar, reach, x, beta, where, stats, axes)  # (5)
    # the loss of a label on an absent class is infinite whatever β is
    beta_bar = jnp.where(jnp.any(at_label & live(x, where), axes, keepdims=True), beta_bar, 0)
    beta_bar = _poison(beta_bar, bad & used)
    return x_bar, None, None, None, ax.sum_to(beta_bar, beta.shape)


_ruled_index_loss = with_vjp(_index_primal, _index_fwd, _index_bwd, static=(5,))
