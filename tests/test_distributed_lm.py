"""The language model over four devices, in one process and in two: a smoke run made here, and the committed results."""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import _distributed_training as training
from experiments import _language_training, _processes, _text, _transformer, distributed_lm
from experiments._results import numbers

EXPERIMENT = distributed_lm
COMPILE_LIGHTLY = True
COMMITTED = Path(distributed_lm.__file__).parent / "results" / "distributed_lm.json"
PAGE = Path(__file__).parents[1] / "docs" / "devices.md"
# roundings of float32, relative to the loss: of one step, and what a training makes of them
OF_A_STEP, OF_TRAINING = 16 * 2.0**-24, 256 * 2.0**-24
TWO = "two processes, two devices each"

# one worker makes the smoke run and judges it
pytestmark = pytest.mark.xdist_group("distributed_lm")


@pytest.fixture(scope="module", autouse=True)
def lightly_elsewhere():
    """Other processes compile as this one does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield


@pytest.fixture(scope="module")
def results(directory):
    return json.loads((directory / "distributed_lm.json").read_text(encoding="utf-8"))


def apart(loss, expected):
    return np.abs(numbers(loss) / numbers(expected) - 1)


def test_the_same_curve_on_any_devices(results):
    first, *others = results["training"]
    assert [first["name"], *(run["name"] for run in others)] == [distributed_lm.ONE, *distributed_lm.RUNS]
    assert len(first["loss"]) == results["run"]["settings"]["steps"]
    assert numbers(first["loss"])[-1] < numbers(first["loss"])[0]
    for run, (count, devices) in zip(others, distributed_lm.RUNS.values(), strict=True):
        assert run["processes"] == count and np.prod([*run["mesh"].values()]) == count * devices
        difference = apart(run["loss"], first["loss"])
        assert difference[0] <= OF_A_STEP and difference.max() <= OF_TRAINING


def test_a_device_holds_its_words_only(results):
    """The embedding is halved between two, all else is on each."""
    config = results["run"]["settings"]
    words, width = config["vocabulary"], config["width"]
    of = {run["bytes_of_parameters_on_a_device"] for run in results["training"][1:]}
    assert len(of) == 1
    rest = of.pop() - words * width * 4 // 2
    alone = _transformer_bytes(config) - words * width * 4
    assert rest == alone


def _transformer_bytes(config):
    shape = (config["vocabulary"], config["length"], config["width"], config["layers"])
    return sum(a.nbytes for a in jax.tree.leaves(_transformer.initial(0, *shape)))


# what goes wrong -----------------------------------------------------------------------------------------------------


def small(directory, **changes):
    return dataclasses.replace(distributed_lm.used(distributed_lm.Config(out=directory, smoke=True)), **changes)


@pytest.mark.slow
def test_a_training_goes_on_where_a_process_was_killed(tmp_path):
    """From the last checkpoint, on other devices, and nothing that was written is lost; it ends as one undisturbed."""
    config = small(tmp_path, steps=40, checkpoint_every=5)
    folder = distributed_lm.folder_of(config, TWO)
    started = distributed_lm.start(config, TWO, 2, 2)
    with pytest.raises(_processes.Failed, match=r"^Process 1 of 2 ended with status -9"):
        _processes.wait(started, 120, lambda: (folder / "checkpoint.npz").exists() and started.processes[1].kill())
    assert all(process.returncode is not None for process in started.processes), "none is left behind"
    with np.load(folder / "checkpoint.npz") as kept:
        before = kept["loss"].tolist()
    assert 5 <= len(before) < 40 and len(before) % 5 == 0
    _processes.wait(distributed_lm.start(config, TWO, 1, 2), 120)
    found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert found["loss"][: len(before)] == before
    assert (folder / "loss.txt").read_text(encoding="utf-8").split() == [str(loss) for loss in found["loss"]]
    corpus = _text.load("pydoc", config.vocabulary, config.length)
    loss = _language_training.losses_of(config.block)["fused"]
    with jax.numpy_dtype_promotion("standard"):
        whole = _language_training.train(config, corpus, loss, "one device").loss
    assert len(found["loss"]) == 40 and apart(found["loss"], whole).max() <= OF_TRAINING


def test_a_missing_process_ends_in_time(tmp_path):
    """Of two that should meet one does not come: the other is not waited for without end."""
    begun = time.monotonic()
    with pytest.raises(_processes.Failed, match=r"^Processes \[0\] of 1 had not ended after 1 s"):
        _processes.wait(_processes.start(["-c", "import time; time.sleep(600)"], tmp_path, 1, 1), 1)
    assert time.monotonic() - begun < 30


def test_an_error_is_shown(tmp_path):
    with pytest.raises(_processes.Failed, match=r"^Process 0 of 1 ended with status 1:(?s:.*)ValueError: wrong"):
        _processes.wait(_processes.start(["-c", "raise ValueError('wrong')"], tmp_path, 1, 1), 60)


def test_checkpoints_of_other_trainings_are_refused(tmp_path):
    config, arrays = small(tmp_path), ({"a": np.arange(3.0)}, np.float32(2))
    training.save(config, tmp_path, arrays, [1.5, 1.25], [0.1, 0.2])
    (kept, scalar), history, seconds = training.restored(config, tmp_path, arrays)
    assert np.array_equal(kept["a"], np.arange(3.0)) and scalar == 2
    assert (history, seconds) == ([1.5, 1.25], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"other settings.*\"steps\": 12.*\"steps\": 13"):
        training.restored(dataclasses.replace(config, steps=13), tmp_path, arrays)
    (tmp_path / "checkpoint.npz").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="is no checkpoint that can be read"):
        training.restored(config, tmp_path, arrays)


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"model": 3}, 66, "--model must divide the number of devices, 8, and that of words, 66; got 3"),
        ({"model": 4}, 66, "--model must divide the number of devices, 8, and that of words, 66; got 4"),
        ({"batch": 6}, 64, "--batch must be a multiple of 4, got 6"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, changes, words, message):
    with pytest.raises(ValueError, match=message):
        training.mesh_of(small(tmp_path, **changes), words)


def test_the_page_has_the_table_of_the_results():
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert committed["run"]["command"] == "python -m experiments.distributed_lm"
    assert distributed_lm.table(committed) in PAGE.read_text(encoding="utf-8")
