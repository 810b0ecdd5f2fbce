"""What a teacher says of an answer, put together for a student that writes it in other tokens: trimmed ones, or merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from docstill.errors import ModelError
from docstill.models.donut_answers import IGNORED, Spelling, same_vocabulary, spelling
from docstill.models.donut_tokens import encode
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.objectives.divergences import NEVER


def check_spelt_alike(teacher: DocumentModel, student: DocumentModel, texts: Sequence[str]) -> None:
    """Whether a teacher that is asked once, about answers in its own tokens, is asked about those that its student writes.

    A text that both spell in several equally likely ways may be spelt in other tokens by either.

    Args:
        teacher: a Donut.
        student: one that passes `docstill.tasks.kie.Kie.check_pair` with it.
        texts: the answers that the student learns from; none where nothing is written.

    Raises:
        ModelError: some are spelt otherwise; says how many, and shows one.
    """
    if not texts or same_vocabulary(teacher, student):
        return
    ours, theirs, spelt = student.processor.tokenizer, teacher.processor.tokenizer, spelling(teacher, student)
    other = [
        text
        for text in texts
        if spelt.spelt(torch.tensor(encode(ours, text), dtype=torch.long)).tolist() != encode(theirs, text)
    ]
    if other:
        raise ModelError(
            f"{len(other)} of {len(texts)} answers are spelt by the student in tokens that are not the teacher's own put together, such as "
            f"{other[0]!r}, so that what the teacher says cannot be kept; leave cache_logits out"
        )


def in_tokens_of_student(theirs: Outputs, ours: Outputs, spelt: Spelling) -> Outputs:
    """What a teacher says of an answer, as if it chose among its student's tokens.

    Before each token of the student the teacher has read the same text. With its own tokens c₁ … cₙ of the right one, each with what it
    says right before it,

        p(right token) = p(c₁) · … · p(cₙ)
        p(other token) = p(c)                        if it is the one token c of the teacher; of c₁ alone, if n > 1, less p(right token)
        p(other token) = 0                           if it is several tokens of the teacher

    which is 1 in sum where no token was trimmed. What the teacher doubts of the right token's end counts for its beginning alone, for with what it would have gone on
    instead is not known beyond one token. Where all tokens are the teacher's own, its logits stay as they are.

    Args:
        theirs: the teacher's outputs.
        ours: the student's on the same text.
        spelt: on the device of the outputs.

    Raises:
        ModelError: the two spell an answer differently, so that their decisions are not the same.
    """
    ids, lengths = spelt
    rows, sizes = ids[ours.targets], lengths[ours.targets]
    if not torch.equal(rows[rows != IGNORED], theirs.targets):
        raise ModelError(
            "teacher and student spell an answer with other tokens, so that they cannot be compared token by token; trim or merge "
            "the student's vocabulary, and not the teacher's, on the data that it is distilled on; if only a few answers are spelt so, leave "
            "cache_logits out"
        )
    starts = sizes.cumsum(0) - sizes
    first = ids[:, 0].clamp(min=0)
    same = replace(theirs, targets=ours.targets, tags=ours.tags)
    single = lengths == 1
    if bool(single.all()):
        return replace(same, logits=theirs.logits[:, first])
    likely = theirs.logits.log_softmax(-1)
    found = likely[starts][:, first].masked_fill_(~single, NEVER)
    right = likely.gather(1, theirs.targets.unsqueeze(1)).squeeze(1)
    decisions = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    long = (sizes > 1).nonzero().squeeze(1)
    whole = torch.zeros_like(right[: len(sizes)]).index_add_(0, decisions, right)[long]
    # By the teacher's id, the student's token that is just that.
    alone = torch.full((likely.shape[1],), IGNORED, device=sizes.device)
    alone[first[single]] = single.nonzero().squeeze(1)
    begun, beginning = alone[rows[long, 0]], right[starts[long]]
    rest = beginning + torch.log1p(-(whole - beginning).exp().clamp(max=1 - 1e-6))
    kept = begun != IGNORED
    found[long[kept], begun[kept]] = rest[kept]
    found[long, ours.targets[long]] = whole
    return replace(same, logits=found.clamp_(min=NEVER), reckoned=True)
