"""Is this a release? The package is built, installed where nothing else is, and used as a user would use it.

One line for each check, "ok" or what is wrong; the exit status is 1 if anything is. What is built and installed lies in
a temporary folder. Of the network it needs the package index that pip is configured for, as any installation does.
"""

import email
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEPENDENCIES = {"jax", "jaxtyping", "numpy"}
LANES = {"test": ".venv", "test-newest": ".venv-newest"}  # of .ci/run: where each has its Python and its JAX
LONGEST_IMPORT = 50  # ms
IMPORTS = range(7, 22)  # of which the shortest counts: the others had to share the machine
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


# what needs no build ------------------------------------------------------------------------------------------------


def version_faults(version: str, changelog: str, citation: dict[str, str]) -> list[str]:
    """The version of the package is that of the newest heading, or of what the unreleased changes are to become."""
    heading = re.search(r"^## \[([^]]+)\](.*)$", changelog, re.MULTILINE)
    if not heading:
        return ["CHANGELOG.md: no heading of a version"]
    newest, date = heading.groups()
    if newest == "Unreleased":
        becoming = re.match(r"\s*To become (\d+\.\d+\.\d+)[ ,.]", changelog[heading.end() :])
        stated = becoming[1] if becoming else "nothing"
        found = [] if stated == version.split(".dev")[0] else [f"CHANGELOG.md: to become {stated}, not {version}"]
    else:
        found = [] if newest == version else [f"CHANGELOG.md: the newest heading is of {newest}, not of {version}"]
        found += [] if re.fullmatch(r" - \d{4}-\d\d-\d\d", date) else [f"CHANGELOG.md: {newest} has no date"]
    cited = citation.get("version", "none")
    return found + [f"CITATION.cff: version {cited}, not {version}"] * (cited != version)


def citation_of(text: str) -> dict[str, str]:
    """The keys at the top of the file, and those of them that have one value on their line."""
    return {key: value.strip("\"' ") for key, value in re.findall(r"^([\w-]+):(.*)$", text, re.MULTILINE)}


def citation_faults(citation: dict[str, str], project: dict) -> list[str]:
    """The keys that the format requires, and the title and licence of the package."""
    missing = {"cff-version", "message", "title", "authors"} - citation.keys()
    title = f"{project['name']}: {project['description'].rstrip('.')}"
    found = [f"CITATION.cff: no {key}" for key in sorted(missing)]
    found += ["CITATION.cff: title is not name and description"] * (citation.get("title", "").lower() != title.lower())
    return found + ["CITATION.cff: another licence"] * (citation.get("license") != project["license"])


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.split("."))


def tested_with(readme: str) -> list[tuple[str, str]]:
    """The (JAX, Python) that the README says."""
    return re.findall(r"\bJAX (\d[\d.]*\d) on Python (\d+\.\d+)\b", " ".join(readme.split()))


def support_faults(project: dict, readme: str, ci: str) -> list[str]:
    """What is required, what the classifiers name, what the README says is tested, and what .ci/run runs: the same."""
    tested = sorted(tested_with(readme), key=lambda pair: numbers(pair[0]))
    lanes = [lane for lane in re.findall(r"^run ([\w-]+)", ci, re.MULTILINE) if lane in LANES]
    found = [] if lanes == list(LANES) else [f".ci/run: runs {lanes}, not {list(LANES)}"]
    if len(tested) != len(LANES):
        return [*found, f"README.md: {len(tested)} pairs of JAX and Python, not {len(LANES)}"]
    pythons = sorted((python for _, python in tested), key=numbers)
    (jax,) = (d for d in project["dependencies"] if re.match(r"jax\b(?!typing)", d))
    found += [f"README.md: JAX {tested[0][0]} is not the oldest of {jax}"] * (jax != f"jax>={tested[0][0]}")
    required = project["requires-python"]
    found += [f"README.md: Python {pythons[0]} is not the oldest of {required}"] * (required != f">={pythons[0]}")
    minors = range(numbers(pythons[0])[1], numbers(pythons[-1])[1] + 1)
    prefix = "Programming Language :: Python :: 3."
    named = [int(c.removeprefix(prefix)) for c in project["classifiers"] if c.startswith(prefix)]
    return found + [f"classifiers: Python 3.{named}, tested 3.{list(minors)}"] * (named != list(minors))


