"""The direction of the layers, and what no module of the package may do. Read from the source; nothing is imported."""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("jsoftmax/**/*.py"))

LAYERS = ("_core", "_partition", "_ops", "__init__")  # each may import those before it and itself
SIDEWAYS = {
    ("adaptive", "linear"),
    ("adaptive", "softmax"),
    ("addressing", "margin"),
    ("addressing", "softmax"),
    ("contrastive", "cross_entropy"),
    ("contrastive", "margin"),
    ("energy", "logsumexp"),
    ("energy", "softmax"),
    ("hierarchical", "cross_entropy"),
    ("hierarchical", "softmax"),
    ("linear", "cross_entropy"),
    ("linear", "logsumexp"),
    ("logsumexp", "signed_logsumexp"),
    ("margin", "linear"),
    ("rbm", "energy"),
    ("rbm", "logmeanexp"),
    ("rbm", "logsumexp"),
    ("rbm", "softmax"),
    ("modern_hopfield", "logmeanexp"),
    ("modern_hopfield", "softmax"),
    ("sampled", "cross_entropy"),
    ("spatial", "cross_entropy"),
}  # inside _ops: (composed operator, finished operator it stands on)
LIBRARIES = {"jax", "jaxtyping", "jsoftmax", "numpy"} | sys.stdlib_module_names
FORBIDDEN = re.compile(  # full dotted names, whatever they are called in the module
    r"(os|pickle|marshal|shelve|dbm|subprocess|multiprocessing|socket|ssl|ctypes|importlib|runpy|urllib|http|ftplib"
    r"|smtplib|builtins|eval|exec|compile|__import__|ImportError|ModuleNotFoundError|jax\.default_backend"
    r"|jax\.config\.update|jax\.(\w+\.)+(softmax|log_softmax|logsumexp|logmeanexp|logaddexp2?))(\..*)?"
)


def layer(module: list[str]) -> str:
    return module[1] if module[1:] and module[1] in LAYERS else "__init__"


