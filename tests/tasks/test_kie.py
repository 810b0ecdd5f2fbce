"""The kie task: examples, batches, losses, scores, and one model that learns four pages by heart."""

from __future__ import annotations

import dataclasses
import json
import random
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import docstill
from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.json_tokens import json_to_tokens
from docstill.decoding.reading import Reading, reading
from docstill.decoding.steps import Steps
from docstill.errors import DataError, ModelError, UserError
from docstill.models.donut import add_tags, resize_positions
from docstill.models.donut_tokens import decode, encode
from docstill.models.io import DocumentModel
from docstill.models.size import count_flops
from docstill.pruning.vocabulary import needed_tokens
from docstill.similarity.comparison import comparison
from docstill.tasks.base import ModelSpec, Pages
from docstill.tasks.kie import Kie
from docstill.tasks.kie_reading import pages_at_once
from kie_tiny import ANSWERS, TAGS, like_published, page, tiny_donut, tiny_folder

KIE = Kie()
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return KIE.read(tiny_folder(tmp_path_factory.mktemp("pages")))


def examples(model: DocumentModel, pages: Pages, rng: random.Random | None = None) -> list[dict[str, Any]]:
    return [KIE.example(model, document, open_image(document.file), [], rng) for document in pages.documents]


def with_answers(pages: Pages, *answers: Any) -> Pages:
    """The first page of ``pages`` with other answers."""
    document = dataclasses.replace(pages.documents[0], target=answers[0] if answers else None, variants=answers)
    return Pages(pages.folder, [document])


def test_an_example_is_start_answer_end(pages: Pages) -> None:
    model = tiny_donut()
    example = examples(model, pages)[0]
    ids, tokenizer = example["ids"].tolist(), model.processor.tokenizer
    assert ids[0] == model.network.config.decoder_start_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert decode(tokenizer, ids[1:]) == json_to_tokens(ANSWERS[0])
    assert example["pixel_values"].shape == (3, 160, 160)
    assert example["pixel_values"].dtype == torch.float32


def test_a_vocabulary_without_the_bare_one_is_mended_whether_or_not_it_has_the_tags(pages: Pages) -> None:
    model = like_published(bare_one=False)
    with pytest.raises(DataError, match=r"no character '1'; `docstill train --model` adds the bare 1"):
        KIE.check_model(model, pages)
    before = len(model.processor.tokenizer)
    KIE.adapt(model, pages)
    KIE.check_model(model, pages)
    assert len(model.processor.tokenizer) == before + 1
    assert model.network.config.decoder.vocab_size >= before + 1


def test_categories_are_tokens_of_their_own(pages: Pages) -> None:
    """As published models write kinds of documents, yes and no."""
    model = tiny_donut(tags=[*TAGS, "<s_class>", "</s_class>", "<letter/>"])
    letters = with_answers(pages, {"class": "letter", "shop": ["letter", "form"]})
    ids = examples(model, letters)[0]["ids"].tolist()
    tokenizer = model.processor.tokenizer
    letter = tokenizer.convert_tokens_to_ids("<letter/>")
    assert ids.count(letter) == 2
    read = reading(tokenizer, ids[1:], [-0.1] * len(ids[1:]))
    assert read.fields == {"class": "letter", "shop": ["letter", "form"]}
    assert read.confidence["class"] > read.confidence["shop"][1]
    KIE.check_model(model, letters)
    kept = needed_tokens(tokenizer, ["<s_shop>a</s_shop>"], model.network.config.decoder_start_token_id)
    assert letter in kept
    assert "<letter/>" not in json_to_tokens({"class": "letter"})


def test_answers_and_places_are_drawn_only_in_training(pages: Pages) -> None:
    model = tiny_donut()
    several = with_answers(pages, {"total": "1"}, {"total": "22"})
    image = page(ANSWERS[0], (100, 50))

    def look(seed: int | None) -> tuple[int, float]:
        rng = None if seed is None else random.Random(seed)
        example = KIE.example(model, several.documents[0], image, [], rng)
        return len(example["ids"]), float((example["pixel_values"][0] * torch.arange(160)[:, None]).sum())

    assert look(None) == look(None)
    assert look(3) == look(3)
    drawn = [look(seed) for seed in range(12)]
    assert {length for length, _ in drawn} == {5, 6}
    assert look(None)[0] == 5
    assert len({place for _, place in drawn}) > 6


