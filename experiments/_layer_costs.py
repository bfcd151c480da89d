"""Time and memory of a linear layer's loss with its gradient: all logits at once, and blocks of them.

Programs run round-robin, in alternating direction; a ratio is that of two times in the same round.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jsoftmax import linear_softmax_cross_entropy, softmax_cross_entropy_with_integer_labels

DENSE, DEFAULT, MARK = "dense", "default", "×"
WARM_UP = 1


def name_of(block):
    """Of a `block_size`."""
    return DEFAULT if block is None else str(block) if isinstance(block, int) else MARK.join(map(str, block))


def _dense(x, weight, labels):
    return softmax_cross_entropy_with_integer_labels(x @ weight.T, labels).mean()


def _fused(block, x, weight, labels):
    return linear_softmax_cross_entropy(x, weight, labels, class_axis=0, reduction="mean", block_size=block)


def programs(tokens, width, classes, blocks):
    """{name: (a call without arguments, bytes of temporaries)}: loss and gradients in inputs and weight [V, D]."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((tokens, width), np.float32))
    weight = jnp.asarray(rng.standard_normal((classes, width), np.float32) / np.float32(width**0.5))
    labels = jnp.asarray(rng.integers(0, classes, tokens, np.int32))
    losses, found = {DENSE: _dense} | {name_of(b): functools.partial(_fused, b) for b in blocks}, {}
    for name, loss in losses.items():
        program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(x, weight, labels).compile()
        call = functools.partial(program, x, weight, labels)
        found[name] = call, program.memory_analysis().temp_size_in_bytes
    return found


def timed(found, rounds, description):
    """Yields, after each round, the seconds of every program in every round so far."""
    times = {name: [] for name in found}
    for i in tqdm(range(WARM_UP + rounds), desc=description, unit="round", leave=False):
        for name, (call, _) in list(found.items())[:: 1 if i % 2 else -1]:
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - started)
        if i >= WARM_UP:
            yield {name: np.array(t[WARM_UP:]) for name, t in times.items()}


def spread(values):
    return dict(zip(("median", "p20", "p80"), np.percentile(values, (50, 20, 80)), strict=True))


def measure(tokens, width, classes, blocks, rounds):
    """Yields, after each round, the results of the rounds so far, the dense program first."""
    found = programs(tokens, width, classes, blocks)
    for times in timed(found, rounds, f"timing {tokens} × {width} × {classes}"):
        yield {
            "tokens": tokens,
            "width": width,
            "classes": classes,
            "rounds": len(times[DENSE]),
            "programs": [
                {
                    "name": name,
                    "temporary_bytes": memory,
                    "seconds": spread(times[name]),
                    "ratio": spread(times[name] / times[DENSE]),
                }
                for name, (_, memory) in found.items()
            ],
        }
