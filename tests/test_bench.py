"""The benchmark: its protocol, and the structure of a smoke run made here and of the committed results. No timing."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import bench
from experiments._bench_peers import LOSSES
from experiments._bench_table import STEADY, table
from experiments._results import plain

EXPERIMENT = bench
COMMITTED = Path(bench.__file__).parent / "results"
CASES = {name: operator.peer_name for name, operator in bench.CASES.items()}
OPTIONS = {name: operator.peer_name for name, operator in LOSSES.items()}
PARTS = (CASES, CASES, OPTIONS, OPTIONS)
YARDSTICKS = {("copy", "value", "copy"), ("read", "value", "read")}


@pytest.fixture(scope="module")
def results(directory):
    return json.loads((directory / "bench.json").read_text(encoding="utf-8"))


def test_every_operator_in_both_modes_beside_its_peer(results):
    for part, cases in zip(results["parts"], PARTS, strict=True):
        wanted = {(n, mode, f) for n, peer in cases.items() for mode in bench.MODES for f in ("jsoftmax", peer)}
        keys = [(p["operator"], p["mode"], p["function"]) for p in part["programs"]]
        assert len(keys) == len(set(keys))
        assert set(keys) == wanted | YARDSTICKS
    assert [part["compiled"] for part in results["parts"]] == [True, False, True, True]


def test_times_and_ratios_are_positive_and_finite(results):
    for part in results["parts"]:
        for program in part["programs"]:
            ours = program["function"] == "jsoftmax"
            assert ("ratio" in program) == ("copies" in program) == ours
            for spread in (program[name] for name in ("seconds", "ratio", "copies") if name in program):
                assert 0 < spread["p20"] <= spread["median"] <= spread["p80"] < np.inf
            assert not ours or program["peer"] == (CASES | OPTIONS)[program["operator"]]


def test_memory_is_that_of_compiled_programs(results):
    for part in results["parts"]:
        for p in part["programs"]:
            if part["compiled"]:
                assert isinstance(p["temporary_bytes"], int) and p["temporary_bytes"] >= 0
            else:
                assert p["temporary_bytes"] is None


def test_provenance(results):
    run = results["run"]
    assert {"python", "jsoftmax", "jax", "jaxlib", "optax"} <= run["versions"].keys()
    assert run["device"] and run["machine"]["processor"] and run["machine"]["cores"] >= 1


def test_committed_results_are_of_the_default_run():
    results = json.loads((COMMITTED / "bench.json").read_text(encoding="utf-8"))
    assert results["run"]["command"] == "python -m experiments.bench"
    assert results["run"]["settings"] == plain({k: v for k, v in vars(bench.Config()).items() if k != "out"})
    assert results["run"]["settings"]["rounds"] >= 15
    assert [part["shape"] for part in results["parts"]] == [[4096, 4096], [8, 10], [1024, 1000], [8, 21, 256, 256]]
    assert [part["rounds"] for part in results["parts"]] == 4 * [bench.Config.rounds]


def test_rounds_are_interleaved_and_warm_up_is_left_out():
    called = []
    found = {name: (lambda name=name: called.append(name), None) for name in "abc"}
    *_, times = bench.timed(found, bench.Config(rounds=5), 1, "test")
    rounds = ["".join(called[i : i + 3]) for i in range(0, len(called), 3)]
    assert set(rounds) == {"abc", "cba"}
    assert len(rounds) == bench.WARM_UP + 5
    assert {name: len(t) for name, t in times.items()} == dict.fromkeys("abc", 5)


def test_a_ratio_compares_within_a_round(monkeypatch):
    """The machine is twice as slow in every second round: medians of either cannot tell, a ratio does."""
    keys = [("copy", "value", "copy"), ("softmax", "value", "jsoftmax"), ("softmax", "value", "jax.nn")]
    slow = np.array([1.0, 2.0, 1.0, 2.0, 2.0])
    times = dict(zip(keys, (slow, 3 * slow, 4 * slow), strict=True))
    monkeypatch.setattr(bench, "programs", lambda shape, compiled, cases: dict.fromkeys(keys, (None, 0)))
    monkeypatch.setattr(bench, "timed", lambda *arguments: [times])
    (part,) = bench.measure((4, 4), bench.Config(), compiled=True)
    ours = part["programs"][1]
    assert ours["ratio"] == pytest.approx({"median": 0.75, "p20": 0.75, "p80": 0.75})
    assert ours["copies"]["median"] == pytest.approx(3.0)
    assert part["copy_p80_to_p20"] == pytest.approx(2.0)


def test_an_interrupted_run_keeps_its_rounds(tmp_path, monkeypatch):
    keys = [("copy", "value", "copy"), ("softmax", "value", "jsoftmax"), ("softmax", "value", "jax.nn")]
    calls = iter(range((bench.WARM_UP + 3) * len(keys)))  # it is interrupted in the fourth round

    def call():
        if next(calls, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(bench, "programs", lambda shape, compiled, cases: dict.fromkeys(keys, (call, 0)))
    with pytest.raises(KeyboardInterrupt):
        bench.main(bench.Config(out=tmp_path))
    (part,) = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["parts"]
    assert part["rounds"] == 3
    assert part["programs"][1]["ratio"]["median"] > 0


@pytest.mark.parametrize(
    ("shape", "cases"), [(bench.Config.small, bench.CASES), ((2, 5, 3, 3), LOSSES)], ids=["operators", "losses"]
)
def test_programs_give_what_they_are_named_after(shape, cases):
    """Both functions of a case compute the same value and gradient, so that their times can be compared."""
    found = bench.programs(shape, False, cases)
    for name, peer in {name: operator.peer_name for name, operator in cases.items()}.items():
        for mode in bench.MODES:
            ours, theirs = (found[name, mode, f][0]() for f in ("jsoftmax", peer))
            assert isinstance(ours, tuple) == (mode == bench.MODES[1])
            for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (ours, theirs)), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
                assert np.abs(b).max() > 1e-3


def test_the_table_shows_every_case_and_an_unsteady_machine(results):
    text = table(results)
    for name, peer in (CASES | OPTIONS).items():
        shown = name.replace("softmax_cross_entropy_with_integer_labels", "integer cross-entropy")
        assert sum(line.startswith(f"{shown:26} value") and f" {peer} " in line for line in text.splitlines()) == 4
    unsteady = {**results, "parts": [{**part, "copy_p80_to_p20": STEADY + 1} for part in results["parts"]]}
    assert table(unsteady).count("not steady") == 4