def test_teacher_and_student_get_the_same_answer(pages: Pages) -> None:
    teacher, student = tiny_donut(image_size=(320, 320)), tiny_donut()
    several = with_answers(pages, *({"total": str(number)} for number in range(10))).documents[0]
    for seed in range(5):
        first, second = (
            KIE.example(model, several, page({}), [], random.Random(seed))["ids"] for model in (teacher, student)
        )
        assert torch.equal(first, second)


def test_two_models_are_shown_the_same_where_canvas_tokens_and_room_are_the_same() -> None:
    model = tiny_donut()
    assert KIE.shown_alike(model, tiny_donut(seed=1))
    assert not KIE.shown_alike(model, tiny_donut(image_size=(320, 320)))
    assert not KIE.shown_alike(model, tiny_donut(tags=["<s_shop>", "</s_shop>"]))
    shorter = tiny_donut()
    shorter.network.config.decoder.max_position_embeddings -= 1
    assert not KIE.shown_alike(model, shorter)


def test_padding_never_counts(pages: Pages) -> None:
    """A longer document in the batch changes nothing for the shorter one."""
    model = tiny_donut()
    short, *others = sorted(examples(model, pages), key=lambda example: len(example["ids"]))
    assert len(others[-1]["ids"]) > len(short["ids"])
    with torch.no_grad():
        alone = KIE.forward(model, KIE.collate(model, [short]))
        together = KIE.forward(model, KIE.collate(model, [short, *others]))
    count = len(short["ids"]) - 1
    assert len(alone.targets) == count
    assert together.documents == 4
    assert torch.equal(together.targets[:count], alone.targets)
    assert torch.allclose(together.logits[:count], alone.logits, atol=1e-5)
    assert len(together.logits) == len(together.targets) == sum(len(example["ids"]) - 1 for example in [short, *others])
    assert model.processor.tokenizer.pad_token_id not in together.targets


def test_the_loss_is_that_of_transformers_not_shifted_twice(pages: Pages) -> None:
    """transformers 4.50 to 4.57 shifted the labels a second time; our loss is made from logits."""
    model = tiny_donut()
    batch = KIE.collate(model, examples(model, pages))
    with torch.no_grad():
        outputs = KIE.forward(model, batch)
        theirs = model.network(pixel_values=batch["pixel_values"], labels=batch["labels"]).loss
    assert outputs.logits.dtype == torch.float32
    assert abs(F.cross_entropy(outputs.logits, outputs.targets) - theirs) < 1e-5


def test_pages_of_another_size_are_refused(pages: Pages) -> None:
    model = tiny_donut()
    batch = KIE.collate(model, examples(model, pages))
    batch["pixel_values"] = batch["pixel_values"][..., :128]
    with pytest.raises(ModelError, match="160 × 160"):
        KIE.forward(model, batch)


def test_unlabelled_pages_are_refused(pages: Pages) -> None:
    with pytest.raises(UserError, match="no ground_truth"):
        KIE.check_model(tiny_donut(), with_answers(pages))


def test_all_answers_a_model_cannot_write_are_listed_at_once(pages: Pages) -> None:
    documents = [
        Document(Path(f"{index}.png"), answer, (answer,), f"metadata.jsonl:{index + 1}")
        for index, answer in enumerate(
            [{"total": "1"}, {"date": "1"}, {"total": "1€ é"}, {"total": "9" * 126}, {"total": "9" * 125}]
        )
    ]
    with pytest.raises(DataError) as caught:
        KIE.check_model(tiny_donut(), Pages(pages.folder, documents))
    problems = caught.value.problems
    assert [problem.split(": ")[0] for problem in problems] == [
        "metadata.jsonl:2",
        "metadata.jsonl:3",
        "metadata.jsonl:4",
    ]
    assert "<s_date>" in problems[0]
    assert "'é'" in problems[1]
    assert "'€'" in problems[1]
    assert "129" in problems[2]


def test_longest_answer_that_fits_is_read_to_its_end(pages: Pages) -> None:
    model = tiny_donut()
    fits, too_long = with_answers(pages, {"total": "9" * 125}), with_answers(pages, {"total": "9" * 126})
    KIE.check_model(model, fits)
    batch = KIE.collate(model, examples(model, fits))
    with torch.no_grad():
        assert len(KIE.forward(model, batch).logits) == 128
    with pytest.raises(DataError, match="too long"):
        examples(model, too_long)
    resize_positions(model, 160)
    KIE.check_model(model, too_long)
    assert len(examples(model, too_long)[0]["ids"]) == 130


