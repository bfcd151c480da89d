"""What is refused, with which exception, and what its message says: operator, argument, wanted, got, and never a number
that an array holds. Everything is seen from shapes, dtypes and static values, so tracing changes nothing.
"""

import ast
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jsoftmax
from jsoftmax._core import check, check_attention, check_energy, check_hopfield

INT = "softmax_cross_entropy_with_integer_labels"
DIST = "softmax_cross_entropy"
SPATIAL = "spatial_softmax_cross_entropy"
LINEAR = "linear_softmax_cross_entropy"
SECRET = 31337.25  # in every array; in no message
X = np.full((3, 5), SECRET, np.float32)
X3 = np.full((2, 3, 5), SECRET, np.float32)
Y = np.zeros(3, np.int32)
Q = np.full((3, 5), SECRET, np.float32)
ROWS, ROWWISE = np.full(3, SECRET, np.float32), np.full((3, 1), SECRET, np.float32)
REDUCING = ("logsumexp", "logmeanexp")
SHAPED = ("softmax", "log_softmax")
LOSSES = (DIST, INT)
THREE_NAMES = (*SHAPED, "logsumexp", *LOSSES)
MASKED = (*SHAPED, *REDUCING, *LOSSES)
OPERATORS = (*MASKED, "softmax_jacobian")


def arguments(name, **changed):
    base = {INT: {"logits": X, "labels": Y}, DIST: {"logits": X, "labels": Q}, "weighted_mean": {"losses": ROWS}}
    base[SPATIAL] = {"logits": X3, "labels": np.zeros((2, 5), np.uint8)}
    base[LINEAR] = {"inputs": X3, "weight": full((5, 7)), "labels": np.zeros((2, 3), np.int32)}
    return base.get(name, {"x": X}) | changed


def logits(name):
    return next(iter(arguments(name)))


def full(shape, dtype=np.float32):
    return np.full(shape, SECRET).astype(dtype)


