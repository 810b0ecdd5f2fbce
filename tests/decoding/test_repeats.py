"""Answers that repeat themselves are cut short, with a schema and without; what only looks so is left alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from docstill.data.json_tokens import canonical, json_to_tokens, tokens_to_json
from docstill.decoding.reading import Reading, reading
from docstill.decoding.repeats import COVERED, EVERY, LONGEST, TIMES, Loop, Repeats, loop_at_end
from docstill.decoding.schema import SCHEMA, schema_of, to_card
from docstill.decoding.writing import asleep, drawn_answers, generate
from docstill.models.donut_tokens import character_tokenizer, encode
from docstill.models.io import DocumentModel
from docstill.pruning.merges import merged_tokenizer
from docstill.tasks.kie import Kie
from kie_tiny import page, tiny_donut

pytestmark = pytest.mark.usefixtures("one_thread")
KEYS = ("menu", "nm", "price", "total")
TOKENIZER = character_tokenizer([], [f"<{slash}s_{key}>" for key in KEYS for slash in ("", "/")])
ROW = ("</s_nm>", "<s_price>"), ("</s_price>", "<sep/>"), ("</s_price><sep/>", "<s_nm>")
END = ("</s_price>", "</s_menu>"), ("</s_price></s_menu>", "<s_total>")
MERGED = merged_tokenizer(TOKENIZER, [*ROW, *END])
ANSWERS = [{"menu": [{"nm": "x" * 90, "price": "22"}, {"nm": "tea", "price": "3"}] * 12, "total": "9"}]
NEXT = {"</s_nm>": "<s_price>", "<s_price>": "5", "</s_menu>": "<s_total>", "<s_total>": "9", "</s_total>": "</s>"}
"""What the network below likes to write after a tag, where it may not go on as it wants to."""
ROOM = 700


class Network:
    """Stands for a decoder that writes a text, and then a block over and over, until the schema does not let it.

    From there on it writes what `NEXT` says, or else closes what is open.
    """

    def __init__(self, scripts: Sequence[tuple[str, str]], tokenizer: Any = TOKENIZER) -> None:
        self.answers, self.device, self.vocabulary = len(scripts), torch.device("cpu"), tokenizer.get_vocab()
        self.width, self.length, self.rows = len(tokenizer), 0, list(range(len(scripts)))
        self.wanted = [
            itertools.chain(encode(tokenizer, text), itertools.cycle(encode(tokenizer, loop))) for text, loop in scripts
        ]
        self.last = [-1] * len(scripts)
        self.tokenizer = tokenizer

    def scores(self, last: Tensor) -> Tensor:
        found = torch.zeros(len(self.rows), self.width)
        for line, (row, token) in enumerate(zip(self.rows, last.tolist(), strict=True)):
            piece = self.tokenizer.convert_ids_to_tokens(token)
            for liked, more in {
                "</s_nm>": 8,
                "</s_price>": 8,
                "</s_menu>": 8,
                "</s_total>": 8,
                NEXT.get(piece, ""): 9,
            }.items():
                if liked:
                    found[line, self.vocabulary[liked]] = more
            if self.length == 0 or token == self.last[row]:
                self.last[row] = next(self.wanted[row])
                found[line, self.last[row]] = 20.0
            else:
                self.last[row] = -1
        self.length += 1
        return found

    def keep(self, rows: Tensor) -> None:
        self.rows = list(itertools.compress(self.rows, rows.tolist()))


def model_with(tokenizer: Any = TOKENIZER, answers: list[Any] | None = None) -> DocumentModel:
    """A model for whose decoder `Network` stands; with a schema where there are answers."""
    model = tiny_donut()
    model.processor.tokenizer = tokenizer
    model.network.config.decoder.vocab_size = len(tokenizer)
    if answers is not None:
        model.card[SCHEMA] = to_card(schema_of(answers, lambda text: len(encode(TOKENIZER, text))))
    return model


def read(model: DocumentModel, *scripts: tuple[str, str], room: int = ROOM) -> list[Reading]:
    tokenizer = model.processor.tokenizer
    steps: Any = Network(scripts, tokenizer)
    rows, likely = generate(model, room, steps=steps)
    assert likely.shape == (len(scripts), rows.shape[1] - 1)
    return [reading(tokenizer, row, found) for row, found in zip(rows[:, 1:].tolist(), likely.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("total 1" + "0" * 64, Loop(7, 1)),
        ("ab" * 32, Loop(0, 2)),
        ("c" + "ab" * 32 + "a", Loop(1, 2)),
        ("tea, 1.00; " * 10, Loop(0, 11)),
        ("milk1.00; " + "tea, 1.00; " * 10, Loop(4, 11)),  # the end of the line before is the same
        ("".join(map(chr, range(40, 40 + LONGEST))) * TIMES, Loop(0, LONGEST)),
    ],
)
def test_a_block_over_and_over_is_found_from_where_it_began(text: str, loop: Loop) -> None:
    tokens = list(map(ord, text))
    assert loop_at_end(tokens) == loop
    assert loop_at_end(tokens[: loop.start + TIMES * loop.block - 1][: loop.start + COVERED - 1]) is None
    assert loop_at_end([*tokens, 1]) is None


@pytest.mark.parametrize(
    "text",
    [
        "0000000000",
        "bar code " + "0" * 40,
        "." * 60,
        "tea, 1.00; " * 9,
        "yoghurt   0.69 A\n" * 8,
        "1.00, " + "0.00, " * 9,
        "".join(map(chr, range(200))) * 3,
        "",
    ],
)
def test_what_comes_often_for_good_reason_is_no_loop(text: str) -> None:
    assert loop_at_end(list(map(ord, text))) is None


FREE = [
    (("<s_total>1", "0"), "<s_total>10</s_total>", {"total": "10"}),
    (("<s_menu><s_nm>", "ab "), "<s_menu><s_nm>ab </s_nm></s_menu>", {"menu": {"nm": "ab"}}),
    (("no tags: ", "at all, "), "no tags: at all,", {"text_sequence": "no tags: at all,"}),
    (
        ("<s_menu>", "<s_nm>tea</s_nm><s_price>1</s_price><sep/>"),
        "<s_menu><s_nm>tea</s_nm><s_price>1</s_price></s_menu>",
        {"menu": {"nm": "tea", "price": "1"}},
    ),
    (
        ("<s_menu><s_nm>milk</s_nm><s_price>1</s_price><sep/>", "<s_nm>tea</s_nm><s_price>1</s_price><sep/>"),
        "<s_menu><s_nm>milk</s_nm><s_price>1</s_price><sep/><s_nm>tea</s_nm><s_price>1</s_price></s_menu>",
        {"menu": [{"nm": "milk", "price": "1"}, {"nm": "tea", "price": "1"}]},
    ),
    (
        ("<s_total>3</s_total><s_menu>", "<s_nm></s_nm><sep/>"),
        "<s_total>3</s_total><s_menu><s_nm></s_nm></s_menu>",
        {"total": "3", "menu": {"nm": ""}},
    ),
    (("<s_total>2</s_total>", "<s_total>1</s_total>"), "<s_total>2</s_total><s_total>1</s_total>", {"total": "1"}),
    (("<s_total>2</s_total>", "<s_menu>"), "<s_total>2</s_total><s_menu></s_menu>", {"total": "2", "menu": ""}),
    (("<s_total>2", "</s_total>"), "<s_total>2</s_total>", {"total": "2"}),
    (("<s_total>2</s_total>", "<sep/>"), "<s_total>2</s_total>", {"total": "2"}),
]


@pytest.mark.parametrize(("script", "text", "fields"), FREE)
def test_without_a_schema_one_copy_stays_and_the_answer_ends(script: tuple[str, str], text: str, fields: Any) -> None:
    (found,) = read(model_with(), script)
    assert (found.text, found.fields) == (text, fields)
    assert found.whole == 0


def test_what_repeated_itself_has_no_confidence_and_what_came_before_keeps_its_own() -> None:
    model = model_with()
    (found,) = read(model, ("<s_total>3</s_total><s_menu><s_nm>", "ab "))
    assert found.confidence["total"] > 0.9
    assert found.confidence["menu"] == {"nm": 0.0}
    (found,) = read(model, ("<s_total>3</s_total><s_menu>", "<s_nm>tea</s_nm><sep/>"))
    assert found.confidence["total"] > 0.9
    assert found.confidence["menu"] == {"nm": 0.0}
    assert found.whole == 0


HELD = [
    (
        ("<s_menu><s_nm>ab", "cd"),
        {"menu": {"nm": "abcd", "price": "5"}, "total": "9"},
        {"menu": {"nm": False, "price": True}, "total": True},
    ),
    (
        ("<s_menu><s_nm>milk</s_nm><s_price>1</s_price><sep/>", "<s_nm>tea</s_nm><s_price>1</s_price><sep/>"),
        {"menu": [{"nm": "milk", "price": "1"}, {"nm": "tea", "price": "1"}], "total": "9"},
        {"menu": [{"nm": True, "price": True}, {"nm": False, "price": False}], "total": True},
    ),
    (
        ("<s_menu>", "<s_nm>tea</s_nm><sep/>"),
        {"menu": {"nm": "tea"}, "total": "9"},
        {"menu": {"nm": False}, "total": True},
    ),
]


@pytest.mark.parametrize(("script", "fields", "sure"), HELD)
def test_with_a_schema_what_repeats_is_closed_and_the_rest_is_read(
    script: tuple[str, str], fields: Any, sure: Any
) -> None:
    (found,) = read(model_with(answers=ANSWERS), script)
    assert found.fields == fields
    assert surely(found.confidence) == sure
    assert found.whole == 0


def surely(confidence: Any) -> Any:
    """Whether a confidence is more than nothing."""
    if isinstance(confidence, dict):
        return {key: surely(value) for key, value in confidence.items()}
    return [surely(value) for value in confidence] if isinstance(confidence, list) else confidence > 0


def test_with_merged_tags_too() -> None:
    script = ("<s_menu>", "<s_nm>tea</s_nm><s_price>1</s_price><sep/>")
    for answers in (None, ANSWERS):
        (found,) = read(model_with(MERGED, answers), script)
        assert {"nm": "tea", "price": "1"} in [found.fields["menu"], *found.fields["menu"]]
        assert len(found.text) < 150
        assert ("total" in found.fields) == (answers is not None)


def test_an_answer_that_has_used_up_its_room_is_cut_back_sooner() -> None:
    model, row = model_with(), "<s_nm>tea</s_nm><s_price>1</s_price><sep/>"
    script = ("<s_menu>" + row.replace("tea", "milk"), row)
    (found,) = read(model, script, room=50)
    assert found.fields == {"menu": [{"nm": "milk", "price": "1"}, {"nm": "tea", "price": "1"}]}
    assert found.whole == 0
    (found,) = read(model, script, room=28)  # twice is nothing
    assert found.text.count("tea") == 2
    assert found.whole > 0


def test_answers_of_a_batch_are_those_of_each_alone() -> None:
    scripts = [script for script, _, _ in FREE] + [("<s_total>3</s_total>", "</s>")]
    for answers in (None, ANSWERS):
        model = model_with(answers=answers)
        if answers is not None:
            scripts = [script for script, _, _ in HELD] + [("<s_total>3</s_total>", "</s>")]
        assert read(model, *scripts) == [read(model, script)[0] for script in scripts]


def looping(seed: int, positions: int = 256) -> DocumentModel:
    """A network that goes from token to token, whatever the page and the place, and so in circles."""
    model = tiny_donut(seed, positions=positions)
    decoder, generator = model.network.decoder, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in decoder.model.decoder.layers:
            for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                part.weight.zero_()
                part.bias.zero_()
        decoder.model.decoder.embed_positions.weight.zero_()
        head = torch.randn(decoder.lm_head.weight.shape, generator=generator)
        head[model.processor.tokenizer.eos_token_id] = 0
        decoder.lm_head.weight = torch.nn.Parameter(head)
    return model


def test_a_network_that_goes_in_circles_is_stopped_on_each_page_alike() -> None:
    kie, images = Kie(), [page({"shop": "Birch"}), page({"total": "12.50"})]
    for seed in range(2):
        model = looping(seed)
        together = kie.predict(model, images)
        assert together == [kie.predict(model, [image])[0] for image in images]
        assert all(answer["document_confidence"] == 0 for answer in together)
        assert all(len(answer["text"]) < 200 for answer in together)
        with asleep(model.network):
            pixels = torch.rand(2, 3, *model.network.config.encoder.image_size)
            found, _ = generate(model, 200, pixels=pixels)
            asked, _ = generate(model, 200, pixels=pixels, least=200)
        assert found.shape[1] < 100
        assert asked.shape[1] == 201  # as for timing
        assert {len(row) for row in drawn_answers(model, pixels, 200)} == {201}


def test_nothing_changes_where_nothing_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks, looked at and not: the same tokens, the same probabilities to the last bit."""
    for seed, answers in itertools.product((3, 4, 7), (None, [{"shop": "x" * 40, "total": "1" * 40}])):
        model = tiny_donut(seed, positions=128)
        decoder = model.network.decoder
        with torch.no_grad():
            decoder.model.decoder.embed_positions.weight.mul_(40)
            decoder.lm_head.weight = torch.nn.Parameter(torch.randn_like(decoder.lm_head.weight))
        if answers is not None:
            model.card[SCHEMA] = to_card(schema_of(answers, len))
        pixels = torch.rand(3, 3, *model.network.config.encoder.image_size)
        with asleep(model.network):
            found = generate(model, 100, pixels=pixels)
            with monkeypatch.context() as patch:
                patch.setattr(Repeats, "end", lambda *_, **__: False)
                expected = generate(model, 100, pixels=pixels)
        assert found[0].shape[1] > EVERY
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


