"""What holding answers to a schema costs.

python benchmarks/decoding/run.py

CPU time of one thread (so that a busy machine does not matter), median over rounds: the decoder of `donut-mini` with random
weights, a token with and without the grammar; the grammar's step alone for the vocabulary size of published Donuts.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.modeling_outputs import BaseModelOutput

from docstill.data.json_tokens import json_to_tokens, tag_tokens
from docstill.decoding.grammar import Grammar, Writer
from docstill.decoding.schema import schema_of, to_card
from docstill.decoding.writing import generate
from docstill.deploy.hardware import hardware
from docstill.models.donut import new_donut
from docstill.models.donut_tokens import encode

ROUNDS, TOKENS, PUBLISHED = 7, 64, 57_525
ANSWER = {"menu": [{"nm": "TEA", "cnt": "2", "price": "3.00"}] * 4, "total": {"total_price": "12.00", "cash": "20.00"}}


def main() -> None:
    torch.set_num_threads(1)
    text = json_to_tokens(ANSWER)
    model = new_donut("donut-mini", {}, [text], tag_tokens(ANSWER))
    schema = schema_of([ANSWER], len)
    encoded = torch.randn(1, 150, model.network.config.encoder.hidden_size)

    def tokens() -> None:
        with torch.inference_mode():
            generate(model, TOKENS, encoded=encoded, least=TOKENS)

    def stock() -> None:
        with torch.inference_mode():
            model.network.generate(
                encoder_outputs=BaseModelOutput(encoded), max_length=TOKENS + 1, min_length=TOKENS + 1
            )

    def held() -> None:
        model.card["schema"] = to_card(schema)
        tokens()

    def free() -> None:
        model.card.clear()
        tokens()

    ids = [0, *encode(model.processor.tokenizer, text)]
    scores = torch.randn(1, PUBLISHED)
    grammar = Grammar(schema, model.processor.tokenizer, PUBLISHED, torch.device("cpu"))

    def steps(of: Grammar | None) -> None:
        writer = Writer(of, 1000, 1)
        for written, token in enumerate(ids[1:], 1):
            writer.hold(scores, [0], written)
            writer.take([0], [token])

    works: dict[str, tuple[Callable[[], object], int]] = {
        "donut-mini, free": (free, TOKENS),
        "donut-mini, held": (held, TOKENS),
        "donut-mini, transformers' generate": (stock, TOKENS),
        "step alone, 57525 tokens, free": (lambda: steps(None), len(ids) - 1),
        "step alone, 57525 tokens, held": (lambda: steps(grammar), len(ids) - 1),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, (work, units) in works.items():
            began = time.process_time()
            work()
            if turn:  # the first makes the masks
                found[name].append(1000 * (time.process_time() - began) / units)
    result = {
        "rounds": ROUNDS,
        "median_cpu_ms": {name: round(statistics.median(values), 4) for name, values in found.items()},
        "hardware": hardware(),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
