"""How rightly sure kie models are: the report's table of what can be accepted unseen, and a reliability plot a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docstill.reporting import plots
from docstill.reporting.alike import over_seeds
from docstill.reporting.rows import Row, or_nan


def confidence_view(rows: Sequence[Row], looks: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the template shows of each row that has confidences: figures as text, over seeds, and the first seed's plot."""
    views = []
    for row in rows:
        found = row.get("confidence") or []
        if not found:
            continue
        fields, documents = ([one[kind] for one in found] for kind in ("fields", "documents"))
        rates = list(documents[0].get("accepted") or [])
        figures = [over_seeds([one.get(name) for one in fields]) for name in ("ece", "ece_floor", "auroc_failure")]
        views.append(
            {
                "name": row["name"],
                "figures": figures,
                "rates": [f"{100 * float(rate):g} %" for rate in rates],
                "accepted": [
                    [over_seeds([_share(one, rate) for one in kind], 100, 1) for rate in rates]
                    for kind in (fields, documents)
                ],
                "plot": reliability_plot(
                    fields[0].get("reliability") or [], row["name"], looks.get(row["name"], "control")
                ),
            }
        )
    return views


def reliability_plot(groups: Sequence[Sequence[Any]], name: str, look: str) -> str:
    """The share of right values against their mean confidence, a mark for each group; on the diagonal all is as it should be.

    Args:
        groups: ``[mean confidence, share that is right, how many]``, least sure first.
        name: of the model.
        look: its CSS class.
    """
    points = [(or_nan(group[0]), or_nan(group[1])) for group in groups]
    if not points:
        return ""
    lines = [plots.Line("rightly sure", "control second", [(0.0, 0.0), (1.0, 1.0)]), plots.Line(name, look, points)]
    return plots.curves(lines, "confidence", "right, %", percent=True, ys=(0.0, 1.0), width=300, height=245)


def _share(kind: Mapping[str, Any], rate: str) -> Any:
    return ((kind.get("accepted") or {}).get(rate) or {}).get("share")
