"""The objective `reading`: by hand, through wear and canvas to the patch, in training, and where it cannot be used."""

from __future__ import annotations

import json
import math
import random
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import docstill
from docstill.data.document import Glyphs
from docstill.data.donut_folder import read_donut_folder, scan_donut_folder
from docstill.data.images import open_image
from docstill.errors import RecipeError, UserError
from docstill.models.donut_page import page_to_pixels, placed, placement
from docstill.models.glyphs import in_patches, kinds_of_characters
from docstill.objectives.base import Outputs
from docstill.objectives.reading import Reading
from docstill.recipe import parse_stage
from docstill.settings import DistillStage, NewModel, TrainStage
from docstill.stages import labels_only
from docstill.synthesis.generator import Generator
from docstill.synthesis.wear import worn
from docstill.tasks.kie import Kie
from kie_tiny import glyph_folder, tiny_donut, tiny_folder


def outputs(features: torch.Tensor, glyphs: list[list[int]], kinds: int) -> Outputs:
    known = torch.tensor(glyphs, dtype=torch.int64).reshape(-1, 3)
    return Outputs(
        torch.zeros(1, 2),
        torch.zeros(1, dtype=torch.int64),
        len(features),
        {"encoder": features},
        glyphs=(known, kinds),
    )


def test_by_hand() -> None:
    """Two documents, one patch, two kinds; nothing is known of the second."""
    student = outputs(torch.zeros(2, 1, 3), [[0, 0, 1]], 2)
    reading = Reading(positive=5.0)
    reading.prepare(student, None)
    assert isinstance(reading.layer, torch.nn.Linear)
    torch.nn.init.zeros_(reading.layer.weight)
    reading.layer.bias.data = torch.tensor([math.log(3.0), 0.0])
    # kind 0 is not there: −log(1 − 3/4); kind 1 is: 5 × −log(1/2); over two kinds, one patch, two documents
    assert reading(student, None).item() == pytest.approx((math.log(4) + 5 * math.log(2)) / 2 / 2)


def test_a_page_that_is_known_to_hold_nothing_asks_for_no_character() -> None:
    """The first document says that it is empty, the second where a character stands, the third nothing."""
    student = outputs(torch.zeros(3, 2, 3), [[0, -1, -1], [1, 1, 0], [1, 1, 0]], 2)
    reading = Reading(positive=5.0)
    reading.prepare(student, None)
    assert isinstance(reading.layer, torch.nn.Linear)
    torch.nn.init.zeros_(reading.layer.weight)
    reading.layer.bias.data = torch.tensor([math.log(3.0), 0.0])
    absent = math.log(4) + math.log(2)  # what one patch adds where neither kind is
    empty, written = 2 * absent, absent + 5 * math.log(4 / 3) + math.log(2)
    assert reading(student, None).item() == pytest.approx((empty + written) / 2 / 2 / 3)
    optimiser = torch.optim.SGD(reading.parameters(), lr=0.1)
    reading(outputs(torch.zeros(1, 2, 3), [[0, -1, -1]], 2), None).backward()
    optimiser.step()
    assert (reading.layer.bias < torch.tensor([math.log(3.0), 0.0])).all()


def test_accumulated_batches_weigh_like_one() -> None:
    features = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    glyphs = [[0, 1, 2], [2, 0, 0], [2, 2, 1]]
    reading = Reading()
    whole = outputs(features, glyphs, 3)
    reading.prepare(whole, None)
    alone = [
        reading(
            outputs(features[index : index + 1], [[0, *rest] for number, *rest in glyphs if number == index], 3), None
        )
        for index in range(4)
    ]
    assert reading(whole, None).item() == pytest.approx(sum(loss.item() for loss in alone) / 4)
    nothing = Outputs(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), 4, {"encoder": features})
    assert reading(nothing, None).item() == 0


def test_pages_that_do_not_say_where_characters_stand_are_refused() -> None:
    with pytest.raises(UserError, match=r"generate some with `docstill synth … --glyphs`"):
        Reading().prepare(Outputs(torch.zeros(1, 2), torch.zeros(1), 1, {"encoder": torch.zeros(1, 1, 1)}), None)


