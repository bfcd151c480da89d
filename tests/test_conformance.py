"""The conformance cases: the files are what is generated, this library passes them, the judge fails what is wrong."""

import collections
import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from mpmath import mp

from experiments.conformance import __main__ as experiment
from experiments.conformance import _jax, _jsoftmax, _optax, cases, libraries, page, run, write

COMPILE_LIGHTLY = "fast lane"
EVERY = pytest.mark.parametrize("operator", cases.OPERATORS)
MANY = 7  # cases of a program that the fast lane compiles; the slow lane compiles all
RESULTS = experiment.Config.out / "conformance.json"
INTEGER = cases.INTEGER


def strict(text):
    def reject(token):
        raise ValueError(f"{token} is not JSON")

    return json.loads(text, parse_constant=reject)


def case_of(name):
    return next(case for case in run.load(name.split("/")[0]) if case.id == name)


# the files ---------------------------------------------------------------------------------------------------------


@EVERY
def test_the_file_is_what_is_generated(operator):
    committed = (run.DATA / f"{operator}.json").read_text(encoding="utf-8")
    version = re.search(r"mpmath ([\d.]+)", strict(committed)["provenance"]["exact"])[1]
    assert write.text(operator, version) == committed


@pytest.mark.slow
def test_write(tmp_path, monkeypatch):
    written = {path.name: path.read_text(encoding="utf-8") for path in run.DATA.glob("*.json")}
    monkeypatch.setattr(run, "DATA", tmp_path)
    assert experiment.main(experiment.Config(write=True)) is None
    of_mpmath = re.compile(r"mpmath [\d.]+")
    found = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert {k: of_mpmath.sub("", v) for k, v in found.items()} == {k: of_mpmath.sub("", v) for k, v in written.items()}


def test_every_operator_has_a_file_and_every_group_a_case():
    files = [strict(path.read_text(encoding="utf-8")) for path in sorted(run.DATA.glob("*.json"))]
    assert {data["operator"] for data in files} == set(cases.OPERATORS) == set(run.operators())
    found = [case for data in files for case in data["cases"]]
    assert {case["group"] for case in found} == set(cases.GROUPS)
    assert len({case["id"] for case in found}) == len(found) > 400
    for data in files:
        assert data["format"] == run.FORMAT
        assert {"generator", "exact", "bounds"} == data["provenance"].keys()
        assert data["groups"] == {group: cases.GROUPS[group] for group in data["groups"]}
        assert {case["group"] for case in data["cases"]} == data["groups"].keys()
        for case in data["cases"]:
            assert case["id"].startswith(f"{data['operator']}/{case['group'].replace(' ', '-')}/")
            assert case["tests"].endswith(".")
            assert set(case["convention"]) <= {"value", "gradient"}
    assert sum(path.stat().st_size for path in run.DATA.glob("*.json")) < 1_000_000


def test_exact_numbers_have_their_digits():
    third = case_of("softmax/ties/all-equal").value.exact[0]
    assert str(third) == "0." + "3" * 30
    loss = case_of(f"{INTEGER}/confident/minus-20").value.exact[0]
    with mp.workdps(29):
        assert mp.nstr(mp.log1p(mp.exp(-20) + mp.exp(-22)), 25) == mp.nstr(mp.mpf(str(loss)), 25)


def test_inputs_are_read_to_the_bit():
    for operator in cases.OPERATORS:
        for draft, case in zip(cases.drafts(operator), run.load(operator), strict=True):
            assert draft.inputs.keys() == case.inputs.keys()
            for name, a in draft.inputs.items():
                read = case.inputs[name]
                assert case.dtypes[name] == np.asarray(a).dtype.name
                assert read.shape == np.shape(a)
                assert np.array_equal(read, np.asarray(a).astype(read.dtype), equal_nan=read.dtype.kind == "f")
                zeros = np.asarray(a) == 0
                assert np.array_equal(np.signbit(read[zeros].astype(float)), np.signbit(a[zeros].astype(float)))


def test_the_reader_needs_only_numpy():
    source = "import sys; from experiments.conformance import run; run.load('softmax'); print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", source], cwd=run.DATA.parents[2], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr


