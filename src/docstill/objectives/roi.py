"""What two-stage detectors say of the same proposals: classes and boxes.

Classes as in Hinton et al. 2015 (arXiv 1503.02531), boxes as in DSIG's code (Chen et al. 2021, arXiv 2109.12862), here in
units of the region. With q = softmax([z_background ; z_classes] / T) and c the class that the teacher holds likeliest:

    classes = T² · mean over regions of KL( q_t ‖ q_s )
    boxes   = mean over regions of Σ | b_s[c] − b_t[c] | / (w, h, w, h),  where c is likelier than the background
    loss    = mean over pages of classes + box_weight · boxes

w and h are the region's width and height, so that small regions count like large ones. Zero when the student equals
the teacher.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from docstill.errors import ModelError
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import divergence
from docstill.objectives.looks import beside_background, both, boxes_of, page_mean

SMALLEST = 1e-3
"""A side of a region is taken to be at least this share of the page."""


class Roi(Objective):
    """The student's heads say of each proposal what the teacher's say.

    Args:
        temperature: T; above 1 the teacher's small probabilities count for more.
        box_weight: how much the boxes count, the classes being 1.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)
    looks: ClassVar[bool] = True

    def __init__(
        self,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        box_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.box_weight = temperature, box_weight

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the pages.

        Raises:
            ModelError: a detector has no logit for the background.
        """
        ours, theirs = both("roi", student, teacher)
        for whose, looks in (("student", ours), ("teacher", theirs)):
            if looks.background is None:
                raise ModelError(
                    f"roi compares classes beside a background, the {whose} scores each class by itself; use query"
                )
        pages, documents = ours.pages, student.documents
        said, meant = beside_background(ours), beside_background(theirs)
        gap = divergence("forward", said / self.temperature, meant / self.temperature, 0.0)
        loss = self.temperature**2 * page_mean(gap, pages, documents)
        likeliest = theirs.classes.argmax(1)
        sides = (theirs.given[:, 2:] - theirs.given[:, :2]).clamp_min(SMALLEST).repeat(1, 2)
        off = ((boxes_of(ours, likeliest) - boxes_of(theirs, likeliest)).abs() / sides).sum(1)
        return loss + self.box_weight * page_mean(off, pages, documents, weights=meant.argmax(1) > 0)