def rows():
    """(operator, arguments, exception, fragments of the message besides the operator's name)."""
    for name in (*OPERATORS, "weighted_mean"):
        x = logits(name)
        for bad, got in (
            (np.ones((3, 5), bool), "got dtype bool"),
            (full((3, 5), np.complex64), "got dtype complex64"),
            ([[SECRET] * 5] * 3, "got list"),
            ((SECRET,), "got tuple"),
            (None, "got NoneType"),
            ("logits", "got str"),
            (1j, "got dtype complex"),
            (True, "got dtype bool"),
        ):
            kind = "an array" if got.split()[-1] in ("list", "tuple", "NoneType", "str") else "floating or integer"
            yield name, arguments(name, **{x: bad}), TypeError, (f"`{x}` must be", kind, got)

    for name in OPERATORS:
        for axis, got in ((1.0, "float"), ("x", "str"), ((0, 1.5), "tuple"), ((0, None), "tuple"), ({0}, "set")):
            wanted = ("`axis` must be an int, a tuple of ints or None", f"got {got}")
            yield name, arguments(name, axis=axis), TypeError, wanted
        for axis, got in ((2, 2), (-3, -3), ((0, 2), 2), ([0, -3], -3), (np.int64(5), 5)):
            wanted = ("`axis` must be in [-2, 2)", "rank 2", f"got {got}")
            yield name, arguments(name, axis=axis), ValueError, wanted
        for axis, got in (((0, 0), "(0, 0)"), ((1, -1), "(1, -1)"), ([-2, 0], "(-2, 0)")):
            wanted = ("`axis` must not name an axis twice", f"got {got}")
            yield name, arguments(name, axis=axis), ValueError, wanted
        scalar = {logits(name): np.float32(SECRET)}
        yield name, arguments(name, **scalar), ValueError, ("`axis` must be in [0, 0)", "rank 0", "got -1")

    for name in (*MASKED, LINEAR, "weighted_mean"):
        for bad, got in ((0, "0"), (("a", "a"), "('a', 'a')"), (["a"], "['a']"), (("a", 1), "('a', 1)")):
            wanted = ("`axis_name` must be the name of a mesh axis, a tuple of distinct names or None", f"got {got}")
            yield name, arguments(name, axis_name=bad), TypeError, wanted

    for name in MASKED:
        for dtype in (np.int32, np.float32):
            mask = np.ones((3, 5), dtype)
            wanted = ("`where` must be boolean", f"got dtype {np.dtype(dtype)}")
            yield name, arguments(name, where=mask), TypeError, wanted
        yield name, arguments(name, where=1), TypeError, ("`where` must be boolean", "got dtype int")
        yield name, arguments(name, where=[True] * 5), TypeError, ("`where` must be an array", "got list")
        for shape in ((2, 3, 5), (1, 3, 5), (4,), (3, 4), (5, 3), (3, 5, 1), (0,)):
            wanted = ("`where` must broadcast to the shape of the logits (3, 5)", f"got shape {shape}")
            yield name, arguments(name, where=np.ones(shape, bool)), ValueError, wanted
        size_one = {logits(name): full((3, 1))} | ({"labels": full((3, 1))} if name == DIST else {})
        yield (
            name,
            arguments(name, **size_one, where=np.ones((3, 5), bool)),
            ValueError,
            ("`where` must broadcast to the shape of the logits (3, 1)", "got shape (3, 5)"),
        )
    for name in LOSSES:  # optax takes it for a mask of rows; (3, 3) shows that it is not taken for one of classes
        for n in (5, 3):
            square = {"logits": full((3, n))} | ({"labels": full((3, n))} if name == DIST else {})
            wanted = ("`where` masks classes", f"(3, {n})", "got shape (3,)", "`ignore_label`", "`weighted_mean`")
            yield name, arguments(name, **square, where=np.ones(3, bool)), ValueError, wanted

    for name in OPERATORS:
        kinds = ("beta", "temperature", "base") if name in THREE_NAMES else ("beta",)
        for kind in kinds:
            given = {"beta": None} | {kind: None} if kind != "beta" else {}
            for bad, got in (
                (True, "got dtype bool"),
                (2j, "got dtype complex"),
                (np.ones(3, bool), "got dtype bool"),
            ):
                wanted = (f"`{kind}` must be a floating or integer array", got)
                yield name, arguments(name, **given | {kind: bad}), TypeError, wanted
            for bad, got in (([SECRET], "got list"), ("1", "got str")):
                wanted = (f"`{kind}` must be an array", got)
                yield name, arguments(name, **given | {kind: bad}), TypeError, wanted
            result = (3, 5) if name in SHAPED else (3,)
            for shape in ((2, *result), (4,), (1, *result), (0,)):
                wanted = (f"`{kind}` must broadcast to the shape of the result {result}", f"got shape {shape}")
                yield name, arguments(name, **{kind: full(shape)}), ValueError, wanted
            if name in SHAPED:
                for shape in ((3, 5), (1, 5), (5,)):
                    wanted = (
                        f"`{kind}` must have size 1 along the class axes",
                        f"got shape {shape}",
                        "has shape (3, 1)",
                    )
                    yield name, arguments(name, **{kind: full(shape)}), ValueError, wanted
        yield name, arguments(name, beta=None), ValueError, ("give one of `beta`", "got none of them")
    for name in REDUCING:
        wanted = ("`beta` must broadcast to the shape of the result (3, 1)", "got shape (3, 5)")
        yield name, arguments(name, beta=full((3, 5)), keepdims=True), ValueError, wanted
    for name in THREE_NAMES:
        for given in (
            {"beta": 2.0, "temperature": 0.5},
            {"beta": 1.0, "temperature": 1.0},  # equal to the default, and yet given
            {"beta": 1, "base": 2.0},
            {"beta": np.float32(1), "base": np.float32(2)},
            {"temperature": 2.0, "base": 2.0},
            {"beta": 1.0, "temperature": 1.0, "base": 2.0},
        ):
            both = " and ".join(f"`{kind}`" for kind in given)
            wanted = ("give one of `beta`, `temperature` and `base`", f"got {both}.")
            yield name, arguments(name, **given), ValueError, wanted

    for bad, got in (
        (np.ones((3, 5), bool), "got dtype bool"),
        (full((3, 5), np.complex64), "got dtype complex64"),
    ):
        yield "logsumexp", {"x": X, "b": bad}, TypeError, ("`b` must be a floating or integer array", got)
    yield "logsumexp", {"x": X, "b": [SECRET] * 5}, TypeError, ("`b` must be an array", "got list")
    for shape in ((4,), (3, 1, 5), (2, 3, 5), (5, 3)):
        wanted = ("`b` must broadcast to the shape of `x` (3, 5)", f"got shape {shape}")
        yield "logsumexp", {"x": X, "b": full(shape)}, ValueError, wanted

    for bad, got in (
        (ROWS, "got dtype float32"),
        (np.zeros(3, np.float16), "got dtype float16"),
        (np.zeros(3, bool), "got dtype bool"),
        (full(3, np.complex64), "got dtype complex64"),
    ):  # L05
        yield INT, arguments(INT, labels=bad), TypeError, ("`labels` must be integers", got)
    for bad, got in (([0, 1, 2], "got list"), (None, "got NoneType"), ("0", "got str")):
        yield INT, arguments(INT, labels=bad), TypeError, ("`labels` must be an array", got)
    for shape in ((5,), (), (1,), (3, 1), (1, 3), (3, 5), (4,), (0,)):
        wanted = ("`labels` must have the shape of the logits without the class axes (3,)", f"got {shape}")
        yield INT, arguments(INT, labels=np.zeros(shape, np.int32)), ValueError, wanted
    yield (
        INT,
        {"logits": X3, "labels": np.zeros((2, 3), np.int32), "axis": 1},
        ValueError,
        ("`labels` must have the shape", "(2, 5)", "got (2, 3)"),
    )
    for bad, got in (
        (np.zeros((3, 5), np.int32), "got dtype int32"),
        (Y, "got dtype int32"),
        (np.zeros(3, np.uint8), "got dtype uint8"),
    ):
        wanted = ("`labels` must be a floating distribution over classes", got, f"use {INT}")
        yield DIST, arguments(DIST, labels=bad), TypeError, wanted
    for bad in (np.ones((3, 5), bool), full((3, 5), np.complex64)):
        wanted = ("`labels` must be a floating distribution over classes", f"got dtype {bad.dtype}")
        yield DIST, arguments(DIST, labels=bad), TypeError, wanted
    yield DIST, arguments(DIST, labels=[[SECRET] * 5] * 3), TypeError, ("`labels` must be an array", "got list")
    for shape in ((5,), (1, 5), (3, 1), (3, 4), (5, 3), (1, 3, 5), (2, 3, 5), ()):
        wanted = ("`labels` must have the shape of the logits (3, 5)", f"got {shape}")
        yield DIST, arguments(DIST, labels=full(shape)), ValueError, wanted

    for bad, got in (
        (0.0, "got dtype float64 and shape ()"),
        (np.float32(1), "got dtype float32 and shape ()"),
        (True, "got dtype bool and shape ()"),
        (np.array([1, 2, 3]), "got dtype int64 and shape (3,)"),
        (np.ones((1,), np.int32), "got dtype int32 and shape (1,)"),
    ):
        yield INT, arguments(INT, ignore_label=bad), TypeError, ("`ignore_label` must be an integer or None", got)
    for bad, got in (([1], "got list"), ("pad", "got str")):
        yield INT, arguments(INT, ignore_label=bad), TypeError, ("`ignore_label` must be", got)
    for bad in (2**31, -(2**31) - 1, np.uint32(2**32 - 1), np.int64(2**40), 2**70):
        yield INT, arguments(INT, ignore_label=bad), ValueError, ("`ignore_label` must fit in 32 bits", f"got {bad}")

    for name in LOSSES:
        for option in ("label_smoothing", "z_loss", "class_weights"):
            for bad, got in ((1j, "got dtype complex"), (np.ones(3, bool), "got dtype bool")):
                wanted = (f"`{option}` must be a floating or integer array", got)
                yield name, arguments(name, **{option: bad}), TypeError, wanted
            yield name, arguments(name, **{option: [SECRET] * 5}), TypeError, (f"`{option}` must be an array", "list")
        for option in ("label_smoothing", "z_loss"):
            for shape in ((5,), (3, 1), (1, 3), (0,)):
                wanted = (f"`{option}` must broadcast to the shape of the result (3,)", f"got shape {shape}")
                yield name, arguments(name, **{option: full(shape)}), ValueError, wanted
        for bad in (-0.25, 1.5, np.float32(2), np.nan):
            wanted = ("`label_smoothing` must be in [0, 1]", f"got {float(bad)}")
            yield name, arguments(name, label_smoothing=float(bad)), ValueError, wanted
        yield name, arguments(name, label_smoothing=[0.5, 2.0][1]), ValueError, ("must be in [0, 1]", "got 2.0")
        for shape in ((3,), (), (1, 5), (5, 1), (6,)):
            wanted = ("`class_weights` must have one entry a class, shape (5,)", f"got {shape}")
            yield name, arguments(name, class_weights=full(shape)), ValueError, wanted
    for normalization in ("mean", "VALID", None, 1):
        wanted = ("`normalization` must be one of valid, full, batch_size, none", f"got {normalization!r}")
        yield SPATIAL, arguments(SPATIAL, normalization=normalization), ValueError, wanted
    for axis, got in (((0, 1), "(0, 1)"), (None, "None"), ((), "()")):
        yield SPATIAL, arguments(SPATIAL, axis=axis), ValueError, ("`axis` must be one axis", f"got {got}")
    for shape in ((2, 5), (2, 3), (3, 5), (2, 3, 1), (1, 2, 5), (2, 5, 1)):
        wanted = ("`labels` must have the shape of the logits without the class axes (2, 5)", f"got {shape}")
        if shape != (2, 5):
            yield SPATIAL, arguments(SPATIAL, labels=np.zeros(shape, np.int32)), ValueError, wanted
    wanted = ("`labels` must have the shape of the logits (2, 3, 5)", "got (2, 5)")
    yield SPATIAL, arguments(SPATIAL, labels=full((2, 5))), ValueError, wanted
    wanted = ("`ignore_label` needs integer labels", "got dtype float32", "Use `weights`")
    yield SPATIAL, arguments(SPATIAL, labels=X3, ignore_label=255), ValueError, wanted
    wanted = ("`class_weights` must have one entry a class, shape (3,)", "got (5,)")
    yield SPATIAL, arguments(SPATIAL, class_weights=full(5)), ValueError, wanted
    wanted = ("`label_smoothing` must be in [0, 1]", "got 1.5")
    yield SPATIAL, arguments(SPATIAL, label_smoothing=1.5), ValueError, wanted
    for shape in ((2,), (2, 3, 5), (3, 5)):
        wanted = ("`weights` must broadcast to the positions (2, 5)", f"got shape {shape}")
        yield SPATIAL, arguments(SPATIAL, weights=full(shape)), ValueError, wanted
    for bad, got in ((np.zeros((2, 5), bool), "got dtype bool"), (full((2, 5), np.complex64), "got dtype complex64")):
        yield SPATIAL, arguments(SPATIAL, labels=bad), TypeError, ("`labels` must be integers", got)
    yield SPATIAL, arguments(SPATIAL, logits=[[SECRET]]), TypeError, ("`logits` must be an array", "got list")

    yield from rows_of_the_linear_layer()

    for bad, got in ((full(3, np.complex64), "got dtype complex64"), (1j, "got dtype complex")):
        wanted = ("`weights` must be a floating or integer array", got)
        yield "weighted_mean", {"losses": ROWS, "weights": bad}, TypeError, wanted
    for bad, got in (([SECRET] * 3, "got list"), ("all", "got str")):
        yield "weighted_mean", {"losses": ROWS, "weights": bad}, TypeError, ("`weights` must be an array", got)
    for shape in ((2,), (3, 1), (1, 3), (0,)):
        wanted = ("`weights` must broadcast to the shape of the losses (3,)", f"got shape {shape}")
        yield "weighted_mean", {"losses": ROWS, "weights": full(shape)}, ValueError, wanted


