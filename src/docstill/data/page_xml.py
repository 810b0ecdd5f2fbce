"""Regions from PAGE-XML (Pletschacher & Antonacopoulos 2010), as Transkribus, eScriptorium and OCR-D write it.

A region's class is the ``type`` of a text region (``paragraph``, ``heading``, ``caption``, …; where Transkribus keeps it,
in ``custom``, too), ``text`` without one, and else the name of its element: ``table``, ``image``, ``separator``, … Its
box holds its polygon; one without width or height, as separators may be, is a pixel wide. Regions inside regions count
as well. All versions of the format are read alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from docstill.data.images import find_file, pictures, upright_size
from docstill.data.regions import MOST_OUTSIDE, Marked, Size, clip
from docstill.errors import MissingExtra
from docstill.metrics.detection import Box
from docstill.progress import counter

_STRUCTURE = re.compile(r"structure\s*\{[^}]*?type\s*:\s*([^;}]+?)\s*[;}]")
_POINT = re.compile(r"(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)")


def scan_page_xml(images: Path, labels: Path) -> tuple[list[Marked], int, int, list[str]]:
    """Reads all PAGE-XML below a folder.

    Args:
        images: the pictures; one is looked for by its ``imageFilename`` beside its XML file, in the folder above that, and
            in ``images``.
        labels: the XML files, in any folders below it.

    Returns:
        The pages; how many XML files are none of PAGE's, such as METS; how many pictures no XML file is for, so that they
        are no pages; everything that is wrong.

    Raises:
        MissingExtra: the extra ``layout`` is not installed.
    """
    pages: list[Marked] = []
    problems: list[str] = []
    taken: dict[Path, Path] = {}
    others = 0
    for path in _counted([path for path in sorted(labels.rglob("*")) if _is_xml(path)]):
        root, problem = _root(path)
        if root is None:
            problems.append(f"{path}: {problem}")
            continue
        page = next((element for element in root if _name(element) == "Page"), None)
        if _name(root) != "PcGts" or page is None:
            others += 1
            continue
        file, wrong = _picture(page, path, images)
        if file is None:
            problems.append(f"{path}: {wrong}")
        elif taken.setdefault(file, path) != path:
            problems.append(f"{path}: its picture {file.name} is that of {taken[file]} too; keep one of the two")
        else:
            marked, wrongs = _marked(page, file)
            pages.append(marked)
            problems += [f"{path}: {wrong}" for wrong in wrongs]
    if not pages and not problems:
        problems.append(f"{labels}: there is no PAGE-XML in this folder or below it")
    marked_files = {os.path.abspath(file) for file in taken}
    unmarked = sum(os.path.abspath(file) not in marked_files for file in pictures(images))
    return pages, others, unmarked, problems


def _root(path: Path) -> tuple[Any, str]:
    """The document's element; or None and what is wrong. No entities, no files or addresses that a document names."""
    try:
        from defusedxml import DefusedXmlException, ElementTree
    except ModuleNotFoundError as error:
        raise MissingExtra("reading PAGE-XML", "layout") from error
    try:
        return ElementTree.parse(path, forbid_dtd=True).getroot(), ""
    except ElementTree.ParseError as error:
        return None, f"broken XML ({error})"
    except DefusedXmlException:
        return None, "has a document type or entities, which PAGE-XML has not; remove them"
    except (OSError, ValueError, LookupError) as error:  # an encoding that nobody knows is a LookupError
        return None, f"cannot be read ({error})"


def _name(element: Any) -> str:
    """The element's name, whatever version of PAGE its namespace is."""
    return str(element.tag).rpartition("}")[2]


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not path.name.startswith(".")


def _counted(files: list[Path]) -> Iterator[Path]:
    """The files one after the other, under a bar."""
    with counter("reading pages", len(files)) as advance:
        for file in files:
            yield file
            advance(1)


def _picture(page: Any, path: Path, images: Path) -> tuple[Path | None, str]:
    name = page.get("imageFilename")
    if not name:
        return None, "its Page has no imageFilename"
    windows = "\\" in name or name[1:3] == ":/"
    given = PureWindowsPath(name) if windows else PurePosixPath(name)
    # some tools write the path on the machine where the page was marked
    name = given.name if given.anchor or ".." in given.parts else given.as_posix()
    for folder in (path.parent, path.parent.parent, images):
        file = find_file(folder, name)
        if file is not None and Path(os.path.abspath(file)).is_relative_to(os.path.abspath(images)):
            return file, ""
    return None, f"its picture {name} is neither beside it, nor in the folder above, nor in {images}"


def _marked(page: Any, file: Path) -> tuple[Marked, list[str]]:
    problems = []
    size, _ = upright_size(file)
    given = (page.get("imageWidth", ""), page.get("imageHeight", ""))
    if size is None:
        return Marked(file, (0, 0), []), [f"its picture {file.name} cannot be read"]
    of_another_size = given != (str(size[0]), str(size[1]))
    if of_another_size:
        problems.append(f"is for {' × '.join(given)} pixels, but its picture {file.name} has {size[0]} × {size[1]}")
    regions: list[tuple[str, Box]] = []
    for element, label in _regions(page):
        box = _box(element, size)
        if isinstance(box, str):
            problems.append(f"region {element.get('id')}: {box}")
            continue
        inside, outside = clip(box, size)
        if outside > MOST_OUTSIDE and not of_another_size:  # else the size alone is the mistake
            problems.append(f"region {element.get('id')}: lies outside the page of {size[0]} × {size[1]} pixels")
        regions.append((label, inside))
    return Marked(file, size, regions), problems


def _regions(element: Any) -> Iterator[tuple[Any, str]]:
    """All regions below an element, with their classes."""
    for child in element:
        name = _name(child)
        if name.endswith("Region"):
            kind = re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Region")).lower()
            if kind == "text":
                structure = _STRUCTURE.search(child.get("custom", ""))
                kind = child.get("type") or (structure.group(1) if structure else kind)
            yield child, kind
            yield from _regions(child)


def _box(region: Any, size: Size) -> Box | str:
    """The box around a region's polygon, or what is wrong with it; on a page of this size."""
    coords = next((child for child in region if _name(child) == "Coords"), None)
    if coords is None:
        return "has no Coords"
    text = coords.get("points")
    if text is None:  # before 2013 each point was an element
        text = " ".join(f"{point.get('x')},{point.get('y')}" for point in coords if _name(point) == "Point")
    points = [_POINT.fullmatch(point) for point in text.split()]
    found = [(float(point[1]), float(point[2])) for point in points if point]
    if len(found) != len(points) or len(found) < 2:
        return f"its points are not those of a polygon: {text[:60]!r}"
    left, top = (min(point[axis] for point in found) for axis in (0, 1))
    right, bottom = (max(point[axis] for point in found) for axis in (0, 1))
    (left, width), (top, height) = _a_pixel_wide(left, right, size[0]), _a_pixel_wide(top, bottom, size[1])
    return left, top, width, height


def _a_pixel_wide(first: float, last: float, end: float) -> tuple[float, float]:
    """Where a side begins and how long it is, at least a pixel; a line on the page's last edge is widened inwards."""
    if last - first >= 1:
        return first, last - first
    return (min(first, end - 1) if last <= end else first), 1.0
