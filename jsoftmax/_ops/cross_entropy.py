"""Softmax cross-entropy: minus a log-weight.

    p = softmax(β x),  ε label smoothing,  w class weights (1 if none)
    ℓ(x, y)  =  −(1 − ε) w_y log p_y                                  integer label y               (1)
    ℓ(x, y)  =  −(1 − ε) Σ_j w_j y_j log p_j,  0 · log 0 = 0           distribution y                (2)
    and in both what `_partition.penalties` adds for ε and for the z-loss

    ∂ℓ/∂x_j  =  β a (p_j − δ_jy)     or   β (p_j Σ_i q_i − q_j)        a = (1 − ε) w_y, q = (1 − ε) w y  (3)
    ∂ℓ/∂y_j  =  −(1 − ε) w_j log p_j                                                              (4)
    ∂ℓ/∂β    =  Σ_j (x_j − m) ∂ℓ/∂(β x_j)                                                           (5)

(3) at the label is −β a (1 − p_y) with 1 − p_y summed over the others, so that a confident row keeps its gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, mesh
from jsoftmax._core.axes import total
from jsoftmax._core.dtypes import wide
from jsoftmax._core.labels import as_int32, at_label, is_class, is_ignored
from jsoftmax._core.operands import prepare
from jsoftmax._core.rule import with_vjp
from jsoftmax._partition import classes, labelled, penalties, pullback, resident
from jsoftmax._partition.penalties import Options
from jsoftmax._partition.statistics import (
    expected_log_weight,
    finite_log_weights,
    label_log_weight,
    label_pull,
    label_statistics,
    live,
    masked,
    mass_statistics,
    statistics,
    times_log,
    weights,
    without,
)

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
    label_smoothing: ArrayLike = check.NO_PENALTY,
    z_loss: ArrayLike = check.NO_PENALTY,
    class_weights: ArrayLike | None = None,
    axis_name: str | tuple[str, ...] | None = None,
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
      label_smoothing: ε in [0, 1]: the label keeps 1 − ε and the K live classes share ε evenly, as in torch. A scalar,
        or an array that broadcasts to the result.
      z_loss: λ: adds `λ (log Z)²`, Z = Σ_j exp(β x_j). A scalar, or an array that broadcasts to the result.
      class_weights: real, one a class, shape (V,); with several class axes in the order of flat labels. Multiplies
        every term −log p_j of the class, smoothed ones too, as in torch; the z-loss not.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them: `axis` has those of one device. `labels` and
        `class_weights` are of the classes here; the losses are the same on all.

    Returns:
      one loss a row: shape of `logits` without the class axes, float32 or wider. 0 · log 0 = 0; a mass (1 − ε) w_j y_j
      that is not 0 on an absent class gives +inf. A live +inf or NaN makes its row NaN.

    Raises:
      TypeError: `logits` is boolean, complex or a list; `labels` is not floating; `where` is not boolean.
      ValueError: `labels` of another shape than `logits`; `axis` out of range or repeated; shapes that do not
        broadcast; a `where` of one entry a row; two of beta, temperature, base; a number `label_smoothing` outside
        [0, 1]; `class_weights` of another length.

    Derivatives: reverse mode in `logits`, `labels`, `beta`, `temperature` or `base` and the options, to any order;
    forward mode inside `forward_mode()`. In a label it is −(1 − ε) w_j log p_j, and 0 where p_j = 0. A −inf logit
    with mass y_j has gradient −β (1 − ε) w_j y_j; where masked, 0. At β = ±inf those in `logits` and β are 0. A row
    whose cotangent is 0 has gradient 0, also when it is NaN. Saves `logits`, `labels`, β, `where`, the options and
    four numbers a row.

    References: Bridle (1990); Szegedy et al. (2016), arXiv:1512.00567 (label smoothing); de Brébisson & Vincent (2016),
    arXiv:1604.08859 (z-loss); Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.softmax_cross_entropy(jnp.array([[0.0, -20.0]]), jnp.array([[1.0, 0.0]]))
      Array([2.0611537e-09], dtype=float32)
    """
    return distribution_losses(
        "softmax_cross_entropy",
        logits,
        labels,
        axis,
        where,
        (beta, temperature, base),
        (label_smoothing, z_loss, class_weights),
        axis_name,
    )


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    z_loss: ArrayLike = check.NO_PENALTY,
    class_weights: ArrayLike | None = None,
    ignore_label: ArrayLike | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Cross-entropy of `softmax(β logits)` at class indices: `−log p_y`, in nats.

    Takes the place of `optax.losses.softmax_cross_entropy_with_integer_labels`. Labels are 32-bit indices; none
    wraps or is clamped, and one that is no class makes its row NaN.

    Args:
      logits: floating or integer array. −inf marks an absent class.
      labels: integers of any width, of the shape of `logits` without the class axes. With several class axes a label
        is the flat index over them, in the order of `axis`.
      axis: class axis, tuple of axes or None for all.
      where: boolean, broadcasts to `logits`; False marks an absent class.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the result.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      label_smoothing: ε in [0, 1]: the label keeps 1 − ε and the K live classes share ε evenly, as in torch. A scalar,
        or an array that broadcasts to the result.
      z_loss: λ: adds `λ (log Z)²`, Z = Σ_j exp(β x_j). A scalar, or an array that broadcasts to the result.
      class_weights: real, one a class, shape (V,); with several class axes in the order of flat labels. Multiplies
        every term −log p_j of the class, smoothed ones too, as in torch; the z-loss not.
      ignore_label: integer above −2³¹, may be traced. A row with this label has loss 0 and gradient 0, whatever it
        holds.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes of a row
        between them: `axis` has those of one device. `class_weights`
        are of the classes here; a label is an index over those of all, device after device; the losses are the same.

    Returns:
      one loss a row: shape of `labels`, float32 or wider. A label outside [0, V) that is not `ignore_label` gives NaN,
      a label on an absent class +inf, but 0 · ∞ = 0 where ε = 1 or w_y = 0. A live +inf or NaN makes its row NaN.

    Raises:
      TypeError: `logits` is boolean, complex or a list; `labels` or `ignore_label` is not integer; `where` not boolean.
      ValueError: `labels` of another shape; `axis` out of range or repeated; shapes that do not broadcast; a `where`
        of one entry a row; two of beta, temperature, base; a number `label_smoothing` outside [0, 1]; `class_weights`
        of another length.

    Derivatives: reverse mode in `logits`, `beta`, `temperature` or `base` and the options, to any order; forward mode
    inside `forward_mode()`. A label outside [0, V) gives a gradient row of NaN. A label on a −inf logit has
    gradient −β (1 − ε) w_y there; on a masked one 0. At β = ±inf the gradient in `logits` and β is 0. A row whose
    cotangent is 0 has gradient 0, also when it is NaN. Saves `logits`, `labels`, β, `where`, the options and two
    numbers a row.

    References: Bridle (1990); Szegedy et al. (2016), arXiv:1512.00567 (label smoothing); de Brébisson & Vincent (2016),
    arXiv:1604.08859 (z-loss); Blanchard, Higham & Higham (2021), doi:10.1093/imanum/draa038.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> logits = jnp.array([[0.0, -20.0], [1.0, 2.0], [3.0, 4.0]])
      >>> jsoftmax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 0, -100]), ignore_label=-100)
      Array([2.0611537e-09, 1.3132617e+00, 0.0000000e+00], dtype=float32)
    """
    return index_losses(
        "softmax_cross_entropy_with_integer_labels",
        logits,
        labels,
        axis,
        where,
        (beta, temperature, base),
        (label_smoothing, z_loss, class_weights),
        ignore_label,
        axis_name,
    )


def distribution_losses(name, logits, labels, axis, where, slope, options, axis_name=None):
    """Checks in the name of the operator `name`; `slope` is (beta, temperature, base)."""
    logits, axes = check.logits(name, "logits", logits, axis)
    labels = check.distribution(name, labels, logits.shape)
    where = check.class_mask(name, where, logits.shape, axes)
    beta, temperature, base = slope
    rows = ax.row_shape(logits.shape, axes)
    given, kind = check.beta(name, beta, temperature, base, logits.dtype, rows, ())
    options = _checked(name, logits, axes, *options)
    names = check.axis_names(name, axis_name, **_of_rows(options), **{kind: given})
    return _distribution_loss(logits, labels, where, given, options, axes + names, kind)


def index_losses(name, logits, labels, axis, where, slope, options, ignore_label, axis_name=None):
    """Checks in the name of the operator `name`; `slope` is (beta, temperature, base)."""
    logits, axes = check.logits(name, "logits", logits, axis)
    rows = ax.row_shape(logits.shape, axes)
    labels = check.integer_labels(name, labels, rows)
    where = check.class_mask(name, where, logits.shape, axes)
    beta, temperature, base = slope
    given, kind = check.beta(name, beta, temperature, base, logits.dtype, rows, ())
    options = _checked(name, logits, axes, *options)
    ignore = check.ignore_label(name, ignore_label)
    names = check.axis_names(name, axis_name, labels=labels, ignore_label=ignore, **_of_rows(options), **{kind: given})
    return _index_loss(logits, labels, where, given, options, ignore, axes + names, kind)


def _of_rows(options):
    return {"label_smoothing": options.smoothing, "z_loss": options.z_loss}


def _checked(name, logits, axes, label_smoothing, z_loss, class_weights):
    rows = ax.row_shape(logits.shape, axes)
    return Options(
        check.label_smoothing(name, label_smoothing, logits.dtype, rows),
        check.row_option(name, "z_loss", z_loss, logits.dtype, rows),
        check.class_numbers(name, "class_weights", class_weights, logits.dtype, ax.class_count(logits.shape, axes)),
    )


@functools.partial(jax.jit, static_argnums=(5, 6))
def _distribution_loss(x, labels, where, beta, options, axes, kind):
    smoothing, z_loss, w = _lifted(options, x.shape, axes)
    x, where, beta, labels, w, smoothing, z_loss = prepare(
        x, where, beta, kind, axes, False, each=(labels, w), rows=(smoothing, z_loss)
    )
    losses = distribution_loss_of(x, labels, where, beta, Options(smoothing, z_loss, w), axes)
    return ax.drop(mesh.leave(losses, ax.names(axes)), axes)


@functools.partial(jax.jit, static_argnums=(6, 7))
def _index_loss(x, labels, where, beta, options, ignore_label, axes, kind):
    labels = as_int32(lax.expand_dims(labels, ax.positions(axes)))
    ignored = is_ignored(labels, ignore_label)
    smoothing, z_loss, w = _lifted(options, x.shape, axes)
    x, where, beta, w, labels, ignored, smoothing, z_loss = prepare(
        x, where, beta, kind, axes, False, each=(w,), rows=(labels, ignored, smoothing, z_loss)
    )
    losses = index_loss_of(x, labels, ignored, where, beta, Options(smoothing, z_loss, w), axes)
    return ax.drop(mesh.leave(losses, ax.names(axes)), axes)


def _lifted(options, shape, axes):
    """The options at the rank of the logits."""
    smoothing, z_loss = (o if o is None else ax.lift_rows(o, len(shape), axes, False) for o in options[:2])
    w = options.class_weights
    return Options(smoothing, z_loss, w if w is None else ax.lift_classes(w, shape, axes))


def poison(y, bad):
    """A product and not a choice, for the derivative is NaN too."""
    return y * jnp.where(bad, jnp.nan, 1)


def used_rows(g, bad, ignored=None):
    """(Rows that something depends on, their cotangent): a row that is not used has gradient 0 even if it is NaN, and
    of a bad row in use all is NaN."""
    used = ~((g == 0) & bad)
    used = used if ignored is None else used & ~ignored
    return used, jnp.where(used, poison(g, bad & used), 0)


def _kept(options):
    """1 − ε; None stands for 1."""
    return None if options.smoothing is None else 1 - options.smoothing


def scaled(w, options):
    """(1 − ε) w; None stands for 1."""
    kept = _kept(options)
    return w if kept is None else _times(kept, w)


def _times(y, factor):
    return y if factor is None else y * factor


def option_bars(options, bars):
    return Options(*(o if o is None else ax.sum_to(bar, o.shape) for o, bar in zip(options, bars, strict=True)))


# distribution ------------------------------------------------------------------------------------------------------


def _distribution_primal(x, labels, where, beta, options, axes):
    return _distribution_fwd(x, labels, where, beta, options, axes)[0]


def _distribution_fwd(x, labels, where, beta, options, axes):
    q = _masses(x, labels, options)
    stats, masses = mass_statistics(q, x, beta, where, axes)

    def losses(x, beta, where, stats, axes, masses=None):
        loss = 0 - expected_log_weight(q, x, beta, where, stats, masses, axes, True)  # (2)
        loss += penalties.value(penalties.sums(x, beta, where, stats, options, axes), options)
        return poison(loss, jnp.isnan(stats.excess))

    loss = resident.each(losses, stats, x, beta, where, axes, elsewhere=functools.partial(losses, masses=masses))
    sums_of_labels = None if masses is None else (masses.total, masses.beside)
    return loss, (x, labels, where, beta, options, stats, sums_of_labels)


def _masses(x, labels, options):
    return _times(labels.astype(wide(x.dtype)), scaled(options.class_weights, options))


def _distribution_bwd(axes, residuals, g):
    x, labels, where, beta, options, stats, sums_of_labels = residuals
    used, g = used_rows(g, jnp.isnan(stats.excess))
    given, q = beta, _masses(x, labels, options)
    x, stats, beta = without(~used, x, stats, beta)
    stats = resident.again(stats, x, beta, where, axes)
    y, scale = labels.astype(stats.peak.dtype), scaled(options.class_weights, options)
    p = weights(x, beta, where, stats, axes)
    sums = penalties.sums(x, beta, where, stats, options, axes)
    more = penalties.pull(g, sums, beta, stats, options)

    def mass(x, where, q, w):
        return g * q if more.even is None else g * q + jnp.where(live(x, where), _times(more.even, w), 0)

    operands, known = (q, options.class_weights), None
    if more.even is None and sums_of_labels is not None:
        known = tuple(g * total for total in sums_of_labels)
    of_labels = pullback.through_log_weights(mass, operands, x, beta, where, stats, axes, known)
    t_bar = more.level * p - of_labels  # (3)
    x_bar = pullback.to_logits(t_bar, x, beta, where, used)
    beta_bar = None
    if given is not None:
        # the loss of mass on an absent class is infinite whatever β is
        absent = total(jnp.where(live(x, where), 0, q), axes)
        beta_bar = more.beta + pullback.to_beta(t_bar - g * absent * p, x, beta, where, stats, axes)  # (5)
        beta_bar = ax.sum_to(beta_bar, given.shape)
    each = masked(-g * finite_log_weights(x, beta, where, stats, axes), where)
    labels_bar = _times(each, scale).astype(labels.dtype)  # (4)
    smoothing_bar, z_loss_bar, weights_bar = more.smoothing, None, None
    if options.z_loss is not None:
        z_loss_bar = penalties.z_loss_bar(g, sums.log_z)
    if scale is not None:
        unit = y * each
        smoothing_bar -= total(_times(unit, options.class_weights), axes)
        weights_bar = penalties.class_weights_bar(more.even, x, beta, where, stats, axes) + _times(unit, _kept(options))
    bars = Options(smoothing_bar, z_loss_bar, weights_bar)
    return x_bar, labels_bar, None, beta_bar, option_bars(options, bars)


distribution_loss_of = with_vjp(_distribution_primal, _distribution_fwd, _distribution_bwd, static=(5,))


# integer labels ----------------------------------------------------------------------------------------------------


def index_value(x, labels, ignored, where, beta, options, axes, alone):
    """(Loss, statistics) of each row; `alone` if no gradient is made beside them."""
    # without a class to point at a row is NaN, and so are the weights that its derivatives are made of
    bad = ~is_class(labels, ax.class_count(x.shape, axes))
    bad = bad if ignored is None else bad & ~ignored
    # the label's own term is the larger one wherever the label is not at the peak, unless its weight is small
    fine = options.class_weights is not None and not (options.smoothing is None and options.z_loss is None)
    stats, at = label_statistics(x, labels, bad, ignored, beta, where, axes, fine, alone)
    log_p = label_log_weight(x, labels, at, ignored, beta, where, stats, axes)
    scale = scaled(_of_label(options.class_weights, x, labels, axes), options)
    # an ignored row may hold anything, NaN included: nothing of it goes on
    kept = x if ignored is None else jnp.where(ignored, 0, x)
    sums = penalties.sums(kept, beta, where, stats, options, axes)
    return index_loss(log_p, scale, sums, stats, ignored, options), stats


def index_loss(log_p, scale, sums, stats, ignored, options):
    """(1) with its options, from the numbers of each row."""
    loss = 0 - log_p
    loss = loss if scale is None else 0 - times_log(scale, -loss)
    loss = poison(loss + penalties.value(sums, options), jnp.isnan(stats.excess))
    return loss if ignored is None else jnp.where(ignored, 0, loss)


def index_pull(g, x, labels, ignored, where, beta, options, stats, axes):
    """Cotangents of (x, β, options) for that of the losses; those of β and the options one a row, of w one a logit."""
    used, g = used_rows(g, jnp.isnan(stats.excess), ignored)
    w = _of_label(options.class_weights, x, labels, axes)
    scale = scaled(w, options)
    row, on, slope = without(~used, x, stats, beta)
    more = penalties.pull(g, penalties.sums(row, slope, where, on, options, axes), slope, on, options)
    pulled = _times(g, scale)
    if more.even is None or options.class_weights is None:
        level = more.level + more.total
        t_bar = label_pull(pulled, level, more.even, x, labels, used, beta, where, stats, axes)  # (3)
    else:

        def mass(x, where, index, w):
            return jnp.where(at_label(index, labels, x), pulled, 0) + jnp.where(live(x, where), more.even * w, 0)

        operands = classes.INDEX, options.class_weights
        t_bar = more.level * weights(row, slope, where, on, axes)
        t_bar -= pullback.through_log_weights(mass, operands, row, slope, where, on, axes)
    x_bar = pullback.to_logits(t_bar, x, beta, where, used)
    log_p: Any = None
    if beta is not None or scale is not None:
        log_p = label_log_weight(x, labels, None, ~used, beta, where, stats, axes)
    beta_bar = None
    if beta is not None:
        # the loss of a label on an absent class is infinite whatever β is
        absent = jnp.where(log_p == -jnp.inf, pulled, 0) * weights(row, slope, where, on, axes)
        beta_bar = more.beta + pullback.to_beta(t_bar - absent, row, slope, where, on, axes)  # (5)
        beta_bar = poison(beta_bar, jnp.isnan(on.excess))
    smoothing_bar, z_loss_bar, weights_bar = more.smoothing, None, None
    if options.z_loss is not None:  # all that is left of log Z, which may be small beside 1
        exact = statistics(row, slope, where, axes)
        log_z = penalties.sums(row, slope, where, exact, Options(None, options.z_loss, None), axes).log_z
        z_loss_bar = penalties.z_loss_bar(g, log_z)
    if scale is not None:
        unit = -g * jnp.where(log_p == -jnp.inf, 0, log_p)
        reached = at_label(ax.class_index(x.shape, axes), labels, x) | (jnp.isnan(on.excess) & live(row, where))
        smoothing_bar -= _times(unit, w)
        weights_bar = jnp.where(reached, _times(unit, _kept(options)), 0)
        weights_bar += penalties.class_weights_bar(more.even, row, slope, where, on, axes)
    return x_bar, beta_bar, Options(smoothing_bar, z_loss_bar, weights_bar)


def _of_label(w, x, labels, axes):
    """w_y of each row."""
    return w if w is None else labelled.pick(w, labels, x, axes)


def _index_primal(x, labels, ignored, where, beta, options, axes):
    return index_value(x, labels, ignored, where, beta, options, axes, alone=True)[0]


def _index_fwd(x, labels, ignored, where, beta, options, axes):
    loss, stats = index_value(x, labels, ignored, where, beta, options, axes, alone=False)
    return loss, (x, labels, ignored, where, beta, options, stats)


def _index_bwd(axes, residuals, g):
    x, labels, ignored, where, beta, options, stats = residuals
    x_bar, beta_bar, bars = index_pull(g, x, labels, ignored, where, beta, options, stats, axes)
    beta_bar = beta_bar if beta is None else ax.sum_to(beta_bar, beta.shape)
    return x_bar, None, None, None, beta_bar, option_bars(options, bars)


index_loss_of = with_vjp(_index_primal, _index_fwd, _index_bwd, static=(6,))
