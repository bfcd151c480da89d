"""The benchmark: its protocol, what its programs compute, and the structure of a smoke run made here and of the
committed results. No timing."""

import contextlib
import importlib.machinery
import itertools
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import __main__ as benchmark
from experiments.benchmarks import (
    attention,
    cases,
    linear,
    machine,
    margins,
    measure,
    page,
    plan,
    programs,
    ratios,
    report,
    results,
    vocabulary,
)
from experiments.benchmarks.operators import CASES
from experiments.benchmarks.programs import GRADIENT, IN_PLACE, OURS, TORCH, VALUE, YARDSTICK, Key, Program
from experiments.benchmarks.workloads import BY_NAME, INTEGER, LINEAR, WORKLOADS, Workload
from tests.marks import slow

EXPERIMENT = benchmark
COMPILE_LIGHTLY = True
COMMITTED = benchmark.Config.out
SMOKE = plan.plan(full=False, names=benchmark.SMOKE["workloads"])
SOFTMAX = "softmax", ""
COPY = Key(YARDSTICK, "", VALUE, programs.COPY)


@pytest.fixture(autouse=True)
def as_a_user():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", params=[slow("smoke"), "committed"])
def rows(request):
    directory = COMMITTED if request.param == "committed" else request.getfixturevalue("smoke")
    return [row for path in sorted(directory.glob("*.csv")) for row in results.read(path)]


def keys(rows):
    return [(*results.case(row), row["function"]) for row in rows]


def wanted(parts):
    """(operator, variant, mode, workload, dtype) of every program of ours, and the JAX rivals beside it."""
    found = {}
    for part in parts:
        for case in part.cases:
            if case in margins.CASES:
                rivals = {margins.ONE_HOT, margins.GATHERED}
            elif case in attention.CASES:
                rivals = {"jax.nn", "autodiff"}
            elif case in vocabulary.CASES:
                rivals = {vocabulary.ALL_CLASSES}
            else:
                rivals = {"matmul + optax"} if case[0] == LINEAR else {CASES[case].peer_name, "autodiff"}
            large = case[0] in ("softmax", "log_softmax")
            donated = [(VALUE if large else GRADIENT) + IN_PLACE] if case in part.in_place else []
            found |= {(*case, mode, part.workload.name, part.dtype): rivals for mode in (VALUE, GRADIENT, *donated)}
    return found


# the rows ------------------------------------------------------------------------------------------------------------


def test_every_case_of_the_plan_beside_its_rivals(rows, request):
    assert len(keys(rows)) == len(set(keys(rows)))
    expected = wanted(SMOKE if "smoke" in request.node.name else plan.plan(full=False))
    functions = {}
    for row in rows:
        functions.setdefault(results.case(row)[:5], set()).add(row["function"])
    assert expected.keys() <= functions.keys()
    for case, rivals in expected.items():
        assert {OURS} | rivals <= functions[case], case
    if "smoke" in request.node.name:
        assert {case for case in functions if case[0] != YARDSTICK} == expected.keys()


def test_times_and_ratios_are_positive_and_finite(rows):
    for row in rows:
        assert 0 < row["ms_min"] <= row["ms_p20"] <= row["ms"] <= row["ms_p80"] < np.inf
        assert (row["ratio"] is None) == (row["operator"] == YARDSTICK)
        if row["ratio"] is not None:
            assert 0 < row["ratio_p20"] <= row["ratio"] <= row["ratio_p80"] < np.inf


def test_the_best_rival_is_the_one_that_we_are_slowest_beside(rows):
    for functions in report.by_case(rows).values():
        if row := functions.pop(OURS, None):
            best = max(other["ratio"] for other in functions.values())
            assert row["ratio"] == functions[row["best_rival"]]["ratio"] == best


