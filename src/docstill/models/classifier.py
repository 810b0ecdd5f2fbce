"""Page classifiers: sizes that can be made from scratch, and loading any `AutoModelForImageClassification` whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, AutoModelForImageClassification, ViTImageProcessorPil

from docstill.errors import UserError, nearest
from docstill.models.io import DocumentModel
from docstill.models.labelled import check_keys, class_names, load_labelled

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
    "mobilenet-v2": {"model_type": "mobilenet_v2", "classifier_dropout_prob": 0.2},  # 0.8 is what the paper *keeps*
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
        raise UserError(
            f"there is no classifier size {size!r}; choose one of {', '.join(CLASSIFIER_SIZES)}{nearest(size, CLASSIFIER_SIZES)}"
        )
    known = dict(CLASSIFIER_SIZES[size])
    model_type = known.pop("model_type")
    allowed = AutoConfig.for_model(model_type).to_dict()
    check_keys(model_type, changes, allowed)
    height, width = image_size or (224, 224)
    if "image_size" in allowed:
        if height != width:
            raise UserError(f"a {model_type} needs a square image_size, {height} × {width} was given")
        known["image_size"] = height
    config = AutoConfig.for_model(model_type, **{**known, **changes}, **class_names(labels))
    network = AutoModelForImageClassification.from_config(config)
    network.eval()
    processor = ViTImageProcessorPil(size={"height": height, "width": width})
    return DocumentModel("classification", network, processor, list(labels))


def load_classifier(source: str) -> DocumentModel:
    """Loads a classifier, its own image processor, its masks and its card.

    Raises:
        ModelError: not a folder or hub id, not whole, no image processor, or a model for another task.
    """
    return load_labelled(source, "classification", "page classifier", AutoModelForImageClassification)
