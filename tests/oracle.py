"""What every operator has to give: its definition and its derivatives in 60-digit arithmetic.

A row is a list of mpf. Each operator is a function of rows, written from its formula and lifted over axes with NumPy:

    p_i = exp(β x_i) / Σ_j exp(β x_j) over the live classes (where=True and x ≠ −inf)

    NAME(…)           value: float64, each element rounded once
    NAME_vjp(g, …)    cotangents of the arguments for the cotangent `g` of the value: a dict of float64 arrays
    NAME.exact(…)     the same as objects of mpmath, at the ambient precision; the inputs may be such objects too.
                      With `g` it gives the cotangents
    hvp(NAME, …)      derivative of the cotangents along a direction
    ulp_error(…)      errors in units in the last place

Only exact identities are used. Differences are taken about a likeliest class r, so that neither 1 − p_r nor x_i − E[x]
is formed from nearly equal numbers: a confident row is right to as many digits as any other.
"""

import functools
import inspect
import itertools
import math
from typing import NamedTuple

import numpy as np
from mpmath import mp, mpf

DIGITS = 60
NAN, INF, ZERO, ONE = mpf("nan"), mpf("inf"), mpf(0), mpf(1)


def _fill(values, shape):
    out = np.empty(math.prod(shape), object)
    out[:] = values
    return out.reshape(shape)


def to_mpf(a):
    """Object array that holds each element exactly."""
    a = np.asarray(a)
    if a.dtype == object:
        return a
    a = a if a.dtype.kind in "iub" else a.astype(np.float64)
    return _fill([mpf(v) for v in a.ravel().tolist()], a.shape)


def rounded(a):
    """Objects of mpmath, in an array, tuple or dict, as float64."""
    if isinstance(a, tuple):
        return tuple(rounded(part) for part in a)
    if isinstance(a, dict):
        return {name: rounded(part) for name, part in a.items()}
    return np.array([float(v) for v in np.ravel(a)], np.float64).reshape(np.shape(a))


def _rounds(exact):
    @functools.wraps(exact)
    def operator(*args, **kwargs):
        with mp.workdps(DIGITS):
            return rounded(exact(*args, **kwargs))

    operator.exact = exact
    return operator


class Grid(NamedTuple):
    """A shape split into batch and class axes; the class axes stay in the order in which they were given."""

    shape: tuple
    axes: tuple
    batch: tuple
    classes: tuple
    kept: tuple  # `shape` with 1 in place of each class axis

    def rows(self, a):
        a = np.moveaxis(np.broadcast_to(a, self.shape), self.axes, range(len(self.batch), len(self.shape)))
        return a.reshape(math.prod(self.batch), math.prod(self.classes)).tolist()

    def array(self, rows):
        a = _fill([v for row in rows for v in row], self.batch + self.classes)
        return np.moveaxis(a, range(len(self.batch), len(self.shape)), self.axes)


def _grid(shape, axis):
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(int(a) % len(shape) for a in axes)
    batch = tuple(n for a, n in enumerate(shape) if a not in axes)
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    return Grid(tuple(shape), axes, batch, tuple(shape[a] for a in axes), kept)


def _numbers(a, shape):
    return np.broadcast_to(to_mpf(a), shape).ravel().tolist()


def _pull_back(values, shape, like):
    """The cotangent of a broadcast copy, summed over the copies to the shape of `like`."""
    target = np.shape(like)
    padded = (1,) * (len(shape) - len(target)) + target
    copied = tuple(i for i, (n, m) in enumerate(zip(shape, padded, strict=True)) if m == 1 and n != 1)
    summed = np.sum(_fill(values, shape), axis=copied, keepdims=True, initial=ZERO)
    return np.asarray(summed, object).reshape(target)


def _spread(n, live, value, rest=ZERO):
    row = [rest] * n
    for i in live:
        row[i] = value(i)
    return row


def _column(rows, i):
    return [row[i] for row in rows]


# ---------------------------------------------------------------------------------------------- the law p of one row


class Law(NamedTuple):
    live: list  # indices of the live classes; of a poisoned row those of all that are not masked
    peak: int | None  # a likeliest class
    poisoned: bool  # a NaN or +inf that is not masked, or β is NaN: NaN on every class that is not masked
    frozen: bool  # β = ±inf: every derivative is 0
    gain: mpf  # β, or 0 if frozen
    p: list
    q: list  # 1 − p
    log_p: list
    dev: list  # x − E[x], the derivative of log p in β