def test_memory_and_floor_are_those_of_compiled_programs(rows):
    for row in rows:
        eager = BY_NAME[row["workload"]].kind == "eager"
        for name in ("temp_bytes", "compile_ms"):
            assert (row[name] is None) == (eager or row["function"] == TORCH)
        assert eager or row["function"] == TORCH or row["compile_ms"] > 0
        assert (row["floor_ratio"] is None) == (eager or row["operator"] == YARDSTICK)
        assert row["temp_bytes"] is None or row["temp_bytes"] >= 0
        assert row["floor_ratio"] is None or row["floor_ratio"] > 0


def test_provenance(rows):
    for row in rows:
        assert all(row[name] for name in ("date", "commit", "jax", "python", "device", "version", "shape"))
        assert row["cores"] >= row["threads"] >= 1
        assert row["rounds"] >= 3 and row["calls"] >= 1 and row["copy_ms"] > 0


def test_the_committed_rows_are_of_a_steady_machine_and_enough_rounds():
    for path in COMMITTED.glob("*.csv"):
        for row in results.read(path):
            workload = BY_NAME[row["workload"]]
            assert row["rounds"] == min(benchmark.Config.rounds, workload.rounds) >= 10
            assert row["calls"] == workload.calls
            assert row["shape"] == " × ".join(map(str, workload.shape))
            assert row["copy_p80_p20"] <= benchmark.Config.steady


# the page ------------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_results_say(tmp_path):
    text = benchmark.Config.page.read_text(encoding="utf-8")
    assert page.with_tables(text, COMMITTED) == text
    for path in COMMITTED.glob("*.csv"):
        for version, rows in page.by_version(results.read(path)):
            assert page.figure_of(path, version).exists()
            lines = [line for row in report.ours(rows) for line in text.splitlines() if report.name(row) in line]
            assert len(lines) >= len(report.ours(rows)) > 0


@pytest.mark.slow
def test_the_page_is_rewritten_between_its_markers(smoke, tmp_path):
    path, figures = tmp_path / "page.md", tmp_path / "results"
    figures.mkdir()
    for file in smoke.glob("*.csv"):
        (figures / file.name).write_bytes(file.read_bytes())
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    benchmark.main(benchmark.Config(page_only=True, out=figures, page=path))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "### 4096 rows [13 × 13], float32" in text
    assert len(list(figures.glob("*.png"))) == 1
    with pytest.raises(ValueError, match="no markers"):
        page.with_tables("a page without them", figures)


@pytest.mark.slow
def test_a_smoke_run_says_nothing_to_the_page(smoke):
    assert [file.suffix for file in smoke.iterdir()] == [".csv"]


def test_the_table_shows_every_row_and_marks_the_slower(rows):
    text = report.table(rows)
    shown = [line for line in text.splitlines() if line.startswith("  ") and not line.startswith("  case ")]
    assert len(shown) == len(report.ours(rows))
    marked = [line.endswith("◀") for line in shown]
    assert marked == [row["ratio"] > report.SLOWER for row in report.ours(rows)]
    assert [line.split(" ")[0] for line in text.splitlines()[-2:]] == ["Geometric", "Time"]


def test_the_geometric_mean_is_beside_the_best_jax_rival():
    about = {"variant": "", "mode": VALUE, "dtype": "float32", "device": "a", "jax": "1"}

    def row(operator, function, ratio):
        return about | {"operator": operator, "workload": "GPT-2", "function": function, "ratio": ratio}

    made = [row("softmax", OURS, 8.0), row("softmax", TORCH, 8.0), row("softmax", "jax.nn", 2.0)]
    made += [row("logsumexp", OURS, 0.5), row("logsumexp", "jax.nn", 0.25), row("logsumexp", "autodiff", 0.5)]
    assert report.geometric_mean(made) == pytest.approx(1.0)
    assert report.summary(made).endswith("1.000 over all 2 rows; 1.000 over the compiled 2 rows.")
    eager = [made[0] | {"workload": "tiny"}, made[2] | {"workload": "tiny", "ratio": 8.0}]
    assert report.summary(made + eager).endswith("2.000 over all 3 rows; 1.000 over the compiled 2 rows.")
    assert report.summary(eager).endswith("8.000 over all 1 rows.")


