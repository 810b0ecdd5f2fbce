"""On-policy batches: what the student writes is what both look at, and nothing in it counts as right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from docstill.batches import epoch_batches, page_set
from docstill.chains import Chain, without_teacher
from docstill.decoding.writing import drawn_answers
from docstill.errors import ModelError, RecipeError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.models.donut_answers import answers_batch, rows_of
from docstill.models.io import DocumentModel
from docstill.objectives.base import UNLABELLED
from docstill.on_policy import OWN, with_own_answers
from docstill.prune_settings import VocabularyPrune
from docstill.prune_stage import prune
from docstill.recipe import parse_recipe
from docstill.settings import DistillStage, Stage
from docstill.stages import Bench, learn
from docstill.tasks.base import Pages
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, like_published, tiny_donut, tiny_folder

KIE = Kie()
KD = [{"kind": "labels"}, {"kind": "kd", "temperature": 1.0}]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return KIE.read(tiny_folder(tmp_path_factory.mktemp("own") / "train"))


def stage(share: float, **changes: Any) -> DistillStage:
    return DistillStage(objectives=KD, on_policy=share, batch_size=2, epochs=1, learning_rate=1e-4, **changes)


def batch_of(pages: Pages, student: DocumentModel, teacher: DocumentModel, share: float) -> dict[str, Any]:
    return next(epoch_batches(page_set(KIE, pages, student, teacher, stage(share), 0), 0, 0, 2, 0))


def test_both_look_at_what_the_student_wrote_and_the_labels_say_nothing(pages: Pages) -> None:
    student, teacher = tiny_donut(0), tiny_donut(1)
    KIE.before_learning(student, pages)
    lesson = Lesson(KIE, student, teacher, make_objectives(KD))
    batch = batch_of(pages, student, teacher, 1.0)
    assert batch[OWN]
    assert lesson.counts(batch)["labels"] == 0
    lesson.train()
    torch.manual_seed(3)
    ours, theirs = lesson.outputs(batch)
    assert theirs is not None
    assert ours.logits.shape == theirs.logits.shape
    assert set(ours.targets.tolist()) == set(theirs.targets.tolist()) == {UNLABELLED}
    losses = {loss.name: loss.value for loss in lesson(batch)}
    assert losses["labels"].item() == 0
    assert losses["kd"].item() > 0
    losses["kd"].backward()
    assert all(torch.isfinite(p.grad).all() for p in student.network.parameters() if p.grad is not None)
    assert student.network.training


def test_what_is_written_is_drawn_held_to_the_schema_and_ends(pages: Pages) -> None:
    student = tiny_donut(0)
    KIE.before_learning(student, pages)
    student.network.train()
    pixels = batch_of(pages, student, student, 0.0)["student"]["pixel_values"]
    torch.manual_seed(1)
    first = drawn_answers(student, pixels, 60)
    second = drawn_answers(student, pixels, 60)
    torch.manual_seed(1)
    again = drawn_answers(student, pixels, 60)
    assert [row.tolist() for row in first] == [row.tolist() for row in again] != [row.tolist() for row in second]
    tokenizer = student.processor.tokenizer
    for row in (*first, *second):
        assert row[0] == student.network.config.decoder_start_token_id
        assert 2 <= len(row) <= 61
        assert (row == tokenizer.eos_token_id).sum() <= 1
        if len(row) < 61:
            assert row[-1] == tokenizer.eos_token_id
        assert tokenizer.pad_token_id not in row[1:].tolist()
        text = tokenizer.decode(row[1:])
        tags = [tag for tag in ("<s_shop>", "<s_total>") if tag in text]
        assert tags or len(row) <= 3, "nothing but known keys is written"


def test_no_answer_is_longer_than_the_teacher_has_room_for(pages: Pages) -> None:
    student = tiny_donut(0, positions=160)
    longest = batch_of(pages, student, student, 1.0)["student"]["decoder_input_ids"].shape[1]
    teacher = tiny_donut(1, positions=longest + 2)
    end = student.processor.tokenizer.eos_token_id

    def never(_module: Any, _given: Any, scores: torch.Tensor) -> None:
        scores[..., end] = -99

    student.network.decoder.lm_head.register_forward_hook(never)
    batch = batch_of(pages, student, teacher, 1.0)
    student.network.train()
    written = with_own_answers(KIE, student, teacher, batch)
    assert written["student"]["decoder_input_ids"].shape[1] == longest + 2
    Lesson(KIE, student, teacher, make_objectives(KD)).outputs(batch)


def test_the_rows_of_a_batch_come_back(pages: Pages) -> None:
    student = tiny_donut(0)
    batch = batch_of(pages, student, student, 0.0)["student"]
    again = answers_batch(student, rows_of(batch))
    for name, value in again.items():
        assert torch.equal(value, batch[name]), name


def test_a_dry_batch_keeps_its_labels(pages: Pages) -> None:
    student, teacher = tiny_donut(0), tiny_donut(1)
    batch = batch_of(pages, student, teacher, 1.0)
    student.network.eval()
    kept = with_own_answers(KIE, student, teacher, batch)
    assert torch.equal(kept["student"]["labels"], batch["student"]["labels"])
    assert torch.equal(kept["teacher"]["decoder_input_ids"], batch["student"]["decoder_input_ids"])


def test_a_student_with_a_trimmed_vocabulary_is_graded_on_the_same_words(pages: Pages) -> None:
    teacher, student = like_published(), like_published()
    prune(KIE, student, VocabularyPrune(method="vocabulary"), pages)
    assert student.network.config.decoder.vocab_size < teacher.network.config.decoder.vocab_size
    KIE.before_learning(student, pages)
    lesson = Lesson(KIE, student, teacher, make_objectives(KD))
    lesson.train()
    batch = batch_of(pages, student, teacher, 1.0)
    torch.manual_seed(0)
    written = with_own_answers(KIE, student, teacher, batch)
    texts = [
        [model.processor.tokenizer.convert_ids_to_tokens(row.tolist()) for row in rows_of(written[name])]
        for name, model in (("student", student), ("teacher", teacher))
    ]
    assert texts[0] == texts[1]
    ours, theirs = lesson.outputs(batch)
    assert theirs is not None
    assert ours.logits.shape == theirs.logits.shape


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 40)])
def test_none_or_all(pages: Pages, share: float, expected: int) -> None:
    assert count(pages, share) == expected


def test_the_share_of_batches_is_about_what_was_asked_for_and_the_same_each_time(pages: Pages) -> None:
    assert 5 <= count(pages, 0.3) <= 20
    assert count(pages, 0.3) == count(pages, 0.3)


def count(pages: Pages, share: float) -> int:
    """Batches of 20 epochs, 2 each, whose answers the student is to write."""
    model = tiny_donut(0)
    examples = page_set(KIE, pages, model, model, stage(share), 0)
    return sum(OWN in batch for epoch in range(20) for batch in epoch_batches(examples, epoch, 0, 2, 0))


def test_a_stage_from_end_to_end(pages: Pages, tmp_path: Path, one_thread: None) -> None:
    student, teacher = tiny_donut(0), tiny_donut(1)
    bench = Bench(KIE, pages, pages, teacher)
    report = learn(bench, student, stage(0.5), KD, tmp_path, 0, "learning")
    assert report["steps"] == 2
    assert len(ANSWERS) == 4


def test_where_it_makes_no_sense(pages: Pages, tmp_path: Path) -> None:
    content = tiny.recipe(Path("data"))
    content["stages"][1]["distill"]["on_policy"] = 0.5
    with pytest.raises(RecipeError, match="on_policy: is for kie, the task is classification"):
        parse_recipe(content)
    with pytest.raises(ValueError, match="no objective asks the teacher"):
        DistillStage(objectives=[{"kind": "labels"}], on_policy=0.5)
    with pytest.raises(ValueError, match=r"on_policy: 0\.5 given, but cache_logits"):
        DistillStage(objectives=KD, on_policy=0.5, cache_logits=8)
    student = tiny_donut(0)
    with pytest.raises(ModelError, match="on_policy is for students that write"):
        with_own_answers(Classification(), student, student, batch_of(pages, student, student, 1.0))
    with pytest.raises(UserError, match="on_policy is for kie"):
        learn(Bench(Classification(), pages, pages), student, stage(0.5), KD, tmp_path, 0, "x")


def test_the_control_learns_from_the_labels(tmp_path: Path) -> None:
    chain = Chain("student", 0, tmp_path, [(1, Stage(distill=stage(0.5)))])
    (_, twin) = without_teacher(chain, tmp_path / "twin", 1.0).stages[0]
    assert isinstance(twin.settings, DistillStage)
    assert twin.settings.on_policy == 0
