"""Pages to learn reading from, as SynthDoG makes them (Kim et al. 2022, arXiv 2111.15664, section 3.2).

Text from any corpus in a few blocks, and all of it, in reading order, as the ground truth.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from docstill.data.json_tokens import survives
from docstill.errors import DataError, UserError
from docstill.synthesis.fonts import GIVE_FONTS, Face, Fonts
from docstill.synthesis.parties import COUNTRIES, party
from docstill.synthesis.sheet import Sheet

SIZES = ((640, 480), (480, 640))
"""Width and height of the pictures, in pixels."""
_SMALLER = (0.82, 0.95)
_TRIES = 50
_LOWER = 0.3
"""At most so far below the margin, as a share of the height, text begins."""
_SIDES = {"l": 0.0, "m": 0.5, "r": 1.0}
"""Where lines are anchored, as a share of the room, by the anchor."""
_LOOKED_AT = 400
"""Words of a corpus."""
_LEAST = 0.5
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_RUN = 60
"""Characters; longer words are text without spaces."""
_PHRASE = re.compile(r"[^。、，．！？；]{1,39}[。、，．！？；]?|[。、，．！？；]")
"""What such text is cut into: at a mark, or after 39 characters."""


class Corpus:
    """The words of a text file, or of Faker where there is none.

    A letter and the marks on it become one character where Unicode has it (NFC), control characters become spaces; words written from
    right to left are left out, as Pillow cannot shape them, and words that hold tags, which a tokenizer takes for its own. Text without
    spaces is cut into phrases.

    Attributes:
        words: in their order.
        from_right: the share of the text that is left out since it is written from right to left.

    Raises:
        UserError: the file cannot be read, or holds no words.
        DataError: it is not UTF-8; the line is named.
    """

    def __init__(self, path: Path | None) -> None:
        self.words, self.from_right = (_faked(), 0.0) if path is None else _words(path)
        if not self.words:
            reason = ", for what is written from right to left is not" if self.from_right else ""
            raise UserError(f"{path} holds no words that can be drawn{reason}; give another UTF-8 text file")

    def drawable(self, fonts: Fonts) -> float:
        """The share of the words that the fonts have glyphs for, by some of them, evenly spaced.

        Raises:
            UserError: it is less than a half, so that pages would hold scraps.
        """
        some = self.words[:: max(1, len(self.words) // _LOOKED_AT)]
        share = sum(any(face.covers(word) for face in fonts.faces) for word in some) / len(some)
        if share < _LEAST:
            raise UserError(
                f"the fonts can draw {share:.0%} of the words of the corpus, and the rest would be left out; {GIVE_FONTS}"
            )
        return share

    def passage(self, rng: random.Random, face: Face, count: int) -> list[str]:
        """``count`` words on end, from a random place, without those that the face cannot write."""
        start, chosen = rng.randrange(len(self.words)), []
        for offset in range(len(self.words)):
            word = self.words[(start + offset) % len(self.words)]
            if face.covers(word):
                chosen.append(word)
            if len(chosen) == count:
                break
        return chosen


def draw_reading(corpus: Corpus, fonts: Fonts, rng: random.Random) -> tuple[Sheet, dict[str, Any]]:
    """A page with one to four blocks of text in each of one or two columns, most of them set to the left.

    Returns:
        The page, of a size of `SIZES` or, in half of the cases, smaller, so that it can lie on something; and
        ``{"text_sequence": …}``: all lines, joined by spaces, column by column.

    Raises:
        UserError: no face can write the corpus.
    """
    across, down = rng.choice(SIZES)
    share = 1.0 if rng.random() < 0.5 else rng.uniform(*_SMALLER)
    width, height = round(across * share), round(down * share)
    sheet = Sheet(width, height)
    columns = rng.choice((1, 1, 2)) if width > height else 1
    margin, gutter = rng.randint(16, 48), 20
    room = (width - 2 * margin - gutter * (columns - 1)) / columns
    lines: list[str] = []
    for column in range(columns):
        left, top = margin + column * (room + gutter), margin + rng.choice((0.0, rng.uniform(0, _LOWER * height)))
        for _ in range(rng.randint(1, 4)):
            side = rng.choice("lllmr")  # most stand left
            size = rng.choice((12, 14, 16, 18, 22, 28))
            face = _willing(corpus, fonts, rng)
            left_over = int((height - margin - top) / (size * 1.25))
            if left_over < 1:
                break
            rows = rng.randint(1, min(left_over, 8))
            words = corpus.passage(rng, face, rows * max(2, int(room / (size * 3))))
            for line in islice(_wrapped(sheet, words, face, size, room), rows):
                sheet.text((left + _SIDES[side] * room, top), line, face, size, room=room, anchor=side)
                lines.append(line)
                top += size * 1.25
            top += rng.uniform(0.3, 2.5) * size
    return sheet, {"text_sequence": " ".join(lines)}


def _willing(corpus: Corpus, fonts: Fonts, rng: random.Random) -> Face:
    for _ in range(_TRIES):
        face = fonts.choose(rng, rng.choice(corpus.words))
        if face is not None:
            return face
    raise UserError(f"the fonts have no glyphs for the words of the corpus; {GIVE_FONTS}")


def _wrapped(sheet: Sheet, words: list[str], face: Face, size: int, room: float) -> Iterator[str]:
    line = ""
    for word in words:
        while sheet.length(word, face, size) > room:  # a word, or a script without spaces, longer than a line
            most = max(1, int(len(word) * room / sheet.length(word, face, size)) - 1)
            if line:
                yield line
                line = ""
            yield word[:most]
            word = word[most:]
        longer = f"{line} {word}".strip()
        if line and sheet.length(longer, face, size) > room:
            yield line
            longer = word
        line = longer
    if line:
        yield line


@lru_cache(maxsize=4)
def _words(path: Path) -> tuple[list[str], float]:
    """The words that can be drawn, and the share of the text that is written from right to left."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the corpus {path} ({error.strerror}); give a UTF-8 text file") from error
    try:
        text = unicodedata.normalize("NFC", content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            "the corpus is not UTF-8", [f"{path}:{line}: a byte that is no UTF-8; save it as UTF-8"]
        ) from error
    clean = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    runs = clean.split()
    rightward = [word for word in runs if not any(unicodedata.bidirectional(one) in _RIGHT_TO_LEFT for one in word)]
    phrases = (phrase for word in rightward for phrase in (_PHRASE.findall(word) if len(word) > _RUN else [word]))
    words = [word for word in phrases if "<" not in word or survives({"text_sequence": word}) is None]
    whole = sum(map(len, runs))
    return words, 1 - sum(map(len, rightward)) / whole if whole else 0.0


@lru_cache(maxsize=1)
def _faked() -> list[str]:
    """English sentences, and between them names and addresses of all countries that other generated documents have: their letters too."""
    from faker import Faker

    fake, rng = Faker("en_US"), random.Random(0)
    fake.seed_instance(0)
    text = []
    for number in range(2000):
        somebody = party(rng, list(COUNTRIES)[number % len(COUNTRIES)])
        text += [str(fake.sentence()), somebody.name, somebody.company, *somebody.lines()]
    return " ".join(text).split()
