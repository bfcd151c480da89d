"""Trees whose leaves are classes, as tables with a row for each class. Built on the host, with NumPy."""

import heapq
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class Tree(NamedTuple):
    """The ways from the root of a tree to V classes, L turns at most: a pytree of arrays, to pass to `jax.jit`.

    In a binary tree without `children` every inner node has two, of which a vector for each of the V − 1 inner nodes
    decides. With `children` a node has any number of them, and every child a vector of its own: M inner nodes and V
    classes without the root have V + M − 1.

    Args:
      paths: int32 [V, L], the inner nodes on the way to each class, the first of them the root; behind the last turn
        anything.
      codes: integers [V, L], which child comes next, from 0 on.
      mask: boolean [V, L], False behind the last turn.
      children: int32 [M, B], the vector of each child of each inner node; −1 where there is no further child. None for
        a binary tree.

    Examples:
      >>> import jsoftmax
      >>> tree = jsoftmax.huffman_tree([2, 1, 1])
      >>> tree.codes
      Array([[0, 0],
             [1, 0],
             [1, 1]], dtype=int8)
      >>> tree.mask.sum(1)
      Array([1, 2, 2], dtype=int32)
    """

    paths: Array | np.ndarray
    codes: Array | np.ndarray
    mask: Array | np.ndarray
    children: Array | np.ndarray | None = None


def inner_nodes(tree: Tree) -> int:
    return int(tree.paths.shape[0] - 1 if tree.children is None else tree.children.shape[0])


def vectors(tree: Tree) -> int:
    """How many vectors decide."""
    return inner_nodes(tree) if tree.children is None else tree.paths.shape[0] + inner_nodes(tree) - 1


