"""Merged tokens: the same texts in fewer tokens, whatever was not seen can be spelt, and a teacher with the old tokens still teaches."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import DonutProcessor

import docstill
from docstill.data.images import open_image
from docstill.data.json_tokens import SPECIAL, json_to_tokens, tag_tokens
from docstill.decoding.schema import SCHEMA
from docstill.errors import ModelError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.models.donut import load_donut
from docstill.models.donut_answers import IGNORED, Spelling, same_vocabulary, spelling
from docstill.models.donut_tokens import decode, encode, form_ids, tags_in, unknown_characters, wrap
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.objectives.dist import Dist
from docstill.objectives.divergences import softened
from docstill.objectives.dkd import Dkd
from docstill.objectives.kd import Kd
from docstill.objectives.nkd import Nkd
from docstill.on_policy import with_own_answers
from docstill.pruning.merges import frequent_pairs, merge_tokens, merged_tokenizer
from docstill.pruning.vocabulary import needed_tokens, tokenizer_and_ids
from docstill.recipe import parse_recipe
from docstill.settings import DistillStage, Stage
from docstill.stages import Bench, first_look, run_stage
from docstill.tasks.base import ModelSpec
from docstill.tasks.key_order import AS_LABELLED, KEY_ORDER, written_by
from docstill.tasks.kie import Kie
from docstill.tasks.spelling import in_tokens_of_student
from kie_tiny import ANSWERS, TAGS, like_published, loads_without_docstill, tiny_donut, tiny_folder

OFTEN = [*ANSWERS, {"shop": "Ash & Co", "total": "12.00"}, {"shop": "Cedar Ltd", "total": "9.50"}]
TEXTS = [json_to_tokens(answer) for answer in OFTEN]
KIE = Kie()
Make = Callable[[], DocumentModel]
EITHER = pytest.mark.parametrize("make", [like_published, tiny_donut])


def merged(make: Make, count: int = 12) -> DocumentModel:
    model = make()
    merge_tokens(model, TEXTS, count)
    return model


def pieces(model: DocumentModel, text: str) -> list[str]:
    tokens: list[str] = model.processor.tokenizer.convert_ids_to_tokens(encode(model.processor.tokenizer, text))
    return tokens


def test_the_pair_that_is_most_frequent_comes_first() -> None:
    rows = ["abab", "ab", "xc", "cabx"]
    assert frequent_pairs(rows, 9) == [("a", "b")]  # abab, ab and cabx hold it; nothing beside it comes twice
    assert frequent_pairs(["aaaa", "aaaa"], 9) == [("a", "a"), ("aa", "aa")]
    assert frequent_pairs(["ab", "cd"], 9) == []  # nothing stands side by side twice
    assert frequent_pairs(["a|b", "a|b"], 9, apart={"|"}) == []
    assert frequent_pairs([["▁a", "▁b"], ["▁a", "▁b"]], 9) == []
    assert frequent_pairs(["ab", "ab", "xab", "cd"], 9, least=2) == [("a", "b")]
    assert frequent_pairs(["ab", "xab", "cd", "cd"], 9, least=2) == [("c", "d")]  # no run that holds ab is there twice
    tags = ["</s_a>", "<s_b>", "x", "</s_b>", "<sep/>"]
    assert frequent_pairs([tags, tags], 9) == [("</s_b>", "<sep/>"), ("</s_a>", "<s_b>")]


@given(st.lists(st.text("abc ", min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_counts_are_those_of_a_count_from_scratch(rows: list[str], count: int) -> None:
    lines, expected = [list(row) for row in dict.fromkeys(rows) for _ in range(rows.count(row))], []
    for _ in range(count):
        held: dict[tuple[str, str], int] = {}
        for line in lines:
            for pair in itertools.pairwise(line):
                held[pair] = held.get(pair, 0) + 1
        best = max(held, key=lambda pair: (held[pair], pair), default=None)
        if best is None or held[best] < 2:
            break
        expected.append(best)
        for place, line in enumerate(lines):
            joined: list[str] = []
            for token in line:
                if joined and (joined[-1], token) == best:
                    joined[-1] += token
                else:
                    joined.append(token)
            lines[place] = joined
    assert frequent_pairs(rows, count) == expected


@EITHER
def test_texts_take_fewer_tokens_and_stay_the_same(make: Make) -> None:
    before, after = make(), merged(make)
    old, new = before.processor.tokenizer, after.processor.tokenizer
    for text in TEXTS:
        assert len(encode(new, text)) <= len(encode(old, text))
        assert decode(new, encode(new, text)) == decode(old, encode(old, text))
    lengths = [sum(len(encode(one, text)) for text in TEXTS) for one in (old, new)]
    assert lengths[1] < lengths[0] - len(TEXTS)
    assert {token: index for token, index in new.get_vocab().items() if token in old.get_vocab()} == old.get_vocab()
    assert "</s_total><s_shop>" in pieces(after, TEXTS[0])
    assert "<s_total>" in pieces(after, TEXTS[0])  # text is never merged with a tag


MERGED = {make: merged(make) for make in (like_published, tiny_donut)}


@EITHER
@given(text=st.text(st.sampled_from([chr(code) for code in range(33, 127)]), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_a_teacher_spells_whatever_its_student_writes(make: Make, text: str) -> None:
    teacher, student = make(), MERGED[make]
    ours, theirs = encode(student.processor.tokenizer, text), encode(teacher.processor.tokenizer, text)
    assert not unknown_characters(student.processor.tokenizer, text)
    assert spelling(teacher, student).spelt(torch.tensor(ours)).tolist() == theirs
    assert len(ours) <= len(theirs)


@EITHER
def test_merged_tags_are_spelt_in_tags_and_are_no_part_of_a_value(make: Make) -> None:
    teacher, student = make(), MERGED[make]
    tag = student.processor.tokenizer.convert_tokens_to_ids("</s_total><s_shop>")
    theirs = [
        teacher.processor.tokenizer.convert_ids_to_tokens(int(part))
        for part in spelling(teacher, student).spelt(torch.tensor([tag]))
    ]
    assert theirs == ["</s_total>", "<s_shop>"]
    assert tag in form_ids(student.processor.tokenizer)
    other = tiny_donut(tags=TAGS[:2])
    assert spelling(other, student).lengths[tag] == 0  # a teacher that lacks one of the tags


def test_tags_that_texts_have_merged_alone_are_not_trimmed_away() -> None:
    tokenizer = MERGED[like_published].processor.tokenizer
    trimmed, _, _ = tokenizer_and_ids(tokenizer, needed_tokens(tokenizer, TEXTS, 0))
    assert {*TAGS, "</s_total><s_shop>"} <= trimmed.get_vocab().keys()
    assert [encode(trimmed, text) for text in TEXTS] != [encode(tokenizer, text) for text in TEXTS]
    assert [decode(trimmed, encode(trimmed, text)) for text in TEXTS] == [
        decode(tokenizer, encode(tokenizer, text)) for text in TEXTS
    ]


@EITHER
def test_new_rows_are_means_and_old_ones_stay(make: Make) -> None:
    before, after = make(), MERGED[make]
    old = before.network.decoder.get_input_embeddings().weight
    new = after.network.decoder.get_input_embeddings().weight
    vocabulary = after.processor.tokenizer.get_vocab()
    assert torch.equal(new[: len(old)], old)
    assert after.network.decoder.lm_head.weight is new
    assert len(new) == len(vocabulary) == after.network.config.decoder.vocab_size
    pairs = frequent_pairs((pieces(before, text) for text in TEXTS), 12)
    firsts = {bool(tags_in(first)): (first, second) for first, second in reversed(pairs)}
    for first, second in (firsts[False], firsts[True]):
        mean = (new[vocabulary[first]] + new[vocabulary[second]]) / 2
        torch.testing.assert_close(new[vocabulary[first + second]], mean)


def batches(folder: Path, *models: DocumentModel) -> list[dict[str, Any]]:
    task = Kie()
    pages = task.read(tiny_folder(folder))
    return [
        task.collate(
            model, [task.example(model, document, open_image(document.file), [], None) for document in pages.documents]
        )
        for model in models
    ]


@EITHER
def test_what_a_teacher_says_of_an_answer_is_as_likely_in_the_students_tokens(make: Make, tmp_path: Path) -> None:
    teacher, student, task = make(), MERGED[make], Kie()
    task.check_pair(teacher, student)
    given = zip((teacher, student), batches(tmp_path, teacher, student), strict=True)
    with torch.no_grad():
        theirs, ours = (task.forward(model, batch) for model, batch in given)
    with pytest.raises(ModelError, match="spell an answer with other tokens"):
        task.aligned(student, teacher, ours, theirs)
    said = task.aligned(teacher, student, theirs, ours)
    assert said.logits.shape == ours.logits.shape
    assert len(ours.logits) < len(theirs.logits)
    assert torch.equal(said.targets, ours.targets)
    torch.testing.assert_close(said.logits.exp().sum(-1), torch.ones(len(said.logits)), atol=1e-4, rtol=0)
    likelihood = said.logits.gather(1, said.targets.unsqueeze(1)).sum()
    torch.testing.assert_close(likelihood, theirs.logits.log_softmax(-1).gather(1, theirs.targets.unsqueeze(1)).sum())


def test_by_hand() -> None:
    """A teacher of a, b, c whose student also has ab; the answers are ``ab c`` and ``a``."""
    teacher, student = (Outputs(torch.zeros(0, 0), torch.tensor([]), 2) for _ in range(2))
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    teacher.logits, teacher.targets = probabilities.log() + 3, torch.tensor([0, 1, 2, 0])
    student.logits, student.targets = torch.zeros(3, 4), torch.tensor([3, 2, 0])
    spelt = spelling_of([[0], [1], [2], [0, 1]])
    said = in_tokens_of_student(teacher, student, spelt).logits.exp()
    expected = torch.tensor([[0.3, 0.3, 0.1, 0.3], [0.2, 0.2, 0.6, 0.0], [0.9, 0.05, 0.05, 0.0]])
    torch.testing.assert_close(said, expected, atol=1e-6, rtol=1e-5)
    student.targets = torch.tensor([3, 2, 1])
    with pytest.raises(ModelError, match="spell an answer with other tokens"):
        in_tokens_of_student(teacher, student, spelt)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0, 200.0])
def test_what_cannot_come_does_not_at_any_temperature(temperature: float) -> None:
    """A student with 200 merged tokens beside its teacher's 40, and one with those 40 alone, are asked the same."""
    pairs = torch.randint(0, 40, (200, 2), generator=torch.Generator().manual_seed(0)).tolist()
    spelt, right = spelling_of([[token] for token in range(40)] + pairs), torch.tensor([3])
    teacher = Outputs(torch.randn(1, 40, generator=torch.Generator().manual_seed(1)), right, 1)
    teacher.logits[0, 3] = 12.0
    said = in_tokens_of_student(teacher, Outputs(torch.zeros(1, 240), right, 1), spelt)
    asked = softened(said, temperature).softmax(-1)
    assert asked[0, 40:].sum() < 1e-4
    torch.testing.assert_close(asked[:, :40], (teacher.logits / temperature).softmax(-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(softened(teacher, temperature), teacher.logits / temperature)
    if temperature <= 4:
        assert torch.equal(softened(said, temperature), said.logits / temperature)
    student = Outputs(torch.randn(1, 240, generator=torch.Generator().manual_seed(2)), right, 1)
    raw = Outputs(softened(said, temperature) * temperature, right, 1)
    for objective in (
        Kd(temperature),
        Kd(temperature, "reverse"),
        Dkd(temperature=temperature),
        Nkd(temperature),
        Dist(temperature=temperature),
    ):
        torch.testing.assert_close(objective(student, said), objective(student, raw))


def spelling_of(rows: list[list[int]]) -> Spelling:
    longest = max(map(len, rows))
    padded = [row + [IGNORED] * (longest - len(row)) for row in rows]
    return Spelling(torch.tensor(padded), torch.tensor([len(row) for row in rows]))


@EITHER
def test_the_teacher_with_the_old_tokens_teaches_and_grades(make: Make, tmp_path: Path) -> None:
    teacher, student, task = make(), merged(make), Kie()
    theirs, ours = batches(tmp_path, teacher, student)
    lesson = Lesson(task, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}, {"kind": "dist"}]))
    losses = lesson({"files": ["a"] * len(ANSWERS), "student": ours, "teacher": theirs})
    assert all(torch.isfinite(loss.value) for loss in losses)
    losses[1].value.backward()
    gradient = student.network.decoder.get_input_embeddings().weight.grad
    assert gradient is not None
    assert gradient[-1].abs().sum() > 0
    student.network.train()
    graded = with_own_answers(task, student, teacher, {"student": ours, "teacher": theirs})
    spelt = spelling(teacher, student)
    assert torch.equal(spelt.spelt(graded["student"]["targets"]), graded["teacher"]["targets"])


