"""The race: who runs when, how times become figures, what is put back afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from docstill.deploy.benchmark import WARM_UP, Contender, measure_peak_memory, resident_mb, time_interleaved
from docstill.errors import DocstillError
from docstill.models.io import DocumentModel


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(clock: Clock, seconds: list[float], log: list[str], name: str, units: int = 1) -> Callable[[], int]:
    """Takes ``seconds[i]`` the i-th time after warm-up (the last for ever); 100 s while warming up."""
    calls = 0

    def work() -> int:
        nonlocal calls
        turn, calls = calls - WARM_UP, calls + 1
        clock.now += 100.0 if turn < 0 else seconds[min(turn, len(seconds) - 1)]
        log.append(name)
        return units

    return work


def test_all_take_turns_and_the_order_rotates() -> None:
    clock, log = Clock(), []
    contenders = [Contender(name, {"document": worker(clock, [1.0], log, name)}) for name in "abc"]
    time_interleaved(contenders, rounds=4, clock=clock)
    timed = "".join(log[WARM_UP * 3 :])
    assert timed == "abc" + "bca" + "cab" + "abc"
    assert sorted(log[: WARM_UP * 3]) == sorted("abc" * WARM_UP)


def test_parts_of_a_contender_run_in_their_order() -> None:
    clock, log = Clock(), []
    parts = {part: worker(clock, [1.0], log, part) for part in ("encoder", "per_token", "document")}
    found = time_interleaved([Contender("model", parts)], rounds=1, clock=clock)
    assert log[-3:] == ["encoder", "per_token", "document"]
    assert list(found["model"]) == ["encoder", "per_token", "document"]


def test_figures_are_milliseconds_a_unit_without_the_warm_up() -> None:
    clock, log = Clock(), []
    seconds = [0.001 * value for value in (5, 1, 4, 2, 3)]
    pages = Contender("pages", {"document": worker(clock, seconds, log, "p")})
    tokens = Contender("tokens", {"per_token": worker(clock, seconds, log, "t", units=10)})
    found = time_interleaved([pages, tokens], rounds=5, clock=clock)
    assert found["pages"]["document"] == {"p50": 3.0, "p95": 4.8, "n": 5}
    assert found["tokens"]["per_token"] == {"p50": 0.3, "p95": 0.48, "n": 5}


def test_percentiles_agree_with_numpy() -> None:
    clock, log = Clock(), []
    seconds = list(np.random.default_rng(0).uniform(0.01, 0.1, 21))
    found = time_interleaved(
        [Contender("model", {"document": worker(clock, seconds, log, "m")})], rounds=21, clock=clock
    )
    figures = found["model"]["document"]
    assert figures["p50"] == pytest.approx(np.percentile(seconds, 50) * 1000, abs=1e-3)
    assert figures["p95"] == pytest.approx(np.percentile(seconds, 95) * 1000, abs=1e-3)


def test_threads_and_garbage_collection_are_set_and_put_back() -> None:
    threads = torch.get_num_threads()
    seen: list[tuple[int, bool]] = []

    def work() -> int:
        seen.append((torch.get_num_threads(), gc.isenabled()))
        return 1

    time_interleaved([Contender("model", {"document": work})], rounds=2, threads=threads + 1)
    assert set(seen) == {(threads + 1, False)}
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)


def test_all_is_put_back_when_a_contender_fails() -> None:
    threads = torch.get_num_threads()

    def work() -> int:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        time_interleaved([Contender("model", {"document": work})], threads=threads + 1)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)


def test_progress_counts_the_timed_rounds() -> None:
    steps: list[int] = []
    time_interleaved([Contender("model", {"document": lambda: 1})], rounds=6, advance=steps.append)
    assert steps == [1] * 6


def test_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        time_interleaved([Contender("model", {"document": lambda: 1})] * 2, rounds=1)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_the_peak_is_seen_after_the_memory_is_given_back() -> None:
    def use(megabytes: int) -> None:
        np.ones(megabytes * 2**17)

    use(150)
    before = resident_mb(reset_peak=True)
    use(60)
    assert resident_mb(peak=True) - before == pytest.approx(60, abs=20)


def test_peak_memory_grows_with_the_model(tmp_path: Path) -> None:
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    peaks = {}
    for width in (16, 2048):
        config = ResNetConfig(
            embedding_size=16, hidden_sizes=[16, width], depths=[1, 1], layer_type="basic", num_labels=2
        )
        network = ResNetForImageClassification(config)
        megabytes = sum(parameter.numel() for parameter in network.parameters()) * 4 / 2**20
        DocumentModel("classification", network, processor).save(tmp_path / str(width))
        peaks[width] = (megabytes, measure_peak_memory(str(tmp_path / str(width)), "classification"))
    grown, weights = peaks[2048][1] - peaks[16][1], peaks[2048][0] - peaks[16][0]
    assert weights > 100
    assert 0.8 * weights < grown < 4 * weights


def test_a_model_whose_memory_cannot_be_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocstillError, match=r"nothing failed: .*there is no model folder"):
        measure_peak_memory(str(tmp_path / "nothing"), "classification")
