"""Graphs drawn for people: every region in it, hostile names, pages without regions; the verb from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from typer.testing import CliRunner

import docstill
from docstill.cli.app import app
from docstill.data.regions import Regions
from docstill.errors import ModelError, UserError
from docstill.explaining import graphs_of
from docstill.models.detector import new_detector
from docstill.reporting.graphs import draw_graph, in_words
from docstill.tasks.base import Pages
from docstill.tasks.layout import Layout
from layout_tiny import KINDS, TINY_DETR, TINY_RCNN, coco_folder

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder(tmp_path_factory.mktemp("graphs") / "data", train=3, validation=2)


@pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detr"])
@pytest.mark.parametrize("split", ["labels", "covariance"])
def test_every_region_is_in_the_graph(kind: dict[str, object], split: str, data: Path) -> None:
    torch.manual_seed(0)
    model = new_detector(str(kind["new"]), kind["config"], KINDS, (96, 64))  # type: ignore[arg-type]
    pages = Layout().read(data / "train")
    for page, document in zip(graphs_of(Layout(), model, pages, split), pages.documents, strict=True):  # type: ignore[arg-type]
        assert len(page["regions"]) == len(document.target.boxes)
        assert {region["node"] for region in page["regions"]} == set(range(len(page["nodes"])))
        for region in page["regions"]:
            node = page["nodes"][region["node"]]
            if split == "labels":
                assert node["text"] == (region["label"] != "figure")
            left, top, width, height = region["box"]
            assert node["box"][0] <= left + 0.1
            assert node["box"][1] <= top + 0.1
            assert node["box"][0] + node["box"][2] >= left + width - 0.1
            assert node["box"][1] + node["box"][3] >= top + height - 0.1
        for first, second in page["edges"]:
            merged = sum(region["node"] == first for region in page["regions"]) > 1
            assert first != second or merged
        ElementTree.fromstring(draw_graph(page))


def test_an_empty_page_and_hostile_names() -> None:
    page = {"file": "<b>\ufffe", "image": None, "size": [10, 0], "regions": [], "nodes": [], "edges": []}
    ElementTree.fromstring(draw_graph(page))
    region = {"label": "<script>", "box": [0, 0, 5, 5], "node": None}
    drawing = draw_graph({**page, "size": [10, 10], "regions": [region]})
    assert "<script>" not in drawing
    assert "lie under others" in in_words({**page, "regions": [region]})


def test_pages_without_regions(data: Path) -> None:
    torch.manual_seed(0)
    model = new_detector(TINY_RCNN["new"], TINY_RCNN["config"], KINDS, (96, 64))
    pages = Layout().read(data / "train")
    empty = replace(pages.documents[0], target=Regions((60, 90), (), (), (), ()))
    (page,) = graphs_of(Layout(), model, Pages(pages.folder, [empty], pages.labels))
    assert page["nodes"] == page["edges"] == page["regions"] == []


def test_the_verb(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = new_detector(TINY_RCNN["new"], TINY_RCNN["config"], KINDS, (96, 64)).save(tmp_path / "model")
    out = tmp_path / "graph.html"
    words = ["explain", "graph", str(folder), str(data), "--out", str(out), "--limit", "2"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"model", "data", "page", "graphs"}
    assert len(found["graphs"]) == 2
    assert out.read_text(encoding="utf-8").count('<svg class="graph" viewBox') == 2
    with pytest.raises(ModelError, match="non_text names stamp"):
        docstill.explain(folder, data, out, non_text=["stamp"])


def test_options_and_places_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="covariance looks at no names"):
        docstill.explain("model", "data", tmp_path / "g.html", by="covariance", non_text=["figure"])
    with pytest.raises(UserError, match="is a folder; give the path of an HTML file"):
        docstill.explain("model", "data", tmp_path)
