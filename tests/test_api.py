"""What a user may write and gets back: names, signatures, drop-in calls, dtypes, forms of β, axis, labels and weights.

Numbers are measured elsewhere; here they have to agree between two ways of writing the same thing, or with a peer at
inputs that are easy for it.
"""

import ast
import functools
import importlib
import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsoftmax
from tests import inputs, oracle, registry, tolerance
from tests.marks import fast

COMPILE_LIGHTLY = True
INT = "softmax_cross_entropy_with_integer_labels"
DIST = "softmax_cross_entropy"
SPATIAL = "spatial_softmax_cross_entropy"  # has tests of its own: test_spatial.py
LINEAR = "linear_softmax_cross_entropy"  # and so has this: test_linear.py
SIGNATURES = {
    "softmax": "(x, axis=-1, where=None, *, beta=1.0, temperature=None, base=None, axis_name=None)",
    "log_softmax": "(x, axis=-1, where=None, *, beta=1.0, temperature=None, base=None, axis_name=None)",
    "softmax_jacobian": "(x, axis=-1, *, beta=1.0)",
    "logsumexp": "(x, axis=-1, *, beta=1.0, temperature=None, base=None, where=None, b=None, "
    "keepdims=False, axis_name=None)",
    "logmeanexp": "(x, axis=-1, *, beta=1.0, where=None, keepdims=False, axis_name=None)",
    DIST: "(logits, labels, axis=-1, where=None, *, beta=1.0, temperature=None, base=None, "
    "label_smoothing=0.0, z_loss=0.0, class_weights=None, axis_name=None)",
    INT: "(logits, labels, axis=-1, where=None, *, beta=1.0, temperature=None, base=None, "
    "label_smoothing=0.0, z_loss=0.0, class_weights=None, ignore_label=None, axis_name=None)",
    SPATIAL: "(logits, labels, *, axis=1, where=None, beta=1.0, temperature=None, base=None, label_smoothing=0.0, "
    "z_loss=0.0, class_weights=None, ignore_label=None, weights=None, normalization='valid')",
    LINEAR: "(inputs, weight, labels, *, bias=None, class_axis=1, beta=1.0, temperature=None, base=None, "
    "soft_cap=None, label_smoothing=0.0, z_loss=0.0, ignore_label=None, weights=None, reduction='none', "
    "block_size=None, axis_name=None, return_stats=False)",
    "weighted_mean": "(losses, weights=None, *, axis_name=None)",
    "forward_mode": "()",
}
WAYS = "bias=None, beta=1.0, temperature=None, base=None"
HIERARCHICAL = {
    "Tree": "(paths, codes, mask, children=None)",
    "tree_from_paths": "(paths)",
    "huffman_tree": "(counts, *, max_length=None)",
    "tree_from_codes": "(codes)",
    "hierarchical_softmax_loss": f"(inputs, node_weight, labels, tree, *, {WAYS}, ignore_label=None)",
    "hierarchical_log_prob": f"(inputs, node_weight, tree, *, {WAYS})",
    "hierarchical_predict": f"(inputs, node_weight, tree, *, beam_size=1, {WAYS})",
    "hierarchical_sample": f"(key, inputs, node_weight, tree, *, {WAYS})",
}
CLASS_AXIS = "bias=None, class_axis=1, beta=1.0, temperature=None, base=None"
DRAWS = "unique=True, batch_shape=()"
SAMPLED = {
    "Candidates": "(ids, log_expected_count)",
    "all_classes": "(num_classes)",
    "log_uniform_sampler": f"(key, *, num_sampled, num_classes, {DRAWS})",
    "uniform_sampler": f"(key, *, num_sampled, num_classes, {DRAWS}, include=None)",
    "unigram_sampler": f"(key, counts, *, num_sampled, distortion=1.0, {DRAWS})",
    "sampled_softmax_loss": f"(inputs, weight, labels, candidates, *, {CLASS_AXIS}, remove_accidental_hits=True, "
    "correct_labels=True, ignore_label=None)",
    "nce_loss": f"(inputs, weight, labels, candidates, *, {CLASS_AXIS}, log_normalizer=0.0, "
    "remove_accidental_hits=False, ignore_label=None)",
    "negative_sampling_loss": f"(inputs, weight, labels, candidates, *, {CLASS_AXIS}, remove_accidental_hits=False, "
    "ignore_label=None)",
}
ADAPTIVE = {
    "AdaptiveWeights": "(head, tails, head_bias=None)",
    "adaptive_weights": "(key, num_features, num_classes, cutoffs, *, div_value=4.0, head_bias=False, dtype=None)",
    "adaptive_softmax_loss": "(inputs, weights, labels, *, beta=1.0, temperature=None, base=None, ignore_label=None)",
    "adaptive_log_prob": "(inputs, weights, *, beta=1.0, temperature=None, base=None)",
    "adaptive_predict": "(inputs, weights)",
}
TO_THE_END = "weights=None, reduction='none', block_size=None, axis_name=None"
SEEN = f"candidates=None, label_smoothing=0.0, ignore_label=None, {TO_THE_END}"
VECTORS = "(embeddings, prototypes, labels, *, "
THREE = "scale=64.0, m1=1.0, m2=0.5, m3=0.0, annealing=0.0, extension='cosine'"
MARGIN = {
    "arcface_loss": f"{VECTORS}scale=64.0, margin=0.5, extension='linear', gradient='exact', {SEEN})",
    "cosface_loss": f"{VECTORS}scale=64.0, margin=0.35, {SEEN})",
    "am_softmax_loss": f"{VECTORS}scale=30.0, margin=0.35, {SEEN})",
    "sphereface_loss": f"{VECTORS}scale=1.0, margin=4, annealing=0.0, gradient='exact', {SEEN})",
    "large_margin_softmax_loss": f"{VECTORS}bias=None, scale=1.0, margin=4, annealing=0.0, gradient='exact', {SEEN})",
    "combined_margin_loss": f"{VECTORS}{THREE}, gradient='exact', {SEEN})",
    "cosine_logits": "(embeddings, prototypes)",
    "margin_logits": f"{VECTORS}{THREE})",
    "margin_annealing": "(base=1000.0, gamma=0.12, power=1.0, minimum=5.0)",
    "contrastive_cross_entropy": f"(queries, documents, *, beta, where=None, symmetric=False, {TO_THE_END})",
}
ADDRESSING = {
    "content_addressing": "(keys, memory, *, beta=1.0, temperature=None, where=None)",
    "soft_argmax": "(x, axis=-1, *, beta=1.0, temperature=None, base=None, where=None, coordinates='pixels', "
    "keepdims=False)",
    "dot_product_attention": "(query, key, value, *, beta=None, where=None, bias=None, is_causal=False, "
    "return_logsumexp=False, block_size=None)",
}
WHICH = "beta=1.0, temperature=None"
OF_ROWS = f"*, {WHICH}, base=None, where=None, keepdims=False, axis_name=None)"
MACHINE = "weight, visible_bias, hidden_bias"
ENERGY = {
    "boltzmann": f"(energies, axis=-1, where=None, *, {WHICH}, axis_name=None)",
    "free_energy": f"(energies, axis=-1, *, {WHICH}, where=None, keepdims=False, axis_name=None)",
    "bernoulli_unit": f"(gap, *, {WHICH})",
    "entropy": f"(logits, axis=-1, {OF_ROWS}",
    "kl_divergence": f"(logits_p, logits_q, axis=-1, {OF_ROWS}",
    "rbm_energy": f"(visible, hidden, {MACHINE})",
    "rbm_free_energy": f"(visible, {MACHINE}, *, {WHICH})",
    "rbm_hidden_probability": f"(visible, weight, hidden_bias, *, {WHICH})",
    "rbm_visible_probability": f"(hidden, weight, visible_bias, *, {WHICH})",
    "rbm_gibbs": f"(key, visible, {MACHINE}, *, steps, {WHICH})",
    "rbm_contrastive_divergence": f"(key, visible, {MACHINE}, *, steps=1, chains=None, {WHICH})",
    "rbm_log_partition": f"({MACHINE}, *, {WHICH})",
    "rbm_pseudo_log_likelihood": f"(key, visible, {MACHINE}, *, {WHICH})",
}
COURSE = "threshold=None, order=None, key=None, synchronous=False"
HOPFIELD = {
    "HopfieldRetrieval": "(state, sweeps, settled)",
    "hopfield_weights": "(patterns)",
    "hopfield_energy": "(state, weights, *, threshold=None)",
    "hopfield_update": f"(state, weights, *, {COURSE})",
    "hopfield_retrieve": f"(state, weights, *, {COURSE}, max_sweeps=100)",
    "modern_hopfield_energy": "(state, patterns, *, beta, where=None)",
    "modern_hopfield_retrieve": "(state, patterns, *, values=None, beta, steps=1, where=None)",
}
LARGE = HIERARCHICAL | SAMPLED | ADAPTIVE
NO_LOGITS = LARGE | MARGIN | ADDRESSING | ENERGY | HOPFIELD
OTHERS = ("weighted_mean", "forward_mode", SPATIAL, LINEAR, *(NO_LOGITS.keys() - {"entropy"}))
SIGNATURES |= NO_LOGITS
OPERATORS = [name for name in SIGNATURES if name not in OTHERS]
THREE_NAMES = [name for name in OPERATORS if "temperature" in SIGNATURES[name]]
LOSSES = (DIST, INT)

