"""PKD: feature maps that rise and fall together (Cao et al. 2022, arXiv 2207.02039, section 3).

    loss = mean over channels, documents and positions of ½ ( ẑ_s − ẑ_t )²  =  mean over channels of 1 − Pearson( h_s, h_t )

ẑ is a channel of mean 0 and deviation 1 over all documents and positions of the batch, so that the student need not copy
the teacher's scale, and channels with large values do not drown the others. Maps of another grid are resized to the
teacher's; a student with another number of channels gets a linear projector. Means and deviations are those of one
batch, so `gradient_accumulation_steps` is no substitute for `batch_size`. Zero when the student equals the teacher.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from docstill.objectives.base import Outputs
from docstill.objectives.divergences import standardised
from docstill.objectives.paired import Paired
from docstill.objectives.positions import as_tokens, side_by_side
from docstill.objectives.projectors import channel_projector, matched


class Pkd(Paired):
    """One minus Pearson's correlation of each channel.

    Args:
        student_module: path of the student's module whose output is compared.
        teacher_module: path in the teacher; default: the same path.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification", "layout")

    def __init__(self, student_module: str, teacher_module: str | None = None) -> None:
        super().__init__(student_module, teacher_module)
        self.projector: nn.Module = nn.Identity()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projector from the two shapes."""
        assert teacher is not None
        student, teacher = side_by_side(student, teacher, self.pairs)
        ours, theirs = student.features[self.student_module], teacher.features[self.teacher_module]
        matched(ours, theirs)  # refuses what cannot be compared
        self.projector = channel_projector(ours, theirs)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over channels; the batch is one sample of documents and positions."""
        assert teacher is not None
        student, teacher = side_by_side(student, teacher, self.pairs)
        target = teacher.features[self.teacher_module].detach()
        tokens = self.projector(matched(student.features[self.student_module], target))
        ours, theirs = (standardised(part.flatten(0, 1).T) for part in (tokens, as_tokens(target)))
        return (ours - theirs).square().mean() / 2
