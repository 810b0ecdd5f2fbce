"""Page classifiers: sizes that can be made from scratch, and loading any `AutoModelForImageClassification` whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageClassification, ViTImageProcessorPil

from docstill.errors import DocstillError, ModelError, UserError, nearest
from docstill.models.conv_head import with_conv_head
from docstill.models.head import CONV_HEAD, MLP_HEAD
from docstill.models.io import DocumentModel, local_folder
from docstill.models.labelled import check_keys, class_names, load_labelled
from docstill.models.mlp_head import with_mlp_head

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


LEAST_SPREAD = 0.02
"""Standard deviation below which pages count as blank: nothing is gained from stretching what is hardly there."""


def new_classifier(
    size: str,
    changes: Mapping[str, Any],
    labels: Sequence[str],
    image_size: tuple[int, int] | None,
    sample: Iterable[Image.Image] = (),
) -> DocumentModel:
    """A classifier with random weights.

    Args:
        size: a name of `CLASSIFIER_SIZES`.
        changes: changes to the transformers configuration.
        labels: class names in the order of the logits.
        image_size: (height, width) in pixels; default 224 × 224.
        sample: pages such as the model will learn from; its processor gives them mean 0 and standard deviation 1. Without
            any, black is −1 and white 1. Pages are mostly paper: with white at 1 that is one large constant in every patch
            of a ViT or Swin.

    Raises:
        UserError: no such size, no such configuration key, a network that cannot look at a page of that size, or a page of the
            sample that cannot be read.
    """
    if size not in CLASSIFIER_SIZES:
        raise UserError(
            f"there is no classifier size {size!r}; choose one of {', '.join(CLASSIFIER_SIZES)}{nearest(size, CLASSIFIER_SIZES)}"
        )
    known = dict(CLASSIFIER_SIZES[size])
    model_type = known.pop("model_type")
    allowed = AutoConfig.for_model(model_type).to_dict()
    check_keys(model_type, changes, allowed)
    if "image_size" in allowed:
        height, width = image_size or (224, 224)
        if height != width:
            raise UserError(f"a {model_type} needs a square image_size, {height} × {width} was given")
        if image_size and "image_size" in changes:
            raise UserError(
                f"image_size was given twice, as {height} × {width} and in config as {changes['image_size']}; leave one of them out"
            )
        known["image_size"] = height
    try:
        config = AutoConfig.for_model(model_type, **{**known, **changes}, **class_names(labels))
        network = AutoModelForImageClassification.from_config(config).eval()
        processor = _processor(config.image_size if "image_size" in allowed else image_size or 224, sample)
        model = DocumentModel("classification", network, processor, list(labels))
        page = processor(images=[Image.new("RGB", (85, 110), "white")], return_tensors="pt")
        with torch.no_grad():  # a size that does not fit shows only here
            network(pixel_values=page["pixel_values"].to(model.device))
    except DocstillError:  # a page of the sample that cannot be read
        raise
    except Exception as error:  # whatever transformers and torch raise on numbers that do not fit together
        given = ", ".join(
            [
                *([f"image_size {list(image_size)}"] if image_size else []),
                *([f"config {dict(changes)}"] if changes else []),
            ]
        )
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"a {size} with {given or 'its own numbers'} cannot look at a page ({why}); give an image_size and a config that fit "
            "together"
        ) from error
    return model


def _processor(image_size: int | Sequence[int], sample: Iterable[Image.Image]) -> ViTImageProcessorPil:
    """Squashes pages to (height, width), or to a square, and gives them the mean and the spread of ``sample``."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    processor = ViTImageProcessorPil(size={"height": height, "width": width})
    values = [processor(images=[page], do_normalize=False, return_tensors="np")["pixel_values"][0] for page in sample]
    if values:
        channels = np.stack(values).transpose(1, 0, 2, 3).reshape(3, -1)
        processor.image_mean = channels.mean(axis=1, dtype=np.float64).round(4).tolist()
        processor.image_std = channels.std(axis=1, dtype=np.float64).clip(LEAST_SPREAD).round(4).tolist()
    return processor


def load_classifier(source: str) -> DocumentModel:
    """Loads a classifier, its own image processor, its masks and its card.

    Raises:
        ModelError: not a folder or hub id, not whole, no image processor, or a model for another task.
    """
    return load_labelled(source, "classification", "page classifier", _class_of(source))


def _class_of(source: str) -> Any:
    """The class of the network in a folder or under a hub id; the usual one where that cannot be told."""
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local_folder(source) is not None)
    except (OSError, ValueError):
        return AutoModelForImageClassification  # loading it says what is wrong
    for key, made in ((MLP_HEAD, with_mlp_head), (CONV_HEAD, with_conv_head)):
        if getattr(config, key, None) is not None:
            name = (config.architectures or [""])[0]
            if (network := getattr(transformers, name, None)) is None:
                raise ModelError(
                    f"config.json of {source} names {name or 'no network'} under architectures, which transformers does not have; restore the "
                    "file that was saved"
                )
            return made(network)
    return AutoModelForImageClassification