def test_vocabularies_must_agree() -> None:
    teacher, student = tiny_donut(), tiny_donut()
    KIE.check_pair(teacher, student)
    add_tags(student, ["<s_date>"])
    with pytest.raises(ModelError, match="only the student has '<s_date>'"):
        KIE.check_pair(teacher, student)
    add_tags(student, ["<s_tax>"])
    for tag in ("<s_tax>", "<s_date>"):
        add_tags(teacher, [tag])
    with pytest.raises(ModelError, match="other ids"):
        KIE.check_pair(teacher, student)
    KIE.check_pair(teacher, tiny_donut())  # fewer tokens: a trimmed student


def test_a_new_model_fits_its_pages_and_its_teacher(pages: Pages) -> None:
    accented = with_answers(pages, {"total": "9" * 120, "shop": "Łódź"})
    teacher = KIE.new_model(ModelSpec("donut-tiny"), accented)
    KIE.check_model(teacher, accented)
    assert teacher.network.config.decoder.max_position_embeddings == 192  # 128 and a quarter more, in steps of 32
    student = KIE.new_model(ModelSpec("donut-tiny", {"decoder": {"d_model": 32}}), accented, teacher)
    KIE.check_pair(teacher, student)
    KIE.check_model(student, accented)
    given = KIE.new_model(ModelSpec("donut-tiny", {"decoder": {"max_position_embeddings": 300}}, (160, 320)), accented)
    assert given.network.config.decoder.max_position_embeddings == 300
    assert KIE.page_size(given) == (320, 160)


def test_reading_leaves_the_model_as_it_was(pages: Pages) -> None:
    """An untrained model scores, whatever it writes, and every document counts."""
    model = tiny_donut()
    model.network.train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    done: list[int] = []
    evaluation = KIE.evaluate(model, pages, done.append)
    assert model.network.training
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert sum(done) == len(evaluation.documents) == 4
    assert [judged.file for judged in evaluation.documents] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(
        0 <= evaluation.metrics[name] <= 1 for name in ("field_f1", "precision", "recall", "ted_accuracy", "reading")
    )
    assert next(iter(evaluation.metrics)) == KIE.primary_metric


