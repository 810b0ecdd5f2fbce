"""Parcel labels: who sends what to whom, in the manner of several carriers, none of which exists."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from docstill.synthesis.fonts import Face
from docstill.synthesis.parties import COUNTRIES, Party, party
from docstill.synthesis.sheet import BLACK, WHITE, Sheet

CARRIERS = (
    "NORDPAK", "Swiftline", "PARCELIA", "Blue Harrier", "TransKurier", "EuroDepot", "QuickCrate", "Postwerk", "ARROWAY",
    "Kestrel Express", "Colibri Colis", "Meridian Cargo",
)  # fmt: skip
SERVICES = (
    "STANDARD", "EXPRESS", "EXPRESS 12:00", "ECONOMY", "PRIORITY", "NEXT DAY", "OVERNIGHT", "GROUND", "REGISTERED",
    "SIGNATURE REQUIRED", "COD", "PICKUP POINT", "RETURN", "FREIGHT",
)  # fmt: skip
GREY = (225, 225, 225)


@dataclass(frozen=True)
class Shipment:
    """What a label says."""

    carrier: str
    service: str
    tracking_code: str
    weight: str
    recipient: Party
    sender: Party
    abroad: bool
    """Whether the countries are written."""

    def truth(self) -> dict[str, Any]:
        """The ground truth."""
        return {
            "carrier": self.carrier,
            "service": self.service,
            "tracking_code": self.tracking_code,
            "weight": self.weight,
            "recipient": self.recipient.truth(self.abroad),
            "sender": self.sender.truth(self.abroad),
        }

    def characters(self) -> str:
        """Everything that a face must be able to write; of captions a sheet writes what the faces have."""
        values = [*self.recipient.truth().values(), *self.sender.truth().values()]
        return "".join([*values, self.carrier, self.weight, string.ascii_letters, string.digits, " .,:/()#-"])


def shipment(rng: random.Random) -> Shipment:
    """A shipment between two addresses, most often within one country."""
    here = rng.choice(list(COUNTRIES))
    there = rng.choice(list(COUNTRIES)) if rng.random() < 0.35 else here
    return Shipment(
        carrier=rng.choice(CARRIERS),
        service=rng.choice(SERVICES),
        tracking_code=tracking_code(rng),
        weight=_weight(rng),
        recipient=party(rng, there, company=0.35),
        sender=party(rng, here, company=0.6),
        abroad=there != here or rng.random() < 0.3,
    )


def tracking_code(rng: random.Random) -> str:
    """Digits, or letters and digits; with or without a country at the end."""
    digits = "".join(rng.choices(string.digits, k=rng.choice((9, 10, 12, 14))))
    letters = "".join(rng.choices(string.ascii_uppercase, k=2))
    return rng.choice((digits, letters + digits[:9], f"{letters}{digits[:9]}{rng.choice(('DE', 'NL', 'FR', 'GB'))}"))


def _weight(rng: random.Random) -> str:
    grams = round(10 ** rng.uniform(2, 4.45))
    kind = rng.choice(("kg", "KG", "comma", "g", "lb"))
    if kind == "g" and grams < 2000:
        return f"{grams} g"
    if kind == "lb":
        return f"{grams / 453.6:.1f} lb"
    return (
        f"{grams / 1000:.2f} kg".replace(".", ",")
        if kind == "comma"
        else f"{grams / 1000:.1f} {'kg' if kind == 'g' else kind}"
    )


def draw_label(shipment: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Draws the label in one of `LAYOUTS`."""
    return rng.choice(LAYOUTS)(shipment, face, bold, rng)


def _party(
    sheet: Sheet, at: tuple[float, float], who: Party, abroad: bool, face: Face, size: int, room: float
) -> float:
    """Name, company and address as a block, the country apart in capitals' place: last."""
    lines = [who.name, *([who.company] if who.company else []), *who.lines(abroad)]
    return sheet.lines(at, lines, face, size, room)