def _shifted(x, live, beta):
    """(A likeliest class r, β(x_i − x_r) for each live i, Σ_{i≠r} exp β(x_i − x_r))."""
    peak = max(live, key=lambda i: beta * x[i])
    t = {i: beta * (x[i] - x[peak]) for i in live}
    return peak, t, mp.fsum(mp.exp(t[i]) for i in live if i != peak)


def _deviation(v, p, live, peak):
    """v_i − E_p[v] on the live classes; NaN there if the row is poisoned (p is NaN)."""
    mean = mp.fdot((p[j], v[j] - v[peak]) for j in live)
    return _spread(len(v), live, lambda i: v[i] - v[peak] - mean)


def _law(x, where, beta):
    n, shown = len(x), [i for i in range(len(x)) if where[i]]
    poisoned = mp.isnan(beta) or any(mp.isnan(x[i]) or x[i] == INF for i in shown)
    live = shown if poisoned else [i for i in shown if x[i] != -INF]
    frozen = mp.isinf(beta)
    gain = ZERO if frozen else beta
    if poisoned or not live:
        nan = _spread(n, live, lambda i: NAN)
        return Law(live, 0, poisoned, frozen, gain, nan, nan, _spread(n, live, lambda i: NAN, -INF), nan)
    if frozen:
        end = (max if beta > 0 else min)(x[i] for i in live)
        top = [i for i in live if x[i] == end]
        p, log_p = _spread(n, top, lambda i: ONE / len(top)), _spread(n, top, lambda i: -mp.log(len(top)), -INF)
        return Law(live, top[0], False, True, gain, p, [1 - v for v in p], log_p, [ZERO] * n)
    peak, t, excess = _shifted(x, live, beta)
    p = _spread(n, live, lambda i: mp.exp(t[i]) / (1 + excess))
    q = _spread(n, live, lambda i: excess / (1 + excess) if i == peak else 1 - p[i])
    log_p = _spread(n, live, lambda i: t[i] - mp.log1p(excess), -INF)
    return Law(live, peak, False, False, gain, p, q, log_p, _deviation(x, p, live, peak))


def _laws(grid, x, where, beta, beta_shape):
    rows = grid.rows(to_mpf(x)), grid.rows(True if where is None else where), _numbers(beta, beta_shape)
    return [_law(*row) for row in zip(*rows, strict=True)]


# ------------------------------------------------------------------------------ softmax, log_softmax, softmax_jacobian


def _softmax_row_vjp(g, law):
    """∂p_i/∂x_j = β p_i (δ_ij − p_j),  ∂p_i/∂β = p_i (x_i − E[x])."""
    dev = _deviation(g, law.p, law.live, law.peak)
    x_bar = _spread(len(g), law.live, lambda i: law.gain * law.p[i] * dev[i])
    return x_bar, mp.fsum(law.p[i] * dev[i] * law.dev[i] for i in law.live)


def _log_softmax_row_vjp(g, law):
    """∂(log p_i)/∂x_j = β (δ_ij − p_j),  ∂(log p_i)/∂β = x_i − E[x]."""
    total = mp.fsum(g[i] for i in law.live)
    x_bar = _spread(len(g), law.live, lambda i: law.gain * (law.q[i] * g[i] - law.p[i] * (total - g[i])))
    return x_bar, mp.fsum(g[i] * law.dev[i] for i in law.live)


def _jacobian_row_vjp(g, law):
    """⟨g, J⟩ = β Φ(p), Φ = Σ_i g_ii p_i − Σ_ij g_ij p_i p_j, ∂Φ/∂p_i = g_ii − Σ_j (g_ij + g_ji) p_j."""
    live, p = law.live, law.p
    slope = _spread(len(p), live, lambda i: g[i][i] - mp.fdot((g[i][j] + g[j][i], p[j]) for j in live))
    x_bar, beta_bar = _softmax_row_vjp(slope, law)
    phi = mp.fsum(g[i][j] * p[i] * (law.q[i] if i == j else -p[j]) for i in live for j in live)
    held = law.frozen and not law.poisoned
    return _spread(len(p), live, lambda i: law.gain * x_bar[i]), ZERO if held else phi + law.gain * beta_bar


