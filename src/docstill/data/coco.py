"""COCO's JSON files by themselves, without pictures: annotations, and the results of a detector.

Annotations are ``{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}], "annotations":
[{"id", "image_id", "category_id", "bbox": [left, top, width, height], "area", "iscrowd"}]}``; results are a list of
``{"image_id", "category_id", "bbox", "score"}``. Numbers of images and categories may be any, with gaps; polygons and
masks are not read. See https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from docstill.data.images import composed
from docstill.data.regions import Regions, Size
from docstill.errors import DataError
from docstill.metrics.detection import Box, Detection, Truth

Id = int | str
FAR = 1e9
"""No page is so wide; larger numbers, infinities and NaN are mistakes."""
_LEAST = 1e-6
_NUMBERS = frozenset({int, float})


@dataclass(frozen=True)
class Coco:
    """A file of annotations.

    Attributes:
        path: the file.
        image_ids: of each page, the number that the file gives it. Pages come in the order of these, as in COCO's evaluator:
            of two detections that are equally sure, that on the earlier page counts first.
        names: of each page, the picture's ``file_name``.
        sizes: of each page, its width and height in pixels, or None where the file does not say.
        category_ids: the numbers of the classes, in their order.
        labels: the names of the classes, in the order of their numbers.
        truths: the regions; page and label are indices into the lists above.
        entries: of each region, its place among the file's annotations.
    """

    path: Path
    image_ids: list[Id]
    names: list[str]
    sizes: list[Size | None]
    category_ids: list[Id]
    labels: list[str]
    truths: list[Truth]
    entries: list[int]


def read_coco(path: Path) -> Coco:
    """Reads annotations.

    Raises:
        DataError: everything that is wrong, at once, with the entry.
    """
    found, problems = scan_coco(path)
    if problems:
        raise DataError(f"the annotations in {path} cannot be used", problems)
    return found


def scan_coco(path: Path) -> tuple[Coco, list[str]]:
    """As `read_coco`, but hands back what could be read together with everything that is wrong."""
    empty = Coco(path, [], [], [], [], [], [], [])
    content, problem = _load(path)
    if problem:
        return empty, [problem]
    lists = ("images", "categories", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        return empty, [f"{path.name}: expected an object with the lists images, categories and annotations"]
    problems: list[str] = []
    images = _named(content["images"], "images", "file_name", path.name, problems)
    categories = _named(content["categories"], "categories", "name", path.name, problems)
    if not images and not problems:
        problems.append(f"{path.name}: lists no images; expected one entry a page")
    sizes = [_size(content["images"][place], f"{path.name}: images[{place}]", problems) for _, _, place in images]
    pages, labels = ({id_: index for index, (id_, _, _) in enumerate(group)} for group in (images, categories))
    truths, entries = _truths(
        content["annotations"], _Entries(path.name, "annotations", path.name, pages, labels, problems)
    )
    found = Coco(
        path,
        list(pages),
        [name for _, name, _ in images],
        sizes,
        list(labels),
        [name for _, name, _ in categories],
        truths,
        entries,
    )
    return found, problems


def read_results(path: Path, coco: Coco) -> list[Detection]:
    """Reads what a detector saw on the pages of ``coco``.

    Raises:
        DataError: everything that is wrong, at once, with the entry.
    """
    content, problem = _load(path)
    if problem is None and not isinstance(content, list):
        problem = f'{path.name}: expected a list of {{"image_id", "category_id", "bbox", "score"}}'
    if problem:
        raise DataError(f"the results in {path} cannot be scored", [problem])
    pages, labels = ({id_: index for index, id_ in enumerate(ids)} for ids in (coco.image_ids, coco.category_ids))
    against = _Entries(path.name, "results", coco.path.name, pages, labels, [])
    detections = []
    for place, entry in enumerate(content):
        placed = against.placed(entry, place)
        box = placed and against.box(entry, place, 0)  # a box without area is a bad answer, not a broken file
        if not placed or not box:
            continue
        score = entry.get("score")
        if type(score) not in _NUMBERS or not -FAR < score < FAR:
            against.wrong(entry, place, f"score must be a finite number, {_short(score)} given")
            continue
        detections.append(Detection(*placed, box, float(score)))
    against.end()
    if against.problems:
        raise DataError(f"the results in {path} cannot be scored", against.problems)
    return detections


def coco_content(pages: Iterable[tuple[str, Regions]], labels: Sequence[str]) -> dict[str, Any]:
    """Annotations as COCO writes them, of file names with their regions; numbers begin at 1."""
    images, annotations = [], []
    for page, (name, regions) in enumerate(pages, 1):
        width, height = regions.size
        images.append({"id": page, "file_name": name, "width": width, "height": height})
        rows = zip(regions.boxes, regions.labels, regions.areas, regions.crowd, strict=True)
        annotations += [
            {"image_id": page, "category_id": label + 1, "bbox": list(box), "area": area, "iscrowd": int(crowd)}
            for box, label, area, crowd in rows
        ]
    return {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, 1)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
    }


def results_content(detections: Iterable[Detection], coco: Coco) -> list[dict[str, Any]]:
    """A detector's results as COCO writes them, with the numbers of the annotations ``coco``."""
    return [
        {
            "image_id": coco.image_ids[page],
            "category_id": coco.category_ids[label],
            "bbox": list(box),
            "score": score,
        }
        for page, label, box, score in detections
    ]


