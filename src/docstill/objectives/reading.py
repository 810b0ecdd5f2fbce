"""Reading: each of the encoder's last tokens says which characters stand in its patch of the page.

    loss = mean over documents, patches and kinds of characters of BCE( W h_patch + b , is there )

A Donut that starts from scratch can first learn what answers look like, and stay there: its decoder has no reason yet to
look at the page. On generated pages it is known where each character stands; asking the encoder for it
gives the decoder something to attend to (deep supervision: Lee et al. 2015, arXiv 1409.5185). In training only: W and
b are thrown away after.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from docstill.errors import UserError
from docstill.objectives.base import Objective, Outputs

ENCODER = "encoder"


class Reading(Objective):
    """Multi-hot binary cross-entropy of one linear layer over the encoder's output.

    Args:
        positive: how much more a character that is there counts than one that is not; there are few.
    """

    needs_teacher = False
    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    student_modules = (ENCODER,)

    def __init__(self, positive: Annotated[float, Field(gt=0)] = 5.0) -> None:
        super().__init__()
        self.positive = positive
        self.layer: nn.Module = nn.Identity()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the linear layer.

        Raises:
            UserError: it is not known where characters stand, or the encoder's tokens are not the page's patches.
        """
        if student.glyphs is None:
            raise UserError(
                "the objective reading needs pages that say where each character stands; generate some with "
                "`docstill synth … --glyphs`, give `lines` that OCR found in metadata.jsonl, or leave it out"
            )
        features = student.features[ENCODER]
        self.layer = nn.Linear(features.shape[-1], student.glyphs[1]).to(features.device)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the documents of the batch; one of which nothing is known adds nothing.

        One that is known to hold no character, with -1 for patch and kind, asks for none in any patch.
        """
        logits: Tensor = self.layer(student.features[ENCODER])
        if student.glyphs is None:
            nothing: Tensor = logits.sum() * 0
            return nothing
        document, patch, kind = student.glyphs[0].unbind(1)
        places, written = (document, patch.clamp_min(0), kind.clamp_min(0)), (kind >= 0).to(logits.dtype)
        there = torch.zeros_like(logits).index_put_(places, written, accumulate=True).clamp_(max=1)
        weight = torch.tensor(self.positive, device=logits.device)
        losses = binary_cross_entropy_with_logits(logits, there, pos_weight=weight, reduction="none").mean((1, 2))
        known = torch.zeros(len(logits), device=logits.device)
        known[document] = 1
        loss: Tensor = (losses * known).mean()
        return loss