X = inputs.cotangent((3, 4), 1).astype(np.float32)
Y = np.array([3, 0, 2], np.int32)
Q = np.abs(inputs.cotangent((3, 4), 2)).astype(np.float32)
Q /= Q.sum(-1, keepdims=True)
MASK = np.array([[True, True, False, True], [True, False, True, True], [True, True, True, True]])


def positional(name, x):
    """The arrays that the operator cannot do without."""
    return {INT: (x, Y), DIST: (x, Q.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else Q)}.get(name, (x,))


def call(name, x=X, **kwargs):
    return getattr(jsoftmax, name)(*positional(name, x), **kwargs)


def assert_same_bits(a, b, what=""):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), what
    assert a.tobytes() == b.tobytes(), f"{what}: {a} is not {b}"


def assert_close(actual, expected, bound, what):
    """Within the operator's own bound, of the largest number; for easy inputs, whose exponents are below 8."""
    expected = np.asarray(expected).astype(np.float64)
    scale = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    tolerance.check(actual, expected, actual.dtype, bound, what, scale=scale, gap=8.0)


# names -------------------------------------------------------------------------------------------------------------


def test_the_public_names_are_the_documented_ones():
    assert {name for name in vars(jsoftmax) if not name.startswith("_")} == set(SIGNATURES)
    assert set(jsoftmax.__all__ if hasattr(jsoftmax, "__all__") else SIGNATURES) == set(SIGNATURES)


