"""What is timed: a function compiled ahead of time, or called eagerly, and its arguments.

With fresh outputs each call writes memory that the allocator has just got, and a large array costs more page faults
than arithmetic. "Donated" is a training step's case, where the gradient takes the place of the logits: the program may
overwrite them. Each such call then needs logits of its own. They are copied, and the copy awaited, before the clock
starts, in the same way for ours, for the rivals and for the in-place yardstick: all of them find their input just
written and their output's pages present. Only what returns one array of the logits' shape is measured so.
"""

import itertools
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

MODES = VALUE, GRADIENT = ("value", "value and gradient")
IN_PLACE = ", donated"
OURS, TORCH, YARDSTICK = "jsoftmax", "torch", "yardstick"
COMPILED, CUDNN, TOKAMAX, CHUNKED = "torch.compile", "jax.nn, cuDNN", "tokamax", "tokamax, chunked"
LIGER, CCE, QUACK = "liger-kernel", "cut-cross-entropy", "quack-kernels"
OF_TORCH = (TORCH, COMPILED, LIGER, CCE, QUACK)  # tensors of torch, on its streams
KERNELS = (COMPILED, LIGER, CCE, QUACK, CUDNN, TOKAMAX, CHUNKED)  # of others, not for every machine and every array
YARDSTICKS = COPY, COPY_IN_PLACE, READ, MATMUL = ("copy", "in-place copy", "read", "matmul")


class Key(NamedTuple):
    operator: str
    variant: str
    mode: str
    function: str


class Program(NamedTuple):
    run: Callable[..., Any]
    arguments: Callable[[], list[Any]]  # called before the clock starts
    temp_bytes: int | None = None
    floor_bytes: int | None = None  # every argument read once, every result written once
    fresh: bool = False  # whether it returns a new array as large as the logits
    compile_seconds: float | None = None  # to trace, lower and compile it, once
    wait: Callable[..., Any] = jax.block_until_ready  # for a result


_copied = jax.jit(jnp.copy)


def compiled(f, arguments, donated=None):
    """The program of f(*arguments); `donated` is the position of the argument that it may overwrite.

    Traced anew, as JAX does a function that it has not seen; what that calls under jit may have been traced already.
    """
    started = time.perf_counter()
    lowered = jax.jit(lambda *operands: f(*operands), donate_argnums=() if donated is None else donated).lower(
        *arguments
    )
    program, results = lowered.compile(), jax.tree.leaves(lowered.out_info)
    compile_seconds = time.perf_counter() - started

    others = rotated(arguments)

    def given():
        return [_copied(a) if i == donated else a for i, a in enumerate(next(others))]

    moved = sum(math.prod(a.shape) * a.dtype.itemsize for a in (*arguments, *results))
    fresh = donated is None and max(math.prod(a.shape) for a in results) >= max(a.size for a in arguments)
    return Program(program, given, program.memory_analysis().temp_size_in_bytes, moved, fresh, compile_seconds)


COLD = 2**28  # bytes: several times what the caches of a GPU hold


def rotated(arguments):
    """The arguments again and again; on a GPU copies in turn, so many that no call finds its own in a cache."""
    copies = 1
    if jax.default_backend() == "gpu":
        copies = max(1, math.ceil(COLD / sum(a.nbytes for a in arguments)))
    return itertools.cycle([arguments, *([_copied(a) for a in arguments] for _ in range(copies - 1))])


def add(found, key, f, arguments):
    """The compiled program of f(*arguments) to `found`, unless it is a kernel of others that cannot be compiled."""
    try:
        found[key] = compiled(f, arguments)
    except Exception as error:
        if key.function not in KERNELS:
            raise
        left_out(key, error)


def left_out(key, error):
    said = str(error).strip().partition("\n")[0][:200]
    tqdm.write(f"LEFT OUT: {key.function}, {key.operator}, {key.mode}: {type(error).__name__}: {said}")


def normal(number, shape, dtype):
    """Standard normal numbers, drawn where JAX runs: for the logits of a vocabulary the host takes a minute."""
    return jax.jit(lambda key: jax.random.normal(key, shape, jnp.float32).astype(dtype))(jax.random.key(number))


def as_it_is(f, arguments, wait=jax.block_until_ready):
    return Program(f, lambda: arguments, wait=wait)


def yardsticks(x):
    """A copy into fresh memory, one in place, and a read, each of `x`. A half is no 1 in any dtype: XLA drops that."""
    return {
        Key(YARDSTICK, "", VALUE, COPY): compiled(lambda x: x + 1, [x]),
        Key(YARDSTICK, "", VALUE, COPY_IN_PLACE): compiled(lambda x: x * 0.5, [x], 0),
        Key(YARDSTICK, "", VALUE, READ): compiled(jnp.sum, [x]),
    }


def has_torch():
    """PyTorch is a rival where it runs on the same device."""
    if find_spec("torch") is None or jax.default_backend() not in ("cpu", "gpu"):
        return False
    import torch

    return jax.default_backend() == "cpu" or torch.cuda.is_available()
