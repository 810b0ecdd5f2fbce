"""How alike the rows of a run are to its teacher, over seeds: what stands in `results.json` and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docstill.metrics.tree import same_answer


def alike_rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One entry a row: figures over seeds, and the layers of the first seed.

    Args:
        found: by row, for each seed what `docstill.similarity.comparison.layers_alike` gave, with ``seed`` and
            ``same_answers``; one without ``similarity`` could not be compared.

    Returns:
        ``{"name", "n", "seeds", "tokens", "global", "chance", "biased_global", "biased_chance", "parts", "same_answers",
        "layers"}``; a figure is a list, one for each seed.
    """
    rows = []
    for name, seeds in found.items():
        whole = [seed for seed in seeds if seed.get("similarity")]
        if not whole:
            continue
        similar = [seed["similarity"] for seed in whole]
        rows.append(
            {
                "name": name,
                "n": whole[0]["n"],
                "seeds": [seed["seed"] for seed in whole],
                "tokens": similar[0]["tokens"],
                "global": [one["global"] for one in similar],
                "chance": [one["chance"] for one in similar],
                "biased_global": [one["biased"]["global"] for one in similar],
                "biased_chance": [one["biased"]["chance"] for one in similar],
                "parts": {part: [one["parts"][part] for one in similar] for part in similar[0]["parts"]},
                "same_answers": [seed["same_answers"] for seed in whole],
                "layers": similar[0]["layers"],
            }
        )
    return rows


def share_of_same_answers(
    task: str, teacher: Sequence[Mapping[str, Any]], student: Sequence[Mapping[str, Any]]
) -> float:
    """Share of documents that both answer alike, from the documents of their evaluations.

    Args:
        task: ``classification`` (the class counts, not its probability) or ``kie``.
        teacher: ``{"file", "predicted", …}`` for each document.
        student: the same documents.
    """
    answers = {entry["file"]: entry["predicted"] for entry in teacher}
    pairs = [(answers[entry["file"]], entry["predicted"]) for entry in student]
    if task == "classification":
        pairs = [(one["label"], other["label"]) for one, other in pairs]
    return sum(same_answer(one, other) for one, other in pairs) / len(pairs)
