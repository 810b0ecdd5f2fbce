"""The content of `results.json`, from what the steps of a run have left in their folders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docstill
from docstill.chains import DOCUMENTS, Chain, Taught
from docstill.deploy.hardware import hardware
from docstill.engine import METRICS
from docstill.errors import UserError
from docstill.files import read_json
from docstill.gradients import unbalanced
from docstill.metrics.regions import tally
from docstill.metrics.seeds import summary
from docstill.recipe import Recipe, dump_recipe
from docstill.reporting.rows import first_of, mean_of
from docstill.reporting.verdict import localisation_warning
from docstill.run import CALIBRATION, DONE, EVALUATION, read_metrics
from docstill.similarity.rows import alike_rows
from docstill.stages import Bench
from docstill.tasks.base import Judged, Pages

WORST = 10
DRAFTED = "drafted"
"""What the teacher is called with the student writing ahead of it."""
LATENCY_NOTE = (
    "One page at a time, from picture to answer, in rounds that take the models in turn; quote the ratios, "
    "absolute times depend on what else the machine does."
)


def results_of(
    recipe: Recipe,
    bench: Bench,
    teacher: Taught,
    chains: list[Chain],
    figures: dict[str, Any],
    compared: dict[str, list[dict[str, Any]]],
    warnings: list[str],
    command: str,
    name: str,
) -> dict[str, Any]:
    """All of `results.json` but the time the run took.

    Args:
        recipe: what was asked.
        bench: the data.
        teacher: with what it scores in its folder.
        chains: students and controls, finished; the first is the one that is handed over.
        figures: size and speed of each row, from `docstill.measure.measure`, and the ``hardware`` that they are of.
        compared: how alike each row is to the teacher, by seed; empty if that was not asked.
        warnings: what was said of the data.
        command: what reproduces the run.
        name: what the report calls it.
    """
    evaluations: dict[str, list[tuple[int, Path]]] = {}
    for chain in chains:
        evaluations.setdefault(chain.row, []).append((chain.seed, chain.folder / EVALUATION))
    roles = {"student": "student", "no-kd": "control", "teacher": "teacher"}
    rows = [_row(row, roles[row], seeds, figures[row]) for row, seeds in evaluations.items()]
    if "teacher" in recipe.controls:
        rows.insert(0, _row("teacher", "teacher", [(recipe.seed, teacher.folder / EVALUATION)], figures["teacher"]))
    if bench.task.name == "layout":
        for row in rows:
            found = evaluations.get(row["name"], [(recipe.seed, teacher.folder / EVALUATION)])
            row["regions"] = fates([folder for _, folder in found], row["per_class"])
    if recipe.calibrate:
        folders = {"teacher": [teacher.folder]}
        for chain in chains:
            folders.setdefault(chain.row, []).append(chain.folder)
        for row in rows:
            row["calibration"] = _calibration(
                [read_json(folder / CALIBRATION / DONE) for folder in folders[row["name"]]]
            )
    curves = [_curve("teacher", recipe.seed, "train", teacher.folder)]
    curves += [
        _curve(chain.row, chain.seed, stage.kind, chain.stage_folder(number, stage))
        for chain in chains
        for number, stage in chain.stages
    ]
    first = chains[0]
    done = [_done(first.stage_folder(number, stage), bench.task.primary_metric) for number, stage in first.stages]
    if (teacher.folder / DONE).is_file():
        report = read_json(teacher.folder / DONE)
        done.insert(0, {**report, "name": "teacher"})
    return {
        "docstill": docstill.__version__,
        "name": name,
        "task": recipe.task,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": figures.get("hardware") or hardware(),  # those of older versions did not keep it
        "recipe": dump_recipe(recipe),
        "primary_metric": bench.task.primary_metric,
        "data": {
            split: {"path": str(pages.folder), "n": len(pages.documents)}
            | ({"drawn": "in each epoch"} if pages.stream is not None else {})
            for split, pages in (("train", bench.training), ("validation", bench.validation))
        }
        | (
            {"unlabelled": {"path": str(recipe.data.unlabelled), "n": len(bench.unlabelled)}}
            if recipe.data.unlabelled is not None
            else {}
        ),
        "stages": [{key: entry[key] for key in ("name", "text", "seconds", "score") if key in entry} for entry in done],
        "rows": rows,
        "latency_note": LATENCY_NOTE,
        **({DRAFTED: figures[DRAFTED]} if DRAFTED in figures else {}),
        "curves": [curve for curve in curves if curve["points"]],
        "worst": _worst(bench.validation, first.folder / EVALUATION, teacher.folder / EVALUATION),
        "similarity": alike_rows(compared),
        "warnings": _warnings(recipe, bench)
        + warnings
        + _unwritable(chains)
        + _loose(rows, read_json(teacher.folder / EVALUATION / DONE)["metrics"])
        + [
            line
            for chain in chains
            for number, stage in chain.stages
            for line in unbalanced(
                read_metrics(chain.stage_folder(number, stage) / METRICS), f"{chain.row}, seed {chain.seed}"
            )
        ]
        + sorted({entry["problem"] for row in compared.values() for entry in row if "problem" in entry}),
    }


def _done(folder: Path, metric: str) -> dict[str, Any]:
    """What a stage reports, with its ``score`` where it was scored before the next one learnt."""
    report: dict[str, Any] = read_json(folder / DONE)
    scored = folder / EVALUATION / DONE
    if not scored.is_file():
        return report
    score = float(read_json(scored)["metrics"][metric])
    return {
        **report,
        "score": score,
        "text": f"{report['text']} As pruned, it has {metric} {score:.4f} on the validation split.",
    }


def fates(folders: list[Path], per_class: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For layout, what became of the regions, by seed: `docstill.metrics.regions.tally` of each evaluation.

    Args:
        folders: of the evaluations, each with its `documents.json`.
        per_class: of each, figures by class; the order of the classes is theirs.
    """
    return [
        tally(read_json(folder / DOCUMENTS), list(figures)) for folder, figures in zip(folders, per_class, strict=True)
    ]


