"""How large a model is, always with the denominator: total, non-embedding, non-zero; bytes; floating point operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from docstill.errors import ModelError


@dataclass(frozen=True)
class Params:
    """Numbers of parameters; tied ones are counted once.

    Attributes:
        total: all.
        embedding: tables that are looked up (words, positions), and what is tied to them, such as the output layer.
        non_embedding: total − embedding.
        nonzero: of all, those that are not zero.
        nonzero_non_embedding: of the non-embedding ones, those that are not zero.
    """

    total: int
    embedding: int
    non_embedding: int
    nonzero: int
    nonzero_non_embedding: int


def embedding_parameters(model: nn.Module) -> set[str]:
    """Names (of `named_parameters`, where tied tensors have one name) of the embedding tables.

    Tables are the weights of `nn.Embedding` modules. A ViT's position embeddings are a plain parameter that is added, not
    looked up, and count as non-embedding.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in tables}


def count_parameters(model: nn.Module) -> Params:
    """Counts parameters. On the meta device, where there are no values, all count as non-zero."""
    embeddings = embedding_parameters(model)
    total = embedding = nonzero = nonzero_embedding = 0
    for name, parameter in model.named_parameters():
        count = parameter.numel()
        filled = count if parameter.is_meta else int(torch.count_nonzero(parameter.detach()))
        total, nonzero = total + count, nonzero + filled
        if name in embeddings:
            embedding, nonzero_embedding = embedding + count, nonzero_embedding + filled
    return Params(total, embedding, total - embedding, nonzero, nonzero - nonzero_embedding)


def bytes_on_disk(folder: Path) -> int:
    """Bytes of the weights that are loaded to run the model.

    These are ``model.safetensors``, else its shards, else ``*.bin`` files. Not counted: copies in other formats that a hub
    repository holds besides, the masks (their zeros are in the weights), configuration and tokenizer.

    Raises:
        ModelError: the folder holds no weights.
    """
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else list(folder.glob("model-*-of-*.safetensors")) or list(folder.glob("*.bin"))
    if not files:
        raise ModelError(f"{folder} holds no weights; give a folder that save_pretrained wrote")
    return sum(path.stat().st_size for path in files)


def count_flops(work: Callable[[], object]) -> int:
    """Floating point operations of ``work()`` as torch dispatches them; a multiply-add counts as 2."""
    # As plain products: not every release of torch counts what its attention for processors does.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
