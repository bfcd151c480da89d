"""Margin softmaxes: cross-entropies of cosines, in which the label has to win by an angle.

    cos θ_j  =  ⟨w_j, x⟩ / (|w_j| |x|)          z_j  =  n_j cos θ_j + b_j          n_j  =  1, |x| or |w_j| |x|

    ψ(θ)  =  cos(m₁ θ + m₂) − m₃                z_y  →  n_y (λ cos θ_y + ψ(θ_y)) / (1 + λ) + b_y                 (1)

    ℓ  =  −log softmax(s z)_y                   shift  =  what is added to z_y:  n_y (ψ(θ_y) − cos θ_y) / (1 + λ)  (2)

The cosines are products of a linear layer with a gain for each row and each class, and all of the margin is (2), one
number an example, of the angle between x and its own class. So the loss and its rule are those of the linear layer,
over blocks of classes, and what is here is the shift. dψ/d cos θ is infinite where θ is 0 or π; dψ/dθ is not, and
dθ/dx is 1/|x|.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from jsoftmax._core import accurate, check, dtypes, mesh
from jsoftmax._core import axes as ax
from jsoftmax._core import blocks as bl
from jsoftmax._core.candidates import Candidates
from jsoftmax._core.labels import as_int32, is_class, is_ignored
from jsoftmax._core.rule import with_vjp
from jsoftmax._ops.linear import Plan, reduced
from jsoftmax._partition import angles, chosen
from jsoftmax._partition import layer as layers
from jsoftmax._partition.layer import Form, Layer

EXTENSIONS = ("linear", "cosine", "clip", "staircase", "easy")
OF_THREE = ("combined_margin_loss", "margin_logits")  # numbers m1, m2, m3; others have one margin
COMBINED = ("cosine", "clip", "staircase")
CUT = 1024, 2**12  # a block of cosines is there several times: of 10⁶ classes 3 % of what all would take
GRADIENTS = ("exact", "straight_through")


class Margin(NamedTuple):
    """Of (1); one number, or one an example."""

    m1: Any
    m2: Any
    m3: Any
    annealing: Any  # λ, or None for 0


class Kind(NamedTuple):
    """What is known without a number."""

    of_inputs: bool  # products are divided by |x|
    of_prototypes: bool  # and by |w|
    extension: str | None  # ψ behind π; None where the shift is −m₃ whatever the angle is
    exact: bool = True  # the shift has a gradient


COSINES = Kind(True, True, None)


class Rows(NamedTuple):
    """One number, or one an example."""

    scale: Any
    smoothing: Any
    margin: Any


class Given(NamedTuple):
    """Arrays; None for what is not given."""

    embeddings: Any  # [..., D]
    prototypes: Any  # [C, D] or [C, K, D]
    labels: Any
    bias: Any
    rows: Rows
    ignore_label: Any
    weights: Any
    ids: Any  # of candidates, [S]


def arcface_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    margin: ArrayLike = 0.5,
    extension: str = "linear",
    gradient: str = "exact",
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """ArcFace, the cross-entropy of `s cos θ_j` where the label has `s cos(θ_y + m)` instead, in nats.

    θ_j is the angle between an embedding and the prototype of class j. Neither the cosines nor the logits are ever all
    there at once, and the derivative is that of the loss also at θ = 0 and π.

    Args:
      embeddings: real, [..., D]; their lengths do not matter. One of length 0 has cosine 0 with every class, and
        gradient 0; so has one whose length, or the inverse of it, is below the smallest normal number.
      prototypes: real, [C, D], one vector a class, or [C, K, D], K centers a class of which the nearest counts
        (sub-center ArcFace). Lengths do not matter, as above.
      labels: integers [...] of any width. One outside [0, C) makes its row NaN.
      scale: s > 0, inverse temperature; a scalar, or an array that broadcasts to the labels.
      margin: m in radians; a scalar, or an array that broadcasts to the labels: `margins[labels]` for one of each
        class.
      extension: what the label has where θ + m > π and the cosine would rise again. "linear": s (cos θ − m sin m), as
        in the paper's code, which falls all the way and has a step at θ = π − m; "clip": −s, without gradient;
        "cosine": s cos(θ + m) as it is, insightface's; "staircase": −s (2 + cos(θ + m)), SphereFace's, which falls all
        the way without a step; "easy": no margin where cos θ ≤ 0 ("easy margin").
      gradient: "exact"; or "straight_through", which takes the margin for a constant, as insightface does: no
        derivative of the loss, and none in `margin`.
      candidates: classes that stand for all, as in partial FC: the softmax is over them alone, without correction.
        Their ids are to be distinct and to hold every label, as those of `uniform_sampler(…, include=labels)`; an
        example whose label is none of them is NaN. With `axis_name` they are indices of the classes of each device.
      label_smoothing: ε in [0, 1]: the label keeps 1 − ε and all classes share ε evenly. A scalar, or an array that
        broadcasts to the labels.
      ignore_label: integer above −2³¹, may be traced. An example with this label has loss 0 and gradient 0, whatever it
        holds.
      weights: real or boolean, broadcasts to the labels: factor of each loss in the sum and the mean.
      reduction: "none": one loss an example; "sum": Σ w l; "mean": Σ w l / Σ w, 0 if there is nothing to count. With
        the sums value and gradient together make each block of cosines once, with "none" twice.
      block_size: examples of a block, or (examples, classes), as in `linear_softmax_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis, or a tuple of them, along which devices have the classes between
        them: `prototypes` are those of one device, and all else is the same on every one. A label is an index over the
        classes of all, device after device. One number an example travels for the margin.

    Returns:
      losses in the shape of the labels, or a scalar; float32 or wider. Cosines are float32 or wider whatever the
      embeddings are.

    Raises:
      TypeError: an array is boolean, complex or a list; `labels` or `ignore_label` is not integer; `candidates` are
        none.
      ValueError: shapes that do not fit; a number `scale` ≤ 0; `extension`, `gradient` or `reduction` is none of those;
        `weights` without a `reduction`; a `block_size` below 1.

    Derivatives: in `embeddings`, `prototypes`, `scale`, `margin` and the options, to any order; forward mode inside
    `forward_mode()`. In embeddings they are never above s (2 + m₁)/|x|; at θ = 0 and π, where the direction of the
    margin's slope is lost, it is left out. Saves `embeddings`, `prototypes`, `labels`, the prototypes of the labels and
    a few numbers an example and a class; with a `reduction` and no blocks of classes the gradients instead.

    References: Deng et al. (2019), arXiv:1801.07698 (ArcFace); Deng et al. (2020), doi:10.1007/978-3-030-58621-8_43
    (sub-centers); An et al. (2022), arXiv:2203.15565 (partial FC).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.arcface_loss(x, w, jnp.array([0])).round(4)
      Array([0.0004], dtype=float32)
    """
    return _checked(
        "arcface_loss",
        (embeddings, prototypes, labels, None, candidates),
        (scale, 1.0, margin, 0.0, check.NO_PENALTY),
        (True, True, extension, gradient, EXTENSIONS),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def cosface_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    margin: ArrayLike = 0.35,
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """CosFace, the cross-entropy of `s cos θ_j` where the label has `s (cos θ_y − m)` instead, in nats.

    Args:
      margin: m, of the cosine; a scalar, or an array that broadcasts to the labels.
      embeddings, prototypes, labels, scale, candidates: as for `arcface_loss`.
      label_smoothing, ignore_label, weights, reduction, block_size, axis_name: as for `arcface_loss`.

    Returns:
      as `arcface_loss`.

    Raises: as `arcface_loss`.

    Derivatives: as `arcface_loss`; the margin does not depend on the angle, and no prototype is looked up.
    Saves `embeddings`, `prototypes`, `labels` and a few numbers an example and a class, or the gradients, as there.

    References: Wang et al. (2018), arXiv:1801.09414, whose m = 0.35 is the default; insightface's is 0.4. A probability
    of P at the prototypes needs s ≥ (C − 1)/C log((C − 1) P / (1 − P)).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.cosface_loss(x, w, jnp.array([0])).round(4)
      Array([0.002], dtype=float32)
    """
    return _checked(
        "cosface_loss",
        (embeddings, prototypes, labels, None, candidates),
        (scale, 1.0, 0.0, margin, check.NO_PENALTY),
        (True, True, None, "exact", (None,)),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def am_softmax_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 30.0,
    margin: ArrayLike = 0.35,
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Additive margin softmax: the formula of `cosface_loss` with the defaults of its own paper, s = 30 and m = 0.35.

    Args:
      embeddings, prototypes, labels, scale, margin, candidates: as for `cosface_loss`.
      label_smoothing, ignore_label, weights, reduction, block_size, axis_name: as for `arcface_loss`.

    Returns:
      as `arcface_loss`.

    Raises: as `arcface_loss`.

    Derivatives: as `cosface_loss`.
    Saves `embeddings`, `prototypes`, `labels` and a few numbers an example and a class, or the gradients, as there.

    References: Wang et al. (2018), arXiv:1801.05599.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.am_softmax_loss(x, w, jnp.array([0])).round(4)
      Array([0.0527], dtype=float32)
    """
    return _checked(
        "am_softmax_loss",
        (embeddings, prototypes, labels, None, candidates),
        (scale, 1.0, 0.0, margin, check.NO_PENALTY),
        (True, True, None, "exact", (None,)),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def sphereface_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    margin: int = 4,
    annealing: ArrayLike = check.NO_PENALTY,
    gradient: str = "exact",
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """SphereFace, the cross-entropy of `s |x| cos θ_j` where the label has `s |x| ψ(θ_y)` instead, in nats.

    ψ(θ) = (−1)ᵏ cos(m θ) − 2k for θ between kπ/m and (k + 1)π/m, which falls all the way from 1 to 1 − 2m.

    Args:
      scale: s > 0; embeddings keep their lengths, and 1 is the paper's.
      margin: m ≥ 1, an integer.
      annealing: λ ≥ 0, may be traced: the label has (λ cos θ_y + ψ(θ_y)) / (1 + λ). `margin_annealing` gives it for
        each step; 0 is all of the margin.
      gradient: "exact" or "straight_through", as for `arcface_loss`.
      embeddings, prototypes, labels, candidates: as for `arcface_loss`, but that lengths of embeddings matter.
      label_smoothing, ignore_label, weights, reduction, block_size, axis_name: as for `arcface_loss`.

    Returns:
      as `arcface_loss`.

    Raises: as `arcface_loss`; TypeError: `margin` is no integer. ValueError: `margin` below 1.

    Derivatives: as `arcface_loss`, and in `annealing`. Those of the paper's code are scaled to another length.
    Saves `embeddings`, `prototypes`, `labels`, the prototypes of the labels and a few numbers, as `arcface_loss`.

    References: Liu et al. (2017), arXiv:1704.08063 (A-Softmax).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.sphereface_loss(x, w, jnp.array([0]), annealing=5.0).round(4)
      Array([0.4689], dtype=float32)
    """
    name = "sphereface_loss"
    return _checked(
        name,
        (embeddings, prototypes, labels, None, candidates),
        (scale, float(check.multiple(name, margin)), 0.0, 0.0, annealing),
        (False, True, "staircase", gradient, EXTENSIONS),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def large_margin_softmax_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    scale: ArrayLike = 1.0,
    margin: int = 4,
    annealing: ArrayLike = check.NO_PENALTY,
    gradient: str = "exact",
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """L-Softmax, the cross-entropy of a linear layer where the label has `|w_y| |x| ψ(θ_y)` for ⟨w_y, x⟩, in nats.

    Args:
      bias: b, [C], added to the logits; with centers there is none.
      scale: s > 0, factor of all logits.
      margin, annealing: as for `sphereface_loss`. Liu et al. anneal λ from 1000 towards 0.
      gradient: "exact" or "straight_through", as for `arcface_loss`.
      embeddings, prototypes, labels, candidates: as for `arcface_loss`, but that lengths matter, of prototypes too.
      label_smoothing, ignore_label, weights, reduction, block_size, axis_name: as for `arcface_loss`.

    Returns:
      as `arcface_loss`.

    Raises: as `sphereface_loss`; ValueError: a `bias` that is not [C], or beside centers.

    Derivatives: as `sphereface_loss`, and in `bias`. Saves `embeddings`, `prototypes`, `labels`, the prototypes of the
    labels and a few numbers, as `arcface_loss`.

    References: Liu et al. (2016), arXiv:1612.02295.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.large_margin_softmax_loss(x, w, jnp.array([0]), margin=2).round(4)
      Array([0.5573], dtype=float32)
    """
    name = "large_margin_softmax_loss"
    return _checked(
        name,
        (embeddings, prototypes, labels, bias, candidates),
        (scale, float(check.multiple(name, margin)), 0.0, 0.0, annealing),
        (False, False, "staircase", gradient, EXTENSIONS),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def combined_margin_loss(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    annealing: ArrayLike = check.NO_PENALTY,
    extension: str = "cosine",
    gradient: str = "exact",
    candidates: Candidates | None = None,
    label_smoothing: ArrayLike = check.NO_PENALTY,
    ignore_label: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str = "none",
    block_size: int | tuple[int, int] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """Cross-entropy of `s cos θ_j` where the label has `s (cos(m₁ θ_y + m₂) − m₃)` instead, in nats.

    Args:
      m1, m2, m3: any real numbers; scalars, or arrays that broadcast to the labels.
      annealing: as for `sphereface_loss`.
      extension: behind m₁ θ + m₂ = π. "cosine", as it is; "clip", −s (1 + m₃); "staircase", which falls all the way
        for any m₁ > 0.
      embeddings, prototypes, labels, scale, gradient, candidates: as for `arcface_loss`.
      label_smoothing, ignore_label, weights, reduction, block_size, axis_name: as for `arcface_loss`.

    Returns:
      as `arcface_loss`.

    Raises: as `arcface_loss`.

    Derivatives: as `arcface_loss`, and in m1, m2, m3 and `annealing`. Saves `embeddings`, `prototypes`, `labels`, the
    prototypes of the labels and a few numbers, as `arcface_loss`.

    References: Deng et al. (2019), arXiv:1801.07698, equation 4.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.combined_margin_loss(x, w, jnp.array([0]), m1=1.0, m2=0.3, m3=0.2).round(4)
      Array([0.0081], dtype=float32)
    """
    return _checked(
        "combined_margin_loss",
        (embeddings, prototypes, labels, None, candidates),
        (scale, m1, m2, m3, annealing),
        (True, True, extension, gradient, COMBINED),
        (label_smoothing, ignore_label, weights, reduction, block_size, axis_name),
    )


def cosine_logits(embeddings: ArrayLike, prototypes: ArrayLike) -> Array:
    """Cosines of embeddings and prototypes: what the margin softmaxes are of, before scale and margin.

    Args:
      embeddings: real, [..., D]. One of length 0 has cosine 0 with everything.
      prototypes: real, [C, D], or [C, K, D] for K centers a class of which the nearest counts.

    Returns:
      [..., C], float32 or wider; a rounding may bring one above 1.

    Raises:
      TypeError: an array is boolean, complex or a list. ValueError: shapes that do not fit.

    Derivatives: in both, to any order, never above 1/|x| and 1/|w|; forward mode inside `forward_mode()`.
    Saves `embeddings`, `prototypes` and their inverse lengths.

    References: Wang et al. (2017), arXiv:1704.06369 (NormFace).

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> jsoftmax.cosine_logits(jnp.array([3.0, 4.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]]))
      Array([0.6, 0.8], dtype=float32)
    """
    name = "cosine_logits"
    embeddings, prototypes = check.prototypes(name, embeddings, prototypes)
    given = Given(embeddings, prototypes, None, None, Rows(None, None, None), None, None, None)
    return _logits(given, COSINES, plan_of(prototypes))


def margin_logits(
    embeddings: ArrayLike,
    prototypes: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    annealing: ArrayLike = check.NO_PENALTY,
    extension: str = "cosine",
) -> Array:
    """Logits that `combined_margin_loss` is the cross-entropy of, all of them, to look at.

    Args:
      embeddings, prototypes, labels, scale, m1, m2, m3, annealing: as for `combined_margin_loss`. A label that is no
        class has no margin.
      extension: one of those of `arcface_loss`.

    Returns:
      [..., C], float32 or wider.

    Raises: as `combined_margin_loss`.

    Derivatives: as `cosine_logits`, and in `scale`, m1, m2, m3 and `annealing`. Saves `embeddings`, `prototypes`, their
    inverse lengths, the prototypes of the labels and the cosines.

    References: as for `combined_margin_loss`.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> x, w = jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> jsoftmax.margin_logits(x, w, jnp.array([0])).astype(int)
      Array([[ 36,  28, -57]], dtype=int32)
    """
    name = "margin_logits"
    embeddings, prototypes = check.prototypes(name, embeddings, prototypes)
    shape, dtype = embeddings.shape[:-1], jnp.result_type(embeddings.dtype, prototypes.dtype)
    labels = check.integer_labels(name, labels, shape)
    rows = _rows(name, (scale, m1, m2, m3, annealing), check.NO_PENALTY, dtype, shape)
    kind = Kind(True, True, check.choice(name, "extension", extension, EXTENSIONS))
    given = Given(embeddings, prototypes, labels, None, rows, None, None, None)
    return _logits(given, kind, plan_of(prototypes))


def margin_annealing(
    base: float = 1000.0, gamma: float = 0.12, power: float = 1.0, minimum: float = 5.0
) -> Callable[[ArrayLike], Array]:
    """Schedule of λ for the `annealing` of a margin: `max(minimum, base (1 + gamma step)^−power)`.

    Args:
      base, gamma, power, minimum: as in the papers' code. The defaults are SphereFace's; L-Softmax takes
        (1000, 2.5e-5, 35, 0) for MNIST and (1000, 1e-5, 45, 0) for CIFAR-10.

    Returns:
      function of the step, as optax's schedules are: a number or an array, traced or not, gives float32 or wider.

    References: Liu et al. (2016), arXiv:1612.02295; Liu et al. (2017), arXiv:1704.08063.

    Examples:
      >>> import jsoftmax
      >>> jsoftmax.margin_annealing()(100)
      Array(76.92308, dtype=float32)
    """

    def schedule(step: ArrayLike) -> Array:
        step = jnp.asarray(step)
        step = step.astype(dtypes.wide(dtypes.of_logits(step.dtype)))
        return jnp.maximum(base * accurate.exp(-power * accurate.log1p(gamma * step)), minimum)

    return schedule


def _checked(name: str, arrays: Any, numbers: Any, kind: Any, options: Any) -> Array:
    """Checks in the name of the operator `name`."""
    embeddings, prototypes, labels, bias, candidates = arrays
    smoothing, ignore_label, weights, reduction, block_size, axis_name = options
    embeddings, prototypes = check.prototypes(name, embeddings, prototypes)
    shape, dtype = embeddings.shape[:-1], jnp.result_type(embeddings.dtype, prototypes.dtype)
    labels = check.integer_labels(name, labels, shape)
    bias = check.bias_of_prototypes(name, bias, dtype, prototypes)
    rows = _rows(name, numbers, smoothing, dtype, shape)
    ignored, ids = check.ignore_label(name, ignore_label), check.candidate_ids(name, candidates)
    weights = check.loss_weights(name, weights, shape, "the shape of the labels")
    check.reduction(name, reduction, weights)
    of_inputs, of_prototypes, extension, gradient, extensions = kind
    check.choice(name, "extension", extension, extensions)
    exact = check.choice(name, "gradient", gradient, GRADIENTS) == "exact"
    sizes = bl.sizes(prototypes.shape[0] if ids is None else ids.shape[0], check.block_size(name, block_size), CUT)
    shared = {"embeddings": embeddings, "labels": labels, "weights": weights, "ignore_label": ignored}
    shared |= {"scale": rows.scale, "label_smoothing": rows.smoothing} | rows.margin._asdict()
    plan = plan_of(prototypes, *sizes, check.axis_names(name, axis_name, **shared))
    given = Given(embeddings, prototypes, labels, bias, rows, ignored, weights, ids)
    return reduced_losses(given, Kind(of_inputs, of_prototypes, extension, exact), reduction, plan)


def _rows(name: str, numbers: Any, smoothing: Any, dtype: Any, shape: tuple[int, ...]) -> Rows:
    scale, *margins, annealing = numbers
    called = ("m1", "m2", "m3") if name in OF_THREE else ("margin",) * 3
    m1, m2, m3 = (check.row_number(name, k, m, dtype, shape) for k, m in zip(called, margins, strict=True))
    margin = Margin(m1, m2, m3, check.row_option(name, "annealing", annealing, dtype, shape))
    smoothing = check.label_smoothing(name, smoothing, dtype, shape)
    return Rows(check.scale(name, scale, dtype, shape), smoothing, margin)


def plan_of(prototypes: Any, tokens: int = 1, classes: int = 1, names: tuple[str, ...] = ()) -> Plan:
    """Blocks of the linear layer; products of float32 are to keep the digits of a cosine times 64."""
    centers = prototypes.shape[1] if prototypes.ndim == 3 else 1
    return Plan(Form(0, centers, precise=True), tokens, classes, False, names)


# embeddings and prototypes -----------------------------------------------------------------------------------------


def _scaled_primal(x):
    """(x times a power of two that brings it near 1, the inverse of its length then [N, 1])."""
    y = x * angles.inverse_unit(x)
    return y, angles.inverse(angles.length(y))


def _scaled_fwd(x):
    return _scaled_primal(x), x


def _scaled_bwd(x, g):
    """An example on which nothing depends may hold anything."""
    kept = jnp.any(g[0] != 0, 1, keepdims=True) | (g[1] != 0)
    return (jnp.where(kept, jax.vjp(_scaled_primal, jnp.where(kept, x, 0))[1](g)[0], 0),)


_scaled = with_vjp(_scaled_primal, _scaled_fwd, _scaled_bwd, static=())


def _seen_primal(w, classes, centers, gains):
    """(w [C K, D], inverse lengths [1, C K], those of some classes [N]: [N, K, D]); None for what is not wanted."""
    a = angles.inverse_lengths(w).reshape(1, w.shape[0]) if gains else None
    return w, a, classes if classes is None else chosen.look_up(w, _rows_of(classes, centers))


def _seen_fwd(w, classes, centers, gains):
    y = _seen_primal(w, classes, centers, gains)
    return y, (w, classes, y[1])


def _seen_bwd(centers, gains, residuals, g):
    """In one array of the size of the prototypes: what was looked up is added in place."""
    (w, classes, a), (w_bar, a_bar, own_bar) = residuals, g
    total = w_bar.astype(dtypes.wide(w.dtype))
    if gains:
        total = angles.pull_inverse_lengths(total, w, a.reshape(-1, 1), a_bar.reshape(-1, 1))
    if classes is not None:
        total = total.at[_rows_of(classes, centers)].add(own_bar.astype(total.dtype), mode="drop")
    return total.astype(w.dtype), None


_seen = with_vjp(_seen_primal, _seen_fwd, _seen_bwd, static=(2, 3))


def _rows_of(classes, centers):
    """[N, K]; behind the last where there is no such class."""
    return classes[:, None] * centers + jnp.arange(centers, dtype=jnp.int32)[None]


# the shift ---------------------------------------------------------------------------------------------------------


def _psi(theta, margin, extension):
    """ψ + m₃, and what it is where m₁ θ + m₂ > π."""
    alpha = margin.m1 * theta + margin.m2
    beyond = alpha > jnp.pi
    if extension == "linear":
        return jnp.where(beyond, jnp.cos(theta) - margin.m2 * jnp.sin(margin.m2), jnp.cos(alpha))
    if extension == "clip":
        return jnp.cos(jnp.where(beyond, jnp.pi, alpha))
    if extension == "easy":
        return jnp.cos(jnp.where(theta < jnp.pi / 2, alpha, theta))
    if extension == "staircase":
        k = lax.stop_gradient(jnp.floor(alpha / jnp.pi))
        return (1 - 2 * jnp.mod(k, 2)) * jnp.cos(alpha) - 2 * k
    return jnp.cos(alpha)


def _nearest(x, w):
    """Of centers w [N, K, D] the one nearest to x [N, D]."""
    if w.shape[1] == 1:
        return w[:, 0]
    near = jnp.argmin(angles.angle(lax.stop_gradient(x)[:, None], lax.stop_gradient(w)), 1)
    return jnp.take_along_axis(w, near[..., None], 1)[:, 0]


def _shift_primal(x, w, margin, kind):
    """(2) of x [N, D] and the centers of its class [N, K, D]: [N, 1]."""
    w = _nearest(x, w)
    theta = angles.angle(x, w)
    shift = _psi(theta, margin, kind.extension) - jnp.cos(theta) - margin.m3  # exactly 0 without a margin
    shift = shift if kind.of_inputs else shift * angles.length(x)
    shift = shift if kind.of_prototypes else shift * angles.length(w)
    return shift if margin.annealing is None else shift / (1 + margin.annealing)


def _shift_fwd(x, w, margin, kind):
    return _shift_primal(x, w, margin, kind), (x, w, margin)


def _shift_bwd(kind, residuals, g):
    x, w, margin = residuals
    kept = g != 0
    x, w = jnp.where(kept, x, 0), jnp.where(kept[..., None], w, 0)
    return jax.vjp(functools.partial(_shift_primal, kind=kind), x, w, margin)[1](g)


_shift = with_vjp(_shift_primal, _shift_fwd, _shift_bwd, static=(3,))


def _shift_of(x, own, labels, ignored, margin, kind, plan, classes):
    """The shift of every example; one of another device's class comes from there."""
    if kind.extension is None:
        return -margin.m3
    mine = is_class(labels, classes) if ignored is None else is_class(labels, classes) & ~ignored
    x, own = jnp.where(mine, x, 0), jnp.where(mine[..., None], own, 0)
    leaves, tree = jax.tree.flatten((x, own, margin))
    x, own, margin = jax.tree.unflatten(tree, mesh.vary(*leaves))
    shift = jnp.where(mine, _shift(x, own, margin, kind), 0)
    shift = lax.psum(shift, plan.names) if plan.names else shift
    return shift if kind.exact else lax.stop_gradient(shift)


# losses ------------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def reduced_losses(given, kind, reduction, plan):
    rows = PartitionSpec(*jax.typeof(given.embeddings).sharding.spec[: given.labels.ndim])
    run = functools.partial(_unplaced, kind=kind, reduction=reduction, plan=plan)
    return mesh.automatic(run, rows if reduction == "none" else PartitionSpec(), given)


def _unplaced(given, kind, reduction, plan):
    x, w, bias, labels, rows = _aligned(given, plan)
    ignored = is_ignored(labels, given.ignore_label)
    if given.ids is not None:
        w, bias, labels = _among(w, bias, labels, given.ids, plan)
    layer = _layer(x, w, bias, labels, ignored, rows, kind, plan)
    return reduced(layer, labels, ignored, given.weights, given.labels.shape, reduction, plan)


def _aligned(given, plan):
    """(x [N, D], w [C K, D], bias [1, C], labels [N, 1], what else examples have), of one dtype and varying alike."""
    shape, n, width = given.labels.shape, given.labels.size, given.embeddings.shape[-1]
    dtype = dtypes.of_logits(jnp.result_type(given.embeddings.dtype, given.prototypes.dtype))
    x, w = given.embeddings.astype(dtype).reshape(n, width), given.prototypes.astype(dtype).reshape(-1, width)
    bias = given.bias if given.bias is None else given.bias.reshape(1, -1)
    labels = as_int32(given.labels).reshape(n, 1)
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda a: ax.one_a_row(a, shape), given.rows))
    w, bias, x, labels, *leaves = mesh.level((w, bias), (x, labels, *leaves), plan.names)
    return x, w, bias, labels, jax.tree.unflatten(tree, leaves)


def _among(w, bias, labels, ids, plan):
    """(w, bias, labels) where there are no classes but the candidates; −1 for a label that is none of them."""
    centers, ids = plan.form.centers, as_int32(ids)
    classes, count = w.shape[0] // centers, ids.shape[0]
    device = lax.axis_index(plan.names) if plan.names else 0
    here = labels - device * classes
    order = jnp.argsort(ids)
    at = jnp.minimum(jnp.searchsorted(ids[order], here), count - 1)
    place = jnp.where(
        is_class(here, classes) & (ids[order][at] == here), device * count + order[at].astype(jnp.int32), -1
    )
    place = lax.pmax(place, plan.names) if plan.names else place
    ids = chosen.valid(ids, classes)
    bias = bias if bias is None else chosen.look_up(bias, ids, 1).T
    return chosen.look_up(w, _rows_of(ids, centers)).reshape(-1, w.shape[1]), bias, place


def _layer(x, w, bias, labels, ignored, rows, kind, plan):
    """The linear layer whose logits these are, with their shift."""
    centers, row_gain, y = plan.form.centers, None, x
    classes = w.shape[0] // centers
    here = labels - (lax.axis_index(plan.names) * classes if plan.names else 0)
    at = None if kind.extension is None else chosen.valid(here[:, 0], classes)
    w, class_gain, own = _seen(w, at, centers, kind.of_prototypes)
    shift = None
    if rows.margin is not None:
        shift = _shift_of(x, own, here, ignored, rows.margin, kind, plan, classes)
    if kind.of_inputs:
        y, row_gain = _scaled(x)
    return Layer(y, w, bias, None, rows.scale, rows.smoothing, None, row_gain, class_gain, shift)


# logits ------------------------------------------------------------------------------------------------------------


def _cosines_primal(layer, form):
    return layers.logits(layer, form)[1]


def _cosines_fwd(layer, form):
    return _cosines_primal(layer, form), layer


def _cosines_bwd(form, layer, g):
    raw, _ = layers.logits(layer, form)
    kept, wanted = jnp.any(g != 0, 1, keepdims=True), Layer(*(a is not None for a in layer))
    shared, own = layers.pull(Layer(*(None for _ in layer)), g, raw, layer, kept, wanted, form)
    bars = Layer(*(b if a is None else a for a, b in zip(shared, own, strict=True)))
    bars = layers.gained(bars, layer, wanted, form)
    return (Layer(*(b if b is None else b.astype(a.dtype) for b, a in zip(bars, layer, strict=True))),)


_cosines = with_vjp(_cosines_primal, _cosines_fwd, _cosines_bwd, static=(1,))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _logits(given, kind, plan):
    """Cosines; with labels the logits of their loss."""
    rows = given.embeddings.shape[:-1]
    spec = PartitionSpec(*jax.typeof(given.embeddings).sharding.spec[: len(rows)])
    return mesh.automatic(functools.partial(_unplaced_logits, kind=kind, plan=plan), spec, given)


def _unplaced_logits(given, kind, plan):
    rows = given.embeddings.shape[:-1]
    of_label = given.labels is not None
    given = given if of_label else given._replace(labels=jnp.zeros(rows, jnp.int32))
    x, w, _, labels, of_rows = _aligned(given, plan)
    layer = _layer(x, w, None, labels, None, of_rows, kind, plan)
    z = _cosines(layer._replace(beta=None, shift=None), plan.form)
    if of_label:
        z = of_rows.scale * layers.shifted(z, layer, labels, ax.class_index(z.shape, (1,)))
    return z.reshape(*rows, z.shape[1])
