"""Labels of small packets: one address, a service, a tracking code; little to read, for models small enough to be trained on a CPU."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from docstill.synthesis.fonts import Face
from docstill.synthesis.labels import GREY, SERVICES, tracking_code
from docstill.synthesis.parties import COUNTRIES, Party, party
from docstill.synthesis.sheet import BLACK, WHITE, Sheet

WIDTH, HEIGHT = 384, 128
"""Pixels of a sheet, before anything happens to it."""
_DARK = ((30, 60, 120), (150, 30, 30), (20, 90, 60), BLACK)


@dataclass(frozen=True)
class Packet:
    """What a small label says."""

    service: str
    tracking_code: str
    recipient: Party

    def truth(self) -> dict[str, Any]:
        """The ground truth."""
        return {
            "service": self.service,
            "tracking_code": self.tracking_code,
            "recipient": self.recipient.truth(country=False),
        }

    def characters(self) -> str:
        """Everything that a face must be able to write; of captions a sheet writes what the faces have."""
        return "".join([*self.recipient.truth().values(), string.ascii_letters, string.digits, " .,:/()#-*"])


def packet(rng: random.Random) -> Packet:
    """A packet to somebody."""
    return Packet(rng.choice(SERVICES), tracking_code(rng), party(rng, rng.choice(list(COUNTRIES)), company=0.0))


def draw_small_label(packet: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Draws the label in one of `LAYOUTS`."""
    return rng.choice(LAYOUTS)(packet, face, bold, rng)


def _address(
    sheet: Sheet,
    at: tuple[float, float],
    it: Packet,
    faces: tuple[Face, Face],
    size: int,
    room: float,
    anchor: str = "l",
) -> float:
    """The name in the first face, the address below it in the second; four lines at most."""
    left, top = at
    lines = [it.recipient.name, *it.recipient.lines(country=False)]
    gap = size * (1.22 if len(lines) < 4 else 1.12)
    for number, line in enumerate(lines):
        sheet.text((left, top), line, faces[number > 0], size, room=room, anchor=anchor)
        top += gap
    return top


def _tag(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """The address at the left, the barcode on end at the right, code and service on the last line."""
    sheet = Sheet(WIDTH, HEIGHT)
    _address(sheet, (10, 6), it, (bold, face), 20, 300)
    sheet.text((10, 104), it.tracking_code, bold, 17, room=170)
    sheet.text((318, 105), it.service, face, 15, room=128, anchor="r")
    sheet.barcode(it.tracking_code, (328, 4, 378, 124), across=False)
    return sheet


def _band(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A dark band with service and code across the top."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.box((0, 0, WIDTH, 27), fill=rng.choice(_DARK))
    sheet.text((10, 4), it.service, bold, 17, room=165, ink=WHITE)
    sheet.text((374, 4), it.tracking_code, bold, 17, room=180, anchor="r", ink=WHITE)
    _address(sheet, (10, 34), it, (bold, face), 20, 270)
    sheet.barcode(it.tracking_code, (292, 40, 376, 118))
    return sheet


def _strip(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A low barcode across the top with the code below it, the address in the middle."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.barcode(it.tracking_code, (20, 4, 364, 22))
    sheet.text((20, 25), it.tracking_code, face, 16, room=180)
    sheet.text((364, 25), it.service, bold, 16, room=150, anchor="r")
    _address(sheet, (192, 46), it, (bold, bold), 18, 364, anchor="m")
    return sheet


def _columns(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Address, a rule, then service, bars and code below one another."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.text((8, 4), rng.choice(("TO", "To:", "An", "SHIP TO")), face, 12)
    _address(sheet, (8, 22), it, (bold, face), 20, 222)
    sheet.upright(238, 0, HEIGHT, 2)
    sheet.text((311, 8), it.service, bold, 18, anchor="m", room=136)
    sheet.barcode(it.tracking_code, (244, 38, 378, 92))
    sheet.text((311, 100), it.tracking_code, face, 17, anchor="m", room=136)
    return sheet


def _foot(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """The address above, service at its right, bars and code at the foot."""
    sheet = Sheet(WIDTH, HEIGHT)
    _address(sheet, (12, 4), it, (bold, face), 20, 250)
    sheet.box((270, 6, 378, 34), thick=2)
    sheet.text((324, 11), it.service, bold, 16, anchor="m", room=98)
    sheet.barcode(it.tracking_code, (12, 101, 200, 124))
    sheet.text((374, 101), it.tracking_code, bold, 18, anchor="r", room=165)
    return sheet


def _framed(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A frame, a caption, a grey field with the service above the address."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.box((2, 2, 381, 125), thick=2)
    sheet.box((2, 2, 381, 28), fill=GREY, thick=2)
    sheet.text((12, 6), it.service, bold, 17, room=150)
    sheet.text((372, 6), f"{rng.choice(('No.', '#', 'Nr.'))} {it.tracking_code}", face, 16, room=190, anchor="r")
    sheet.written[-1] = (it.tracking_code, sheet.written[-1][1])
    _address(sheet, (12, 35), it, (face, face), 20, 360)
    return sheet


def _side(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A dark field with the service at the left; address and code beside it."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.box((0, 0, 104, HEIGHT), fill=rng.choice(_DARK))
    sheet.text((52, 54), it.service, bold, 16, anchor="m", room=96, ink=WHITE)
    _address(sheet, (116, 6), it, (bold, face), 20, 258)
    sheet.rule(99, 110, 378)
    sheet.text((116, 103), it.tracking_code, face, 18, room=258)
    return sheet


def _right(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Service, bars and code stacked at the left, the address flush right."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.text((10, 6), it.service, face, 16, room=120)
    sheet.barcode(it.tracking_code, (8, 30, 130, 90))
    sheet.text((10, 100), it.tracking_code, face, 17, room=124)
    _address(sheet, (376, 12), it, (bold, bold), 21, 230, anchor="r")
    return sheet


def _slip(it: Packet, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """From a hand-held printer: everything centred, no bars."""
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.text((192, 3), f"*** {it.service} ***", face, 17, anchor="m")
    sheet.written[-1] = (it.service, sheet.written[-1][1])
    bottom = _address(sheet, (192, 23), it, (face, face), 18, 368, anchor="m")
    sheet.text((192, max(bottom, 92) + 2), it.tracking_code, bold, 17, anchor="m")
    return sheet


LAYOUTS: list[Callable[[Packet, Face, Face, random.Random], Sheet]] = [
    _tag, _band, _strip, _columns, _foot, _framed, _side, _right, _slip,
]  # fmt: skip
"""One for each manner of label."""