@pytest.mark.parametrize("entry", [{"kind": "mse"}, {"kind": "kd", "standardise": True}])
def test_logits_that_nobody_has_said_are_not_compared(entry: dict[str, Any], tmp_path: Path) -> None:
    teacher, student, task = tiny_donut(), merged(tiny_donut), Kie()
    theirs, ours = batches(tmp_path, teacher, student)
    lesson = Lesson(task, student, teacher, make_objectives([entry]))
    with pytest.raises(ModelError, match=r"the teacher's probabilities alone are known; use kd without standardise"):
        lesson({"files": ["a"] * len(ANSWERS), "student": ours, "teacher": theirs})


def test_features_of_the_decoder_cannot_be_compared(tmp_path: Path) -> None:
    teacher, student, task = tiny_donut(), merged(tiny_donut), Kie()
    theirs, ours = batches(tmp_path, teacher, student)
    lesson = Lesson(
        task, student, teacher, make_objectives([{"kind": "hint", "student_module": "decoder.model.decoder.layers.0"}])
    )
    batch = {"files": ["a"] * len(ANSWERS), "student": ours, "teacher": theirs}
    with pytest.raises(ModelError, match="positions"):
        lesson.prepare(batch)


@EITHER
def test_files_load_without_docstill(make: Make, tmp_path: Path) -> None:
    folder = MERGED[make].save(tmp_path / "merged")
    again = load_donut(str(folder))
    assert [pieces(again, text) for text in TEXTS] == [pieces(MERGED[make], text) for text in TEXTS]
    loads_without_docstill(folder)


