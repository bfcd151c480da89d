"""Which tolerance a value or cotangent of the registry is held to: its scale and gap from the geometry of its row."""

import numpy as np

from tests import oracle, registry, tolerance

PARTITION = ("logsumexp", "logmeanexp")


def check_value(case, s, value, expected):
    dtype = registry.result_shape(case, s).dtype
    bound, terms = of_value(case, s, expected)
    tolerance.check(value, expected, dtype, bound, _what(case, s, "value"), **terms)


def check_cotangents(case, s, g, cotangents, expected):
    found = of_cotangents(case, s, g, expected, cotangents)
    for name, (bound, terms) in found.items():
        dtype = s.arrays[name].dtype
        tolerance.check(cotangents[name], expected[name], dtype, bound, _what(case, s, name), **terms)


def of_value(case, s, expected):
    """(Bound, scale, gap and floor) of the value."""
    of_row, rounding = registry.geometry(case, s), _rounding(s)
    scale, gap = 0.0, of_row.beside
    if case.name in ("softmax", "log_softmax"):
        gap = of_row.gap + of_row.beside
    elif case.name == "softmax_jacobian":
        gap = of_row.gap.max(initial=0.0)
    else:
        gap = np.reshape(of_row.beside, expected.shape)
    if case.name in PARTITION:
        peak = np.reshape(of_row.peak, expected.shape)
        with np.errstate(invalid="ignore"):
            added = np.abs(expected - peak)
        added = np.where(np.isfinite(added), added, 0)
        scale = np.maximum(np.abs(peak), added) + _logs_of_multiplicities(s)
        gap = gap * added / np.where(scale > 0, scale, 1)  # only what is added to the peak has an exponential in it
    if "z_loss" in s.arrays:  # (log Z)², the square of β m + log1p(s), which cancel
        scale = scale + np.reshape(s.arrays["z_loss"] * _terms_of_log_z(case, s, of_row) ** 2, expected.shape)
    return tolerance.VALUE[case.name], {"scale": scale, "gap": rounding * gap, "floor": _floor(s)}


def of_cotangents(case, s, g, expected, names):
    """{name: (Bound, scale, gap and floor)} of the cotangents that are held to something."""
    of_row, rounding, found = registry.geometry(case, s), _rounding(s), {}
    for name in names:
        if name == "beta" and np.isnan(s.arrays["beta"]).any():
            continue  # β is NaN; of the cotangents that of the logits says what has to be NaN
        scale, gap = 0.0, of_row.beside
        if name == case.logits:
            scale = _terms_of_logits(case, s, g, of_row, expected[name])
        elif name == "beta":
            scale, gap = _terms_of_beta(case, s, g, of_row, expected), of_row.beside.max(initial=0.0)
            if np.max(scale, initial=0.0) > tolerance.LARGEST / 8:
                continue  # the terms overflow, though their sum may not
        elif name in registry.OPTIONS:
            scale, gap = _terms_of_option(case, s, g, of_row, name), of_row.gap.max(initial=0.0)
        elif name == "b":  # its own exponent, also where b = 0 leaves it out of the sum
            gap = of_row.own + of_row.beside
        else:
            gap = of_row.gap + of_row.beside
        bound = tolerance.COTANGENT.get(name, tolerance.COTANGENT["x"])
        found[name] = bound, {"scale": scale, "gap": rounding * gap, "floor": _floor(s) * g.size}
    return found


def _rounding(s):
    """1 where multiplying by β is exact, else 2."""
    beta = s.arrays["beta"].astype(np.float64)
    finite = np.where(np.isfinite(beta), beta, 0)
    return np.where((np.abs(np.frexp(finite)[0]) == 0.5) | (finite == 0), 1, 2).max(initial=1)


def _floor(s):
    beta = np.abs(s.arrays["beta"].astype(np.float64))
    return max(1.0, np.where(np.isfinite(beta), beta, 0).max(initial=1.0)) ** 2


def _logs_of_multiplicities(s):
    """Two terms more with `b`: the largest log|b|, and the logarithm of the sum beside it."""
    if "b" not in s.arrays:
        return 0.0
    b, beta = np.abs(s.arrays["b"]), np.abs(s.arrays["beta"].astype(np.float64))
    logs = np.abs(np.log(np.where(b == 0, 1, b))).max(initial=0.0) + np.log(max(b.size, 1))
    return logs / np.where(beta == 0, 1, beta)