def _row(row: str, role: str, seeds: list[tuple[int, Path]], figures: dict[str, Any]) -> dict[str, Any]:
    found = [read_json(folder / DONE)["metrics"] for _, folder in seeds]
    names = [metric for metric, value in found[0].items() if isinstance(value, float | int)]
    return {
        "name": row,
        "role": role,
        "seeds": [seed for seed, _ in seeds],
        "metrics": {metric: summary([metrics[metric] for metrics in found]) for metric in names},
        **({"confidence": [metrics["confidence"] for metrics in found]} if "confidence" in found[0] else {}),
        "per_class": [metrics.get("per_class") or metrics.get("per_field") or {} for metrics in found],
        **figures,
    }


def _calibration(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Temperature, and figures before and after, each over seeds."""
    sides = {
        side: {metric: summary([one[side][metric] for one in found]) for metric in found[0][side]}
        for side in ("before", "after")
    }
    return {"temperature": summary([one["temperature"] for one in found]), **sides}


def _curve(row: str, seed: int, stage: str, folder: Path) -> dict[str, Any]:
    return {"name": row, "seed": seed, "stage": stage, "points": read_metrics(folder / METRICS)}


def _worst(pages: Pages, student: Path, teacher: Path) -> list[dict[str, Any]]:
    judged = [Judged(**entry) for entry in read_json(student / DOCUMENTS)]
    of_teacher = {entry["file"]: entry["predicted"] for entry in read_json(teacher / DOCUMENTS)}
    if len(judged) != len(pages.documents):
        raise UserError(
            f"{pages.folder} holds {len(pages.documents)} documents, and {len(judged)} were scored: it was changed meanwhile; give a new --run "
            "folder"
        )
    files = {one.file: str(document.file.resolve()) for one, document in zip(judged, pages.documents, strict=True)}
    return [
        {
            "file": document.file,
            "image": files[document.file],
            "expected": document.expected,
            "student": document.predicted,
            "teacher": of_teacher.get(document.file),
            "score": document.score,
        }
        for document in sorted(judged, key=lambda document: document.score)[:WORST]
    ]


def _unwritable(chains: list[Chain]) -> list[str]:
    """What stages said of answers that their students cannot write; seeds of a row mostly say the same."""
    return list(
        dict.fromkeys(
            f"{chain.row}: {line}"
            for chain in chains
            for number, stage in chain.stages
            for line in read_json(chain.stage_folder(number, stage) / DONE).get("warnings", [])  # pruning has none
        )
    )


def _loose(rows: list[dict[str, Any]], teacher: dict[str, Any]) -> list[str]:
    """For layout, whether the student's boxes lie far more loosely than its teacher's, whether that has a row or not."""
    student = first_of(rows, "student")
    if student is None:
        return []
    warning = localisation_warning(teacher, {name: mean_of(student, name) for name in ("ap50", "ap75")})
    return [] if warning is None else [warning]


def _warnings(recipe: Recipe, bench: Bench) -> list[str]:
    warnings = []
    if recipe.repeats == 1:
        warnings.append("One seed only: differences between rows may be chance. Set repeats: 3 to see the spread.")
    if recipe.data.unlabelled is not None and not bench.unlabelled:
        warnings.append(
            f"No page of {recipe.data.unlabelled} was used: the teacher is sure of none (data.confidence is "
            f"{recipe.data.confidence:g})."
        )
    return warnings
