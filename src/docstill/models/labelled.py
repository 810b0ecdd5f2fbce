"""What page classifiers and layout detectors share: classes by name in the configuration, and how they are loaded."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from transformers import AutoImageProcessor

from docstill.errors import ModelError, UserError, nearest
from docstill.models.head import names_in_order
from docstill.models.io import DocumentModel, load_masks_into, load_whole, local_folder, read_card


def class_names(labels: Sequence[str]) -> dict[str, Any]:
    """The keys of a transformers configuration that name its classes."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def check_keys(what: str, changes: Iterable[str], allowed: Collection[str]) -> None:
    """Refuses changes to a configuration that has no such key.

    Raises:
        UserError: names the key and the nearest one; or the key says what the data say.
    """
    for key in changes:
        if key in ("id2label", "label2id", "num_labels"):
            raise UserError(
                f"the configuration key {key!r} was given, but the data say what the classes are; leave it out"
            )
        if key not in allowed:
            raise UserError(f"a {what} has no configuration key {key!r}{nearest(key, allowed)}")


def replace_classes(model: DocumentModel, labels: Sequence[str]) -> None:
    """Gives the model other classes: tensors whose shape depends on their number are made anew, all others stay."""
    old = model.network
    config = copy.deepcopy(old.config)
    names = class_names(labels)
    config.id2label, config.label2id = names["id2label"], names["label2id"]
    network = type(old)(config)
    kept, fresh = old.state_dict(), network.state_dict()
    network.load_state_dict(
        {name: kept[name] if kept[name].shape == value.shape else value for name, value in fresh.items()}
    )
    model.network, model.labels = network.to(model.device).eval(), list(labels)
    model.masks = {name: mask for name, mask in model.masks.items() if mask.shape == fresh[name].shape}


def same_pages_and_classes(first: DocumentModel, second: DocumentModel) -> bool:
    """Whether two models are given pages in the same way and know the same classes, in any order."""
    same: bool = first.processor.to_dict() == second.processor.to_dict()
    return same and set(first.labels) == set(second.labels)


def load_labelled(source: str, task: str, kind: str, model_class: Any) -> DocumentModel:
    """Loads a network whole, with its own image processor, its masks and its card.

    Args:
        source: a folder or hub id.
        task: what the model must be for.
        kind: how messages call such a model.
        model_class: of transformers, or one like them.

    Raises:
        ModelError: not a folder or hub id, not whole, no image processor, or a model for another task.
    """
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task", task) != task:
        raise ModelError(f"{source} is a model for {card['task']}, not for {task}; give a {kind}")
    network = load_whole(model_class, source)
    try:
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=folder is not None)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source} has no image processor (preprocessor_config.json); save one beside the model"
        ) from error
    return DocumentModel(
        task, network, processor, names_in_order(network.config), load_masks_into(network, source), card
    )