def test_compile_time_is_beside_the_jax_rival_that_takes_the_least():
    about = {"variant": "", "mode": VALUE, "dtype": "float32", "device": "a", "jax": "1", "workload": "GPT-2"}

    def row(operator, function, took):
        return about | {"operator": operator, "function": function, "compile_ms": took}

    made = [row("softmax", OURS, 60), row("softmax", TORCH, None), row("softmax", "jax.nn", 30)]
    made += [row("logsumexp", OURS, 80), row("logsumexp", "jax.nn", 30), row("logsumexp", "autodiff", 20)]
    assert report.compiling(made).endswith("median 3.0, half of the 2 rows 2.5 to 3.5.")
    assert report.compiling([row("softmax", OURS, None), row("softmax", TORCH, None)]) == ""


# the file ------------------------------------------------------------------------------------------------------------


def row_of(**given):
    return dict.fromkeys(results.FIELDS, "") | {"workload": "GPT-2", "dtype": "float32", "jax": "1"} | given


def test_a_run_replaces_its_cases_and_keeps_the_others():
    old = [row_of(operator="softmax", function=f, commit="a") for f in (OURS, "jax.nn", TORCH)]
    old += [row_of(operator="softmax", function=OURS, commit="a", jax="0"), row_of(operator="logsumexp", commit="a")]
    gone = [row_of(operator="softmin", commit="a")]
    new = [row_of(operator="softmax", function=f, commit="b") for f in (OURS, "jax.nn")]
    assert results.merged(old + gone, new, plan.exists) == [*old[3:], *new]


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "folder" / "a.csv"
    written = row_of(
        operator="softmax", variant="β, one", ms=0.123456, floor_bytes=12345678, ratio=np.float64(2), load=None
    )
    results.write(path, [written])
    (found,) = results.read(path)
    assert list(found) == list(results.FIELDS)
    assert (found["ms"], found["floor_bytes"], found["ratio"], found["load"]) == (0.1235, 12345678, 2, None)
    assert (found["variant"], found["workload"]) == ("β, one", "GPT-2")
    assert list(path.parent.iterdir()) == [path]  # nothing partial is left
    assert results.read(tmp_path / "none.csv") == []


def test_rows_are_in_the_order_of_the_plan():
    made = [
        row_of(operator=o, workload=w, dtype=d)
        for w in ("tiny", "GPT-2")
        for d in ("float32", "bfloat16")
        for o in (YARDSTICK, "softmax", INTEGER)
    ]
    assert plan.ordered(made[::-1]) == made


def test_a_file_for_each_device():
    assert results.path(pathlib.Path("a"), "Intel Xeon, 2 cores").name == "intel-xeon-2-cores.csv"
    assert machine.slug(machine.device())


