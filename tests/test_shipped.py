"""What ships: recipes and studies, and a teacher that is whole, small, loadable without docstill, and reads labels that it has never seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import docstill
from docstill.errors import UserError
from docstill.loaded import task_of
from docstill.shipped import STUDIES, find_teacher, recipes
from docstill.synthesis.generator import synth

ROOT = Path(__file__).parents[1]
LABELS = 48
UNSEEN = 90_001
"""A seed that neither its training nor its recipe has used."""


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen") / "labels"
    synth("small-labels", folder, LABELS, seed=UNSEEN)
    return folder


def test_it_reads_labels_that_it_has_never_seen(labels: Path) -> None:
    """Not fewer fields than measured on 500, but for what a sample of this size may lack; far more than without a page."""
    measured = json.loads((ROOT / "benchmarks" / "teacher" / "results.json").read_text(encoding="utf-8"))
    found = docstill.evaluate(find_teacher("small-labels"), labels)["metrics"]
    assert found["field_f1"] > measured["metrics"]["field_f1"] - 0.1
    assert found["field_f1"] > 3 * measured["blank_page"]["field_f1"]


def test_it_is_small_and_says_what_it_is() -> None:
    folder = find_teacher("small-labels")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6
    measured = json.loads((ROOT / "benchmarks" / "teacher" / "results.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{measured['metrics']['field_f1']:.3f}" in card
    assert "benchmarks/teacher/run.sh" in card


def test_it_loads_without_docstill() -> None:
    code = (
        "import sys; sys.modules['docstill'] = None\n"
        "from transformers import DonutProcessor, VisionEncoderDecoderModel\n"
        "_, info = VisionEncoderDecoderModel.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "DonutProcessor.from_pretrained(sys.argv[1])\n"
        "assert not info['missing_keys'] and not info['unexpected_keys'], info\n"
    )
    subprocess.run([sys.executable, "-c", code, str(find_teacher("small-labels"))], check=True, capture_output=True)


def test_it_is_found_by_its_name_wherever_a_model_is_given(labels: Path, tmp_path: Path) -> None:
    page = sorted(labels.glob("*.jpg"))[0]
    assert docstill.load("shipped:small-labels").predict([page])[0]["fields"]
    done = docstill.prune("shipped:small-labels", tmp_path / "out", method="depth", of="decoder", keep=2)
    assert docstill.load(done["model"]).model.network.config.decoder.decoder_layers == 2
    assert "model: shipped:small-labels" in (tmp_path / "out" / "stage.yaml").read_text()  # in whatever environment
    assert docstill.Resized(load="shipped:small-labels", image_size=(96, 96)).load == "shipped:small-labels"
    assert task_of("shipped:small-labels") == "kie"
    assert docstill.check(labels, model="shipped:small-labels")["splits"]
    with pytest.raises(UserError, match="no teacher receipts is shipped; choose one of small-labels"):
        docstill.load("shipped:receipts")


def test_another_teacher_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="no teacher receipts is shipped; choose one of small-labels"):
        find_teacher("receipts")


def test_no_study_hides_a_recipe() -> None:
    """`docstill recipes show NAME` finds both by one name."""
    assert not recipes().keys() & recipes(STUDIES).keys()