def rows_of_the_linear_layer():
    fits = "`inputs` (2, 3, 5) must have as many features as `weight`"
    for changed, exception, *wanted in (
        ({"inputs": np.float32(SECRET)}, ValueError, "`inputs` must have an axis of features", "got shape ()"),
        ({"inputs": [[SECRET]]}, TypeError, "`inputs` must be an array", "got list"),
        ({"inputs": np.ones((2, 3, 5), bool)}, TypeError, "`inputs` must be a floating or integer", "got dtype bool"),
        ({"weight": full((5, 7), np.complex64)}, TypeError, "`weight` must be a floating", "got dtype complex64"),
        ({"weight": full(5)}, ValueError, "`weight` must have two axes", "got shape (5,)"),
        ({"weight": full((7, 5))}, ValueError, fits, "(7, 5) has on axis 0", "give class_axis=0"),
        ({"class_axis": 0}, ValueError, fits, "(5, 7) has on axis 1", "give class_axis=1"),
        ({"class_axis": 2}, ValueError, "`class_axis` must be in [-2, 2)", "got 2"),
        ({"class_axis": None}, ValueError, "`class_axis` must be one axis", "got None"),
        ({"class_axis": (0, 1)}, ValueError, "`class_axis` must be one axis", "got (0, 1)"),
        ({"labels": np.zeros(6, np.int32)}, ValueError, "`labels` must have the shape", "(2, 3), got (6,)"),
        ({"labels": full((2, 3))}, TypeError, "`labels` must be integers", "got dtype float32"),
        ({"bias": full(5)}, ValueError, "`bias` must have one entry a class, shape (7,)", "got (5,)"),
        ({"beta": full(5)}, ValueError, "`beta` must broadcast", "got shape (5,)"),
        ({"beta": 1.0, "temperature": 2.0}, ValueError, "give one of `beta`, `temperature` and `base`"),
        ({"soft_cap": 0.0}, ValueError, "`soft_cap` must be positive", "got 0.0"),
        ({"soft_cap": -2}, ValueError, "`soft_cap` must be positive", "got -2.0"),
        ({"soft_cap": full(7)}, ValueError, "`soft_cap` must be one number", "got shape (7,)"),
        ({"label_smoothing": 1.5}, ValueError, "`label_smoothing` must be in [0, 1]", "got 1.5"),
        ({"z_loss": full(7)}, ValueError, "`z_loss` must broadcast", "got shape (7,)"),
        ({"ignore_label": 0.5}, TypeError, "`ignore_label` must be an integer or None"),
        ({"reduction": "average"}, ValueError, "`reduction` must be one of none, sum, mean", "got 'average'"),
        ({"weights": full((2, 3))}, ValueError, '`weights` need a `reduction`, "sum" or "mean"', 'got "none"'),
        ({"weights": full(5), "reduction": "sum"}, ValueError, "`weights` must broadcast", "got shape (5,)"),
        ({"block_size": 0}, ValueError, "`block_size` must be a positive int, a pair (tokens, classes)", "got 0"),
        ({"block_size": (1, 2, 3)}, ValueError, "`block_size` must be", "got (1, 2, 3)"),
        ({"block_size": 1.5}, ValueError, "`block_size` must be", "got 1.5"),
    ):
        yield LINEAR, arguments(LINEAR, **changed), exception, wanted


TREE = jsoftmax.huffman_tree([3, 2, 1])
PATHS, LOG_PROB, PREDICT = "hierarchical_softmax_loss", "hierarchical_log_prob", "hierarchical_predict"


