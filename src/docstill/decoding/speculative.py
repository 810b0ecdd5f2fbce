"""A small Donut writes ahead, a large one looks all of it over at once: the large one's answers, sooner.

Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) of the likeliest tokens. The draft guesses the next few tokens one by one, which costs
little; the model reads the last token and all guesses in one pass, which takes it hardly longer than a single token. Guesses stand as
far as they are what the model would have written, and its own token follows them. So an answer is the model's, whatever the draft is worth;
a poor draft costs time.

Students are good drafts of their teachers. How far to guess follows how well it went: two tokens more after guesses that were all
right, one less after others, as in Hugging Face's assisted generation (Gante 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docstill.decoding.looking import seen
from docstill.decoding.steps import Steps
from docstill.errors import ModelError
from docstill.models.donut_answers import same_vocabulary
from docstill.models.io import DocumentModel
from docstill.sharing import in_common

FIRST, MOST = 6, 16
"""How many tokens are guessed at first, and at most."""


@dataclass(frozen=True)
class Draft:
    """A model that writes ahead.

    Attributes:
        model: it has the tokens of the model whose answers are wanted.
        same_eyes: whether its encoder says of a page what that model's says.
    """

    model: DocumentModel
    same_eyes: bool


def drafted_by(draft: DocumentModel, model: DocumentModel) -> Draft:
    """``draft`` as one that writes ahead of ``model``.

    Raises:
        ModelError: one of them is no Donut, or they do not have the same tokens.
    """
    if {draft.task, model.task} != {"kie"}:
        raise ModelError(
            f"only a Donut can write ahead of a Donut, a model for {draft.task} was given as the draft of one for {model.task}"
        )
    if not same_vocabulary(model, draft):
        raise ModelError(
            "the draft does not have the tokens of the model that it is to write ahead of; make it without trimming or merging them, "
            "as by pruning whole layers of that model"
        )
    alike = model.processor.image_processor.to_dict() == draft.processor.image_processor.to_dict()
    return Draft(draft, alike and bool(in_common({"encoder": draft.network.encoder}, model.network, ())))


def begun(model: DocumentModel, pixels: Tensor, draft: Draft, for_draft: Tensor | None) -> Speculative:
    """Answers of ``model`` about to be written on pages, ``draft`` writing ahead; both in eval mode.

    Args:
        model: whose answers they are.
        pixels: ``(B, 3, H, W)``, the pages.
        draft: of `drafted_by`.
        for_draft: the pages as the draft's processor prepares them; not needed if it has the same eyes.
    """
    encoded = seen(model.network, pixels)
    theirs = encoded
    if not draft.same_eyes:
        assert for_draft is not None
        theirs = seen(draft.model.network, for_draft)
    return Speculative(Steps(model.network, encoded), Steps(draft.model.network, theirs), model.processor.tokenizer)


class Speculative:
    """Answers being written in step, as `Steps` are, with guesses looked over some at a time.

    Where several answers are written side by side, guesses stand as far as they are right in all of them.

    Args:
        steps: of the model.
        draft: of the draft, at their beginning and for the same pages.
        tokenizer: of both.
    """

    def __init__(self, steps: Steps, draft: Steps, tokenizer: Any) -> None:
        self.steps, self.draft = steps, draft
        self.answers, self.device = steps.answers, steps.device
        self.passes = 0
        """How often the model was asked."""
        self._end, self._unknown = tokenizer.eos_token_id, tokenizer.unk_token_id
        self._ahead = FIRST
        self._told: list[Tensor] = []
        self._guesses: list[Tensor] = []
        self._scores = torch.empty(0)
        self._right = 0

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, vocabulary)`` float32 of what follows ``tokens`` ``(B,)``, the last of each answer."""
        if self._right < len(self._guesses) and torch.equal(tokens, self._guesses[self._right]):
            self._right += 1
        else:
            self._look(tokens)
        self._told.append(tokens)
        return self._scores[:, self._right]

    def rewind(self) -> None:
        """Begins again on the same pages, if no answer was dropped."""
        self._told, self._guesses = [], []

    def keep(self, rows: Tensor) -> None:
        """Goes on with the answers of ``rows`` ``(B,)`` bool alone."""
        self.steps.keep(rows)
        self.draft.keep(rows)
        self._told, self._guesses = ([tokens[rows] for tokens in kept] for kept in (self._told, self._guesses))
        self._scores = self._scores[rows]

    def _look(self, tokens: Tensor) -> None:
        """Has the draft guess what follows ``tokens``, and the model look at it."""
        if self._guesses:
            self._ahead = min(self._ahead + 2, MOST) if self._right == len(self._guesses) else max(self._ahead - 1, 1)
        place = len(self._told)
        self.steps.rewind(place)
        self.draft.rewind(min(self.draft.length, place))
        self._right, self._guesses = 0, self._guessed(tokens, place)
        self._scores = self.steps.scores_of(torch.stack([tokens, *self._guesses], dim=1))
        self.passes += 1

    def _guessed(self, tokens: Tensor, place: int) -> list[Tensor]:
        """What the draft thinks will follow ``tokens``, which stand at ``place``; nothing where there is no more room."""
        room = min(self.steps.room, self.draft.room) - place - 1
        unread, guesses = torch.stack([*self._told[self.draft.length :], tokens], dim=1), list[Tensor]()
        while len(guesses) < min(self._ahead, room):
            scores = self.draft.scores_of(unread)[:, -1]
            scores[:, self._unknown] = -torch.inf
            guesses.append(scores.argmax(dim=1))
            if bool((guesses[-1] == self._end).all()):
                break
            unread = guesses[-1][:, None]
        return guesses