def test_the_student_writes_no_more_than_its_teacher_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    teacher, student, task = tiny_donut(), merged(tiny_donut, 40), Kie()
    theirs, ours = batches(tmp_path, teacher, student)
    start = student.network.config.decoder_start_token_id
    row = torch.tensor([start, *encode(student.processor.tokenizer, "Cedar Ltd" * 30)])
    monkeypatch.setattr("docstill.on_policy.drawn_answers", lambda *given: [row] * len(ANSWERS))
    student.network.train()
    graded = with_own_answers(task, student, teacher, {"student": ours, "teacher": theirs})
    room = teacher.network.config.decoder.max_position_embeddings
    assert room - 9 <= graded["teacher"]["decoder_input_ids"].shape[1] <= room
    with torch.no_grad():
        outputs = [task.forward(model, graded[name]) for name, model in (("teacher", teacher), ("student", student))]
    task.aligned(teacher, student, outputs[0], outputs[1])


def test_a_text_that_may_be_spelt_in_two_ways_is_the_same_to_both(tmp_path: Path) -> None:
    """999B is 99 9 B or 9 99 B to the teacher, as likely; its student has merged 9B, and knows one way alone."""
    scores = [(token, 0.0) for token in SPECIAL] + [(one, -5.0) for one in "0123456789.ABCDEFG"] + [("99", -6.0)]
    answers = [{"shop": f"{character}9B"} for character in "ABCDEFG" for _ in range(2)]
    teacher = tiny_donut()
    backend = Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
    tags = [AddedToken(tag, special=True, normalized=False) for tag in (*SPECIAL, "<sep/>", *TAGS)]
    backend.add_special_tokens(tags)
    teacher.processor = DonutProcessor(teacher.processor.image_processor, wrap(backend))
    student, text = copy.deepcopy(teacher), "A999B"
    assert merge_tokens(student, [json_to_tokens(answer) for answer in answers], 1) == 1
    spelt = spelling(teacher, student).spelt(torch.tensor(encode(student.processor.tokenizer, text)))
    assert spelt.tolist() != encode(teacher.processor.tokenizer, text)
    task, pages = Kie(), Kie().read(tiny_folder(tmp_path, [{"shop": text}]))
    batch: dict[str, Any] = {"files": ["a"]}
    for name, model in (("student", student), ("teacher", teacher)):
        image = open_image(pages.documents[0].file)
        batch[name] = task.collate(model, [task.example(model, pages.documents[0], image, [], None)])
    [loss] = Lesson(task, student, teacher, make_objectives([{"kind": "kd"}]))(batch)
    assert torch.isfinite(loss.value)