def some(entries: Sequence[Any], most: int = 5) -> str:
    """The first few, and how many there are."""
    shown = ", ".join(str(entry) for entry in entries[:most])
    return shown if len(entries) <= most else f"{shown}, … ({len(entries):,} in all)"


def _load(path: Path) -> tuple[Any, str | None]:
    """The value of a JSON file, or what is wrong with it."""
    try:
        content = path.read_bytes()
        try:
            return from_json(content, cache_strings="keys"), None  # in half of json's time
        except ValueError:  # json reads a little more (a byte-order mark), and names the line of what it does not read
            return json.loads(content.decode("utf-8-sig")), None
    except json.JSONDecodeError as error:
        return None, f"{path.name}:{error.lineno}: broken JSON ({error.msg} at column {error.colno})"
    except UnicodeDecodeError as error:
        return None, f"{path.name}: is not UTF-8 (byte {error.start}); save it as UTF-8"
    except OSError as error:
        return None, f"{path.name}: cannot be read ({error.strerror}); give a COCO JSON file"
    except (ValueError, RecursionError) as error:
        return None, f"{path.name}: broken JSON ({error})"


def _named(entries: list[Any], kind: str, key: str, file: str, problems: list[str]) -> list[tuple[Id, str, int]]:
    """Number, name and place of each image or category, by number; both number and name must be given once only."""
    found: list[tuple[Id, str, int]] = []
    seen: dict[tuple[str, Id], int] = {}
    for place, entry in enumerate(entries):
        where = f"{file}: {kind}[{place}]"
        id_, name = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if isinstance(id_, float) and id_.is_integer():  # as tables write them
            id_ = int(id_)
        if not isinstance(id_, int | str) or isinstance(id_, bool) or not isinstance(name, str) or not name:
            problems.append(f"{where}: expected an object with id and {key}, {_short(entry)} given")
            continue
        twice = [
            f"{what} {value!r} was already given in {kind}[{first}]"
            for what, value in (("id", id_), (key, name))
            if (first := seen.setdefault((what, value), place)) != place
        ]
        if twice:
            problems.append(f"{where}: {' and '.join(twice)}; keep one")
        else:
            # composed, as class folders are: the same umlaut may be spelt in two ways
            found.append((id_, composed(name) if kind == "categories" else name, place))
    return sorted(found, key=lambda entry: (isinstance(entry[0], str), entry[0]))


def _size(entry: dict[str, Any], where: str, problems: list[str]) -> Size | None:
    width: Any = entry.get("width")
    height: Any = entry.get("height")
    if width is None and height is None:
        return None
    if not all(type(side) in _NUMBERS and 0 < side < FAR and side == int(side) for side in (width, height)):
        given = f"{_short(width)} and {_short(height)}"
        problems.append(f"{where}: width and height must be whole numbers above 0, {given} given")
        return None
    return int(width), int(height)


