"""The adapter of PyTorch on CPU: β and masks where a user would write them, β x and −∞."""

import math

import torch
from torch.nn import functional

from experiments.conformance.run import Unsupported


def _member(f):
    def answer(case):
        tensors = {
            name: torch.tensor(a.tolist(), dtype=getattr(torch, case.dtypes[name])) for name, a in case.inputs.items()
        }
        for name in case.gradients:
            tensors[name].requires_grad_()
        value = f(tensors, dict(case.options))
        g = torch.tensor(case.cotangent.tolist(), dtype=value.dtype)
        wanted = [tensors[name] for name in case.gradients]
        bars = torch.autograd.grad(value, wanted, g, allow_unused=True)
        zeros = [torch.zeros_like(t) if bar is None else bar for t, bar in zip(wanted, bars, strict=True)]
        return _numbers(value), dict(zip(case.gradients, map(_numbers, zeros), strict=True))

    return answer


def _numbers(tensor):
    """(array, name of the dtype): NumPy has no bfloat16."""
    return tensor.detach().double().numpy(), str(tensor.dtype).removeprefix("torch.")


def _logits(tensors, name="x"):
    x = tensors[name]
    if "beta" in tensors:
        beta = tensors["beta"].to(x.dtype)
        x = (beta[..., None] if beta.ndim and beta.ndim < x.ndim else beta) * x
    return x.masked_fill(~tensors["where"], -math.inf) if "where" in tensors else x


def _one_axis(options):
    axis = options.get("axis", -1)
    if not isinstance(axis, int):
        raise Unsupported("one axis of classes only")
    return axis


def _softmax(tensors, options):
    return torch.softmax(_logits(tensors), _one_axis(options))


def _log_softmax(tensors, options):
    return torch.log_softmax(_logits(tensors), _one_axis(options))


def _logsumexp(tensors, options):
    if "b" in tensors:
        raise Unsupported("no b")
    result = torch.logsumexp(_logits(tensors), options.get("axis", -1), keepdim=options.get("keepdims", False))
    return result / tensors["beta"].to(result.dtype) if "beta" in tensors else result


def _entropy(tensors, options):
    if options.get("axis", -1) != -1 or "keepdims" in options:
        raise Unsupported("the last axis, without keepdims")
    return torch.distributions.Categorical(logits=_logits(tensors, "logits"), validate_args=False).entropy()


def _kl_divergence(tensors, options):
    log_p, log_q = (torch.log_softmax(_logits(tensors, name), -1) for name in ("logits_p", "logits_q"))
    terms = functional.kl_div(log_q, log_p, log_target=True, reduction="none")
    return (terms.masked_fill(~tensors["where"], 0) if "where" in tensors else terms).sum(-1)


def _cross_entropy(tensors, options):
    """F.cross_entropy, which has classes on axis 1 and the label smoothing as a number."""
    if "z_loss" in tensors:
        raise Unsupported("no z_loss")
    axis = _one_axis(options)
    x, labels = _logits(tensors, "logits").movedim(axis, -1), tensors["labels"]
    distribution = labels.is_floating_point()
    labels = labels.movedim(axis, -1) if distribution else labels.long()
    given = {"ignore_index": options["ignore_label"]} if "ignore_label" in options else {}
    if "label_smoothing" in tensors:
        given["label_smoothing"] = tensors["label_smoothing"].item()
    flat = labels.reshape(-1, x.shape[-1]) if distribution else labels.reshape(-1)
    losses = functional.cross_entropy(
        x.reshape(-1, x.shape[-1]), flat, tensors.get("class_weights"), reduction="none", **given
    )
    return losses.reshape(x.shape[:-1])


def _without_slopes(f):
    """The label smoothing is a number there, and class weights are no variables: what is not asked for is missing."""

    def answer(case):
        constant = {"label_smoothing", "class_weights"} & set(case.gradients)
        asked = {k: v for k, v in case.gradients.items() if k not in constant}
        return _member(f)(case._replace(gradients=asked))

    return answer


def _turned(tensors):
    return {"x": -tensors["energies"]} | {k: v for k, v in tensors.items() if k != "energies"}


def adapter():
    return {
        "softmax": _member(_softmax),
        "log_softmax": _member(_log_softmax),
        "logsumexp": _member(_logsumexp),
        "entropy": _member(_entropy),
        "kl_divergence": _member(_kl_divergence),
        "softmax_cross_entropy": _without_slopes(_cross_entropy),
        "softmax_cross_entropy_with_integer_labels": _without_slopes(_cross_entropy),
        "boltzmann": _member(lambda tensors, options: _softmax(_turned(tensors), options)),
        "free_energy": _member(lambda tensors, options: -_logsumexp(_turned(tensors), options)),
    }
