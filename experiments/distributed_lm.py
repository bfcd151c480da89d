"""The language model over many devices: its words over one mesh axis, its windows over another.

python -m experiments.distributed_lm              one device; one process with four; two processes with two each
python -m experiments.distributed_lm --smoke      the same in half a minute: a smaller model
python -m experiments.distributed_lm --figures-only      draws the figure again from the JSON

On a cluster, where JAX finds out by itself which processes there are (Slurm, GKE, Cloud TPU, MPI), each of them runs

python -m experiments.distributed_lm --train NAME --cluster --model 8

and elsewhere the same with --coordinator HOST:PORT --processes N --process I. Folder `out` is shared between them; a
training that was interrupted goes on from its last checkpoint when it is started again.
"""

import dataclasses
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import tyro
from tqdm import tqdm

from experiments import _processes as processes
from experiments import _text as text
from experiments._distributed_figure import draw
from experiments._distributed_training import SETTINGS, train
from experiments._language_training import losses_of
from experiments._language_training import train as train_on_one_device
from experiments._results import plain, provenance, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the distributed language model."""

    out: Path = Path(__file__).parent / "results"
    """Folder for distributed_lm.json and the figure; trainings have a folder each in `out`/distributed_lm."""
    seed: int = 0
    """Initial weights; order of the windows."""
    smoke: bool = False
    """Half a minute: a smaller model, fewer steps."""
    figures_only: bool = False
    """Draw the figure from the JSON in `out`; compute nothing."""
    vocabulary: int = 4096
    """Words, the most frequent ones of the topics of Python's manual."""
    length: int = 64
    """Words of a window."""
    width: int = 128
    layers: int = 2
    steps: int = 200
    batch: int = 8
    """Windows of a step, on all devices together."""
    learning_rate: float = 1e-3
    block: int = 128
    """Tokens that the loss takes at a time on each device."""
    checkpoint_every: int = 50
    """Steps."""
    evaluations: int = 1
    """How often the held-out windows are judged on one device."""
    model: int = 2
    """Devices that have the words between them; the others are those of the windows."""
    timeout: float = 600.0
    """Seconds that a training in other processes may take, each time that it is started."""
    restarts: int = 1
    """How often it is started again, from its last checkpoint, if one of them ends with an error."""
    train: str | None = None
    """Only train, under this name, over all devices of all processes."""
    cluster: bool = False
    """With --train: the processes are those that JAX finds."""
    coordinator: str | None = None
    """With --train: host and port of the first process, reachable from all."""
    processes: int = 1
    process: int = 0
    """The number of this one."""


SMOKE = {
    "vocabulary": 64,
    "length": 16,
    "width": 16,
    "layers": 1,
    "steps": 12,
    "batch": 4,
    "learning_rate": 3e-3,
    "block": 8,
    "checkpoint_every": 4,
}
# options of a training that those who start it hand on
PASSED_ON = (*SETTINGS, "block", "checkpoint_every", "model")
JOIN = 60  # seconds until every process has to be there
ONE = "one device"
RUNS = {"one process, four devices": (1, 4), "two processes, two devices each": (2, 2)}  # processes, devices of each


def used(config):
    return dataclasses.replace(config, **SMOKE) if config.smoke else config


def folder_of(config, name):
    return config.out / "distributed_lm" / name.replace(" ", "_").replace(",", "")


def join_and_train(config):
    """What each process of a training does."""
    if config.coordinator is not None:
        jax.distributed.initialize(config.coordinator, config.processes, config.process, initialization_timeout=JOIN)
    elif config.cluster:
        jax.distributed.initialize(initialization_timeout=JOIN)
    folder = folder_of(config, config.train)
    folder.mkdir(parents=True, exist_ok=True)
    train(config, text.load("pydoc", config.vocabulary, config.length), folder)


def start(config, name, count, devices):
    """The processes of the training `name`."""
    folder = folder_of(config, name)
    folder.mkdir(parents=True, exist_ok=True)
    command = ["-m", "experiments.distributed_lm", "--train", name]
    for name in PASSED_ON:
        command += ["--" + name.replace("_", "-"), str(getattr(config, name))]
    return processes.start([*command, "--out", str(config.out.resolve())], folder, count, devices)


def train_elsewhere(config, name, count, devices):
    """The results of a training in `count` processes, started again if one of them fails."""
    folder = folder_of(config, name)
    with tqdm(total=config.steps, desc=name, unit="step", leave=False) as bar:

        def look():
            path = folder / "loss.txt"
            bar.n = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
            bar.refresh()

        for attempt in range(config.restarts + 1):
            try:
                processes.wait(start(config, name, count, devices), config.timeout, look)
                break
            except processes.Failed as error:
                if attempt == config.restarts:
                    raise
                tqdm.write(f"{name}: {error}\nStarted again from its last checkpoint.")
    return read_json(folder / "run.json")


def main(config):
    """Runs `config` and returns the results as they are in the JSON; None where it only trains."""
    config = used(config)
    if config.train is not None:
        join_and_train(config)
        return None
    path = config.out / "distributed_lm.json"
    if config.figures_only:
        results = read_json(path)
    else:
        started = time.perf_counter()
        corpus = text.load("pydoc", config.vocabulary, config.length)
        results = {"run": provenance("experiments.distributed_lm", config, config), "training": []}
        for name in tqdm([ONE, *RUNS], desc="distributed language model", unit="training"):
            if name == ONE:
                run = train_on_one_device(config, corpus, losses_of(config.block)["fused"], name)
                found = {"processes": 1, "loss": run.loss, "seconds_a_step": run.seconds_a_step}
            else:
                shutil.rmtree(folder_of(config, name), ignore_errors=True)  # those of an earlier run
                found = train_elsewhere(config, name, *RUNS[name])
            results["training"].append({"name": name, **found})
            write_json(path, results)  # a run that is interrupted keeps the trainings before
        results = plain(results)
        print(table(results), f"{time.perf_counter() - started:.0f} s, results in {path}", sep="\n\n")
    print(draw(results, config.out))
    return results


def table(results):
    """In Markdown; differences are relative to one device's loss."""
    first = np.asarray(results["training"][0]["loss"])
    lines = ["| training | mesh | last loss | difference: first step, largest | ms a step |", "| --- " * 5 + "|"]
    for run in results["training"]:
        mesh = " × ".join(f"{size} {axis}" for axis, size in run.get("mesh", {}).items()) or "none"
        apart = np.abs(np.asarray(run["loss"]) / first - 1)
        lines.append(
            f"| {run['name']} | {mesh} | {run['loss'][-1]:.6f} | {apart[0]:.1e}, {apart.max():.1e} "
            f"| {1e3 * run['seconds_a_step']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
