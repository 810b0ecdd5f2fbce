"""Answers of a detector that finds a thing many times, made fit for one that must find it once.

A Faster R-CNN says of every region that lies on a paragraph that it is one, and drops all but the surest afterwards. An RT-DETR or
D-FINE drops nothing: of the queries on one paragraph a single one may say so, and its score stands for how well its box lies, too. Taught
the answers as they are, it finds everything several times. So, page by page: overlapping answers of the teacher are suppressed as it does
itself in use; each that is left goes to one of the student's, by the costs with which DETR assigns labels (Carion et al. 2020, arXiv
2005.12872, section 3.1); its probability counts times the overlap of the two boxes, as in the loss that these students learn with
(Zhang et al. 2021, VarifocalNet, arXiv 2008.13367, section 3.2). All other queries are to say "nothing".
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torchvision.ops import batched_nms, box_iou, generalized_box_iou

from docstill.objectives.base import Looks
from docstill.objectives.looks import binary_logits, boxes_of

LEAST = 0.05
"""Answers below it are dropped, as a Faster R-CNN does in use."""
OVERLAP = 0.5
NOTHING = 1e-4
"""Probability of each class where nothing is."""
CLASS, L1, GIOU = 2.0, 5.0, 2.0
"""Weights of the costs, as RT-DETR and D-FINE assign labels (``matcher_class_cost`` and so on in their configurations)."""


def one_each(ours: Looks, theirs: Looks) -> Looks:
    """The teacher's answers, each given to one of the student's regions.

    Args:
        ours: of a student that finds each thing once.
        theirs: of a teacher that finds it many times, at the same regions.

    Returns:
        The teacher's looks as one of the student's kind would have them; no gradients.
    """
    from scipy.optimize import linear_sum_assignment  # of the extra `layout`, whose students alone come here

    meant, said = binary_logits(theirs).detach(), binary_logits(ours).detach()
    sure, likeliest = meant.sigmoid().max(1)
    there = boxes_of(theirs, likeliest).detach()
    targets, boxes = torch.full_like(meant, NOTHING), there.clone()
    for page in sorted(set(ours.pages.tolist())):
        here = torch.nonzero((ours.pages == page) & (sure >= LEAST)).squeeze(1)
        here = here[batched_nms(there[here], sure[here], likeliest[here], OVERLAP)]
        mine = torch.nonzero(ours.pages == page).squeeze(1)
        place = ours.boxes[mine, 0].detach()  # such a student has one box for all classes
        cost = (
            L1 * torch.cdist(place, there[here], p=1)
            - GIOU * generalized_box_iou(place, there[here])
            - CLASS * said[mine][:, likeliest[here]].sigmoid()
        )
        # Where training has diverged the loss will be no number either, and the engine says so.
        rows, columns = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
        taken, given = mine[torch.as_tensor(rows)], here[torch.as_tensor(columns)]
        lies = box_iou(ours.boxes[taken, 0].detach(), there[given]).diagonal()
        targets[taken] = (meant[given].sigmoid() * lies[:, None]).clamp_min(NOTHING)
        boxes[taken] = there[given]
    return replace(theirs, classes=targets.logit(), background=None, boxes=boxes[:, None].expand_as(theirs.boxes))