def _bars(pairs, grid, beta, beta_shape):
    return {"x": grid.array(_column(pairs, 0)), "beta": _pull_back(_column(pairs, 1), beta_shape, beta)}


def _activation(value, row_vjp, x, axis, where, beta, g):
    grid = _grid(np.shape(x), axis)
    laws = _laws(grid, x, where, beta, grid.kept)
    if g is None:
        return grid.array([getattr(law, value) for law in laws])
    return _bars([*map(row_vjp, grid.rows(to_mpf(g)), laws)], grid, beta, grid.kept)


@_rounds
def softmax(x, axis=-1, where=None, *, beta=1.0, g=None):
    return _activation("p", _softmax_row_vjp, x, axis, where, beta, g)


@_rounds
def log_softmax(x, axis=-1, where=None, *, beta=1.0, g=None):
    return _activation("log_p", _log_softmax_row_vjp, x, axis, where, beta, g)


@_rounds
def softmax_jacobian(x, axis=-1, *, beta=1.0, g=None):
    """J_ij = β p_i (δ_ij − p_j), shape batch + classes + classes."""
    grid = _grid(np.shape(x), axis)
    laws, n = _laws(grid, x, None, beta, grid.batch), math.prod(grid.classes)
    if g is not None:
        g = to_mpf(g).reshape(len(laws), n, n).tolist()
        return _bars([*map(_jacobian_row_vjp, g, laws)], grid, beta, grid.batch)
    out = []
    for live, _, _, _, gain, p, q, *_ in laws:
        entry = {(i, j): gain * p[i] * (q[i] if i == j else -p[j]) for i in live for j in live}
        out += [entry.get((i, j), ZERO) for i in range(n) for j in range(n)]
    return _fill(out, grid.batch + 2 * grid.classes)


# --------------------------------------------------------------------------------------------------------- entropy


def _entropy_row(law):
    """−Σ p log p with 0 · log 0 = 0."""
    if law.poisoned:
        return NAN
    return -mp.fdot((law.p[i], law.log_p[i]) for i in law.live if law.p[i] != 0)


def _entropy_row_vjp(g, law):
    """∂H/∂x_i = −β p_i (log p_i + H) = −β² p_i (x_i − E[x]),  ∂H/∂β = −β Var[x]."""
    pulled = _spread(len(law.p), law.live, lambda i: -g * law.gain * law.p[i] * law.dev[i])
    beta_bar = mp.fsum(pulled[i] * law.dev[i] for i in law.live)
    return _spread(len(law.p), law.live, lambda i: law.gain * pulled[i]), beta_bar


@_rounds
def entropy(logits, axis=-1, *, beta=1.0, where=None, keepdims=False, g=None):
    grid = _grid(np.shape(logits), axis)
    shape = grid.kept if keepdims else grid.batch
    laws = _laws(grid, logits, where, beta, shape)
    if g is None:
        return _fill([_entropy_row(law) for law in laws], shape)
    bars = _bars([*map(_entropy_row_vjp, _numbers(g, shape), laws)], grid, beta, shape)
    return {"logits": bars["x"], "beta": bars["beta"]}


# ----------------------------------------------------------------------------------------------- logsumexp, logmeanexp


def _extreme(x, b, live, beta):
    """The likeliest classes and the total of their b; logits whose b cancel give way to the next."""
    while live:
        end = (max if beta > 0 else min)(x[i] for i in live)
        top = [i for i in live if x[i] == end]
        total = mp.fsum(b[i] for i in top)
        if total != 0:
            return top, total
        live = [i for i in live if x[i] != end]
    return [], ZERO


