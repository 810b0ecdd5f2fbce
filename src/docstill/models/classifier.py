"""Page classifiers: sizes that can be made from scratch, and loading any `AutoModelForImageClassification` whole."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, ViTImageProcessorPil

from docstill.errors import ModelError, UserError
from docstill.models.io import DocumentModel, load_masks_into, load_whole, local_folder, read_card

CLASSIFIER_SIZES: dict[str, dict[str, Any]] = {
    "resnet-18": {
        "model_type": "resnet",
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    },
    "resnet-18-half": {
        "model_type": "resnet",
        "embedding_size": 32,
        "hidden_sizes": [32, 64, 128, 256],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    },
    "resnet-10-quarter": {
        "model_type": "resnet",
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 64, 128],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "resnet-50": {"model_type": "resnet"},
    "resnet-101": {"model_type": "resnet", "depths": [3, 4, 23, 3]},
    "vit-tiny": {"model_type": "vit", "hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3},
    "vit-small": {"model_type": "vit", "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    "vit-base": {"model_type": "vit"},
    "dit-base": {"model_type": "beit", "use_relative_position_bias": True, "use_mask_token": False},
    "swin-tiny": {"model_type": "swin"},
    "mobilenet-v2": {"model_type": "mobilenet_v2"},
    "convnext-tiny": {"model_type": "convnext"},
    "efficientnet-b0": {
        "model_type": "efficientnet",
        "image_size": 224,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "hidden_dim": 1280,
        "dropout_rate": 0.2,
    },
}
"""Sizes by name: the transformers configuration they stand for; what is not named is its default."""


def new_classifier(
    size: str, changes: Mapping[str, Any], labels: Sequence[str], image_size: tuple[int, int] | None
) -> DocumentModel:
    """A classifier with random weights.

    Args:
        size: a name of `CLASSIFIER_SIZES`.
        changes: changes to the transformers configuration.
        labels: class names in the order of the logits.
        image_size: (height, width) in pixels; default 224 × 224.

    Raises:
        UserError: no such size, or no such configuration key.
    """
    if size not in CLASSIFIER_SIZES:
        near = difflib.get_close_matches(size, CLASSIFIER_SIZES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"there is no classifier size {size!r}; choose one of {', '.join(CLASSIFIER_SIZES)}{hint}")
    known = dict(CLASSIFIER_SIZES[size])
    model_type = known.pop("model_type")
    allowed = AutoConfig.for_model(model_type).to_dict()
    for key in changes:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"a {model_type} has no configuration key {key!r}{hint}")
    height, width = image_size or (224, 224)
    if "image_size" in allowed:
        if height != width:
            raise UserError(f"a {model_type} needs a square image_size, {height} × {width} was given")
        known["image_size"] = height
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    config = AutoConfig.for_model(model_type, **{**known, **changes}, **names)
    network = AutoModelForImageClassification.from_config(config)
    network.eval()
    processor = ViTImageProcessorPil(size={"height": height, "width": width})
    return DocumentModel("classification", network, processor, list(labels))


def replace_head(model: DocumentModel, labels: Sequence[str]) -> None:
    """Gives the model other classes: tensors whose shape depends on their number are made anew, all others stay."""
    old = model.network
    config = copy.deepcopy(old.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    network = AutoModelForImageClassification.from_config(config)
    kept, fresh = old.state_dict(), network.state_dict()
    network.load_state_dict(
        {name: kept[name] if kept[name].shape == value.shape else value for name, value in fresh.items()}
    )
    model.network, model.labels = network.to(model.device).eval(), list(labels)
    model.masks = {name: mask for name, mask in model.masks.items() if mask.shape == fresh[name].shape}


def load_classifier(source: str) -> DocumentModel:
    """Loads a classifier, its own image processor, its masks and its card.

    Raises:
        ModelError: not a folder or hub id, not whole, no image processor, or a model for another task.
    """
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task", "classification") != "classification":
        raise ModelError(f"{source} is a model for {card['task']}, not for classification; give a page classifier")
    network = load_whole(AutoModelForImageClassification, source)
    try:
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=folder is not None)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source} has no image processor (preprocessor_config.json); save one beside the model"
        ) from error
    labels = [network.config.id2label[index] for index in range(network.config.num_labels)]
    return DocumentModel("classification", network, processor, labels, load_masks_into(network, source), card)
