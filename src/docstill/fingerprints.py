"""What a teacher's answers depend on, as a hash: so that what was kept of them is never used for another teacher or page."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from docstill.data.document import Document
from docstill.decoding.schema import SCHEMA
from docstill.models.io import DocumentModel
from docstill.tasks.key_order import KEY_ORDER


def add_model(found: hashlib.blake2b, model: DocumentModel) -> None:
    """Adds weights, configuration, classes, preprocessing, and the schema that its answers are held to."""
    for name, tensor in sorted(model.network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    found.update(model.network.config.to_json_string(use_diff=False).encode())
    found.update(json.dumps([model.labels, model.card.get(SCHEMA)]).encode())
    found.update(str(model.card.get(KEY_ORDER, "")).encode())
    with TemporaryDirectory() as scratch:
        model.processor.save_pretrained(scratch)
        for path in sorted(Path(scratch).rglob("*.*")):
            found.update(path.read_bytes())


def add_page(found: hashlib.blake2b, document: Document) -> None:
    """Adds a page's file, byte by byte, and all its answers."""
    found.update(json.dumps([document.target, document.variants], sort_keys=True, default=str).encode())
    found.update(hashlib.blake2b(document.file.read_bytes()).digest())