def _partition_row(x, where, beta, b, weighed, mean, largest):
    """β⁻¹ log Z, Z = Σ_j b_j exp(β x_j), and its derivatives in x, β and b. With `mean`, b = 1/number of live classes.

    ∂/∂x_i = w_i = b_i exp(β x_i) / Z,  ∂/∂β = β⁻² Σ_i w_i (β x_i − log Z),  ∂/∂b_i = exp(β x_i) / (β Z).
    Derivatives in β and b saturate at 2⁻³² of the dtype's largest number. No live class, or Z = 0: derivatives 0.
    """
    n = len(x)
    live = [i for i in range(n) if where[i] and x[i] != -INF and b[i] != 0]
    reach = [i for i in range(n) if where[i] and x[i] != -INF]  # an entry with b = 0 still has a slope in b
    whole = live if weighed else [i for i in range(n) if where[i]]  # what is NaN with the row
    nan = NAN, _spread(n, whole, lambda i: NAN), NAN, _spread(n, reach, lambda i: NAN)
    none = INF if beta < 0 else NAN if mp.isnan(beta) else -INF, [ZERO] * n, ZERO, [ZERO] * n
    top = [i for i in live if x[i] == INF]
    if not live:
        return nan if whole and mp.isnan(beta) else none
    if mp.isnan(beta) or any(mp.isnan(x[i]) or not mp.isfinite(b[i]) for i in live):
        return nan
    if top:
        reached = (beta >= 0 or len(top) == len(live)) and all(b[i] > 0 for i in top)
        return INF if reached else NAN, *nan[1:]
    top, total = _extreme(x, b, live, beta)
    if total == 0:
        return none
    if mp.isinf(beta):
        still = _spread(n, reach, lambda i: x[i] if mp.isnan(x[i]) else ZERO)
        return nan if total < 0 else (x[top[0]], _spread(n, top, lambda i: b[i] / total), ZERO, still)

    def clip(v):
        return v if mp.isnan(v) else max(-largest, min(largest, v))

    b = _spread(n, live, lambda i: ONE / len(live)) if mean else b
    if beta == 0:
        total = ONE if mean else mp.fsum(b[i] for i in live)
        if total <= 0:
            return none if total == 0 else nan
        w = _spread(n, live, lambda i: b[i] / total)
        value, slope = (INF, -INF) if total > 1 else (-INF, INF)
        if total == 1:  # the mean, and half the variance
            value = mp.fdot((w[i], x[i]) for i in live)
            slope = mp.fdot((w[i], (x[i] - value) ** 2) for i in live) / 2
        return value, w, clip(slope), _spread(n, reach, lambda i: x[i] if mp.isnan(x[i]) else largest)
    peak = top[0]
    t = {i: beta * (x[i] - x[peak]) for i in live}
    steepest = max((abs(v) for v in t.values() if v), default=ONE)
    with mp.extradps(max(0, -mp.mag(steepest))):  # near β = 0 the first order in t cancels from the slope in β
        if mean:
            excess = mp.fsum(mp.expm1(t[i]) for i in live) / len(live)
        else:
            excess = mp.fsum(b[i] * mp.exp(t[i]) for i in live if t[i] < 0) + (total - 1)
        if excess <= -1:
            return none if excess == -1 else nan
        log_z = mp.log1p(excess)
        w = _spread(n, live, lambda i: b[i] * mp.exp(t[i] - log_z))
        slope = mp.fdot((w[i], t[i] - log_z) for i in live) / beta**2
        b_bar = _spread(n, reach, lambda i: clip(mp.exp(beta * (x[i] - x[peak]) - log_z) / beta))
        return x[peak] + log_z / beta, w, clip(slope), b_bar


def _partition(x, axis, beta, where, b, keepdims, g, mean):
    grid = _grid(np.shape(x), axis)
    shape = grid.kept if keepdims else grid.batch
    wide = np.asarray(x).dtype in (np.float64, object)
    largest = mpf(float(np.finfo(np.float64 if wide else np.float32).max)) / 2**32
    rows = grid.rows(to_mpf(x)), grid.rows(True if where is None else where), _numbers(beta, shape)
    weights = grid.rows(to_mpf(1 if b is None else b))
    rows = [_partition_row(*row, b is not None, mean, largest) for row in zip(*rows, weights, strict=True)]
    if g is None:
        return _fill(_column(rows, 0), shape)
    scaled = zip(_numbers(g, shape), rows, strict=True)
    rows = [([k * v for v in row[1]], k * row[2], [k * v for v in row[3]]) for k, row in scaled]
    bars = _bars(rows, grid, beta, shape)
    return bars if b is None else bars | {"b": _pull_back(grid.array(_column(rows, 2)).ravel(), grid.shape, b)}


@_rounds
def logsumexp(x, axis=-1, *, beta=1.0, where=None, b=None, keepdims=False, g=None):
    return _partition(x, axis, beta, where, b, keepdims, g, mean=False)


@_rounds
def logmeanexp(x, axis=-1, *, beta=1.0, where=None, keepdims=False, g=None):
    return _partition(x, axis, beta, where, None, keepdims, g, mean=True)


