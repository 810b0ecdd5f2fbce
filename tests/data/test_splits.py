"""Splits: found under the names that people use; a split that was asked for is never replaced by another."""

from __future__ import annotations

from pathlib import Path

import pytest

from docstill.data.splits import find_splits, resolve_split
from docstill.errors import DataError


def root(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).mkdir(parents=True)
    return path


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev"])
def test_validation_goes_by_many_names(tmp_path: Path, name: str) -> None:
    data = root(tmp_path, "train", name)
    assert find_splits(data) == {"train": data / "train", "validation": data / name}
    assert resolve_split(data) == resolve_split(data, "validation") == resolve_split(data, "val") == data / name
    assert resolve_split(data, "train") == data / "train"


def test_a_split_that_is_not_there_is_an_error_that_lists_what_is(tmp_path: Path) -> None:
    data = root(tmp_path, "train", "val")
    with pytest.raises(DataError, match="has no split test") as error:
        resolve_split(data, "test")
    assert error.value.problems == ["it has train, val"]
    with pytest.raises(DataError, match="has no split validation"):
        resolve_split(root(tmp_path / "other", "train"))


def test_a_folder_without_splits_is_a_split_itself(tmp_path: Path) -> None:
    data = root(tmp_path, "train/form", "train/letter")
    assert resolve_split(data / "train") == data / "train"
    assert resolve_split(data / "train", "train") == data / "train"


def test_a_split_is_not_taken_for_another(tmp_path: Path) -> None:
    data = root(tmp_path, "train/form", "train/letter")
    with pytest.raises(DataError, match="train has no split validation") as error:
        resolve_split(data / "train", "validation")
    assert error.value.problems[0].startswith("it holds form/, letter/; give the folder that holds validation/")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve_split(tmp_path / "nowhere")


def test_the_same_split_under_two_names_is_refused(tmp_path: Path) -> None:
    data = root(tmp_path, "train", "val", "valid")
    with pytest.raises(DataError, match="same split under two names") as error:
        resolve_split(data)
    assert error.value.problems == ["val/, valid/ are all the same split"]


def test_capitals_are_no_other_split(tmp_path: Path) -> None:
    data = root(tmp_path, "Train", "Test", "VAL")
    assert find_splits(data) == {"train": data / "Train", "validation": data / "VAL", "test": data / "Test"}
    assert resolve_split(data / "Test", "test") == data / "Test"
