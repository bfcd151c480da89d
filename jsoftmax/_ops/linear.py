"""Cross-entropy of a linear layer whose logits are never all there at once.

    ℓ  =  the loss of `cross_entropy` at each row of z = `_partition.layer` of x

Its rule gives z_bar for a block of tokens, and that of the layer the rest. Where the losses are summed here, their
cotangents are known beforehand: value and gradient come from one sight of each block, three products in all; else the
logits are made again for the gradient, four products. Blocks of classes are always seen twice.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import blocks as bl
from jsoftmax._core import check, dtypes, mesh
from jsoftmax._core.labels import as_int32, at_label, is_ignored
from jsoftmax._core.reduce import weighted_sum
from jsoftmax._core.rule import with_vjp
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._ops.cross_entropy import index_loss, index_pull, index_value, poison, scaled, used_rows
from jsoftmax._ops.logsumexp import lse
from jsoftmax._partition import layer as layers
from jsoftmax._partition import penalties, streamed
from jsoftmax._partition.labelled import pick
from jsoftmax._partition.layer import Form, Layer
from jsoftmax._partition.statistics import entropy, statistics


class Measures(NamedTuple):
    """Of the softmax of each token."""

    logsumexp: Array
    entropy: Array
    prediction: Array


OF_CLASSES = ("weight", "bias", "class_gain")
OF_TOKENS = ("inputs", "beta", "smoothing", "z_loss", "row_gain", "shift")
OF_PARTS = ("inputs", "row_gain", "shift")  # cotangents to which every block of classes adds


def linear_softmax_cross_entropy(
    inputs: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    class_axis: int = 1,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    soft_cap: ArrayLike | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    z_loss: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    return_stats: bool = False,
) -> Any:
    """Cross-entropy of `softmax(β (inputs · weight + bias))` at class indices; the logits are never all there at once.

    Takes the place of `softmax_cross_entropy_with_integer_labels(inputs @ weight, labels)` and of torch's
    `F.linear_cross_entropy`: the same numbers from blocks of logits, in value and gradient.

    Args:
      inputs: floating or integer array [..., D], one vector of features a token.
      weight: [D, V], one column a class; [V, D] with `class_axis=0`, as an embedding that is tied to the layer.
      labels: integers [...] of any width. One outside [0, V) makes its row NaN.
      bias: [V]. −inf marks an absent class.
      class_axis: axis of `weight` with the classes.
      beta: inverse temperature, any real or ±inf; a scalar, or an array that broadcasts to the labels.
      temperature, base: T = 1/β or e^β instead of `beta`, as in `softmax`.
      soft_cap: c > 0: the logits become c tanh(logits / c), before β. Infinite ones stay, so that −inf is absent.
      label_smoothing: ε in [0, 1]: the label keeps 1 − ε and the K live classes share ε evenly. A scalar, or an array
        that broadcasts to the labels.
      z_loss: λ: adds `λ (log Z)²`. A scalar, or an array that broadcasts to the labels.
      ignore_label: integer above −2³¹, may be traced. A token with this label has loss 0 and gradient 0, whatever it
        holds.
      weights: real or boolean, broadcasts to the labels: factor of each loss in the sum and the mean. A token of weight
        0 counts for nothing, whatever it holds.
      reduction: "none": one loss a token; "sum": Σ w l; "mean": Σ w l / Σ w over tokens that are not ignored, 0 if
        there are none. With the sums value and gradient together make each block of logits once, with "none" twice.
      block_size: tokens of a block, or (tokens, classes). More tokens take more memory: tokens × classes numbers of
        float32 or wider, some two or three times. Blocks of classes are always made twice for a gradient. By default
        512 tokens, or as many as make 2²² logits, over all classes; above 2¹⁹ classes 1024 × 2¹⁵.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes between
        them: `weight` and `bias` are those of one device, and all else is the same on every one. A label is an index
        over the classes of all, device after device. The gradient of `inputs` is added up over the devices once, in
        float32 or wider.
      return_stats: return also the `logsumexp` (β⁻¹ log Z), the `entropy` and the `prediction` (first of the most
        likely classes) of every token, whatever its label is.

    Returns:
      losses in the shape of the labels, or a scalar; float32 or wider. With `return_stats` a pair: these, and a named
      tuple (logsumexp, entropy, prediction) in the shape of the labels.

    Raises:
      TypeError: an array is boolean, complex or a list; `labels` or `ignore_label` is not integer.
      ValueError: shapes that do not fit; two of beta, temperature, base; a number `label_smoothing` outside [0, 1];
        `soft_cap` ≤ 0; `reduction` is none of the three; `weights` without one; a `block_size` below 1.

    Derivatives: in `inputs`, `weight`, `bias`, β, `soft_cap`, the options and `weights`, also through logsumexp and
    entropy, to any order; forward mode inside `forward_mode()`. Products are taken in the common dtype of `inputs` and
    `weight` and added up in float32 or wider. What is not differentiated costs no product. Saves `inputs`, `weight`,
    `labels`, the options and a few numbers a token; with a `reduction` and no blocks of classes the gradients instead.

    References: Wijmans et al. (2025), arXiv:2411.09009 (Cut Your Losses); Hsu et al. (2024), arXiv:2410.10989 (Liger).

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.ones((4, 8)), jnp.zeros((8, 1000))
      >>> jsoftmax.linear_softmax_cross_entropy(x, w, jnp.array([1, 2, 3, -100]), ignore_label=-100, reduction="mean")
      Array(6.9077554, dtype=float32)
    """
    name = "linear_softmax_cross_entropy"
    inputs, weight, axis = check.linear(name, inputs, weight, class_axis)
    rows, dtype = inputs.shape[:-1], jnp.result_type(inputs.dtype, weight.dtype)
    labels = check.integer_labels(name, labels, rows)
    given, kind = check.beta(name, beta, temperature, base, dtype, rows, ())
    options = (
        check.class_numbers(name, "bias", bias, dtype, weight.shape[axis]),
        check.soft_cap(name, soft_cap, dtype),
        given,
        check.label_smoothing(name, label_smoothing, dtype, rows),
        check.row_option(name, "z_loss", z_loss, dtype, rows),
    )
    ignored = check.ignore_label(name, ignore_label)
    weights = check.loss_weights(name, weights, rows, "the shape of the labels")
    check.reduction(name, reduction, weights)
    sizes = bl.sizes(weight.shape[axis], check.block_size(name, block_size))
    shared = {"inputs": inputs, "labels": labels, kind: given, "weights": weights, "ignore_label": ignored}
    shared |= {"soft_cap": options[1], "label_smoothing": options[3], "z_loss": options[4]}
    plan = Plan(Form(axis), *sizes, bool(return_stats), check.axis_names(name, axis_name, **shared))
    return _linear(inputs, weight, labels, options, ignored, weights, kind, reduction, plan)


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _linear(inputs, weight, labels, options, ignore_label, weights, kind, reduction, plan):
    rows = PartitionSpec(*jax.typeof(inputs).sharding.spec[: labels.ndim])
    out: Any = rows if reduction == "none" else PartitionSpec()
    out = (out, Measures._make([rows] * 3)) if plan.measured else out
    run = functools.partial(_unplaced, kind=kind, reduction=reduction, plan=plan)
    return mesh.automatic(run, out, inputs, weight, labels, options, ignore_label, weights)


def _unplaced(inputs, weight, labels, options, ignore_label, weights, kind, reduction, plan):
    """Loops over blocks leave it to the compiler where arrays are, also on an Explicit mesh."""
    shape, size = labels.shape, labels.size
    labels = as_int32(labels).reshape(size, 1)
    dtype = dtypes.of_logits(jnp.result_type(inputs.dtype, weight.dtype))
    inputs, weight = inputs.astype(dtype).reshape(size, inputs.shape[-1]), weight.astype(dtype)
    bias, cap, beta, smoothing, z_loss = options
    beta = jnp.ones((), dtypes.wide(dtype)) if beta is None else inverse_temperature(beta, kind)
    cap = cap if cap is None else cap.reshape(1, 1)
    bias = bias if bias is None else bias.reshape(1, bias.size)
    beta, smoothing, z_loss = (a if a is None else ax.one_a_row(a, shape) for a in (beta, smoothing, z_loss))
    ignored = is_ignored(labels, ignore_label)
    layer = Layer(inputs, weight, bias, cap, beta, smoothing, z_loss)
    return reduced(layer, labels, ignored, weights, shape, reduction, plan)


def reduced(layer, labels, ignored, weights, shape, reduction, plan):
    """Losses in the `shape` of the labels, or their sum or mean by weights; what is measured beside them."""
    w = None
    if reduction != "none":
        w = jnp.ones((), layer.beta.dtype) if weights is None else weights.astype(layer.beta.dtype)
        w = jnp.broadcast_to(ax.lift(w, len(shape)), shape).reshape(-1, 1)
        w = w if ignored is None else jnp.where(ignored, 0, w)
    each = [getattr(layer, name) for name in OF_CLASSES]
    own = (layer.soft_cap, *(getattr(layer, name) for name in OF_TOKENS))
    *each_and_own, labels, ignored, w = mesh.apart(each, (*own, labels, ignored, w), plan.names)
    layer = Layer(**dict(zip((*OF_CLASSES, "soft_cap", *OF_TOKENS), each_and_own, strict=True)))
    if w is None or plan.measured or plan.streams(layer):
        losses, *measures = _ruled_losses(layer, labels, ignored, plan)
        y = losses.reshape(shape) if w is None else weighted_sum(losses, w)
    else:
        y, measures = _ruled_total(layer, w, labels, ignored, plan), ()
    if reduction == "mean":
        count = jnp.sum(w)
        y = jnp.where(count == 0, 0, y / jnp.where(count == 0, 1, count))
    y = mesh.leave(y, plan.names)
    if not plan.measured:
        return y
    total, spread, first = (a.reshape(shape) for a in measures)
    return y, Measures(mesh.leave(total, plan.names), mesh.leave(spread, plan.names), first)


# the losses --------------------------------------------------------------------------------------------------------


def _measures(z, beta, axes):
    """(logsumexp, entropy) of each row."""
    stats = statistics(z, beta, None, axes)
    return lse(z, beta, None, stats, axes), entropy(z, beta, None, stats, axes)


def _value_whole(layer, labels, ignored, plan, alone):
    """(losses, then if measured: logsumexp, entropy, prediction), from all classes at once.

    `alone` if no gradient is made beside them.
    """
    _, z = plan.logits(layer, labels)
    loss, _ = index_value(z, labels, ignored, None, layer.beta, layer.options(), plan.axes, alone)
    if not plan.measured:
        return (loss,)
    first = streamed.first_at_peak(z, statistics(z, layer.beta, None, plan.axes), plan.axes)
    return loss, *_measures(z, layer.beta, plan.axes), first


def _pull_whole(g, shared, layer, labels, ignored, wanted, plan):
    """Cotangents of the layer for those of (losses, and if measured logsumexp and entropy): (shared + what the tokens
    have in common, one for each token). Those of inputs and cap are of the classes on this device.

    The statistics are taken again, from the logits at hand: those of another product might differ by a rounding, which
    is more than a confident row has left.
    """
    raw, z = plan.logits(layer, labels)
    beta, options, (loss_bar, *measures_bar) = layer.beta, layer.options(), g
    _, stats = index_value(z, labels, ignored, None, beta, options, plan.axes, alone=False)
    z_bar, beta_bar, bars = index_pull(loss_bar, z, labels, ignored, None, beta, options, stats, plan.axes)
    kept = loss_bar != 0 if ignored is None else (loss_bar != 0) & ~ignored
    if measures_bar:
        read = functools.reduce(jnp.logical_or, (a != 0 for a in measures_bar))
        tilt = jnp.broadcast_to(jnp.where(read, beta, 1), loss_bar.shape)
        pull = jax.vjp(functools.partial(_measures, axes=plan.axes), jnp.where(read, z, 0), tilt)[1]
        more = pull(tuple(mesh.once(a, plan.names) for a in measures_bar))
        z_bar, beta_bar, kept = z_bar + more[0], beta_bar + mesh.added_up(more[1], plan.names), kept | read
    shift_bar = pick(z_bar, labels, z, plan.axes) if wanted.shift else None
    shared, own = layers.pull(shared, z_bar, raw, layer, kept, wanted, plan.form)
    return shared, _of_tokens(own, beta_bar, bars.smoothing, bars.z_loss, shift_bar, wanted)


def _of_tokens(own, beta_bar, smoothing_bar, z_loss_bar, shift_bar, wanted):
    bars = own._replace(beta=beta_bar, smoothing=smoothing_bar, z_loss=z_loss_bar, shift=shift_bar)
    return Layer(*(bar if w else None for bar, w in zip(bars, wanted, strict=True)))


def _find(layer, labels, plan):
    """What blocks of classes show of the rows; a constant of every derivative, as statistics are."""
    layer, classes, first = lax.stop_gradient(layer), plan.classes_here(layer), plan.first_class(layer)

    def logits(start, length):
        return plan.part(layer, labels - first, start, length)[2]

    found = streamed.find(logits, classes, plan.classes, labels - first, layer.beta, layer.options(), plan.measured)
    return streamed.over_devices(found, labels, first, classes, layer.beta, plan.names) if plan.names else found


def _value_found(layer, labels, ignored, found, plan):
    """As `_value_whole` but for the prediction, from what was found."""
    beta, options = layer.beta, layer.options()
    seen = streamed.as_labelled(found, labels, ignored, plan.all_classes(layer))
    log_p, sums = streamed.log_weight(seen, beta), streamed.sums(seen, beta, options)
    loss = index_loss(log_p, scaled(None, options), sums, seen.stats, ignored, options)
    if not plan.measured:
        return (loss,)
    return loss, lse(found.stats.peak, beta, None, found.stats, plan.axes), streamed.entropy(found)


def _pull_streamed(g, shared, layer, labels, ignored, found, wanted, plan):
    """As `_pull_whole`, from what was found."""
    options, (loss_bar, *measures_bar) = layer.options(), g
    seen, first = streamed.as_labelled(found, labels, ignored, plan.all_classes(layer)), plan.first_class(layer)
    used, loss_bar = used_rows(loss_bar, jnp.isnan(seen.stats.excess), ignored)
    seen, beta = streamed.calm(seen, used), jnp.where(used, layer.beta, 1)
    sums, log_p = streamed.sums(seen, beta, options), streamed.log_weight(seen, beta)
    more, scale = penalties.pull(loss_bar, sums, beta, seen.stats, options), scaled(None, options)
    pulled = loss_bar if scale is None else loss_bar * scale
    kept, beta_bar = used & (loss_bar != 0), more.beta
    if measures_bar:
        read = functools.reduce(jnp.logical_or, (a != 0 for a in measures_bar))
        read_found, read_beta = streamed.calm(found, read), jnp.where(read, layer.beta, 1)
        kept, beta_bar = kept | read, beta_bar + measures_bar[0] * streamed.slope(read_found, read_beta)

    def step(carry, start, length):
        shared, own, moved = carry
        part, raw, z = plan.part(layer, labels - first, start, length)
        level = more.level + more.total
        z_bar, rows = streamed.label_pull(pulled, level, more.even, z, first + start, labels, used, beta, seen)
        if measures_bar:
            z_more, rows_more = streamed.measures_pull(measures_bar, z, read, read_beta, read_found)
            z_bar, rows = z_bar + z_more, rows + rows_more
        shared, more_own = layers.pull(shared, z_bar, raw, part, kept, wanted, plan.form, start)
        if wanted.shift:
            here = at_label(start + ax.class_index(z.shape, (1,)), labels - first, z)
            more_own = more_own._replace(shift=jnp.sum(jnp.where(here, z_bar, 0), 1, keepdims=True))
        return shared, jax.tree.map(jnp.add, own, more_own), moved + rows

    def nothing(shape):
        return mesh.vary(jnp.zeros(shape, loss_bar.dtype), loss_bar, layer.weight)[0]

    of_parts = {name: nothing(getattr(layer, name).shape) for name in OF_PARTS if getattr(wanted, name)}
    start = shared, Layer(*(of_parts.get(name) for name in Layer._fields)), nothing(loss_bar.shape)
    shared, own, moved = bl.over_slices(step, start, plan.classes_here(layer), plan.classes)
    shift_bar = ax.total(own.shift, plan.axes) if wanted.shift else None
    beta_bar += ax.total(moved, plan.axes)
    unit = loss_bar * jnp.where(log_p == -jnp.inf, 0, log_p)
    z_loss_bar = None if options.z_loss is None else penalties.z_loss_bar(loss_bar, sums.log_z)
    beta_bar = poison(beta_bar, jnp.isnan(seen.stats.excess))
    return shared, _of_tokens(own, beta_bar, more.smoothing + unit, z_loss_bar, shift_bar, wanted)


# block of tokens after block of tokens -----------------------------------------------------------------------------


class Plan(NamedTuple):
    """What is known without a number."""

    form: Form
    tokens: int  # at most so many in a block
    classes: int
    measured: bool
    names: tuple[str, ...]  # of the mesh axes that have the classes between them
    skips: bool = False  # blocks of ignored tokens cost nothing

    @property
    def axes(self):
        """The class axes of a block of logits."""
        return 1, *self.names

    def classes_here(self, layer):
        """On this device."""
        return layer.weight.shape[self.form.class_axis] // self.form.centers

    def streams(self, layer):
        return self.classes < self.classes_here(layer)

    def all_classes(self, layer):
        return ax.class_count((1, self.classes_here(layer)), self.axes)

    def first_class(self, layer):
        """The index of the first class on this device."""
        return lax.axis_index(self.names) * self.classes_here(layer) if self.names else 0

    def logits(self, layer, labels):
        """(What `layers.pull` takes, logits) of the classes on this device."""
        raw, z = layers.logits(layer, self.form)
        return raw, layers.shifted(z, layer, labels, ax.class_index(z.shape, self.axes))

    def part(self, layer, labels, start, length):
        """(The layer, what `layers.pull` takes, logits) of classes from `start` on; labels from the first on."""
        part = layers.part_of(layer, start, length, self.form)
        raw, z = layers.logits(part, self.form)
        return part, raw, layers.shifted(z, part, labels, start + ax.class_index(z.shape, (1,)))


def _over_tokens(f, carry, layer, labels, ignored, plan, *rows):
    """f(carry, layer, labels, ignored, *rows) of each block of tokens.

    Tokens that fill up a block are zeros: what they give is cut off, and their cotangent is 0.
    """

    def of_block(carry, taken):
        own, labels, ignored, rows = taken
        run = functools.partial(f, carry, layer._replace(**own), labels, ignored, *rows)
        return _unless_idle(run, carry, ignored, own["inputs"]) if skips else run()

    skips = plan.skips and bl.count(layer.inputs.shape[0], plan.tokens) > 1
    own = {name: getattr(layer, name) for name in OF_TOKENS}
    return bl.over_rows(of_block, carry, (own, labels, ignored, rows), plan.tokens)


def _unless_idle(run, carry, ignored, like):
    """run(), a carry and results; of ignored tokens alone the carry as it was, and zeros."""
    _, shapes = jax.eval_shape(run)

    def skip():
        return carry, jax.tree.map(lambda a: mesh.vary(jnp.zeros(a.shape, a.dtype), like)[0], shapes)

    return lax.cond(jnp.all(ignored), skip, run)


def _value(layer, labels, ignored, plan):
    """(what `_value_whole` gives, what was found in blocks of classes or None)."""

    def of_block(_, layer, labels, ignored):
        if plan.streams(layer):
            found = _find(layer, labels, plan)
            y = _value_of_stream(layer, labels, ignored, found, plan)
            return None, ((*y, found.first) if plan.measured else y, found)
        return None, (_value_whole(layer, labels, ignored, plan, alone=True), None)

    return _over_tokens(bl.again(of_block), None, layer, labels, ignored, plan)[1]


def _pull(g, layer, labels, ignored, found, wanted, plan):
    """Cotangents of the layer; of β, ε, λ one a token."""

    def of_block(shared, layer, labels, ignored, found, *g):
        if plan.streams(layer):
            return _pull_of_stream(g, shared, layer, labels, ignored, found, wanted, plan)
        return _pull_whole(g, shared, layer, labels, ignored, wanted, plan)

    start = _nothing(layer, wanted, plan)
    shared, own = _over_tokens(bl.again(of_block), start, layer, labels, ignored, plan, found, *g)
    return _joined(shared, own, layer, wanted, plan)


def _joined(shared, own, layer, wanted, plan):
    """All of the cotangents; what the devices have of those of inputs and cap is added up here, once."""
    bars = Layer(*(b if a is None else a for a, b in zip(shared, own, strict=True)))
    bars = layers.gained(bars, layer, wanted, plan.form)
    if not plan.names:
        return bars
    names = ("inputs", "soft_cap", "row_gain")
    parts = {name: bar for name in names if (bar := getattr(bars, name)) is not None}
    return bars._replace(**lax.psum(parts, plan.names))


def _nothing(layer, wanted, plan):
    """Cotangents of what tokens have in common, to add to: those of the weight in float32 or wider, unless each is
    finished with its block of classes. None where one product is all of it."""
    once = bl.count(layer.inputs.shape[0], plan.tokens) == 1
    if once and not plan.streams(layer):
        return Layer(*(None for _ in layer))
    wide = dtypes.wide(layer.inputs.dtype)
    kinds = {"weight": layer.weight.dtype if once else wide, "bias": wide, "soft_cap": wide}
    wanted = wanted._replace(weight=wanted.weight or wanted.class_gain)
    return Layer(
        *(
            mesh.vary(jnp.zeros(a.shape, kinds[name]), layer.inputs, layer.weight)[0] if w and name in kinds else None
            for name, a, w in zip(Layer._fields, layer, wanted, strict=True)
        )
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _value_of_stream(layer, labels, ignored, found, plan):
    return _value_found(layer, labels, ignored, found, plan)


@_value_of_stream.defjvp
def _(plan, primals, tangents):
    """That of whole rows."""
    y = _value_of_stream(*primals, plan)
    whole = functools.partial(_value_whole, plan=plan, alone=False)
    return y, jax.jvp(lambda *layer: whole(*layer)[: len(y)], primals[:3], tangents[:3])[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def _pull_of_stream(g, shared, layer, labels, ignored, found, wanted, plan):
    return _pull_streamed(g, shared, layer, labels, ignored, found, wanted, plan)


@_pull_of_stream.defjvp
def _(wanted, plan, primals, tangents):
    whole = functools.partial(_pull_whole, wanted=wanted, plan=plan)
    bars = _pull_of_stream(*primals, wanted, plan)
    _, moved = jax.jvp(whole, primals[:5], tangents[:5])
    return bars, jax.tree.map(lambda t, b: t.astype(b.dtype), moved, bars)


# rules -------------------------------------------------------------------------------------------------------------


def _losses_primal(layer, labels, ignored, plan):
    return _value(layer, labels, ignored, plan)[0]


def _losses_fwd(wanted, layer, labels, ignored, plan):
    y, found = _value(layer, labels, ignored, plan)
    return y, (layer, labels, ignored, found, _marks(wanted[0]))


def _losses_bwd(plan, residuals, g):
    layer, labels, ignored, found, marks = residuals
    loss_bar, *measures_bar = (None if isinstance(a, SymbolicZero) else a for a in g[:3])
    zero = jnp.zeros(labels.shape, dtypes.wide(layer.inputs.dtype))
    given = [a for a in measures_bar if a is not None]
    g, unit = _in_range(layer, *(zero if a is None else a for a in (loss_bar, *(measures_bar if given else ()))))
    return _finished(_pull(g, layer, labels, ignored, found, _wanted(marks), plan), layer, unit), None, None


_ruled_losses = with_vjp(_losses_primal, _losses_fwd, _losses_bwd, static=(3,), told=True)


def losses_of(layer, labels, ignored, plan):
    """[N, 1], of aligned operands, for operators made of linear layers."""
    return _ruled_losses(layer, labels, ignored, plan)[0]


def _total_primal(layer, w, labels, ignored, plan):
    return weighted_sum(_value(layer, labels, ignored, plan)[0][0], w)


def _total_fwd(wanted, layer, w, labels, ignored, plan):
    """The cotangent of each loss is its weight times one number that comes later."""
    (g,), unit = _in_range(layer, w)

    def of_block(shared, layer, labels, ignored, g):
        (losses,) = _value_whole(layer, labels, ignored, plan, alone=False)
        shared, own = _pull_whole((g,), shared, layer, labels, ignored, wanted[0], plan)
        return shared, (losses, own)

    start = _nothing(layer, wanted[0], plan)
    shared, (losses, own) = _over_tokens(bl.again(of_block), start, layer, labels, ignored, plan, g)
    return weighted_sum(losses, w), (layer, w, losses, _joined(shared, own, layer, wanted[0], plan), unit)


def _total_bwd(plan, residuals, g):
    layer, w, losses, bars, unit = residuals
    g = jnp.zeros((), w.dtype) if isinstance(g, SymbolicZero) else g
    bars = _finished(bars, layer, g if unit is None else g * unit)
    return bars, g * jnp.where((w != 0) | jnp.isfinite(losses), losses, 0), None, None


_ruled_total = with_vjp(_total_primal, _total_fwd, _total_bwd, static=(4,), told=True)


def _marks(wanted):
    """Booleans as a tree without leaves, for a rule hands on arrays only."""
    return Layer(*(() if w else None for w in wanted))


def _wanted(marks):
    return Layer(*(m is not None for m in marks))


def _in_range(layer, *g):
    """(Cotangents in units of a power of two, that unit): float16 would lose those of a mean over many tokens."""
    if layer.inputs.dtype != jnp.float16:
        return g, None
    largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(a), initial=0) for a in g))
    usable = (largest > 0) & jnp.isfinite(largest)
    unit = lax.stop_gradient(jnp.ldexp(jnp.ones_like(largest), jnp.frexp(jnp.where(usable, largest, 1))[1]))
    return tuple(a / unit for a in g), unit


def _finished(bars, layer, unit):
    """In the shapes and dtypes of the layer, `unit` times as large."""

    def finished(bar, a):
        bar = bar if unit is None else unit * bar
        return ax.sum_to(bar, a.shape).astype(a.dtype)

    return Layer(*(b if b is None else finished(b, a) for b, a in zip(bars, layer, strict=True)))
