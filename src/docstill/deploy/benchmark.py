"""Latency side by side: rounds that take the models in turn, so that a slow minute of the machine hits all alike.

Absolute times depend on what else the machine does; the ratios of one call are what to quote.
Even those say nothing when other programs want the same cores: threads then wait for each other, and a network can
look ten times slower than its equal. Give ``threads`` no more than the cores that are idle.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from docstill.errors import DocstillError

WARM_UP = 3


@dataclass(frozen=True)
class Contender:
    """A model in a race: named parts, each a callable that returns how many units (pages, tokens) it did."""

    name: str
    parts: Mapping[str, Callable[[], int]]


def time_interleaved(
    contenders: Sequence[Contender],
    rounds: int = 20,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, dict[str, float]]]:
    """Times all parts of all contenders, round by round.

    Args:
        contenders: the order rotates by one each round.
        rounds: timed rounds, after `WARM_UP` untimed ones.
        threads: CPU threads while timing; restored after.
        advance: called with 1 after each timed round.
        clock: seconds.

    Returns:
        By contender and part: ``p50``, ``p95`` in milliseconds a unit, and ``n``, the number of rounds.

    Raises:
        ValueError: two contenders have the same name, so their times could not be told apart.
    """
    if len({contender.name for contender in contenders}) < len(contenders):
        raise ValueError(f"contenders with the same name: {', '.join(contender.name for contender in contenders)}")
    times: dict[tuple[str, str], list[float]] = {}
    before = torch.get_num_threads()
    collecting = gc.isenabled()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        gc.disable()
        gc.collect()
        gc.freeze()  # what is there already need not be gone through after each round
        for turn in range(-WARM_UP, rounds):
            start = turn % len(contenders)
            for contender in [*contenders[start:], *contenders[:start]]:
                for part, work in contender.parts.items():
                    _synchronise()
                    began = clock()
                    units = work()
                    _synchronise()
                    if turn >= 0:
                        times.setdefault((contender.name, part), []).append((clock() - began) * 1000 / units)
            gc.collect()
            if turn >= 0 and advance is not None:
                advance(1)
    finally:
        gc.unfreeze()
        torch.set_num_threads(before)
        if collecting:
            gc.enable()
    return {
        contender.name: {part: _summary(times[contender.name, part]) for part in contender.parts}
        for contender in contenders
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(statistics.median(values), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "n": len(values),
    }


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


_PROBE = """
import json, sys
import torch, transformers
from PIL import Image, ImageDraw
import docstill.loaded
from docstill.deploy.benchmark import resident_mb
before = resident_mb(reset_peak=True)
page = Image.new("RGB", (850, 1100), "white")
ImageDraw.Draw(page).text((100, 100), "Total 12.50", fill="black", font_size=40)  # a blank page would not be read
docstill.loaded.load(sys.argv[1], sys.argv[2]).predict([page])
print(json.dumps(resident_mb(peak=True) - before))
"""


def resident_mb(peak: bool = False, reset_peak: bool = False) -> float:
    """Resident memory of this process in MB, now or at its peak since the last reset.

    Where the peak cannot be reset (not Linux, or a sandbox), it is that of the whole process, imports included.
    """
    status = Path("/proc/self/status")
    if sys.platform == "win32":
        import psutil  # the standard library has no counterpart there

        return psutil.Process().memory_info().peak_wset / 2**20
    if not status.is_file():
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if reset_peak:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    key = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def measure_peak_memory(model: str, task: str) -> float:
    """Peak resident memory in MB that loading ``model`` and reading one page adds to a bare process with torch in it.

    Measured in a process of its own, since the peak of a process never falls again.
    """
    without_gpu = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # memory is that of an ordinary CPU, as all that is timed
    command = [sys.executable, "-c", _PROBE, model, task]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=without_gpu)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode} and said nothing"]
        raise DocstillError(f"measuring the memory of {model} failed: {said[-1]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))
