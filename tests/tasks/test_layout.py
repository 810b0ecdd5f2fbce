"""Layout: pages fitted in and boxes brought back, classes matched by name, student and teacher on the same regions."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torchvision.ops import FrozenBatchNorm2d
from transformers import AutoConfig, AutoModelForObjectDetection, DetrImageProcessor
from typer.testing import CliRunner

import docstill
from docstill import engine
from docstill.cli.app import app
from docstill.data.augment import augmented
from docstill.data.document import Document
from docstill.data.regions import Regions, moved
from docstill.doubts import classes_without_regions
from docstill.errors import DataError, ModelError, RecipeError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.loaded import Model
from docstill.metrics.detection import Detection, Truth, detection_metrics
from docstill.models.detector import new_detector
from docstill.models.io import DocumentModel
from docstill.objectives.base import BACKGROUND
from docstill.recipe import dump_recipe, load_recipe, parse_recipe
from docstill.run import read_metrics
from docstill.settings import Stage
from docstill.shipped import find_recipe
from docstill.stages import Bench, run_stage
from docstill.studies.grid import cells, parse_study
from docstill.tasks import layout
from docstill.tasks.base import Evaluation, ModelSpec, Pages, open_page
from docstill.tasks.found import Found
from docstill.tasks.layout import EVALUATION_BATCH, LEAST, Layout
from layout_tiny import KINDS, TINY_DETR, TINY_RCNN, coco_folder, drawn_page, layout_recipe
from published_boxes import of_files

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

TASK = Layout()
BOTH = pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detr"])


def made(kind: dict[str, Any], labels: tuple[str, ...] = KINDS, size: tuple[int, int] = (96, 64)) -> DocumentModel:
    torch.manual_seed(0)
    return new_detector(kind["new"], kind["config"], labels, size)


def found_of(regions: list[dict[str, Any]], names: list[str]) -> Found:
    """What a model would have found, had it found these."""
    corners = np.array([region["box"] for region in regions], dtype=np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    classes = np.array([names.index(region["label"]) for region in regions], dtype=np.int32)
    return Found(names, classes, corners, np.array([region["score"] for region in regions], dtype=np.float32))


def test_two_detectors_are_shown_the_same_where_page_and_classes_are_the_same() -> None:
    model = made(TINY_RCNN)
    assert TASK.shown_alike(model, made(TINY_RCNN, tuple(reversed(KINDS))))
    assert not TASK.shown_alike(model, made(TINY_RCNN, size=(64, 64)))
    assert not TASK.shown_alike(model, made(TINY_RCNN, KINDS[:-1]))


@pytest.mark.parametrize(
    ("size", "anchors"), [((1024, 736), [32, 64, 128, 256, 512]), ((320, 480), [15, 30, 60, 120, 240])]
)
def test_anchors_of_a_new_detector_are_as_much_smaller_as_its_pages(size: tuple[int, int], anchors: list[int]) -> None:
    changes = {"pyramid_channels": 8, "head_channels": 16}
    assert new_detector("faster-rcnn-r18", changes, KINDS, size).network.config.anchor_sizes == anchors
    asked = new_detector("faster-rcnn-r18", {**changes, "anchor_sizes": [9, 8, 7, 6, 5]}, KINDS, size)
    assert asked.network.config.anchor_sizes == [9, 8, 7, 6, 5]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder(tmp_path_factory.mktemp("layout") / "data")


def test_a_perfect_detector_scores_one_whatever_its_input(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes go into the network's input and come back: through shrinking, padding and the order of classes."""
    pages = TASK.read(data / "validation")
    for size in ((96, 64), (64, 96), (160, 160)):
        model = made(TINY_RCNN, ("figure", "title", "text"), size)
        examples = [
            TASK.example(model, document, Image.open(document.file).convert("RGB"), pages.labels, None)
            for document in pages.documents
        ]
        batch = TASK.collate(model, examples)
        names = sorted(model.labels)

        def perfect(
            network: Any,
            pixels: Any,
            frames: Any,
            most: int,
            batch: Any = batch,
            names: Any = names,
            model: Any = model,
        ) -> Any:
            return [
                {
                    "boxes": (boxes * frame)[classes >= 0],
                    "scores": torch.ones(int((classes >= 0).sum())),
                    "labels": torch.tensor([model.labels.index(names[int(one)]) for one in classes if one >= 0]),
                }
                for boxes, classes, frame in zip(batch["boxes"], batch["classes"], batch["frames"], strict=True)
            ]

        monkeypatch.setattr("docstill.tasks.layout.detect", perfect)
        evaluation = TASK.evaluate(model, pages)
        assert evaluation.metrics["ap"] == pytest.approx(1.0)
        assert [document.score for document in evaluation.documents] == [1.0] * 4


def test_a_page_is_fitted_in_and_not_squashed(data: Path) -> None:
    model = made(TINY_RCNN)
    wide = Image.new("RGB", (600, 300), "white")
    pixels, frame = TASK._prepared(model, wide)
    assert pixels.shape == (3, 96, 64)
    assert frame.tolist() == pytest.approx([1, 1 / 3, 1, 1 / 3])
    tall = Image.new("RGB", (40, 20_000), "white")  # a scan of a roll
    assert TASK._prepared(model, tall)[1].tolist() == pytest.approx([1 / 64, 1, 1 / 64, 1], abs=0.02)


