"""Hierarchical softmax over a tree: a class is a path from the root, and a decision at each node on it.

    z_n  =  ⟨v_n, x⟩ + b_n              p(1 | n) = softmax(β (0, z_n))_1 = σ(β z_n)         in a binary tree
    z_k  =  ⟨v_k, x⟩ + b_k              p(c | n) = softmax(β z)_c over the children k of n      in any other
    p(w)  =  Π_l p(c_l | n_l)           over the nodes n_l on the path of w and the turns c_l             (1)
    ℓ(w)  =  −Σ_l log p(c_l | n_l)                                                                        (2)

    z̄  =  β g (p − δ_c)                 x̄ = Σ z̄ v            v̄ = Σ z̄ x over the paths that pass            (3)

Whatever the parameters are, the probabilities of all leaves sum to 1. A decision is the integer cross-entropy of the
logits of its turns, with all that it promises: its rule gives z̄, and the gradient in β. Paths are gone through turn by
turn, so that no more than one vector is there for each example.
"""

import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsoftmax._core import axes as ax
from jsoftmax._core import check, dtypes, mesh, trees
from jsoftmax._core.check import Operand
from jsoftmax._core.labels import as_int32, is_class, is_ignored
from jsoftmax._core.rule import with_vjp
from jsoftmax._core.temperature import inverse_temperature
from jsoftmax._core.trees import Tree
from jsoftmax._ops.cross_entropy import index_pull, index_value, poison
from jsoftmax._ops.softmax import log_softmax_of
from jsoftmax._partition import chosen
from jsoftmax._partition.penalties import Options

PLAIN, TURNS = Options(None, None, None), (0,)  # two logits on axis 0: what follows is elementwise over all others


def huffman_tree(counts: ArrayLike, *, max_length: int | None = None) -> Tree:
    """The binary tree of least expected path length for classes with these counts.

    Args:
      counts: V numbers ≥ 0, how often each class occurs; on the host. Zeros are allowed, and equal counts give a
        balanced tree.
      max_length: length of the longest path. The tree is then the best of those (package-merge); without it paths can
        be as long as V − 1, and the tables as large as V (V − 1), for counts that fall geometrically.

    Returns:
      a `Tree` of arrays [V, L]. Inner nodes are numbered level by level from the root, 0; a class by itself has an
      empty path. Codes are canonical: on each level leaves come first, in the order of the classes.

    Raises:
      TypeError: `counts` is not real. ValueError: no class; a negative, infinite or NaN count; 2**max_length < V.

    References: Huffman (1952); Larmore & Hirschberg (1990), doi:10.1145/79147.79150 (package-merge); Mikolov et al.
    (2013), arXiv:1310.4546.

    Examples:
      >>> import jsoftmax
      >>> jsoftmax.huffman_tree([50, 20, 15, 10, 5]).mask.sum(1)
      Array([1, 2, 3, 4, 4], dtype=int32)
    """
    name = "huffman_tree"
    given = check.counts(name, counts)
    if max_length is None:
        return trees.from_lengths(trees.code_lengths(given))
    longest = check.max_length(name, max_length, len(given))
    return trees.from_lengths(trees.limited_code_lengths(given, longest))


def tree_from_codes(codes: Sequence[Sequence[int]]) -> Tree:
    """The binary tree in which each class is reached by the turns of its code.

    Args:
      codes: for each class its turns from the root, 0 or 1: sequences of integers, or strings of the digits.

    Returns:
      a `Tree`; inner nodes are numbered in the order in which the codes come to them.

    Raises:
      TypeError: a turn that is no integer and no digit. ValueError: no code; a turn that is neither 0 nor 1; a code
      twice, or as the beginning of another; a node with one child.

    Examples:
      >>> import jsoftmax
      >>> jsoftmax.tree_from_codes(["0", "10", "11"]).paths
      Array([[0, 0],
             [0, 1],
             [0, 1]], dtype=int32)
    """
    turns = check.codes("tree_from_codes", codes)
    try:
        return trees.from_codes(turns)
    except ValueError as error:
        raise ValueError(f"tree_from_codes: `codes` must be those of a full binary tree, but {error}.") from None