# what is built --------------------------------------------------------------------------------------------------------


def wheel_faults(names: list[str], tracked: list[str]) -> list[str]:
    """The modules that git has, py.typed, LICENSE and metadata: nothing more and nothing less."""
    info = re.compile(r"jsoftmax-[^/]+\.dist-info/(METADATA|WHEEL|RECORD|licenses/LICENSE)")
    wanted = {name for name in tracked if name.startswith("jsoftmax/")} | {"jsoftmax/py.typed"}
    rest = {name for name in names if not info.fullmatch(name)}
    found = [] if any(name.endswith("/licenses/LICENSE") for name in names) else ["the wheel is without LICENSE"]
    found += [f"the wheel is without {name}" for name in sorted(wanted - rest)]
    return found + [f"the wheel also has {name}" for name in sorted(rest - wanted)]


def sdist_faults(names: list[str], tracked: list[str]) -> list[str]:
    """What git has, so that all that can be done from a clone can be done from it; and PKG-INFO."""
    inside = {name.partition("/")[2] for name in names}
    found = [f"the sdist is without {name}" for name in sorted({*tracked, "PKG-INFO"} - inside)]
    return found + [f"the sdist also has {name}" for name in sorted(inside - {*tracked, "PKG-INFO"})]


def requirement(line: str) -> str:
    """The name in a line of Requires-Dist, as indexes write it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower()


def metadata_faults(metadata: str, version: str, project: dict, readme: str) -> list[str]:
    message = email.message_from_string(metadata)
    wanted = {
        "Name": project["name"],
        "Version": version,
        "Requires-Python": project["requires-python"],
        "License-Expression": project["license"],
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
    }
    found = [f"{key} is {message[key]}, not {value}" for key, value in wanted.items() if message[key] != value]
    lines = message.get_all("Requires-Dist", [])
    required = {requirement(line) for line in lines if not re.search(r"\bextra\s*==", line)}
    found += [f"requires {sorted(required)}, not {sorted(DEPENDENCIES)}"] * (required != DEPENDENCIES)
    return found + ["the description is not README.md"] * (message.get_payload().strip() != readme.strip())


def environment_faults(installed: dict[str, list[str]]) -> list[str]:
    """`installed`: what each distribution requires. All but the package are there for the sake of its three."""
    reached, ahead = {"jsoftmax"}, DEPENDENCIES
    while ahead:
        reached |= ahead
        lines = [line for name in ahead for line in installed.get(name, []) if not re.search(r"\bextra\s*==", line)]
        ahead = {requirement(line) for line in lines} - reached
    found = [f"{name} is not installed" for name in sorted({"jsoftmax", *DEPENDENCIES} - installed.keys())]
    return found + [f"{name} is installed, and nothing requires it" for name in sorted(installed.keys() - reached)]


# what is installed ----------------------------------------------------------------------------------------------------


INSTALLED = """
import importlib.metadata as m, json, re
print(json.dumps({re.sub("[-_.]+", "-", d.name).lower(): d.requires or [] for d in m.distributions()}))
"""
IMPORT = """
import json, os, sys, threading, time, warnings
import jax, jax.numpy, jaxtyping
from jax._src import xla_bridge

def state():
    tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    return {
        "settings of JAX": {name: repr(value) for name, value in jax.config.values.items()},
        "backends": sorted(xla_bridge._backends),
        "threads": [threading.active_count(), tasks],
        "environment": dict(os.environ),
        "filters of warnings": list(map(repr, warnings.filters)),
    }

warnings.simplefilter("error")
before, modules, start = state(), set(sys.modules), time.perf_counter()
import jsoftmax
milliseconds = 1e3 * (time.perf_counter() - start)
after = state()
with open(sys.argv[1], "w") as file:
    changed = [name for name in before if after[name] != before[name]]
    found = {"milliseconds": milliseconds, "changed": changed, "backends": after["backends"]}
    found["modules"] = sorted(m for m in set(sys.modules) - modules if m.split(".")[0] != "jsoftmax")
    json.dump(found | {"file": jsoftmax.__file__}, file)