def test_lengths_count_characters_for_what_was_not_seen_is_spelt_in_them(tmp_path: Path) -> None:
    student, task = merged(tiny_donut, 60), Kie()
    task.before_learning(student, task.read(tiny_folder(tmp_path)))
    assert student.card["schema"]["keys"]["shop"]["longest"] == len("Cedar Ltd")


def test_vocabularies_of_one_size_need_not_be_the_same() -> None:
    teacher, student = tiny_donut(tags=[*TAGS, "<s_x>", "</s_x>"]), tiny_donut()
    assert merge_tokens(student, TEXTS, 2) == 2
    assert len({model.network.config.decoder.vocab_size for model in (teacher, student)}) == 1
    assert not same_vocabulary(teacher, student)
    assert same_vocabulary(teacher, teacher)


def test_rows_without_a_token_go_and_a_piece_that_is_there_stays_as_it_is() -> None:
    model = tiny_donut()
    tokens = len(model.processor.tokenizer)
    model.network.decoder.resize_token_embeddings(tokens + 20)
    assert merge_tokens(model, TEXTS, 5) == 5
    assert model.network.config.decoder.vocab_size == tokens + 5
    Kie().check_pair(tiny_donut(), model)
    scores = [(token, 0.0) for token in SPECIAL] + [("a", -3.0), ("b", -3.0), ("ab", -17.0)]
    model.processor.tokenizer = wrap(Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False)))
    before = model.network.decoder.get_input_embeddings().weight.detach().clone()
    assert merge_tokens(model, ["ab", "ab"], 1) == 0
    assert torch.equal(model.network.decoder.get_input_embeddings().weight, before)


