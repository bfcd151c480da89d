"""Time and memory of each operator beside jax.nn and optax: values, and values with gradients.

python -m experiments.bench              the whole of it: a table and results/bench.json
python -m experiments.bench --smoke      the same in a few seconds on small arrays

Every program runs once a round, ours next to the peer's, and a ratio is that of the two in the same round. The large
shape runs as compiled ahead of time, the small one as eager calls. Beside them: `copy`, x + 1, and `read`, sum(x). The
JSON is written after each round, so that an interrupted run keeps the rounds it finished.
"""

import dataclasses
import functools
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from experiments._bench_peers import LOSSES, OPERATORS, WITH_BETA, with_gradient
from experiments._bench_table import table
from experiments._results import plain, provenance, write_json

WARM_UP = 2
MODES = ("value", "value and gradient")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    out: Path = Path(__file__).parent / "results"
    """Folder for bench.json."""
    smoke: bool = False
    """A few seconds: small arrays, few rounds."""
    large: tuple[int, int] = (4096, 4096)
    """Rows and classes of the compiled programs."""
    small: tuple[int, int] = (8, 10)
    """Rows and classes of the eager calls."""
    losses: tuple[int, int] = (1024, 1000)
    """Rows and classes of the losses with options."""
    map: tuple[int, int, int, int] = (8, 21, 256, 256)
    """The same on a map: images, classes, height and width."""
    rounds: int = 20
    eager_calls: int = 20
    """Calls of each eager program a round, timed together."""


SMOKE = {"large": (64, 64), "losses": (16, 12), "map": (2, 5, 8, 8), "rounds": 3, "eager_calls": 2}


def arrays(shape):
    """What the programs take, classes on axis 1; the cotangent of one result a row is that of the mean over rows."""
    rows = shape[:1] + shape[2:]
    rng = np.random.default_rng(0)
    x, other, cotangent = rng.standard_normal((3, *shape), np.float32)
    made = {
        "x": x,
        "index": rng.integers(0, shape[1], rows, np.int32),
        "distribution": np.asarray(jax.nn.softmax(other, axis=1)),
        "cotangent": cotangent,
        "row cotangent": np.full(rows, 1 / np.prod(rows), np.float32),
        "beta": np.float32(0.7),
    }
    return {name: jnp.asarray(a) for name, a in made.items()}


CASES = OPERATORS | {f"{name}, β": operator for name, operator in WITH_BETA.items()}


def programs(shape, compiled, cases=CASES):
    """(operator, mode, function) → (a call without arguments, temporary bytes or None)."""
    given, found = arrays(shape), {}
    for name, f in (("copy", lambda x: x + 1), ("read", jnp.sum)):
        found[name, MODES[0], name] = prepared(f, [given["x"]], compiled)
    for name, operator in tqdm(cases.items(), desc=f"preparing {shape}", unit="operator"):
        labels = [given[operator.labels]] if operator.labels != "none" else []
        arguments = [given["x"], *labels, *([given["beta"]] if name.endswith(", β") else [])]
        g = given["row cotangent" if operator.per_row else "cotangent"]
        for function, f in (("jsoftmax", operator.ours), (operator.peer_name, operator.peer)):
            found[name, MODES[0], function] = prepared(f, arguments, compiled)
            found[name, MODES[1], function] = prepared(with_gradient(f), [g, *arguments], compiled)
    return found


def prepared(f, arguments, compiled):
    if not compiled:
        return functools.partial(f, *arguments), None
    program = jax.jit(f).lower(*arguments).compile()
    return functools.partial(program, *arguments), program.memory_analysis().temp_size_in_bytes


def seconds(call, calls):
    started = time.perf_counter()
    for _ in range(calls):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / calls


def timed(found, config, calls, description):
    """Yields, after each round, the seconds of every program in every round: round-robin, in alternating direction."""
    times = {key: [] for key in found}
    for i in tqdm(range(WARM_UP + config.rounds), desc=description, unit="round"):
        for key, (call, _) in list(found.items())[:: 1 if i % 2 else -1]:
            took = seconds(call, calls)
            if i >= WARM_UP:
                times[key].append(took)
        if i >= WARM_UP:
            yield {key: np.array(t) for key, t in times.items()}


def spread(values):
    return dict(zip(("median", "p20", "p80"), np.percentile(values, (50, 20, 80)), strict=True))


def measure(shape, config, compiled, cases=CASES):
    """Yields, after each round, the results of the rounds so far."""
    found = programs(shape, compiled, cases)
    for times in timed(found, config, 1 if compiled else config.eager_calls, f"timing {shape}"):
        copy = times["copy", MODES[0], "copy"]
        yield {
            "shape": shape,
            "dtype": "float32",
            "compiled": compiled,
            "rounds": len(copy),
            "copy_p80_to_p20": np.percentile(copy, 80) / np.percentile(copy, 20),
            "programs": [row(key, times, memory) for key, (_, memory) in found.items()],
        }


def row(key, times, memory):
    """What the JSON keeps of one program: its seconds; for ours also their ratio to the peer's and to `copy`."""
    name, mode, function = key
    found = {"operator": name, "mode": mode, "function": function, "seconds": spread(times[key])}
    found["temporary_bytes"] = memory
    if function == "jsoftmax":
        (peer,) = (f for n, m, f in times if (n, m) == (name, mode) and f != "jsoftmax")
        copies = spread(times[key] / times["copy", MODES[0], "copy"])
        found |= {"peer": peer, "ratio": spread(times[key] / times[name, mode, peer]), "copies": copies}
    return found


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else [],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def main(config):
    """Runs `config` and returns the results as they are in the JSON."""
    used = dataclasses.replace(config, **SMOKE) if config.smoke else config
    run = provenance("experiments.bench", config, used) | {"machine": machine()}
    finished = []
    parts = (
        (used.large, True, CASES),
        (used.small, False, CASES),
        (used.losses, True, LOSSES),
        (used.map, True, LOSSES),
    )
    for shape, compiled, cases in parts:
        for part in measure(shape, used, compiled, cases):
            results = plain({"run": run, "parts": [*finished, part]})
            write_json(config.out / "bench.json", results)  # a run that is interrupted keeps its rounds
        finished.append(part)
    print(table(results))
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