"""
GRADIENT = """
import jax, jax.numpy as jnp, jsoftmax
x, w = jnp.array([[0.0, -20.0], [3.0, 3.0]]), jnp.array([1.0, 2.0])
loss = lambda x, beta: w @ jsoftmax.softmax_cross_entropy_with_integer_labels(x, jnp.array([0, 1]), beta=beta)
by_x, by_beta = jax.jit(jax.grad(loss, (0, 1)))(x, jnp.ones(()))
assert 2.06e-9 < by_x[0, 1] < 2.07e-9 and by_x[0, 0] == -by_x[0, 1], by_x
assert (by_x[1] == jnp.array([1.0, -1.0])).all(), by_x
assert -4.13e-8 < by_beta < -4.12e-8, by_beta
"""
VERSION = 'import importlib.metadata, jsoftmax; assert importlib.metadata.version("jsoftmax") == jsoftmax.__version__'
TYPES = """import jax.numpy as jnp, jsoftmax
reveal_type(jsoftmax.softmax(jnp.zeros(3), beta=2.0))
jsoftmax.softmax(jnp.zeros(3), axis="classes", slope=2.0)
"""


def import_faults(found: dict, output: str) -> list[str]:
    faults = [f"changes {name}" for name in found["changed"]] + [f"starts {name}" for name in found["backends"]]
    faults += [f"also imports {name}" for name in found["modules"]]
    return faults + ([f"prints {output.strip()[-200:]!r}"] if output.strip() else [])


def type_faults(output: str) -> list[str]:
    """What mypy says of TYPES: the types are found, and what is wrong is refused."""
    wanted = {
        "the type of a result": r'^user\.py:2: note: Revealed type is "jax\.\S*Array"',
        "a string for an axis": r'^user\.py:3: error: Argument "axis" .*"softmax"',
        "an argument that there is not": r'^user\.py:3: error: Unexpected keyword argument "slope"',
    }
    missing = [what for what, line in wanted.items() if not re.search(line, output, re.MULTILINE)]
    return [f"mypy does not see {what}: {output.strip()[-400:]}" for what in missing]


# ----------------------------------------------------------------------------------------------------------------------


def run(*command: object, cwd: pathlib.Path, accepted: tuple[int, ...] = (0,)) -> str:
    """What the command prints, as a user with nothing set for Python or JAX would see it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX_", "XLA_"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode not in accepted:
        sys.exit(f"WRONG  {' '.join(map(str, command))[:200]}\n{done.stdout[-2000:]}")
    return done.stdout


def of_lanes(readme: str) -> str:
    """In words: what the environments of the lanes have here, where it is not what the README says."""
    code = "import jax, sys; print(jax.__version__, *sys.version_info[:2])"
    said, other = tested_with(readme), []
    for lane, folder in LANES.items():
        python = ROOT / folder / "bin" / "python"
        if python.exists():
            jax, major, minor = run(python, "-c", code, cwd=ROOT).split()[-3:]
            if not any(f"{jax}.".startswith(f"{a}.") and b == f"{major}.{minor}" for a, b in said):
                other.append(f"make {lane} has JAX {jax} on Python {major}.{minor} here, which README.md does not say")
    return "; ".join(other)


def size(path: pathlib.Path) -> str:
    return f"{path.name}: {path.stat().st_size / 1e6:.2f} MB"


class Report:
    failed = False

    def __call__(self, what: str, faults: list[str]):
        self.failed |= bool(faults)
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        print(f"WRONG  {what}: {'; '.join(faults[:5])}{more}" if faults else f"ok     {what}", flush=True)


