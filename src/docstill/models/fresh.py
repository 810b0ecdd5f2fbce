"""How an RT-DETR or a D-FINE without learnt weights begins: its layers as PyTorch begins them, as in its authors' code.

transformers draws all linear layers and convolutions from one normal distribution, of deviation 0.01 whatever their width, and an RT-DETR's
batch norms outside the backbone as well. Their outputs are a hundredth of what came in, layer after layer: the maps that the decoder looks at
are next to nothing, and so are the gradients behind them. Checkpoints that are loaded do not notice.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

_BEGUN_WELL = re.compile(
    r"(^|\.)(backbone\..+|class_embed\.\d+|enc_score_head|sampling_offsets|attention_weights|value_proj|output_proj|gate|"
    r"bbox_embed\.\d+\.layers\.2|reg_conf\.layers\.\d+)$"
)
"""Modules that transformers begins in a way of their own, as the authors do."""


def begin_anew(network: Any) -> None:
    """Draws the weights of a DETR-type network's layers again, those aside that have a beginning of their own."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d) and not _BEGUN_WELL.search(name):
            module.reset_parameters()
    last = network.model.enc_bbox_head.layers[-1]
    nn.init.zeros_(last.weight)  # the first guess of a region is its anchor
    nn.init.zeros_(last.bias)
