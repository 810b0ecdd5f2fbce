"""A sheet that a generated document is drawn on: text that fits, rules, boxes, barcodes."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from docstill.synthesis.fonts import Face

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
Glyph = tuple[str, float, float]
BLACK: Colour = (20, 20, 22)
WHITE: Colour = (255, 255, 255)
_SMALLEST = 6
_MIDDLE = 0.62
"""Where the middle of a capital lies below the top of its line, in sizes."""


class Sheet:
    """A page while it is drawn.

    Attributes:
        image: RGB.
        written: every text that was drawn, with its box ``(left, top, right, bottom)``; so that a test can ask whether
            all of the ground truth stands on the page, inside it.
        glyphs: every character that was drawn but spaces, with the middle of its cell: ``(character, x, y)`` in pixels.
    """

    def __init__(self, width: int, height: int, paper: Colour = WHITE) -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.draw = ImageDraw.Draw(self.image)
        self.written: list[tuple[str, Box]] = []
        self.glyphs: list[Glyph] = []

    @property
    def width(self) -> int:
        """Pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.image.height

    def text(
        self,
        at: tuple[float, float],
        text: str,
        face: Face,
        size: int,
        *,
        room: float | None = None,
        anchor: str = "l",
        ink: Colour = BLACK,
        pitch: float = 0.0,
    ) -> float:
        """Writes one line.

        Args:
            at: the top of the line, and its left end, middle or right end by ``anchor``.
            text: one line.
            face: writes it if it has all of its glyphs; else what `Face.able` says is written.
            size: in pixels; made smaller until the line fits into ``room``.
            room: width there is; default: up to the page's edge.
            anchor: ``l``, ``m`` or ``r``.
            ink: colour.
            pitch: if not 0, each character gets a cell of this share of the size or as wide as the widest, as a till
                prints.

        Returns:
            Where the line ends below.
        """
        face, text = face.able(text)
        left, top = at
        if room is None:
            room = {"l": self.width - left, "m": 2 * min(left, self.width - left), "r": left}[anchor] - 2
        width = self.length(text, face, size, pitch)
        while width > room and size > _SMALLEST:
            size = max(_SMALLEST, min(size - 1, int(size * room / width)))
            width = self.length(text, face, size, pitch)
        left -= {"l": 0.0, "m": width / 2, "r": width}[anchor]
        font = face.at(size)
        if pitch:
            cell = width / max(1, len(text))
            for place, character in enumerate(text):
                self.draw.text((left + (place + 0.5) * cell, top), character, ink, font, anchor="ma")
        else:
            self.draw.text((left, top), text, ink, font)
        bottom = top + size * 1.2
        cells = [cell] * len(text) if pitch else [face.width(character, size) for character in text]
        self._note(text, cells, left, width, top + _MIDDLE * size)
        self.written.append((text, (left, top, left + width, bottom)))
        return bottom

    def _note(self, text: str, cells: list[float], left: float, width: float, middle: float) -> None:
        """Keeps where each character stands; kerning is spread over the line."""
        scale, place = width / max(1e-9, sum(cells)), left
        for character, cell in zip(text, cells, strict=True):
            if not character.isspace():
                self.glyphs.append((character, place + scale * cell / 2, middle))
            place += scale * cell

    def spread(
        self, at: tuple[float, float], words: list[str], face: Face, size: int, room: float, ink: Colour = BLACK
    ) -> None:
        """Writes one line that is as wide as ``room``, by the gaps between its words; by `text` if the face lacks a glyph."""
        text = " ".join(words)
        if not face.covers(text):
            self.text(at, text, face, size, room=room, ink=ink)
            return
        font = face.at(size)
        widths = [font.getlength(word) for word in words]
        gap = (room - sum(widths)) / (len(words) - 1)
        left, top = at
        for word, width in zip(words, widths, strict=True):
            self.draw.text((left, top), word, ink, font)
            left += width + gap
        self.written.append((text, (at[0], top, at[0] + room, top + size * 1.2)))

    def length(self, text: str, face: Face, size: int, pitch: float = 0.0) -> float:
        """Width of a line in pixels."""
        font = face.at(size)
        if not pitch:
            return font.getlength(text)
        widest = max((face.width(character, size) for character in set(text)), default=0.0)
        return len(text) * max(pitch * size, 0.95 * widest)

    def lines(
        self, at: tuple[float, float], lines: list[str], face: Face, size: int, room: float, gap: float = 1.25
    ) -> float:
        """Writes lines below one another; returns where the last one ends."""
        left, top = at
        for line in lines:
            self.text((left, top), line, face, size, room=room)
            top += size * gap
        return top

    def paragraph(self, at: tuple[float, float], text: str, face: Face, size: int, room: float) -> list[str]:
        """Writes ``text`` in as many lines as it takes; returns the lines."""
        lines, line = [], ""
        for word in text.split():
            longer = f"{line} {word}".strip()
            if line and self.length(longer, face, size) > room:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
        self.lines(at, lines, face, size, room)
        return lines

    def rule(self, top: float, left: float = 0, right: float | None = None, thick: int = 1) -> None:
        """A line across."""
        self.draw.line((left, top, self.width if right is None else right, top), BLACK, thick)

    def upright(self, left: float, top: float, bottom: float, thick: int = 1) -> None:
        """A line down."""
        self.draw.line((left, top, left, bottom), BLACK, thick)

    def box(self, box: Box, fill: Colour | None = None, thick: int = 1) -> None:
        """A rectangle."""
        self.draw.rectangle(box, fill=fill, outline=BLACK, width=thick)

    def barcode(self, code: str, box: Box, across: bool = True) -> None:
        """Code 128 of ``code`` in ``box``; with ``across`` false it stands on end."""
        left, top, right, bottom = map(int, box)
        long, short = (right - left, bottom - top) if across else (bottom - top, right - left)
        bars = Image.frombytes("L", (len(modules := _code128(code)), 1), bytes(255 * (m == "0") for m in modules))
        scale = max(1, long // len(modules))  # whole pixels, so that all bars of a width are alike
        drawn = bars.resize((scale * len(modules), short), Image.Resampling.NEAREST)
        if drawn.width > long:
            drawn = drawn.resize((long, short), Image.Resampling.BOX)
        if not across:
            drawn = drawn.rotate(90, expand=True)
        self.image.paste(drawn.convert("RGB"), (left + (right - left - drawn.width) // 2, top))


@lru_cache(maxsize=256)
def _code128(code: str) -> str:
    from barcode import Code128

    return str(Code128(code).build()[0])
