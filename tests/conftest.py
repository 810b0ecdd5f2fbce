"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_extra_processes() -> Iterator[None]:
    """Peak memory is measured in a process of its own, which takes seconds to import torch: its own tests do that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("docstill.measure.measure_peak_memory", lambda model, task: 1.0)
        yield
