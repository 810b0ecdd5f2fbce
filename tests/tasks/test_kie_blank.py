"""Pages with so little writing that they are taken for blank: how many were, and models that are shown them all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import docstill
from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.models.io import CARD
from docstill.synthesis.generator import Generator
from docstill.synthesis.stream import Stream
from docstill.tasks.base import Pages
from docstill.tasks.kie import Kie
from docstill.tasks.kie_blank import BLANK_GUARD
from kie_tiny import ANSWERS, tiny_donut, tiny_folder

KIE = Kie()
pytestmark = pytest.mark.usefixtures("one_thread")


def meters(folder: Path, answers: list[dict[str, Any]]) -> Pages:
    """Pictures with the first digit of what is on a meter, or with nothing."""
    tiny_folder(folder, answers)
    for index, answer in enumerate(answers):
        image = Image.new("RGB", (400, 120), "white")
        ImageDraw.Draw(image).text((190, 30), str(answer.get("total", ""))[:1], fill="black", font_size=48)
        image.save(folder / f"{index}.png")
    return KIE.read(folder)


def test_a_model_that_is_to_read_a_digit_is_shown_every_page(tmp_path: Path) -> None:
    pages, model = meters(tmp_path / "pages", [{"total": 7}, {"total": "4"}]), tiny_donut()
    (answer,) = KIE.predict(model, [open_image(pages.documents[0].file)])
    assert answer["blank"]
    KIE.before_learning(model, pages)
    assert json.loads((model.save(tmp_path / "model") / CARD).read_text())[BLANK_GUARD] is False
    (answer,) = KIE.predict(KIE.load_model(str(tmp_path / "model")), [open_image(pages.documents[0].file)])
    assert answer["text"]
    assert not answer["blank"]
    assert KIE.evaluate(model, pages).metrics["blank"] == {"pages": 0, "with_fields": 0}
    KIE.before_learning(model, KIE.read(tiny_folder(tmp_path / "others")))
    assert BLANK_GUARD not in model.card, "it has learnt from other pages since"


@pytest.mark.parametrize("empty", [{}, {"total": ""}, {"total": None}])
def test_pages_that_are_rightly_blank_say_nothing(tmp_path: Path, empty: dict[str, Any]) -> None:
    pages, model = meters(tmp_path / "pages", [empty, empty]), tiny_donut()
    whole = KIE.read(tiny_folder(tmp_path / "others"))
    KIE.before_learning(model, Pages(pages.folder, [*pages.documents, *whole.documents]))
    assert BLANK_GUARD not in model.card


def test_one_empty_scan_with_fields_among_many_pages_is_a_mistake_in_the_data(tmp_path: Path) -> None:
    (wrong,), model = meters(tmp_path / "pages", [{"total": "7"}]).documents, tiny_donut()
    whole = KIE.read(tiny_folder(tmp_path / "others", ANSWERS[:1] * 24))
    KIE.before_learning(model, Pages(whole.folder, [wrong, *whole.documents]))
    assert BLANK_GUARD not in model.card
    KIE.before_learning(model, Pages(whole.folder, [wrong, wrong, *whole.documents]))
    assert model.card[BLANK_GUARD] is False


def test_generated_pages_are_not_drawn_for_this() -> None:
    def draw() -> Image.Image:
        raise AssertionError

    only = {"total": "7"}  # one key: its order need not be looked for
    document, model = Document(Path("0"), only, (only,), "0", draw=draw), tiny_donut()
    KIE.before_learning(model, Pages(Path("drawn"), [document], stream=Stream(Generator("labels", 0), 1)))
    assert BLANK_GUARD not in model.card


def test_what_is_kept_from_a_model_is_counted(tmp_path: Path) -> None:
    model = tiny_donut()
    model.network.config.decoder.max_position_embeddings = 12
    pages = meters(tmp_path / "pages", [{"total": "7"}, {}, {"total": "4"}])
    whole = KIE.read(tiny_folder(tmp_path / "others", ANSWERS[:1]))
    metrics = KIE.evaluate(model, Pages(pages.folder, [*pages.documents, *whole.documents])).metrics
    assert metrics["blank"] == {"pages": 3, "with_fields": 2}


def test_evaluate_says_that_pages_with_fields_were_kept_from_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_donut().save(tmp_path / "model")
    folder = tiny_folder(tmp_path / "pages")
    Image.new("RGB", (150, 150), "white").save(folder / "0.png")
    docstill.evaluate(tmp_path / "model", folder)
    assert "no writing was found on 1 page with fields, so the model was not shown it" in capsys.readouterr().err
