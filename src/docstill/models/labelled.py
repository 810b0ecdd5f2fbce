"""What page classifiers and layout detectors share: classes by name in the configuration, and how they are loaded."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from transformers import AutoImageProcessor

from docstill.errors import ModelError, UserError, nearest
from docstill.models.blocks import TWO_STAGE_DETECTOR
from docstill.models.head import names_in_order
from docstill.models.io import DocumentModel, check_kind, load_masks_into, load_whole, local_folder, read_card


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
    """Gives the model other classes.

    Of tensors whose shape depends on the number of classes, the rows of classes that it knew by the same name stay, as do those of
    the background; the others are made anew, and all other tensors stay.
    """
    old, known = model.network, model.labels
    network = type(old)(_of_classes(old.config, labels))
    with torch.device("meta"):
        grown = type(old)(_of_classes(old.config, [*known, ""])).state_dict()
    kept, fresh = old.state_dict(), network.state_dict()
    counted = {name for name, value in kept.items() if value.shape != grown[name].shape}
    # The background stands before the classes in a Faster R-CNN, elsewhere behind them, if anywhere.
    first = int(old.config.model_type == TWO_STAGE_DETECTOR)
    for name, value in fresh.items():
        if name not in counted:
            fresh[name] = kept[name]
            continue
        rows = grown[name].shape[0] - kept[name].shape[0]
        places = [
            (first + labels.index(label), first + number) for number, label in enumerate(known) if label in labels
        ]
        if len(kept[name]) > rows * len(known):
            places.append((0, 0) if first else (len(labels), len(known)))
        for new, before in places:
            value[rows * new : rows * (new + 1)] = kept[name][rows * before : rows * (before + 1)].to(value)
    network.load_state_dict(fresh)
    model.network, model.labels = network.to(model.device).eval(), list(labels)
    model.masks = {name: mask for name, mask in model.masks.items() if name not in counted}


def _of_classes(config: Any, labels: Sequence[str]) -> Any:
    """A copy of a configuration for other classes."""
    config, names = copy.deepcopy(config), class_names(labels)
    config.id2label, config.label2id = names["id2label"], names["label2id"]
    return config


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
        ModelError: not a folder or hub id, not whole, no image processor, or a model of another kind.
    """
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task", task) != task:
        raise ModelError(f"{source} is a model for {card['task']}, not for {task}; give a {kind}")
    check_kind(source, task)
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
