"""PyTorch, eager and on a GPU compiled too, and kernels that are written for it: the same cases, keyed as
`operators.CASES`, on tensors of the device on which JAX runs.

Imported only where torch is installed. Its cross-entropy has the classes on axis 1, as all workloads have them.
"""

from importlib.util import find_spec

import jax
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
    """A copy of a JAX array; torch wants labels of 64 bits, and NumPy has no bfloat16 of its own."""
    if np.issubdtype(array.dtype, np.integer):
        return torch.tensor(np.asarray(array, np.int64), device=device())
    return torch.tensor(np.asarray(array, np.float32), device=device()).to(getattr(torch, str(array.dtype)))


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
        found[p.COMPILED] = torch.compile(found[p.TORCH])
        found |= {name: rival for name, rival in _kernels(case).items() if rival}
    return found


def _kernels(case):
    """Triton and CuTe kernels, where their packages are at hand."""
    found = {}
    if find_spec("liger_kernel"):
        from liger_kernel.transformers import functional as liger

        found["liger-kernel"] = {
            ("softmax", ""): liger.liger_softmax,
            (INTEGER, ""): lambda x, labels: liger.liger_cross_entropy(x, labels, reduction="none"),
            (LINEAR, ""): lambda x, w, labels: liger.liger_fused_linear_cross_entropy(x, w.T, labels),
        }.get(case)
    if find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        found["cut-cross-entropy"] = {(LINEAR, ""): lambda x, w, labels: linear_cross_entropy(x, w.T, labels)}.get(case)
    if find_spec("quack"):
        from quack.cross_entropy import cross_entropy
        from quack.softmax import softmax

        found["quack-kernels"] = {("softmax", ""): softmax, (INTEGER, ""): cross_entropy}.get(case)
    return found


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
