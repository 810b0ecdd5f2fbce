"""Layout detectors: sizes that can be made from scratch, and loading any `AutoModelForObjectDetection` whole."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

from docstill.errors import UserError, nearest
from docstill.models.blocks import TWO_STAGE_DETECTOR
from docstill.models.faster_rcnn import (
    ANCHOR_SIZES,
    ANCHORS_FOR,
    FasterRcnn,
    FasterRcnnConfig,
    check_parts,
    scaled_anchors,
)
from docstill.models.fresh import begin_anew
from docstill.models.io import DocumentModel, local_folder
from docstill.models.labelled import check_keys, class_names, load_labelled

TASK = "layout"
STRIDE = 32
"""Sides of the input are whole multiples of it, so that the maps of all levels fit on one another."""
LONG_SIDE = 1024

_BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}


def _rt_detr(backbone: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "model_type": "rt_detr_v2",
        "backbone_config": {"model_type": "rt_detr_resnet", "out_features": ["stage2", "stage3", "stage4"], **backbone},
        **others,
    }


def _d_fine(stages: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "model_type": "d_fine",
        "backbone_config": {"model_type": "hgnet_v2", "out_features": ["stage2", "stage3", "stage4"], **stages},
        **others,
    }


_B0 = {
    "hidden_sizes": [64, 256, 512, 1024],
    "use_learnable_affine_block": True,
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
}
_SMALL = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}

DETECTOR_SIZES: dict[str, dict[str, Any]] = {
    "faster-rcnn-r18": {"model_type": TWO_STAGE_DETECTOR, "backbone": "resnet18"},
    "faster-rcnn-r34": {"model_type": TWO_STAGE_DETECTOR, "backbone": "resnet34"},
    "faster-rcnn-r50": {"model_type": TWO_STAGE_DETECTOR, "backbone": "resnet50"},
    "faster-rcnn-r101": {"model_type": TWO_STAGE_DETECTOR, "backbone": "resnet101"},
    "faster-rcnn-r152": {"model_type": TWO_STAGE_DETECTOR, "backbone": "resnet152"},
    "faster-rcnn-mobilenet-v2": {"model_type": TWO_STAGE_DETECTOR, "backbone": "mobilenet_v2"},
    "faster-rcnn-efficientnet-b0": {"model_type": TWO_STAGE_DETECTOR, "backbone": "efficientnet_b0"},
    "rt-detrv2-r18": _rt_detr({**_BASIC, "depths": [2, 2, 2, 2]}, **_SMALL, decoder_layers=3),
    "rt-detrv2-r34": _rt_detr({**_BASIC, "depths": [3, 4, 6, 3]}, **_SMALL, decoder_layers=4),
    "rt-detrv2-r50": _rt_detr({"depths": [3, 4, 6, 3]}),
    "rt-detrv2-r101": _rt_detr(
        {"depths": [3, 4, 23, 3]},
        encoder_hidden_dim=384,
        encoder_ffn_dim=2048,
        decoder_in_channels=[384, 384, 384],
    ),
    "d-fine-s": _d_fine(
        _B0, encoder_in_channels=[256, 512, 1024], hidden_expansion=0.5, depth_mult=0.34, decoder_layers=3
    ),
    "d-fine-l": _d_fine({"hidden_sizes": [128, 512, 1024, 2048]}),
}
"""Sizes by name: the configuration they stand for, as their authors published them; what is not named is its default.

Backbones of RT-DETR learn with live batch-norm statistics, as there are no pretrained ones to freeze.
"""

_OF_BACKBONE = ("model_type", "backbone", "backbone_config", "encoder_in_channels")


def backbones() -> dict[str, dict[str, Any]]:
    """By size: what of a detector's configuration is about its backbone."""
    found = {}
    for size, known in DETECTOR_SIZES.items():
        found[size] = {key: value for key, value in known.items() if key in _OF_BACKBONE}
        if "backbone_config" in known:
            backbone = dict(known["backbone_config"])
            default = AutoConfig.for_model(known["model_type"])
            found[size]["backbone_config"] = AutoConfig.for_model(backbone.pop("model_type"), **backbone)
            found[size].setdefault("encoder_in_channels", default.encoder_in_channels)
        else:
            found[size]["widths"] = None  # those of a ResNet that was made narrower are no other backbone's
    return found


