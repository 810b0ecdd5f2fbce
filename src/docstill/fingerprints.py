"""What a run, or a teacher's answers, depend on, as hashes: so that what was kept is never used for other data or another teacher."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from docstill.data.document import Document
from docstill.decoding.schema import SCHEMA
from docstill.errors import RecipeError
from docstill.files import read_json, write_json
from docstill.models.io import DocumentModel
from docstill.run import BEGAN_WITH, forget_looks, has_learnt
from docstill.tasks.base import Pages
from docstill.tasks.key_order import KEY_ORDER
from docstill.tasks.kie_blank import BLANK_GUARD


def add_model(found: hashlib.blake2b, model: DocumentModel) -> None:
    """Adds weights, configuration, classes, preprocessing, and the schema that its answers are held to."""
    for name, tensor in sorted(model.network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    found.update(model.network.config.to_json_string(use_diff=False).encode())
    found.update(json.dumps([model.labels, model.card.get(SCHEMA)]).encode())
    found.update(str(model.card.get(KEY_ORDER, "")).encode())
    found.update(str(model.card.get(BLANK_GUARD, "")).encode())
    with TemporaryDirectory() as scratch:
        model.processor.save_pretrained(scratch)
        for path in sorted(Path(scratch).rglob("*.*")):
            found.update(path.read_bytes())


def check_unchanged(run: Path, training: Pages, validation: Pages, teacher: str | None) -> None:
    """Refuses to go on with other data, or another teacher, than was learnt from: the run's figures would not be of the same.

    As long as nobody has learnt, what was found of the old ones is dropped.

    Args:
        run: keeps the hashes, in `BEGAN_WITH`.
        training: the training split; drawn documents are what their seed says.
        validation: the validation split.
        teacher: a folder; of hub ids, and of those that the run trains itself, nothing is known.

    Raises:
        RecipeError: names what has changed.
    """
    found = {"data.validation": of_pages(validation)}
    if training.stream is None:
        found["data.train"] = of_pages(training)
    if teacher is not None and Path(teacher).is_dir():
        found["teacher"] = of_folder(Path(teacher))
    path = run / BEGAN_WITH
    known = read_json(path) if path.is_file() else {}
    changed = [what for what, hashed in found.items() if known.get(what, hashed) != hashed]
    if changed and has_learnt(run):
        raise RecipeError(
            f"{run} was begun with other data or another teacher of the same name; give another folder, or put back what was there",
            [f"{what}: is not what it was" for what in changed],
        )
    if changed:
        forget_looks(run)
        known = {}
    write_json(path, {**known, **found})


def of_pages(pages: Pages) -> str:
    """A hash of a split: its classes, and of each page the name, the size of the file, and what is right."""
    found = hashlib.blake2b(json.dumps(pages.labels).encode(), digest_size=16)
    for document in pages.documents:
        about = [document.where, document.file.stat().st_size, document.target, document.variants]
        found.update(json.dumps(about, sort_keys=True, default=str).encode())
    return found.hexdigest()


def of_folder(folder: Path) -> str:
    """A hash of a model folder's weights and configuration."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json")):
        with open(path, "rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return found.hexdigest()


def add_page(found: hashlib.blake2b, document: Document) -> None:
    """Adds a page's file, byte by byte, and all its answers."""
    found.update(json.dumps([document.target, document.variants], sort_keys=True, default=str).encode())
    about = document.file.stat()
    found.update(_content(document.file, about.st_size, about.st_mtime_ns))


@functools.lru_cache(maxsize=1 << 20)
def _content(file: Path, size: int, changed: int) -> bytes:
    """A hash of a file's bytes; each stage of each seed asks for that of every page."""
    return hashlib.blake2b(file.read_bytes()).digest()
