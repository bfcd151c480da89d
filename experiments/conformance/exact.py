"""The exact answer of a case, in 60 digits, and the bound of the contract for each of its entries.

Answers are those of `tests.oracle`; bounds those of `tests.bounds` and `tests.tolerance`, which hold this library. Of
what is made from others:

    boltzmann(E) = softmax(−E),  free_energy(E) = −logsumexp(−E)                                        (1)
    KL(p‖q) = Σ p_j u_j, u_j = log p_j − log q_j                                                        (2)
    ∂KL/∂x_k = β p_k (u_k − KL),  ∂KL/∂y_k = β (q_k − p_k),  ∂KL/∂β = Σ_j p_j u_j (x_j − E_p x) + E_q y − E_p y
"""

from typing import NamedTuple

import numpy as np
from mpmath import mp, mpf

from tests import bounds, oracle, registry, tolerance

PLACES = 400  # of the divergence: of two means of some 80 may be left 1e-142
DIVERGENCE, DIVERGENCE_GRADIENT, DIVERGENCE_SLOPE = (
    tolerance.Bound(24, 4),
    tolerance.Bound(32, 4),
    tolerance.Bound(48, 6),
)


class Exact(NamedTuple):
    values: np.ndarray  # of mpf
    bounds: np.ndarray  # float64


def result_dtype(operator, dtype):
    keeps = operator in ("softmax", "log_softmax", "logsumexp", "logmeanexp", "boltzmann", "free_energy")
    return np.dtype(dtype) if keeps else np.promote_types(dtype, np.float32)


def answer(operator, arrays, options, cotangent, differentiable):
    """(Exact of the value, {input: Exact of its gradient}). `arrays` has β; `cotangent` is a function of the value."""
    with mp.workdps(oracle.DIGITS):
        if operator == "kl_divergence":
            return _divergence(arrays, cotangent)
        if operator in ("boltzmann", "free_energy"):
            return _of_energies(operator, arrays, options, cotangent)
        return _of_oracle(operator, arrays, options, cotangent, differentiable)


def _of_oracle(operator, arrays, options, cotangent, differentiable):
    f = getattr(oracle, operator)
    values = np.asarray(f.exact(**arrays, **options), object)
    g = cotangent(values).astype(result_dtype(operator, arrays[differentiable[0]].dtype))
    bars = {k: np.asarray(v, object) for k, v in f.exact(**arrays, **options, g=g).items()}
    case = registry.Case(operator, differentiable, None, result_takes_classes=operator in ("softmax", "log_softmax"))
    s = registry.Sample("", arrays, {"axis": -1} | options)
    near, near_bars = oracle.rounded(values), oracle.rounded(bars)
    with np.errstate(all="ignore"):
        held = bounds.of_value(case, s, near)
        found = Exact(values, _allowed(near, result_dtype(operator, arrays[differentiable[0]].dtype), *held))
        of = bounds.of_cotangents(case, s, g, near_bars, [k for k in differentiable if k in near_bars])
        return found, {k: Exact(bars[k], _allowed(near_bars[k], arrays[k].dtype, *held)) for k, held in of.items()}


def _allowed(near, dtype, bound, terms):
    allowed = np.broadcast_to(tolerance.allowance(near, dtype, bound, **terms), near.shape)
    return np.where(np.isfinite(near), allowed, 0.0)


def _of_energies(operator, arrays, options, cotangent):
    """(1)."""
    turned = {"x": -arrays["energies"]} | {k: v for k, v in arrays.items() if k != "energies"}
    name = {"boltzmann": "softmax", "free_energy": "logsumexp"}[operator]
    sign = -1 if operator == "free_energy" else 1
    value, bars = _of_oracle(name, turned, options, lambda values: sign * cotangent(values), ("x", "beta"))
    bars["energies"] = Exact(-bars["x"].values, bars.pop("x").bounds)
    return Exact(np.asarray(sign * value.values, object), value.bounds), bars