# ----------------------------------------------------------------------------------------- cross-entropy, weighted_mean


class Penalties(NamedTuple):
    """Of one row: label smoothing ε, z-loss λ, class weights w."""

    smoothing: mpf
    z_loss: mpf
    w: list


def _mass(y, law, extra):
    """q_j = w_j ((1 − ε) y_j + ε/K) over the K live classes, and the same with only the second term."""
    share = ONE / len(law.live) if law.live else ZERO
    even = _spread(len(y), law.live, lambda j: share)
    return [
        k * ((1 - extra.smoothing) * v + extra.smoothing * e) for k, v, e in zip(extra.w, y, even, strict=True)
    ], even


def _log_partition(x, law, beta, largest):
    """log Z = β x_r − log p_r, saturated; 0 for an empty row."""
    if not law.live:
        return ZERO
    at_peak = ZERO if x[law.peak] == 0 else beta * x[law.peak]
    return max(-largest, min(largest, at_peak - law.log_p[law.peak]))


def _cross_entropy_row(y, law, extra, log_z):
    """−Σ_j q_j log p_j + λ (log Z)² with 0 · inf = 0."""
    if y is None:
        return ZERO
    if law.poisoned or any(mp.isnan(v) for v in y):
        return NAN
    q, _ = _mass(y, law, extra)
    return -mp.fsum(v * law.log_p[j] for j, v in enumerate(q) if v) + extra.z_loss * log_z**2


def _cross_entropy_row_vjp(g, y, absent, x, law, extra, log_z, largest):
    """∂/∂x_i = β (p_i Σ_j q_j − q_i + 2 λ log Z p_i),  ∂/∂β = Σ_j q_j (E[x] − x_j) + 2 λ log Z E[x] over live j,
    ∂/∂y_j = −(1 − ε) w_j log p_j,  ∂/∂ε = −Σ w_j (1/K − y_j) log p_j,  ∂/∂λ = (log Z)², saturated,
    ∂/∂w_j = −q_j / w_j log p_j.

    `absent` are the classes at −inf, not masked: there ∂/∂x_i is the limit −β q_i.
    """
    n, live = len(law.p), law.live
    if y is None or g == 0:
        return [ZERO] * n, ZERO, [ZERO] * n, ZERO, ZERO, [ZERO] * n
    if law.poisoned or any(mp.isnan(v) for v in y):
        nan = _spread(n, live, lambda i: NAN)
        return nan, NAN, nan, NAN, NAN, nan
    (q, even), kept = _mass(y, law, extra), 1 - extra.smoothing
    total, pull = mp.fsum(q), 2 * extra.z_loss * log_z
    x_bar = _spread(n, live, lambda i: g * law.gain * (law.p[i] * (total - q[i]) - q[i] * law.q[i] + pull * law.p[i]))
    for i in absent:
        x_bar[i] = -g * law.gain * q[i] if q[i] else ZERO
    mean = x[law.peak] - law.dev[law.peak] if live and not law.frozen else ZERO
    beta_bar = g * (pull * mean - mp.fsum(q[i] * law.dev[i] for i in live))
    reached = [i for i in live if law.log_p[i] != -INF]
    w, log_p = extra.w, law.log_p
    labels_bar = _spread(n, reached, lambda i: -g * kept * w[i] * log_p[i])
    smoothing_bar = -g * mp.fsum(w[i] * (even[i] - y[i]) * log_p[i] for i in reached)
    if any(w[i] != 0 and log_p[i] == -INF for i in live):  # the sum over the live classes is infinite: it stands still
        smoothing_bar = g * mp.fsum(w[i] * y[i] * log_p[i] for i in reached)
    weights_bar = _spread(n, reached, lambda i: -g * (kept * y[i] + extra.smoothing * even[i]) * log_p[i])
    z_bar = max(-largest, min(largest, g * log_z**2))
    return x_bar, beta_bar, labels_bar, smoothing_bar, z_bar, weights_bar