def tree_rows():
    """The same of what is given to trees; `huffman_tree` and `tree_from_codes` take what is on the host."""
    layer = {"inputs": full((3, 5)), "node_weight": full((2, 5)), "tree": TREE}
    for changed, exception, *wanted in (
        ({"tree": tuple(TREE)}, TypeError, "`tree` must be a jsoftmax.Tree", "got tuple"),
        ({"tree": TREE._replace(mask=TREE.codes)}, TypeError, "`tree` must have integer paths", "int8, int8"),
        ({"tree": TREE._replace(children=full((2, 2)))}, TypeError, "`tree` must have integer paths", "bool, float32"),
        ({"tree": TREE._replace(children=Y)}, ValueError, "`tree.children` must have shape [M, B]", "got (3,)"),
        ({"tree": TREE._replace(children=np.ones((2, 2), int))}, ValueError, "each of the 4 children", "(2, 5)"),
        ({"tree": TREE._replace(codes=TREE.codes[:, 0])}, ValueError, "three tables of one shape", "(3, 2), (3,) and"),
        ({"inputs": full((3, 4))}, ValueError, "`inputs` (3, 4)", "`node_weight` (2, 5)", "got 4"),
        ({"node_weight": full(5)}, ValueError, "`node_weight` must have two axes", "got shape (5,)"),
        ({"node_weight": full((3, 5))}, ValueError, "each of the 2 inner nodes", "got shape (3, 5)"),
        ({"bias": full(3)}, ValueError, "`bias` must have one entry a row of `node_weight`, shape (2,)", "got (3,)"),
        ({"beta": full(4)}, ValueError, "`beta` must broadcast", "got shape (4,)"),
    ):
        yield PATHS, layer | {"labels": Y} | changed, exception, wanted
        yield LOG_PROB, layer | changed, exception, wanted
    yield PATHS, layer | {"labels": Y[:2]}, ValueError, ("`labels` must have the shape", "got (2,)")
    yield PREDICT, layer | {"beam_size": 0}, ValueError, ("`beam_size` must be at least 1", "got 0")
    yield PREDICT, layer | {"beam_size": 1.5}, TypeError, ("`beam_size` must be an int", "got float")
    for given, exception, *wanted in (
        ({"counts": []}, ValueError, "`counts` must have one entry a class, at least one", "got shape (0,)"),
        ({"counts": [[1, 2]]}, ValueError, "`counts` must have one entry a class", "got shape (1, 2)"),
        ({"counts": [2, -1]}, ValueError, "`counts` must be finite and not negative", "class 1"),
        ({"counts": [np.nan, 1]}, ValueError, "`counts` must be finite and not negative", "class 0"),
        ({"counts": ["a"]}, TypeError, "`counts` must be real", "got dtype <U1"),
        ({"counts": [1] * 9, "max_length": 3}, ValueError, "`max_length` must be at least 4 for 9 classes", "got 3"),
        ({"counts": [1, 2], "max_length": 1.0}, TypeError, "`max_length` must be an int or None", "got float"),
    ):
        yield "huffman_tree", given, exception, wanted
    for codes, exception, *wanted in (
        ([], ValueError, "`codes` must have one entry a class, at least one", "got none"),
        (["0", "2"], ValueError, "`codes` must be of turns 0 and 1", "got '2' for class 1"),
        (["0", "x"], TypeError, "`codes` must be a sequence of sequences of 0 and 1"),
    ):
        yield "tree_from_codes", {"codes": codes}, exception, wanted
    yield "tree_from_paths", {"paths": []}, ValueError, ("`paths` must have one entry a class", "got none")
    yield "tree_from_paths", {"paths": [[[]]]}, TypeError, ("`paths` must be a sequence of sequences of hashable",)


def test_counts_of_a_traced_array_are_refused():
    with pytest.raises(TypeError) as error:
        jax.jit(jsoftmax.huffman_tree)(jnp.ones(3))
    check_message("huffman_tree", error, TypeError, ("`counts` must be on the host", "build the tree outside"))


DRAWN = jsoftmax.Candidates(np.arange(2), full(4))
ZIPF, EVEN, UNIGRAM = "log_uniform_sampler", "uniform_sampler", "unigram_sampler"


def sampled_rows():
    """The same of candidates and what draws them."""
    layer = {"inputs": full((3, 5)), "weight": full((5, 4)), "labels": Y, "candidates": DRAWN}
    for changed, exception, *wanted in (
        ({"candidates": tuple(DRAWN)}, TypeError, "`candidates` must be a jsoftmax.Candidates", "got tuple"),
        ({"candidates": DRAWN._replace(ids=full(2))}, TypeError, "`candidates.ids` must be integers", "float32"),
        ({"candidates": DRAWN._replace(ids=np.int32(1))}, ValueError, "shape (S,), or (3, 'S')", "got ()"),
        ({"candidates": DRAWN._replace(ids=np.ones((2, 2), int))}, ValueError, "shape (S,), or (3, 'S')", "(2, 2)"),
        ({"candidates": DRAWN._replace(log_expected_count=full(5))}, ValueError, "shape (4,) or (3, 4)", "got (5,)"),
        ({"candidates": DRAWN._replace(log_expected_count=[1.0])}, TypeError, "log_expected_count` must be an array"),
        ({"labels": Y[:2]}, ValueError, "`labels` must have the shape of `inputs`", "true classes each", "got (2,)"),
        ({"labels": np.ones((3, 0), int)}, ValueError, "`labels` must have the shape of `inputs`", "got (3, 0)"),
        ({"labels": ROWS}, TypeError, "`labels` must be integers", "float32"),
        ({"weight": full((4, 5))}, ValueError, "`inputs` (3, 5)", "class_axis=0"),
        ({"bias": full(3)}, ValueError, "`bias` must have one entry a class, shape (4,)", "got (3,)"),
        ({"beta": full(4)}, ValueError, "`beta` must broadcast", "got shape (4,)"),
    ):
        for name in ("sampled_softmax_loss", "nce_loss", "negative_sampling_loss"):
            yield name, layer | changed, exception, wanted
    c = {"log_normalizer": full(4)}
    yield "nce_loss", layer | c, ValueError, ("`log_normalizer` must broadcast", "got shape (4,)")
    key, sizes = {"key": None}, {"num_sampled": 2, "num_classes": 3}
    for changed, exception, *wanted in (
        (
            {"num_sampled": 4},
            ValueError,
            "`num_sampled` must be at most 3 without replacement",
            "got 4",
            "unique=False",
        ),
        ({"num_sampled": 0}, ValueError, "`num_sampled` must be at least 1", "got 0"),
        ({"num_classes": 2.0}, TypeError, "`num_classes` must be an int", "got float"),
        ({"batch_shape": (-1,)}, ValueError, "`batch_shape` must be a tuple of ints", "got (-1,)"),
        ({"batch_shape": 3}, ValueError, "`batch_shape` must be a tuple of ints", "got 3"),
    ):
        yield ZIPF, key | sizes | changed, exception, wanted
        yield EVEN, key | sizes | changed, exception, wanted
    for changed, exception, *wanted in (
        ({"num_sampled": 3}, ValueError, "`num_sampled` must be at most 2 without replacement", "got 3"),
        ({"counts": [0, 0]}, ValueError, "`counts` must have a class that occurs", "zeros only"),
        ({"counts": [1, -1]}, ValueError, "`counts` must be finite and not negative", "class 1"),
        ({"distortion": np.inf}, ValueError, "`distortion` must be finite", "got inf"),
        ({"distortion": None}, TypeError, "`distortion` must be a number known at trace time", "got NoneType"),
    ):
        yield UNIGRAM, key | {"counts": [1, 0, 2], "num_sampled": 2} | changed, exception, wanted
    yield "all_classes", {"num_classes": 0}, ValueError, ("`num_classes` must be at least 1", "got 0")


CLUSTERS = jsoftmax.AdaptiveWeights(full((4, 5)), ((full((2, 5)), full((6, 2))),), full(4))
ADAPTIVE, SIZES = "adaptive_softmax_loss", "adaptive_weights"