def test_the_init_exports_one_name_a_line_and_sorted():
    tree = ast.parse(inspect.getsource(jsoftmax))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert all(len(node.names) == 1 and node.names[0].asname == node.names[0].name for node in imports)
    assert len(imports) == len(SIGNATURES)
    modules = [node.module for node in imports]
    assert modules == sorted(modules)
    rest = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    assert [type(node) for node in rest] == [ast.Expr, ast.Assign], "docstring, imports, __version__: nothing else"


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", jsoftmax.__version__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    signature = inspect.signature(getattr(jsoftmax, name))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(signature.replace(parameters=bare, return_annotation=signature.empty)) == SIGNATURES[name]
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.mark.parametrize("name", OPERATORS)
def test_hyper_parameters_are_keywords(name):
    given = len(positional(name, X)) + sum(p in SIGNATURES[name].split("*")[0] for p in ("axis", "where"))
    arguments = (*positional(name, X), -1, None, 2.0)[: given + 1]
    with pytest.raises(TypeError, match="positional argument"):
        getattr(jsoftmax, name)(*arguments)


# drop-in -----------------------------------------------------------------------------------------------------------

B = np.abs(inputs.cotangent((3, 4), 4)).astype(np.float32) + np.float32(0.1)
X3 = inputs.cotangent((2, 3, 4), 5).astype(np.float32)
Q3 = Q[None] * np.ones((2, 1, 1), np.float32)
UNMASKED = np.where(MASK, Q, np.float32(0))  # optax leaves out the mass on masked classes, here it is +inf
OPTAX = {"softmax_cross_entropy": "softmax_cross_entropy", INT: INT, "safe_softmax_cross_entropy": DIST}
DROP_IN = [
    *(
        (getattr(jax.nn, name), name, args, kwargs)
        for name in ("softmax", "log_softmax")
        for args, kwargs in (
            ((X,), {}),
            ((X, 0), {}),
            ((X, -1, MASK), {}),
            ((X,), {"axis": 0, "where": MASK[:, :1]}),
            ((X3, (0, 2)), {}),
            ((X3,), {"axis": (-1, 1)}),
            ((X3, None), {}),
        )
    ),
    *(
        (jax.nn.logsumexp, "logsumexp", args, kwargs)
        for args, kwargs in (
            ((X, -1), {}),
            ((X, 0), {"keepdims": True}),
            ((X,), {"axis": 1, "b": B}),
            ((X,), {"axis": 1, "b": B[:1], "keepdims": True, "where": MASK}),
            ((X,), {"axis": -1, "where": MASK}),
            ((X3,), {"axis": (0, 2)}),
            ((X3,), {"axis": (2, 1), "keepdims": True}),
            ((X3, None), {}),
        )
    ),
    (jax.nn.logmeanexp, "logmeanexp", (X, -1), {"where": MASK}),
    (jax.nn.logmeanexp, "logmeanexp", (X3,), {"axis": (0, 1), "keepdims": True}),
    *(
        (getattr(optax.losses, theirs), ours, args, kwargs)
        for theirs, ours, args, kwargs in (
            ("softmax_cross_entropy", DIST, (X, Q), {}),
            ("softmax_cross_entropy", DIST, (), {"logits": X, "labels": Q, "axis": 0}),
            ("softmax_cross_entropy", DIST, (X3, Q3, (1, 2)), {}),
            ("softmax_cross_entropy", DIST, (X, UNMASKED, -1, MASK), {}),
            ("safe_softmax_cross_entropy", DIST, (X, Q), {}),
            (INT, INT, (X, Y), {}),
            (INT, INT, (), {"logits": X, "labels": np.array([2, 1, 0, 1]), "axis": 0}),
            (INT, INT, (X3, np.array([11, 4]), (1, 2)), {}),
            (INT, INT, (X, np.array([3, 0, 2]), -1, MASK), {}),
        )
    ),
]