def _cross_entropy(distributions, grid, logits, where, beta, g, label_smoothing, z_loss, class_weights):
    """`distributions`: a row y of labels for each row of logits, None if it is ignored."""
    laws, n = _laws(grid, logits, where, beta, grid.batch), math.prod(grid.classes)
    w = _numbers(1 if class_weights is None else class_weights, (n,))
    rows = (_numbers(0 if o is None else o, grid.batch) for o in (label_smoothing, z_loss))
    options = zip(*rows, strict=True)
    extras = [Penalties(*option, w) for option in options]
    wide = np.asarray(logits).dtype in (np.float64, object)
    largest = mpf(float(np.finfo(np.float64 if wide else np.float32).max)) / 2**32
    x, betas = grid.rows(to_mpf(logits)), _numbers(beta, grid.batch)
    log_z = [
        ZERO if law.poisoned else _log_partition(*r, law, b, largest)
        for r, law, b in zip(zip(x), laws, betas, strict=True)
    ]
    if g is None:
        return _fill([*map(_cross_entropy_row, distributions, laws, extras, log_z)], grid.batch)
    where = grid.rows(True if where is None else where)
    absent = [[i for i, v in enumerate(r) if m[i] and v == -INF] for r, m in zip(x, where, strict=True)]
    bars = [
        *map(
            _cross_entropy_row_vjp,
            _numbers(g, grid.batch),
            distributions,
            absent,
            x,
            laws,
            extras,
            log_z,
            itertools.repeat(largest),
        )
    ]
    columns = [_column(bars, k) for k in range(6)]
    out = {"logits": grid.array(columns[0]), "labels": grid.array(columns[2])}
    for k, name, of in ((1, "beta", beta), (3, "label_smoothing", label_smoothing), (4, "z_loss", z_loss)):
        if of is not None:
            out[name] = _pull_back(columns[k], grid.batch, of)
    if class_weights is not None:
        out["class_weights"] = np.array([mp.fsum(c) for c in zip(*columns[5], strict=True)] or [ZERO] * n, object)
    return out


@_rounds
def softmax_cross_entropy(
    logits, labels, axis=-1, where=None, *, beta=1.0, label_smoothing=None, z_loss=None, class_weights=None, g=None
):
    assert np.shape(labels) == np.shape(logits)
    grid = _grid(np.shape(logits), axis)
    rows = grid.rows(to_mpf(labels))
    return _cross_entropy(rows, grid, logits, where, beta, g, label_smoothing, z_loss, class_weights)


@_rounds
def softmax_cross_entropy_with_integer_labels(
    logits,
    labels,
    axis=-1,
    where=None,
    *,
    beta=1.0,
    label_smoothing=None,
    z_loss=None,
    class_weights=None,
    ignore_label=None,
    g=None,
):
    grid, labels = _grid(np.shape(logits), axis), np.asarray(labels)
    assert labels.shape == grid.batch and labels.dtype.kind in "iu"
    classes = range(math.prod(grid.classes))
    one_hot = [[ONE if j == y else ZERO for j in classes] if y in classes else [NAN] for y in labels.ravel().tolist()]
    rows = [None if y == ignore_label else row for y, row in zip(labels.ravel().tolist(), one_hot, strict=True)]
    out = _cross_entropy(rows, grid, logits, where, beta, g, label_smoothing, z_loss, class_weights)
    return out if g is None else {name: bar for name, bar in out.items() if name != "labels"}


def _layer(inputs, weight, bias, class_axis, soft_cap):
    """(x W + b, v = (x W + b) / c, the capped logits); v is 0 where there is no cap or the logit is infinite."""
    w = to_mpf(weight) if class_axis == 1 else to_mpf(weight).T
    raw = (
        np.dot(to_mpf(inputs), w)
        if w.shape[0]
        else _fill([ZERO] * (len(inputs) * w.shape[1]), (len(inputs), w.shape[1]))
    )
    raw = raw if bias is None else raw + to_mpf(bias)
    cap = INF if soft_cap is None else to_mpf(soft_cap).item()
    v = _fill([r / cap if mp.isfinite(r) else ZERO for r in raw.ravel()], raw.shape)
    free = cap == INF
    z = [r if free or not mp.isfinite(r) else cap * mp.tanh(t) for r, t in zip(raw.ravel(), v.ravel(), strict=True)]
    return raw, v, _fill(z, raw.shape)


def _through_layer(z_bar, inputs, weight, v, class_axis):
    """Cotangents of inputs, weight, bias and soft cap."""
    turn = _fill([mp.tanh(t) - t * mp.sech(t) ** 2 for t in v.ravel()], v.shape)
    u = z_bar * _fill([mp.sech(t) ** 2 for t in v.ravel()], v.shape)
    w = to_mpf(weight) if class_axis == 1 else to_mpf(weight).T
    w_bar = np.dot(to_mpf(inputs).T, u)
    return {
        "inputs": np.dot(u, w.T),
        "weight": w_bar if class_axis == 1 else w_bar.T,
        "bias": u.sum(0),
        "soft_cap": np.asarray((z_bar * turn).sum(), object),
    }