class Circling:
    """Stands for a decoder that has its own liking for what follows each token."""

    def __init__(self, width: int, likes: Callable[[int], Tensor]) -> None:
        self.answers, self.device, self.width, self.likes = 1, torch.device("cpu"), width, likes

    def scores(self, last: Tensor) -> Tensor:
        return torch.stack([self.likes(token) for token in last.tolist()])


@pytest.mark.parametrize("tokenizer", [TOKENIZER, MERGED], ids=["single tags", "merged tags"])
def test_whatever_repeats_answers_parse_and_stay_in_the_schema(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [*ANSWERS, {"menu": [{"nm": ["x" * 80, "y"], "price": "1"}] * 40, "total": ["1"] * 50}]
    model, cuts = model_with(tokenizer, answers), 0
    mended = Repeats.mended

    def counted(self: Repeats, likely: Tensor) -> Any:
        nonlocal cuts
        cuts += sum(map(len, self.cuts.values()))
        return mended(self, likely)

    monkeypatch.setattr(Repeats, "mended", counted)
    tags = [token for piece, token in tokenizer.get_vocab().items() if "<s_" in piece or "<sep/>" in piece]
    for seed in range(25):
        torch.manual_seed(seed)
        table = torch.randn(len(tokenizer), len(tokenizer))
        table[:, random.Random(seed).sample(range(len(tokenizer)), 80)] -= 5
        table[:, tags] += 3
        table[:, tokenizer.eos_token_id] = -9
        steps: Any = Circling(len(tokenizer), table.__getitem__)
        rows, likely = generate(model, 400, steps=steps)
        found = reading(tokenizer, rows[0, 1:].tolist(), likely[0].tolist())
        assert (rows == tokenizer.eos_token_id).sum() == 1
        for key in KEYS:
            assert found.text.count(f"<s_{key}>") == found.text.count(f"</s_{key}>")
        assert found.fields == tokens_to_json(found.text)
        assert canonical(tokens_to_json(json_to_tokens(found.fields))) == canonical(found.fields)
    assert cuts > 8