def check_sources(report: Report, version: str, project: dict, readme: str):
    citation = citation_of((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    report(f"version {version} in CHANGELOG.md and CITATION.cff", version_faults(version, changelog, citation))
    report("CITATION.cff is complete and of this package", citation_faults(citation, project))
    stated = ", ".join(f"JAX {jax} on Python {python}" for jax, python in tested_with(readme))
    faults = support_faults(project, readme, (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    report(f"tested with {stated}: requirements, classifiers and .ci/run agree", faults)
    links = len(re.findall(r"\]\((?!\w+:|#)[^)\s]+\)", readme))
    relative = f"{links} links of README.md are relative: dead on a package index" if links else ""
    for note in filter(None, (of_lanes(readme), relative)):
        print(f"note   {note}")


def check_build(report: Report, folder: pathlib.Path, version: str, project: dict, readme: str) -> pathlib.Path:
    """The path of the wheel."""
    tracked = run("git", "ls-files", cwd=ROOT).split()
    left = run("git", "status", "--porcelain", "--ignored", cwd=ROOT)
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)  # the wheel from the sdist
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    more = sorted(set(run("git", "status", "--porcelain", "--ignored", cwd=ROOT).splitlines()) - set(left.splitlines()))
    report("building leaves nothing in the tree", more)
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    report(f"{size(sdist)}, what git has", sdist_faults(names, tracked))
    with zipfile.ZipFile(wheel) as archive:
        report(f"{size(wheel)}, the package, py.typed, LICENSE", wheel_faults(archive.namelist(), tracked))
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode("utf-8")
    report("metadata: name, version, Python, licence, description", metadata_faults(metadata, version, project, readme))
    return wheel


def times(runs: list[dict]) -> list[float]:
    return [found["milliseconds"] for found in runs]


def check_import(report: Report, python: pathlib.Path, away: pathlib.Path):
    runs, output = [], ""
    while len(runs) < IMPORTS.start or (min(times(runs)) > LONGEST_IMPORT and len(runs) + 1 in IMPORTS):
        output += run(python, "-c", IMPORT, away / "import.json", cwd=away)
        runs.append(json.loads((away / "import.json").read_text(encoding="utf-8")))
    faults = [] if pathlib.Path(runs[0]["file"]).is_relative_to(python.parents[1]) else ["is not of the environment"]
    faults += import_faults(runs[0], output)
    report("the import changes, starts, prints and imports nothing beyond itself", faults)
    shortest, median = min(times(runs)), statistics.median(times(runs))
    told = f"the import takes {shortest:.0f} ms beyond jax and jaxtyping (median of {len(runs)}: {median:.0f} ms)"
    report(told, [f"more than {LONGEST_IMPORT} ms"] * (shortest > LONGEST_IMPORT))


def check_types(report: Report, python: pathlib.Path, away: pathlib.Path):
    (away / "user.py").write_text(TYPES, encoding="utf-8")
    mypy = (sys.executable, "-m", "mypy", "--no-pretty", "--cache-dir", away / "cache", "--python-executable", python)
    output = run(*mypy, "user.py", cwd=away, accepted=(0, 1))
    report("mypy finds its types and refuses a wrong call", type_faults(output))


def check_installed(report: Report, wheel: pathlib.Path, folder: pathlib.Path, readme: str):
    away = folder / "away"
    away.mkdir()
    python = folder / "empty" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", folder / "empty", cwd=away)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, cwd=away)
    installed = json.loads(run(python, "-c", INSTALLED, cwd=away))
    direct, others = ", ".join(sorted(DEPENDENCIES)), ", ".join(sorted(installed.keys() - {"jsoftmax"} - DEPENDENCIES))
    told = f"an empty environment gets {direct}, for these {others}, and nothing else"
    report(told, environment_faults(installed))
    check_import(report, python, away)
    (away / "example.txt").write_text(FENCE.search(readme)[1], encoding="utf-8")
    for what, command in {
        "the first example of README.md runs": ("-m", "doctest", "example.txt"),
        "a gradient": ("-c", GRADIENT),
        "the version of the package is that of its metadata": ("-c", VERSION),
    }.items():
        output = run(python, *command, cwd=away, accepted=(0, 1)).strip()
        report(what, [output[-1000:]] if output else [])
    check_types(report, python, away)


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = (ROOT / "jsoftmax" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]
    readme, report = (ROOT / "README.md").read_text(encoding="utf-8"), Report()
    check_sources(report, version, project, readme)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        wheel = check_build(report, folder, version, project, readme)
        check_installed(report, wheel, folder, readme)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