def test_masks_grow_with_the_embedding() -> None:
    model = tiny_donut()
    embedding = "decoder.model.decoder.embed_tokens.weight"
    shape = model.network.decoder.get_input_embeddings().weight.shape
    model.masks = {embedding: torch.rand(shape) > 0.5}
    old = model.masks[embedding]
    merge_tokens(model, TEXTS, 3)
    assert torch.equal(model.masks[embedding][: shape[0]], old)
    assert model.masks[embedding][shape[0] :].all()


def test_what_cannot_be_merged() -> None:
    with_merges = Tokenizer(
        models.BPE(vocab={"<unk>": 0, "a": 1, "b": 2, "ab": 3}, merges=[("a", "b")], unk_token="<unk>")
    )
    with pytest.raises(ModelError, match="with merges of its own"):
        merged_tokenizer(wrap(with_merges), [("a", "b")])


def test_values_that_are_common_become_a_token_and_others_are_spelt() -> None:
    answers = [{"shop": "EXPRESS", "total": f"10{number}"} for number in range(10)]
    texts = [json_to_tokens(answer) for answer in answers]
    model, other = tiny_donut(), tiny_donut()
    merge_tokens(model, texts, 50, common=0.5)
    assert pieces(model, texts[0]) == ["<s_total>", "1", "0", "0", "</s_total><s_shop>", "EXPRESS", "</s_shop>"]
    merge_tokens(other, texts, 50)
    assert pieces(other, texts[0])[1:3] == ["10", "0"]
    assert merge_tokens(tiny_donut(), texts, 50, common=1.5) == 0


