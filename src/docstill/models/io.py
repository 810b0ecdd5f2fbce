"""Model folders: what `save_pretrained` writes, plus `docstill.json` and, for pruned models, `masks.safetensors`.

A folder is written beside its final place and renamed when whole, so a reader never sees half a model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PretrainedConfig
from transformers.utils import logging

from docstill.errors import ModelError, UserError
from docstill.pruning.masks import Masks, load_masks, save_masks

CARD = "docstill.json"
KINDS = {"classification": "a page classifier", "kie": "a Donut", "layout": "a layout detector"}
"""How messages call the models of each task."""
_MISSING = re.compile(r"requires the (\S+) library|No module named '([^'.]+)")
"""How transformers, and Python, name a package that is not installed."""


def fastest_device() -> torch.device:
    """Where networks learn, teach and are scored: the GPU, or the processor where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class DocumentModel:
    """A network with everything it needs to read a page.

    Attributes:
        task: ``classification``, ``kie`` or ``layout``.
        network: a transformers model.
        processor: its own image processor, or processor with tokenizer.
        labels: class names; empty for kie.
        masks: the zeros that must stay zero; empty if not pruned.
        card: lineage and numbers, written to ``docstill.json``.
    """

    task: str
    network: Any
    processor: Any
    labels: list[str] = field(default_factory=list)
    masks: Masks = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        device: torch.device = next(iter(self.network.parameters())).device
        return device

    def save(self, folder: Path) -> Path:
        """Writes the model folder atomically, replacing an older one; returns ``folder``."""
        scratch = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            with _without_bars():
                self.network.save_pretrained(scratch)
            self.processor.save_pretrained(scratch)
            if self.masks:
                save_masks(self.masks, scratch)
            card = {"task": self.task, **self.card}
            (scratch / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except (OSError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise UserError(
                f"could not write the model to {folder} ({error}); nothing was changed, make room and run again"
            ) from error
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(scratch, folder)
        shutil.rmtree(old, ignore_errors=True)
        return folder


def read_card(folder: Path) -> dict[str, Any]:
    """The folder's `docstill.json`, or an empty dict for a model that docstill did not write."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} is not valid JSON (line {error.lineno}); restore it or delete it") from error
    if not isinstance(card, dict):
        raise ModelError(f"{path} must hold a JSON object; restore it or delete it")
    return card


def local_folder(source: str) -> Path | None:
    """The folder that ``source`` names, or None if it is a hub id.

    A path is never looked up on a hub: ``source`` counts as a hub id only if it reads ``owner/name``, no such folder
    exists, and ``owner`` is not a folder here either (then the name is a misspelt path).

    Raises:
        ModelError: the folder does not exist, or holds no model.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{source} holds no config.json; give a folder that save_pretrained wrote")
        return path
    parts = source.split("/")
    if len(parts) == 2 and all(parts) and not source.startswith((".", "~", "/")) and not Path(parts[0]).exists():
        return None
    raise ModelError(f"there is no model folder {source}; give an existing folder, or a hub id like owner/name")


def read_config(source: str) -> dict[str, Any]:
    """The configuration of a model folder or hub id, as it is written there.

    Raises:
        ModelError: there is no such model, its configuration cannot be read, or it is not one of transformers.
    """
    folder = local_folder(source)
    try:
        config, _ = PretrainedConfig.get_config_dict(
            source if folder is None else folder, local_files_only=folder is not None
        )
    except (OSError, ValueError) as error:
        if folder is not None:
            raise ModelError(f"cannot load a model from {source}: {first_line(error)}") from error
        # most such names are mistyped paths, so that comes first
        raise ModelError(
            f"there is no folder {source} here, and as a hub id it cannot be reached or found ({first_line(error).rstrip('.')}); give an "
            "existing folder, or the owner/name of a model on the hub"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"cannot load a model from {source}: its config.json holds no JSON object")
    if config.get("model_type") == "donut":
        raise ModelError(
            f"{source} is a Donut of the package donut-python, which transformers cannot load; convert it with transformers' script "
            "convert_donut_to_pytorch.py, or give a checkpoint in transformers' format, such as naver-clova-ix/donut-base"
        )
    return config


def task_in(config: Mapping[str, Any]) -> str | None:
    """The task that a network is for, by its configuration; None where that does not say."""
    if config.get("model_type") == "vision-encoder-decoder":
        return "kie"
    names = " ".join(config.get("architectures") or [])
    return "layout" if "ObjectDetection" in names else "classification" if "ImageClassification" in names else None


def check_kind(source: str, task: str) -> None:
    """Refuses a model of another kind by what it is: read as the wrong one, nearly all of its weights would be missing.

    Raises:
        ModelError: it is for another task, or as in `read_config`.
    """
    config = read_config(source)
    found = task_in(config)
    if found == task or (found is None and task != "kie"):  # networks of docstill's own have other names
        return
    name = next(iter(config.get("architectures") or []), None) or config.get("model_type") or "it does not say which"
    kind = "a model of another kind" if found is None else KINDS[found]
    raise ModelError(f"{source} is {kind} ({name}), and {KINDS[task]} was expected; give the folder of one")


def in_full_precision(folder: Path) -> bool:
    """Whether all weights of a model folder lie there as 32-bit numbers, as docstill writes them."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            if {weights.get_slice(name).get_dtype() for name in weights.keys()} & {"F16", "BF16"}:  # noqa: SIM118
                return False
    return True


def load_whole(model_class: Any, source: str) -> Any:
    """`from_pretrained` that refuses a network with missing or mismatched weights.

    A teacher whose head was freshly initialised would teach noise, and transformers only warns.

    Raises:
        ModelError: names the tensors that are missing or of another shape, or the package that the network needs.
    """
    folder = local_folder(source)
    if folder is not None and any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{source} has its weights in pytorch_model.bin, a format that can hold programs, and only safetensors are read; load it "
            f"with transformers' {model_class.__name__}.from_pretrained and write it with save_pretrained, which makes them"
        )
    try:
        with _without_bars(when=folder is not None):
            network, info = model_class.from_pretrained(
                source if folder is None else folder,
                local_files_only=folder is not None,
                dtype=torch.float32,  # transformers would keep the file's; half of it neither learns nor runs well on a CPU
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
            )
    except ImportError as error:
        found = _MISSING.search(str(error))
        package = (found[1] or found[2]) if found else None
        needed = f"the package {package}, which is not" if package else f"packages that are not ({first_line(error)})"
        mend = f"pip install {package}" if package else "pip install with their names"
        raise ModelError(f"the model in {source} needs {needed} installed; run: {mend}") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load a model from {source}: {first_line(error)}") from error
    problems = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    problems += [
        f"{key[0]} has shape {tuple(key[1])} in the file, {tuple(key[2])} in the network"
        for key in sorted(info["mismatched_keys"])
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ModelError(
            f"{source} is not a whole model ({shown}); freshly initialised weights are not accepted, give a trained model"
        )
    network.eval()
    return network


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _without_bars(when: bool = True) -> Iterator[None]:
    """Without the bars of transformers, which say nothing of use about a local folder; a download keeps its own."""
    shown = when and logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_masks_into(network: nn.Module, source: str) -> Masks:
    """The masks saved beside a local model (checked against it), or none."""
    folder = local_folder(source)
    masks = None if folder is None else load_masks(folder)
    if not masks:
        return {}
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    wrong = [name for name, mask in masks.items() if shapes.get(name) != tuple(mask.shape)]
    if wrong:
        raise ModelError(
            f"the masks in {source} do not fit its weights ({', '.join(wrong[:5])}); delete masks.safetensors or restore the model"
        )
    return masks