def adaptive_rows():
    """The same of the parameters of an adaptive softmax."""
    (pair,) = CLUSTERS.tails
    layer = {"inputs": full((3, 5)), "weights": CLUSTERS}
    for changed, exception, *wanted in (
        ({"weights": tuple(CLUSTERS)}, TypeError, "`weights` must be a jsoftmax.AdaptiveWeights", "got tuple"),
        ({"inputs": full((3, 4))}, ValueError, "`inputs` (3, 4)", "`weights.head` (4, 5)", "got 4"),
        ({"weights": CLUSTERS._replace(tails=(pair[0],))}, TypeError, "`weights.tails[0]` must be a pair", "ndarray"),
        ({"weights": CLUSTERS._replace(tails=((full((2, 4)), pair[1]),))}, ValueError, "`weights.tails[0][0]` (2, 4)"),
        (
            {"weights": CLUSTERS._replace(tails=((pair[0], full((6, 3))),))},
            ValueError,
            "`weights.tails[0][1]`",
            "(6, 3)",
        ),
        ({"weights": CLUSTERS._replace(tails=(pair,) * 4)}, ValueError, "`weights.head` must have rows", "(4, 5)"),
        (
            {"weights": CLUSTERS._replace(head_bias=full(3))},
            ValueError,
            "`weights.head_bias` must have one",
            "got (3,)",
        ),
        ({"beta": full(4)}, ValueError, "`beta` must broadcast", "got shape (4,)"),
    ):
        yield ADAPTIVE, layer | {"labels": Y} | changed, exception, wanted
        yield "adaptive_log_prob", layer | changed, exception, wanted
    yield ADAPTIVE, layer | {"labels": Y[:2]}, ValueError, ("`labels` must have the shape", "got (2,)")
    sizes = {"key": None, "num_features": 8, "num_classes": 9, "cutoffs": [3]}
    for changed, exception, *wanted in (
        ({"num_features": 0}, ValueError, "`num_features` must be at least 1", "got 0"),
        ({"cutoffs": [3, 3]}, ValueError, "`cutoffs` must increase and be in [1, 8]", "got [3, 3]"),
        ({"cutoffs": [9]}, ValueError, "`cutoffs` must increase and be in [1, 8]", "got [9]"),
        ({"cutoffs": 3}, TypeError, "`cutoffs` must be a sequence of ints", "got 3"),
        ({"div_value": 0}, ValueError, "`div_value` must be a positive number", "got 0"),
        ({"dtype": int}, TypeError, "`dtype` must be floating", "got int32"),
    ):
        yield SIZES, sizes | changed, exception, wanted


MARGIN = ("arcface_loss", "cosface_loss", "am_softmax_loss", "sphereface_loss", "large_margin_softmax_loss")
COMBINED, CONTRASTIVE = "combined_margin_loss", "contrastive_cross_entropy"


def margin_rows():
    """The same of cosines and their margins."""
    vectors = {"embeddings": full((3, 5)), "prototypes": full((4, 5)), "labels": Y}
    of_all = (
        ({"embeddings": X.astype(bool)}, TypeError, "`embeddings` must be a floating or integer array", "dtype bool"),
        ({"prototypes": full(5)}, ValueError, "`prototypes` must have shape (C, D)", "got (5,)"),
        (
            {"prototypes": full((4, 0, 5))},
            ValueError,
            "`prototypes` must have a center for each",
            "got shape (4, 0, 5)",
        ),
        ({"prototypes": full((4, 3))}, ValueError, "as many features on their last axis", "(3, 5) and (4, 3)"),
    )
    of_losses = (
        ({"labels": ROWS}, TypeError, "`labels` must be integers", "got dtype float32"),
        ({"labels": Y[:2]}, ValueError, "`labels` must have the shape", "got (2,)"),
        ({"scale": 0.0}, ValueError, "`scale` must be positive", "got 0.0"),
        ({"scale": np.array([1, 1, -1])}, ValueError, "`scale` must be positive", "got an array with entries"),
        ({"scale": full(4)}, ValueError, "`scale` must broadcast", "got shape (4,)"),
        ({"candidates": np.arange(4)}, TypeError, "`candidates` must be a jsoftmax.Candidates or None", "got ndarray"),
        ({"candidates": DRAWN._replace(ids=full(2))}, TypeError, "`candidates.ids` must be integers", "float32"),
        ({"candidates": DRAWN._replace(ids=np.zeros((3, 2), int))}, ValueError, "shape (S,)", "got (3, 2)"),
        ({"label_smoothing": 2.0}, ValueError, "`label_smoothing` must be in [0, 1]", "got 2.0"),
        ({"ignore_label": 0.5}, TypeError, "`ignore_label` must be an integer", "got dtype float64"),
        ({"weights": full(3)}, ValueError, "`weights` need a `reduction`", 'got "none"'),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of none, sum, mean", "got 'max'"),
        ({"block_size": 0}, ValueError, "`block_size` must be a positive int", "got 0"),
    )
    for name in (*MARGIN, COMBINED):
        for changed, exception, *wanted in of_all + of_losses:
            yield name, vectors | changed, exception, wanted
    for name in MARGIN[3:]:
        yield name, vectors | {"margin": 1.5}, TypeError, ("`margin` must be an int", "got 1.5")
        yield name, vectors | {"margin": 0}, ValueError, ("`margin` must be at least 1", "got 0")
        yield name, vectors | {"annealing": full(4)}, ValueError, ("`annealing` must broadcast", "got shape (4,)")
    for name in (*MARGIN[:3], COMBINED):
        argument = "m2" if name == COMBINED else "margin"
        yield name, vectors | {argument: full(4)}, ValueError, (f"`{argument}` must broadcast", "got shape (4,)")
    for name, extensions in (("arcface_loss", "linear, cosine, clip, staircase, easy"), (COMBINED, "cosine, clip, st")):
        yield name, vectors | {"extension": "none"}, ValueError, (f"`extension` must be one of {extensions}", "'none'")
        yield name, vectors | {"gradient": "none"}, ValueError, ("`gradient` must be one of exact, str", "got 'none'")
    centers = vectors | {"prototypes": full((4, 2, 5)), "bias": full(4)}
    yield MARGIN[4], centers, ValueError, ("`bias` does not go with centers", "(4, 2, 5)")
    yield MARGIN[4], vectors | {"bias": full(3)}, ValueError, ("`bias` must have one entry a class", "got (3,)")
    for changed, exception, *wanted in of_all:
        yield "margin_logits", vectors | changed, exception, wanted
        alone = {k: v for k, v in (vectors | changed).items() if k != "labels"}
        yield "cosine_logits", alone, exception, wanted
    pair = {"queries": full((3, 5)), "documents": full((4, 5)), "beta": 1.0}
    for changed, exception, *wanted in (
        ({"queries": full(5)}, ValueError, "`queries` must have shape (N, D)", "got (5,)"),
        ({"documents": full((4, 3))}, ValueError, "`documents` must have shape (M, 5) or (3, K, 5)", "got (4, 3)"),
        ({"documents": full((2, 5))}, ValueError, "`documents` must be at least as many as the 3", "got shape (2, 5)"),
        ({"symmetric": True}, ValueError, "`documents` must have the shape of `queries` (3, 5)", "got (4, 5)"),
        ({"documents": full((3, 2, 5)), "axis_name": "i"}, ValueError, "`axis_name` goes with", "got shape (3, 2, 5)"),
        ({"beta": full(4)}, ValueError, "`beta` must broadcast", "got shape (4,)"),
        ({"where": full((3, 4))}, TypeError, "`where` must be boolean", "got dtype float32"),
        ({"where": np.ones((3, 5), bool)}, ValueError, "`where` must broadcast", "got shape (3, 5)"),
        ({"weights": full(3)}, ValueError, "`weights` need a `reduction`", 'got "none"'),
    ):
        yield CONTRASTIVE, pair | changed, exception, wanted
    drawn = {"key": None, "num_sampled": 2, "num_classes": 4}
    for changed, exception, *wanted in (
        ({"include": full(2)}, TypeError, "`include` must be integers", "got dtype float32"),
        ({"include": Y}, ValueError, "`num_sampled` must be at least the 3 entries of `include`", "got 2"),
        ({"include": Y[:2], "unique": False}, ValueError, "`include` goes with unique=True", "got False and ()"),
    ):
        yield EVEN, drawn | changed, exception, wanted


