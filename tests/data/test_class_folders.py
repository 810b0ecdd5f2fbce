"""Class folders: labels and documents in a fixed order; everything that is wrong at once."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from docstill.data.class_folders import read_class_folders, scan_class_folders
from docstill.errors import DataError


def pages(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / name, format="PNG")
    return folder


def problems(folder: Path, labels: list[str] | None = None) -> list[str]:
    with pytest.raises(DataError) as error:
        read_class_folders(folder, labels)
    return error.value.problems


def test_labels_and_documents_are_sorted_and_nested_files_found(tmp_path: Path) -> None:
    pages(tmp_path, "letter/b.png", "letter/a.JPG", "form/deep/er/c.tiff", "form/d.png")
    found = read_class_folders(tmp_path)
    assert found.labels == ["form", "letter"]
    wanted = [("form/d.png", 0), ("form/deep/er/c.tiff", 0), ("letter/a.JPG", 1), ("letter/b.png", 1)]
    assert [(document.where, document.target) for document in found.documents] == [
        (os.path.normpath(where), target) for where, target in wanted
    ]
    assert all(document.variants == (document.target,) for document in found.documents)
    assert all(document.file == tmp_path / document.where for document in found.documents)


def test_the_training_labels_rule(tmp_path: Path) -> None:
    pages(tmp_path, "letter/a.png")
    found = read_class_folders(tmp_path, ["form", "letter", "report"])
    assert found.labels == ["form", "letter", "report"]
    assert [document.target for document in found.documents] == [1]


def test_a_label_that_training_lacks_is_named(tmp_path: Path) -> None:
    pages(tmp_path, "letter/a.png", "memo/b.png", "fax/c.png")
    assert problems(tmp_path, ["form", "letter"]) == [
        f"{label}/: a label that the training split does not have (it has form, letter); rename or remove it"
        for label in ("fax", "memo")
    ]


def test_what_desktops_leave_is_passed_over(tmp_path: Path) -> None:
    pages(tmp_path, "form/a.png", "form/.thumbs/a.png", ".cache/x.png", "__MACOSX/form/a.png", "form/@eaDir/a.png")
    for name in ("form/.DS_Store", "form/Thumbs.db", "form/desktop.ini", "form/._a.png", ".DS_Store", "SOURCE.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = read_class_folders(tmp_path)
    assert (found.labels, [document.where for document in found.documents]) == (
        ["form"],
        [os.path.normpath("form/a.png")],
    )


def test_all_problems_come_at_once_and_the_rest_is_kept(tmp_path: Path) -> None:
    pages(tmp_path, "form/a.png", "lost.png")
    (tmp_path / "empty").mkdir()
    for name in ("form/notes.txt", "form/deep.pdf"):
        (tmp_path / name).write_text("x")
    wanted = [
        "lost.png: a picture outside the label folders; move it into one",
        "empty/: holds no pictures; add some or remove the folder",
        "form/deep.pdf: not a picture by its name; remove it",
        "form/notes.txt: not a picture by its name; remove it",
    ]
    assert problems(tmp_path) == wanted
    found, same = scan_class_folders(tmp_path)
    assert same == wanted
    assert [document.where for document in found.documents] == [os.path.normpath("form/a.png")]


def test_an_empty_split_and_a_missing_folder(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["holds no label folders; expected LABEL/*.jpg inside it"]
    assert problems(tmp_path / "nowhere") == ["there is no such folder; expected LABEL/*.jpg inside it"]


def test_the_data_layer_never_imports_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, docstill.data\n"
        "for module in pkgutil.iter_modules(docstill.data.__path__, 'docstill.data.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'docstill.data.validator' in sys.modules\n"
        "assert not {'torch', 'transformers', 'torchvision'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_links_that_are_not_followed_and_names_in_other_bytes_are_problems(tmp_path: Path) -> None:
    pages(tmp_path / "data", "letter/a.png")
    pages(tmp_path / "archive", "b.png")
    letters = tmp_path / "data" / "letter"
    (letters / "older").symlink_to(tmp_path / "archive")
    (letters / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (letters / "linked.png").symlink_to(tmp_path / "archive" / "b.png")
    os.rename(letters / "a.png", os.fsencode(letters) + b"/M\xfcller.png")
    found, wrong = scan_class_folders(tmp_path / "data")
    assert [document.where for document in found.documents] == [os.path.normpath("letter/linked.png")]
    assert len(wrong) == 3
    text = "\n".join(wrong)
    assert "\\udcfcller.png: has a name that is not UTF-8" in text
    assert "older: is a link to a folder, which is not followed" in text
    assert "gone.png: is a link that leads nowhere" in text


def test_umlauts_may_be_written_in_either_way(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Verträge") for form in ("NFC", "NFD"))
    pages(tmp_path / "train", f"{apart}/a.png")
    pages(tmp_path / "validation", f"{composed}/b.png")
    found = read_class_folders(tmp_path / "train")
    assert found.labels == [composed]
    assert len(read_class_folders(tmp_path / "validation", found.labels).documents) == 1
    pages(tmp_path / "train", f"{composed}/c.png")
    assert problems(tmp_path / "train") == [
        f"{composed}/: is called as {apart}/ is, in other characters; put the pictures into one"
    ]