def _terms_of_logits(case, s, g, of_row, expected):
    """The largest of each row, or of the terms that cancel in it."""
    axes = registry.class_axes(case, s)
    size = np.where(np.isfinite(expected), np.abs(expected), 0)
    if _cancels(case, s):
        size = np.maximum(size, _terms_of_each_logit(case, s, g, of_row))
        return size.max(axes, keepdims=True, initial=0.0)
    if case.name == "softmax_jacobian":  # its slope p (1 − 2p) vanishes at a tie of two: the terms do not
        rows = _jacobian_rows(case, s) * np.abs(_finite(s.arrays["beta"]))
        return np.reshape(rows, of_row.peak.shape) * np.abs(g).max(initial=0.0)
    return size.max(axes, keepdims=True, initial=0.0)


def _cancels(case, s):
    """Is the cotangent of a logit a sum of terms of both signs?"""
    return case.name in ("log_softmax", "softmax_cross_entropy") or _has_options(s)


def _terms_of_each_logit(case, s, g, of_row):
    """Size of β (q (1 − p) + p (Σ q − q)) without its cancellation, and of what the z-loss adds."""
    axes = registry.class_axes(case, s)
    p = oracle.softmax(s.arrays[case.logits], s.static["axis"], s.arrays.get("where"), beta=_lifted(case, s))
    q = np.abs(g.astype(np.float64)) if case.name == "log_softmax" else _mass(case, s)
    terms = q * (1 - p) + p * (q.sum(axes, keepdims=True) - q)
    if "z_loss" in s.arrays:
        terms = terms + 2 * s.arrays["z_loss"] * _terms_of_log_z(case, s, of_row) * p
    if case.name != "log_softmax":
        terms = terms * np.abs(np.reshape(g, of_row.peak.shape))
    return np.where(np.isfinite(terms), terms, 0) * np.abs(_finite(_lifted(case, s)))


def _terms_of_beta(case, s, g, of_row, expected):
    """Size of the sum Σ_j t_bar_j (x_j − m) without its cancellation, in the shape of β."""
    beta = np.abs(s.arrays["beta"].astype(np.float64))
    if case.name in PARTITION:  # of one sign within a row: its terms are the rows
        by_row = s._replace(arrays=s.arrays | {"beta": np.broadcast_to(s.arrays["beta"], g.shape)})
        size = np.abs(_finite(registry.exact(case, by_row, g)["beta"]))
        if "b" in s.arrays:  # of both signs: its terms are Σ w (x − m) and log Z / β
            steep = np.where((beta > 0) & np.isfinite(beta), beta, 1)
            size = size + np.abs(g) * (of_row.reach.max(initial=0.0) + _logs_of_multiplicities(s)) / steep
        return size.sum() if beta.ndim == 0 else size
    x_bar, axes = np.abs(_finite(expected[case.logits])), registry.class_axes(case, s)
    if case.name == "log_softmax":
        x_bar = np.maximum(x_bar, _terms_of_each_logit(case, s, g, of_row))
    size = (x_bar * of_row.reach).sum(axes, keepdims=True)
    steepest = np.abs(g).max(initial=0.0) * of_row.reach.max(axes, keepdims=True, initial=0.0) * of_row.gap.size
    if beta.ndim == 0:
        size, steepest = size.sum(), steepest.sum()
    else:
        size, steepest = np.reshape(size, beta.shape), np.reshape(steepest, beta.shape)
    size = np.where((beta > 0) & (beta < np.inf), size / np.where(beta > 0, beta, 1), steepest)
    if _has_options(s):  # its terms cancel within a row, and the z-loss has the peak in it
        p = oracle.softmax(s.arrays[case.logits], s.static["axis"], s.arrays.get("where"), beta=_lifted(case, s))
        q, peak = _mass(case, s), np.abs(_finite(of_row.peak))
        rows = (_finite(q + p * q.sum(axes, keepdims=True)) * of_row.reach).sum(axes, keepdims=True)
        if "z_loss" in s.arrays:
            longest = peak + of_row.reach.max(axes, keepdims=True, initial=0.0)
            rows = rows + 2 * s.arrays["z_loss"] * _terms_of_log_z(case, s, of_row) * longest
        rows = rows * np.abs(np.reshape(g, of_row.peak.shape))
        size = size + (rows.sum() if beta.ndim == 0 else np.reshape(rows, beta.shape))
    if case.name == "softmax_jacobian":
        rows = _jacobian_rows(case, s) / np.where((beta > 0) & np.isfinite(beta), beta, 1) * np.abs(g).sum()
        size = size + (rows.sum() if beta.ndim == 0 else rows)
    return size


