"""PyTorch, eager and on a GPU compiled too, and kernels that are written for it: the same cases, keyed as
`operators.CASES`, on tensors of the device on which JAX runs.

Imported only where torch is installed. Its cross-entropy has the classes on axis 1, as all workloads have them.
"""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from experiments.benchmarks import programs as p
from experiments.benchmarks.operators import IGNORED, SMOOTHING, Z_LOSS
from experiments.benchmarks.workloads import CROSS_ENTROPY, INTEGER, LINEAR, SPATIAL


def _losses(x, labels, **options):
    return F.cross_entropy(x, labels, reduction="none", **options)


def _squared_log_partition(x):
    return torch.logsumexp(x, 1) ** 2


def _all_options(x, labels):
    weights = torch.tensor((0.5, 1.5), dtype=x.dtype, device=x.device).repeat(x.shape[1] // 2 + 1)[: x.shape[1]]
    return _losses(x, labels, weight=weights, label_smoothing=SMOOTHING) + Z_LOSS * _squared_log_partition(x)


FUNCTIONS = {
    ("softmax", ""): lambda x: torch.softmax(x, 1),
    ("softmax", "β"): lambda x, beta: torch.softmax(beta * x, 1),
    ("log_softmax", ""): lambda x: torch.log_softmax(x, 1),
    ("logsumexp", ""): lambda x: torch.logsumexp(x, 1),
    ("logsumexp", "β"): lambda x, beta: torch.logsumexp(beta * x, 1) / beta,
    ("logmeanexp", ""): lambda x: torch.logsumexp(x, 1) - np.log(x.shape[1]),
    (CROSS_ENTROPY, ""): _losses,
    (INTEGER, ""): _losses,
    (INTEGER, "β"): lambda x, labels, beta: _losses(beta * x, labels),
    (INTEGER, "ignored label"): lambda x, labels: _losses(x, labels, ignore_index=IGNORED),
    (INTEGER, "smoothing"): lambda x, labels: _losses(x, labels, label_smoothing=SMOOTHING),
    (INTEGER, "z-loss"): lambda x, labels: _losses(x, labels) + Z_LOSS * _squared_log_partition(x),
    (INTEGER, "all options"): _all_options,
    (SPATIAL, ""): F.cross_entropy,
}


def linear(inputs, weight, labels):
    return F.cross_entropy(inputs @ weight, labels)


def attention(is_causal):
    """On [batch, queries, heads, features], of which torch has the middle axes the other way round."""

    def run(*operands):
        turned = (a.transpose(1, 2) for a in operands)
        return F.scaled_dot_product_attention(*turned, is_causal=is_causal).transpose(1, 2)

    return run


def tensor(array):
    """A copy of a JAX array where it is; torch wants labels of 64 bits."""
    copied = torch.from_dlpack(array).clone()
    return copied.long() if jnp.issubdtype(array.dtype, jnp.integer) else copied


def own(name, operands):
    """For a function that writes its gradient over the logits, copies that no other function reads."""
    return [a.clone() for a in operands] if name == p.LIGER else operands


def device():
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def wait(result):
    if device() == "cuda":
        torch.cuda.synchronize()
    return result


def functions(case):
    """Name → function of tensors, of all that are installed; compiled and hand-written ones on a GPU."""
    found = {p.TORCH: linear if case[0] == LINEAR else FUNCTIONS[case]}
    if device() == "cuda":
        torch._dynamo.reset()  # of a function that it has compiled eight times it runs the original
        found[p.COMPILED] = torch.compile(found[p.TORCH], dynamic=False)
        found |= _kernels(case)
    return found


def _liger():
    from liger_kernel.transformers import functional as liger

    return {
        ("softmax", ""): liger.liger_softmax,
        (INTEGER, ""): lambda x, labels: liger.liger_cross_entropy(x, labels, reduction="none"),
        (LINEAR, ""): liger.liger_fused_linear_cross_entropy,
    }


def _cut():
    from cut_cross_entropy import linear_cross_entropy

    return {(LINEAR, ""): linear_cross_entropy}


def _quack():
    from quack.cross_entropy import cross_entropy
    from quack.linear_cross_entropy import chunked_linear_cross_entropy
    from quack.softmax import softmax

    return {
        ("softmax", ""): softmax,
        (INTEGER, ""): lambda x, labels: cross_entropy(x, labels, reduction="none"),
        (LINEAR, ""): chunked_linear_cross_entropy,
    }


KERNELS = {p.LIGER: ("liger_kernel", _liger), p.CCE: ("cut_cross_entropy", _cut), p.QUACK: ("quack", _quack)}


def _kernels(case):
    """Triton and CuTe kernels, where their packages are at hand."""
    found = {}
    for name, (package, functions) in KERNELS.items():
        try:
            found[name] = functions().get(case) if find_spec(package) else None
        except ImportError as error:  # of what it needs beside
            p.left_out(p.Key(*case, "", name), error)
    return {name: f for name, f in found.items() if f}


def value(f):
    return torch.no_grad()(f)


def with_gradient(f, differentiated=1):
    """(g, x, …) → (f(x, …), gradient of ⟨g, f(x, …)⟩ in the first `differentiated` arguments)."""

    def run(g, *arguments):
        leaves = [a.detach().requires_grad_() for a in arguments[:differentiated]]
        result = f(*leaves, *arguments[differentiated:])
        return result.detach(), *torch.autograd.grad(result, leaves, g.to(result.dtype))

    return run


def one():
    """The cotangent of a mean."""
    return torch.ones((), device=device())
