"""Graphs of regions drawn over their pages, on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docstill.files import write_text
from docstill.reporting.boxes import TALL, WIDE
from docstill.reporting.documents import picture
from docstill.reporting.markup import escape
from docstill.reporting.templates import templates

SCALE = 1.7
"""Drawn larger than the pages of a report: lines need room."""
DOT, LOOP = 5.0, 11.0
"""Radii of a node, and of its edge to itself."""


def write_graphs(pages: Sequence[Mapping[str, Any]], path: Path, title: str) -> Path:
    """Writes the page atomically.

    Args:
        pages: from `docstill.explaining.graphs_of`.
        path: an HTML file.
        title: what stands at its top.
    """
    environment = templates()
    views = [{"file": page["file"], "text": in_words(page), "drawing": draw_graph(page)} for page in pages]
    write_text(path, environment.get_template("graphs.html.j2").render(title=title, pages=views))
    return path


def in_words(page: Mapping[str, Any]) -> str:
    """How many regions, nodes and edges there are."""
    texts = sum(node["text"] for node in page["nodes"])
    hidden = sum(region["node"] is None for region in page["regions"])
    loops = sum(first == second for first, second in page["edges"])
    parts = [
        f"{len(page['regions'])} regions",
        f"{texts} nodes of text ({loops} of them merged)",
        f"{len(page['nodes']) - texts} other nodes",
        f"{len(page['edges']) - loops} edges",
    ]
    return ", ".join(parts) + (f"; {hidden} regions lie under others and do not count" if hidden else "")


def draw_graph(page: Mapping[str, Any]) -> str:
    """One page with its graph, as inline SVG: text are discs, the rest squares; an edge's line says what it joins."""
    width, height = page["size"]
    scale = SCALE * min(WIDE / max(width, 1), TALL / max(height, 1))
    across, down = max(round(width * scale), 1), max(round(height * scale), 1)
    shown = picture(page["image"])
    parts = [f'<rect width="{across}" height="{down}" fill="#fff"/>']
    if shown is not None:
        parts.append(
            f'<image width="{across}" height="{down}" preserveAspectRatio="none" opacity=".45" href="{shown}"/>'
        )
    nodes = page["nodes"]
    for region in page["regions"]:
        node = region["node"]
        kind = "hidden" if node is None else "words" if nodes[node]["text"] else "other"
        left, top, wide, high = (number * scale for number in region["box"])
        parts.append(
            f'<rect class="member {kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}">'
            f"<title>{escape(region['label'])}</title></rect>"
        )
    centres = [_centre(node["box"], scale) for node in nodes]
    loops = {first for first, second in page["edges"] if first == second}
    parts += [_around(nodes[node]["box"], scale) for node in sorted(loops)]
    for first, second in page["edges"]:
        if first != second:
            kinds = {nodes[first]["text"], nodes[second]["text"]}
            kind = "mixed" if len(kinds) == 2 else "words" if kinds == {True} else "other"
            (x1, y1), (x2, y2) = centres[first], centres[second]
            parts.append(f'<path class="join {kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')
    for number, (node, (x, y)) in enumerate(zip(nodes, centres, strict=True)):
        members = sum(region["node"] == number for region in page["regions"])
        parts.append(_node(node["text"], number in loops, x, y, members))
    label = escape(f"The graph of {page['file']}: {in_words(page)}")
    view = f'viewBox="0 0 {across} {down}" width="{across}" height="{down}"'
    return f'<svg class="graph" {view} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _node(text: bool, merged: bool, x: float, y: float, members: int) -> str:
    tip = f"<title>{'text' if text else 'no text'}, {members} region{'s' if members > 1 else ''}</title>"
    loop = f'<circle class="loop" cx="{x + LOOP:.1f}" cy="{y - LOOP:.1f}" r="{LOOP}"/>' if merged else ""
    if text:
        return f'{loop}<circle class="node words" cx="{x:.1f}" cy="{y:.1f}" r="{DOT}">{tip}</circle>'
    return f'{loop}<rect class="node other" x="{x - DOT:.1f}" y="{y - DOT:.1f}" width="{2 * DOT}" height="{2 * DOT}">{tip}</rect>'


def _around(box: Sequence[float], scale: float) -> str:
    left, top, wide, high = (number * scale for number in box)
    return f'<rect class="merged" x="{left - 3:.1f}" y="{top - 3:.1f}" width="{wide + 6:.1f}" height="{high + 6:.1f}" rx="4"/>'


def _centre(box: Sequence[float], scale: float) -> tuple[float, float]:
    left, top, wide, high = box
    x, y = (left + wide / 2) * scale, (top + high / 2) * scale
    return (x if math.isfinite(x) else 0.0, y if math.isfinite(y) else 0.0)
