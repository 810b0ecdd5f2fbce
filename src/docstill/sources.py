"""The two splits that a run learns from and looks at, wherever they come from: folders, or a generator to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docstill.errors import UserError
from docstill.recipe import Data, Generated
from docstill.synthesis.generator import Generator, check_extra, check_folders
from docstill.synthesis.stream import Stream
from docstill.tasks.base import Pages, Task


def read_splits(task: Task, data: Data) -> tuple[Pages, Pages]:
    """Training and validation split.

    Raises:
        DataError: what is wrong with a folder, all at once.
        UserError: generated documents cannot be drawn as asked, or the validation split holds some of them.
        MissingExtra: they are generated, and the extra ``synth`` is not installed.
    """
    training = _drawn(data.train) if isinstance(data.train, Generated) else task.read(data.train)
    validation = task.read(data.validation, training)
    if training.stream is not None:
        _check_apart(training, validation)
    return training, validation


def stream_of(asked: Generated) -> Stream:
    """The documents that a recipe asks for.

    Raises:
        UserError: a folder that they are to be drawn with is not there.
        MissingExtra: the extra ``synth`` is not installed.
    """
    check_extra("data.train.synth")
    generator = Generator(
        asked.synth,
        asked.seed,
        asked.fonts,
        asked.corpus,
        asked.form,
        asked.wear,
        asked.papers,
        asked.backgrounds,
    )
    check_folders(generator)
    return Stream(generator, asked.n)


def _drawn(asked: Generated) -> Pages:
    stream = stream_of(asked)
    return Pages(Path(str(asked)), stream.first(), stream=stream)


def _check_apart(training: Pages, validation: Pages) -> None:
    """Refuses to score on what is trained on: `docstill synth` with the same seed draws the same documents."""
    drawn = {_text(document.target) for document in training.documents}
    again = sum(_text(document.target) in drawn for document in validation.documents)
    if again:
        raise UserError(
            f"{again:,} of {len(validation.documents):,} documents in {validation.folder} have the answers of documents that are "
            "drawn to train on; give data.train another seed than that of the folder"
        )


def _text(answer: Any) -> str:
    return json.dumps(answer, sort_keys=True)