@pytest.mark.parametrize(
    ("theirs", "name", "args", "kwargs"), DROP_IN, ids=[f"{i}-{row[1]}" for i, row in enumerate(DROP_IN)]
)
def test_takes_the_place_of(theirs, name, args, kwargs):
    given = args or (kwargs["logits"], kwargs["labels"])
    kwargs = {k: v for k, v in kwargs.items() if k not in ("logits", "labels")}

    def value_and_gradient(f):
        def of(x):
            y, pull = jax.vjp(
                lambda x: f(x, *given[1:], **kwargs) if args else f(logits=x, labels=given[1], **kwargs), x
            )
            return y, pull(jnp.asarray(inputs.cotangent(y.shape), y.dtype))[0]

        return jax.jit(of)(given[0])

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # what the peers are written for
        expected, expected_bar = value_and_gradient(theirs)
    actual, actual_bar = value_and_gradient(getattr(jsoftmax, name))
    assert_close(actual, expected, tolerance.VALUE[name], name)
    assert_close(actual_bar, expected_bar, tolerance.COTANGENT["x"], f"gradient of {name}")


def test_logsumexp_reduces_the_last_axis_where_jax_reduces_all():
    assert_same_bits(jsoftmax.logsumexp(X), jsoftmax.logsumexp(X, -1))
    assert jax.nn.logsumexp(X).shape == () and jsoftmax.logsumexp(X).shape == (3,)


# dtypes ------------------------------------------------------------------------------------------------------------


def betas(name):
    """β as it may come."""
    rows = (3, 1) if name in ("softmax", "log_softmax") else (3,)
    return {
        "default": None,
        "float": 2.0,
        "int": 2,
        "float64 scalar": np.float64(2),
        "float32 array": jnp.float32(2),
        "weak array": jnp.asarray(2.0),
        "bfloat16 array": jnp.bfloat16(2),
        "float16 array": jnp.float16(2),
        "0-d array": np.array(2.0, np.float32),
        "a row": np.full(rows, 2.0, np.float32),
        "a wide row": np.full(rows, 2.0),
        "int32 array": jnp.int32(2),
    }


