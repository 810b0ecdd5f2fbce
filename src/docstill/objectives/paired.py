"""What the feature objectives share: one module of the student beside one of the teacher."""

from __future__ import annotations

from typing import ClassVar, Literal

from docstill.objectives.base import EVERY_TASK, Objective


class Paired(Objective):
    """Compares the outputs of two modules, document by document.

    Args:
        student_module: path of the student's module whose output is compared, e.g. ``resnet.encoder.stages.2``.
        teacher_module: path in the teacher; default: the same path.
    """

    average: ClassVar[Literal["decisions", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = EVERY_TASK

    def __init__(self, student_module: str, teacher_module: str | None = None) -> None:
        super().__init__()
        self.student_module, self.teacher_module = student_module, teacher_module or student_module
        self.student_modules, self.teacher_modules = (self.student_module,), (self.teacher_module,)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Paths in the student and in the teacher, pair by pair."""
        return list(zip(self.student_modules, self.teacher_modules, strict=True))