def _classic(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Sender small, a dark band with the service, the recipient large, a barcode at the foot."""
    sheet = Sheet(480, 640)
    sheet.text((18, 14), it.carrier, bold, 30)
    sheet.text((462, 20), it.weight, face, 20, anchor="r")
    sheet.rule(56, 12, 468, 2)
    sheet.text((18, 62), rng.choice(("From:", "Sender:", "Absender:")), face, 12)
    bottom = _party(sheet, (18, 80), it.sender, it.abroad, face, 14, 440)
    sheet.box((12, bottom + 8, 468, bottom + 48), fill=BLACK)
    sheet.text((240, bottom + 14), it.service, bold, 24, anchor="m", ink=WHITE)
    sheet.text((18, bottom + 58), rng.choice(("To:", "Ship to:", "Deliver to:")), face, 14)
    _party(sheet, (34, bottom + 80), it.recipient, it.abroad, bold, 23, 428)
    sheet.barcode(it.tracking_code, (40, 500, 440, 590))
    sheet.text((240, 598), it.tracking_code, face, 22, anchor="m")
    return sheet


def _columns(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Landscape: addresses at the left, figures in a column at the right."""
    sheet = Sheet(640, 480)
    sheet.box((6, 6, 633, 473), thick=2)
    sheet.upright(430, 6, 473, 2)
    sheet.text((20, 18), rng.choice(("SENDER", "SHIPPER", "FROM")), face, 12)
    bottom = _party(sheet, (20, 36), it.sender, it.abroad, face, 15, 400)
    sheet.rule(max(bottom + 8, 150), 6, 430, 2)
    sheet.text((20, 160), rng.choice(("RECIPIENT", "CONSIGNEE", "TO")), face, 12)
    _party(sheet, (20, 182), it.recipient, it.abroad, bold, 24, 400)
    sheet.text((530, 20), it.carrier, bold, 26, anchor="m", room=190)
    for top, (caption, value) in zip((80, 150), (("Service", it.service), ("Weight", it.weight)), strict=True):
        sheet.rule(top, 430, 633)
        sheet.text((440, top + 6), caption, face, 13)
        sheet.text((440, top + 26), value, bold, 24, room=186)
    sheet.rule(220, 430, 633)
    sheet.barcode(it.tracking_code, (470, 232, 590, 440), across=False)
    sheet.text((530, 446), it.tracking_code, face, 17, anchor="m", room=190)
    return sheet


def _grid(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Boxes with heavy rules and a great letter, as in the United States."""
    sheet = Sheet(480, 640)
    sheet.box((8, 8, 471, 631), thick=3)
    sheet.box((8, 8, 118, 118), thick=3)
    sheet.text((63, 14), it.service[0], bold, 84, anchor="m")
    sheet.written.pop()  # a mark, no part of the text
    sheet.text((130, 18), it.carrier, bold, 30)
    sheet.text((130, 58), it.service, bold, 22)
    sheet.text((130, 88), f"{rng.choice(('WT', 'Weight'))}: {it.weight}", face, 18)
    sheet.rule(118, 8, 471, 3)
    bottom = _party(sheet, (18, 126), it.sender, it.abroad, face, 13, 440)
    sheet.rule(bottom + 6, 8, 471, 1)
    sheet.text((18, bottom + 14), "SHIP", bold, 15)
    sheet.text((18, bottom + 32), "TO:", bold, 15)
    bottom = _party(sheet, (78, bottom + 14), it.recipient, it.abroad, face, 22, 386)
    sheet.rule(max(bottom + 8, 420), 8, 471, 8)
    sheet.text((18, 440), rng.choice(("TRACKING #:", "TRACKING NO.")), face, 15)
    sheet.text((140, 438), it.tracking_code, bold, 20)
    sheet.barcode(it.tracking_code, (30, 475, 450, 605))
    return sheet


def _letter(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A parcel's front: the sender in the corner, a stamp, the recipient below the middle."""
    sheet = Sheet(640, 440, (250, 246, 236))
    bottom = _party(sheet, (24, 20), it.sender, it.abroad, face, 15, 300)
    sheet.rule(bottom + 4, 24, 240)
    sheet.box((480, 18, 620, 108), thick=2)
    sheet.text((550, 26), it.carrier, bold, 20, anchor="m", room=130)
    sheet.text((550, 54), it.service, face, 16, anchor="m", room=130)
    sheet.text((550, 80), it.weight, face, 16, anchor="m", room=130)
    _party(sheet, (rng.randint(230, 270), max(bottom + 24, 180)), it.recipient, it.abroad, bold, 24, 360)
    sheet.barcode(it.tracking_code, (24, 370, 330, 415))
    sheet.text((345, 382), it.tracking_code, face, 20, room=280)
    return sheet


def _table(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A form: a caption in each cell, the value below it."""
    sheet = Sheet(640, 480)
    sheet.text((20, 12), it.carrier, bold, 32)
    sheet.text((620, 22), rng.choice(("CONSIGNMENT NOTE", "WAYBILL", "Shipping label")), face, 18, anchor="r")
    sheet.box((14, 60, 626, 400), thick=1)
    sheet.upright(320, 60, 270)
    for left, caption, who, type_face in ((22, "1 From", it.sender, face), (328, "2 To", it.recipient, bold)):
        sheet.text((left, 66), caption, face, 13)
        _party(sheet, (left, 88), who, it.abroad, type_face, 20, 286)
    sheet.rule(270, 14, 626)
    cells = (("3 Service", it.service, 22), ("4 Weight", it.weight, 240), ("5 Number", it.tracking_code, 390))
    for (caption, value, left), room in zip(cells, (205, 140, 230), strict=True):
        sheet.text((left, 276), caption, face, 13)
        sheet.text((left, 298), value, bold, 22, room=room)
        if left > 22:
            sheet.upright(left - 8, 270, 335)
    sheet.rule(335, 14, 626)
    sheet.barcode(it.tracking_code, (120, 345, 520, 392))
    sheet.text((22, 415), f"Date {rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.20{rng.randint(18, 29)}", face, 15)
    sheet.text((330, 415), "Signature ________________", face, 15)
    return sheet


def _thermal(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Small, from a hand-held printer: everything centred, in one column."""
    sheet = Sheet(440, 640)
    top = sheet.text((220, 16), it.carrier, bold, 32, anchor="m") + 4
    top = sheet.text((220, top), f"*** {it.service} ***", face, 20, anchor="m") + 10
    sheet.written[-1] = (it.service, sheet.written[-1][1])
    sheet.barcode(it.tracking_code, (40, int(top), 400, int(top) + 80))
    top = sheet.text((220, top + 84), it.tracking_code, face, 22, anchor="m") + 10
    for caption, who in (("TO", it.recipient), ("FROM", it.sender)):
        sheet.rule(top, 14, 426)
        top = sheet.text((220, top + 6), caption, face, 14, anchor="m")
        for line in (who.name, who.company, *who.lines(it.abroad)):
            if line:
                top = sheet.text((220, top), line, bold if caption == "TO" else face, 20, anchor="m")
        top += 6
    sheet.rule(top, 14, 426)
    sheet.text((220, top + 8), it.weight, face, 20, anchor="m")
    return sheet


def _sidebar(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A dark bar down the left side, the barcode on end at the right."""
    sheet = Sheet(640, 420)
    sheet.box((0, 0, 150, 420), fill=rng.choice(((30, 60, 120), (150, 30, 30), (20, 90, 60), (40, 40, 40))))
    sheet.text((75, 24), it.carrier, bold, 24, anchor="m", room=138, ink=WHITE)
    sheet.text((75, 180), it.service, bold, 20, anchor="m", room=138, ink=WHITE)
    sheet.text((75, 380), it.weight, face, 20, anchor="m", room=138, ink=WHITE)
    sheet.text((168, 18), rng.choice(("Destinataire / To", "Empfänger / To", "To")), face, 13)
    bottom = _party(sheet, (168, 38), it.recipient, it.abroad, bold, 23, 360)
    sheet.rule(max(bottom + 10, 200), 160, 530)
    sheet.text((168, 212), rng.choice(("Expéditeur / From", "Absender / From", "From")), face, 13)
    _party(sheet, (168, 232), it.sender, it.abroad, face, 16, 360)
    sheet.text((168, 388), it.tracking_code, face, 20, room=360)
    sheet.barcode(it.tracking_code, (545, 20, 625, 400), across=False)
    return sheet


def _route(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """A depot's label: a route code in large type, the recipient between heavy rules."""
    sheet = Sheet(480, 640)
    route = f"{rng.choice(string.ascii_uppercase)}{rng.randint(10, 99)}-{rng.randint(100, 999)}"
    sheet.box((0, 0, 480, 100), fill=GREY)
    sheet.text((16, 8), route, bold, 60, room=290)
    sheet.written.pop()
    sheet.text((464, 12), it.carrier, face, 24, anchor="r", room=150)
    sheet.text((464, 48), it.weight, face, 22, anchor="r", room=150)
    sheet.rule(104, 0, 480, 4)
    bottom = _party(sheet, (20, 118), it.recipient, it.abroad, bold, 26, 440)
    sheet.rule(max(bottom + 8, 300), 0, 480, 4)
    sheet.text((240, 312), it.service, bold, 26, anchor="m")
    sheet.barcode(it.tracking_code, (30, 355, 450, 470))
    sheet.text((240, 476), it.tracking_code, face, 22, anchor="m")
    sheet.rule(512, 0, 480)
    _party(sheet, (20, 520), it.sender, it.abroad, face, 13, 440)
    return sheet


def _split(it: Shipment, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Landscape, the barcode across the top, addresses side by side below."""
    sheet = Sheet(640, 460)
    sheet.barcode(it.tracking_code, (120, 14, 520, 110))
    sheet.text((320, 114), it.tracking_code, face, 22, anchor="m")
    sheet.box((14, 150, 626, 192), fill=GREY)
    sheet.text((24, 156), it.carrier, bold, 24, room=200)
    sheet.text((320, 158), it.service, bold, 22, anchor="m", room=230)
    sheet.text((616, 158), it.weight, bold, 22, anchor="r", room=150)
    sheet.text((24, 204), rng.choice(("Deliver to", "Livrer à", "An")), face, 14)
    _party(sheet, (24, 226), it.recipient, it.abroad, bold, 22, 330)
    sheet.upright(372, 200, 440)
    sheet.text((386, 204), rng.choice(("Return to", "Retour à", "Von")), face, 14)
    _party(sheet, (386, 226), it.sender, it.abroad, face, 16, 236)
    return sheet


LAYOUTS: list[Callable[[Shipment, Face, Face, random.Random], Sheet]] = [
    _classic,
    _columns,
    _grid,
    _letter,
    _table,
    _thermal,
    _sidebar,
    _route,
    _split,
]
"""One for each manner of label."""
