"""Measures models side by side: size with its denominator, FLOPs, bytes, latency in interleaved rounds, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from docstill.deploy.benchmark import Contender, measure_peak_memory, time_interleaved
from docstill.models.io import DocumentModel
from docstill.models.size import bytes_on_disk, count_flops, count_parameters
from docstill.progress import counter
from docstill.pruning.masks import sparsity_report
from docstill.tasks import task_named
from docstill.tasks.base import Task


def measure(
    models: Mapping[str, tuple[Path, DocumentModel]],
    images: Sequence[Image.Image],
    rounds: int = 20,
    threads: int | None = None,
    beside: Sequence[Contender] = (),
) -> dict[str, dict[str, Any]]:
    """One row of figures a model; see `docs/benchmarks.md` for what each means.

    Args:
        models: by name: the folder, and the model loaded from it. All of one task.
        images: pages that are fed in turn.
        rounds: interleaved rounds of timing.
        threads: CPU threads; default: as torch is set.
        beside: what else is timed in the same rounds, a document at a time; a row of ``latency_ms`` alone each.
    """
    tasks = {name: task_named(model.task) for name, (_, model) in models.items()}
    contenders = [Contender(name, tasks[name].latency_parts(model, images)) for name, (_, model) in models.items()]
    contenders += beside
    with counter("timing", rounds) as advance:
        latency = time_interleaved(contenders, rounds=rounds, threads=threads, advance=advance)
    rows: dict[str, dict[str, Any]] = {one.name: {"latency_ms": latency[one.name]["document"]} for one in beside}
    for name, (folder, model) in models.items():
        params = count_parameters(model.network)
        times = latency[name]
        rows[name] = {
            "params": {"total": params.total, "non_embedding": params.non_embedding, "nonzero": params.nonzero},
            "nonzero_non_embedding": params.nonzero_non_embedding,
            "flops": flops(tasks[name], model, images[0]),
            "bytes": bytes_on_disk(folder),
            "latency_ms": times["document"] if set(times) == {"document"} else times,
            "peak_memory_mb": round(measure_peak_memory(str(folder), model.task), 1),
            "runtime": "torch",
            "precision": "fp32",
            "threads": threads or torch.get_num_threads(),
            "sparsity": sparsity_report(model.network, model.masks) if model.masks else [],
        }
    return rows


def flops(task: Task, model: DocumentModel, image: Image.Image) -> int | dict[str, int]:
    """Floating point operations (2 for a multiply-add) of one page; by part where a page has no fixed number of steps."""
    parts = task.latency_parts(model, [image])
    if set(parts) == {"document"}:
        return count_flops(parts["document"])
    return {name: _flops_a_unit(part) for name, part in parts.items() if name != "document"}


def _flops_a_unit(part: Callable[[], int]) -> int:
    part()  # what a part prepares once, on its first call, is not counted
    units: list[int] = []
    return count_flops(lambda: units.append(part())) // units[0]