def _has_options(s):
    return any(name in s.arrays for name in registry.OPTIONS)


def _mass(case, s):
    """q_j = w_j ((1 − ε) y_j + ε/K) of a cross-entropy, ignored rows included."""
    x, axes = s.arrays[case.logits], registry.class_axes(case, s)
    y = s.arrays["labels"]
    if case.name == registry.INTEGER:
        index = np.moveaxis(np.indices([x.shape[a] for a in axes]), 0, -1).reshape(-1, len(axes))
        flat = np.zeros((*y.shape, len(index)))
        np.put_along_axis(flat, np.clip(y, 0, len(index) - 1)[..., None].astype(int), 1.0, -1) if len(index) else None
        y = np.moveaxis(flat.reshape(*y.shape, *(x.shape[a] for a in axes)), range(y.ndim, x.ndim), axes)
    y, eps = y.astype(np.float64), float(s.arrays.get("label_smoothing", 0.0))
    live = (x != -np.inf) & np.broadcast_to(s.arrays.get("where", True), x.shape)
    count = np.maximum(live.sum(axes, keepdims=True), 1)
    w = np.ones(x.shape)
    if "class_weights" in s.arrays:
        given = s.arrays["class_weights"].astype(np.float64).reshape([x.shape[a] for a in axes])
        given = np.transpose(given, np.argsort(axes)) if len(axes) > 1 else given
        w = np.broadcast_to(np.expand_dims(given, [i for i in range(x.ndim) if i not in axes]), x.shape)
    return np.abs(w * ((1 - eps) * y + eps * live / count))


def _terms_of_log_z(case, s, of_row):
    """|β m| + log1p(s), no less than |log Z|."""
    axes = registry.class_axes(case, s)
    with np.errstate(invalid="ignore"):
        of_peak = np.abs(_finite(_lifted(case, s) * of_row.peak))
    return of_peak + np.log(max(np.prod([s.arrays[case.logits].shape[a] for a in axes]), 1))


def _terms_of_option(case, s, g, of_row, name):
    """Sum of the sizes of what is added over rows and classes."""
    g = np.abs(g.astype(np.float64))
    if name == "z_loss":
        terms = np.reshape(g, of_row.peak.shape) * _terms_of_log_z(case, s, of_row) ** 2
        return terms.sum() + np.abs(_finite(registry.exact(case, s, g)[name]))
    if name == "class_weights":
        return np.abs(_finite(registry.exact(case, s, g)[name])).sum()
    ends = ({"label_smoothing": e, "z_loss": 0.0} for e in (0.0, 1.0))
    sizes = [registry.exact(case, s._replace(arrays=s.arrays | end)) for end in ends]
    return (g * sum(np.abs(_finite(size)) for size in sizes)).sum()


def _jacobian_rows(case, s):
    jacobian = np.abs(_finite(registry.exact(case, s)))
    count = 2 * len(registry.class_axes(case, s))
    return jacobian.max(tuple(range(jacobian.ndim - count, jacobian.ndim)), initial=0.0)


def _lifted(case, s):
    """β at the rank of the logits."""
    beta = s.arrays["beta"].astype(np.float64)
    return beta if beta.ndim in (0, s.arrays[case.logits].ndim) else np.expand_dims(beta, registry.class_axes(case, s))


def _finite(a):
    return np.where(np.isfinite(a), a, 0)


def _what(case, s, name):
    return f"{name} of {registry.label(case)} on {s.id!r} at beta {s.arrays['beta'].tolist()}"
