"""Model folders: whole or refused, plain transformers files, never a surprise download."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import docstill
import tiny
from docstill.errors import ModelError, UserError
from docstill.models.classifier import load_classifier, new_classifier
from docstill.models.detector import load_detector
from docstill.models.donut import load_donut
from docstill.models.io import in_full_precision, load_whole, local_folder
from docstill.models.size import count_flops, count_parameters
from docstill.optimiser import seed_everything
from kie_tiny import tiny_donut


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    seed_everything(0)
    return new_classifier("vit-tiny", tiny.TINY_VIT["config"], ["b", "a"], (32, 32)).save(tmp_path / "model")


def test_a_model_comes_back_as_it_was(folder: Path) -> None:
    model = load_classifier(str(folder))
    again = load_classifier(str(folder))
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(model.network(pixels).logits, again.network(pixels).logits)
    assert model.labels == ["b", "a"]
    assert not model.network.training


def test_plain_transformers_loads_it_without_docstill(folder: Path) -> None:
    code = (
        "import sys; sys.modules['docstill'] = None\n"
        "from transformers import AutoImageProcessor, AutoModelForImageClassification\n"
        "model, info = AutoModelForImageClassification.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "AutoImageProcessor.from_pretrained(sys.argv[1])\n"
        "assert not info['missing_keys'] and not info['unexpected_keys'], info\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0


def test_a_folder_in_half_precision_is_loaded_in_full(folder: Path) -> None:
    """transformers keeps the file's precision, in which nothing can be learnt."""
    whole = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in whole.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    network = load_classifier(str(folder)).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    name, parameter = next(iter(network.named_parameters()))
    assert torch.equal(parameter, whole[name].half().float())


def test_missing_weights_are_refused_by_name(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not a whole model \(classifier\.weight is missing\)"):
        load_classifier(str(folder))


def test_weights_of_another_shape_are_refused_by_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "a", "1": "b", "2": "c"}, {"a": 0, "b": 1, "c": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"classifier\.(weight|bias) has shape"):
        load_classifier(str(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nTimmBackbone requires the timm library but it was not found.", r"the package timm, .* pip install timm$"),
        ("No module named 'scipy.optimize'", r"the package scipy, .* pip install scipy$"),
        ("cannot import name 'x'", r"packages that are not \(cannot import name 'x'\) installed"),
    ],
)
def test_a_network_that_needs_another_package_names_it(folder: Path, text: str, said: str) -> None:
    class Needy:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> None:
            raise ImportError(text)

    with pytest.raises(ModelError, match=said):
        load_whole(Needy, str(folder))


def test_weights_that_can_hold_programs_are_refused_with_the_way_to_convert_them(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    load_classifier(str(folder))  # both are there
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"AutoModelForImageClassification\.from_pretrained and write .* save_pretrained"
    ):
        load_classifier(str(folder))


