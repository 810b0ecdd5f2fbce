"""A deeper ResNet from a shallower one that has learnt: blocks are added that change nothing at first (Net2DeeperNet, Chen et al. 2016).

For `small.py`, whose R101 and R152 would take hours to come as far from random weights on 2 cores.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from docstill.files import copy_whole, read_json, write_json
from docstill.models.faster_rcnn import FasterRcnn, FasterRcnnConfig

_BLOCK = re.compile(r"(backbone\.body\.layer\d+)\.(\d+)\.(.+)")


def deeper(shallow: Path, backbone: str, folder: Path) -> str:
    """Writes the detector in ``shallow`` with another ``backbone``, and returns its folder; what it finds is the same.

    Every new block is a copy of its stage's last one, but the last of its norms has weights of 0: what a bottleneck adds to its input is
    nothing until that has learnt.
    """
    if folder.exists():
        return str(folder)
    known = load_file(shallow / "model.safetensors")
    config = read_json(shallow / "config.json") | {"backbone": backbone}
    with torch.device("meta"):
        wanted = FasterRcnn(FasterRcnnConfig.from_dict(config)).state_dict()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        copy_whole(shallow, made)
        write_json(made / "config.json", config)
        weights = {name: known[name] if name in known else _added(name, known) for name in wanted}
        save_file(weights, made / "model.safetensors", {"format": "pt"})
        copy_whole(made, folder)
    return str(folder)


def _added(name: str, known: dict[str, Tensor]) -> Tensor:
    """A tensor of a new block."""
    found = _BLOCK.fullmatch(name)
    assert found is not None, name
    stage, _, rest = found.groups()
    last = max(int(block[2]) for other in known if (block := _BLOCK.fullmatch(other)) and block[1] == stage)
    tensor = known[f"{stage}.{last}.{rest}"]
    return torch.zeros_like(tensor) if rest in ("bn3.weight", "bn3.bias") else tensor.clone()