def tree_from_paths(paths: Sequence[Sequence[Hashable]]) -> Tree:
    """The tree in which each class is reached by the steps of its path, with any number of children at a node.

    Each decision is a softmax over the children of a node. Two steps, (group of w, w), are the class-based softmax, a
    softmax over groups and one over the classes of a group.

    Args:
      paths: for each class its steps from the root, any hashable things.

    Returns:
      a `Tree` with `children`; nodes, children and their vectors are numbered in the order in which paths come to them.

    Raises:
      TypeError: steps that are not hashable. ValueError: no path; a path twice, or as the beginning of another.

    References: Goodman (2001), arXiv:cs/0108006 (classes); Mnih & Hinton (2008).

    Examples:
      >>> import jsoftmax
      >>> tree = jsoftmax.tree_from_paths([("animal", "cat"), ("animal", "dog"), ("plant", "oak"), ("stone",)])
      >>> tree.children
      Array([[ 0,  1,  2],
             [ 3,  4, -1],
             [ 5, -1, -1]], dtype=int32)
    """
    steps = check.paths("tree_from_paths", paths)
    try:
        return trees.from_paths(steps)
    except ValueError as error:
        raise ValueError(f"tree_from_paths: `paths` must be those of a tree, but {error}.") from None


def hierarchical_softmax_loss(
    inputs: ArrayLike,
    node_weight: ArrayLike,
    labels: ArrayLike,
    tree: Tree,
    *,
    bias: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
    ignore_label: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of a tree of decisions, which costs log V and not V: `−Σ_l log σ(±β (⟨v_l, x⟩ + b_l))`, in nats.

    The sum is over the nodes on the path of the label, with + where the turn is 1; where a node has any number of
    children it is `−Σ_l log softmax(β (V_l x + b_l))` at the turn, over the vectors of the children.

    Args:
      inputs: real, shape [..., D].
      node_weight: real, [V − 1, D]: a vector for each inner node of a binary tree; [V + M − 1, D], for each child, with
        `tree.children`.
      labels: integers of any width, [...]. None wraps or is clamped, and one that is no class makes its loss NaN.
      tree: a `Tree` over the V classes, of `huffman_tree`, `tree_from_codes`, `tree_from_paths` or one's own. A node
        outside of the table makes the loss NaN.
      bias: real, one for each vector.
      beta: inverse temperature of every decision, any real or ±inf; a scalar, or an array that broadcasts to the
        result. At 0 a path of L turns has probability 2⁻ᴸ.
      temperature, base: T = 1/β or e^β instead of `beta`.
      ignore_label: examples with this label have loss 0 and gradient 0, whatever they hold.

    Returns:
      losses, the shape of `labels`, float32 or wider; 0 where there is one class only.

    Raises:
      TypeError: `inputs`, `node_weight` or `bias` is not real, `labels` are not integers, `tree` is no `Tree`.
      ValueError: shapes that do not fit; two of beta, temperature, base.

    Derivatives: reverse mode in `inputs`, `node_weight`, `bias` and `beta`, `temperature` or `base`, to any order;
    forward mode inside `forward_mode()`. Only nodes on the paths get a gradient, the others 0; an example whose
    cotangent is 0 has gradient 0, also when it is NaN. Saves `inputs`, `node_weight`, `bias`, β, `labels`, the tree and
    the logits and two numbers a decision, L decisions for each example; vectors are looked up again.

    References: Morin & Bengio (2005); Mnih & Hinton (2008); Mikolov et al. (2013), arXiv:1310.4546.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> tree = jsoftmax.huffman_tree([50, 20, 15, 10, 5])
      >>> jsoftmax.hierarchical_softmax_loss(jnp.ones((2, 3)), jnp.zeros((4, 3)), jnp.array([0, 4]), tree)
      Array([0.6931472, 2.7725887], dtype=float32)
    """
    name = "hierarchical_softmax_loss"
    slope = (beta, temperature, base)
    tree, inputs, node_weight, bias, given, kind = _checked(name, inputs, node_weight, tree, bias, slope)
    labels = check.integer_labels(name, labels, inputs.shape[:-1])
    ignored = check.ignore_label(name, ignore_label)
    return _loss(inputs, node_weight, labels, tree, bias, given, ignored, kind)


def hierarchical_log_prob(
    inputs: ArrayLike,
    node_weight: ArrayLike,
    tree: Tree,
    *,
    bias: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
) -> Array:
    """Log-probabilities of all classes in a tree of decisions, in nats: [..., V], whose exponentials sum to 1.

    One product of inputs and vectors of nodes, and then L additions a class.

    Args:
      inputs, node_weight, tree, bias: as for `hierarchical_softmax_loss`.
      beta, temperature, base: as there; a scalar, or an array that broadcasts to the shape of `inputs` without its last
        axis.

    Returns:
      log-probabilities, [..., V], float32 or wider; 0 where there is one class only. −inf at β = ±inf for classes that
      no tie leads to.

    Raises:
      TypeError: `inputs`, `node_weight` or `bias` is not real, `tree` is no `Tree`. ValueError: shapes that do not fit;
      two of beta, temperature, base.

    Derivatives: reverse mode in `inputs`, `node_weight`, `bias` and `beta`, `temperature` or `base`, to any order;
    forward mode inside `forward_mode()`. Saves `inputs`, `node_weight`, the tree and a few numbers a node for each
    input.

    References: as for `hierarchical_softmax_loss`.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> tree = jsoftmax.tree_from_codes(["0", "10", "11"])
      >>> jnp.exp(jsoftmax.hierarchical_log_prob(jnp.ones(3), jnp.zeros((2, 3)), tree))
      Array([0.5 , 0.25, 0.25], dtype=float32)
    """
    name = "hierarchical_log_prob"
    slope = (beta, temperature, base)
    tree, inputs, node_weight, bias, given, kind = _checked(name, inputs, node_weight, tree, bias, slope)
    return _log_prob(inputs, node_weight, tree, bias, given, kind)


def hierarchical_predict(
    inputs: ArrayLike,
    node_weight: ArrayLike,
    tree: Tree,
    *,
    beam_size: int = 1,
    bias: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The likely classes of a tree of decisions, found by going down from the root: log V and not V.

    Args:
      inputs, node_weight, tree, bias: as for `hierarchical_softmax_loss`.
      beam_size: how many paths are kept on each level. 1 takes the likelier child each time, which need not lead to the
        likeliest class; V finds the order of all classes.
      beta, temperature, base: as for `hierarchical_log_prob`.

    Returns:
      (labels int32, their log-probabilities), both [..., beam_size], the likeliest first; −1 and −inf where there are
      fewer classes than paths or, with NaN, where a decision on the way is NaN.

    Raises:
      TypeError: `inputs`, `node_weight` or `bias` is not real, `tree` is no `Tree`, `beam_size` is no integer.
      ValueError: shapes that do not fit; `beam_size` below 1; two of beta, temperature, base.

    References: as for `hierarchical_softmax_loss`.

    Examples:
      >>> import jax.numpy as jnp, jsoftmax
      >>> tree = jsoftmax.tree_from_codes(["0", "10", "11"])
      >>> jsoftmax.hierarchical_predict(jnp.ones(1), jnp.array([[-1.0], [9.0]]), tree)[0]
      Array([0], dtype=int32)
    """
    name = "hierarchical_predict"
    slope = (beta, temperature, base)
    tree, inputs, node_weight, bias, given, kind = _checked(name, inputs, node_weight, tree, bias, slope)
    size = check.size(name, "beam_size", beam_size)
    return _predict(inputs, node_weight, tree, bias, given, kind, size)


def hierarchical_sample(
    key: Array,
    inputs: ArrayLike,
    node_weight: ArrayLike,
    tree: Tree,
    *,
    bias: ArrayLike | None = None,
    beta: ArrayLike = check.DEFAULT_BETA,
    temperature: ArrayLike | None = None,
    base: ArrayLike | None = None,
) -> Array:
    """A class for each input with its probability in a tree of decisions, by a draw at each node on the way.

    Args:
      key: of `jax.random`; the same key and arguments give the same classes.
      inputs, node_weight, tree, bias: as for `hierarchical_softmax_loss`.
      beta, temperature, base: as for `hierarchical_log_prob`.

    Returns:
      labels, int32 [...]; −1 where a decision on the way is NaN.

    Raises:
      TypeError: `inputs`, `node_weight` or `bias` is not real, `tree` is no `Tree`. ValueError: shapes that do not fit;
      two of beta, temperature, base.

    References: as for `hierarchical_softmax_loss`.

    Examples:
      >>> import jax, jax.numpy as jnp, jsoftmax
      >>> tree = jsoftmax.tree_from_codes(["0", "10", "11"])
      >>> jsoftmax.hierarchical_sample(jax.random.key(0), jnp.ones((5, 1)), jnp.full((2, 1), -99.0), tree)
      Array([0, 0, 0, 0, 0], dtype=int32)
    """
    name = "hierarchical_sample"
    slope = (beta, temperature, base)
    tree, inputs, node_weight, bias, given, kind = _checked(name, inputs, node_weight, tree, bias, slope)
    return _sample(key, inputs, node_weight, tree, bias, given, kind)


def _checked(
    name: str, inputs: Any, node_weight: Any, tree: Any, bias: Any, slope: tuple[Any, Any, Any]
) -> tuple[Tree, Operand, Operand, Operand | None, Operand | None, str]:
    tree = check.tree(name, tree)
    inputs, node_weight = check.nodes(name, inputs, node_weight, tree)
    dtype = dtypes.of_logits(jnp.result_type(inputs.dtype, node_weight.dtype))
    bias = check.class_numbers(name, "bias", bias, dtype, node_weight.shape[0], "a row of `node_weight`")
    return tree, inputs, node_weight, bias, *check.beta(name, *slope, dtype, inputs.shape[:-1], ())


# decisions ---------------------------------------------------------------------------------------------------------


def _prepared(inputs, weight, bias, beta, kind):
    """(inputs [N, D], weight, bias, β [N or 1] or None), aligned and in the dtypes that they are computed with."""
    rows = inputs.shape[:-1]
    dtype = dtypes.of_logits(jnp.result_type(inputs.dtype, weight.dtype))
    inputs, weight = inputs.astype(dtype).reshape(math.prod(rows), inputs.shape[-1]), weight.astype(dtype)
    if beta is not None:
        beta = ax.one_a_row(inverse_temperature(beta, kind), rows).reshape(-1)
    return mesh.vary(inputs, weight, bias, beta)


def _nodes(tree):
    """The paths; what is no node is behind the last, where nothing is looked up."""
    return chosen.valid(as_int32(jnp.asarray(tree.paths)), trees.inner_nodes(tree))


NOTHING = -2  # no vector, where one is asked for


def _rows_of(tree, nodes):
    """(vectors of the children [K, …] of nodes, which of them there are)."""
    rows = as_int32(jnp.asarray(tree.children)).at[nodes].get(mode="fill", fill_value=NOTHING)
    rows = jnp.moveaxis(rows, -1, 0)
    there = rows != -1  # of one that is not there the numbers of another, for NaN times 0 is NaN in a second derivative
    return jnp.where(there, chosen.valid(rows, trees.vectors(tree)), 0), there


def _turns(x, weight, bias, tree, nodes):
    """(logits of the turns [K, …] at nodes [N, …], which of them there are or None for all)."""
    if tree.children is None:
        z = chosen.of_each(x, weight, bias, nodes)
        return jnp.stack([jnp.zeros_like(z), z]), None
    rows, there = _rows_of(tree, nodes)
    return jnp.moveaxis(chosen.of_each(x, weight, bias, jnp.moveaxis(rows, 0, -1)), -1, 0), there


def _along(beta, axis, ndim):
    """β of each example, with examples on `axis`."""
    return beta if beta is None else lax.expand_dims(beta, [i for i in range(ndim) if i != axis])


# the loss ----------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=7)
def _loss(inputs, weight, labels, tree, bias, beta, ignore_label, kind):
    shape, labels = labels.shape, as_int32(labels).reshape(-1)
    ignored = is_ignored(labels, ignore_label)
    *operands, labels = mesh.vary(*_prepared(inputs, weight, bias, beta, kind), labels)
    return _ruled_loss(*operands, labels, ignored, tree).reshape(shape)


class _Path(NamedTuple):
    """Of each example, turn by turn: [L, N]."""

    nodes: Array
    turns: Array  # −1, which is none, where the label is no class
    rests: Array  # nothing is decided here


def _path_of(labels, ignored, tree):
    classes = tree.paths.shape[0]
    known = is_class(labels, classes)[None]
    nodes, turns, mask = (a[jnp.clip(labels, 0, classes - 1)].T for a in (_nodes(tree), tree.codes, tree.mask))
    rests = ~mask & known
    rests = rests if ignored is None else rests | ignored[None]
    return _Path(nodes, jnp.where(known, turns.astype(jnp.int32), -1), rests)


def _logits(x, weight, bias, path, tree):
    """(Logits of the turns [K, L, N], which of them there are or None for all)."""
    if tree.children is None:
        z = chosen.in_turn(x, weight, bias, path.nodes)
        return jnp.stack([jnp.zeros_like(z), z]), None
    rows, there = _rows_of(tree, path.nodes)
    z = chosen.in_turn(x, weight, bias, rows.reshape(-1, rows.shape[-1]))
    return z.reshape(rows.shape), there


def _pulled(z_bar, x, weight, bias, path, tree):
    """Cotangents of x, weight and bias for those of the logits."""
    bars = chosen.nothing(x, weight, bias)
    if tree.children is None:
        return chosen.pull_in_turn(bars, z_bar[1], x, weight, path.nodes)
    rows, _ = _rows_of(tree, path.nodes)
    flat = rows.reshape(-1, rows.shape[-1])
    return chosen.pull_in_turn(bars, z_bar.reshape(flat.shape), x, weight, flat)


def _decided(z, there, path, beta, alone):
    """(losses, statistics) of all decisions [1, L, N]."""
    turns, rests = path.turns[None], path.rests[None]
    return index_value(z, turns, rests, there, _along(beta, 2, 3), PLAIN, TURNS, alone)


def _summed(losses, labels, ignored, tree):
    """(2); a label that is no class makes NaN also where there is no decision."""
    bad = ~is_class(labels, tree.paths.shape[0])
    bad = bad if ignored is None else bad & ~ignored
    return poison(jnp.sum(losses[0], 0), bad)


def _loss_primal(inputs, weight, bias, beta, labels, ignored, tree):
    path = _path_of(labels, ignored, tree)
    z, there = _logits(inputs, weight, bias, path, tree)
    losses, _ = _decided(z, there, path, beta, alone=True)
    return _summed(losses, labels, ignored, tree)


def _loss_fwd(inputs, weight, bias, beta, labels, ignored, tree):
    path = _path_of(labels, ignored, tree)
    z, there = _logits(inputs, weight, bias, path, tree)
    losses, stats = _decided(z, there, path, beta, alone=False)
    residuals = (inputs, weight, bias, beta, labels, ignored, tree, z, there, stats)
    return _summed(losses, labels, ignored, tree), residuals


def _loss_bwd(residuals, g):
    """(3)."""
    inputs, weight, bias, beta, labels, ignored, tree, z, there, stats = residuals
    path = _path_of(labels, ignored, tree)
    each = jnp.broadcast_to(g[None, None], (1, *z.shape[1:]))
    turns, rests = path.turns[None], path.rests[None]
    z_bar, beta_bar, _ = index_pull(each, z, turns, rests, there, _along(beta, 2, 3), PLAIN, stats, TURNS)
    kept = g != 0 if ignored is None else (g != 0) & ~ignored
    x = jnp.where(kept[:, None], inputs, 0)
    x_bar, weight_bar, bias_bar = _pulled(z_bar, x, weight, bias, path, tree)
    if beta is not None:
        beta_bar = ax.sum_to(jnp.sum(beta_bar[0], 0), beta.shape)
    return x_bar.astype(inputs.dtype), weight_bar.astype(weight.dtype), bias_bar, beta_bar, None, None, None


_ruled_loss = with_vjp(_loss_primal, _loss_fwd, _loss_bwd, static=())


# all classes -------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=5)
def _log_prob(inputs, weight, tree, bias, beta, kind):
    rows, classes = inputs.shape[:-1], tree.paths.shape[0]
    x, weight, bias, beta = _prepared(inputs, weight, bias, beta, kind)
    z = lax.dot_general(x, weight, (((1,), (1,)), ((), ())), preferred_element_type=dtypes.wide(x.dtype))
    z = z if bias is None else z + bias[None]
    if tree.children is None:
        z, there = jnp.stack([jnp.zeros_like(z), z]), None
    else:
        each, there = _rows_of(tree, jnp.arange(trees.inner_nodes(tree)))
        z, there = jnp.moveaxis(chosen.look_up(z, each, 1), 2, 1), there[:, None]
    log_p = jnp.moveaxis(log_softmax_of(z, there, _along(beta, 1, 3), TURNS), 1, 2)
    nodes, count = _nodes(tree), trees.inner_nodes(tree)
    ways = jnp.where(nodes < count, as_int32(jnp.asarray(tree.codes)) * count + nodes, log_p.shape[0] * count)  # [V, L]

    def down(total, turn):
        way, mask = turn
        taken = chosen.look_up(log_p.reshape(log_p.shape[0] * count, x.shape[0]), way)
        return total + jnp.where(mask[:, None], taken, 0), None

    start, _ = mesh.vary(jnp.zeros((classes, x.shape[0]), z.dtype), log_p)
    total, _ = lax.scan(down, start, (ways.T, tree.mask.T))
    return total.T.reshape(*rows, classes)


# ways down ---------------------------------------------------------------------------------------------------------


def _onward(tree):
    """[M, K]: what a turn leads to, an inner node, or −1 − w for class w."""
    classes = tree.paths.shape[0]
    ends = jnp.broadcast_to(-1 - jnp.arange(classes, dtype=jnp.int32)[:, None], (classes, 1))
    paths, count = _nodes(tree), trees.inner_nodes(tree)
    further = jnp.concatenate([tree.mask[:, 1:], jnp.zeros((classes, 1), bool)], 1)
    onward = jnp.concatenate([paths[:, 1:], ends], 1)
    nodes = jnp.where(tree.mask, paths, count)  # dropped behind the last turn
    turns = 2 if tree.children is None else tree.children.shape[1]
    return jnp.zeros((count, turns), jnp.int32).at[nodes, tree.codes].set(jnp.where(further, onward, ends), mode="drop")


def _root(tree):
    return _nodes(tree)[0, 0] if tree.paths.shape[1] else jnp.int32(-1)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _predict(inputs, weight, tree, bias, beta, kind, size):
    rows = inputs.shape[:-1]
    x, weight, bias, beta = _prepared(inputs, weight, bias, beta, kind)
    n, onwards = x.shape[0], _onward(tree)

    def down(_, beam):
        places, log_p = beam
        z, there = _turns(x, weight, bias, tree, jnp.maximum(places, 0))
        turns = log_softmax_of(z, there, _along(beta, 1, 3), TURNS) + log_p[None]
        done, count = places < 0, z.shape[0]
        first = jnp.arange(count)[:, None, None] == 0
        stay = jnp.where(first, log_p[None], -jnp.inf)  # a leaf has one way on
        scores = jnp.moveaxis(jnp.where(done[None], stay, turns), 0, -1).reshape(n, count * size)
        onward = jnp.where(done[..., None], places[..., None], onwards[jnp.maximum(places, 0)])
        onward = onward.reshape(n, count * size)
        best, kept = lax.top_k(scores, size)
        return jnp.take_along_axis(onward, kept, 1), best

    first = jnp.arange(size) == 0
    start = jnp.where(first, _root(tree), -1), jnp.where(first, 0, -jnp.inf).astype(dtypes.wide(x.dtype))
    *beam, _ = mesh.vary(*(jnp.broadcast_to(a, (n, size)) for a in start), x)
    places, log_p = lax.fori_loop(0, tree.paths.shape[1], down, tuple(beam)) if tree.paths.shape[1] else beam
    labels = jnp.where((log_p == -jnp.inf) | jnp.isnan(log_p), -1, -1 - places)
    return labels.reshape(*rows, size), log_p.reshape(*rows, size)


@functools.partial(jax.jit, static_argnums=6)
def _sample(key, inputs, weight, tree, bias, beta, kind):
    rows = inputs.shape[:-1]
    x, weight, bias, beta = _prepared(inputs, weight, bias, beta, kind)
    n, longest, onwards = x.shape[0], tree.paths.shape[1], _onward(tree)

    def down(i, state):
        places, poisoned = state
        z, there = _turns(x, weight, bias, tree, jnp.maximum(places, 0))
        log_p = log_softmax_of(z, there, _along(beta, 1, 2), TURNS)
        turn = jax.random.categorical(jax.random.fold_in(key, i), log_p, 0)
        onward = onwards.at[jnp.maximum(places, 0), turn].get()
        return jnp.where(places < 0, places, onward), poisoned | ((places >= 0) & jnp.any(jnp.isnan(log_p), 0))

    start = mesh.vary(jnp.broadcast_to(_root(tree), (n,)), jnp.zeros((n,), bool), x)[:2]
    places, poisoned = lax.fori_loop(0, longest, down, start) if longest else start
    return jnp.where(poisoned, -1, -1 - places).reshape(rows)
