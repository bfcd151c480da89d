"""Directives whose text is made while the site is built: of the tests, of the package, of the experiments.

{transformations}   operator × transformation, from the tests that there are
{derivatives}       what the docstring of each operator says of its derivatives
{saved}             what is kept for the backward pass, from the docstrings
{residuals}         the same, counted
{formulas}          the derivation at the head of each operator's file
{gallery}           every experiment: its question, its command, its figures
"""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
from sphinx.util.docutils import SphinxDirective

import jsoftmax
from tests import registry

ROOT = pathlib.Path(__file__).parents[2]
PUBLIC = {name: f for name, f in vars(jsoftmax).items() if not name.startswith("_")}


def table(head, rows):
    rows = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in rows] + [""]


# transformations -----------------------------------------------------------------------------------------------------


def collected(*files):
    """(function, parameters) of each test in them, slow ones too."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"^tests/\w+\.py::(test_\w+)\[(.*)\]$", done.stdout, re.MULTILINE)
    if not found:
        raise RuntimeError(f"pytest collects nothing: {done.stdout[-500:]}{done.stderr[-500:]}")
    return found


COLUMNS = {  # heading: (test, transformations that it is about; None where it has no such parameter)
    "`jit`": ("test_of_the_call", ("jit", "reverse of jit")),
    "`grad`, `vjp`": ("test_of_the_call", ("value_and_grad",)),
    "`jacrev`": ("test_jacobian", ("jacrev",)),
    "`jvp`, `linearize`": ("test_forward_mode_is_the_transpose_of_reverse_mode", ("jvp", "linearize")),
    "`jacfwd`": ("test_jacobian", ("jacfwd",)),
    "`hessian`": ("test_second_order", ("hessian",)),
    "`grad` of `grad`": ("test_second_order", ("reverse_over_reverse",)),
    "`vmap`, nested": ("test_nested_vmap", None),
    "`scan`, `map`, `fori_loop`": ("test_reverse_of_loop", ("scan", "map", "fori_loop")),
    "`while_loop`": ("test_loop_of_reverse", ("while_loop",)),
    "`cond`": ("test_of_the_call", ("cond",)),
    "`checkpoint`": ("test_of_the_call", ("checkpoint",)),
    "`export`": ("test_of_the_call", ("export",)),
    "donated": ("test_of_the_call", ("donated",)),
}
FORWARD = {"`jvp`, `linearize`", "`jacfwd`"}


def transformations():
    found = set(collected("tests/test_transforms.py"))
    names = [registry.label(case) for case in registry.CASES]

    def tested(name, test, some):
        return all((test, name if t is None else f"{name}-{t}") in found for t in some or (None,))

    rows = []
    for heading, (test, some) in COLUMNS.items():
        cells = ["yes" if tested(name, test, some) else "no" for name in names]
        if "yes" not in cells:
            raise RuntimeError(f"{test}: no test of {some}")
        rows.append([heading + (" (in `forward_mode()`)" if heading in FORWARD else ""), *cells])
    return table(["", *(f"`{name.replace('softmax_cross_entropy', 'ce')}`" for name in names)], rows)


# docstrings ----------------------------------------------------------------------------------------------------------


def section(name, heading):
    """One section of the docstring of a public name as one paragraph, or None."""
    parts = re.split(r"^(\w+):(?=[ \n])", inspect.getdoc(PUBLIC[name]), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True)).get(heading)
    return found and " ".join(found.split())


def link(name):
    return f"[`{name}`](_generated/api/jsoftmax.{name}.rst)"


def derivatives():
    lines = []
    for name in sorted(PUBLIC):
        text = section(name, "Derivatives")
        if text:
            lines += [link(name), f": {text.split(' Saves `')[0]}", ""]
    return lines


def saved():
    lines = []
    for name in sorted(PUBLIC):
        found = re.search(r"Saves `.*", section(name, "Derivatives") or "")
        if found:
            lines += [link(name), f": {found[0]}", ""]
    return lines


# memory --------------------------------------------------------------------------------------------------------------


def residuals():
    """Bytes that `jax.vjp` keeps beside the logits, in units of theirs."""
    labels = jnp.arange(256) % 1000
    integer = "softmax_cross_entropy_with_integer_labels"
    pairs = {
        "softmax": (jsoftmax.softmax, jax.nn.softmax),
        "log_softmax": (jsoftmax.log_softmax, jax.nn.log_softmax),
        "logsumexp": (jsoftmax.logsumexp, lambda x: jax.nn.logsumexp(x, -1)),
        integer: (
            lambda x: jsoftmax.softmax_cross_entropy_with_integer_labels(x, labels),
            lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels),
        ),
    }
    logits = [jnp.ones((256, 1000), dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    rows = [[link(name), *(f"{beside(f, x):.3f}" for x in logits for f in both)] for name, both in pairs.items()]
    return table(["", "float32", "jax.nn, optax", "bfloat16", "jax.nn, optax"], rows)


def beside(f, x):
    """Memory that the backward pass of `f` holds on to, less that of x itself, in units of x."""
    kept = [a for a in jax.tree.leaves(jax.vjp(f, x)[1]) if isinstance(a, jax.Array)]
    places = {a.unsafe_buffer_pointer(): a.nbytes for a in kept}
    places.pop(x.unsafe_buffer_pointer(), None)
    return sum(places.values()) / x.nbytes


# derivations ---------------------------------------------------------------------------------------------------------


def head(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def formulas():
    lines = []
    for layer in ("_partition", "_ops"):
        for path in sorted((ROOT / "jsoftmax" / layer).glob("*.py")):
            text = head(path)
            if path.stem == "__init__" or not re.search(r"\(\d+\)$", text, re.MULTILINE):
                continue
            first, _, rest = text.partition("\n")
            lines += [f"### {first.rstrip('.:')}", "", f"`jsoftmax/{layer}/{path.name}`", "", "```text"]
            lines += [*rest.strip("\n").split("\n"), "```", ""]
    return lines


# experiments ---------------------------------------------------------------------------------------------------------


def gallery():
    lines = []
    for path in experiments():
        text, page = head(path), page_of(path.stem)
        commands = re.findall(r"^(python -m \S+.*?)  +(.*)$", text, re.MULTILINE)
        lines += [f"## {path.stem.replace('_', ' ')}", "", text.partition("\n")[0], ""]
        lines += table(["command", "what it does"], [[f"`{c}`", d] for c, d in commands])
        if page:
            lines += [f"What came out: [{page}]({page}).{how_long(page)}", ""]
        results = ROOT / "experiments" / "results"
        figures = [f for f in sorted(results.glob(f"{path.stem}*.png")) if owner(f.stem) == path.stem]
        lines += [f"![{f.stem.replace('_', ' ')}](../experiments/results/{f.name})\n" for f in figures]
    return lines


def experiments():
    found = sorted((ROOT / "experiments").glob("[a-z]*.py"))
    return [path for path in found if "__main__" in path.read_text(encoding="utf-8")]


def owner(figure):
    """The experiment that a figure is of: the longest name that its own begins with."""
    return max((path.stem for path in experiments() if figure.startswith(path.stem)), key=len, default="")


def page_of(experiment):
    """The page that shows the most of its results."""
    pages = {p.name: p.read_text(encoding="utf-8").count(f"results/{experiment}") for p in (ROOT / "docs").glob("*.md")}
    name = max(pages, key=pages.get)
    return name if pages[name] else None


def how_long(page):
    """What the page says of the time that a run takes."""
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    found = re.search(r"\. ((?:A run|The run|It) takes [^.]*(?:second|minute)[^.;]*)", text)
    return f" {found[1]}." if found else ""


def directive(make):
    class Made(SphinxDirective):
        def run(self):
            return self.parse_text_to_nodes("\n".join(make()), allow_section_headings=True)

    return Made


def setup(app):
    for make in (transformations, derivatives, saved, residuals, formulas, gallery):
        app.add_directive(make.__name__, directive(make))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