def new_detector(
    size: str, changes: Mapping[str, Any], labels: Sequence[str], image_size: tuple[int, int]
) -> DocumentModel:
    """A detector with random weights.

    Args:
        size: a name of `DETECTOR_SIZES`.
        changes: changes to its configuration; those to ``backbone_config`` are laid over the size's own. A Faster R-CNN's
            ``anchor_sizes`` are for pages of 1024 pixels unless given, and are scaled to the longer side of others.
        labels: class names in the network's order.
        image_size: (height, width) in pixels that a page is fitted into, its proportions kept; multiples of 32.

    Raises:
        UserError: no such size, no such configuration key, or sides that are no multiples of 32.
    """
    if size not in DETECTOR_SIZES:
        raise UserError(
            f"there is no detector size {size!r}; choose one of {', '.join(DETECTOR_SIZES)}{nearest(size, DETECTOR_SIZES)}"
        )
    height, width = image_size
    if height % STRIDE or width % STRIDE or min(image_size) <= 0:
        raise UserError(f"image_size [{height}, {width}] given; a detector needs sides that are multiples of {STRIDE}")
    known = copy.deepcopy(DETECTOR_SIZES[size])
    model_type = known.pop("model_type")
    ours = model_type == TWO_STAGE_DETECTOR
    default = FasterRcnnConfig() if ours else AutoConfig.for_model(model_type)
    allowed = default.to_dict()
    check_keys(size, changes, allowed)
    merged = {**known, **changes}
    names = class_names(labels)
    if ours:
        merged.setdefault("anchor_sizes", scaled_anchors(ANCHOR_SIZES, max(image_size) / ANCHORS_FOR))
        check_parts(size, merged)
        network: Any = FasterRcnn(FasterRcnnConfig(**merged, **names))
    else:
        backbone = {**known["backbone_config"], **changes.get("backbone_config", {})}
        merged["backbone_config"] = AutoConfig.for_model(backbone.pop("model_type"), **backbone)
        if "freeze_backbone_batch_norms" in allowed:
            merged.setdefault("freeze_backbone_batch_norms", False)
        config = AutoConfig.for_model(model_type, **merged, **names)
        places = sum((height // stride) * (width // stride) for stride in config.feat_strides)
        if config.num_queries > places:
            raise UserError(
                f"image_size [{height}, {width}] has {places} places for the {config.num_queries} queries of a {size}; give larger "
                "pages, or a smaller num_queries in its config"
            )
        network = AutoModelForObjectDetection.from_config(config)
        begin_anew(network)
    network.eval()
    # Fitted, not squashed: thin regions stay as thin as they are; what the page does not fill is padded.
    processor = RTDetrImageProcessor(
        size={"max_height": height, "max_width": width},
        do_pad=True,
        pad_size={"height": height, "width": width},
        do_normalize=True,
    )
    return DocumentModel(TASK, network, processor, list(labels))


def fitting_size(sizes: Sequence[tuple[int, int]], long_side: int = LONG_SIDE) -> tuple[int, int]:
    """The smallest (height, width), in multiples of 32, that holds most pages with their longer side at ``long_side``.

    A fixed size holds every batch and every page of a data set alike; one that is no squarer than the pages spends no
    time on padding. One page in twenty may be squarer still, and is shrunk a little further.

    Args:
        sizes: width and height of each page.
        long_side: pixels.
    """
    heights = sorted(long_side * height / max(width, height) for width, height in sizes)
    widths = sorted(long_side * width / max(width, height) for width, height in sizes)
    at = int(0.95 * (len(sizes) - 1))
    return _whole(heights[at]), _whole(widths[at])


def _whole(side: float) -> int:
    return max(STRIDE, -(-round(side) // STRIDE) * STRIDE)


def load_detector(source: str) -> DocumentModel:
    """Loads a detector, its own image processor, its masks and its card.

    Raises:
        ModelError: not a folder or hub id, not whole, no image processor, or a model for another task.
    """
    folder = local_folder(source)
    ours = folder is not None and FasterRcnnConfig.get_config_dict(folder)[0].get("model_type") == TWO_STAGE_DETECTOR
    return load_labelled(source, TASK, "layout detector", FasterRcnn if ours else AutoModelForObjectDetection)
