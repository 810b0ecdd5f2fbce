"""Verbs that measure models, or any system's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import docstill
from docstill.cli.app import Json, TaskName, app
from docstill.cli.output import print_table, print_value, short_names
from docstill.errors import DataError
from docstill.progress import counter
from docstill.reporting.shift_tables import tables


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or shipped:small-labels.")],
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: TaskName = None,
    split: Annotated[str | None, typer.Option(help="Default: validation.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score so many documents only, drawn at random.")] = None,
    shift: Annotated[str | None, typer.Option(help="corruptions, or a folder with pages from elsewhere.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="Another model under the same shift; repeatable.")] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(help="File for what the model answers, as score reads it: JSON lines; for layout COCO results."),
    ] = None,
    page: Annotated[Path | None, typer.Option(help="With --shift: HTML file for the plots.")] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add 95 % intervals over resampled documents.")
    ] = False,
    ood: Annotated[
        Path | None,
        typer.Option(help="For classification: folder with pages of no known class: are they noticed?"),
    ] = None,
    error_rate: Annotated[
        list[float] | None,
        typer.Option(help="Add what can be accepted unseen at this share of errors; repeatable; not for layout."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a model on labelled documents; with --shift also on worse pages, or on pages from elsewhere.

    Example: docstill evaluate runs/pages/model pages --split validation --json

    Example: docstill evaluate runs/pages/model pages --intervals --ood other-pages --outputs answers.jsonl

    Example: docstill evaluate runs/receipts/model receipts --split test --error-rate 0.03
    """
    result = docstill.evaluate(
        model, data, task, split, limit, shift, against or [], outputs, page, intervals, ood, error_rate or []
    )
    if as_json or shift is None:
        print_value(result, as_json)
        return
    for headings, rows in tables(result["shift"]["models"]):
        shown = Table(*headings)
        for row in rows:
            shown.add_row(*row)
        print_table(shown)
    if more := {name: result[name] for name in ("intervals", "accepted", "ood") if name in result}:
        print_value(more, False)


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="JSON lines, one answer a document; for layout COCO results.")],
    answers: Annotated[
        Path,
        typer.Argument(help="JSON lines, one right answer a document, in the same order; for layout COCO annotations."),
    ],
    task: Annotated[str, typer.Option(help="classification, kie or layout.")],
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add 95 % intervals over resampled documents.")
    ] = False,
    against: Annotated[Path | None, typer.Option(help="Another system's predictions: add differences.")] = None,
    ood: Annotated[Path | None, typer.Option(help="Predictions of pages of no known class: are they noticed?")] = None,
    as_json: Json = False,
) -> None:
    """Score any system's answers, without a model.

    Example: docstill score --task kie predictions.jsonl answers.jsonl --json

    Example: docstill score --task layout results.json annotations.json --against others.json --json
    """
    print_value(docstill.score(task, predictions, answers, intervals, against, ood), as_json)


@app.command()
def benchmark(
    models: Annotated[list[str], typer.Argument(help="Model folders, hub ids, or shipped:small-labels.")],
    data: Annotated[Path | None, typer.Option(help="Folder with pages to time with.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 20,
    draft: Annotated[
        str | None, typer.Option(help="For kie: time the first model also with this one writing ahead, as in predict.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure models side by side: size, FLOPs, bytes, latency, memory.

    Example: docstill benchmark runs/pages/teacher/model runs/pages/model --data pages/validation

    Example: docstill benchmark runs/receipts/teacher/model --draft runs/receipts/model --data receipts/validation
    """
    result = docstill.benchmark(models, data, threads, rounds, draft)
    if as_json:
        print_value(result, True)
        return
    shown = {}
    for name, row in zip(short_names(list(result["models"])), result["models"].values(), strict=True):
        parts = {"document": row["latency_ms"]} if "p50" in row["latency_ms"] else row["latency_ms"]
        figures = {
            "parameters": f"{row['params']['total']:,}",
            "non-zero": f"{row['params']['nonzero']:,}",
            "bytes": f"{row['bytes']:,}",
            "memory MB": round(row["peak_memory_mb"]),
        }
        for part, times in parts.items():
            figures[f"{part} ms"] = f"p50 {times['p50']:.2f}, p95 {times['p95']:.2f}"
        shown[name] = figures
    if (drafted := result.get("drafted")) is not None:
        first, times = next(iter(shown)), drafted["latency_ms"]
        shown[first][f"drafted by {drafted['draft']}, document ms"] = f"p50 {times['p50']:.2f}, p95 {times['p95']:.2f}"
    print_value(shown, False)  # a table of so many columns fits no terminal


@app.command()
def compare(
    teacher: Annotated[str, typer.Argument(help="Model folder, hub id, or shipped:small-labels.")],
    student: Annotated[str, typer.Argument(help="Another, for the same task.")],
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: TaskName = None,
    split: Annotated[str | None, typer.Option(help="Default: validation.")] = None,
    limit: Annotated[int | None, typer.Option(min=4, help="Look at so many documents only, drawn at random.")] = None,
    tokens: Annotated[str, typer.Option(help="pooled: alike documents; flattened: at alike places too.")] = "pooled",
    layers: Annotated[
        list[str] | None, typer.Option(help="Path of modules, * for any name; may be repeated. Default: all blocks.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file for the heatmap.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models: layer by layer (CKA), and in their answers.

    Example: docstill compare runs/pages/teacher/model runs/pages/model pages --picture cka.png
    """
    found = docstill.compare(teacher, student, data, task, split, limit, tokens, picture, layers or [])
    if as_json:
        print_value(found, True)
        return
    similar, shown = found["similarity"], found.get("picture")
    head = {"n": found["n"], "tokens": similar["tokens"]}
    head |= {"global_cka": similar["global"], "by_chance": similar["chance"], **similar["parts"]}
    head |= {f"biased_{name}": similar["biased"][name] for name in ("global", "chance")}
    matched = {f"{pair['teacher']} ~ {pair['student']}": pair["cka"] for pair in _matched(similar["layers"])}
    print_value(
        {**head, "layers": matched, "agreement": found["agreement"], **({"picture": shown} if shown else {})}, False
    )


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or shipped:small-labels.")],
    files: Annotated[list[Path], typer.Argument(help="Pictures of pages, TIFFs and PDFs with any number of pages.")],
    task: TaskName = None,
    draft: Annotated[
        str | None,
        typer.Option(
            help="For kie: a student of the model that writes ahead; the answers stay the model's, and come sooner."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read pages with a model. Each page of a PDF or TIFF is a document of its own; files that cannot be read are listed at the end.

    Example: docstill predict runs/pages/model scan.jpg letters.pdf --json

    Example: docstill predict runs/receipts/teacher/model scan.jpg --draft runs/receipts/model
    """
    loaded = docstill.load(model, task, draft)
    with counter("reading", len(files)) as advance:
        answers = loaded.predict_files(files, advance)
    if shown := [answer for answer in answers if as_json or "error" not in answer]:
        print_value(shown, as_json)
    if bad := [answer["error"] for answer in answers if "error" in answer]:
        raise DataError(f"{len(bad)} of {len(files)} files could not be read", bad)


def _matched(layers: dict[str, Any]) -> list[dict[str, Any]]:
    """The matched layers by their short names."""
    return [
        {
            "teacher": layers["teacher_names"][pair["teacher"]],
            "student": layers["student_names"][pair["student"]],
            "cka": pair["cka"],
        }
        for pair in layers["matched"]
    ]
