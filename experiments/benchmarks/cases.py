"""The programs of the cases of `operators`, on the logits of one workload."""

import jax
import jax.numpy as jnp
from tqdm import tqdm

from experiments.benchmarks import programs as p
from experiments.benchmarks.autodiff import AUTODIFF
from experiments.benchmarks.operators import CASES, with_gradient


def arrays(shape, dtype):
    """What the programs take, classes on axis 1; the distribution and the cotangent are as large as the logits."""
    rows = shape[:1] + shape[2:]
    return {
        "x": p.normal(0, shape, dtype),
        "index": jax.random.randint(jax.random.key(1), rows, 0, shape[1]),
        "distribution": jax.nn.softmax(p.normal(2, shape, dtype), axis=1),
        "cotangent": p.normal(3, shape, dtype),
        "beta": jnp.asarray(0.7, dtype),
    }


def arguments(case, given):
    labels = CASES[case].labels
    return [given["x"], *([given[labels]] if labels != "none" else []), *([given["beta"]] if case[1] == "β" else [])]


def cotangent(case, given):
    """Random where there is one result a logit; else that of the mean over the rows."""
    result = jax.eval_shape(functions(case)[p.OURS], *arguments(case, given))
    if result.shape == given["x"].shape:
        return given["cotangent"]
    return jnp.full(result.shape, 1 / result.size, result.dtype)


def functions(case):
    """Name → function of arrays, ours first."""
    operator = CASES[case]
    found = {p.OURS: operator.ours, operator.peer_name: operator.peer, "autodiff": AUTODIFF[case]}
    return {name: lambda *taken, f=f: f(*taken, axis=1) for name, f in found.items()}


def modes(f, x, g, taken, in_place):
    """Yields (mode, function, arguments, position of the donated logits or None)."""
    yield p.VALUE, f, taken, None
    yield p.GRADIENT, with_gradient(f), [g, *taken], None
    if in_place and g.shape == x.shape:
        yield p.VALUE + p.IN_PLACE, f, taken, 0
    elif in_place:
        yield p.GRADIENT + p.IN_PLACE, with_gradient(f), [g, *taken], 1


def programs(workload, dtype, cases, in_place):
    """Key → program of the cases, of those `in_place` also with donated logits; ours beside JAX's, torch's at the end.

    The eager calls have one yardstick and are not compared with torch's: that would be the dispatch of two frameworks.
    """
    given, eager = arrays(workload.shape, dtype), workload.kind == "eager"
    copy = p.Key(p.YARDSTICK, "", p.VALUE, p.COPY)
    found = {copy: p.as_it_is(lambda x: x + 1, [given["x"]])} if eager else p.yardsticks(given["x"])
    for case in tqdm(cases, desc=f"preparing {workload.name}, {dtype}", unit="case", leave=False):
        taken, g = arguments(case, given), cotangent(case, given)
        for name, f in functions(case).items():
            for mode, run, operands, donated in modes(f, given["x"], g, taken, case in in_place):
                key = p.Key(*case, mode, name)
                found[key] = p.as_it_is(run, operands) if eager else p.compiled(run, operands, donated)
    return found | (by_torch(cases, given) if p.has_torch() and not eager else {})


def by_torch(cases, given):
    from experiments.benchmarks import torch_rivals as torch

    tensors, found = {name: torch.tensor(a) for name, a in given.items()}, {}
    for case in cases:
        g = cotangent(case, given)
        g = tensors["cotangent"] if g is given["cotangent"] else torch.tensor(g)
        for name, f in torch.functions(case).items():
            operands = torch.own(name, arguments(case, tensors))
            found[p.Key(*case, p.VALUE, name)] = p.as_it_is(torch.value(f), operands, torch.wait)
            found[p.Key(*case, p.GRADIENT, name)] = p.as_it_is(torch.with_gradient(f), [g, *operands], torch.wait)
    return found