def addressing_rows():
    pair, maps = {"keys": full((3, 5)), "memory": full((4, 5))}, {"x": X3, "axis": (0, 2)}
    several = {"keys": full((2, 3, 5)), "memory": full((2, 4, 5))}
    for given, exception, *wanted in (
        (pair | {"keys": X.astype(bool)}, TypeError, "`keys` must be a floating or integer array", "dtype bool"),
        (pair | {"memory": [[SECRET]]}, TypeError, "`memory` must be an array", "got list"),
        (pair | {"memory": full(5)}, ValueError, "`memory` must have shape (M, D)", "got (5,)"),
        (pair | {"keys": full(())}, ValueError, "`keys` must have the leading axes", "shape (..., 5), got ()"),
        (pair | {"keys": full((3, 4))}, ValueError, "`keys` must have the leading axes", "shape (..., 5), got (3, 4)"),
        (several | {"keys": full((3, 5))}, ValueError, "leading axes of `memory` (2, 4, 5)", "(2, ..., 5), got (3, 5)"),
        (several | {"keys": full(5)}, ValueError, "`keys` must have the leading axes", "got (5,)"),
        (pair | {"beta": full((3, 4))}, ValueError, "`beta` must broadcast", "got shape (3, 4)"),
        (pair | {"beta": 2.0, "temperature": 1.0}, ValueError, "give one of", "`beta` and `temperature`"),
        (pair | {"where": full((3, 4))}, TypeError, "`where` must be boolean", "got dtype float32"),
        (
            several | {"where": np.ones((2, 4), bool)},
            ValueError,
            "`where` must broadcast",
            "(2, 3, 4), got shape (2, 4)",
        ),
    ):
        yield "content_addressing", given, exception, wanted
    for given, exception, *wanted in (
        (maps | {"x": X3.astype(bool)}, TypeError, "`x` must be a floating or integer array", "got dtype bool"),
        (maps | {"axis": 3}, ValueError, "`axis` must be in [-3, 3)", "got 3"),
        (maps | {"axis": ()}, ValueError, "`axis` must name an axis, got ()", "shape (2, 3, 5)"),
        (maps | {"axis": 1.0}, TypeError, "`axis` must be an int", "got float"),
        (maps | {"beta": full((2, 1, 5))}, ValueError, "`beta` must broadcast", "(3,), got shape (2, 1, 5)"),
        (maps | {"beta": 2.0, "base": 1.0}, ValueError, "give one of", "`beta` and `base`"),
        (maps | {"where": np.ones(4, bool)}, ValueError, "`where` must broadcast", "got shape (4,)"),
        (maps | {"coordinates": "middle"}, ValueError, "`coordinates` must be one of pixels, ce", "got 'middle'"),
        (maps | {"coordinates": full(2)}, ValueError, "tuple of 2 arrays, one for each of the axes, got ndarray"),
        (maps | {"coordinates": (full(2),)}, ValueError, "`coordinates` must be pixels, centers, edges or", "got 1"),
        (maps | {"coordinates": (full(2), full(4))}, ValueError, "for each of the 5 indices", "got shape (4,)"),
        (maps | {"coordinates": (full(2), np.ones(5, bool))}, TypeError, "`coordinates` must be a fl", "dtype bool"),
        (maps | {"axis": 1, "coordinates": (full(3),)}, TypeError, "`coordinates` must be an array", "got tuple"),
    ):
        yield "soft_argmax", given, exception, wanted


def attention_rows():
    """The same of queries, keys and values."""
    memory = {"query": full((2, 5, 4, 3)), "key": full((2, 6, 2, 3)), "value": full((2, 6, 2, 7))}
    for changed, exception, *wanted in (
        ({"query": full((5, 3))}, ValueError, "`query` must have shape (B, T, N, H) or (T, N, H)", "got (5, 3)"),
        ({"key": full((6, 2, 3))}, ValueError, "`key` must have shape (2, S, K, 3)", "got (6, 2, 3)"),
        ({"key": full((2, 6, 2, 4))}, ValueError, "`key` must have shape (2, S, K, 3)", "got (2, 6, 2, 4)"),
        (
            {"value": full((2, 5, 2, 7))},
            ValueError,
            "`value` must have the shape of `key` (2, 6, 2, 3)",
            "(2, 5, 2, 7)",
        ),
        (
            {"key": full((2, 6, 3, 3)), "value": full((2, 6, 3, 3))},
            ValueError,
            "the 4 heads of `query` must be a multiple",
            "got 3",
        ),
        ({"query": memory["query"].astype(bool)}, TypeError, "`query` must be a floating or integer", "got dtype bool"),
        ({"beta": full(3)}, ValueError, "`beta` must broadcast", "got shape (3,)"),
        ({"where": full((5, 6))}, TypeError, "`where` must be boolean", "got dtype float32", "go to `bias`"),
        (
            {"where": np.ones((2, 5, 6), bool)},
            ValueError,
            "`where` must broadcast to the scores",
            "got shape (2, 5, 6)",
        ),
        ({"bias": full((5, 5))}, ValueError, "`bias` must broadcast to the scores (B, N, T, S)", "got shape (5, 5)"),
        ({"bias": np.ones((5, 6), bool)}, TypeError, "`bias` must be a floating or integer array", "got dtype bool"),
        ({"block_size": (4, 0)}, ValueError, "`block_size` must be a positive int", "got (4, 0)"),
    ):
        yield "dot_product_attention", memory | changed, exception, wanted


