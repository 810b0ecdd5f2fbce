"""The run folder: `metrics.jsonl`, what is done, and the refusal to mix two recipes in one folder.

A step of a run is a folder; it is done when its `done.json` is there, which is written last. So resuming is: walk the
steps, skip those that are done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from docstill.errors import InUse, RecipeError, UserError
from docstill.files import full_disk_said, read_json, write_json, write_text
from docstill.recipe_text import differences

DONE = "done.json"
CHECKPOINT = "last.pt"
LOCK = ".lock"
EVALUATION = "evaluation"
"""Folder of the step that scores a row."""
CALIBRATION = "calibration"
"""Folder of the step that scales a row's probabilities; where there is one, its model is the row's last."""
LOOKED_AT = "data"
"""The step of a run in which all pages are looked at once."""
LOOKS = (LOOKED_AT, f"teacher/{EVALUATION}", f"teacher/{CALIBRATION}")
"""Steps whose outcome depends on the data and the teacher alone, and that nobody learns in."""
BEGAN_WITH = "began-with.json"
"""Hashes of the data and the teacher that a run began with; see `docstill.fingerprints.check_unchanged`."""
RECIPE = "recipe.yaml"


def open_run(folder: Path, text: str, name: str = RECIPE) -> None:
    """Makes the run folder, or checks that it belongs to the same recipe.

    Args:
        folder: the run folder.
        text: the resolved recipe, or study, as YAML.
        name: the file that it is kept in.

    Raises:
        RecipeError: something was done there with another recipe; lists what differs.
    """
    path = folder / name
    refuse_file(folder)
    if path.exists():
        changed = differences(path.read_text(encoding="utf-8"), text)
        if not changed:
            return
        if has_begun(folder):
            raise RecipeError(
                f"{folder} was begun with another {path.stem}; give another --run folder, or undo these changes{_kept(folder)}",
                changed,
            )
        forget_looks(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no {name}; give an empty or new folder with --run")
    write_text(path, text)


def refuse_file(folder: Path) -> None:
    """Raises UserError where a folder is to be and a file is."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a new folder")


def has_begun(folder: Path) -> bool:
    """Whether anything was learnt in a run folder, or somebody is at it or a part of it."""
    return has_learnt(folder) or in_use(folder) or any(in_use(lock.parent) for lock in folder.rglob(LOCK))


def has_learnt(folder: Path) -> bool:
    """Whether a step is finished, or a checkpoint written.

    To have looked at the data and to have scored the teacher is nothing: with something mended, that is done again.
    """
    looks = {folder / name for name in LOOKS}
    return any(path.parent not in looks for path in folder.rglob(DONE)) or any(folder.rglob(CHECKPOINT))


def forget_looks(folder: Path) -> None:
    """Has data and teacher looked at again; for runs in which nobody has learnt."""
    for name in LOOKS:
        (folder / name / DONE).unlink(missing_ok=True)  # no more than that: somebody may keep data of their own there
    (folder / BEGAN_WITH).unlink(missing_ok=True)


def _kept(folder: Path) -> str:
    """What a refusal says of a teacher that the run has trained."""
    teacher = folder / "teacher"
    return f"; its teacher can be taken along: teacher={teacher / 'model'}" if (teacher / DONE).is_file() else ""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps a second process out of the run folder; the lock goes with the process, however it ends.

    Raises:
        InUse: another process works in the folder, and is not to be waited for.
    """
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise InUse(f"another process is working in {folder}; wait for it, or give another --run folder") from error
    with lock:
        yield


def in_use(folder: Path) -> bool:
    """Whether another process works in the run folder."""
    try:
        with locked(folder):
            return False
    except InUse:
        return True


def step(folder: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Does ``work`` unless ``folder`` says that it is done; returns what it reported, now or then.

    The report says in ``seconds`` how long it took, unless the work knows better (a training that was stopped and went on).
    """
    done = folder / DONE
    if done.is_file():
        report: dict[str, Any] = read_json(done)
        return report
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    report = work()
    report = {"seconds": round(time.perf_counter() - began, 2), **report}
    write_json(done, report)
    return report


def seconds_spent(folder: Path) -> float:
    """Time that all finished steps below ``folder`` took, over however many calls."""
    return sum(float(read_json(done).get("seconds", 0)) for done in folder.rglob(DONE))


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, each with its ``step``; cut back to the checkpoint on resume."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **values: Any) -> None:
        """Appends one line."""
        with full_disk_said(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