def test_another_format_is_refused(tmp_path):
    data = strict((run.DATA / "boltzmann.json").read_text(encoding="utf-8"))
    (tmp_path / "boltzmann.json").write_text(json.dumps(data | {"format": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match="format 2"):
        run.load("boltzmann", tmp_path)


# this library ------------------------------------------------------------------------------------------------------


def programs(operator):
    """The cases of each program that JAX makes."""
    found = collections.defaultdict(list)
    for case in run.load(operator):
        shapes = tuple((name, a.shape, case.dtypes[name]) for name, a in case.inputs.items())
        found[shapes, str(case.options), tuple(case.gradients)].append(case)
    return list(found.values())


def check_passes(chosen, compiled):
    adapter, wrong = _jsoftmax.adapter(compiled), []
    for case in chosen:
        wrong += [(case.id, *v) for v in run.verdicts(case, adapter).values() if v.outcome != run.PASS]
    assert not wrong


@EVERY
def test_this_library_passes_what_shares_a_program(operator):
    largest = max(programs(operator), key=len)
    shared = [case for group in programs(operator) if len(group) >= MANY or group is largest for case in group]
    assert shared
    check_passes(shared, compiled=True)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "eager"])
def test_this_library_passes_every_case(operator, compiled):
    check_passes(run.load(operator), compiled)


# the judge ---------------------------------------------------------------------------------------------------------


def exactly(expected, dtype=None):
    with np.errstate(over="ignore"):
        return np.array([float(v) for v in expected.exact]).reshape(expected.shape).astype(dtype or expected.dtype)


def verdict(case, value):
    return run.judge(case, value)["value"].outcome


SIMPLE = "log_softmax/ordinary/three"


def test_what_is_right_passes():
    for operator in cases.OPERATORS:
        for case in run.load(operator):
            if case.value.dtype == "bfloat16" or "bfloat16" in case.dtypes.values():
                continue
            found = run.judge(case, exactly(case.value), {k: exactly(v) for k, v in case.gradients.items()})
            assert {v.outcome for v in found.values()} == {run.PASS}, (case.id, found)