def _entropy(z, beta, g):
    """−Σ p log p of each row, or its cotangents (z_bar, β_bar): −β p_j (log p_j + H) and −β Var[z]."""
    slope = np.reshape(_numbers(beta, z.shape[:1]), (-1, 1))
    p, log_p = softmax.exact(z, beta=slope), log_softmax.exact(z, beta=slope)
    rows = [[a * b if a != 0 else ZERO for a, b in zip(*pair, strict=True)] for pair in zip(p, log_p, strict=True)]
    h = [-mp.fsum(row) for row in rows]
    if g is None:
        return _fill(h, z.shape[:1])
    z_bar = [
        ZERO if a == 0 else -k * s[0] * a * (b + e)
        for k, s, e, row in zip(to_mpf(g), slope, h, zip(p, log_p, strict=True), strict=True)
        for a, b in zip(*row, strict=True)
    ]
    beta_bar = []
    for k, s, q, x in zip(to_mpf(g), slope, p, z, strict=True):
        mean = mp.fsum(a * b for a, b in zip(q, x, strict=True) if a != 0)
        beta_bar.append(-k * s[0] * mp.fsum(a * (b - mean) ** 2 for a, b in zip(q, x, strict=True) if a != 0))
    return _fill(z_bar, z.shape), _fill(beta_bar, z.shape[:1])


@_rounds
def linear_softmax_cross_entropy(
    inputs, weight, labels, *, bias=None, class_axis=1, beta=1.0, soft_cap=None, ignore_label=None, g=None, **options
):
    """inputs [N, D]. (losses, logsumexp, entropy), or the cotangents of all arguments for those in the tuple `g`."""
    _, v, z = _layer(inputs, weight, bias, class_axis, soft_cap)
    loss = functools.partial(
        softmax_cross_entropy_with_integer_labels.exact, z, labels, beta=beta, ignore_label=ignore_label, **options
    )
    if g is None:
        return loss(), logsumexp.exact(z, beta=beta), _entropy(z, beta, None)
    bars, more = loss(g=g[0]), logsumexp.exact(z, beta=beta, g=g[1])
    z_bar, beta_bar = _entropy(z, beta, g[2])
    z_bar = z_bar + bars.pop("logits") + more["x"]
    beta_bar = _pull_back(beta_bar.ravel().tolist(), z.shape[:1], beta)
    return (
        bars | _through_layer(z_bar, inputs, weight, v, class_axis) | {"beta": bars["beta"] + more["beta"] + beta_bar}
    )


@_rounds
def weighted_mean(losses, weights=None, *, g=None):
    """(Σ w l / Σ w, Σ w); a loss of weight 0 is dropped whatever it holds, and the mean of nothing is 0.

    ∂mean/∂l = w / Σ w,  ∂mean/∂w = (l − mean) / Σ w.
    """
    shape = np.shape(losses)
    values, w = _numbers(losses, shape), _numbers(1 if weights is None else weights, shape)
    count = mp.fsum(w)
    mean = mp.fsum(k * v for v, k in zip(values, w, strict=True) if k != 0) / count if count != 0 else ZERO
    if g is None:
        return np.array(mean), np.array(count)
    g = to_mpf(g).item() / count if count != 0 else ZERO
    bars = {"losses": _fill([g * k for k in w], shape)}
    if weights is not None:
        dropped = [g == 0 or (k == 0 and not mp.isfinite(v)) for v, k in zip(values, w, strict=True)]
        slopes = [ZERO if d else g * (v - mean) for v, d in zip(values, dropped, strict=True)]
        bars["weights"] = _pull_back(slopes, shape, weights)
    return bars


# ---------------------------------------------------------------------------------------------- second order, errors


def _vjp(operator):
    return _rounds(lambda g, *args, **kwargs: operator.exact(*args, g=g, **kwargs))


