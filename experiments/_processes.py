"""Processes of one training on this machine: started together, waited for together, ended together."""

import os
import re
import socket
import subprocess
import sys
import time
from typing import NamedTuple

POLL = 0.2  # seconds


class Started(NamedTuple):
    processes: list[subprocess.Popen]
    logs: list  # paths of what each printed


class Failed(RuntimeError):
    """A process ended with an error, or all of them not in time."""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command, folder, processes, devices):
    """`processes` times the command, each with its number and as many CPU devices; output goes to files of `folder`."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", environment.pop("XLA_FLAGS", ""))
    environment |= {"XLA_FLAGS": flags} if flags.strip() else {}
    joined, started = [], Started([], [])
    if processes > 1:
        joined = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(processes), "--process"]
    try:
        for i in range(processes):
            started.logs.append(folder / f"process{i}.log")
            with started.logs[-1].open("w", encoding="utf-8") as log:
                run = [sys.executable, *command, *joined, *([str(i)] if joined else [])]
                process = subprocess.Popen(run, stdout=log, stderr=subprocess.STDOUT, env=environment)
            started.processes.append(process)
    except BaseException:  # an interrupt too leaves none of them behind
        end(started)
        raise
    return started


def wait(started, seconds, look=lambda: None):
    """Until all have ended well; calls `look` meanwhile. Else ends the others and raises `Failed`."""
    deadline = time.monotonic() + seconds
    try:
        while (codes := [process.poll() for process in started.processes]) != [0] * len(codes):
            wrong = [i for i, code in enumerate(codes) if code]
            if wrong:
                code, tail = (
                    codes[wrong[0]],
                    started.logs[wrong[0]].read_text(encoding="utf-8", errors="replace")[-2000:],
                )
                raise Failed(f"Process {wrong[0]} of {len(codes)} ended with status {code}:\n{tail}")
            if time.monotonic() > deadline:
                running = [i for i, code in enumerate(codes) if code is None]
                tail = printed(started, running[0])
                raise Failed(f"Processes {running} of {len(codes)} had not ended after {seconds:g} s:\n{tail}")
            look()
            time.sleep(POLL)
    finally:
        end(started)


def printed(started, i):
    """The last that process i has printed."""
    return started.logs[i].read_text(encoding="utf-8", errors="replace")[-2000:]


def end(started):
    for process in started.processes:
        process.kill()
    for process in started.processes:
        process.wait()
