"""Receipts: nested ground truth with CORD's keys, or the four flat fields of SROIE."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from typing import Any, Literal

from docstill.synthesis.fonts import Face
from docstill.synthesis.parties import Party, company, party
from docstill.synthesis.sheet import BLACK, WHITE, Sheet

Form = Literal["nested", "flat"]

_GOODS = {
    "en": (
        "Apple juice|Batteries AA|Brown bread|Butter 250g|Candles|Cheddar|Chicken wrap|Chocolate bar|Coffee beans|Cola 0.5L|"
        "Croissant|Dish soap|Eggs 10 pcs|Espresso|Flat white|Garden gloves|Green tea|Hand cream|Iced latte|Kitchen towel|"
        "LED bulb 9W|Lemonade|Light cream|Mixed nuts|Mushroom soup|Notebook A5|Olive oil|Orange|Paint brush|Pancakes|"
        "Paper bag|Pasta 500g|Pen blue|Pepper mill|Pizza slice|Potatoes 2kg|Printer paper|Rice 1kg|Salad bowl|Salmon|"
        "Screws M4|Shampoo|Sparkling water|Sponge|Strawberries|Sugar|Tape 50m|Tea pot|Toothpaste|Tomatoes|Umbrella|Yoghurt"
    ).split("|"),
    "de": (
        "Apfelschorle|Bio Milch 1L|Blumenerde|Brezel|Brötchen|Butter|Currywurst|Eier 10er|Espresso|Gurken|Hafermilch|"
        "Honig|Joghurt natur|Kaffee Crema|Kartoffeln 2kg|Käsekuchen|Küchenrolle|Leberkäse|Mineralwasser|Müllbeutel|"
        "Nudeln 500g|Orangensaft|Pfand|Quark|Radieschen|Schnitzel|Schrauben|Seife|Spülmittel|Tee|Tomaten|Zahnbürste"
    ).split("|"),
    "fr": (
        "Baguette|Beurre doux|Café crème|Carottes|Citron|Confiture|Crème fraîche|Croque-monsieur|Eau gazeuse|Éponge|"
        "Farine|Fromage blanc|Gâteau|Huile d'olive|Jambon|Lait entier|Lessive|Menu du jour|Miel|Œufs x6|Pain complet|"
        "Pâtes 500g|Pommes|Quiche|Riz 1kg|Salade|Savon|Sucre|Tarte|Thé vert|Tomates|Yaourt"
    ).split("|"),
}
_LOCALES = {"en": ("en_GB", "en_US"), "de": ("de_DE", "de_AT"), "fr": ("fr_FR",)}
_WORDS = {
    "en": {"subtotal": "SUBTOTAL", "tax": "TAX", "total": "TOTAL", "cash": "CASH", "change": "CHANGE", "item": "Item",
           "count": "Qty", "price": "Amount", "date": "Date", "bill": "Receipt", "thanks": "Thank you for your visit!",
           "phone": "Tel", "tax number": "VAT Reg No", "register": "Reg No", "clerk": "Cashier"},
    "de": {"subtotal": "Zwischensumme", "tax": "MwSt", "total": "SUMME", "cash": "Bar", "change": "Rückgeld",
           "item": "Artikel", "count": "Menge", "price": "EUR", "date": "Datum", "bill": "Bon",
           "thanks": "Vielen Dank für Ihren Einkauf",
           "phone": "Tel.", "tax number": "USt-IdNr.", "register": "HRB", "clerk": "Es bediente Sie"},
    "fr": {"subtotal": "SOUS-TOTAL", "tax": "TVA", "total": "TOTAL TTC", "cash": "ESPECES", "change": "RENDU",
           "item": "Article", "count": "Qté", "price": "Prix", "date": "Date", "bill": "Ticket",
           "thanks": "Merci de votre visite",
           "phone": "Tél.", "tax number": "N° TVA", "register": "SIRET", "clerk": "Caissier"},
}  # fmt: skip
_TITLES = {
    "en": ("TAX INVOICE", "Cash sale", "Sales receipt", "INVOICE"),
    "de": ("Rechnung", "Kassenbon", "QUITTUNG", "Barverkauf"),
    "fr": ("FACTURE", "Ticket de caisse", "REÇU", "Vente au comptant"),
}


@dataclass(frozen=True)
class Receipt:
    """What a receipt says; all amounts as they are written.

    Attributes:
        above: lines between store and address, which nothing asks for: the number that it is registered under.
        below: the same after the address: telephone, tax number.
        title: what the paper calls itself, or nothing.
        clerk: who served, or nothing.
        capitals: whether the till has no small letters.
    """

    language: str
    store: str
    address: list[str]
    date: str
    time: str
    menu: list[tuple[str, int, str]]
    subtotal: str
    tax_rate: str
    tax: str
    total: str
    cash: str
    change: str
    above: list[str]
    below: list[str]
    title: str
    clerk: str
    capitals: bool

    def words(self) -> dict[str, str]:
        """What the till prints of its own accord."""
        return {key: word.upper() if self.capitals else word for key, word in _WORDS[self.language].items()}

    def truth(self, form: Form) -> dict[str, Any]:
        """The ground truth: CORD's nesting and keys, or SROIE's four fields."""
        if form == "flat":
            return {"company": self.store, "date": self.date, "address": ", ".join(self.address), "total": self.total}
        menu = [{"nm": name, "cnt": str(count), "price": price} for name, count, price in self.menu]
        return {
            "store": self.store,
            "address": ", ".join(self.address),
            "date": self.date,
            "menu": menu if len(menu) > 1 else menu[0],  # as in CORD: tokens cannot tell a list of one from its item
            "sub_total": {"subtotal_price": self.subtotal, "tax_price": self.tax},
            "total": {"total_price": self.total, "cashprice": self.cash, "changeprice": self.change},
        }

    def characters(self) -> str:
        """Everything that a face must be able to write."""
        names = [name for name, _, _ in self.menu]
        words = [*self.words().values(), *names, self.store, *self.address, *self.above, *self.below]
        words += [self.title, self.clerk]
        return "".join([*words, self.total, string.ascii_letters, string.digits, " .,:%/()*#=-"])


def receipt(rng: random.Random) -> Receipt:
    """A receipt whose sums are right."""
    language = rng.choice(list(_GOODS))
    where = party(rng, rng.choice(_LOCALES[language]), company=0)
    menu, cents = [], 0
    comma = language in ("de", "fr")
    sign = rng.choice(("", "", "$" if language == "en" else ""))

    def money(amount: int) -> str:
        text = f"{amount // 100}.{amount % 100:02d}"
        return sign + (text.replace(".", ",") if comma else text)

    for name in rng.sample(_GOODS[language], min(len(_GOODS[language]), 1 + min(rng.randint(0, 9), rng.randint(0, 9)))):
        count = 1 if rng.random() < 0.7 else rng.randint(2, 6)
        price = count * round(10 ** rng.uniform(1.7, 3.6))
        menu.append((name, count, money(price)))
        cents += price
    rate = rng.choice({"en": (5, 8, 20), "de": (7, 19), "fr": (5, 10, 20)}[language])
    tax = round(cents * rate / 100)
    total = cents + tax
    paid = -(-total // 1000) * 1000 if rng.random() < 0.7 else total
    store = rng.choice((str.upper, str))(company(rng, rng.choice(_LOCALES[language])))
    fuss = _fuss(rng, language, where)
    capitals = rng.random() < 0.35

    def printed(text: str) -> str:
        return text.upper() if capitals else text

    return Receipt(
        language=language,
        store=printed(store),
        address=[printed(line) for line in where.lines(country=False)],
        date=_date(rng, language),
        time=f"{rng.randint(7, 21):02d}:{rng.randint(0, 59):02d}",
        menu=[(printed(name), count, price) for name, count, price in menu],
        subtotal=money(cents),
        tax_rate=f"{rate}%",
        tax=money(tax),
        total=money(total),
        cash=money(paid),
        change=money(paid - total),
        above=[printed(line) for line in fuss["above"]],
        below=[printed(line) for line in fuss["below"]],
        title=printed(fuss["title"]),
        clerk=printed(fuss["clerk"]),
        capitals=capitals,
    )


def _fuss(rng: random.Random, language: str, who: Party) -> dict[str, Any]:
    """What else stands on a receipt, much of it numbers and capitals that could be taken for something else."""
    words = _WORDS[language]

    def digits(count: int) -> str:
        return "".join(rng.choice(string.digits) for _ in range(count))

    phone = f"{words['phone']}: 0{digits(rng.randint(1, 3))}{rng.choice('- /')}{digits(rng.randint(6, 8))}"
    tax = f"{words['tax number']}{rng.choice((': ', ' '))}{digits(rng.randint(8, 12))}"
    registered = rng.choice((f"{words['register']} {digits(6)}", f"({digits(6)}-{rng.choice(string.ascii_uppercase)})"))
    return {
        "above": [registered] if rng.random() < 0.3 else [],
        "below": [line for line, share in ((phone, 0.6), (tax, 0.5)) if rng.random() < share],
        "title": rng.choice(_TITLES[language]) if rng.random() < 0.5 else "",
        "clerk": rng.choice((who.name, who.name.split()[0], digits(3))) if rng.random() < 0.5 else "",
    }


def _date(rng: random.Random, language: str) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2012, 2029)
    forms = {
        "en": (
            f"{day:02d}/{month:02d}/{year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{month:02d}/{day:02d}/{year % 100:02d}",
        ),
        "de": (f"{day:02d}.{month:02d}.{year}", f"{day:02d}.{month:02d}.{year % 100:02d}"),
        "fr": (f"{day:02d}/{month:02d}/{year}", f"{day:02d}-{month:02d}-{year}"),
    }
    return rng.choice(forms[language])


@dataclass(frozen=True)
class Layout:
    """A manner of receipt.

    Attributes:
        width: of the paper, in pixels.
        size: of the type.
        pitch: 0, or the cell of each character as a share of the size, as a till prints.
        middle: whether the head is centred.
        rule: what stands between the parts: a character, ``line``, or nothing.
        items: ``row`` (2 x name, price), ``two`` (name, and figures below it), ``columns`` (under headings), ``after``
            (name, count, price).
        total: ``large``, ``box``, ``dark``, or plain.
        date: ``head`` or ``foot``.
    """

    width: int
    size: int
    pitch: float
    middle: bool
    rule: str
    items: str
    total: str
    date: str


LAYOUTS = (
    Layout(400, 20, 0.0, True, "-", "row", "large", "head"),
    Layout(420, 18, 0.62, True, "-", "row", "plain", "head"),
    Layout(440, 20, 0.0, False, "line", "columns", "box", "head"),
    Layout(400, 17, 0.62, True, "=", "two", "large", "foot"),
    Layout(460, 21, 0.0, True, "", "after", "dark", "foot"),
    Layout(380, 18, 0.0, False, ".", "two", "plain", "head"),
    Layout(480, 22, 0.0, True, "*", "columns", "large", "foot"),
    Layout(420, 18, 0.62, False, "line", "after", "box", "head"),
    Layout(360, 17, 0.0, True, "line", "row", "dark", "head"),
    Layout(440, 18, 0.63, True, "*", "columns", "plain", "foot"),
)
"""Ten manners; the paper is as long as what is on it."""


def draw_receipt(it: Receipt, face: Face, bold: Face, rng: random.Random) -> Sheet:
    """Draws the receipt in one of `LAYOUTS`."""
    layout = rng.choice(LAYOUTS)
    return _Till(it, layout, face, bold, rng).print()


class _Till:
    """Prints one receipt from top to bottom."""

    def __init__(self, it: Receipt, layout: Layout, face: Face, bold: Face, rng: random.Random) -> None:
        self.it, self.layout, self.face, self.bold, self.rng = it, layout, face, bold, rng
        self.words = it.words()
        self.sheet = Sheet(layout.width, 1400)
        self.left, self.right = 18.0, layout.width - 18.0
        self.top = 16.0

    def print(self) -> Sheet:
        """All parts; the paper is cut below the last."""
        self._head()
        self._rule()
        if self.layout.items == "columns":
            self._row(self.words["item"], self.words["price"], count=self.words["count"])
        for name, count, price in self.it.menu:
            self._item(name, count, price)
        self._rule()
        self._row(self.words["subtotal"], self.it.subtotal)
        self._row(f"{self.words['tax']} {self.it.tax_rate}", self.it.tax)
        self._total()
        self._row(self.words["cash"], self.it.cash)
        self._row(self.words["change"], self.it.change)
        self._rule()
        self._foot()
        self.sheet.image = self.sheet.image.crop((0, 0, self.sheet.width, int(self.top) + 16))
        return self.sheet

    def _head(self) -> None:
        large = round(self.layout.size * 1.4)
        self._line(self.it.store, self.bold, large, self.layout.middle)
        for line in (*self.it.above, *self.it.address, *self.it.below):
            self._line(line, self.face, self.layout.size, self.layout.middle)
        if self.it.title:
            self.top += 6
            self._line(self.it.title, self.bold, round(self.layout.size * 1.2), self.layout.middle)
        if self.layout.date == "head":
            self._dated()

    def _dated(self) -> None:
        self.top += 4
        self._row(f"{self.words['date']}: {self.it.date}", self.it.time)
        if self.it.clerk:
            self._line(f"{self.words['clerk']}: {self.it.clerk}", self.face, self.layout.size, False)

    def _foot(self) -> None:
        if self.layout.date == "foot":
            self._dated()
        number = f"{self.words['bill']} #{self.rng.randint(1000, 999999)}"
        self._line(number, self.face, self.layout.size, self.layout.middle)
        self._line(self.words["thanks"], self.face, self.layout.size, True)
        if self.rng.random() < 0.4:
            self.sheet.barcode(str(self.rng.randint(10**9, 10**10)), (60, self.top + 6, self.right - 42, self.top + 50))
            self.top += 56

    def _item(self, name: str, count: int, price: str) -> None:
        if self.layout.items == "row":
            self._row(f"{count} x {name}", price)
        elif self.layout.items == "two":
            self._line(name, self.face, self.layout.size, False)
            self._row(f"   x {count}", price)
        elif self.layout.items == "columns":
            self._row(name, price, count=str(count))
        else:
            self._row(f"{name}  ({count})", price)

    def _total(self) -> None:
        style, size = self.layout.total, self.layout.size
        if style == "plain":
            self._row(self.words["total"], self.it.total, face=self.bold)
            return
        size = round(size * 1.5)
        self.top += 6
        ink = BLACK
        if style in ("box", "dark"):
            box = (self.left - 8, self.top - 4, self.right + 8, self.top + size * 1.3)
            self.sheet.box(box, fill=BLACK if style == "dark" else None, thick=2)
            ink = WHITE if style == "dark" else BLACK
        middle = (self.left + self.right) / 2
        self.sheet.text(
            (self.left, self.top), self.words["total"], self.bold, size, room=middle - self.left - 8, ink=ink
        )
        self.sheet.text(
            (self.right, self.top), self.it.total, self.bold, size, anchor="r", room=self.right - middle, ink=ink
        )
        self.top += size * 1.5

    def _line(self, text: str, face: Face, size: int, middle: bool) -> None:
        room = self.right - self.left
        at = ((self.left + self.right) / 2 if middle else self.left, self.top)
        self.sheet.text(at, text, face, size, room=room, anchor="m" if middle else "l", pitch=self.layout.pitch)
        self.top += size * 1.3

    def _row(self, text: str, amount: str, count: str = "", face: Face | None = None) -> None:
        size, pitch, chosen = self.layout.size, self.layout.pitch, face or self.face
        width = self.right - self.left
        space = self.sheet.length(amount, chosen, size, pitch)
        room = width - space - 12
        if count:
            where = self.left + 0.68 * width
            self.sheet.text((where, self.top), count, chosen, size, anchor="r", room=60, pitch=pitch)
            room = 0.68 * width - max(40.0, self.sheet.length(count, chosen, size, pitch) + 10)
        self.sheet.text((self.left, self.top), text, chosen, size, room=room, pitch=pitch)
        self.sheet.text((self.right, self.top), amount, chosen, size, anchor="r", pitch=pitch)
        self.top += size * 1.3

    def _rule(self) -> None:
        self.top += 4
        if self.layout.rule == "line":
            self.sheet.rule(self.top + 4, self.left, self.right)
        elif self.layout.rule:
            size = self.layout.size
            step = self.sheet.length(self.layout.rule, self.face, size, self.layout.pitch)
            line = self.layout.rule * int((self.right - self.left) / step)
            self.sheet.text((self.left, self.top - 4), line, self.face, size, pitch=self.layout.pitch)
            self.top += size * 0.6
        self.top += 8