@pytest.mark.parametrize(
    ("name", "x64"),
    [
        pytest.param(name, x64, marks=() if name in (("softmax", INT) if x64 else registry.KINDS) else pytest.mark.slow)
        for name in OPERATORS
        for x64 in (False, True)
    ],
    ids=lambda value: value if isinstance(value, str) else "x64" if value else "x32",
)
def test_dtypes(name, x64):
    """T29."""
    with jax.enable_x64(x64):
        default = np.float64 if x64 else np.float32
        floating = [jnp.bfloat16, np.float16, np.float32, *([np.float64] if x64 else [])]
        for dtype in (*floating, np.int8, np.int32):
            wanted = dtype if dtype in floating else default
            result = np.promote_types(wanted, np.float32) if name in (*LOSSES, "entropy") else wanted
            for kind, beta in betas(name).items():
                masks = [{}, {"where": MASK}] if "where" in SIGNATURES[name] and kind in ("default", "a row") else [{}]
                for where in masks:
                    what = f"{np.dtype(dtype)} logits, beta {kind}"
                    x, given = jnp.ones((3, 4), dtype), {} if beta is None else {"beta": beta}
                    y = jax.eval_shape(lambda x, k=given, w=where: call(name, x, **k, **w), x)
                    assert (y.dtype, y.weak_type) == (result, False), what
                    if dtype not in floating:
                        continue
                    if isinstance(beta, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(
                        beta.dtype, jnp.floating
                    ):
                        given = (x, jnp.asarray(beta))
                        assert_dtypes(lambda x, b, w=where: call(name, x, beta=b, **w), given, [result])


def assert_dtypes(f, args, results):
    """Of the results, and of the cotangents, which are those of the arguments."""

    def value_and_cotangents(*args):
        y, pull = jax.vjp(f, *args)
        return y, pull(y)

    y, bars = jax.eval_shape(value_and_cotangents, *args)
    assert [leaf.dtype for leaf in jax.tree.leaves(y)] == results
    assert [bar.dtype for bar in bars] == [arg.dtype for arg in args]


@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
def test_dtypes_of_the_other_arguments(x64):
    with jax.enable_x64(x64):
        x = jnp.asarray(X, jnp.bfloat16)
        for dtype in (jnp.bfloat16, np.float16, np.float32, *([np.float64] if x64 else [])):
            q, w = jnp.ones((3, 4), dtype), jnp.ones((3, 1), dtype)
            wide = np.promote_types(dtype, np.float32)
            assert_dtypes(lambda q: jsoftmax.softmax_cross_entropy(x, q), (q,), [np.float32])
            assert_dtypes(lambda b: jsoftmax.logsumexp(x, b=b), (q,), [jnp.bfloat16])
            assert_dtypes(jsoftmax.weighted_mean, (q, w), [wide, wide])


def test_float64_numpy_logits_without_x64():
    assert jsoftmax.softmax(X.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize("name", fast(OPERATORS, registry.KINDS))
def test_integers_are_the_default_float_of_the_same_numbers(name):
    """T28."""
    for dtype in ("int8", "uint8", "int32", "uint32"):
        info = np.iinfo(dtype)
        x = np.array([[info.min, info.max, 0, 1], [3, 5, 3, 100], [info.max, info.max, 7, info.min]], dtype)
        assert_same_bits(call(name, x), call(name, x.astype(np.float32)), dtype)
        assert_same_bits(call(name, x, beta=1e-9), call(name, x.astype(np.float32), beta=1e-9), dtype)


@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
def test_wide_integers_do_not_wrap(x64):
    """T28: where x64 is off, JAX would take the low 32 bits of a 64-bit integer."""
    x = np.array([2**40, 2**40 - 2**20, 0], np.int64)
    with jax.enable_x64(x64):
        wide = x.astype(np.float64 if x64 else np.float32)
        assert_same_bits(jsoftmax.softmax(x, beta=1e-6), jsoftmax.softmax(wide, beta=1e-6))


def test_integer_multiplicities_and_distributions_of_another_width():
    b = np.array([1, 2, 0, 3], np.int32)
    assert_same_bits(jsoftmax.logsumexp(X, b=b), jsoftmax.logsumexp(X, b=b.astype(np.float32)))
    assert_same_bits(jsoftmax.softmax_cross_entropy(X, Q.astype(np.float64)), jsoftmax.softmax_cross_entropy(X, Q))


# what counts as an array -------------------------------------------------------------------------------------------


class Wrapped:
    """An object of another library that JAX takes for an array."""

    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return jnp.asarray(self.value)


ARRAYS = {
    "softmax": {"x": X, "where": MASK, "beta": np.float32(2)},
    "log_softmax": {"x": X, "where": MASK, "temperature": np.float32(2)},
    "softmax_jacobian": {"x": X, "beta": np.float32(2)},
    "logsumexp": {"x": X, "where": MASK, "base": np.float32(2), "b": B},
    "logmeanexp": {"x": X, "where": MASK, "beta": np.float32(2)},
    "entropy": {"logits": X, "where": MASK, "temperature": np.float32(2)},
    DIST: {"logits": X, "labels": Q, "where": MASK, "beta": np.float32(2)},
    INT: {"logits": X, "labels": Y, "where": MASK, "beta": np.float32(2), "ignore_label": np.int32(0)},
    "weighted_mean": {"losses": X, "weights": Q},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_numpy_jax_and_foreign_arrays(name):
    f, arguments = getattr(jsoftmax, name), ARRAYS[name]
    expected = jax.tree.leaves(f(**{k: jnp.asarray(v) for k, v in arguments.items()}))
    for given in (arguments, {k: Wrapped(v) for k, v in arguments.items()}):
        actual = jax.tree.leaves(f(**given))
        assert all(isinstance(y, jax.Array) for y in actual)
        for a, e in zip(actual, expected, strict=True):
            assert_same_bits(a, e, name)


def test_scalars():
    assert_same_bits(jsoftmax.softmax(7.0, axis=None), np.float32(1))
    assert_same_bits(jsoftmax.logsumexp(3, axis=()), np.float32(3))
    assert_same_bits(jsoftmax.logsumexp(np.float32(2), axis=None), np.float32(2))
    loss = jsoftmax.softmax_cross_entropy_with_integer_labels(7.0, 0, axis=None)
    assert (loss, loss.dtype, loss.shape) == (0, np.float32, ())


# beta, temperature, base -------------------------------------------------------------------------------------------

OF = {"beta": lambda beta: beta, "temperature": lambda beta: 1 / beta, "base": math.exp}
SLOPE = {  # dβ/d…
    "beta": lambda value: 1.0,
    "temperature": lambda value: -1 / value**2,
    "base": lambda value: 1 / value,
}


@functools.cache
def value_and_slope(name, kind):
    shape = jax.eval_shape(functools.partial(call, name, **{kind: jnp.float32(1)}), X).shape
    g = inputs.cotangent(shape, 6).astype(np.float32)

    @jax.jit
    def f(x, value):
        y, pull = jax.vjp(lambda x, value: call(name, x, **{kind: value}), x, value)
        return y, *pull(g)

    return f


@pytest.mark.parametrize("name", THREE_NAMES)
@pytest.mark.parametrize("kind", ["temperature", "base"])
def test_three_names_of_one_number(name, kind):
    for beta in (2.0, 0.25, -0.5):
        value = np.float32(OF[kind](beta))
        y, x_bar, bar = value_and_slope(name, kind)(X, value)
        expected, expected_x_bar, beta_bar = value_and_slope(name, "beta")(X, np.float32(beta))
        what = f"{name} at {kind} {value}"
        assert_close(y, expected, tolerance.VALUE[name], what)
        assert_close(x_bar, expected_x_bar, tolerance.COTANGENT["x"], what)
        chained = float(beta_bar) * SLOPE[kind](float(value))
        assert_close(bar, np.float64(chained), tolerance.COTANGENT["beta"], f"gradient of {what}")


LIMITS = [
    ("temperature", 0.0, np.inf),
    ("temperature", -0.0, np.inf),
    ("temperature", np.inf, 0.0),
    ("temperature", -np.inf, -0.0),
    ("base", 0.0, -np.inf),
    ("base", 1.0, 0.0),
    ("base", np.inf, np.inf),
]


@pytest.mark.parametrize("name", THREE_NAMES)
@pytest.mark.parametrize(("kind", "value", "beta"), LIMITS)
def test_limits_of_temperature_and_base(name, kind, value, beta):
    y, x_bar, bar = value_and_slope(name, kind)(X, np.float32(value))
    expected, expected_x_bar, beta_bar = value_and_slope(name, "beta")(X, np.float32(beta))
    assert_same_bits(y, expected)
    assert not np.isnan(y).any()
    assert_same_bits(x_bar, expected_x_bar)
    assert bar == (beta_bar if kind == "base" and value == 1 else 0)
    assert np.isfinite(bar)


@pytest.mark.parametrize("name", THREE_NAMES)
def test_a_negative_base_is_nan(name):
    y, x_bar, bar = value_and_slope(name, "base")(X, np.float32(-2))
    assert np.isnan(y).all() and np.isnan(x_bar).all() and np.isnan(bar)


def test_a_python_integer_of_any_size():
    assert_same_bits(jsoftmax.softmax(X, beta=10**20), jsoftmax.softmax(X, beta=1e20))
    assert_same_bits(jsoftmax.softmax(X, temperature=-(10**20)), jsoftmax.softmax(X, temperature=-1e20))


def test_a_python_number_past_float32_is_its_limit():
    assert_same_bits(jsoftmax.softmax(X, beta=1e39), jsoftmax.softmax(X, beta=np.inf))
    assert_same_bits(jsoftmax.softmax(X, beta=-1e39), jsoftmax.softmax(X, beta=-np.inf))


@pytest.mark.parametrize("name", OPERATORS)
def test_default_beta_is_one(name):
    assert_same_bits(call(name), call(name, beta=1.0))
    assert_same_bits(call(name), call(name, beta=1))


# axis --------------------------------------------------------------------------------------------------------------

AXES = [  # (forms of the same axes, the axes that become the last)
    ((-1, 1, np.int64(1), np.int8(-1), (1,), [-1], (np.int32(1),)), (1,)),
    ((0, -2, (0,), [np.uint8(0)]), (0,)),
    ((None, (0, 1), [0, 1], (-2, -1), (np.int64(0), 1)), (0, 1)),
    (((1, 0), (-1, 0), [-1, -2]), (1, 0)),
    (((), []), ()),
]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("forms", "axes"), AXES, ids=[str(row[1]) for row in AXES])
def test_axis_forms(name, forms, axes):
    """T19."""
    kept = [n for i, n in enumerate(X.shape) if i not in axes]
    n = math.prod(X.shape[i] for i in axes)
    last = tuple(range(2 - len(axes), 2))

    def flat(a):
        return np.moveaxis(a, axes, last).reshape(*kept, n)

    labels = {INT: np.resize([n - 1, 0, n // 2], kept).astype(np.int32), DIST: Q}.get(name)
    f, rest = getattr(jsoftmax, name), () if labels is None else (labels,)
    expected = f(flat(X), *(flat(Q) if name == DIST else r for r in rest), axis=-1)
    first, *others = (f(X, *rest, axis=form) for form in forms)
    for form, other in zip(forms[1:], others, strict=True):
        assert_same_bits(other, first, f"axis {form}")
    classes = tuple(X.shape[i] for i in axes)
    if name in ("softmax", "log_softmax"):
        assert first.shape == X.shape
        first = flat(first)
    else:
        assert first.shape == (*kept, *classes, *classes)[: None if name == "softmax_jacobian" else len(kept)]
        first = np.reshape(first, expected.shape)
    # not within an ulp: an axis before another is summed in another order
    tolerance.check(first, np.asarray(expected, np.float64), np.float32, tolerance.VALUE[name], name, gap=4.0)


# labels ------------------------------------------------------------------------------------------------------------

cross_entropy = jsoftmax.softmax_cross_entropy_with_integer_labels


def loss_row(x, y, **kwargs):
    loss, pull = jax.vjp(lambda x: cross_entropy(x, y, **kwargs), jnp.asarray(x))
    return loss, pull(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_every_width(dtype):
    """L03."""
    expected = cross_entropy(X, Y)
    for x64 in (False, True):
        with jax.enable_x64(x64):
            assert_same_bits(cross_entropy(X, Y.astype(dtype)), expected, f"x64 {x64}")


WRAPPING = [  # as int32, int16 or int8 these are classes
    ("uint32", 2**32 - 1),
    ("uint32", 2**31),
    ("int64", 2**32 + 1),
    ("int64", 2**32),
    ("int64", -(2**32) + 1),
    ("int64", 2**63 - 1),
    ("int64", -(2**63)),
    ("uint64", 2**63 + 1),
    ("uint64", 2**64 - 1),
    ("uint64", 2**32 + 1),
    ("int32", 2**16 + 1),
    ("int32", 2**8 + 1),
    ("int16", 2**8 + 1),
]


@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
@pytest.mark.parametrize(("dtype", "label"), WRAPPING)
def test_no_label_wraps_onto_a_class(dtype, label, x64):
    """L03: where x64 is off, a 64-bit label reaches JAX as 32 bits, so it has to be caught before."""
    with jax.enable_x64(x64):
        loss, gradient = loss_row(X, np.array([label, 0, 2], dtype))
    assert np.isnan(loss[0]) and np.isnan(gradient[0]).all()
    clean = loss_row(X, np.array([1, 0, 2], np.int32))
    assert_same_bits(loss[1:], clean[0][1:])
    assert_same_bits(gradient[1:], clean[1][1:])


@pytest.mark.parametrize(("dtype", "label"), [row for row in WRAPPING if row[0] in ("int64", "uint64", "uint32")])
def test_no_traced_label_wraps_onto_a_class(dtype, label):
    """L03: labels that JAX holds in all their bits."""
    with jax.enable_x64(True):
        labels = jnp.asarray(np.array([label, 0, 2], dtype))
        assert labels.dtype == dtype
        for loss, gradient in (loss_row(X, labels), jax.jit(lambda y: loss_row(X, y))(labels)):
            assert np.isnan(loss[0]) and np.isnan(gradient[0]).all()
            assert np.isfinite(loss[1:]).all()


IGNORED = np.array([-100, 0, 2], np.int32)


def test_ignore_label_in_every_form(compiled):
    expected = loss_row(X, IGNORED, ignore_label=-100)
    assert expected[0][0] == 0 and not expected[1][0].any()
    for form in (np.int32(-100), np.int64(-100), np.int8(-100), np.array(-100), jnp.int32(-100), jnp.asarray(-100)):
        for a, e in zip(loss_row(X, IGNORED, ignore_label=form), expected, strict=True):
            assert_same_bits(a, e, repr(form))
    loss, gradient = compiled(lambda i: loss_row(X, IGNORED, ignore_label=i))(jnp.int32(-100))
    assert_close(loss, expected[0], tolerance.VALUE[INT], "traced")
    assert_close(gradient, expected[1], tolerance.COTANGENT["x"], "gradient, traced")
    assert loss[0] == 0 and not gradient[0].any()


def test_no_label_is_ignored_unless_asked():
    loss, gradient = loss_row(X, IGNORED)
    assert np.isnan(loss[0]) and np.isnan(gradient[0]).all() and np.isfinite(loss[1:]).all()


@pytest.mark.parametrize("ignore", [np.iinfo(np.int32).min + 1, -1, 0])
def test_ignoring_one_label_forgives_no_other_bad_one(ignore):
    loss, _ = loss_row(X, np.array([2**32 - 1, 1, 2], np.uint32), ignore_label=ignore)
    assert np.isnan(loss[0]) and np.isfinite(loss[1:]).all()


def test_an_index_is_its_one_hot_distribution():
    """L06."""
    one_hot = np.eye(4, dtype=np.float32)[Y]
    loss, pull = jax.vjp(lambda x: jsoftmax.softmax_cross_entropy(x, one_hot), jnp.asarray(X))
    expected, expected_bar = loss_row(X, Y)
    # one sums over all classes and the other over all but the label: each rounds once in its own way
    for a, e in ((loss, expected), (pull(jnp.ones(3))[0], expected_bar)):
        wide = np.asarray(e, np.float64)
        assert np.all(np.abs(np.asarray(a, np.float64) - wide) <= 2 * tolerance.ulp(wide, np.float32))


# weighted_mean -----------------------------------------------------------------------------------------------------

LOSS = np.abs(inputs.cotangent((4, 6), 7)).astype(np.float32)
mean_gradient = jax.jit(jax.grad(lambda l, w: jsoftmax.weighted_mean(l, w)[0], (0, 1)))  # noqa: E741


def assert_mean(losses, weights, what):
    mean, count = jsoftmax.weighted_mean(losses, weights)
    expected = oracle.weighted_mean(losses, weights)
    scale = np.nan_to_num(np.abs(losses), posinf=0).max(initial=0)
    for a, e in zip((mean, count), expected, strict=True):
        tolerance.check(a, e, np.float32, tolerance.VALUE["logsumexp"], what, scale=scale)


@pytest.mark.parametrize(
    "weights",
    [
        None,
        np.ones((4, 6), bool),
        np.arange(24).reshape(4, 6) % 3 != 0,
        np.arange(24, dtype=np.int32).reshape(4, 6) % 5,
        np.array([0.5, 0.0, 2.0, 1.5, 0.25, 1.0], np.float32),
        np.array([[0.5], [0.0], [-0.25], [1.0]], np.float32),
        np.float32(3),
        np.zeros((4, 6), bool),
    ],
    ids=["none", "all", "mask", "integers", "a column", "a row, one negative", "scalar", "nothing"],
)
def test_weighted_mean(weights):
    assert_mean(LOSS, weights, "mean")
    if weights is not None and np.asarray(weights).dtype == np.float32:
        w = np.asarray(weights)
        bars = mean_gradient(LOSS, w)
        expected = oracle.weighted_mean_vjp(1.0, LOSS, w)
        for name, bar in zip(("losses", "weights"), bars, strict=True):
            assert_close(bar, expected[name], tolerance.COTANGENT["beta"], name)


@pytest.mark.parametrize("payload", [np.nan, np.inf, -np.inf, 3e38])
def test_weight_zero_drops_whatever_the_loss_holds(payload):
    """W03."""
    keep = np.ones(6, np.float32)
    keep[2] = 0
    poisoned, clean = LOSS[0].copy(), LOSS[0].copy()
    poisoned[2], clean[2] = payload, 0
    for a, e in zip(jsoftmax.weighted_mean(poisoned, keep), jsoftmax.weighted_mean(clean, keep), strict=True):
        assert_same_bits(a, e)
    by_loss, by_weight = mean_gradient(poisoned, keep)
    assert_same_bits(by_loss, mean_gradient(clean, keep)[0])
    assert np.isfinite(by_weight).all()


def test_a_kept_bad_loss_is_not_hidden():
    losses = np.array([1.0, np.nan], np.float32)
    assert np.isnan(jsoftmax.weighted_mean(losses)[0])
    assert np.isnan(jsoftmax.weighted_mean(losses, np.array([0.0, 1e-30], np.float32))[0])


def test_the_mean_of_nothing_is_zero_with_gradient_zero():
    for losses in (np.full(3, np.nan, np.float32), LOSS[0, :3]):
        mean, count = jsoftmax.weighted_mean(losses, np.zeros(3, np.float32))
        assert mean == 0 and count == 0
        by_loss, by_weight = mean_gradient(losses, np.zeros(3, np.float32))
        assert not by_loss.any() and not by_weight.any()
    assert [float(v) for v in jsoftmax.weighted_mean(np.zeros(0, np.float32))] == [0, 0]


def test_microbatches_give_the_mean_of_the_whole():
    """R03 and R04: numerators and counts add up, and chunk means weigh by their counts, however unequal the counts."""
    keep = np.arange(24).reshape(4, 6) % 7 < np.array([[7], [1], [4], [0]])  # the last chunk has no valid loss
    parts = [jsoftmax.weighted_mean(*part) for part in zip(LOSS, keep, strict=True)]
    mean, count = jsoftmax.weighted_mean(LOSS, keep)
    assert sum(int(c) for _, c in parts) == count
    numerator = np.float64(sum(np.float64(m) * np.float64(c) for m, c in parts))
    unit = tolerance.ulp(numerator, np.float32)
    assert abs(numerator - np.float64(mean) * np.float64(count)) <= len(parts) * unit
    assert abs(np.average([m for m, _ in parts], weights=[c for _, c in parts]) - np.float64(mean)) <= unit


@pytest.mark.parametrize("name", LOSSES)
def test_a_cotangent_scales_its_row(name):
    """R05."""
    _, pull = jax.vjp(lambda x: call(name, x), jnp.asarray(X))
    (ones,) = pull(jnp.ones(3))
    (scaled,) = pull(jnp.asarray([2.0, -0.5, 0.0]))
    assert jnp.array_equal(scaled, ones * jnp.asarray([[2.0], [-0.5], [0.0]]))


def test_counts_in_float32_whatever_the_losses_are():
    """2049 ones: float16 cannot count past 2048, bfloat16 past 256."""
    for dtype in (np.float16, jnp.bfloat16):
        mean, count = jsoftmax.weighted_mean(jnp.ones(2049, dtype), jnp.ones(2049, dtype))
        assert mean.dtype == count.dtype == np.float32
        assert [float(mean), float(count)] == [1, 2049]


def test_reloading_the_package_changes_no_setting():
    """P16 needs a fresh process; what is cheap is that importing again is inert."""
    before = dict(jax.config.values)
    importlib.reload(jsoftmax)
    assert dict(jax.config.values) == before
