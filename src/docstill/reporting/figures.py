"""Figures as text, for the template's filters; what is not known is a dash."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from docstill.reporting.rows import real


def number(value: Any, digits: int = 3) -> str:
    """A number with that many digits, or a dash."""
    return "–" if (number := real(value)) is None else f"{number:,.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """Three digits and a unit: 745, 311 k, 2.80 M, 1.23 G."""
    number = real(value)
    if number is None:
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            scaled = number / size
            return f"{scaled:.{max(0, 2 - math.floor(math.log10(scaled) + 1e-3))}f} {unit}"
    return f"{number:.0f}"


def size(value: Any) -> str:
    """Bytes with a unit."""
    text = count(value)
    return text if text == "–" else f"{text}B" if text[-1].isalpha() else f"{text} B"


def duration(seconds: Any) -> str:
    """Seconds as people say them."""
    number = real(seconds)
    if number is None:
        return "–"
    if number < 90:
        return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
    minutes = round(number / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def date(text: str) -> str:
    """A date and time as people write them."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y, %H:%M %Z}".strip()