def test_pages_are_opened_one_at_a_time(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight scans of two metres do not fit into memory together."""
    pages, order = TASK.read(data / "validation"), []
    opened = layout.open_page
    monkeypatch.setattr(layout, "open_page", lambda *given: order.append("open") or opened(*given))
    prepared = TASK._prepared
    monkeypatch.setattr(Layout, "_prepared", lambda _, *given: order.append("prepare") or prepared(*given))
    TASK.regions(made(TINY_RCNN), pages)
    assert order == ["open", "prepare"] * 4
    order.clear()
    TASK.predict(made(TINY_RCNN), (layout.open_page(document, None) for document in pages.documents))
    assert order == ["open", "prepare"] * 4


@BOTH
def test_pages_are_answered_together_as_one_by_one(
    kind: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, model, sizes = [drawn_page(seed)[0] for seed in range(EVALUATION_BATCH + 3)], made(kind), []
    detect = layout.detect
    monkeypatch.setattr(layout, "detect", lambda *given: sizes.append(len(given[1])) or detect(*given))
    monkeypatch.setattr(layout, "LEAST", 0.0)
    together = TASK.predict(model, images)
    assert sizes == [EVALUATION_BATCH, 3]
    one_by_one = [TASK.predict(model, [image])[0] for image in images]
    for first, second in zip(together, one_by_one, strict=True):
        assert len(first["regions"]) > 1
        assert len(first["regions"]) == len(second["regions"])
        rows = [
            np.array([[KINDS.index(region["label"]), region["score"], *region["box"]] for region in answer["regions"]])
            for answer in (first, second)
        ]
        # an untrained network is as good as equally sure of all, so that noise may change their order
        assert (np.abs(rows[0][:, None] - rows[1]).max(-1).min(1) < 0.02).all()


def test_what_is_kept_of_a_page_is_small_and_written_as_ever(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes and scores rounded as Python rounds; boxes without an area, and classes that the data do not have, left out."""
    pages, rng = TASK.read(data / "validation"), np.random.default_rng(0)
    model, count = made(TINY_RCNN, ("advert", *KINDS)), 300
    shares = np.sort(rng.random((4, count, 2, 2), dtype=np.float32), axis=2).reshape(4, count, 4)
    shares[:, 5, 2] = shares[:, 5, 0]
    scores = -np.sort(-(rng.random((4, count), dtype=np.float32) ** 4), axis=1)
    labels = rng.integers(0, 4, (4, count))
    parts = (torch.from_numpy(values) for values in (shares, scores, labels))
    raw = [dict(zip(("boxes", "scores", "labels"), page, strict=True)) for page in zip(*parts, strict=True)]
    monkeypatch.setattr(layout, "detect", lambda *_: raw)
    found = TASK.regions(model, pages)
    assert sum(array.nbytes for array in (found[0].classes, found[0].corners, found[0].scores)) == 24 * (count - 1)
    evaluation = TASK.judged(pages, found)
    fills = layout.padded([TASK._prepared(model, open_page(document, None)) for document in pages.documents])["frames"]
    for page, (document, frame) in enumerate(zip(pages.documents, fills, strict=True)):
        width, height = document.target.size
        sides = ((raw[page]["boxes"] / frame).clamp(0, 1) * torch.tensor([width, height, width, height])).tolist()
        wanted = [
            {
                "label": model.labels[label],
                "box": [round(number, 2) for number in (left, top, right - left, bottom - top)],
                "score": round(score, 5),
            }
            for (left, top, right, bottom), label, score in zip(
                sides, labels[page].tolist(), scores[page].tolist(), strict=True
            )
            if right > left and bottom > top
        ]
        assert list(evaluation.answers[page]) == wanted
        sure = {"regions": [region for region in wanted if region["score"] >= LEAST]}
        assert 0 < len(sure["regions"]) < len(wanted)
        assert evaluation.documents[page].predicted == sure
    truths = [
        Truth(page, label, box, area)
        for page, document in enumerate(pages.documents)
        for label, box, area in zip(document.target.labels, document.target.boxes, document.target.areas, strict=True)
    ]
    detections = [
        Detection(page, pages.labels.index(region["label"]), tuple(region["box"]), region["score"])
        for page, regions in enumerate(evaluation.answers)
        for region in regions
        if region["label"] in pages.labels
    ]
    assert len(detections) < 4 * (count - 1)
    assert evaluation.metrics == detection_metrics(truths, detections, pages.labels, 4)
    assert [document.file for document in evaluation.documents[1:]] == [one.where for one in pages.documents[1:]]
    assert evaluation.documents[-1] == evaluation.documents[3]
    with pytest.raises(IndexError):
        evaluation.documents[4]


@BOTH
def test_a_teacher_may_know_more_classes_than_its_student(kind: dict[str, Any], data: Path) -> None:
    pages = TASK.read(data / "train")
    teacher, student = made(kind, ("advert", *KINDS)), made(kind)
    TASK.check_pair(teacher, student)
    TASK.check_model(teacher, pages)
    assert "ap" in TASK.evaluate(teacher, pages).metrics
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "query"}]))
    batch = {
        side: TASK.collate(
            model,
            [TASK.example(model, page, open_page(page, None), pages.labels, None) for page in pages.documents[:2]],
        )
        for side, model in (("student", student), ("teacher", teacher))
    }
    ours, theirs = lesson.outputs({**batch, "indices": [0, 1], "files": ["a", "b"]})
    assert theirs is not None
    assert theirs.looks is not None
    assert ours.looks is not None
    assert theirs.looks.names == ours.looks.names == tuple(sorted(KINDS))
    assert torch.equal(theirs.looks.truths, ours.looks.truths)
    assert theirs.logits.shape == ours.logits.shape
    with pytest.raises(ModelError, match="only the student has advert"):
        TASK.check_pair(student, teacher)


@pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detr"])
def test_a_teacher_that_is_tapped_alone_is_not_asked_about_regions(
    kind: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, model = TASK.read(data / "train"), made(kind)
    example = TASK.example(model, pages.documents[0], open_page(pages.documents[0], None), pages.labels, None)
    monkeypatch.setattr(layout, "learn", None)
    seen: list[Any] = []
    for module in model.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
            module.register_forward_hook(lambda *_: seen.append(1))
    outputs = TASK.forward(model, {**TASK.collate(model, [example]), "glance": True})
    assert seen
    assert outputs.loss is None
    assert outputs.looks is None


def test_a_class_that_is_listed_and_has_no_regions(data: Path, tmp_path: Path) -> None:
    """Roboflow lists the name of the project among the classes."""
    for split in ("train", "validation"):
        shutil.copytree(data / split, tmp_path / split)
        content = json.loads((data / f"{split}.json").read_text())
        content["categories"].append({"id": 1, "name": "project"})
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    training = TASK.read(tmp_path / "train")
    assert set(training.labels) == {*KINDS, "project"}
    assert "ap" in TASK.evaluate(made(TINY_RCNN), training).metrics
    begun = TASK.new_model(ModelSpec(TINY_RCNN["new"], TINY_RCNN["config"], (96, 64)), training)
    assert set(begun.labels) == set(KINDS)
    [said] = classes_without_regions(TASK, training)
    assert "no regions of project" in said
    content["annotations"][0]["category_id"] = 1
    (tmp_path / "validation.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="project: has regions here, but none in"):
        TASK.read(tmp_path / "validation", training)


@BOTH
def test_a_teacher_with_classes_in_another_order_says_the_same(kind: dict[str, Any], data: Path) -> None:
    pages = TASK.read(data / "train")
    one, other = made(kind), made(kind, ("figure", "text", "title"))
    other.network.load_state_dict(one.network.state_dict())
    place = [KINDS.index(label) for label in other.labels]
    with torch.no_grad():
        for name, value in other.network.named_parameters():
            if "cls_score" in name:  # background stays in front
                value.copy_(value[[0, *(1 + index for index in place)]])
            elif "box_predictor.bbox_pred" in name:
                rows = [range(4 * index, 4 * index + 4) for index in (0, *(1 + index for index in place))]
                value.copy_(value[[row for part in rows for row in part]])
            elif any(part in name for part in ("class_embed", "enc_score_head")) and "denoising" not in name:
                value.copy_(value[place])
    outputs = []
    for model in (one, other):
        document = pages.documents[0]
        example = TASK.example(model, document, Image.open(document.file).convert("RGB"), pages.labels, None)
        batch = TASK.collate(model, [example])
        asked = {
            "given": example["boxes"],
            "pages": torch.zeros(len(example["boxes"]), dtype=torch.int64),
            "looks": True,
        }
        with torch.no_grad():
            outputs.append(TASK.forward(model, {**batch, **asked}))
    first, second = (output.looks for output in outputs)
    assert first is not None
    assert second is not None
    assert first.names == second.names == ("figure", "text", "title")
    assert torch.allclose(first.classes, second.classes, atol=1e-5)
    assert torch.allclose(first.boxes, second.boxes, atol=1e-5)
    assert first.truths.tolist() == second.truths.tolist()
    names = [pages.labels[label] for label in pages.documents[0].target.labels]
    assert [first.names[truth] for truth in first.truths] == names


@BOTH
def test_student_and_teacher_look_at_the_same_regions(kind: dict[str, Any], data: Path) -> None:
    """Also when the teacher takes pages at another size; equal networks of one size give equal answers."""
    pages = TASK.read(data / "train")
    student, teacher, larger = made(kind), made(kind), made(kind, size=(128, 96))
    for other in (teacher, larger):
        batch = {"files": [], "indices": []}
        for name, model in (("student", student), ("teacher", other)):
            examples = [
                TASK.example(model, document, Image.open(document.file).convert("RGB"), pages.labels, None)
                for document in pages.documents[:2]
            ]
            batch[name] = TASK.collate(model, examples)
        lesson = Lesson(TASK, student, other, [])
        lesson._outside = (TASK, student, other)
        lesson.wanted = {"looks": True, "pools": True}
        student.network.eval()
        with torch.no_grad():
            ours, theirs = lesson.outputs(batch)
        assert ours.looks is not None
        assert theirs is not None
        assert theirs.looks is not None
        assert torch.equal(ours.looks.given, theirs.looks.given)
        assert torch.equal(ours.looks.truths, theirs.looks.truths)
        assert (ours.looks.truths >= 0).any()
        assert (ours.looks.truths == BACKGROUND).any()
        same = torch.allclose(ours.looks.classes, theirs.looks.classes, atol=1e-4)
        assert same == (other is teacher)


def test_crowds_and_empty_pages(data: Path) -> None:
    pages, model = TASK.read(data / "train"), made(TINY_DETR)
    document = pages.documents[0]
    regions = document.target
    crowd = replace(regions, crowd=(True, *regions.crowd[1:]))
    image = Image.open(document.file).convert("RGB")
    example = TASK.example(model, replace(document, target=crowd), image, pages.labels, None)
    assert len(example["classes"]) == len(regions.labels) - 1
    empty = Regions(regions.size, (), (), (), ())
    blank = TASK.example(model, replace(document, target=empty), image, pages.labels, None)
    batch = TASK.collate(model, [blank, blank])
    assert batch["classes"].tolist() == [[-1], [-1]]
    model.network.train()
    assert torch.isfinite(TASK.forward(model, batch).loss or torch.tensor(float("nan")))
    none = Pages(pages.folder, [replace(document, target=empty)], pages.labels)
    with pytest.raises(DataError, match="nothing can be scored"):
        TASK.evaluate(model, none)


def test_evaluate_and_score_count_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what pycocotools counts: boxes over the page's edge, numbers in any order, detections that are equally sure."""
    rng = random.Random(0)
    numbers, images, annotations = rng.sample(range(100), 7), [], []
    (tmp_path / "validation").mkdir()
    for number in numbers:
        Image.new("RGB", (100, 100), "white").save(tmp_path / "validation" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 100})
        for _ in range(5 * (number != numbers[2])):
            box = [rng.uniform(-15, 75), rng.uniform(-15, 75), rng.uniform(30, 40), rng.uniform(30, 40)]
            kinds = {"category_id": rng.choice((7, 3)), "iscrowd": 0, "area": box[2] * box[3]}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "bbox": box, **kinds})
    categories = [{"id": 7, "name": "text"}, {"id": 3, "name": "title"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (tmp_path / "validation.json").write_text(json.dumps(content), encoding="utf-8")

    def regions(task: Layout, model: Any, pages: Pages, *_: Any) -> list[Found]:
        found = [
            [
                {"label": pages.labels[label], "box": [round(side + rng.gauss(0, 2), 2) for side in box], "score": sure}
                for label, box in zip(document.target.labels, document.target.boxes, strict=True)
                for sure in (rng.choice((0.5, 0.9)),)
            ]
            + [{"label": name, "box": [10.0, 10.0, 30.0, 30.0], "score": 0.9} for name in pages.labels]
            for document in pages.documents
        ]
        return [found_of(regions, pages.labels) for regions in found]

    monkeypatch.setattr(Layout, "regions", regions)
    monkeypatch.setattr("docstill.evaluation.load", lambda model, task: Model(TASK, made(TINY_RCNN)))
    written, truth = tmp_path / "results.json", tmp_path / "validation.json"
    found = docstill.evaluate("model", tmp_path, outputs=written)["metrics"]
    assert found == docstill.score("layout", written, truth)["metrics"]
    some = docstill.evaluate("model", tmp_path, outputs=tmp_path / "some.json", limit=5)["metrics"]
    seen = {result["image_id"] for result in json.loads((tmp_path / "some.json").read_text())}
    assert len(seen) == 5
    for ours, theirs in ((found, of_files(written, truth)), (some, of_files(tmp_path / "some.json", truth, 100, seen))):
        assert 0.05 < ours["ap"] < 0.95
        assert ours["ap_small"] is not None
        for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name


def test_pages_that_nobody_has_labelled_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a competition are; without a file for the answers there is nothing to do with them."""
    (tmp_path / "test").mkdir()
    Image.new("RGB", (60, 90), "white").save(tmp_path / "test" / "a.png")
    images = [{"id": 7, "file_name": "a.png", "width": 60, "height": 90}]
    categories = [{"id": 3 + number, "name": name} for number, name in enumerate(KINDS)]
    (tmp_path / "test.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    monkeypatch.setattr("docstill.evaluation.load", lambda model, task: Model(TASK, made(TINY_RCNN)))
    done = docstill.evaluate("model", tmp_path, split="test", outputs=tmp_path / "results.json")
    assert (done["n"], done["metrics"]) == (1, {})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results
    assert all(result["image_id"] == 7 and result["category_id"] >= 3 for result in results)
    with pytest.raises(DataError, match="nothing can be scored"):
        docstill.evaluate("model", tmp_path, split="test")


def test_all_regions_of_a_crowded_page_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "validation").mkdir()
    Image.new("RGB", (600, 400), "white").save(tmp_path / "validation" / "a.png")
    boxes = [[30.0 * column, 30.0 * row, 20.0, 20.0] for row in range(13) for column in range(15)]
    annotations = [
        {"id": number, "image_id": 1, "bbox": box, "category_id": 1, "iscrowd": 0, "area": 400}
        for number, box in enumerate(boxes, 1)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 600, "height": 400}
    content = {"images": [image], "categories": [{"id": 1, "name": "word"}], "annotations": annotations}
    (tmp_path / "validation.json").write_text(json.dumps(content), encoding="utf-8")
    found = [{"label": "word", "box": box, "score": 0.9} for box in boxes]
    monkeypatch.setattr(Layout, "regions", lambda *_: [found_of(found, ["word"])])
    [judged] = TASK.evaluate(made(TINY_RCNN), TASK.read(tmp_path / "validation")).documents
    assert judged.score == 1


def test_boxes_over_the_edge_are_learnt_and_drawn_cut_off(data: Path) -> None:
    pages, model = TASK.read(data / "train"), made(TINY_RCNN)
    document = pages.documents[0]
    over = Regions((60, 90), ((-10.0, 80.0, 50.0, 20.0),), (0,), (1000.0,), (False,))
    edged = replace(document, target=over)
    image = Image.open(document.file).convert("RGB")
    example = TASK.example(model, edged, image, pages.labels, None)
    assert example["boxes"].tolist() == [pytest.approx([0, 80 / 90, 40 / 60, 1])]
    shown = TASK.judged(replace(pages, documents=[edged]), [found_of([], pages.labels)]).documents[0].expected
    assert shown["regions"] == [{"label": pages.labels[0], "box": [0.0, 80.0, 40.0, 10.0]}]


@pytest.mark.parametrize("crowded", [False, True], ids=["empty", "crowds"])
def test_a_validation_split_without_regions_is_refused_before_anything_is_learnt(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    shutil.copytree(data, tmp_path / "data")
    annotations = json.loads((data / "validation.json").read_text())
    crowds = [{**entry, "iscrowd": 1} for entry in annotations["annotations"]]
    annotations["annotations"] = crowds if crowded else []
    (tmp_path / "data" / "validation.json").write_text(json.dumps(annotations))

    def never(*_: Any) -> Any:
        raise AssertionError("it learns")

    monkeypatch.setattr("docstill.stages.fit", never)
    message = r"nothing can be scored[\s\S]*none of its 4 pages has a region"
    teacher = str(made(TINY_RCNN).save(tmp_path / "teacher"))
    with pytest.raises(DataError, match=message):
        docstill.train("layout", teacher, tmp_path / "data", tmp_path / "trained", epochs=1)
    with pytest.raises(DataError, match=message):
        docstill.distill(
            teacher, teacher, tmp_path / "data", tmp_path / "distilled", objectives=[{"kind": "labels"}], epochs=1
        )
    monkeypatch.setattr(Layout, "regions", never)
    with pytest.raises(DataError, match=message):
        docstill.compress(parse_recipe(layout_recipe(tmp_path / "data", TINY_RCNN, teacher=teacher)), tmp_path / "run")


def test_classes_that_do_not_fit_are_named(data: Path) -> None:
    pages = TASK.read(data / "train")
    other = made(TINY_RCNN, ("text", "figure", "caption"))
    with pytest.raises(ModelError, match=r"caption.*title"):
        TASK.check_model(other, pages)
    with pytest.raises(ModelError, match=r"caption.*title"):
        TASK.check_pair(other, made(TINY_RCNN))
    TASK.adapt(other, pages)
    assert other.labels == list(KINDS)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.1, 2.0))
def test_regions_move_with_their_page(seed: int, strength: float) -> None:
    """A black region on a white page is found again where its box went."""
    image = Image.new("L", (200, 300), 255)
    box = (60.0, 90.0, 70.0, 110.0)
    ImageDraw.Draw(image).rectangle((60, 90, 129, 199), fill=0)
    regions = Regions((400, 600), (tuple(2 * number for number in box),), (1,), (4 * 70 * 110.0,), (False,))  # type: ignore[arg-type]
    view, move = augmented(image, random.Random(seed), strength, level=True)
    assert move is not None
    there = moved(regions, move, image.size)
    still = image.transform(image.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR, fillcolor=255)
    dark = np.argwhere(np.asarray(still) < 128)
    if not there.boxes:
        assert len(dark) < 0.6 * 70 * 110 * strength * 4
        return
    left, top, width, height = (number / 2 for number in there.boxes[0])
    assert dark[:, 1].min() == pytest.approx(left, abs=1.6)
    assert dark[:, 0].min() == pytest.approx(top, abs=1.6)
    assert dark[:, 1].max() + 1 == pytest.approx(left + width, abs=1.6)
    assert dark[:, 0].max() + 1 == pytest.approx(top + height, abs=1.6)
    assert view.size == image.size


@BOTH
def test_compress_from_a_recipe(kind: dict[str, Any], data: Path, tmp_path: Path) -> None:
    results = docstill.compress(parse_recipe(layout_recipe(data, kind)), tmp_path / "run")
    assert results["primary_metric"] == "ap"
    assert [row["name"] for row in results["rows"]] == ["teacher", "student", "no-kd"]
    student = results["rows"][1]
    assert set(student["metrics"]) >= {"ap", "ap50", "ap75", "ar"}
    assert set(student["per_class"][0]) == set(KINDS)
    model = docstill.load(tmp_path / "run" / "model")
    (answer,) = model.predict([data / "validation" / "0.png"])
    assert set(answer) == {"regions"}
    for region in answer["regions"]:
        left, top, width, height = region["box"]
        assert 0 <= left <= left + width <= 60.01
        assert 0 <= top <= top + height <= 90.01
    found = docstill.evaluate(tmp_path / "run" / "model", data)
    assert found["task"] == "layout"
    assert found["metrics"]["ap"] == pytest.approx(student["metrics"]["ap"]["values"][0])
    assert (tmp_path / "run" / "report.html").is_file()
    written = tmp_path / "results.json"
    again = docstill.evaluate(tmp_path / "run" / "model", data, outputs=written)
    assert again == found
    scored = docstill.score("layout", written, data / "validation.json")
    for name in ("ap", "ap50", "ap75", "ar"):
        assert scored["metrics"][name] == pytest.approx(found["metrics"][name], abs=1e-9)
    with pytest.raises(UserError, match="corruptions turn and warp pages"):
        docstill.evaluate(tmp_path / "run" / "model", data, shift="corruptions")
    wide = docstill.evaluate(tmp_path / "run" / "model", data, intervals=True)
    assert wide["intervals"] == docstill.score("layout", written, data / "validation.json", intervals=True)["intervals"]
    for name, (low, high) in wide["intervals"].items():
        assert 0 <= low <= found["metrics"][name] <= high <= 1
    with pytest.raises(UserError, match=r"classifier's probabilities, .* is for layout"):
        docstill.evaluate(tmp_path / "run" / "model", data, ood=data)


def test_a_teacher_whose_pages_keep_no_fixed_size(data: Path) -> None:
    """DETR's processor makes of each page what its proportions ask for; the batch is padded, and boxes still lie where they lay."""
    torch.manual_seed(0)
    backbone = AutoConfig.for_model(
        "resnet", embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], out_features=["stage2"]
    )
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    ready = {
        "use_pretrained_backbone": False,
        "use_timm_backbone": False,
        "backbone": None,
        "backbone_config": backbone,
    }
    names = dict(enumerate(KINDS))
    config = AutoConfig.for_model("detr", **widths, **heads, **ready, num_queries=6, id2label=names)
    network = AutoModelForObjectDetection.from_config(config).eval()
    processor = DetrImageProcessor(size={"shortest_edge": 48, "longest_edge": 80})
    teacher = DocumentModel("layout", network, processor, list(KINDS))
    pages = TASK.read(data / "train")
    wide = Image.new("RGB", (90, 60), "white")
    tall = Image.open(pages.documents[0].file).convert("RGB")
    document = pages.documents[0]
    turned = replace(document, target=Regions((90, 60), ((9.0, 6.0, 45.0, 30.0),), (0,), (1350.0,), (False,)))
    examples = [
        TASK.example(teacher, one, image, pages.labels, None) for one, image in ((document, tall), (turned, wide))
    ]
    assert examples[0]["pixel_values"].shape != examples[1]["pixel_values"].shape
    batch = TASK.collate(teacher, examples)
    assert batch["pixel_values"].shape[-2:] == (72, 72)
    assert batch["frames"].tolist() == [pytest.approx([2 / 3, 1, 2 / 3, 1]), pytest.approx([1, 2 / 3, 1, 2 / 3])]
    given = torch.cat([example["boxes"] for example in examples])
    numbers = torch.tensor([0] * len(examples[0]["boxes"]) + [1])
    with torch.no_grad():
        looks = TASK.forward(teacher, {**batch, "given": given, "pages": numbers, "looks": True}).looks
        alone = TASK.collate(teacher, examples[1:])
        by_itself = TASK.forward(teacher, {**alone, "given": given[-1:], "pages": numbers[:1], "looks": True}).looks
    assert looks is not None
    assert by_itself is not None
    assert looks.boxes.shape == (len(given), 3, 4)
    assert by_itself.classes.shape == (1, 3)


def test_a_student_from_a_folder_gets_the_classes_of_the_data(data: Path, tmp_path: Path) -> None:
    folder = made(TINY_RCNN, ("a", "b", "c", "d")).save(tmp_path / "model")
    content = layout_recipe(data, TINY_RCNN, student=str(folder), controls=["teacher"])
    docstill.compress(parse_recipe(content), tmp_path / "run")
    assert docstill.load(tmp_path / "run" / "model").model.labels == list(KINDS)
    teacher = made(TINY_RCNN).save(tmp_path / "teacher")
    done = docstill.distill(
        teacher, str(folder), data, tmp_path / "by-itself", epochs=1, objectives=[{"kind": "labels"}, {"kind": "roi"}]
    )
    assert docstill.load(done["model"]).model.labels == list(KINDS)


def test_a_student_is_taught_made_narrower_and_taught_again(data: Path, tmp_path: Path) -> None:
    lesson = {
        "objectives": [{"kind": "labels"}, {"kind": "heads", "frozen": False}, {"kind": "roi"}, {"kind": "graphkd"}],
        "epochs": 1,
        "batch_size": 2,
    }
    content = layout_recipe(
        data,
        TINY_RCNN,
        stages=[{"distill": lesson}, {"prune": {"method": "channels", "keep": 0.5}}, {"distill": lesson}],
    )
    results = docstill.compress(parse_recipe({**content, "controls": ["teacher", "no-kd"]}), tmp_path / "run")
    narrow = docstill.load(tmp_path / "run" / "model").model.network
    assert narrow.config.widths == [32, 32, 64, 128, 256]
    student, twin = (next(row for row in results["rows"] if row["name"] == name) for name in ("student", "no-kd"))
    assert student["params"] == twin["params"]
    assert student["params"]["total"] < 0.4 * results["rows"][0]["params"]["total"]


@pytest.mark.parametrize(
    ("kind", "objectives"),
    [
        (TINY_RCNN, [{"kind": "labels"}, {"kind": "roi"}, {"kind": "graphkd", "weight": 0.1}]),
        (TINY_DETR, [{"kind": "labels"}, {"kind": "query"}]),
    ],
    ids=["faster-rcnn", "rt-detr"],
)
def test_stopping_and_going_on_changes_nothing(
    kind: dict[str, Any],
    objectives: list[dict[str, Any]],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regions are sampled and noise is drawn in every step: all of that comes from what a checkpoint holds."""
    pages = TASK.read(data / "train")
    teacher = made(kind)
    settings = {"objectives": objectives, "epochs": 2, "batch_size": 3, "augment": 0.5, "checkpoint_minutes": 0}
    whole, calls = engine.optimise, 0

    def learnt(folder: Path) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        height, width = kind["image_size"]
        student = new_detector(kind["new"], kind["config"], KINDS, (height, width))
        run_stage(Bench(TASK, pages, pages, teacher), student, Stage(distill=settings), folder, 0, "learning")
        return {name: value.clone() for name, value in student.network.state_dict().items()}

    def stopping(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(*arguments)

    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    expected = learnt(tmp_path / "whole")
    monkeypatch.setattr(engine, "optimise", stopping)
    with pytest.raises(KeyboardInterrupt):
        learnt(tmp_path / "stopped")
    monkeypatch.setattr(engine, "optimise", whole)
    found = learnt(tmp_path / "stopped")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_single_stages_from_the_command_line(data: Path, tmp_path: Path) -> None:
    def run(*words: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.stdout if "--json" in words else done.output

    teacher, student = tmp_path / "teacher", tmp_path / "student"
    small = ["--epochs", "1", "--batch-size", "3"]
    run(
        "train",
        "--task",
        "layout",
        "--new",
        "faster-rcnn-r18",
        "--image-size",
        "64x64",
        "--data",
        data,
        "--out",
        teacher,
        *small,
        "config={pyramid_channels: 16, head_channels: 32, regions: 16}",
    )
    assert TASK.load_model(str(teacher / "model")).network.config.pyramid_channels == 16
    assert TASK.page_size(TASK.load_model(str(teacher / "model"))) == (64, 64)
    begin = ["distill", teacher / "model", "--student", teacher / "model", "--data", data]
    done = json.loads(run(*begin, "--out", student, *small, "--json"))
    assert "query" in done["text"]
    wrong = run(*begin, "--out", tmp_path / "wrong", "objectives=[{kind: labels}, {kind: kd}]", code=2)
    assert "kd is for classification and kie, the task is layout" in " ".join(wrong.split())
    assert "give HEIGHTxWIDTH" in run(
        "train",
        "--task",
        "layout",
        "--new",
        "faster-rcnn-r18",
        "--image-size",
        "64",
        "--data",
        data,
        "--out",
        teacher,
        code=2,
    )


def test_objectives_of_other_tasks_are_refused(data: Path) -> None:
    content = layout_recipe(data, TINY_RCNN)
    content["stages"][0]["distill"]["objectives"] = [{"kind": "labels"}, {"kind": "kd"}]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content)
    assert "stages.0.distill.objectives.1.kind: kd is for classification and kie, the task is layout" in str(
        caught.value
    )


def test_the_teacher_labels_pages_without_labels(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docstill.teacher_regions import with_regions

    image, _ = drawn_page(77)
    image.save(tmp_path / "a.png")
    answer = {
        "regions": [
            {"label": "title", "box": [1.0, 2.0, 30.0, 4.0], "score": 0.9},
            {"label": "stamp", "box": [1.0, 2.0, 30.0, 4.0], "score": 0.8},
            {"label": "text", "box": [5.0, 20.0, 40.0, 30.0], "score": 0.4},
        ]
    }
    drawn_page(78)[0].save(tmp_path / "b.png")
    asked: list[Image.Image] = []

    def predict(_self: Layout, _model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        asked.extend(images)
        return [answer, {"regions": answer["regions"][1:]}]  # of b what is sure is no class of ours

    monkeypatch.setattr(Layout, "predict", predict)
    documents = [Document(tmp_path / f"{name}.png", None, (), f"{name}.png") for name in "ab"]
    teacher = made(TINY_RCNN)
    (found,) = with_regions(TASK, teacher, documents, list(KINDS), tmp_path, 0.5)
    assert found.where == "a.png"
    assert found.target == Regions((60, 90), ((1.0, 2.0, 30.0, 4.0),), (KINDS.index("title"),), (120.0,), (False,))
    assert with_regions(TASK, teacher, documents, list(KINDS), tmp_path, 0.5) == [found]
    assert len(asked) == 2, "a run that goes on does not look again"
    assert len(with_regions(TASK, teacher, documents, list(KINDS), tmp_path, 0.3)) == 2
    with torch.no_grad():
        next(teacher.network.parameters()).add_(1)
    with_regions(TASK, teacher, documents, list(KINDS), tmp_path, 0.5)
    assert len(asked) == 4, "another teacher looks itself"


def test_how_sure_the_teacher_must_be_of_regions(data: Path) -> None:
    """Scores of boxes that are right lie far below the probability of tokens that are."""

    def confidence(**changes: Any) -> float:
        content = layout_recipe(data, TINY_RCNN)
        content["stages"][0]["distill"]["objectives"].append({"kind": "roi"})
        content["data"] |= {"unlabelled": "more", **changes}
        study = {"task": "layout", "data": content["data"], "teachers": {"t": "t"}, "students": {"s": None}}
        (cell,) = cells(parse_study({**study, "methods": {"m": content["stages"]}}), {"t": "t"})
        recipe = parse_recipe(content)
        assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
        assert cell.recipe.data == recipe.data
        return recipe.data.confidence

    assert confidence() == 0.5
    assert confidence(confidence=0.8) == 0.8


def test_pages_without_labels_through_a_recipe(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = iter([0.6, 0.4, 0.9, 0.2])
    monkeypatch.setattr(
        Layout,
        "predict",
        lambda self, model, images: [
            {"regions": [{"label": "text", "box": [5.0, 5.0, 40.0, 20.0], "score": next(scores)}]} for _ in images
        ],
    )
    (tmp_path / "more").mkdir()
    for index in range(4):
        drawn_page(500 + index)[0].save(tmp_path / "more" / f"{index}.png")
    content = layout_recipe(data, TINY_RCNN)
    content["data"] |= {"unlabelled": str(tmp_path / "more")}
    content["stages"][0]["distill"]["objectives"] = [
        {"kind": "labels"},
        {"kind": "hint", "student_module": "backbone.fpn.layer_blocks.1", "weight": 0.1},
    ]
    content["controls"] = ["teacher"]
    results = docstill.compress(parse_recipe(content), tmp_path / "run")
    assert results["data"]["unlabelled"]["n"] == 2
    said = "on 2 of 4 unlabelled pages the teacher finds regions with a score of 0.5 or more, 2 in all"
    assert said in capsys.readouterr().err
    log = tmp_path / "run" / "seed-0" / "student" / "1-distill" / "metrics.jsonl"
    assert json.loads(log.read_text().splitlines()[-1])["step"] == 3, "8 pages in batches of 3"


def test_what_goes_wrong_is_warned_of_without_rows_for_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loose boxes, though the teacher has no row; a teacher that is sure of no page."""
    whole = Layout.evaluate

    def evaluate(self: Layout, model: DocumentModel, *given: Any) -> Evaluation:
        found = whole(self, model, *given)
        return replace(found, metrics={**found.metrics, "ap50": 0.8, "ap75": 0.1 if model.masks else 0.7})

    monkeypatch.setattr(Layout, "evaluate", evaluate)
    monkeypatch.setattr(Layout, "predict", lambda self, model, images: [{"regions": []} for _ in images])
    (tmp_path / "more").mkdir()
    drawn_page(500)[0].save(tmp_path / "more" / "0.png")
    teacher = made(TINY_RCNN).save(tmp_path / "teacher")
    distill = {"distill": {"objectives": [{"kind": "labels"}, {"kind": "roi"}], "epochs": 1, "batch_size": 6}}
    content = layout_recipe(data, TINY_RCNN, teacher=str(teacher), student=None, controls=[])
    content["stages"] = [{"prune": {"sparsity": 0.5}}, distill]
    content["data"] |= {"unlabelled": str(tmp_path / "more")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["compress", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["data"]["unlabelled"]["n"] == 0
    for says in (
        "The student finds the regions but does not localise them",
        f"No page of {tmp_path / 'more'} was used",
    ):
        assert sum(line.startswith(says) for line in results["warnings"]) == 1
        assert f"warning: {says}" in done.stdout
        assert page.count(says) == 1


@pytest.mark.parametrize(("keep", "warned"), [("best", False), ("last", True)])
def test_a_single_distil_stage_warns_of_loose_boxes_of_the_weights_that_it_kept(
    keep: str, warned: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run does: the student's best epoch places its boxes as well as its teacher, the last one loosely."""
    whole, looks = Layout.evaluate, iter([(0.5, 0.7), (0.4, 0.6), (0.3, 0.1)])

    def evaluate(self: Layout, model: DocumentModel, *given: Any) -> Evaluation:
        found, (ap, ap75) = whole(self, model, *given), next(looks)
        return replace(found, metrics={**found.metrics, "ap": ap, "ap50": 0.8, "ap75": ap75})

    monkeypatch.setattr(Layout, "evaluate", evaluate)
    teacher, student = (str(made(TINY_RCNN).save(tmp_path / name)) for name in ("teacher", "student"))
    settings = {"objectives": [{"kind": "labels"}, {"kind": "roi"}], "epochs": 2, "batch_size": 6, "keep": keep}
    done = docstill.distill(teacher, student, data, tmp_path / "out", **settings)
    loose = [line for line in done["warnings"] if line.startswith("The student finds the regions but does not")]
    says = "localise them: its AP75 is 12 % of its AP50, its teacher's 87 %."
    assert [line.partition("does not ")[2] for line in loose] == [says] * warned


@pytest.mark.parametrize(
    ("kind", "teacher", "stages"),
    [
        (TINY_RCNN, {"pyramid_channels": 16}, [f"backbone.fpn.layer_blocks.{level}" for level in range(3)]),
        (TINY_DETR, {}, [f"model.decoder_input_proj.{level}" for level in range(3)]),
    ],
    ids=["faster-rcnn", "rt-detr"],
)
def test_the_maps_of_a_pyramid_are_reviewed(
    kind: dict[str, Any], teacher: dict[str, Any], stages: list[str], data: Path, tmp_path: Path
) -> None:
    pages = TASK.read(data / "train")
    other = made({**kind, "config": {**kind["config"], **teacher}})
    objectives = [{"kind": "labels"}, {"kind": "review", "student_stages": stages, "width": 8, "weight": 10.0}]
    settings = {"objectives": objectives, "epochs": 8, "batch_size": 6, "learning_rate": 0.01, "keep": "last"}
    torch.manual_seed(5)
    student = new_detector(kind["new"], kind["config"], KINDS, (96, 64))
    run_stage(Bench(TASK, pages, pages, other), student, Stage(distill=settings), tmp_path, 0, "learning")
    seen = [line["review"] for line in read_metrics(tmp_path / "metrics.jsonl") if "review" in line]
    assert np.isfinite(seen).all()
    assert seen[-1] < 0.9 * seen[0]


def test_a_detector_on_pages_from_elsewhere(data: Path, tmp_path: Path) -> None:
    made(TINY_RCNN).save(tmp_path / "model")
    other = coco_folder(tmp_path / "other", train=1, validation=2)
    found = docstill.evaluate(tmp_path / "model", data, shift=other / "validation")["shift"]
    assert found["n"] == 2
    assert found["kind"] == "pages"


def test_an_rt_detr_is_made_narrower_and_taught_by_what_it_was(data: Path, tmp_path: Path) -> None:
    made(TINY_DETR).save(tmp_path / "teacher")
    given = [
        f"data.train={data / 'train'}",
        f"data.validation={data / 'validation'}",
        f"teacher={tmp_path / 'teacher'}",
    ]
    recipe = load_recipe(find_recipe("layout-rt-detrv2-narrow"), [*given, "stages.1.distill.epochs=1", "repeats=1"])
    results = docstill.compress(recipe, tmp_path / "run")
    teacher, student, twin = results["rows"]
    assert student["params"]["total"] == twin["params"]["total"] < teacher["params"]["total"]
    curve = next(one["points"] for one in results["curves"] if one["name"] == "student")
    assert {"labels", "heads"} <= set(curve[0])
