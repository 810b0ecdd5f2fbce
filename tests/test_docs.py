"""The code in the README and in docs/ runs; commands and recipes in them hold; links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from docstill.cli import app
from docstill.recipe import parse_recipe, parse_stage

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = get_command(app).commands  # type: ignore[attr-defined]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docstill import objectives

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(objectives, "OBJECTIVES", objectives.OBJECTIVES)
    before = dict(objectives.OBJECTIVES)
    try:
        exec(compile("\n".join(blocks(page, "python")), str(page), "exec"), {"__name__": "docs"})
    finally:
        objectives.OBJECTIVES.clear()
        objectives.OBJECTIVES.update(before)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_yaml_blocks_hold(page: Path) -> None:
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if isinstance(content, dict):
            parse_recipe(content)
            continue
        for entry in content:
            if "kind" in entry:
                parse_stage("distill", {"objectives": [entry]})
            else:
                [(kind, settings)] = entry.items()
                parse_stage(kind, settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_verbs_and_options_that_exist(page: Path) -> None:
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            for command in line.partition("#")[0].split("&&"):
                words = shlex.split(command)
                if words[:1] == ["docstill"]:
                    assert words[1] in VERBS, line
                    known = {option for parameter in VERBS[words[1]].params for option in parameter.opts}
                    assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_begins_with_the_two_commands() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60]
    assert 'pip install ".[train]" && docstill demo' in first
    assert 'pip install -e ".[dev]" && pytest' in first


def test_every_objective_has_a_page() -> None:
    from docstill.objectives import OBJECTIVES

    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "methods").glob("*.md"))
    assert all(f"`{kind}`" in text or f"kind: {kind}" in text for kind in OBJECTIVES)


def test_the_benchmarks_page_is_what_the_outputs_say() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "write_page.py"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == script["main"]()
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    assert first == script["readme"](first)