softmax_vjp, log_softmax_vjp, softmax_jacobian_vjp = _vjp(softmax), _vjp(log_softmax), _vjp(softmax_jacobian)
logsumexp_vjp, logmeanexp_vjp, entropy_vjp = _vjp(logsumexp), _vjp(logmeanexp), _vjp(entropy)
softmax_cross_entropy_vjp = _vjp(softmax_cross_entropy)
softmax_cross_entropy_with_integer_labels_vjp = _vjp(softmax_cross_entropy_with_integer_labels)
weighted_mean_vjp = _vjp(weighted_mean)
linear_softmax_cross_entropy_vjp = _vjp(linear_softmax_cross_entropy)


def directional(exact, arguments, direction):
    """Derivative of `exact(**arguments)` along `direction` (name → array) by central differences, to some 30 digits.

    `exact` is a NAME.exact or made of such. Where both sides agree, infinities included, the derivative is 0.
    """
    a, d = ({name: to_mpf(source[name]) for name in direction} for source in (arguments, direction))
    sizes = [[abs(v) for v in array.ravel() if mp.isfinite(v)] for array in (*a.values(), *d.values())]
    sizes.append([abs(v) for v in to_mpf(arguments.get("beta", 1.0)).ravel() if mp.isfinite(v)])
    digits = 20 + sum(max(0, math.ceil(mp.mag(max([*size, ONE])) * 0.31)) for size in sizes)
    with mp.workdps(60 + 3 * digits):
        h = mpf(10) ** -digits
        after, before = (exact(**arguments | {k: a[k] + s * h * d[k] for k in d}) for s in (1, -1))

        def slope(v, u):
            pairs = zip(v.ravel(), u.ravel(), strict=True)
            return _fill([ZERO if p == q else (p - q) / (2 * h) for p, q in pairs], v.shape)

        return {k: slope(after[k], before[k]) for k in after} if isinstance(after, dict) else slope(after, before)


def hvp(name, args, kwargs, w, direction):
    """Derivative of `NAME_vjp(w, *args, **kwargs)` along `direction`; 0 in the logits of a row whose β is infinite."""
    operator = globals()[name]
    bound = inspect.signature(operator).bind(*args, **kwargs, g=w)
    bound.apply_defaults()
    arguments, direction = bound.arguments, dict(direction)
    for logits in {"x", "logits"} & set(direction):
        grid = _grid(np.shape(arguments[logits]), arguments["axis"])
        kept = arguments.get("keepdims") or name in ("softmax", "log_softmax")
        beta = np.broadcast_to(rounded(to_mpf(arguments["beta"])), grid.kept if kept else grid.batch)
        direction[logits] = np.where(np.isinf(beta).reshape(grid.kept), 0.0, direction[logits])
    return rounded(directional(operator.exact, arguments, direction))


FORMATS = {"bfloat16": (7, -126), "float16": (10, -14), "float32": (23, -126), "float64": (52, -1022)}


def ulp_error(actual, expected, dtype):
    """|actual − expected| in units in the last place of `dtype` at `expected` (float64, or objects of mpmath).

    The unit never falls below that of the smallest normal number. NaN and ±inf count 0 where they agree and inf where
    they do not; `expected` beyond the largest number of `dtype` agrees with the infinity of its sign.
    """
    bits, low = FORMATS[dtype if isinstance(dtype, str) else np.dtype(dtype).name]
    actual, nearest = np.asarray(actual).astype(np.float64), rounded(to_mpf(expected))
    assert actual.shape == nearest.shape, (actual.shape, nearest.shape)
    with np.errstate(all="ignore"):
        overflow = np.ldexp(2.0 - 2.0 ** -(bits + 1), 1 - low) if low > -1022 else np.inf
        exponent = np.where(nearest == 0, low, np.frexp(nearest)[1] - 1)
        unit = np.ldexp(1.0, np.clip(exponent, low, 1 - low) - bits)
        error = np.abs(actual - nearest)
        if np.asarray(expected).dtype == object:
            pairs = zip(actual.ravel().tolist(), np.ravel(expected), strict=True)
            with mp.workdps(DIGITS):
                error = rounded(_fill([abs(mpf(a) - e) for a, e in pairs], actual.shape))
        beyond = np.isinf(actual) & (np.abs(nearest) >= overflow)
        nearest = np.where(beyond, np.copysign(np.inf, nearest), nearest)
        same = (actual == nearest) | (np.isnan(actual) & np.isnan(nearest))
        return np.where(np.isfinite(actual) & np.isfinite(nearest), error / unit, np.where(same, 0.0, np.inf))
