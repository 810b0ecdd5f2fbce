"""Pages of another size: a network that looks at fewer pixels, or a Donut that looks at more; not a weight changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from docstill.errors import ModelError
from docstill.models.donut import check_window
from docstill.models.faster_rcnn import scaled_anchors
from docstill.models.io import DocumentModel
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import rebuilt, smaller_config

_MULTIPLE = 32
"""What the sides of a network's input are divided by on their way to its coarsest map."""


def at_share(processor: Any, share: float) -> Any:
    """A copy of an image processor that takes pages at a share of its sides, fitted in, squashed and padded as before.

    Whatever its sizes say (height and width, the most of both, a shortest and a longest edge), each becomes a multiple of 32,
    at least 32.
    """
    content = {name: value for name, value in processor.to_dict().items() if name != "image_processor_type"}
    for name in ("size", "pad_size"):
        if content.get(name) is not None:
            sides = {side: pixels for side, pixels in content[name].items() if pixels is not None}
            content[name] = {
                side: max(_MULTIPLE, round(pixels * share / _MULTIPLE) * _MULTIPLE) for side, pixels in sides.items()
            }
    return type(processor)(**content)


def with_smaller_anchors(network: Any, masks: Masks, share: float) -> tuple[Any, Masks]:
    """A Faster R-CNN for pages at a share of their sides: its anchors are as much smaller as the regions are.

    What its heads say is in units of an anchor or a region, so their weights keep their meaning.
    """
    config = smaller_config(network)
    config.anchor_sizes = scaled_anchors(config.anchor_sizes, share)
    return rebuilt(network, config, masks, {}, {}, {})


def at_size(model: DocumentModel, size: tuple[int, int]) -> DocumentModel:
    """A Donut that takes pages of ``size`` (height, width), larger or smaller than before.

    Raises:
        ModelError: a side is smaller than a window of the encoder's last stage, or the encoder has embeddings of absolute places.
    """
    encoder = model.network.config.encoder
    if encoder.use_absolute_embeddings:
        raise ModelError(
            f"this Donut's encoder has embeddings of absolute places (use_absolute_embeddings), for pages of {' × '.join(map(str, encoder.image_size))} "
            "pixels alone; leave image_size out, or give another model"
        )
    check_window(encoder, size)
    network, masks = on_canvas(model.network, model.masks, size)
    processor = copy.deepcopy(model.processor)
    processor.image_processor.size = {"height": size[0], "width": size[1]}
    return replace(model, network=network, masks=masks, processor=processor)


def on_canvas(network: Any, masks: Masks, size: tuple[int, int]) -> tuple[Any, Masks]:
    """A Donut that takes pages of ``size`` (height, width); its windows are laid on the page anew.

    Args:
        network: a Donut; it is not changed.
        masks: its zeros.
        size: in pixels; no side less than a window of the encoder's last stage.
    """
    config = smaller_config(network)
    config.encoder.image_size = list(size)
    return rebuilt(network, config, masks, {}, {}, {})
