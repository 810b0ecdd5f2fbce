"""Regions from YOLO's text files: beside each picture's name a line ``class x y width height`` for each region.

Place is the box's centre; all four are shares of the upright page. A line may also be a polygon, ``class x y x y x y …``;
its box is taken. A picture without a text file, or with an empty one, is a page without regions.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from docstill.data.coco import some
from docstill.data.images import bad_name, pictures, shown_name, upright_size
from docstill.data.regions import Marked, Size, clip
from docstill.errors import DataError
from docstill.metrics.detection import Box
from docstill.progress import counter

_LENIENT = 0.01
"""So far may a share lie outside 0 to 1, as tools round; Ultralytics allows the same."""


class _Words(yaml.SafeLoader):
    """Reads every scalar as the text that it is: a class may be called no, or 12."""


_Words.yaml_implicit_resolvers = {}


def read_classes(path: Path) -> dict[int, str]:
    """The class names by their numbers: ``names`` of a YAML file, or the lines of a text file.

    Raises:
        DataError: there are none.
    """
    problem = "expected YAML with names, a list or numbers with names, or a text file with a name a line"
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() not in {".yaml", ".yml"}:
            names: Any = [line.strip() for line in text.rstrip().splitlines()]
        else:
            content = yaml.load(text, Loader=_Words)
            names = content.get("names") if isinstance(content, dict) else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        names, problem = (
            None,
            f"cannot be read ({said}); give a YAML file with names, or a text file with a name a line",
        )
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        names = {int(key) if str(key).isdecimal() else key: name for key, name in names.items()}
    fine = isinstance(names, dict) and all(
        type(key) is int and isinstance(name, str) and name for key, name in names.items()
    )
    if not fine or not names:
        raise DataError("the class names cannot be read", [f"{path}: {problem}"])
    found = {key: names[key] for key in sorted(names)}
    if len(set(found.values())) < len(found):
        raise DataError(
            "the class names cannot be used", [f"{path}: a name is given twice: {', '.join(found.values())}"]
        )
    return found


def labels_beside(images: Path) -> Path:
    """Where the text files lie: the same path with its last ``images`` as ``labels``, or the pictures' own folder."""
    parts = list(Path(os.path.abspath(images)).parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            other = Path(*parts[:place], "labels", *parts[place + 1 :])
            return other if other.is_dir() else images
    return images


def scan_yolo(
    images: Path, labels: Path, classes: dict[int, str], named_in: Path
) -> tuple[list[Marked], int, list[str]]:
    """Reads all pictures below a folder with their text files, which have the same paths below another.

    Args:
        images: the pictures.
        labels: the text files.
        classes: names by number.
        named_in: the file that these are from; it may lie among the text files.

    Returns:
        The pages; how many have no text file; everything that is wrong, with file and line.
    """
    files = pictures(images)
    texts = {file: (labels / file.relative_to(images)).with_suffix(".txt") for file in files}
    there = {
        path
        for path in labels.rglob("*")
        if path.suffix.lower() == ".txt"
        and path.name.lower() != "classes.txt"
        and not path.name.startswith(".")
        and not (path.name == named_in.name and path.samefile(named_in))
    }
    spelt = {path.with_suffix(".txt"): path for path in there}
    texts = {file: spelt.get(path, path) for file, path in texts.items()}
    problems = []
    if not files:
        problems.append(f"{images}: holds no pictures")
    elif not there:
        problems.append(f"{labels}: holds no text files with regions")
    if spare := sorted(str(path.relative_to(labels)) for path in there - set(texts.values())):
        problems.append(f"{labels}: text files without a picture in {images}: {some(spare)}")
    pages: list[Marked] = []
    readable = files if there else []
    with counter("reading pages", len(readable)) as advance:
        for file in readable:
            size, _ = upright_size(file)
            if bad := bad_name(file):
                problems.append(f"{shown_name(file)}: {bad}")
            elif size is None:
                problems.append(f"{file}: cannot be read")
            else:
                pages.append(Marked(file, size, _regions(texts[file], size, classes, problems)))
            advance(1)
    return pages, sum(path not in there for path in texts.values()), problems


def _regions(path: Path, size: Size, classes: dict[int, str], problems: list[str]) -> list[tuple[str, Box]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read ({error})")
        return []
    regions: list[tuple[str, Box]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _line(line.split(), size, classes)
        if isinstance(found, str):
            problems.append(f"{path}:{number}: {found}")
        else:
            regions.append(found)
    return regions


def _line(words: list[str], size: Size, classes: dict[int, str]) -> tuple[str, Box] | str:
    """Class and box, or what is wrong with the line."""
    try:
        number, *shares = (float(word) for word in words)
        label = int(number)
        if label != number:
            raise ValueError
    except (ValueError, OverflowError):
        label, shares = -1, []
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        return f"expected class x y width height, {' '.join(words)[:60]!r} given"
    if label not in classes:
        return f"there is no class {label}; the class names go from {min(classes)} to {max(classes)}"
    if not all(-_LENIENT <= share <= 1 + _LENIENT for share in shares):  # which NaN is not, either
        return f"places and sizes must be shares of the page, between 0 and 1: {' '.join(words)[:60]!r} given"
    if len(shares) == 4:
        across, down, width, height = shares
        left, top = across - width / 2, down - height / 2
    else:
        left, top = min(shares[::2]), min(shares[1::2])
        width, height = max(shares[::2]) - left, max(shares[1::2]) - top
    if width <= 0 or height <= 0:
        return f"the region has no area: {' '.join(words)[:60]!r}"
    box, outside = clip((left * size[0], top * size[1], width * size[0], height * size[1]), size)
    return (classes[label], box) if outside < 1 else f"the region lies outside the page: {' '.join(words)[:60]!r}"
