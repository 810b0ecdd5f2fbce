"""Verbs for what is there: data, recipes, finished runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

import docstill
from docstill import shipped
from docstill.cli.app import Json, app
from docstill.cli.output import print_table, print_value
from docstill.errors import UserError


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: Annotated[
        str | None, typer.Option(help="classification, kie or layout; default: by the files that are there.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="For kie: model folder, hub id, or shipped:small-labels; name the answers that do not fit its decoder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at every page and label of a data set, and name all that is wrong. Exit code 2 if anything is.

    Example: docstill check pages

    Example: docstill check receipts --model runs/teacher/model
    """
    found = docstill.check(data, task, model)
    print_value(found, as_json)
    if found["problems"]:
        raise typer.Exit(2)


@app.command()
def convert(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="page-xml or yolo.")],
    source: Annotated[Path, typer.Argument(help="The folder with the pictures.")],
    out: Annotated[Path, typer.Argument(help="New COCO file; SOURCE.json beside SOURCE is found by all verbs.")],
    labels: Annotated[
        Path | None, typer.Option(help="Where the XML or text files are; default: with the pictures.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="For yolo: YAML with names, or a text file with a name a line.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make COCO annotations of a layout that is labelled in another format.

    Example: docstill convert page-xml pages/train pages/train.json

    Example: docstill convert yolo images/train images/train.json --classes data.yaml
    """
    print_value(docstill.convert(form, source, out, labels, classes), as_json)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="graph: the regions of pages as the objective graphkd sees them.")],
    model: Annotated[str, typer.Argument(help="A layout detector: the teacher.")],
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits; labelled.")],
    out: Annotated[Path, typer.Option(help="HTML file with the drawings.")] = Path("graph.html"),
    split: Annotated[str | None, typer.Option(help="Default: validation.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many pages, drawn at random.")] = 4,
    by: Annotated[
        Literal["labels", "covariance"], typer.Option(help="What tells text from the rest: labels or covariance.")
    ] = "labels",
    non_text: Annotated[
        list[str] | None,
        typer.Option(help="Name of a class that is no text; may be repeated. Default: the usual ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw what an objective sees: nodes, merges and edges over the page.

    Example: docstill explain graph runs/layout/teacher/model pages --out graph.html
    """
    if what != "graph":
        raise UserError(f"`docstill explain {what}` is not known; there is `docstill explain graph MODEL DATA`")
    found = docstill.explain(model, data, out, split, limit, by, non_text)
    print_value(found if as_json else {key: found[key] for key in ("model", "data", "page")}, as_json)


@app.command()
def recipes(
    action: Annotated[str, typer.Argument(help="list, show NAME, or copy NAME [FILE].")] = "list",
    name: Annotated[str | None, typer.Argument()] = None,
    target: Annotated[Path | None, typer.Argument()] = None,
    as_json: Json = False,
) -> None:
    """List the shipped recipes and studies, show one, or copy one out for editing.

    Example: docstill recipes copy doctype my-recipe.yaml
    """
    if action == "list":
        found = {"compress": shipped.recipes(), "study": shipped.recipes(shipped.STUDIES)}
        if as_json:
            print_value({name: about for group in found.values() for name, about in group.items()}, True)
            return
        table = Table("recipe", "for", "what it does")
        for verb, group in found.items():
            for key, about in group.items():
                table.add_row(key, verb, about)
        print_table(table)
    elif action in {"show", "copy"} and name is not None:
        if action == "show":
            text = shipped.find_any(name).read_text(encoding="utf-8")
            print_value({"name": name, "recipe": text}, True) if as_json else sys.stdout.write(text)
        else:
            path = shipped.copy_recipe(name, target or Path.cwd())
            print_value({"name": name, "file": str(path)}, as_json)
    else:
        raise UserError(f"`docstill recipes {action}` is not complete; use list, show NAME, or copy NAME [FILE]")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A finished run folder.")], as_json: Json = False) -> None:
    """Write a run's report.html again from its results.

    Example: docstill report runs/pages
    """
    print_value({"report": str(docstill.report(run))}, as_json)
