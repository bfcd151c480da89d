"""A function of JAX as a member of an adapter: value and gradients, as it is called or under `jax.jit`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def member(f, compiled):
    """The member of an adapter that calls f(arrays, options), a dict of JAX arrays and one of static options."""

    def answer(case):
        with jax.enable_x64("float64" in case.dtypes.values()):
            arrays = {name: jnp.asarray(a, case.dtypes[name]) for name, a in case.inputs.items()}
            options = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in case.options.items())
            g = jnp.asarray(case.cotangent, case.value.dtype)
            value, bars = _program(f, options, tuple(case.gradients), compiled)(arrays, g)
            return np.asarray(value), {name: np.asarray(bar) for name, bar in bars.items()}

    return answer


@functools.cache
def _program(f, options, differentiable, compiled):
    def value_and_gradients(arrays, g):
        rest = {k: v for k, v in arrays.items() if k not in differentiable}
        value, pull = jax.vjp(lambda d: f(d | rest, dict(options)), {k: arrays[k] for k in differentiable})
        return value, pull(g.astype(value.dtype))[0]

    return jax.jit(value_and_gradients) if compiled else value_and_gradients