def imports(tree: ast.AST, package: list[str]):
    """(name in the module, dotted path it stands for, dotted path imported) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                yield (alias.asname, alias.name, alias.name) if alias.asname else (root, root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                path = ".".join([*base, *filter(None, [node.module]), alias.name])
                yield alias.asname or alias.name, path, path


def faults(path: str, source: str) -> list[str]:
    """What is wrong with the module at `path`, in words."""
    tree, here = ast.parse(source), path.removesuffix(".py").split("/")
    found = [] if here[1] in LAYERS else ["is in no layer"]
    stands_for, used = {}, []
    for name, target, imported in imports(tree, here[:-1]):
        stands_for[name] = target
        used.append(imported)
        there = imported.split(".")
        if there[0] not in LIBRARIES:
            found.append(f"imports {imported}")
        if there[0] == "jsoftmax" and LAYERS.index(layer(there)) > LAYERS.index(layer(here)):
            found.append(f"imports upwards: {imported}")
        if layer(there) == layer(here) == "_ops" and here[2] not in there[2:3]:
            found += [f"imports sideways: {imported}"] * ((here[2], *there[2:3]) not in SIDEWAYS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            root, *rest = ast.unparse(node).split(".")
            used.append(".".join([stands_for.get(root, root), *rest]))
        if isinstance(node, ast.Try) and any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.walk(node)):
            found.append("imports inside try")
        if isinstance(node, ast.ExceptHandler) and node.type and "NotImplementedError" in ast.unparse(node.type):
            found.append("catches NotImplementedError")
    return found + [f"uses {name}" for name in used if FORBIDDEN.fullmatch(name)]


def test_the_package_is_found():
    assert {"jsoftmax/__init__.py", "jsoftmax/_ops/softmax.py", "jsoftmax/_partition/reference.py"} <= set(MODULES)


@pytest.mark.parametrize("path", MODULES)
def test_module(path):
    assert faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("jsoftmax/__init__.py", "from ._ops.softmax import softmax as softmax"),
        ("jsoftmax/_ops/softmax.py", "from .._core import axes, check\nfrom .._partition.reference import weights"),
        ("jsoftmax/_ops/softmax.py", "def softmax(x): ...\ndef twice(x): return softmax(softmax(x))"),
        ("jsoftmax/_core/axes.py", "import functools\nimport jax.numpy as jnp\nfrom . import check\njnp.max(0)"),
        ("jsoftmax/_core/rule.py", "def f(x):\n  raise NotImplementedError(x)\ntry:\n  f(1)\nexcept ValueError: ..."),
        ("jsoftmax/_core/blocks.py", "import re\nre.compile('x')\nstep.compile()"),
    ],
)
def test_allowed(path, source):
    assert faults(path, source) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("jsoftmax/_core/axes.py", "from .._partition import reference", "imports upwards: jsoftmax._partition"),
        ("jsoftmax/_core/axes.py", "def f():\n  import jsoftmax._ops.softmax", "imports upwards: jsoftmax._ops"),
        ("jsoftmax/_partition/online.py", "from .._ops.softmax import softmax", "imports upwards: jsoftmax._ops"),
        ("jsoftmax/_ops/softmax.py", "from .. import softmax", "imports upwards: jsoftmax.softmax"),
        ("jsoftmax/_ops/softmax.py", "import jsoftmax", "imports upwards: jsoftmax"),
        ("jsoftmax/_ops/softmax.py", "from .logsumexp import logsumexp", "imports sideways: jsoftmax._ops.logsumexp"),
        ("jsoftmax/_ops/softmax.py", "from . import logsumexp", "imports sideways: jsoftmax._ops.logsumexp"),
        ("jsoftmax/_ops/softmax.py", "import jsoftmax._ops", "imports sideways: jsoftmax._ops"),
        ("jsoftmax/helpers.py", "", "is in no layer"),
        ("jsoftmax/_ops/softmax.py", "import optax", "imports optax"),
        ("jsoftmax/_ops/softmax.py", "from scipy.special import softmax", "imports scipy.special.softmax"),
        ("jsoftmax/_core/mesh.py", "import jax\nif jax.default_backend() == 'gpu': ...", "uses jax.default_backend"),
        ("jsoftmax/_core/mesh.py", "from jax import default_backend as platform", "uses jax.default_backend"),
        ("jsoftmax/_core/mesh.py", "try:\n  import jax\nexcept Exception: ...", "imports inside try"),
        ("jsoftmax/_core/mesh.py", "with suppress(ImportError):\n  import numpy", "uses ImportError"),
        ("jsoftmax/_core/mesh.py", "try: f()\nexcept NotImplementedError: ...", "catches NotImplementedError"),
        ("jsoftmax/_core/mesh.py", "import jax\njax.config.update('jax_enable_x64', 1)", "uses jax.config.update"),
        ("jsoftmax/_core/check.py", "import os\nos.environ['XLA_FLAGS'] = ''", "uses os.environ"),
        ("jsoftmax/_core/check.py", "from os import environ", "uses os.environ"),
        ("jsoftmax/_core/check.py", "import pickle", "uses pickle"),
        ("jsoftmax/_core/check.py", "import subprocess as sp\nsp.run('ls')", "uses subprocess.run"),
        ("jsoftmax/_core/check.py", "from socket import socket", "uses socket.socket"),
        ("jsoftmax/_core/check.py", "eval('1')", "uses eval"),
        ("jsoftmax/_core/check.py", "exec('x = 1')", "uses exec"),
        ("jsoftmax/_ops/softmax.py", "import jax\njax.nn.softmax(0.0)", "uses jax.nn.softmax"),
        ("jsoftmax/_ops/softmax.py", "from jax import nn as j\nj.log_softmax(0.0)", "uses jax.nn.log_softmax"),
        ("jsoftmax/_ops/softmax.py", "from jax.nn import softmax as s", "uses jax.nn.softmax"),
        (
            "jsoftmax/_ops/softmax.py",
            "import jax.scipy as jsp\njsp.special.logsumexp(0.0)",
            "uses jax.scipy.special.logsumexp",
        ),
        ("jsoftmax/_ops/softmax.py", "import jax.numpy as jnp\njnp.logaddexp(0.0, 1.0)", "uses jax.numpy.logaddexp"),
    ],
)
def test_forbidden(path, source, fault):
    assert any(found.startswith(fault) for found in faults(path, source)), faults(path, source)


def test_sideways_only_where_listed(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SIDEWAYS", {("spatial", "cross_entropy")})
    assert faults("jsoftmax/_ops/spatial.py", "from .cross_entropy import softmax_cross_entropy") == []
    assert faults("jsoftmax/_ops/cross_entropy.py", "from .spatial import spatial_softmax_cross_entropy") != []