ENERGIES, KL, UNIT = ("boltzmann", "free_energy", "entropy"), "kl_divergence", "bernoulli_unit"


def energy_rows():
    """The same of energies, and of the layers of a restricted Boltzmann machine."""
    for name in (*ENERGIES, KL):
        array = {"entropy": "logits", KL: "logits_p"}.get(name, "energies")
        given = {array: X} | ({"logits_q": X} if name == KL else {})
        for changed, exception, *wanted in (
            ({array: X.astype(bool)}, TypeError, f"`{array}` must be a floating or integer array", "dtype bool"),
            ({array: [SECRET]}, TypeError, f"`{array}` must be an array", "got list"),
            ({"axis": 2}, ValueError, "`axis` must be in [-2, 2)", "got 2"),
            ({"where": X}, TypeError, "`where` must be boolean", "got dtype float32"),
            ({"where": np.ones(4, bool)}, ValueError, "`where` must broadcast", "got shape (4,)"),
            ({"beta": full(4)}, ValueError, "`beta` must broadcast", "got shape (4,)"),
            ({"beta": 1.0, "temperature": 1.0}, ValueError, "give one of `beta`", "`beta` and `temperature`"),
            ({"axis_name": 0}, TypeError, "`axis_name` must be the name of a mesh axis", "got 0"),
        ):
            yield name, given | changed, exception, wanted
    yield KL, {"logits_p": X, "logits_q": X[0]}, ValueError, ("`logits_q` must have the shape of `logits_p`", "(5,)")
    yield KL, {"logits_p": X, "logits_q": None}, TypeError, ("`logits_q` must be an array", "got NoneType")
    yield UNIT, {"gap": X.astype(complex)}, TypeError, ("`gap` must be a floating or integer array", "complex128")
    yield UNIT, {"gap": X, "beta": full(4)}, ValueError, ("`beta` must broadcast", "got shape (4,)")
    machine = {"weight": full((5, 2)), "visible_bias": full(5), "hidden_bias": full(2)}
    of_machine = (
        ({"weight": full(5)}, ValueError, "`weight` must have shape (V, H)", "got (5,)"),
        ({"weight": full((0, 2))}, ValueError, "`weight` must have shape (V, H)", "got (0, 2)"),
        ({"visible_bias": full(2)}, ValueError, "`visible_bias` must have one entry a visible unit", "got (2,)"),
        ({"hidden_bias": full(5)}, ValueError, "`hidden_bias` must have one entry a hidden unit", "got (5,)"),
        ({"hidden_bias": None}, TypeError, "`hidden_bias` must be an array", "got NoneType"),
    )
    of_units = (
        ({"visible": full((3, 2))}, ValueError, "`visible` must have its units on the last axis", "got shape (3, 2)"),
        ({"visible": np.float32(SECRET)}, ValueError, "`visible` must have its units on the last", "got shape ()"),
        ({"visible": X.astype(bool)}, TypeError, "`visible` must be a floating or integer array", "dtype bool"),
    )
    steps = (
        ({"steps": 0}, ValueError, "`steps` must be at least 1", "got 0"),
        ({"steps": 1.0}, TypeError, "`steps` must be an int", "got float"),
    )
    chains = ({"chains": full((3, 2))}, ValueError, "`chains` must have its units on the last axis", "got shape (3, 2)")
    key, v, of_beta = {"key": None}, {"visible": X}, ({"beta": full(4)}, ValueError, "`beta` must broadcast", "(4,)")
    for name, given, table in (
        ("rbm_energy", v | {"hidden": full((3, 2))} | machine, of_machine + of_units),
        ("rbm_free_energy", v | machine, (*of_machine, *of_units, of_beta)),
        ("rbm_gibbs", key | v | machine | {"steps": 1}, (*of_machine, *of_units, *steps, of_beta)),
        ("rbm_contrastive_divergence", key | v | machine, (*of_machine, *of_units, *steps, chains, of_beta)),
        ("rbm_pseudo_log_likelihood", key | v | machine, (*of_machine, *of_units, of_beta)),
        ("rbm_log_partition", machine, (*of_machine, of_beta)),
        ("rbm_hidden_probability", v | {k: machine[k] for k in ("weight", "hidden_bias")}, (*of_units, of_beta)),
    ):
        for changed, exception, *wanted in table:
            yield name, given | changed, exception, wanted
    layers = v | machine | {"hidden": full((3, 5))}
    yield "rbm_energy", layers, ValueError, ("`hidden` must have its units on the last axis", "got shape (3, 5)")
    yield (
        "rbm_energy",
        layers | {"hidden": full((2, 2))},
        ValueError,
        ("`hidden` must have the leading axes of `visible` (3, 5)", "(2, 2)"),
    )
    down = {"hidden": full((3, 5)), "weight": full((5, 2)), "visible_bias": full(5)}
    yield "rbm_visible_probability", down, ValueError, ("`hidden` must have its units on the last axis", "(3, 5)")
    large = {"weight": full((21, 22)), "visible_bias": full(21), "hidden_bias": full(22)}
    yield "rbm_log_partition", large, ValueError, ("`weight` must have a layer of at most 20 units", "(21, 22)")


def hopfield_rows():
    """The same of associative memories."""
    signs = np.ones((2, 4), np.int8)
    network = {"state": signs, "weights": full((4, 4))}
    lopsided = full((4, 4))
    lopsided[0, 1] = 0
    yield "hopfield_weights", {"patterns": full(4)}, ValueError, ("`patterns` must have shape (M, D)", "got (4,)")
    yield "hopfield_weights", {"patterns": signs > 0}, TypeError, ("`patterns` must be a floating or", "dtype bool")
    of_all = (
        ({"state": signs.astype(np.uint8)}, TypeError, "`state` must be of a dtype that has −1", "got uint8"),
        ({"state": full((2, 3))}, ValueError, "`state` must have the 4 units of `weights`", "got (2, 3)"),
        ({"state": np.float32(1)}, ValueError, "`state` must have the 4 units of `weights`", "got ()"),
        ({"weights": full((4, 3))}, ValueError, "`weights` must have shape (D, D)", "got (4, 3)"),
        ({"weights": lopsided}, ValueError, "`weights` must be symmetric"),
        ({"threshold": full(3)}, ValueError, "`threshold` must broadcast", "got shape (3,)"),
    )
    of_updates = (
        ({"order": full(4)}, TypeError, "`order` must be integers", "got dtype float32"),
        ({"order": np.arange(3)}, ValueError, "`order` must name each of the 4 units once", "got shape (3,)"),
        ({"order": np.zeros(4, int)}, ValueError, "`order` must name each of the 4 units once", "got some twice"),
        ({"order": np.arange(4), "synchronous": True}, ValueError, "give one of `order`", "`order` and synchronous"),
        ({"order": np.arange(4), "key": 0}, ValueError, "give one of `order`", "got `order` and `key`"),
    )
    for name in ("hopfield_energy", "hopfield_update", "hopfield_retrieve"):
        for changed, exception, *wanted in of_all + (() if name == "hopfield_energy" else of_updates):
            yield name, network | changed, exception, wanted
    for most, exception, got in ((0, ValueError, "at least 1, got 0"), (2.0, TypeError, "an int, got float")):
        yield "hopfield_retrieve", network | {"max_sweeps": most}, exception, ("`max_sweeps` must be", got)
    memory = {"state": full((2, 4)), "patterns": full((3, 4)), "beta": 1.0}
    for name in ("modern_hopfield_energy", "modern_hopfield_retrieve"):
        for changed, exception, *wanted in (
            ({"state": full((2, 3))}, ValueError, "as many features on their last axis", "(2, 3) and (3, 4)"),
            ({"patterns": full(4)}, ValueError, "`patterns` must have shape (M, D)", "got (4,)"),
            ({"beta": full(3)}, ValueError, "`beta` must broadcast", "got shape (3,)"),
            ({"where": full(3)}, TypeError, "`where` must be boolean", "got dtype float32"),
            ({"where": np.ones((3, 3), bool)}, ValueError, "`where` must broadcast", "got shape (3, 3)"),
        ):
            yield name, memory | changed, exception, wanted
    for changed, exception, *wanted in (
        ({"values": full(3)}, ValueError, "`values` must have shape (M, D)", "got (3,)"),
        (
            {"values": full((2, 5))},
            ValueError,
            "`values` must have a row for each of the 3 patterns",
            "got shape (2, 5)",
        ),
        ({"steps": 0}, ValueError, "`steps` must be at least 1", "got 0"),
        ({"steps": 1.5}, TypeError, "`steps` must be an int", "got float"),
    ):
        yield "modern_hopfield_retrieve", memory | changed, exception, wanted