@pytest.mark.parametrize("fault", ["skew", "perspective"])
def test_wear_takes_points_with_it(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A black dot is found where the point on it is said to have gone."""
    monkeypatch.setattr("docstill.synthesis.wear.FAULTS", (fault,))
    monkeypatch.setattr("docstill.synthesis.wear._on_paper", lambda image, rng: image)
    moved = 0
    for seed in range(24):
        x, y = random.Random(seed).choice([(70, 60), (330, 70), (60, 230), (340, 240)])
        sheet = Image.new("RGB", (400, 300), "white")
        sheet.paste((0, 0, 0), (x - 3, y - 3, x + 4, y + 4))
        image, [[left, top]] = worn(sheet, np.array([[x + 0.5, y + 0.5]]), random.Random(seed), 1.0)
        values = np.asarray(image.convert("L")).astype(float)
        near = values[int(top) - 12 : int(top) + 13, int(left) - 12 : int(left) + 13].min(initial=255)
        rows, columns = np.nonzero(values < 50)
        assert near < 60
        assert left == pytest.approx(columns.mean() + 0.5, abs=1)
        assert top == pytest.approx(rows.mean() + 0.5, abs=1)
        moved += (left, top) != (x + 0.5, y + 0.5)
    assert moved > 5


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("size", [(90, 200), (200, 90), (150, 150)])
def test_points_lie_on_the_canvas_where_the_page_lies(turns: bool, size: tuple[int, int]) -> None:
    processor = tiny_donut(image_size=(320, 160)).processor.image_processor
    processor.do_align_long_axis = turns
    page = Image.new("RGB", size, "white")
    x, y = round(0.73 * size[0]), round(0.23 * size[1])
    page.paste((0, 0, 0), (x - 4, y - 4, x + 4, y + 4))
    where = placement(page.size, processor, random.Random(3))
    pixels = placed(page, processor, where)
    assert np.array_equal(pixels, page_to_pixels(page, processor, random.Random(3)))
    left, top = where.point(x / size[0], y / size[1])
    dark = pixels.mean(0)[round(top) - 2 : round(top) + 2, round(left) - 2 : round(left) + 2]
    assert dark.max() < 0
    assert where.turned == (turns and size == (200, 90))
    model = tiny_donut(image_size=(320, 160))
    [(character, patch)] = in_patches(
        Glyphs("a", array("f", [x / size[0], y / size[1]])), where, model.network.config.encoder
    )
    assert character == "a"
    assert patch == int(top // 32) * 5 + int(left // 32)
    assert in_patches(Glyphs("a", array("f", [40.0, 0.0])), where, model.network.config.encoder) == []


def test_a_batch_knows_patches_and_kinds(tmp_path: Path) -> None:
    model, task = tiny_donut(), Kie()
    pages = task.read(glyph_folder(tmp_path))
    examples = [task.example(model, document, open_image(document.file), [], None) for document in pages.documents]
    batch = task.collate(model, examples)
    kinds = kinds_of_characters(model.processor.tokenizer)
    assert "€" not in kinds
    expected = [[document, patch, kinds[sign]] for document in range(3) for sign, patch in (("A", 6), ("9", 24))]
    assert batch["glyphs"].tolist() == expected
    result = task.forward(model, batch)
    assert result.glyphs is not None
    assert result.glyphs[1] == len(kinds)
    assert "glyphs" not in task.collate(model, examples[3:])
    file = tmp_path / "metadata.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    says = ({"glyphs": []}, {"glyphs": None, "lines": []}, {"glyphs": [["€", 0.5, 0.5]]}, {"glyphs": None})
    file.write_text("".join(json.dumps(line | said) + "\n" for line, said in zip(lines, says, strict=True)))
    documents = task.read(tmp_path).documents
    examples = [task.example(model, document, open_image(document.file), [], None) for document in documents]
    assert task.collate(model, examples)["glyphs"].tolist() == [[0, -1, -1], [1, -1, -1], [2, -1, -1]]


def test_training_with_it_teaches_where_characters_stand(tmp_path: Path) -> None:
    glyph_folder(tmp_path / "data" / "train")
    tiny_folder(tmp_path / "data" / "validation")
    options: dict[str, Any] = {
        "epochs": 12,
        "batch_size": 4,
        "learning_rate": 0.003,
        "precision": "fp32",
        "reading": 20.0,
    }
    docstill.train("kie", NewModel(new="donut-tiny"), tmp_path / "data", tmp_path / "out", **options)
    lines = [json.loads(line) for line in next((tmp_path / "out").rglob("metrics.jsonl")).read_text().splitlines()]
    assert lines[-1]["reading"] < 0.5 * lines[0]["reading"]


def test_one_page_that_says_it_is_enough(tmp_path: Path) -> None:
    """Whatever the seed, and the order of the pages with it; objectives are shown eight pages before the first step."""
    for split in ("train", "validation"):
        tiny_folder(tmp_path / split, [{"total": f"{number}.00"} for number in range(24)])
    file = tmp_path / "train" / "metadata.jsonl"
    first, *rest = file.read_text().splitlines()
    known = json.dumps(json.loads(first) | {"lines": [{"text": "9.00", "box": [10, 30, 60, 60]}]})
    file.write_text("\n".join([known, *rest]) + "\n")
    new = NewModel(new="donut-tiny", image_size=(160, 160))
    for seed in range(3):
        docstill.train("kie", new, tmp_path, tmp_path / f"{seed}", seed, reading=2.0, epochs=0.1, batch_size=2)
    file.write_text("\n".join([first, *rest]) + "\n")
    with pytest.raises(UserError, match="give `lines` that OCR found"):
        docstill.train("kie", new, tmp_path, tmp_path / "none", reading=2.0, epochs=0.1, batch_size=2)


def test_generated_pages_say_it_and_are_read_back(tmp_path: Path) -> None:
    docstill.synth("labels", tmp_path / "labels", 3, glyphs=True)
    documents = read_donut_folder(tmp_path / "labels")
    drawn = Generator("labels").drawn(1)
    read = documents[1].glyphs
    assert read is not None
    assert read.characters == "".join(sign for sign, _, _ in drawn.glyphs)
    assert np.allclose([place for _, *place in read.each()], [place for _, *place in drawn.glyphs], atol=1e-4)
    with pytest.raises(UserError, match="not for layout"):
        docstill.synth("layout", tmp_path / "layout", 1, glyphs=True)
    code = drawn.truth["tracking_code"]
    assert "".join(sign for sign, _, _ in drawn.glyphs).count(code) == 1
    assert all(-0.02 < share < 1.02 for _, *place in drawn.glyphs for share in place)


@pytest.mark.parametrize("wrong", ['"abc"', '[["ab", 0, 0]]', '[["a", 0]]', '[["a", 0, NaN]]', '[["a", "0", 0]]'])
def test_places_that_are_none_are_named_with_their_line(wrong: str, tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    path = tmp_path / "metadata.jsonl"
    path.write_text(path.read_text().replace('{"file_name": "1.png"', '{"glyphs": ' + wrong + ', "file_name": "1.png"'))
    _, problems = scan_donut_folder(tmp_path)
    assert len(problems) == 1
    assert problems[0].startswith("metadata.jsonl:2: glyphs must be a list of [character, x, y]")


def test_it_is_not_for_augmented_pages() -> None:
    with pytest.raises(RecipeError, match="leave augment out"):
        parse_stage("train", {"reading": 20, "augment": 1})
    with pytest.raises(RecipeError, match="leave augment out"):
        parse_stage("distill", {"objectives": [{"kind": "reading"}], "augment": 1})


def test_the_twin_without_a_teacher_reads_as_well() -> None:
    stage = DistillStage(
        objectives=[{"kind": "labels", "weight": 0.3}, {"kind": "kd"}, {"kind": "reading", "weight": 20.0}]
    )
    assert labels_only(stage) == [{"kind": "labels", "weight": 1.0}, {"kind": "reading", "weight": 20.0}]
    assert labels_only(TrainStage(reading=20)) == [
        {"kind": "labels", "smoothing": 0.0},
        {"kind": "reading", "weight": 20.0},
    ]
    assert labels_only(TrainStage()) == [{"kind": "labels", "smoothing": 0.0}]