def test_the_commit_says_what_was_measured(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    assert machine.commit(tmp_path) == "unknown"
    (tmp_path / "jsoftmax").mkdir()
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "jsoftmax" / "a.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = machine.commit(tmp_path)
    assert len(clean) >= 7 and clean.isalnum()
    (tmp_path / "experiments" / "results" / "a.csv").write_text("2")
    assert machine.commit(tmp_path) == clean
    (tmp_path / "jsoftmax" / "a.py").write_text("2")
    assert machine.commit(tmp_path) == clean + "+changes"
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.commit(tmp_path) == "unknown"
    assert machine.run("abc1234")["commit"] == "abc1234"  # told, where git does not know


# the protocol --------------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_torch_is_at_one_end(monkeypatch):
    """Between the two frameworks there is a pause and a call that does not count, here in brackets."""
    events = []

    def seconds(program, calls, together=False):
        events.append(program.run if calls == 3 else f"({program.run})")
        return len(events)

    monkeypatch.setattr(measure, "seconds", seconds)
    monkeypatch.setattr(measure.time, "sleep", lambda pause: events.append("…"))
    found = {Key("", "", VALUE, name): Program(name[0], None) for name in ("a", "b", "c", TORCH)}
    times = measure.timed(found, 2, 3, "test")
    rounds = ["…(t)t…(c)cba", "abc…(t)t", "t…(c)cba", "abc…(t)t"]
    assert "".join(events) == "".join(rounds)
    counted = {key.function: [n for n in t] for key, t in times.items()}
    calls = [i + 1 for i, event in enumerate(events) if event == "a"]
    assert counted["a"] == calls[measure.WARM_UP :]  # the warm-up is left out
    assert {len(t) for t in counted.values()} == {2}


def test_arguments_are_made_before_the_clock_starts(monkeypatch):
    events, clock = [], itertools.count()

    def now():
        events.append("clock")
        return next(clock)

    monkeypatch.setattr(measure.time, "perf_counter", now)
    program = Program(lambda given: events.append("run"), lambda: [events.append("arguments")])
    assert measure.seconds(program, 2) == 1.0
    assert events == 2 * ["arguments", "clock", "run", "clock"]


def test_calls_that_follow_each_other_are_awaited_once(monkeypatch):
    events, clock = [], itertools.count()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: events.append("clock") or next(clock))
    run, given = (lambda given: events.append("run")), (lambda: [events.append("arguments")])
    program = Program(run, given, wait=lambda result: events.append("wait") or result)
    assert measure.seconds(program, 2, together=True) == 0.5
    assert events == ["arguments", "arguments", "wait", "clock", "run", "run", "wait", "clock"]


def test_a_kernel_that_does_not_run_is_left_out(capsys):
    def broken(x):
        raise RuntimeError("no such architecture")

    keys = [Key("softmax", "", VALUE, name) for name in (OURS, TORCH, "liger-kernel", "quack-kernels")]
    found = {key: Program(broken if key == keys[2] else abs, lambda: [1.0]) for key in keys}
    assert list(measure.working(found)) == [keys[0], keys[1], keys[3]]
    assert "liger-kernel" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="architecture"):
        measure.timed({keys[0]: Program(broken, lambda: [1.0])}, 1, 1, "ours has to run")


def test_a_kernel_that_cannot_be_compiled_is_left_out(monkeypatch, capsys):
    """cuDNN's attention is none on CPU."""
    monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(programs, "COLD", 1)
    monkeypatch.setattr(programs, "has_torch", lambda: False)
    made = attention.programs(Workload("test", (1, 4, 2, 8), "", {}, kind="attention"), "float32", attention.CASES[:1])
    assert {key.function for key in made} >= {OURS, "jax.nn", "autodiff"} and not any(
        key.function == programs.CUDNN for key in made
    )
    assert capsys.readouterr().out.count(f"LEFT OUT: {programs.CUDNN}") == 2
    with pytest.raises(TypeError):
        programs.add({}, Key("softmax", "", VALUE, "jax.nn"), lambda x: x + object(), [jnp.ones(3)])


