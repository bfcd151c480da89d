"""Do the tests test? Comparisons are asserted, tolerances are in one file, every test checks, no law is left out."""

import ast
import functools
import json
import pathlib
import re
import subprocess
import sys

import pytest

import jsoftmax
from tests import mutate, registry, torture

HERE = pathlib.Path(__file__).parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(HERE.rglob("*.py"))}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
TESTS = sorted(name for name in TREES if name.startswith("test_"))
EVERY = pytest.mark.parametrize("name", sorted(TREES))

COMPARISONS = {"allclose", "isclose", "array_equal", "array_equiv"}
ASSERTING = re.compile(r"_?(assert|check|verify|agree)(_\w+)?|raises|warns|fail")
TOLERANCES = {"rtol", "atol", "rel", "abs", "decimal", "significant", "nulp", "maxulp", "rel_tol", "abs_tol"}
OWN_TOLERANCES = {  # compare other things than results of this library
    "tolerance.py": "the one place for those that do",
    "test_oracle.py": "the oracle with SciPy and with printed digits",
    "test_beta_sweep.py": "curves of an experiment with their asymptotes",
    "test_calibration.py": "curves of an experiment with their minima",
    "test_language_model.py": "curves of an experiment with each other, its programs with each other",
    "test_word_vectors.py": "curves of an experiment with each other, its programs with each other",
    "test_segmentation.py": "curves of an experiment with each other",
    "test_margins_experiment.py": "curves of an experiment with each other, its numbers with what is drawn",
    "test_retrieval.py": "curves of an experiment with their bounds",
    "test_rbm_experiment.py": "likelihoods and entropies of an experiment with each other",
    "test_hopfield_experiment.py": "curves of an experiment with their bounds",
    "test_accuracy.py": "an experiment's exact results with the oracle, its figures with each other",
    "test_bench.py": "an experiment's two programs, which only have to compute the same thing",
}
NO_OPERATOR = {
    "weighted_mean",
    "forward_mode",
    "spatial_softmax_cross_entropy",
    "linear_softmax_cross_entropy",
    *(
        "Tree",
        "huffman_tree",
        "tree_from_codes",
        "tree_from_paths",
        "hierarchical_softmax_loss",
        "hierarchical_log_prob",
    ),
    *("hierarchical_predict", "hierarchical_sample"),
    *("Candidates", "all_classes", "log_uniform_sampler", "uniform_sampler", "unigram_sampler"),
    *("sampled_softmax_loss", "nce_loss", "negative_sampling_loss"),
    *("arcface_loss", "cosface_loss", "am_softmax_loss", "sphereface_loss", "large_margin_softmax_loss"),
    *("combined_margin_loss", "cosine_logits", "margin_logits", "margin_annealing", "contrastive_cross_entropy"),
    *("HopfieldRetrieval", "hopfield_weights", "hopfield_energy", "hopfield_update", "hopfield_retrieve"),
    *("modern_hopfield_energy", "modern_hopfield_retrieve"),
    *("content_addressing", "soft_argmax", "dot_product_attention"),
    *("AdaptiveWeights", "adaptive_weights", "adaptive_softmax_loss", "adaptive_log_prob", "adaptive_predict"),
    *("boltzmann", "free_energy", "kl_divergence", "bernoulli_unit"),
    *("rbm_energy", "rbm_free_energy", "rbm_hidden_probability", "rbm_visible_probability", "rbm_gibbs"),
    *("rbm_contrastive_divergence", "rbm_log_partition", "rbm_pseudo_log_likelihood"),
}  # a reduction, a context, a table, and those that have other arguments and tests of their own