def test_a_donut_of_the_original_package_is_named(tmp_path: Path) -> None:
    config = {"model_type": "donut", "architectures": ["DonutModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for load in (load_donut, docstill.load):
        with pytest.raises(
            ModelError, match=r"of the package donut-python, .* convert_donut_to_pytorch\.py, .* naver-clova-ix"
        ):
            load(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot load a model from .* not a valid JSON"),
        ("[]", "holds no JSON object"),
        (
            '{"model_type": "bert", "architectures": ["BertModel"]}',
            r"is a model of another kind \(BertModel\), and a Donut",
        ),
        ("{}", r"is a model of another kind \(it does not say which\)"),
    ],
)
def test_what_is_no_donut_says_what_it_is(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=said):
        load_donut(str(tmp_path))


def test_a_model_of_another_kind_is_named_by_what_it_is(folder: Path, tmp_path: Path) -> None:
    donut = tiny_donut().save(tmp_path / "donut")
    for model in (folder, donut):
        (model / "docstill.json").unlink()  # as others write models
    with pytest.raises(ModelError, match=r"a page classifier \(ViTForImageClassification\), and a Donut was expected"):
        load_donut(str(folder))
    with pytest.raises(ModelError, match=r"a page classifier \(ViTFor.*\), and a layout detector was expected"):
        load_detector(str(folder))
    with pytest.raises(ModelError, match=r"a Donut \(VisionEncoderDecoderModel\), and a page classifier was expected"):
        load_classifier(str(donut))


def test_a_mistyped_path_of_two_parts_is_told_of_as_a_path_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection")

    monkeypatch.setattr("docstill.models.io.PretrainedConfig.get_config_dict", unreachable)
    said = r"^there is no folder rnus/donut here, and as a hub id it cannot be reached or found \(We couldn't [^\n]*files\); give"
    for load in (load_donut, load_classifier, docstill.load):
        with pytest.raises(ModelError, match=said):
            load("rnus/donut")


def test_a_truncated_file_is_a_sentence(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot load a model from"):
        load_classifier(str(folder))


def test_a_model_for_another_task_is_refused(folder: Path) -> None:
    card = json.loads((folder / "docstill.json").read_text())
    (folder / "docstill.json").write_text(json.dumps({**card, "task": "kie"}))
    with pytest.raises(ModelError, match="is a model for kie"):
        load_classifier(str(folder))


@pytest.mark.parametrize("source", ["./owner/name", "a/b/c", "/nowhere/model", "name", "~/model"])
def test_a_path_is_never_looked_up_on_a_hub(source: str) -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        local_folder(source)


def test_a_misspelt_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no model folder"):
        local_folder("runs/techer")
    assert local_folder("owner/name") is None


def test_saving_replaces_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_classifier(str(folder))
    before = sorted(path.name for path in folder.iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.processor, "save_pretrained", full)
    with pytest.raises(UserError, match="nothing was changed"):
        model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_unknown_sizes_and_keys_name_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean resnet-18"):
        new_classifier("resnet18", {}, ["a", "b"], None)
    with pytest.raises(UserError, match="did you mean hidden_size"):
        new_classifier("vit-tiny", {"hiden_size": 3}, ["a", "b"], None)


@pytest.mark.parametrize(
    ("size", "changes", "image_size", "said"),
    [
        ("vit-tiny", {}, (8, 8), r"a vit-tiny with image_size \[8, 8\] cannot look at a page \(.*Kernel size.*give an image_size"),
        ("swin-tiny", {"depths": [1, 1], "num_heads": [2, 2]}, (32, 32), r"image_size \[32, 32\], config \{'depths'.*cannot look"),
        ("resnet-10-quarter", {}, (-32, -32), r"image_size \[-32, -32\] cannot look at a page"),
        ("vit-tiny", {"num_channels": 1}, (32, 32), "config {'num_channels': 1} cannot look at a page"),
        ("vit-tiny", {"hidden_size": "wide"}, None, "config {'hidden_size': 'wide'} cannot look at a page"),
        ("vit-tiny", {"image_size": 64}, (32, 32), "given twice, as 32 × 32 and in config as 64"),
        ("resnet-18", {"id2label": {0: "x"}}, None, "'id2label' was given, but the data say what the classes are"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit_together_are_a_sentence(
    size: str, changes: dict[str, Any], image_size: tuple[int, int] | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        new_classifier(size, changes, ["a", "b"], image_size)


def test_pages_are_prepared_in_the_size_that_config_asks_for() -> None:
    model = new_classifier("vit-tiny", {**tiny.TINY_VIT["config"], "image_size": 64}, ["a", "b"], None)
    assert (model.processor.size["height"], model.processor.size["width"]) == (64, 64)


@pytest.mark.parametrize(
    ("size", "millions", "gigaflops"),
    [
        ("resnet-18", 11.18, 3.63),
        ("resnet-50", 23.51, 8.21),
        ("resnet-101", 42.5, 15.65),
        ("vit-base", 85.81, 35.15),
        ("vit-small", 21.7, 9.21),
        ("vit-tiny", 5.56, 2.51),
        ("dit-base", 85.81, 35.15),
        ("swin-tiny", 27.5, 9.0),
        ("convnext-tiny", 27.8, 8.9),
        ("efficientnet-b0", 4.03, 0.78),
        ("mobilenet-v2", 2.24, 0.6),
    ],
)
def test_sizes_are_what_their_names_promise(size: str, millions: float, gigaflops: float) -> None:
    """DistilDoc's table 1 for its networks, the papers' figures less a thousand classes for the others; 224 × 224 pixels."""
    with torch.device("meta"):
        model = new_classifier(size, {}, [str(index) for index in range(16)], None)
        pages = torch.empty(1, 3, 224, 224)
    assert count_parameters(model.network).total / 1e6 == pytest.approx(millions, abs=0.06)
    with torch.inference_mode():
        assert count_flops(lambda: model.network.eval()(pages)) / 1e9 == pytest.approx(gigaflops, rel=0.02)


def test_half_of_the_precision_is_seen(tmp_path: Path) -> None:
    model = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
    assert in_full_precision(model.save(tmp_path / "whole"))
    model.network.half()
    assert not in_full_precision(model.save(tmp_path / "half"))
