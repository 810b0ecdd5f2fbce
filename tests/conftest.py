"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# The same examples each time, so that a failure belongs to the change at hand; new ones: --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # tests run side by side: a core for each


@pytest.fixture(scope="session", autouse=True)
def no_extra_processes() -> Iterator[None]:
    """Peak memory is measured in a process of its own, which takes seconds to import torch: its own tests do that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("docstill.measure.measure_peak_memory", lambda model, task: 1.0)
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_onednn() -> Iterator[None]:
    """Going back through the narrow convolutions of tiny networks, torch 2.14 with oneDNN may corrupt memory, on some processors on one thread even."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield
