"""What `make release-check` would say of packages that are no release, and of this one as far as nothing is built."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tomllib
import zipfile

import pytest

import jsoftmax

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("release_check", ROOT / ".ci" / "release_check.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)

README, CHANGELOG, CITATION = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md", "CITATION.cff")
)
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEADING = "# Changelog\n\n## [Unreleased]\n\nTo become 1.2.0, which has more.\n\n## [1.1.0] - 2026-01-31\n"
MODULES = ["jsoftmax/__init__.py", "jsoftmax/_core/check.py", "jsoftmax/py.typed"]
INFO = [f"jsoftmax-1.2.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")]
METADATA = """Metadata-Version: 2.4
Name: jsoftmax
Version: 1.2.0
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.11
Requires-Dist: jax>=0.10.2
Requires-Dist: jaxtyping>=0.3.3
Requires-Dist: numpy>=2.0
Requires-Dist: pytest>=8; extra == 'test'
Description-Content-Type: text/markdown

# jsoftmax
"""
JAX, PYTHON = check.tested_with(README)[0]


# this package --------------------------------------------------------------------------------------------------------


def test_the_version_is_everywhere_the_same():
    assert check.version_faults(jsoftmax.__version__, CHANGELOG, check.citation_of(CITATION)) == []


def test_the_citation_is_complete():
    assert check.citation_faults(check.citation_of(CITATION), PROJECT) == []


def test_what_is_tested_is_what_is_supported():
    assert check.support_faults(PROJECT, README, CI) == []


def test_the_first_example_needs_the_package_only():
    imported = [line for line in check.FENCE.search(README)[1].splitlines() if "import" in line]
    assert imported == [">>> import jax, jax.numpy as jnp, jsoftmax"]


def test_the_import_is_inert(tmp_path):
    """P16; in a fresh process."""
    path = tmp_path / "found.json"
    command = [sys.executable, "-c", check.IMPORT, str(path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["changed"] == found["backends"] == found["modules"] == []
    assert check.import_faults(found, done.stdout) == []


# others --------------------------------------------------------------------------------------------------------------


def test_versions():
    cited = {"version": "1.2.0"}
    released = HEADING.replace("[Unreleased]", "[1.2.0] - 2026-02-28")
    assert check.version_faults("1.2.0", HEADING, cited) == check.version_faults("1.2.0", released, cited) == []
    assert check.version_faults("1.2.0.dev3", HEADING, {"version": "1.2.0.dev3"}) == []
    for version, changelog, citation in (
        ("1.3.0", HEADING, {"version": "1.3.0"}),
        ("1.2.1", released, {"version": "1.2.1"}),
        ("1.2.0", released.replace(" - 2026-02-28", ""), cited),
        ("1.2.0", HEADING.replace("To become 1.2.0", "Something"), cited),
        ("1.2.0", "# Changelog\n", cited),
        ("1.2.0", HEADING, {"version": "1.1.0"}),
        ("1.2.0", HEADING, {}),
    ):
        assert len(check.version_faults(version, changelog, citation)) == 1, (version, changelog, citation)


@pytest.mark.parametrize("key", ["cff-version", "message", "title", "authors", "license"])
def test_a_citation_without_a_key(key):
    citation = check.citation_of(CITATION)
    assert check.citation_faults({k: v for k, v in citation.items() if k != key}, PROJECT) != []
    assert (key == "authors") == (citation[key] == ""), "its value is on lines of its own"


def test_a_citation_of_something_else():
    assert check.citation_faults(check.citation_of(CITATION) | {"title": "another: package"}, PROJECT) != []


@pytest.mark.parametrize(
    ("project", "readme", "ci", "fault"),
    [
        ({"requires-python": ">=3.10"}, README, CI, "is not the oldest of >=3.10"),
        ({"dependencies": ["jaxtyping>=0.3", "jax>=0.9"]}, README, CI, "is not the oldest of jax>=0.9"),
        ({"classifiers": PROJECT["classifiers"][:-3]}, README, CI, "classifiers"),
        ({}, README.replace(f"JAX {JAX} on Python {PYTHON}", "JAX"), CI, "1 pairs"),
        ({}, README, CI.replace("run test-newest", ""), "runs ['test']"),
    ],
)
def test_support_that_is_claimed_and_not_tested(project, readme, ci, fault):
    (found,) = check.support_faults(PROJECT | project, readme, ci)
    assert fault in found


def wheel(path, names):
    with zipfile.ZipFile(path / "made_up.whl", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with zipfile.ZipFile(path / "made_up.whl") as archive:
        return archive.namelist()


@pytest.mark.parametrize(
    ("names", "tracked", "fault"),
    [
        (MODULES[:2] + INFO, MODULES[:2], "the wheel is without jsoftmax/py.typed"),
        (MODULES[1:] + INFO, MODULES, "the wheel is without jsoftmax/__init__.py"),
        (MODULES + INFO[:3], MODULES, "the wheel is without LICENSE"),
        ([*MODULES, *INFO, "tests/test_api.py"], MODULES, "the wheel also has tests/test_api.py"),
        ([*MODULES, *INFO, "jsoftmax/new.py"], MODULES, "the wheel also has jsoftmax/new.py"),
    ],
)
def test_a_wheel_that_is_not_the_package(tmp_path, names, tracked, fault):
    assert check.wheel_faults(wheel(tmp_path, MODULES + INFO), [*MODULES, "tests/test_api.py"]) == []
    assert check.wheel_faults(wheel(tmp_path, names), tracked) == [fault]


def test_an_sdist_that_is_not_what_git_has():
    names = [f"jsoftmax-1.2.0/{name}" for name in (*MODULES, "PKG-INFO", "tests/test_api.py")]
    tracked = [*MODULES, "tests/test_api.py"]
    assert check.sdist_faults(names, tracked) == []
    assert check.sdist_faults(names[:-1], tracked) == ["the sdist is without tests/test_api.py"]
    assert check.sdist_faults([*names, "jsoftmax-1.2.0/notes"], tracked) == ["the sdist also has notes"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Version: 1.2.0", "Version: 1.1.0", "Version is 1.1.0, not 1.2.0"),
        ("Requires-Python: >=3.11", "Requires-Python: >=3.8", "Requires-Python"),
        ("License-File: LICENSE\n", "", "License-File is None"),
        ("Requires-Dist: numpy>=2.0\n", "", "requires ['jax', 'jaxtyping']"),
        ("Requires-Dist: numpy", "Requires-Dist: optax>=0.2\nRequires-Dist: numpy", "'optax'"),
        ("; extra == 'test'", "", "'pytest'"),
        ("text/markdown", "text/plain", "Description-Content-Type"),
        ("# jsoftmax", "# something", "the description is not README.md"),
    ],
)
def test_metadata_of_another_package(old, new, fault):
    assert METADATA.count(old) == 1
    found = [check.metadata_faults(m, "1.2.0", PROJECT, "# jsoftmax") for m in (METADATA, METADATA.replace(old, new))]
    assert found[0] == [] and len(found[1]) == 1 and fault in found[1][0]


def test_an_environment_with_more_than_is_needed():
    """Also where the package itself asks for it."""
    installed = {
        "jsoftmax": ["jax>=0.10.2", "jaxtyping>=0.3.3", "numpy>=2.0", "pytest; extra == 'test'"],
        "jax": ["jaxlib<=0.10.2", "Opt_Einsum", "kubernetes; extra == 'k8s'"],
        "jaxtyping": ["wadler.lindig>=0.1.3"],
        **{name: [] for name in ("numpy", "jaxlib", "opt-einsum", "wadler-lindig")},
    }
    assert check.environment_faults(installed) == []
    assert check.environment_faults(installed | {"pytest": []}) == ["pytest is installed, and nothing requires it"]
    more = installed | {"jsoftmax": [*installed["jsoftmax"], "tqdm"], "tqdm": []}
    assert check.environment_faults(more) == ["tqdm is installed, and nothing requires it"]
    assert check.environment_faults({n: r for n, r in installed.items() if n != "numpy"}) == ["numpy is not installed"]


def test_an_import_that_does_something():
    inert = {"changed": [], "backends": [], "modules": []}
    assert check.import_faults(inert, "\n") == []
    assert len(check.import_faults(inert, "WARNING: …\n")) == 1
    for key in inert:
        assert len(check.import_faults(inert | {key: ["optax"]}, "")) == 1


def test_a_package_without_types():
    good = (
        'user.py:2: note: Revealed type is "jax.Array"\n'
        'user.py:3: error: Unexpected keyword argument "slope" for "softmax"  [call-arg]\n'
        'user.py:3: error: Argument "axis" to "softmax" has incompatible type "str"; expected "int"  [arg-type]\n'
    )
    assert check.type_faults(good) == []
    assert len(check.type_faults('user.py:2: note: Revealed type is "Any"\n')) == 3
    for line in good.splitlines(keepends=True):
        assert len(check.type_faults(good.replace(line, ""))) == 1


def test_a_report(capsys):
    report = check.Report()
    report("one", [])
    assert not report.failed
    report("two", list("abcdefg"))
    report("three", [])
    assert report.failed
    assert capsys.readouterr().out.splitlines() == [
        "ok     one",
        "WRONG  two: a; b; c; d; e; and 2 more",
        "ok     three",
    ]


def test_the_lanes_that_the_readme_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert check.of_lanes(README) == ""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 0.1.2.3 3 12\n", encoding="utf-8")
    python.chmod(0o755)
    assert check.of_lanes("JAX 0.1.2 on Python 3.12") == check.of_lanes("JAX 0.1 on Python 3.12") == ""
    for other in ("JAX 0.1.20 on Python 3.12", "JAX 0.1 on Python 3.11"):
        assert check.of_lanes(other).startswith("make test has JAX 0.1.2.3 on Python 3.12 here")
