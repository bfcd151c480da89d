"""The documentation runs: examples of every docstring, every block of Python in the README and in docs/."""

import contextlib
import doctest
import inspect
import io
import pathlib
import re

import jax
import pytest

import jsoftmax

COMPILE_LIGHTLY = "fast lane"
ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = sorted(name for name in vars(jsoftmax) if not name.startswith("_"))
SECTIONS = ("Args", "Returns", "Raises", "Derivatives", "References", "Examples")
WITHOUT = {  # what there is nothing to say about
    "weighted_mean": {"References"},
    "forward_mode": {"Args", "Raises", "Derivatives", "References"},
    "Tree": {"Returns", "Raises", "Derivatives", "References"},
    "huffman_tree": {"Derivatives"},
    "tree_from_codes": {"Derivatives", "References"},
    "tree_from_paths": {"Derivatives"},
    "hierarchical_predict": {"Derivatives"},
    "hierarchical_sample": {"Derivatives"},
    "Candidates": {"Returns", "Raises", "Derivatives", "References"},
    "log_uniform_sampler": {"Derivatives"},
    "uniform_sampler": {"Derivatives"},
    "unigram_sampler": {"Derivatives"},
    "all_classes": {"Derivatives", "References"},
    "AdaptiveWeights": {"Returns", "Raises", "Derivatives", "References"},
    "adaptive_weights": {"Derivatives"},
    "adaptive_predict": {"Derivatives"},
    "margin_annealing": {"Raises", "Derivatives"},
    "rbm_gibbs": {"Derivatives"},
    "HopfieldRetrieval": {"Returns", "Raises", "Derivatives", "References"},
    "hopfield_update": {"Derivatives"},
    "hopfield_retrieve": {"Derivatives"},
}
SAVES = {name for name in PUBLIC if "Derivatives" not in WITHOUT.get(name, ())} - {"weighted_mean"}  # plain JAX
FENCE = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def as_a_user(tmp_path, monkeypatch):
    """JAX's own defaults, in a directory that may be written to."""
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def sections(docstring):
    """{name: text} of the sections, in order; the part before the first is ''."""
    parts = re.split(r"^(\w+):(?=[ \n])", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def run_doctest(text, where, namespace):
    """How many examples there were; the output of those that fail is raised."""
    test = doctest.DocTestParser().get_doctest(text, namespace, where, where, 0)
    report = io.StringIO()
    failed, tried = doctest.DocTestRunner(verbose=False).run(test, out=report.write, clear_globs=False)
    assert not failed, report.getvalue()
    return tried


def run_page(text, where):
    """The blocks of a page in order, in one namespace, as a reader would type them; how many there were."""
    namespace, blocks = {"__name__": "page"}, list(FENCE.finditer(text))
    for block in blocks:
        line = text[: block.start(2)].count("\n")
        source = inspect.cleandoc(block[2]) if block[1] else block[2]
        if ">>>" in source:
            assert run_doctest(source, f"{where}:{line + 1}", namespace)
        else:
            # the newlines make a traceback point into the page
            code = compile("\n" * line + source, where, "exec")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)
    return len(blocks)


# docstrings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_examples_run(name):
    assert run_doctest(inspect.getdoc(getattr(jsoftmax, name)), name, {})


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_sections(name):
    found = sections(getattr(jsoftmax, name).__doc__)
    wanted = [s for s in SECTIONS if s not in WITHOUT.get(name, ())]
    assert [s for s in found if s] == wanted
    assert all(text.strip() for text in found.values())
    assert re.match(r"[A-Z][^\n]*[.:`]", found[""]), "a first line that is a sentence"


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_describes_every_argument_once(name):
    text = sections(getattr(jsoftmax, name).__doc__).get("Args", "")
    described = [arg for line in re.findall(r"^  (\w[\w, ]*):", text, re.MULTILINE) for arg in line.split(", ")]
    assert sorted(described) == sorted(inspect.signature(getattr(jsoftmax, name)).parameters)


@pytest.mark.parametrize("name", sorted(SAVES))
def test_docstring_says_what_is_saved(name):
    assert "Saves `" in sections(getattr(jsoftmax, name).__doc__)["Derivatives"]


# pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_on_the_page_runs(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("```") % 2 == 0, "a fence is not closed"
    assert run_page(text, str(page)) == len(re.findall(r"^ *```python", text, re.MULTILINE))


def test_the_readme_has_an_example():
    assert FENCE.search(PAGES[0].read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_on_a_page(name):
    assert any(re.search(rf"\b{name}\b", page.read_text(encoding="utf-8")) for page in PAGES)


def test_links_between_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_page_that_is_wrong_is_noticed():
    good = "text\n```python\nx = 1\n```\n\n```python\n>>> x + 1\n2\n```\n"
    assert run_page(good, "page.md") == 2
    with pytest.raises(AssertionError, match="Expected"):
        run_page(good.replace("\n2\n", "\n3\n"), "page.md")
    with pytest.raises(NameError):
        run_page(good.replace("x = 1", "y"), "page.md")
    assert run_page("1. item\n   ```python\n   x = 1\n   if x:\n       x = 2\n   ```\n", "page.md") == 1
    assert run_page("```sh\nmake test\n```\n", "page.md") == 0
