"""The adapter of JAX itself: jax.nn and jax.scipy.special, β where a user would write it."""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr, rel_entr

from experiments.conformance import _vjp


def scaled(arrays, name="x"):
    """β x, the usual workaround where there is no β; that of a reduced row gets an axis for the classes."""
    x = arrays[name]
    if "beta" not in arrays:
        return x
    beta = arrays["beta"].astype(x.dtype)
    return (beta[..., None] if beta.ndim and beta.ndim < x.ndim else beta) * x


def _softmax(arrays, options, name="x"):
    return jax.nn.softmax(scaled(arrays, name), where=arrays.get("where"), **options)


def _log_softmax(arrays, options):
    return jax.nn.log_softmax(scaled(arrays), where=arrays.get("where"), **options)


def _unscaled(result, arrays):
    return result if "beta" not in arrays else result / arrays["beta"].astype(result.dtype)


def _logsumexp(arrays, options):
    given = {name: arrays[name] for name in ("where", "b") if name in arrays}
    options = {"axis": -1} | options
    return _unscaled(jax.scipy.special.logsumexp(scaled(arrays), **given, **options), arrays)


def _logmeanexp(arrays, options):
    return _unscaled(jax.nn.logmeanexp(scaled(arrays), where=arrays.get("where"), **{"axis": -1} | options), arrays)


def _entropy(arrays, options):
    options = {"axis": -1} | options
    p = jax.nn.softmax(scaled(arrays, "logits"), axis=options["axis"], where=arrays.get("where"))
    return jnp.sum(entr(p), where=arrays.get("where"), **options)


def _kl_divergence(arrays, options):
    p, q = (jax.nn.softmax(scaled(arrays, name), where=arrays.get("where")) for name in ("logits_p", "logits_q"))
    return jnp.sum(rel_entr(p, q), axis=-1, where=arrays.get("where"))


def _turned(arrays):
    return {"x": -arrays["energies"]} | {k: v for k, v in arrays.items() if k != "energies"}


FUNCTIONS = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "logmeanexp": _logmeanexp,
    "entropy": _entropy,
    "kl_divergence": _kl_divergence,
    "boltzmann": lambda arrays, options: _softmax(_turned(arrays), options),
    "free_energy": lambda arrays, options: -_logsumexp(_turned(arrays), options),
}


def adapter(compiled):
    return {name: _vjp.member(f, compiled) for name, f in FUNCTIONS.items()}