def test_arguments_take_turns_where_a_cache_could_hold_them(monkeypatch):
    x = jnp.arange(8.0)
    once = programs.rotated([x])
    assert next(once)[0] is next(once)[0] is x
    monkeypatch.setattr(programs.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(programs, "COLD", 3 * x.nbytes)
    others = programs.rotated([x])
    given = [next(others)[0] for _ in range(4)]
    assert len({id(a) for a in given}) == 3 and given[3] is given[0] is x
    assert all(np.array_equal(a, x) for a in given)


def test_a_ratio_compares_within_a_round():
    """The machine slows down, and ours is disturbed at first: it is faster in most rounds, the medians are equal."""
    slow = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    ours, good, bad = (Key("softmax", "", VALUE, name) for name in (OURS, "jax.nn", "autodiff"))
    found = {key: Program(None, None, 0, 100, fresh=True) for key in (ours, good, bad)}
    found[COPY] = Program(None, None, 0, 50)
    times = {COPY: slow, ours: slow * [6, 6, 3, 3, 3], good: 4 * slow, bad: 6 * slow}
    by_function = {row["function"]: row for row in ratios.statistics(found, times)}
    assert [by_function[name]["ratio"] for name in (OURS, "jax.nn", "autodiff")] == [0.75, 0.75, 0.5]
    assert by_function[OURS]["best_rival"] == "jax.nn"
    assert (by_function[OURS]["ratio_p20"], by_function[OURS]["ratio_p80"]) == (0.75, 1.5)
    assert (by_function[OURS]["ms"], by_function[OURS]["ms_min"]) == (12e3, 6e3)
    assert by_function[OURS]["floor_ratio"] == 1.5  # thrice the copy's time for twice its bytes
    assert measure.copy(times) == pytest.approx({"copy_ms": 3e3, "copy_p80_p20": 4.2 / 1.8})


@pytest.mark.parametrize(
    "operator, mode, fresh, yardstick",
    [
        ("softmax", VALUE, True, programs.COPY),
        ("softmax", VALUE + IN_PLACE, False, programs.COPY_IN_PLACE),
        ("logsumexp", VALUE, False, programs.READ),
    ],
)
def test_the_floor_is_at_the_rate_of_the_like(operator, mode, fresh, yardstick):
    made = {
        Key(YARDSTICK, "", VALUE, name): (Program(None, None, 0, 8), 2.0 + i)
        for i, name in enumerate(programs.YARDSTICKS[:3])
    }
    made[Key(operator, "", mode, OURS)] = Program(None, None, 0, 4, fresh), 6.0
    row = ratios.statistics({k: p for k, (p, _) in made.items()}, {k: np.full(3, t) for k, (_, t) in made.items()})[-1]
    assert row["yardstick"] == yardstick
    assert row["floor_ratio"] == 6 / (2 + programs.YARDSTICKS.index(yardstick)) * 2


def test_the_floor_of_a_linear_loss_is_its_matmuls():
    made = {COPY: 1.0, Key(YARDSTICK, "", VALUE, programs.MATMUL): 2.0}
    made |= {Key(LINEAR, "", mode, OURS): 12.0 for mode in (VALUE, GRADIENT)}
    found = ratios.statistics(
        dict.fromkeys(made, Program(None, None, 0, 8)), {k: np.full(3, t) for k, t in made.items()}
    )
    assert [row["floor_ratio"] for row in found[-2:]] == [6.0, 2.0]


@contextlib.contextmanager
def faked(monkeypatch, copies):
    """A benchmark whose programs are a copy and a softmax with one rival; `copies` are the copy's times, by call."""
    keys = [COPY, *(Key("softmax", "", VALUE, name) for name in (OURS, "jax.nn"))]
    copies = iter(copies)

    def timed(*arguments):
        return dict(zip(keys, (np.array(next(copies)), np.full(5, 2.0), np.full(5, 4.0)), strict=True))

    monkeypatch.setattr(cases, "programs", lambda *arguments: dict.fromkeys(keys, Program(None, None, 0, 8, True)))
    monkeypatch.setattr(measure, "timed", timed)
    yield


STEADY, UNSTEADY = [1.0] * 5, [1.0, 1.0, 1.0, 2.0, 2.0]


def test_an_unsteady_workload_is_measured_again_and_then_rejected(tmp_path, monkeypatch, capsys):
    config = benchmark.Config(out=tmp_path, page=tmp_path / "page.md", workloads=("4096 rows", "4095 rows", "GPT-2"))
    config.page.write_text(f"{page.BEGIN}\n{page.END}")
    with faked(monkeypatch, [STEADY, UNSTEADY, STEADY, UNSTEADY, UNSTEADY]):
        assert benchmark.main(config) == ["GPT-2, float32"]
    (path,) = tmp_path.glob("*.csv")
    assert {row["workload"] for row in results.read(path)} == {"4096 rows", "4095 rows"}
    assert "NOT WRITTEN" in capsys.readouterr().err
    assert benchmark.status(["GPT-2, float32"]) == 1 and benchmark.status([]) == 0


def test_an_interrupted_run_keeps_the_workloads_it_finished(tmp_path, monkeypatch):
    def copies():
        yield STEADY
        raise KeyboardInterrupt

    with faked(monkeypatch, copies()), pytest.raises(KeyboardInterrupt):
        benchmark.main(benchmark.Config(out=tmp_path, workloads=("4096 rows", "GPT-2")))
    (path,) = tmp_path.glob("*.csv")
    assert {row["workload"] for row in results.read(path)} == {"4096 rows"}


# the programs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """Every case on a small map, two of them with donated logits too."""
    return on_a_small_map(CASES)


def on_a_small_map(some):
    with jax.numpy_dtype_promotion("standard"):
        return cases.programs(Workload("test", (2, 20, 3, 3), "", {}), "float32", some, [SOFTMAX, (INTEGER, "")])


def agree(found, atol=1e-6):
    """Every function of an operator, variant and mode computes what ours does; what that is, by key of ours."""
    computed = {key: jax.tree.leaves(program.run(*program.arguments())) for key, program in found.items()}
    for key in computed:
        for a, b in zip(computed[key], computed[key._replace(function=OURS)], strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            np.testing.assert_allclose(
                a if a.shape == b.shape else a.T, b, rtol=2e-5, atol=atol
            )  # a weight stored as V × D
            assert np.abs(b).max() > 1e-3


@pytest.mark.slow
def test_programs_give_what_they_are_named_after(found):
    """All functions of a case compute the same value and gradient, donated or not, so that times can be compared."""
    found = {key: program for key, program in found.items() if key.operator != YARDSTICK}
    agree(found)
    assert {key[:2] for key in found} == set(CASES)
    donated = {key[:3] for key in found if key.mode.endswith(IN_PLACE)}
    assert donated == {(*SOFTMAX, VALUE + IN_PLACE), (INTEGER, "", GRADIENT + IN_PLACE)}
    assert not programs.has_torch() or {key[:2] for key in found if key.function == TORCH} == set(CASES)


def test_linear_programs_give_what_they_are_named_after():
    made = linear.programs(Workload("test", (6, 5, 7), "", {}, kind="linear"), "float32", linear.CASES)
    matmul = made[Key(YARDSTICK, "", VALUE, programs.MATMUL)]
    assert matmul.run(*matmul.arguments()).shape == (6, 7)
    made = {key: program for key, program in made.items() if key.operator == LINEAR}
    agree(made)
    functions = {OURS, "matmul + optax"} | ({TORCH} if programs.has_torch() else set())
    assert {(*case, mode, f) for case in linear.CASES for mode in (VALUE, GRADIENT) for f in functions} <= set(made)


def fake(monkeypatch, name, **functions):
    """A module that can be imported."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.mark.skipif(not programs.has_torch(), reason="an optional rival")
def test_kernels_of_others_are_called_as_their_signatures_are(monkeypatch, capsys):
    """Functions with their arguments and defaults, made of torch's; the kernels themselves run on a GPU alone."""
    import torch
    import torch.nn.functional as F

    from experiments.benchmarks import torch_rivals

    def loss(x, target, reduction="mean"):
        return F.cross_entropy(x, target, reduction=reduction)

    def of_layer(x, weight, target, reduction="mean"):  # [N, D], [V, D]
        return loss(x @ weight.T, target, reduction)

    def softmax(x):
        return torch.softmax(x, -1)

    liger = {"liger_softmax": softmax, "liger_cross_entropy": loss, "liger_fused_linear_cross_entropy": of_layer}
    fake(monkeypatch, "liger_kernel")
    functional = fake(monkeypatch, "liger_kernel.transformers.functional", **liger)
    fake(monkeypatch, "liger_kernel.transformers", functional=functional)
    fake(monkeypatch, "cut_cross_entropy", linear_cross_entropy=of_layer)
    fake(monkeypatch, "quack")
    fake(monkeypatch, "quack.softmax", softmax=softmax)
    fake(monkeypatch, "quack.cross_entropy", cross_entropy=loss)
    fake(monkeypatch, "quack.linear_cross_entropy", chunked_linear_cross_entropy=of_layer)
    on_cpu = torch_rivals.functions
    monkeypatch.setattr(torch_rivals, "functions", lambda case: on_cpu(case) | torch_rivals._kernels(case))
    made = linear.programs(Workload("test", (6, 5, 7), "", {}, kind="linear"), "float32", [(LINEAR, "")])
    with jax.numpy_dtype_promotion("standard"):
        flat = Workload("test", (6, 7), "", {})
        made |= cases.programs(flat, "float32", [("softmax", ""), (INTEGER, ""), ("logsumexp", "")], [])
    made = {key: program for key, program in made.items() if key.operator != YARDSTICK}
    agree(made)
    names = {programs.LIGER, programs.CCE, programs.QUACK}
    for operator, theirs in ((LINEAR, names), ("softmax", names - {programs.CCE}), ("logsumexp", set())):
        assert {key.function for key in made if key.operator == operator} & names == theirs
    monkeypatch.setitem(sys.modules, "quack.softmax", None)  # as if a package that it needs were missing
    assert set(torch_rivals._kernels(SOFTMAX)) == {programs.LIGER}
    assert "LEFT OUT: quack-kernels" in capsys.readouterr().out


@pytest.mark.skipif(not programs.has_torch(), reason="an optional rival")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_tensors_are_copies(dtype):
    from experiments.benchmarks import torch_rivals

    x = jnp.arange(6).astype(dtype).reshape(2, 3)
    tensor = torch_rivals.tensor(x)
    assert str(tensor.dtype) == f"torch.{'int64' if dtype == 'int32' else dtype}"
    tensor += 1
    np.testing.assert_array_equal(x, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(tensor.float().numpy(), np.arange(1, 7).reshape(2, 3))


@pytest.mark.slow
def test_margins_give_what_they_are_named_after():
    made = margins.programs(Workload("test", (6, 5, 7), "", {}, kind="margin"), "float32", margins.CASES)
    made = {key: program for key, program in made.items() if key.operator == margins.ARCFACE}
    agree(made, atol=1e-4)  # 64 times what an arc cosine and a cosine lose


@pytest.mark.slow
def test_attention_gives_what_it_is_named_after():
    made = attention.programs(Workload("test", (2, 6, 3, 4), "", {}, kind="attention"), "float32", attention.CASES)
    matmul = made.pop(Key(YARDSTICK, "", VALUE, programs.MATMUL))
    assert matmul.run(*matmul.arguments()).shape == (2, 6, 3, 4)
    made = {key: program for key, program in made.items() if key.operator == attention.ATTENTION}
    agree(made)
    assert {key[:2] for key in made} == set(attention.CASES)


@pytest.mark.slow
def test_losses_of_large_vocabularies_are_made_with_their_gradients():
    """In inputs and in parameters; over so few classes the sampled ones are of all of them."""
    made = vocabulary.programs(Workload("test", (6, 5, 7), "", {}, kind="vocabulary"), "float32", vocabulary.CASES)
    losses = {key: program.run(*program.arguments()) for key, program in made.items() if key.operator != YARDSTICK}
    assert {key[:2] for key in losses} == set(vocabulary.CASES)
    for key, result in losses.items():
        value, bars = result if key.mode == GRADIENT else (result, [])
        assert (
            np.isfinite(value) and all(np.isfinite(bar).all() for bar in bars) and all(np.any(bar) for bar in bars[:2])
        )
        assert len(bars) == (0 if key.mode == VALUE else 6 if key[0] == vocabulary.CUT and key.function == OURS else 2)
    whole = losses[Key(vocabulary.SAMPLE, "", VALUE, vocabulary.ALL_CLASSES)]
    np.testing.assert_allclose(losses[Key(vocabulary.SAMPLE, "", VALUE, OURS)], whole, rtol=1e-5)


def test_yardsticks_do_what_they_are_named_after():
    """Also in half precision, where a factor near 1 is rounded to 1, and XLA does nothing."""
    for dtype in ("float32", "bfloat16"):
        x = jnp.arange(8, dtype=dtype)
        copy, in_place, read = programs.yardsticks(x).values()
        for program, result in ((copy, x + 1), (in_place, x / 2), (read, jnp.sum(x))):
            np.testing.assert_array_equal(program.run(*program.arguments()), result)


def test_donated_logits_are_overwritten_and_made_anew():
    x = jnp.arange(1000.0)
    for donated in (None, 0):
        program = programs.compiled(lambda x: -x, [x], donated)
        for _ in range(2):
            (given,) = program.arguments()
            program.run(given)
            assert given.is_deleted() == (donated == 0)
    assert not x.is_deleted()


@pytest.fixture(scope="module")
def counted():
    some = (SOFTMAX, ("logsumexp", ""), (INTEGER, ""), ("softmax_cross_entropy", ""))
    return on_a_small_map({case: CASES[case] for case in some})


@pytest.mark.parametrize(
    "case, mode, arrays",
    [  # of the logits' size, read or written; what is one a row is a twentieth of it
        (SOFTMAX, VALUE, 2),
        (SOFTMAX, VALUE + IN_PLACE, 2),
        (SOFTMAX, GRADIENT, 4),
        (("logsumexp", ""), VALUE, 1),
        ((INTEGER, ""), VALUE, 1),
        ((INTEGER, ""), GRADIENT, 2),
        ((INTEGER, ""), GRADIENT + IN_PLACE, 2),
        (("softmax_cross_entropy", ""), GRADIENT, 3),
    ],
)
def test_floor_bytes(counted, case, mode, arrays):
    program = counted[Key(*case, mode, OURS)]
    assert arrays <= program.floor_bytes / (4 * 360) <= arrays + 0.15
    assert program.fresh == ((case == SOFTMAX or mode == GRADIENT) and not mode.endswith(IN_PLACE))


# the plan ------------------------------------------------------------------------------------------------------------


def test_workloads_have_names_reasons_and_known_cases():
    assert len(BY_NAME) == len(WORKLOADS)
    for workload in WORKLOADS:
        assert workload.reason and workload.rounds >= 10
        for names in workload.quick.values():
            assert set(names) <= plan.LABELS.keys()
        assert set(workload.in_place) <= set(workload.quick.get("float32", ()))


def test_the_full_plan_holds_the_quick_one():
    quick, full = plan.plan(full=False), plan.plan(full=True)
    everything = wanted(full)
    assert wanted(quick).keys() < everything.keys()
    assert {part.dtype for part in full} == {"float32", "bfloat16"}
    assert {(operator, variant) for operator, variant, *_ in everything} == set(plan.LABELS.values())


@pytest.mark.parametrize("full, name", [(True, "GPT-3"), (False, "linear 32k")])
def test_a_workload_that_would_not_be_measured_is_an_error(full, name):
    with pytest.raises(ValueError, match=f"'{name}'. are no workloads"):
        plan.plan(full, ("GPT-2", name))
    assert {part.workload.name for part in plan.plan(True, ("GPT-2", "linear 32k"))} == {"GPT-2", "linear 32k"}
