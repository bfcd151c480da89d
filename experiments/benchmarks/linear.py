"""The linear loss, mean over rows of the integer cross-entropy of inputs @ weight, beside its rivals.

Each is a function of (inputs, weight, labels). One that stores the weight with the classes first gets it so, made
before the clock starts, and its gradient stays so.

tokamax is not among them: it asks for a typeguard older than tyro's, and all that it has beside kernels for TPU and GPU
is the product with every logit stored, which is `naive`.
"""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsoftmax
from experiments.benchmarks import programs as p
from experiments.benchmarks.workloads import LINEAR

CLASSES_FIRST = ("jax-cce",)


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


def functions(case):
    """Name → function, ours first."""
    found = {p.OURS: CASES[case], "matmul + optax": naive}
    return found | ({"jax-cce": _jax_cce} if find_spec("jax_cce") else {})


def arrays(shape, dtype):
    n, d, v = shape
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((n, d), np.float32)
    weight = rng.standard_normal((d, v), np.float32) / np.float32(np.sqrt(d))  # logits of size 1
    return jnp.asarray(inputs, dtype), jnp.asarray(weight, dtype), jnp.asarray(rng.integers(0, v, n, np.int32))


def programs(workload, dtype, cases):
    """Key → program: values, and values with the gradients in inputs and weight."""
    inputs, weight, labels = arrays(workload.shape, dtype)
    found = p.yardsticks(weight)
    found[p.Key(p.YARDSTICK, "", p.VALUE, p.MATMUL)] = p.compiled(matmul, [inputs, weight])
    for case in cases:
        for name, f in functions(case).items():
            taken = [inputs, weight.T if name in CLASSES_FIRST else weight, labels]
            found[p.Key(*case, p.VALUE, name)] = p.compiled(f, taken)
            found[p.Key(*case, p.GRADIENT, name)] = p.compiled(jax.value_and_grad(f, (0, 1)), taken)
    for case in cases if p.has_torch() else ():
        found |= by_torch(case, inputs, weight, labels)
    return found


def by_torch(case, *taken):
    from experiments.benchmarks import torch_rivals as torch

    operands, found = [torch.tensor(a) for a in taken], {}
    for name, f in torch.functions((LINEAR, "")).items():
        found[p.Key(*case, p.VALUE, name)] = p.as_it_is(torch.value(f), operands, torch.wait)
        run = torch.with_gradient(f, differentiated=2)
        found[p.Key(*case, p.GRADIENT, name)] = p.as_it_is(run, [torch.one(), *operands], torch.wait)
    return found