TABLE = [
    *(*rows(), *tree_rows(), *sampled_rows(), *adaptive_rows()),
    *(*margin_rows(), *addressing_rows(), *attention_rows(), *energy_rows(), *hopfield_rows()),
]
CHECKS = check, check_attention, check_energy, check_hopfield


def check_message(name, error, exception, fragments):
    message = str(error.value)
    assert error.type is exception, f"{error.type.__name__}: {message}"
    assert message.startswith(f"{name}: ") and message.endswith("."), message
    assert [part for part in fragments if part not in message] == [], message
    assert not any(part in message for part in ("31337", "3.13", "Array(", "array(", "Tracer")), message
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize("operator", dict.fromkeys(name for name, *_ in TABLE))
def test_refused(operator):
    """T19 for axes, T28 for dtypes, L05 for labels."""
    for name, given, exception, fragments in TABLE:
        if name != operator:
            continue
        with pytest.raises((TypeError, ValueError)) as error:
            getattr(jsoftmax, name)(**given)
        check_message(name, error, exception, fragments)


def is_array(value):
    return isinstance(value, np.ndarray | np.generic)


@pytest.mark.parametrize("operator", (*OPERATORS, "weighted_mean", SPATIAL, LINEAR))
def test_refused_alike_under_jit(operator):
    """With every array traced; left out are numbers that are checked only where they are static."""
    tried = 0
    for name, given, exception, fragments in TABLE:
        if name != operator or is_array(given.get("axis")) or is_array(given.get("ignore_label")):
            continue
        arrays = {k: v for k, v in given.items() if is_array(v)}
        static = {k: v for k, v in given.items() if k not in arrays}
        if not arrays:
            continue
        with pytest.raises((TypeError, ValueError)) as error:
            jax.jit(lambda arrays, n=name, s=static: getattr(jsoftmax, n)(**arrays, **s))(arrays)
        check_message(name, error, exception, fragments)
        tried += 1
    assert tried > 5


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_traced_axis_is_refused(operator):
    with pytest.raises(TypeError) as error:
        jax.jit(lambda axis: getattr(jsoftmax, operator)(**arguments(operator), axis=axis))(jnp.int32(1))
    message = str(error.value)
    assert message.startswith(f"{operator}: `axis` must be an int, a tuple of ints or None, known at trace time"), (
        message
    )


@pytest.mark.parametrize("ignore", [jnp.float32(0), jnp.zeros(3, jnp.int32), jnp.asarray(True)])
def test_a_traced_ignore_label_is_refused(ignore):
    def loss(ignore):
        return jsoftmax.softmax_cross_entropy_with_integer_labels(X, Y, ignore_label=ignore)

    for f in (loss, jax.jit(loss)):
        with pytest.raises(TypeError, match="`ignore_label` must be an integer or None, got dtype"):
            f(ignore)


def test_forward_mode_outside_its_context_is_jax_own_error():
    for operator in OPERATORS:
        rest = {k: v for k, v in arguments(operator).items() if k != logits(operator)}
        f = lambda x, n=operator, r=rest: getattr(jsoftmax, n)(x, **r)  # noqa: E731
        with pytest.raises(TypeError, match="custom_vjp"):
            jax.jvp(f, (jnp.asarray(X),), (jnp.asarray(X),))


def varying_rows():
    """Labels that each device along the axis of the classes has for itself."""

    def loss(x, labels):
        labels = jax.lax.pcast(labels, "model", to="varying")
        return jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels, axis_name="model")

    mesh, spread = jax.make_mesh((5,), ("model",), axis_types=(AxisType.Auto,)), PartitionSpec(None, "model")
    with pytest.raises(ValueError) as error:
        jax.shard_map(loss, mesh=mesh, in_specs=(spread, PartitionSpec()), out_specs=PartitionSpec())(X, Y)
    return error


def test_rows_that_vary_over_the_devices_of_their_classes_are_refused():
    wanted = "`labels` must be the same on every device along `axis_name`", "varies over model"
    check_message(INT, varying_rows(), ValueError, wanted)


def test_a_mesh_axis_that_is_not_there_is_jax_own_error():
    for operator in (*MASKED, LINEAR, "weighted_mean"):
        with pytest.raises(NameError, match="model"):
            getattr(jsoftmax, operator)(**arguments(operator), axis_name="model")


def lines_of_checks(error, module):
    return {entry.lineno + 1 for entry in error.traceback if str(entry.path) == module.__file__}


@pytest.mark.parametrize("module", CHECKS)
def test_every_way_to_refuse_is_in_the_table(module):
    """One row at least for each `raise` of the checks, but for what only a mesh or a trace can show."""
    tree = ast.parse(inspect.getsource(module))
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    seen = set()
    for name, given, *_ in TABLE:
        with pytest.raises((TypeError, ValueError)) as error:
            getattr(jsoftmax, name)(**given)
        seen |= lines_of_checks(error, module)
    seen |= lines_of_checks(varying_rows(), module)
    with pytest.raises(TypeError) as error:
        jax.jit(jsoftmax.huffman_tree)(jnp.ones(3))
    seen |= lines_of_checks(error, module)
    missed = [node.lineno for node in raised if not seen & set(range(node.lineno, node.end_lineno + 1))]
    assert missed == []