def test_a_recipe_merges_distils_and_compares(tmp_path: Path) -> None:
    data = tmp_path / "data"
    tiny_folder(data / "train", OFTEN)
    tiny_folder(data / "validation", ANSWERS[:2])
    teacher = like_published().save(tmp_path / "teacher")
    training = {
        "epochs": 1, "batch_size": 2, "precision": "fp32", "cache_logits": 8,
        "objectives": [{"kind": "labels"}, {"kind": "kd"}],
    }  # fmt: skip
    content = {
        "task": "kie",
        "teacher": str(teacher),
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "stages": [{"prune": {"method": "merges", "count": 5}}, {"distill": {**training, "augment": 0}}],
    }
    results = docstill.compress(parse_recipe(content), tmp_path / "run")
    sizes = {row["name"]: row["params"] for row in results["rows"]}
    assert sizes["student"]["non_embedding"] == sizes["teacher"]["non_embedding"]
    assert sizes["student"]["total"] > sizes["teacher"]["total"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_donut().save(tmp_path / "model")
    with pytest.raises(UserError, match="reads the training answers; give --data"):
        docstill.prune(folder, tmp_path / "out", method="merges", count=3)
    tiny_folder(tmp_path / "data" / "train", [{"shop": "A"}])
    tiny_folder(tmp_path / "data" / "validation", [{"shop": "A"}])
    with pytest.raises(UserError, match="nothing to merge; leave this stage out"):
        docstill.prune(folder, tmp_path / "none", data=tmp_path / "data", method="merges", count=3)
    tiny_folder(tmp_path / "data" / "train", OFTEN)
    done = docstill.prune(folder, tmp_path / "three", data=tmp_path / "data", method="merges", count=3)
    assert "Added 3 tokens, each of two others" in done["text"]


def test_tokens_are_merged_as_the_model_writes_them(tmp_path: Path) -> None:
    """A student as it is loaded does not know that its teacher writes keys in the order of the labels."""
    answers = [
        {"date": f"0{i % 10}", "shop": "xyz"[i % 3], "total": f"{i}.00", "address": "abc"[i % 3]} for i in range(12)
    ]
    teacher = tiny_donut(tags=sorted(tag_tokens(answers[0])))
    student = copy.deepcopy(teacher)
    pages = KIE.read(tiny_folder(tmp_path / "pages", answers))
    KIE.before_learning(teacher, pages)
    teacher.card[KEY_ORDER] = AS_LABELLED
    stage = Stage.model_validate({"prune": {"method": "merges", "count": 30}})
    said = run_stage(Bench(KIE, pages, pages, teacher), student, stage, tmp_path, 0, "")["text"]
    written = [pieces(student, written_by(student, answer)) for answer in answers]
    assert student.card[KEY_ORDER] == AS_LABELLED
    assert f"takes {sum(map(len, written)) / 12:.1f} tokens" in said
    assert {token for row in written for token in row if len(tags_in(token)) > 1}


def test_a_student_from_scratch_has_room_for_what_was_not_seen(tmp_path: Path) -> None:
    answers = [
        {"shop": name, "total": "9.00"} for name in ("Cedar Limited Company", "Birch and Sons", "Ash and Oak") * 6
    ]
    pages = KIE.read(tiny_folder(tmp_path / "pages", answers))
    teacher = tiny_donut()
    merge_tokens(teacher, KIE.texts(teacher, pages), 200)
    student = KIE.new_model(ModelSpec("donut-tiny"), pages, teacher)
    for model in (teacher, student):
        KIE.before_learning(model, pages)
    assert student.card[SCHEMA] == teacher.card[SCHEMA]
    rooms = [model.network.config.decoder.max_position_embeddings for model in (teacher, student)]
    assert rooms[1] >= rooms[0]


@pytest.mark.parametrize("which", [0, 8, 17])
def test_a_teacher_that_is_asked_once_must_be_asked_in_its_own_tokens(which: int, tmp_path: Path) -> None:
    """Both spellings of 999 are as likely, and a student may take the other one: said before the teacher is asked about anything."""
    likely = [*((token, 0.0) for token in SPECIAL), *((letter, -5.0) for letter in "9ABCDEFGHIJ"), ("99", -6.0)]
    backend = Tokenizer(models.Unigram(likely, unk_id=3, byte_fallback=False))
    backend.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in (*SPECIAL, "<sep/>", *TAGS)])
    teacher = tiny_donut()
    teacher.processor = DonutProcessor(teacher.processor.image_processor, wrap(backend))
    student = copy.deepcopy(teacher)
    answers = [{"shop": f"{letter}9B"} for letter in "ABCDEFGHIJ" for _ in range(2)]
    answers[which] = {"shop": "A999B"}
    pages = KIE.read(tiny_folder(tmp_path / "pages", answers))
    merge_tokens(student, KIE.texts(student, pages), 1)
    entries = [{"kind": "labels"}, {"kind": "kd"}]
    settings = DistillStage(objectives=entries, cache_logits=8)
    bench = Bench(KIE, pages, pages, teacher)
    with pytest.raises(ModelError, match=r"^1 of 20 answers are spelt .*A999B.*leave cache_logits out$"):
        first_look(bench, student, settings, entries)
    first_look(bench, student, DistillStage(objectives=entries), entries)


def test_a_piece_that_was_there_but_unlikely_can_be_built_upon() -> None:
    model = tiny_donut()
    likely = [*((token, 0.0) for token in SPECIAL), *((letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz")]
    backend = Tokenizer(models.Unigram([*likely, ("to", -14.0)], unk_id=3, byte_fallback=False))
    backend.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in (*SPECIAL, "<sep/>", *TAGS)])
    model.processor = DonutProcessor(model.processor.image_processor, wrap(backend))
    text = "<s_shop>total</s_shop>"
    assert pieces(model, text) == ["<s_shop>", *"total", "</s_shop>"]
    merge_tokens(model, [text] * 9, 9)
    assert pieces(model, text) == ["<s_shop>", "total", "</s_shop>"]