@dataclass
class _Entries:
    """What the entries of a file are held against, and what is wrong with them."""

    file: str
    kind: str
    source: str
    pages: dict[Id, int]
    labels: dict[Id, int]
    problems: list[str]
    strangers: dict[str, dict[Id, list[int]]] = field(default_factory=lambda: {"image_id": {}, "category_id": {}})

    def placed(self, entry: Any, place: int) -> tuple[int, int] | None:
        """Indices of page and class."""
        try:
            return self.pages[entry["image_id"]], self.labels[entry["category_id"]]
        except (TypeError, KeyError):
            pass
        ids = [entry.get(key) for key in self.strangers] if isinstance(entry, dict) else [None]
        if any(type(id_) not in {int, str} for id_ in ids):
            self.wrong(entry, place, f"expected an object with image_id and category_id, {_short(entry)} given")
            return None
        for key, known in (("image_id", self.pages), ("category_id", self.labels)):
            if entry[key] not in known:
                self.strangers[key].setdefault(entry[key], []).append(place)
        return None

    def box(self, entry: Any, place: int, least: float) -> Box | None:
        """The entry's box, whose sides must not be less than ``least``."""
        value = entry.get("bbox")
        if type(value) is not list or len(value) != 4:
            self.wrong(entry, place, f"bbox must be [left, top, width, height], {_short(value)} given")
            return None
        left, top, width, height = value
        # written out, for a loop over the four takes a second of a million boxes
        numbers = (
            type(left) in _NUMBERS and type(top) in _NUMBERS and type(width) in _NUMBERS and type(height) in _NUMBERS
        )
        if not numbers or not (-FAR < left < FAR and -FAR < top < FAR and -FAR < width < FAR and -FAR < height < FAR):
            self.wrong(entry, place, f"bbox must hold four finite numbers, {_short(value)} given")
            return None
        if width < least or height < least:
            self.wrong(entry, place, f"bbox has no area: [left, top, width, height] is {_short(value)}")
            return None
        return float(left), float(top), float(width), float(height)

    def wrong(self, entry: Any, place: int, what: str) -> None:
        """Notes what is wrong with an entry."""
        id_ = entry.get("id") if isinstance(entry, dict) else None
        number = f" (id {id_})" if type(id_) in {int, str} else ""  # what labelling tools show
        self.problems.append(f"{self.file}: {self.kind}[{place}]{number}: {what}")

    def end(self) -> None:
        """Notes, a line each, all entries that name images, and all that name classes, that are not listed."""
        for key, what in (("image_id", "images"), ("category_id", "categories")):
            if strange := self.strangers[key]:
                places = sorted(place for group in strange.values() for place in group)
                known = self.pages if key == "image_id" else self.labels
                spelt = any(
                    isinstance(id_, str) != isinstance(other, str)
                    for id_ in strange
                    for other in known
                    if str(id_) == str(other)
                )
                self.problems.append(
                    f"{self.file}: {self.kind} {some(places)} are for {what} that {self.source} does not list: "
                    f"{key} {some([json.dumps(id_, ensure_ascii=False) for id_ in strange])}"
                    + (
                        ", numbers in one file and texts in the other; write them alike"
                        if spelt
                        else "; mend or remove them"
                    )
                )


def _truths(entries: list[Any], against: _Entries) -> tuple[list[Truth], list[int]]:
    truths, places = [], []
    for place, entry in enumerate(entries):
        placed = against.placed(entry, place)
        box = placed and against.box(entry, place, _LEAST)
        if not placed or not box:
            continue
        area, crowd = entry.get("area"), entry.get("iscrowd")  # null is as good as none
        area, crowd = box[2] * box[3] if area is None else area, 0 if crowd is None else crowd
        if type(area) not in _NUMBERS or not 0 <= area < FAR**2 or crowd not in (0, 1):
            expected = "area must be a number that is not negative and iscrowd 0 or 1"
            against.wrong(entry, place, f"{expected}, {_short(area)} and {_short(crowd)} given")
            continue
        truths.append(Truth(*placed, box, float(area), bool(crowd)))
        places.append(place)
    against.end()
    return truths, places


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