@pytest.mark.parametrize("text", ["<s_total>", "</s_total><s_shop>", "9.00", "", "<s_total><sep/></s_shop>"])
def test_whatever_cannot_be_parsed_scores_nothing(pages: Pages, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def write(model: DocumentModel, images: list[Any], draft: None) -> list[Reading]:
        tokenizer = model.processor.tokenizer
        return [reading(tokenizer, encode(tokenizer, text), [0.0] * 20)] * len(images)

    monkeypatch.setattr("docstill.tasks.kie_reading._write", write)
    evaluation = KIE.evaluate(tiny_donut(), pages)
    assert evaluation.metrics["field_f1"] == 0
    assert len(evaluation.documents) == 4
    assert [judged.score for judged in evaluation.documents] == [0, 0, 0, 0]


def test_zero_and_false_are_right_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_folder(tmp_path / "zeros", [{"tax": 0, "open": False, "a": "x"}, {"a": 0.0}])
    pages = KIE.read(folder)
    right = iter([json_to_tokens(document.target) for document in pages.documents])

    def write(model: DocumentModel, images: list[Any], draft: None) -> list[Reading]:
        tokenizer = model.processor.tokenizer
        return [reading(tokenizer, ids := encode(tokenizer, next(right)), [0.0] * len(ids)) for _ in images]

    monkeypatch.setattr("docstill.tasks.kie_reading._write", write)
    model = KIE.new_model(ModelSpec("donut-tiny"), pages)
    evaluation = KIE.evaluate(model, pages)
    assert evaluation.metrics["field_f1"] == evaluation.metrics["ted_accuracy"] == 1
    assert [judged.score for judged in evaluation.documents] == [1, 1]
    (tmp_path / "said.jsonl").write_text("\n".join(json.dumps(line) for line in evaluation.answers))
    scored = docstill.score("kie", tmp_path / "said.jsonl", folder / "metadata.jsonl")
    assert scored["metrics"]["field_f1"] == 1


def test_of_several_right_answers_the_nearest_counts(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: DocumentModel, images: list[Any], draft: None) -> list[Reading]:
        tokenizer = model.processor.tokenizer
        ids = encode(tokenizer, json_to_tokens({"total": "9.0"}))
        return [reading(tokenizer, ids, [0.0] * len(ids))] * len(images)

    monkeypatch.setattr("docstill.tasks.kie_reading._write", write)
    model = tiny_donut()
    several = with_answers(pages, {"shop": "B"}, {"total": 9.0}, {"total": "9"})
    evaluation = KIE.evaluate(model, several)
    assert evaluation.metrics["field_f1"] == evaluation.metrics["reading"] == 1
    assert evaluation.documents[0].expected == {"total": "9.0"}
    alike = comparison(KIE, model, model, Pages(several.folder, several.documents * 4))["agreement"]
    assert alike["both_right"] == 4
    assert alike["against_truth"]["field_f1"]["teacher"] == 1
    one = KIE.evaluate(model, with_answers(pages, {"total": "9"}))
    assert (one.metrics["field_f1"], one.metrics["ted_accuracy"] < 1) == (0, True)


@pytest.mark.parametrize(("height", "width", "pages"), [(150, 150, 16), (1280, 960, 4), (2560, 1920, 1)])
def test_large_pages_are_read_in_small_batches(height: int, width: int, pages: int) -> None:
    model = tiny_donut()
    model.processor.image_processor.size = {"height": height, "width": width}
    assert pages_at_once(model) == pages


def test_latency_parts_count_what_they_do() -> None:
    parts = KIE.latency_parts(tiny_donut(), [page(answer) for answer in ANSWERS[:2]])
    assert {name: [part() for _ in range(3)][-1] for name, part in parts.items()} == {
        "encoder": 1,
        "per_token": 32,
        "document": 1,
    }


def test_timing_holds_what_was_made_of_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page in its turn, whose tokens are timed when the encoder has seen it; that is no part of a token's time."""
    held: weakref.WeakSet[Steps] = weakref.WeakSet()
    made: list[float] = []

    def begin(network: Any, seen: torch.Tensor) -> Steps:
        held.add(steps := Steps(network, seen))
        made.append(float(seen.sum()))
        return steps

    monkeypatch.setattr("docstill.tasks.kie_reading.Steps", begin)
    parts = KIE.latency_parts(tiny_donut(), [page(answer) for answer in ANSWERS[:3]])
    for turn in range(6):
        parts["encoder"]()
        assert len(made) == turn + 1
        parts["per_token"]()
        assert (len(made), len(held)) == (turn + 1, 1)
    assert made[:3] == made[3:]
    assert len(set(made)) == 3


def test_four_pages_are_learnt_by_heart(pages: Pages, tmp_path: Path) -> None:
    """The whole way: pages, training, writing, saving, loading, scoring, reading."""
    torch.manual_seed(0)
    model = KIE.new_model(ModelSpec("donut-tiny"), pages)
    KIE.check_model(model, pages)
    assert KIE.evaluate(model, pages).metrics["field_f1"] < 0.5
    batch = KIE.collate(model, examples(model, pages))
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=0.0)
    model.network.train()
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1, (step + 1) / 20) * (1 if step < 100 else 0.2)
        outputs = KIE.forward(model, batch)
        loss = F.cross_entropy(outputs.logits, outputs.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05

    loaded = KIE.load_model(str(model.save(tmp_path / "model")))
    evaluation = KIE.evaluate(loaded, pages)
    assert evaluation.metrics["field_f1"] == evaluation.metrics["ted_accuracy"] == evaluation.metrics["reading"] == 1.0
    assert [judged.predicted for judged in evaluation.documents] == ANSWERS
    (read,) = KIE.predict(loaded, [page(ANSWERS[2])])
    assert (read["fields"], read["text"], read["blank"]) == (ANSWERS[2], json_to_tokens(ANSWERS[2]), False)
    assert read["confidence"].keys() == ANSWERS[2].keys()
    assert all(0.5 < confidence <= 1 for confidence in (*read["confidence"].values(), read["document_confidence"]))


def test_a_tokens_operations_are_its_own() -> None:
    """And not a share of what is done once for a page, such as the decoder's keys and values of it."""
    model = tiny_donut(positions=80)
    parts = KIE.latency_parts(model, [page({"a": "b"})])
    parts["per_token"]()
    tokens: list[int] = []
    counted = count_flops(lambda: tokens.append(parts["per_token"]())) / tokens[0]
    layers = sum(
        part.weight.numel()
        for name, part in model.network.decoder.named_modules()
        if isinstance(part, torch.nn.Linear) and "encoder_attn.k" not in name and "encoder_attn.v" not in name
    )
    assert 2 * layers <= counted < 2.3 * layers