def _divergence(arrays, cotangent):
    """(2), row by row; classes along the last axis."""
    x, y = (np.asarray(arrays[k]) for k in ("logits_p", "logits_q"))
    beta = arrays["beta"].astype(np.float64).item()
    where = np.broadcast_to(arrays.get("where", True), x.shape)
    dtype = result_dtype("kl_divergence", x.dtype)
    batch, rows = x.shape[:-1], [np.reshape(a, (-1, x.shape[-1])) for a in (x, y, where)]
    with mp.workdps(PLACES):
        found = [_divergence_row(*row, mpf(beta)) for row in zip(*rows, strict=True)]
        value = _fill([row["value"] for row in found], batch)
        g = cotangent(value).astype(dtype).ravel()
        bars = {
            k: _fill([w * v for w, row in zip(map(float, g), found, strict=True) for v in row[k]], x.shape)
            for k in ("logits_p", "logits_q")
        }
        slopes = [w * row["beta"] for w, row in zip(map(float, g), found, strict=True)]
        total = np.asarray(mp.fsum(slopes), object)
    with np.errstate(all="ignore"):
        gap = sum(_gaps(a, beta, w) for a, w in ((rows[0], rows[2]), (rows[1], rows[2])))
        terms = np.abs(oracle.rounded(_fill([v for row in found for v in row["logits_p"]], rows[0].shape))) + 1e-300
        typical = (gap * terms).sum(-1) / terms.sum(-1) + 1
        near, roundings = oracle.rounded(value), 2 if np.abs(np.frexp(beta)[0]) not in (0, 0.5) else 1
        wide = roundings * np.nan_to_num(typical)
        result = Exact(value, _allowed(near, dtype, DIVERGENCE, {"gap": wide.reshape(batch)}))
        gradients = {}
        for k, v in bars.items():
            near_bar = oracle.rounded(v)
            size = np.abs(near_bar).max(-1, keepdims=True)
            held = {"scale": size, "gap": wide.reshape(*batch, 1), "floor": max(1.0, abs(beta)) ** 2}
            gradients[k] = Exact(v, _allowed(near_bar, x.dtype, DIVERGENCE_GRADIENT, held))
        size = sum(abs(float(s)) for s in slopes) + np.sum(np.abs(g * near.ravel())) / max(abs(beta), 1e-30)
        held = {"scale": size, "gap": wide.max()}
        gradients["beta"] = Exact(total, _allowed(oracle.rounded(total), arrays["beta"].dtype, DIVERGENCE_SLOPE, held))
    return result, gradients


def _divergence_row(x, y, where, beta):
    (p, log_p), (q, log_q) = (
        [f.exact(oracle.to_mpf(a)[None], beta=beta, where=where[None])[0] for f in (oracle.softmax, oracle.log_softmax)]
        for a in (x, y)
    )
    n = range(len(x))
    if any(mp.isnan(v) for v in (*p, *q)):
        nan = [mpf("nan") if where[j] else mpf(0) for j in n]
        return {"value": mpf("nan"), "logits_p": nan, "logits_q": nan, "beta": mpf("nan")}
    held = [j for j in n if p[j] != 0]
    if any(q[j] == 0 for j in held):
        raise ValueError("The derivatives of an infinite divergence are no part of the data.")
    u = {j: log_p[j] - log_q[j] for j in held}
    kl, x = mp.fsum(p[j] * u[j] for j in held), oracle.to_mpf(x)
    y = oracle.to_mpf(y)
    mean = mp.fsum(p[j] * x[j] for j in held)
    slope = mp.fsum(p[j] * u[j] * (x[j] - mean) for j in held)
    slope += mp.fsum((q[j] - p[j]) * y[j] for j in n if q[j] != p[j])
    return {
        "value": kl,
        "logits_p": [beta * p[j] * (u[j] - kl) if j in u else mpf(0) for j in n],
        "logits_q": [beta * (q[j] - p[j]) for j in n],
        "beta": slope,
    }


def _gaps(z, beta, where):
    live = np.isfinite(z) & where
    t = np.where(live, beta * np.where(live, z, 0).astype(np.float64), -np.inf)
    return np.where(live, t.max(-1, keepdims=True) - t, 0)


def _fill(values, shape):
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)