@pytest.mark.parametrize(("times", "outcome"), [(0.5, run.PASS), (2, run.NEAR), (1e6, run.FAIL)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_off_by_so_many_bounds(times, outcome, sign):
    case = case_of("log_softmax/ordinary/float64")
    value = exactly(case.value)
    value[1] += sign * times * float(case.value.bound[1]) * (1e10 if outcome == run.FAIL else 1)
    found = run.judge(case, value)["value"]
    assert found.outcome == outcome
    assert ("at (1,)" in found.why) == (outcome != run.PASS)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none(wrong):
    case = case_of(SIMPLE)
    value = exactly(case.value)
    value[2] = wrong
    assert verdict(case, value) == run.FAIL


def test_infinities_and_nan_where_they_are_wanted():
    case = case_of("log_softmax/absent-classes/minus-infinity")
    value = exactly(case.value)
    assert value[1] == -np.inf and verdict(case, value) == run.PASS
    for wrong in (np.inf, np.nan, -3e38):
        value[1] = wrong
        assert verdict(case, value) == run.FAIL
    case = case_of("softmax/infinities/nan")
    assert verdict(case, exactly(case.value)) == run.PASS
    assert verdict(case, np.float32([0, 1, 0])) == run.FAIL


def test_what_overflows_may_be_infinite():
    case = case_of(f"{INTEGER}/large-exponents/loss-beyond-float32")
    assert verdict(case, np.float32(np.inf)) == run.PASS
    assert verdict(case, np.float32(-np.inf)) == run.FAIL
    case = case_of(f"{INTEGER}/large-exponents/loss-of-2e38")
    assert verdict(case, np.float32(np.inf)) == run.FAIL


def test_a_probability_has_no_sign():
    case = case_of("softmax/absent-classes/minus-infinity")
    value = exactly(case.value)
    assert verdict(case, value) == run.PASS
    value[1] = -0.0
    assert verdict(case, value) == run.FAIL
    loss = case_of(f"{INTEGER}/ordinary/one-class")
    assert verdict(loss, np.float32(-0.0)) == run.PASS  # −log 1


def test_shape_and_dtype_are_part_of_the_answer():
    case = case_of(SIMPLE)
    value = exactly(case.value)
    assert verdict(case, value) == run.PASS
    assert verdict(case, value[None]) == verdict(case, value[:2]) == run.FAIL
    assert verdict(case, value.astype(np.float64)) == run.FAIL
    assert verdict(case, (value.astype(np.float64), "float32")) == run.PASS  # of a library whose dtype NumPy has not
    assert verdict(case, (value, "bfloat16")) == run.FAIL


def test_gradients_are_judged_each():
    case = case_of("softmax/inverse-temperature/two")
    value, right = exactly(case.value), {k: exactly(v) for k, v in case.gradients.items()}
    assert set(right) == {"x", "beta"}
    wrong = right | {"beta": -right["beta"]}
    assert run.judge(case, value, right)["gradient"].outcome == run.PASS
    assert run.judge(case, value, wrong)["gradient"].outcome == run.FAIL
    assert run.judge(case, value, {"x": right["x"]})["gradient"] == (run.UNSUPPORTED, "no gradient in beta")
    assert run.judge(case, value, {"x": -right["x"]})["gradient"].outcome == run.FAIL
    assert run.judge(case, None, right)["value"].outcome == run.UNSUPPORTED


def test_what_a_library_lacks_or_refuses():
    def refuses(case):
        raise IndexError("no such label")

    def lacks(case):
        raise run.Unsupported("no beta")

    case = case_of(SIMPLE)
    assert run.verdicts(case, {"log_softmax": refuses})["value"] == (run.FAIL, "raised IndexError: no such label")
    assert run.verdicts(case, {"log_softmax": lacks})["gradient"] == (run.UNSUPPORTED, "no beta")
    assert run.verdicts(case, {})["value"].outcome == run.UNSUPPORTED
    alone = run.verdicts(case, {"log_softmax": lambda case: exactly(case.value)})
    assert (alone["value"].outcome, alone["gradient"].outcome) == (run.PASS, run.UNSUPPORTED)


# the others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "quantity"),
    [
        (_optax, f"{INTEGER}/bad-labels/minus-1", "value"),
        (_jax, "logsumexp/empty-rows/all-minus-infinity", "gradient"),
        (_jax, "logsumexp/confident/minus-20", "value"),
        (_optax, f"{INTEGER}/confident/minus-20", "value"),
    ],
)
def test_known_failures_of_the_others(module, name, quantity):
    """When one of them mends this, the page has to say so."""
    library = module.__name__.rpartition("_")[2]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert run.verdicts(case_of(name), module.adapter(False))[quantity].outcome == run.FAIL
    rows = {row[0]: row for row in strict(RESULTS.read_text(encoding="utf-8"))["libraries"][library]["rows"]}
    assert rows[name][1 if quantity == "value" else 3] == run.FAIL


# the results and the page ------------------------------------------------------------------------------------------


def test_everything_was_judged_and_this_library_passed():
    results = strict(RESULTS.read_text(encoding="utf-8"))
    assert results["run"]["command"] == "python -m experiments.conformance"
    assert tuple(results["libraries"]) == libraries.LIBRARIES
    ids = {case.id for operator in cases.OPERATORS for case in run.load(operator)}
    for found in results["libraries"].values():
        assert len(found["rows"]) == len(ids) and {row[0] for row in found["rows"]} == ids
    ours = results["libraries"]["jsoftmax"]["rows"]
    assert {(row[1], row[3]) for row in ours} == {(run.PASS, run.PASS)}


def test_the_tables_are_what_the_results_say(tmp_path):
    committed = experiment.Config.page.read_text(encoding="utf-8")
    assert page.with_tables(committed, strict(RESULTS.read_text(encoding="utf-8"))) == committed
    (tmp_path / "page.md").write_text(committed, encoding="utf-8")
    experiment.main(experiment.Config(page_only=True, page=tmp_path / "page.md"))
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == committed
    with pytest.raises(ValueError, match="markers"):
        page.with_tables("no markers", {})


def test_cells_count_what_was_judged():
    count = collections.Counter({run.PASS: 3, run.NEAR: 2, run.FAIL: 1, run.UNSUPPORTED: 4})
    assert page.cell(count) == "3/6, 2"
    assert page.cell(collections.Counter({run.UNSUPPORTED: 4})) == "–"
    value, gradient = case_of("softmax/limits-of-beta/infinity"), case_of(SIMPLE)
    assert page.kind(value, "value") == page.KINDS[1]
    assert page.kind(value, "gradient") == page.KINDS[2]
    assert page.kind(gradient, "gradient") == page.KINDS[0]


def test_a_library_that_is_not_here_keeps_its_results(tmp_path, monkeypatch, capsys):
    shutil.copy(RESULTS, tmp_path)
    monkeypatch.setattr(libraries, "is_here", lambda name: False)
    before = strict(RESULTS.read_text(encoding="utf-8"))["libraries"]
    text = tmp_path / "page.md"
    shutil.copy(experiment.Config.page, text)
    results = experiment.main(experiment.Config(libraries=("torch",), out=tmp_path, page=text))
    assert results["libraries"] == before
    assert "SKIPPED: torch" in capsys.readouterr().err


@pytest.mark.slow
def test_smoke(tmp_path):
    results = experiment.main(experiment.Config(smoke=True, out=tmp_path, page=tmp_path / "page.md"))
    assert {row[1] for row in results["libraries"]["jsoftmax"]["rows"]} == {run.PASS}
    assert not (tmp_path / "page.md").exists()  # a smoke run says nothing to the page
