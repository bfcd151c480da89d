"""How an operator carries its derivative: a hand-written VJP, or its own primal inside `forward_mode()`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import CustomVJPPrimal

_forward_mode = jax.make_user_context(False)


def forward_mode():
    """Context in which every operator can be differentiated forward.

    Operators carry a `jax.custom_vjp`, which JAX cannot push forward: `jax.jvp`, `jax.jacfwd` and `jax.linearize`
    raise its TypeError. Inside this context the operators run their primal, whose formulas are closed under
    differentiation in both modes. Values are the same; reverse mode works there too and saves more.

    The context is part of the key of JAX's compilation caches, so code compiled inside and outside never mixes.
    `jax.hessian`, which is forward over reverse, works without it.

    Returns:
      a context manager.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> with jsoftmax.forward_mode():
      ...     jax.jacfwd(jsoftmax.logsumexp)(jnp.zeros(4))
      Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _forward_mode(True)


def with_vjp(
    primal: Callable[..., Any],
    fwd: Callable[..., Any],
    bwd: Callable[..., Any],
    static: tuple[int, ...],
    told: bool = False,
) -> Callable[..., Any]:
    """`primal` with the reverse rule (fwd, bwd); the arguments at the positions `static` are hashable constants.

    If `told`, fwd takes first which arguments are differentiated, a tuple of trees of booleans, and bwd may be given a
    `SymbolicZero`.
    """
    ruled, first = jax.custom_vjp(primal, nondiff_argnums=static), _whole(fwd)
    ruled.defvjp(functools.partial(_telling, first) if told else first, _whole(bwd), symbolic_zeros=told)

    @functools.wraps(primal)
    def operator(*args):
        return _whole(primal)(*args) if _forward_mode.value else ruled(*args)

    return operator


def _whole(f):
    """`f`, which no loop takes apart.

    Where JAX 0.10 looks in the body of a `scan` for what is the same in every turn, it writes out the functions that
    are closed under differentiation, and further derivatives are those of their formulas. It leaves alone what is to
    be computed again for a derivative.
    """

    def run(*args):
        leaves, tree = jax.tree.flatten(args)
        given = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        about: list[Any] = []

        def made(arrays):
            """What `f` makes; what it hands on as it is, JAX would take for something new."""
            rest = iter(arrays)
            results = f(*jax.tree.unflatten(tree, [next(rest) if isinstance(a, jax.Array) else a for a in leaves]))
            found, form = jax.tree.flatten(results)
            handed_on = [next((i for i, a in enumerate(arrays) if a is result), None) for result in found]
            about[:] = form, handed_on
            return [result for result, i in zip(found, handed_on, strict=True) if i is None]

        new = iter(jax.checkpoint(made, prevent_cse=False)(given))
        form, handed_on = about
        return jax.tree.unflatten(form, [next(new) if i is None else given[i] for i in handed_on])

    return run


def _telling(fwd, *args):
    def is_told(a):
        return isinstance(a, CustomVJPPrimal)

    wanted = jax.tree.map(lambda a: a.perturbed if is_told(a) else False, args, is_leaf=is_told)
    return fwd(wanted, *jax.tree.map(lambda a: a.value if is_told(a) else a, args, is_leaf=is_told))
