"""Features by document and position: what a feature objective compares, without the padding of short answers.

Tokens and maps meet here, too: `side_by_side` makes maps of tokens where the other side has maps, or tokens of another grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.models.patches import laid_out
from docstill.objectives.base import Outputs


def as_tokens(features: Tensor) -> Tensor:
    """``(B, C, H, W)`` maps become ``(B, H·W, C)`` tokens, ``(B, C)`` vectors ``(B, 1, C)``; tokens stay."""
    if features.dim() == 4:
        return features.flatten(2).transpose(1, 2)
    if features.dim() == 2:
        return features.unsqueeze(1)
    if features.dim() == 3:
        return features
    raise ModelError(
        f"features of shape {tuple(features.shape)} cannot be compared; tap a module whose output is (B, C), (B, T, C) or (B, C, H, W)"
    )


def as_map(outputs: Outputs, path: str) -> Tensor:
    """``(B, C, H, W)``: a module's maps, or its tokens laid on their grid without those in front (CLS, registers).

    Raises:
        ModelError: windows of pages; see also `docstill.models.patches.laid_out`.
    """
    check_whole(outputs, path)
    return laid_out(outputs.features[path], outputs.patches, path)


def check_whole(outputs: Outputs, path: str) -> None:
    """Refuses a module that gives windows (a Swin's attention, maybe with as many tokens as a deep stage) or regions of pages.

    Raises:
        ModelError: names it.
    """
    parts = len(outputs.features[path])
    if parts != outputs.documents:
        raise ModelError(
            f"{path} gives {parts} parts of {outputs.documents} pages, which are no features of pages; tap a block or a stage"
        )


def side_by_side(student: Outputs, teacher: Outputs, pairs: Sequence[tuple[str, str]]) -> tuple[Outputs, Outputs]:
    """Student and teacher with features of one form: as they are, or all as maps.

    Tokens of pages cut in the same way stay as they are, those in front of the patches among them. Where one side has maps, or
    another grid, positions are compared by where on the page they stand, so that tokens in front have no partner and are left out.

    Args:
        student: with the features of each pair's first path.
        teacher: with those of the second.
        pairs: paths in the student and in the teacher.

    Raises:
        ModelError: tokens would have to be laid out, and where they stand is not known.
    """
    if all(_alike(student, ours, teacher, theirs) for ours, theirs in pairs):
        return student, teacher
    mine = {ours: as_map(student, ours) for ours, _ in pairs}
    its = {theirs: as_map(teacher, theirs) for _, theirs in pairs}
    return replace(student, features={**student.features, **mine}), replace(
        teacher, features={**teacher.features, **its}
    )


def _alike(student: Outputs, ours: str, teacher: Outputs, theirs: str) -> bool:
    """Whether two modules' features can be compared position by position, or cannot be compared any better as maps."""
    one, two = student.features[ours], teacher.features[theirs]
    counts = as_tokens(one).shape[1], as_tokens(two).shape[1]
    for outputs, path, features in ((student, ours, one), (teacher, theirs, two)):
        if features.dim() == 2:
            check_whole(outputs, path)
    if one.dim() == two.dim() == 4 or 2 in (one.dim(), two.dim()) or counts == (1, 1):
        return True
    if one.dim() == two.dim() == 3 and student.patches == teacher.patches:
        check_queries(student, ours, teacher, theirs)
        return student.patches is None or counts[0] == counts[1]
    return False


def check_queries(student: Outputs, ours: str, teacher: Outputs, theirs: str) -> None:
    """Refuses tokens that are no patches of a page, such as queries, where the two networks have not as many.

    Raises:
        ModelError: says how many.
    """
    one, two = student.features[ours], teacher.features[theirs]
    queries = one.dim() == two.dim() == 3 and student.patches is None and teacher.patches is None
    if queries and one.shape[1] != two.shape[1]:
        raise ModelError(
            f"the student's {ours} gives {one.shape[1]} positions and the teacher's {theirs} {two.shape[1]}, which cannot be compared one by "
            "one; tap modules that give as many. The decoder of an RT-DETR or D-FINE also looks at noisy labels in training: with the "
            "objective query beside it both look at the same regions"
        )


def reframed(theirs: Outputs, ours: Outputs) -> Outputs:
    """The teacher's outputs with maps on which a page lies where it lies on the student's.

    Where one is given pages squashed and the other padded, the same place of two maps is another one of the page. Maps keep their
    size; each place takes what the teacher has at that place of the page, between four of its own (bilinear).
    """
    if theirs.frames is None or ours.frames is None or torch.allclose(theirs.frames, ours.frames, atol=1e-3):
        return theirs
    ratio = (theirs.frames / ours.frames)[:, :2]
    features = dict(theirs.features)
    for path, maps in features.items():
        if maps.dim() == 4 and len(maps) == len(ratio):
            height, width = maps.shape[2:]
            rows, columns = ((torch.arange(side, device=maps.device) + 0.5) / side for side in (height, width))
            down, across = torch.meshgrid(rows, columns, indexing="ij")
            shares = torch.stack([across, down], dim=-1) * ratio.to(maps.device)[:, None, None]
            features[path] = functional.grid_sample(maps, 2 * shares - 1, padding_mode="border", align_corners=False)
    return replace(theirs, features=features)


def kept(outputs: Outputs, path: str) -> Tensor:
    """``(B, T, 1)`` float32: 1 where a position of the module's output counts, 0 at padding of an answer."""
    tokens = as_tokens(outputs.features[path])
    scored = written(outputs, path, tokens.shape)
    return torch.ones(*tokens.shape[:2], 1, device=tokens.device) if scored is None else scored.float().unsqueeze(-1)


def written(outputs: Outputs, path: str, shape: Sequence[int]) -> Tensor | None:
    """``(B, T)`` bool: which positions of a module's output ``(B, T, …)`` are of an answer; None where it does not hold answers.

    The cross-attention of the part that writes also holds projections of the page: those have the page's length, and all count.
    """
    if outputs.answers is None:
        return None
    part, scored = outputs.answers
    return scored if path.startswith(part) and scored.shape == shape[:2] else None


def document_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean over a document's kept positions and channels, then over documents: batches of any size weigh alike.

    Args:
        values: ``(B, T, C)``.
        kept: ``(B, T, 1)`` of 0 and 1; at least one 1 in each document.
    """
    return ((values * kept).sum((1, 2)) / (kept.sum((1, 2)) * values.shape[-1])).mean()


def pooled(outputs: Outputs, path: str) -> Tensor:
    """``(B, C)`` float32: the mean over each document's kept positions.

    Raises:
        ModelError: the module gives parts of pages, such as windows or regions.
    """
    check_whole(outputs, path)
    tokens, mask = as_tokens(outputs.features[path]), kept(outputs, path)
    return (tokens * mask).sum(1) / mask.sum(1)
