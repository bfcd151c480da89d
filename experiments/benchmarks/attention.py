"""Attention beside jax.nn's, beside its formula under autodiff and, where installed, torch's.

Each is a function of (query, key, value), [batch, queries, heads, features].
"""

import functools
import math
from importlib.util import find_spec

import jax
import jax.numpy as jnp

import jsoftmax
from experiments.benchmarks import programs as p
from experiments.benchmarks.operators import with_gradient

ATTENTION, CAUSAL = "dot_product_attention", "causal"
CASES = ((ATTENTION, ""), (ATTENTION, CAUSAL))


def formula(query, key, value, is_causal=False):
    z = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32) / math.sqrt(query.shape[-1])
    z = jnp.where(jnp.tri(*z.shape[2:], dtype=bool), z, -jnp.inf) if is_causal else z
    return jnp.einsum("bnts,bsnv->btnv", jax.nn.softmax(z).astype(value.dtype), value)


def functions():
    """Name → function, ours first; cuDNN's kernel on a GPU, which jax.nn takes only where it is told to."""
    found = {p.OURS: jsoftmax.dot_product_attention, "jax.nn": jax.nn.dot_product_attention, "autodiff": formula}
    if jax.default_backend() == "gpu":
        found[p.CUDNN] = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    if find_spec("tokamax"):
        import tokamax

        found[p.TOKAMAX] = tokamax.dot_product_attention
    return found


def matmul(query, key, value):
    """The two products of the value alone; with the gradients there are six, and those of blocks made again."""
    z = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32)
    return jnp.einsum("bnts,bsnv->btnv", z.astype(value.dtype), value)


def arrays(shape, dtype):
    return [p.normal(number, shape, dtype) for number in range(4)]


def programs(workload, dtype, cases):
    """Key → program: values, and values with the gradients in all three."""
    g, *taken = arrays(workload.shape, dtype)
    found = p.yardsticks(g)
    found[p.Key(p.YARDSTICK, "", p.VALUE, p.MATMUL)] = p.compiled(matmul, taken)
    for case in cases:
        for name, f in functions().items():
            run = functools.partial(f, is_causal=case[1] == CAUSAL)
            p.add(found, p.Key(*case, p.VALUE, name), run, taken)
            p.add(found, p.Key(*case, p.GRADIENT, name), with_gradient(run, 3), [g, *taken])
    return found | (by_torch(cases, g, taken) if p.has_torch() else {})


def by_torch(cases, g, taken):
    from experiments.benchmarks import torch_rivals as torch

    g, *taken = (torch.tensor(a) for a in (g, *taken))
    found = {}
    for case in cases:
        f = torch.attention(case[1] == CAUSAL)
        found[p.Key(*case, p.VALUE, p.TORCH)] = p.as_it_is(torch.value(f), taken, torch.wait)
        found[p.Key(*case, p.GRADIENT, p.TORCH)] = p.as_it_is(torch.with_gradient(f, 3), [g, *taken], torch.wait)
    return found