def called(node):
    """Last name of what a call calls."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def idle_comparisons(tree):
    """Lines of comparisons whose answer nobody looks at: outside assert, condition, return and helpers that assert."""
    looked_at = set()
    for node in ast.walk(tree):
        parts = [node.test] if isinstance(node, ast.Assert | ast.If | ast.IfExp | ast.While) else []
        parts += [node.value] if isinstance(node, ast.Return) and node.value else []
        looked_at |= {id(inner) for part in parts for inner in ast.walk(part)}
    return [node.lineno for node in calls(tree) if called(node) in COMPARISONS and id(node) not in looked_at]


def numbers_for_tolerances(tree):
    """Lines where a tolerance is a number other than 0, or is left to the library's default."""
    found = []
    for node in calls(tree):
        given = {k.arg: k.value for k in node.keywords if k.arg}
        for name in TOLERANCES & set(given):
            values = [c.value for c in ast.walk(given[name]) if isinstance(c, ast.Constant)]
            found += [node.lineno] * any(not isinstance(v, str) and v != 0 for v in values)
        if called(node) in ("allclose", "isclose", "assert_allclose"):
            found += [node.lineno] * (not {"rtol", "atol"} <= set(given))
        if called(node) in ("approx", "assert_almost_equal", "assert_array_almost_equal", "check_grads"):
            found.append(node.lineno)
    return found


@functools.cache
def called_in(f):
    return {called(node) for node in calls(f)}


@functools.cache
def asserts(f):
    """Or expects an exception."""
    if any(isinstance(node, ast.Assert) for node in ast.walk(f)):
        return True
    return any(name.startswith("assert_") or name in ("raises", "warns") for name in called_in(f))


def checking_functions(trees):
    """Names of functions that check: they assert, expect an exception, or call a function that checks."""
    found, bodies = set(), [f for tree in trees for f in functions(tree)]
    while True:
        more = {f.name for f in bodies if asserts(f) or called_in(f) & found} - found
        if not more:
            return found
        found |= more


def idle_tests(tree, helpers):
    """Tests of a module that check nothing. Expecting an exception of nothing in particular is no check."""
    checking = checking_functions([tree, *helpers])
    return [f.name for f in functions(tree) if f.name.startswith("test_") and f.name not in checking]


