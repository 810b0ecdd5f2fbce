"""Temperature scaling as the end of a run: the teacher before it teaches, students and controls after they have learnt.

T is fitted to the validation split, whose pages no stage learns from, and folded into the last layer. The figures after
scaling are cross-fitted (each half of the pages scaled by the other half's T), so that no page is judged by a T that saw it.
"""

from __future__ import annotations

from typing import Any

from docstill.errors import UserError
from docstill.metrics.classification import Floats, Ints, classification_metrics
from docstill.metrics.temperature import cross_fitted, fit_temperature
from docstill.tasks.base import Pages

SHOWN = ("ece", "ece_equal_mass", "ece_floor", "nll", "brier")
"""The figures that a temperature changes."""


LEAST_PAGES = 10
"""Each half of the pages gets a temperature of its own, which next to no pages cannot tell."""


def check_enough(pages: Pages) -> None:
    """Refuses to calibrate on next to no pages.

    Raises:
        UserError: there are fewer than `LEAST_PAGES`.
    """
    if len(pages.documents) < LEAST_PAGES:
        raise UserError(
            f"{pages.folder} holds {len(pages.documents)} pages, too few to fit a temperature to; give {LEAST_PAGES} or more, or "
            "leave calibrate out"
        )


def temperature_of(pages: Pages, probabilities: Floats, labels: Ints) -> dict[str, Any]:
    """The temperature for a classifier, and what it does.

    Args:
        pages: that it was scored on.
        probabilities: ``(n, C)``, what it answered.
        labels: ``(n,)``, the right classes.

    Returns:
        ``temperature``, and ``before`` and ``after``: calibration error, its floor, likelihood, Brier score.

    Raises:
        UserError: there are too few pages.
    """
    check_enough(pages)
    before, after = (
        classification_metrics(rows, labels) for rows in (probabilities, cross_fitted(probabilities, labels))
    )
    return {
        "temperature": fit_temperature(probabilities, labels),
        "before": {name: before[name] for name in SHOWN},
        "after": {name: after[name] for name in SHOWN},
    }
