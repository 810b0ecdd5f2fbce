"""Masks: which weights must stay zero. Kept beside the model, one bit a weight."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from docstill.errors import ModelError
from docstill.models.size import embedding_parameters

FILE = "masks.safetensors"

Masks = dict[str, Tensor]
"""By parameter name: a bool tensor of the parameter's shape, True where the weight is kept."""


def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Sets the masked weights to zero, in place.

    Masks on another device than their weights are replaced in ``masks``, so that training moves each of them once.

    Raises:
        ModelError: a mask fits no parameter of the model.
    """
    parameters = dict(model.named_parameters())
    wrong = [name for name, mask in masks.items() if name not in parameters or parameters[name].shape != mask.shape]
    if wrong:
        raise ModelError(
            f"the masks do not fit the model ({', '.join(wrong[:5])}); use the masks that were made for it"
        )
    with torch.no_grad():
        for name, mask in masks.items():
            parameter = parameters[name]
            if mask.device != parameter.device:
                mask = masks[name] = mask.to(parameter.device)
            parameter.mul_(mask)


def save_masks(masks: Masks, folder: Path) -> Path:
    """Writes ``masks.safetensors``: bits packed by eight, shapes in the metadata. Atomic.

    Raises:
        OSError: it cannot be written; an older file is still whole.
    """
    packed = {name: np.packbits(mask.cpu().numpy().reshape(-1)) for name, mask in masks.items()}
    shapes = {name: ",".join(map(str, mask.shape)) for name, mask in masks.items()}
    scratch = folder / f".{FILE}.partial"
    try:
        # not safetensors' save_file: its error for a full disk is no OSError
        scratch.write_bytes(save(packed, metadata=shapes or None))
        os.replace(scratch, folder / FILE)
    finally:
        scratch.unlink(missing_ok=True)
    return folder / FILE


def load_masks(folder: Path) -> Masks | None:
    """Reads the masks beside a model; None if there are none.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    masks = {}
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 - a safetensors handle is no dict
                shape = tuple(int(side) for side in shapes[name].split(",") if side)
                count, packed = math.prod(shape), file.get_tensor(name)
                if min(shape, default=1) < 0 or len(packed) != math.ceil(count / 8):  # numpy would fill up with zeros
                    raise ValueError(f"{name}: {len(packed)} bytes do not hold {count} bits")
                masks[name] = torch.from_numpy(np.unpackbits(packed, count=count).astype(bool)).reshape(shape)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged; restore it, or prune the model again") from error
    return masks


def sparsity_report(model: nn.Module, masks: Masks) -> list[dict[str, Any]]:
    """Zeros with their denominators: of the pruned tensors, of the non-embedding weights, of all weights."""
    embeddings = embedding_parameters(model)
    counts = {"pruned tensors": [0, 0], "non-embedding": [0, 0], "all": [0, 0]}
    for name, parameter in model.named_parameters():
        zero, total = int(parameter.numel() - torch.count_nonzero(parameter)), parameter.numel()
        groups = (
            ["all"] + (["pruned tensors"] if name in masks else []) + ([] if name in embeddings else ["non-embedding"])
        )
        for group in groups:
            counts[group][0] += zero
            counts[group][1] += total
    return [{"of": group, "zero": zero, "total": total} for group, (zero, total) in counts.items()]
