"""What the rows of a run's results hold, read with care: missing, NaN and infinite values are all "not known"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SAME = 1.05
"""Two latencies or sizes within this factor count as the same."""
NAMES = {
    "field_f1": "field F1",
    "ted_accuracy": "TED accuracy",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "aurc": "AURC",
    "augrc": "AUGRC",
    "ap": "average precision (AP)",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP of small regions",
    "ap_medium": "AP of medium regions",
    "ap_large": "AP of large regions",
    "ar": "average recall",
    "ap_300": "AP, up to 300 boxes",
}

Row = Mapping[str, Any]


def first_of(rows: Sequence[Row], role: str) -> Row | None:
    """The first row with that role."""
    return next((row for row in rows if row["role"] == role), None)


def real(value: Any) -> float | None:
    """A number that can be shown, or None: missing, NaN and infinite values are all "not known"."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def or_nan(value: Any) -> float:
    """As `real`, NaN for what is not known: plots leave a gap there."""
    return math.nan if (number := real(value)) is None else number


def mean_of(row: Row, metric: str) -> float | None:
    """A metric's mean over seeds."""
    return real((row["metrics"].get(metric) or {}).get("mean"))


def std_of(row: Row, metric: str) -> float | None:
    """The spread over seeds; one seed has none."""
    return real((row["metrics"].get(metric) or {}).get("std")) if len(row["seeds"]) > 1 else None


def spread_of(one: Row, other: Row, metric: str) -> float | None:
    """What a difference of means must exceed: the larger of the known spreads."""
    return max((std for row in (one, other) if (std := std_of(row, metric)) is not None), default=None)


def latency_of(row: Row) -> Mapping[str, Any]:
    """The latencies of a row; empty if it was not timed."""
    return row.get("latency_ms") or {}


def page_p50(row: Row) -> float | None:
    """Median milliseconds a page."""
    times = latency_of(row)
    return real(times.get("document", times).get("p50"))


def page_flops(row: Row) -> float | None:
    """Operations of a page; for kie of its encoder, as the length of an answer is not known beforehand."""
    value = row.get("flops")
    return real(value.get("encoder") if isinstance(value, Mapping) else value)


def token_flops(row: Row) -> float | None:
    """Operations of a token; None where answers have no tokens."""
    value = row.get("flops")
    return real(value.get("per_token")) if isinstance(value, Mapping) else None


def ratio(above: float | None, below: float | None) -> float | None:
    """``above / below``, None where one is missing or zero."""
    return above / below if above and below else None


def times(ratio: float) -> str:
    """A factor as text: ``2.3 ×``."""
    return f"{ratio:.1f} ×" if ratio < 99.95 else f"{ratio:,.0f} ×"


def than(ratio: float | None, better: str, worse: str) -> str:
    """A comparison as text: ``2.3 × faster``, ``no faster``."""
    if ratio is None:
        return ""
    if 1 / SAME <= ratio <= SAME:
        return f"no {better}"
    return f"{times(ratio)} {better}" if ratio > 1 else f"{times(1 / ratio)} {worse}"


def title_of(metric: str) -> str:
    """A metric's name for people."""
    return NAMES.get(metric, metric.replace("_", " "))
