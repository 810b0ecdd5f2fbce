"""What verbs print on stdout: one JSON document with ``--json``, else tables and YAML for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table


def print_value(value: Any, as_json: bool) -> None:
    """One JSON document, or the same as YAML for people."""
    if as_json:
        text = json.dumps(value, ensure_ascii=False, default=str)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # names of files may be any bytes, which only escapes can write
            text = json.dumps(value, default=str)
        sys.stdout.write(text + "\n")
    else:
        sys.stdout.write(
            yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True)
        )


def print_table(table: Table) -> None:
    """A table as wide as the terminal; what does not fit goes on in a line below, for half a figure is a wrong one."""
    from rich.console import Console

    for column in table.columns:
        column.overflow = "fold"
    Console(highlight=False).print(table)


def short_names(paths: Sequence[str]) -> list[str]:
    """Of each path the shortest ending that is the ending of no other."""
    parts = [Path(path).parts for path in paths]

    def shortest(number: int) -> str:
        others = [one for other, one in enumerate(parts) if other != number]
        for length in range(1, len(parts[number])):
            if all(one[-length:] != parts[number][-length:] for one in others):
                return "/".join(parts[number][-length:])
        return paths[number]

    return [shortest(number) for number in range(len(paths))]


def print_run(results: dict[str, Any], folder: Path, as_json: bool) -> None:
    """A finished run: its rows, and where model and report lie."""
    if as_json:
        print_value(results, True)
        return
    metric = results["primary_metric"]
    table = Table("", metric, "spread", "parameters", "non-zero", "ms a page (p50)")
    for row in results["rows"]:
        figure, latency = row["metrics"][metric], row["latency_ms"].get("document", row["latency_ms"])
        spread = "–" if figure["std"] is None else f"± {figure['std']:.4f}"
        size = (f"{row['params']['total']:,}", f"{row['params']['nonzero']:,}")
        table.add_row(row["name"], f"{figure['mean']:.4f}", spread, *size, f"{latency['p50']:.1f}")
    print_table(table)
    _print_warnings(results)
    sys.stdout.write(f"student: {folder / 'model'}\nreport:  {folder / 'report.html'}\n")


def print_stage(done: dict[str, Any], as_json: bool) -> None:
    """A finished stage: what was done, and where the model lies."""
    if as_json:
        print_value(done, True)
    else:
        sys.stdout.write(f"{done['text']}\n")
        _print_warnings(done)
        sys.stdout.write(f"model: {done['model']}\n")


def _print_warnings(found: dict[str, Any]) -> None:
    sys.stdout.writelines(f"warning: {line}\n" for line in found.get("warnings", []))
