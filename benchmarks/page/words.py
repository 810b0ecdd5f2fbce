"""Figures, machines and files as the page writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def spread(figure: dict[str, Any]) -> str:
    text = f"{100 * figure['mean']:.1f}"
    return (text if figure["std"] is None else f"{text} ± {100 * figure['std']:.1f}").replace("-", "−")


def signed(difference: dict[str, Any]) -> str:
    text = spread(difference)
    return text if text.startswith("−") else f"+{text}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def figure(summary: dict[str, Any], scale: float) -> str:
    digits = 1 if scale == 100 else 3
    spread = "" if summary["std"] is None else f" ± {summary['std'] * scale:.{digits}f}"
    return f"{summary['mean'] * scale:.{digits}f}{spread}"


def scaled(calibration: dict[str, Any]) -> str:
    after = calibration["after"]["ece"]
    return figure(after, 1) if isinstance(after, dict) else f"{after:.3f}"


def canvas(model: dict[str, Any]) -> str:
    return " × ".join(map(str, model["canvas"])) + " px"


def machine(hardware: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {hardware[name]}" for name in ("torch", "transformers", "docstill"))
    return f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['gpu'] or 'no GPU'}; {versions}"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