def as_tree(paths: np.ndarray, codes: np.ndarray, mask: np.ndarray) -> Tree:
    return Tree(jnp.asarray(paths, jnp.int32), jnp.asarray(codes, jnp.int8), jnp.asarray(mask, bool))


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Depth of each leaf in a Huffman tree; of those with equal counts the flattest."""
    n = len(counts)
    heap = [(count, i) for i, count in enumerate(counts.tolist())]
    heapq.heapify(heap)
    parent = np.zeros(2 * n - 1, np.int64)
    for node in range(n, 2 * n - 1):
        (first, a), (second, b) = heapq.heappop(heap), heapq.heappop(heap)
        parent[a] = parent[b] = node
        heapq.heappush(heap, (first + second, node))
    depth = np.zeros(2 * n - 1, np.int64)
    for node in range(2 * n - 3, -1, -1):
        depth[node] = depth[parent[node]] + 1
    return depth[:n]


def limited_code_lengths(counts: np.ndarray, longest: int) -> np.ndarray:
    """The lengths of least Σ count · length among those that are at most `longest`: package-merge.

    On each level the leaves are merged with the pairs of the level below, by weight. The solution is the 2 n − 2
    lightest of the last; its leaves are the lightest leaves, its pairs are the lightest pairs, level by level.
    """
    n, order = len(counts), np.argsort(counts, kind="stable")
    leaves, lists, pairs = counts[order], [], np.zeros(0)
    for _ in range(longest):
        weights = np.concatenate([leaves, pairs])
        by_weight = np.argsort(weights, kind="stable")
        lists.append(by_weight < n)
        weights = weights[by_weight]
        pairs = weights[: len(weights) // 2 * 2].reshape(-1, 2).sum(1)
    lengths, taken = np.zeros(n, np.int64), 2 * n - 2
    for is_leaf in reversed(lists):
        light = int(np.count_nonzero(is_leaf[:taken]))
        lengths[:light] += 1
        taken = 2 * (taken - light)
    found = np.empty(n, np.int64)
    found[order] = lengths
    return found


def from_lengths(lengths: np.ndarray) -> Tree:
    """The canonical tree with leaves at these depths: on each level leaves first, in the order of the classes."""
    n, deepest = len(lengths), int(lengths.max())
    leaves = np.bincount(lengths, minlength=deepest + 1)
    inner = np.zeros(deepest + 1, np.int64)
    inner[0] = n > 1
    for d in range(1, deepest + 1):
        inner[d] = 2 * inner[d - 1] - leaves[d]
    first = np.concatenate([[0], np.cumsum(inner)])
    paths, codes = np.zeros((n, deepest), np.int32), np.zeros((n, deepest), np.int8)
    place = np.zeros(n, np.int64)  # on its level, of the node that a class is below
    for d in range(deepest, 0, -1):
        place[lengths == d] = np.arange(leaves[d])
        below = lengths >= d
        codes[below, d - 1] = place[below] % 2
        parent = place[below] // 2
        paths[below, d - 1] = first[d - 1] + parent
        place[below] = leaves[d - 1] + parent
    return as_tree(paths, codes, np.arange(deepest) < lengths[:, None])


def from_codes(codes: Sequence[Sequence[int]]) -> Tree:
    """The tree in which class w is reached by the turns codes[w]; inner nodes in the order in which paths come to them.

    ValueError if a code is the beginning of another, or a node has one child only.
    """
    nodes: dict[tuple[int, ...], int] = {}
    ends = {tuple(code): w for w, code in enumerate(codes)}
    if len(ends) != len(codes):
        raise ValueError("two classes have the same code")
    longest = max(map(len, codes))
    paths, turns = np.zeros((len(codes), longest), np.int32), np.zeros((len(codes), longest), np.int8)
    for w, code in enumerate(codes):
        for depth, turn in enumerate(code):
            above = tuple(code[:depth])
            if above in ends:
                raise ValueError(f"the code of class {ends[above]} is the beginning of that of class {w}")
            paths[w, depth], turns[w, depth] = nodes.setdefault(above, len(nodes)), turn
    for above in nodes:
        if alone := [turn for turn in (0, 1) if not _reached((*above, turn), nodes, ends)]:
            raise ValueError(f"no class is reached by {''.join(map(str, (*above, *alone)))}")
    return as_tree(paths, turns, np.arange(longest) < np.array([len(code) for code in codes])[:, None])


def _reached(prefix: tuple[int, ...], *found: Iterable[tuple[int, ...]]) -> bool:
    return any(prefix in some for some in found)


def from_paths(paths: Sequence[Sequence[Hashable]]) -> Tree:
    """The tree in which class w is reached by the steps paths[w]; nodes, children and vectors in the order in which
    paths come to them, the vectors of one node's children next to each other.

    ValueError if a path is the beginning of another.
    """
    ends = {tuple(path): w for w, path in enumerate(paths)}
    if len(ends) != len(paths):
        raise ValueError("two classes have the same path")
    nodes: dict[tuple[Hashable, ...], int] = {}
    below: list[dict[Hashable, int]] = []
    longest = max(map(len, paths))
    through, turns = np.zeros((len(paths), longest), np.int32), np.zeros((len(paths), longest), np.int32)
    for w, path in enumerate(paths):
        for depth, step in enumerate(path):
            above = tuple(path[:depth])
            if above in ends:
                raise ValueError(f"the path of class {ends[above]} is the beginning of that of class {w}")
            node = nodes.setdefault(above, len(nodes))
            if node == len(below):
                below.append({})
            through[w, depth], turns[w, depth] = node, below[node].setdefault(step, len(below[node]))
    widths = np.array([len(steps) for steps in below], np.int32)
    first = np.concatenate([[0], np.cumsum(widths)])[:-1]
    child = np.arange(widths.max(initial=1), dtype=np.int32)
    children = np.where(child < widths[:, None], first[:, None] + child, -1).reshape(len(below), len(child))
    mask = np.arange(longest) < np.array([len(path) for path in paths])[:, None]
    return Tree(jnp.asarray(through), jnp.asarray(turns), jnp.asarray(mask), jnp.asarray(children, jnp.int32))
