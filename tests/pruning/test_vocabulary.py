"""Vocabulary trimming: texts are spelt as before, rows follow their tokens, the untrimmed teacher can still teach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import DonutProcessor

import docstill
from docstill.data.images import open_image
from docstill.data.json_tokens import SPECIAL, json_to_tokens
from docstill.errors import ModelError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.models.donut import load_donut, new_donut
from docstill.models.donut_tokens import decode, encode, unknown_characters, wrap
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.pruning.vocabulary import (
    check_kept,
    check_spelling,
    lost_tags,
    needed_tokens,
    prune_vocabulary,
    trimmed_tokenizer,
    unspellable,
)
from docstill.recipe import parse_recipe
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, TAGS, like_published, loads_without_docstill, tiny_donut, tiny_folder

TEXTS = [json_to_tokens(answer) for answer in ANSWERS]


def trimmed(model: DocumentModel, characters: str = "") -> DocumentModel:
    kept = needed_tokens(model.processor.tokenizer, TEXTS, model.network.config.decoder_start_token_id, characters)
    network, tokenizer, masks = prune_vocabulary(model.network, model.processor.tokenizer, model.masks, kept)
    return DocumentModel("kie", network, DonutProcessor(model.processor.image_processor, tokenizer), masks=masks)


@pytest.mark.parametrize("make", [like_published, tiny_donut])
def test_training_texts_are_spelt_as_before(make: object) -> None:
    model = make()  # type: ignore[operator]
    small = trimmed(model) if make is like_published else trimmed(tiny_donut(tags=[*TAGS, "<s_x>", "</s_x>"]))
    before = model.processor.tokenizer
    after = small.processor.tokenizer
    for text in TEXTS:
        assert before.convert_ids_to_tokens(encode(before, text)) == after.convert_ids_to_tokens(encode(after, text))
        assert decode(after, encode(after, text)) == decode(before, encode(before, text))
    assert len(after) == small.network.config.decoder.vocab_size < model.network.config.decoder.vocab_size + 2
    assert "<s_x>" not in after.get_vocab()


@given(st.text(st.sampled_from([chr(code) for code in range(33, 127)]), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_any_ascii_can_still_be_spelt(text: str) -> None:
    after = TRIMMED.processor.tokenizer
    assert not unknown_characters(after, text)
    assert after.decode(encode(after, text)).strip() == text


TRIMMED = trimmed(like_published())


def test_words_that_no_answer_has_are_gone_and_rows_follow_their_tokens() -> None:
    model = like_published()
    before, after = model.processor.tokenizer.get_vocab(), TRIMMED.processor.tokenizer.get_vocab()
    assert {"zebra", "▁receipt", "<s_menu>", "<s_iitcdip>"} & after.keys() == set()
    assert "é" in after  # the piece of the lowest score, by which <unk> is scored
    assert {*SPECIAL, "<sep/>", "<s_shops>", *TAGS, "▁Ash"} <= after.keys()
    old = model.network.decoder.model.decoder.embed_tokens.weight
    new = TRIMMED.network.decoder.model.decoder.embed_tokens.weight
    assert all(torch.equal(new[index], old[before[token]]) for token, index in after.items())
    assert TRIMMED.network.decoder.lm_head.weight is new
    config, generation = TRIMMED.network.config, TRIMMED.network.generation_config
    assert config.decoder_start_token_id == generation.decoder_start_token_id == after["<s_shops>"]
    assert (config.pad_token_id, config.eos_token_id) == (after["<pad>"], after["</s>"])


def test_logits_are_the_old_ones_of_the_same_tokens(tmp_path: Path) -> None:
    model, task = like_published(), Kie()
    pages = task.read(tiny_folder(tmp_path))
    seen = []
    for which in (model, TRIMMED):
        examples = [task.example(which, document, open_image(document.file), [], None) for document in pages.documents]
        with torch.no_grad():
            seen.append(task.forward(which, task.collate(which, examples)))
    theirs = task.aligned(model, TRIMMED, *seen)
    assert theirs.logits.shape == seen[1].logits.shape
    torch.testing.assert_close(theirs.logits, seen[1].logits)
    assert torch.equal(theirs.targets, seen[1].targets)
    task.check_pair(model, TRIMMED)
    with pytest.raises(ModelError, match="the same vocabulary"):
        task.check_pair(TRIMMED, model)


def test_an_answer_that_is_spelt_otherwise_is_refused() -> None:
    model, task = like_published(), Kie()
    rows = model.network.config.decoder.vocab_size
    theirs = Outputs(torch.zeros(3, rows), torch.tensor([1, 2, 5]), 1)
    ours = Outputs(torch.zeros(4, TRIMMED.network.config.decoder.vocab_size), torch.tensor([1, 2, 5, 6]), 1)
    with pytest.raises(ModelError, match="spell an answer with other tokens"):
        task.aligned(model, TRIMMED, theirs, ours)


def test_the_untrimmed_teacher_teaches(tmp_path: Path) -> None:
    teacher, student, task = like_published(), trimmed(like_published()), Kie()
    pages = task.read(tiny_folder(tmp_path))
    batch: dict[str, object] = {"files": [document.where for document in pages.documents]}
    for name, model in (("student", student), ("teacher", teacher)):
        examples = [task.example(model, document, open_image(document.file), [], None) for document in pages.documents]
        batch[name] = task.collate(model, examples)
    lesson = Lesson(task, student, teacher, make_objectives([{"kind": "kd"}]))
    [loss] = lesson(batch)
    assert loss.value.item() == pytest.approx(0, abs=1e-6)  # nobody has learnt anything else yet


def test_masks_and_files(tmp_path: Path) -> None:
    model = like_published()
    embedding = "decoder.model.decoder.embed_tokens.weight"
    rows, width = model.network.decoder.model.decoder.embed_tokens.weight.shape
    model.masks = {embedding: torch.rand(rows, width) > 0.5}
    small = trimmed(model)
    before, after = model.processor.tokenizer.get_vocab(), small.processor.tokenizer.get_vocab()
    token = "▁Ash"
    assert torch.equal(small.masks[embedding][after[token]], model.masks[embedding][before[token]])
    folder = small.save(tmp_path / "small")
    again = load_donut(str(folder))
    assert again.processor.tokenizer.get_vocab() == after
    assert [encode(again.processor.tokenizer, text) for text in TEXTS] == [
        encode(small.processor.tokenizer, text) for text in TEXTS
    ]
    loads_without_docstill(folder)


def test_what_is_not_there_cannot_be_kept() -> None:
    model = like_published()
    with pytest.raises(UserError, match=r"has no token for 'ß', '€'; leave them out"):
        needed_tokens(model.processor.tokenizer, TEXTS, 0, "é€ß")
    assert model.processor.tokenizer.get_vocab()["é"] in needed_tokens(model.processor.tokenizer, TEXTS, 0, "é")
    everything = list(range(len(model.processor.tokenizer)))
    with pytest.raises(UserError, match="nothing to trim"):
        prune_vocabulary(model.network, model.processor.tokenizer, {}, everything)
    merges = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1, "b": 2, "ab": 3}, merges=[("a", "b")], unk_token="<unk>"))
    with pytest.raises(ModelError, match="with merges cannot be trimmed"):
        trimmed_tokenizer(wrap(merges), [0, 1])


def test_a_recipe_trims_and_distils(tmp_path: Path) -> None:
    data = tmp_path / "data"
    tiny_folder(data / "train")
    tiny_folder(data / "validation", ANSWERS[:2])
    teacher = like_published().save(tmp_path / "teacher")
    training = {"epochs": 1, "batch_size": 2, "precision": "fp32", "objectives": [{"kind": "labels"}, {"kind": "kd"}]}
    content = {
        "task": "kie",
        "teacher": str(teacher),
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "stages": [{"prune": {"method": "vocabulary"}}, {"distill": training}],
    }
    results = docstill.compress(parse_recipe(content), tmp_path / "run")
    sizes = {row["name"]: row["params"] for row in results["rows"]}
    assert sizes["student"]["total"] < sizes["teacher"]["total"]
    assert sizes["student"]["non_embedding"] == sizes["teacher"]["non_embedding"]


def test_the_verb_needs_answers(tmp_path: Path) -> None:
    folder = like_published().save(tmp_path / "model")
    with pytest.raises(UserError, match="reads the training answers; give --data"):
        docstill.prune(folder, tmp_path / "out", method="vocabulary")


def spelling(tokenizer: object, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(encode(tokenizer, text))  # type: ignore[attr-defined]


def folders(folder: Path, training: list[str], validation: list[str]) -> Path:
    for name, totals in (("train", training), ("validation", validation)):
        tiny_folder(folder / name, [{"shop": "Ash", "total": total} for total in totals])
    return folder


def with_umlauts() -> DocumentModel:
    torch.manual_seed(0)
    return new_donut("donut-tiny", {}, ["Üßñ"], [*TAGS, "<s_tax>", "</s_tax>"])


def test_characters_that_validation_answers_need_are_listed_and_never_kept_unasked(tmp_path: Path) -> None:
    data, model = folders(tmp_path / "data", ["1", "23"], ["Ü9", "ß"]), with_umlauts().save(tmp_path / "model")
    with pytest.raises(UserError, match=r"validation hold 'Ü', 'ß', which .* say characters: \"Üß\" to keep them$"):
        docstill.prune(model, tmp_path / "out", data=data, method="vocabulary")
    assert not (tmp_path / "out" / "model").exists()
    with pytest.raises(UserError, match=r"hold 'ß', .* characters: \"Üß\""):
        docstill.prune(model, tmp_path / "half", data=data, method="vocabulary", characters="Ü")
    done = docstill.prune(model, tmp_path / "small", data=data, method="vocabulary", characters="Üß")
    tokenizer = load_donut(done["model"]).processor.tokenizer
    assert unspellable(tokenizer, ["Ü9", "ß", "ñ"]) == {"ñ"}


def test_a_recipe_refuses_them_too(tmp_path: Path) -> None:
    data, model = folders(tmp_path / "data", ["1", "23"], ["ß"]), with_umlauts().save(tmp_path / "model")
    content = {
        "task": "kie",
        "teacher": str(model),
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "stages": [{"prune": {"method": "vocabulary"}}],
    }
    with pytest.raises(UserError, match=r"say characters: \"ß\" to keep them"):
        docstill.compress(parse_recipe(content), tmp_path / "run")


def test_what_the_model_can_never_write_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = folders(tmp_path / "data", ["é1", "2"], ["1", "ø"]), with_umlauts().save(tmp_path / "model")
    tiny_folder(data / "validation", [{"shop": "ø", "tax": "1"}])
    docstill.prune(model, tmp_path / "out", data=data, method="vocabulary")
    said = capsys.readouterr().err.splitlines()
    assert any("train hold 'é', for which the vocabulary has no token" in line for line in said)
    assert any("validation hold 'ø', for which" in line for line in said)
    assert any("hold </s_tax>, <s_tax>, which no training answer has; they are dropped" in line for line in said)


def unigram(pieces: dict[str, float]) -> object:
    scores = [(token, 0.0) for token in SPECIAL] + list(pieces.items())
    return wrap(Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False)))


def test_the_unknown_stays_as_unlikely_as_it_was() -> None:
    texts = ["xyzw", "yzw"]
    before = unigram({"xy": -14.0, "zw": -14.0, "yzw": -1.0, "never": -30.0, "seldom": -20.0})
    kept = needed_tokens(before, texts, 0)
    after = trimmed_tokenizer(before, kept)
    assert [spelling(after, text) for text in texts] == [["xy", "zw"], ["yzw"]]
    check_spelling(before, after, texts)
    vocabulary = before.get_vocab()  # type: ignore[attr-defined]
    assert vocabulary["never"] in kept
    assert vocabulary["seldom"] not in kept
    without = trimmed_tokenizer(before, [index for index in kept if index != vocabulary["never"]])
    with pytest.raises(UserError, match=r"other tokens than before \('xyzw'\); leave this stage out"):
        check_spelling(before, without, texts)


def test_a_lowest_piece_that_is_needed_anyway_takes_no_other_with_it() -> None:
    before = unigram({"never": -9.0, "a": -9.0})
    kept = needed_tokens(before, ["a"], 0)
    assert "never" not in trimmed_tokenizer(before, kept).get_vocab()


def test_characters_that_have_a_token_only_after_a_space_or_in_a_word() -> None:
    before = unigram({"▁": -3.0, "▁ß": -4.0, "Übung": -5.0, "a": -9.0})
    assert "▁ß" in trimmed_tokenizer(before, needed_tokens(before, ["a"], 0, "ß")).get_vocab()
    after = trimmed_tokenizer(before, needed_tokens(before, ["a"], 0))
    with pytest.raises(UserError, match=r"the answers hold 'ß', .*; say characters: \"aß\" to keep them$"):
        check_kept(before, after, ["▁ß"], "the answers", "a")
    with pytest.raises(UserError, match=r"'Ü'.* can only be spelt in longer tokens"):
        check_kept(before, after, ["Übung"], "the answers", "")
    assert lost_tags(before, after, ["Übung"]) == []
