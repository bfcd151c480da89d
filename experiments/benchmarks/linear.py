"""The linear loss, mean over rows of the integer cross-entropy of inputs @ weight, beside its rivals.

Each is a function of (inputs, weight, labels). One that stores the weight with the classes first gets it so, made
before the clock starts, and its gradient stays so.

tokamax has two functions, of which the one that it takes by itself stores every logit on GPU and CPU.
"""

import functools
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import optax

import jsoftmax
from experiments.benchmarks import programs as p
from experiments.benchmarks.workloads import LINEAR

CLASSES_FIRST = ("jax-cce", p.LIGER, p.CCE, p.QUACK)


def reduced(inputs, weight, labels):
    return jsoftmax.linear_softmax_cross_entropy(inputs, weight, labels, reduction="mean")


def unreduced(inputs, weight, labels):
    """A mean of one's own: the gradient needs each block of logits a second time."""
    return jnp.mean(jsoftmax.linear_softmax_cross_entropy(inputs, weight, labels))


CASES = {(LINEAR, ""): reduced, (LINEAR, "unreduced"): unreduced}


def matmul(inputs, weight):
    return jnp.matmul(inputs, weight, preferred_element_type=jnp.float32)


def naive(inputs, weight, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(matmul(inputs, weight), labels))


def _jax_cce(inputs, weight, labels):
    import jax_cce

    return jax_cce.linear_cross_entropy(inputs, weight, labels)


def _tokamax(inputs, weight, labels, implementation=None):
    import tokamax

    loss = tokamax.linear_softmax_cross_entropy_loss
    return loss(inputs, labels, weight, reduction="mean", implementation=implementation)


def functions(case):
    """Name → function, ours first."""
    found = {p.OURS: CASES[case], "matmul + optax": naive}
    if find_spec("jax_cce"):
        found["jax-cce"] = _jax_cce
    if find_spec("tokamax"):
        found |= {p.TOKAMAX: _tokamax, p.CHUNKED: functools.partial(_tokamax, implementation="chunked_xla")}
    return found


def arrays(shape, dtype):
    n, d, v = shape
    weight = p.normal(1, (d, v), jnp.float32) / jnp.sqrt(jnp.float32(d))  # logits of size 1
    return p.normal(0, (n, d), dtype), weight.astype(dtype), jax.random.randint(jax.random.key(2), (n,), 0, v)


def programs(workload, dtype, cases):
    """Key → program: values, and values with the gradients in inputs and weight."""
    inputs, weight, labels = arrays(workload.shape, dtype)
    found = p.yardsticks(weight)
    found[p.Key(p.YARDSTICK, "", p.VALUE, p.MATMUL)] = p.compiled(matmul, [inputs, weight])
    for case in cases:
        for name, f in functions(case).items():
            taken = [inputs, weight.T if name in CLASSES_FIRST else weight, labels]
            p.add(found, p.Key(*case, p.VALUE, name), f, taken)
            p.add(found, p.Key(*case, p.GRADIENT, name), jax.value_and_grad(f, (0, 1)), taken)
    for case in cases if p.has_torch() else ():
        found |= by_torch(case, inputs, weight, labels)
    return found


def by_torch(case, inputs, weight, labels):
    from experiments.benchmarks import torch_rivals as torch

    found = {}
    layouts = {first: [torch.tensor(a) for a in (inputs, weight.T if first else weight, labels)] for first in (0, 1)}
    for name, f in torch.functions((LINEAR, "")).items():
        operands = layouts[name in CLASSES_FIRST]
        found[p.Key(*case, p.VALUE, name)] = p.as_it_is(torch.value(f), operands, torch.wait)
        run = torch.with_gradient(f, differentiated=2)
        found[p.Key(*case, p.GRADIENT, name)] = p.as_it_is(run, [torch.one(), *operands], torch.wait)
    return found