def swallowed(tree):
    """Lines of handlers that take everything, of expected failures, and of exceptions of no kind that are expected."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kind = ast.unparse(node.type) if node.type else ""
            found += [node.lineno] * (kind in ("", "Exception", "BaseException"))
        if isinstance(node, ast.Attribute) and node.attr == "xfail":
            found.append(node.lineno)
        if isinstance(node, ast.Call) and called(node) in ("raises", "suppress"):
            kinds = [ast.unparse(a) for a in node.args]
            anything = any(kind in ("Exception", "BaseException") for kind in kinds)
            found += [node.lineno] * (anything and not any(k.arg == "match" for k in node.keywords))
    return found


HELPERS = [tree for name, tree in TREES.items() if not name.startswith("test_")]


@EVERY
def test_every_comparison_is_looked_at(name):
    assert idle_comparisons(TREES[name]) == []


@EVERY
def test_tolerances_are_in_one_file(name):
    if name in OWN_TOLERANCES:
        imported = [
            ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not any(re.search(r"\bjsoftmax\b|^from tests import .*\bregistry\b", line) for line in imported)
    else:
        assert numbers_for_tolerances(TREES[name]) == []


@pytest.mark.parametrize("name", TESTS)
def test_every_test_checks(name):
    assert idle_tests(TREES[name], HELPERS) == []


@EVERY
def test_nothing_is_swallowed(name):
    assert swallowed(TREES[name]) == []


def test_no_test_is_shadowed_by_another():
    for name, tree in TREES.items():
        tests = [f.name for f in tree.body if isinstance(f, ast.FunctionDef)]
        assert len(tests) == len(set(tests)), name


# nothing is left out -------------------------------------------------------------------------------------------------


def test_every_public_name_has_a_case():
    public = {name for name in vars(jsoftmax) if not name.startswith("_")}
    assert {case.name for case in registry.CASES} == public - NO_OPERATOR


def test_the_torture_list_is_run_against_the_library():
    running = [name for name in TESTS if re.search(r"parametrize\([^)]*torture\.ENTRIES", SOURCES[name])]
    assert any(re.search(r"^import jsoftmax$", SOURCES[name], re.MULTILINE) for name in running), running


TESTING = {  # source of every test of the library
    f"{name}::{f.name}": ast.get_source_segment(SOURCES[name], f)
    for name in TESTS
    if name not in ("test_meta.py", "test_oracle.py")
    for f in functions(TREES[name])
    if f.name.startswith("test_")
}


@pytest.mark.parametrize("id", sorted(torture.LAWS))
def test_every_law_has_its_test(id):
    word = re.compile(rf"(?<![A-Za-z0-9]){id}(?![0-9])", re.IGNORECASE)
    naming = [test for test, source in TESTING.items() if word.search(source)]
    assert naming, f"{id}: {torture.LAWS[id]}"


# the lints themselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lint", "source"),
    [
        (idle_comparisons, "np.allclose(a, b, rtol=0, atol=0)"),
        (idle_comparisons, "same = np.array_equal(a, b)"),
        (numbers_for_tolerances, "np.testing.assert_allclose(a, b, rtol=1e-5, atol=0)"),
        (numbers_for_tolerances, "np.testing.assert_allclose(a, b)"),
        (numbers_for_tolerances, "assert np.allclose(a, b, rtol=0)"),
        (numbers_for_tolerances, "assert a == pytest.approx(b)"),
        (numbers_for_tolerances, "assert math.isclose(a, b, rel_tol=100 * eps, rtol=0, atol=0)"),
        (lambda tree: idle_tests(tree, []), "def test_a():\n  f(1)"),
        (lambda tree: idle_tests(tree, []), "def helper(): f(1)\ndef test_a():\n  helper()"),
        (swallowed, "try: f()\nexcept: pass"),
        (swallowed, "try: f()\nexcept Exception: pytest.skip('')"),
        (swallowed, "with pytest.raises(Exception): f()"),
        (swallowed, "@pytest.mark.xfail\ndef test_a(): assert f()"),
    ],
)
def test_found(lint, source):
    assert lint(ast.parse(source))


@pytest.mark.parametrize(
    ("lint", "source"),
    [
        (idle_comparisons, "assert all(np.array_equal(a, b) for a, b in c)"),
        (idle_comparisons, "def same(a, b): return jnp.array_equal(a, b)"),
        (numbers_for_tolerances, "np.testing.assert_allclose(a, b, rtol=0, atol=0)"),
        (numbers_for_tolerances, "np.testing.assert_allclose(a, b, rtol=bound, atol=0.0)"),
        (lambda tree: idle_tests(tree, []), "def helper(): assert f(1)\ndef test_a():\n  for i in a: helper()"),
        (lambda tree: idle_tests(tree, []), "def test_a():\n  with pytest.raises(TypeError): f(1)"),
        (swallowed, "try: f()\nexcept ValueError: g()"),
        (swallowed, "with pytest.raises(Exception, match='sharded'): f()"),
    ],
)
def test_allowed(lint, source):
    assert lint(ast.parse(source)) == []


def test_every_mutant_can_be_made():
    assert not {m.name: m.problem(mutate.ROOT) for m in mutate.MUTANTS if m.problem(mutate.ROOT)}


# the lane of a device ------------------------------------------------------------------------------------------------


def pytest_on(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)


@pytest.mark.slow
def test_the_lane_of_a_device_needs_no_plugin():
    run = pytest_on("-p", "no:timeout", "-p", "no:xdist", "--collect-only", "tests/test_device.py")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_margins_are_the_largest_of_all_processes(tmp_path):
    few = ("tests/test_device.py", "-k", "long_rows and 16385 and none")
    for processes in ("0", "2"):
        run = pytest_on(*few, "-n", processes, f"--margins={tmp_path / processes}")
        assert run.returncode == 0 and " passed" in run.stdout, run.stdout + run.stderr
    alone, together = (json.loads((tmp_path / processes).read_text()) for processes in ("0", "2"))
    assert alone == together and any(alone.values())
