"""Values weigh more than tags: what `labels` and `kd` share where decisions are tokens of an answer.

    loss = (1/N) · Σ w_i ℓ_i,      w_i = ``value_weight`` where the right token belongs to a value, 1 where it is a tag

Once a model knows the form of an answer, tags are certain and values are not; a mean over all tokens is then mostly a mean
over what is known. The sum is divided by the number of decisions N, not by Σ w: N is known of a batch before it is looked at,
so accumulated small batches weigh exactly like a large one, and the pull on a tag stays what it was.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from docstill.errors import ModelError
from docstill.objectives.base import Outputs

ValueWeight = Annotated[float, Field(gt=0)]


def weighed(losses: Tensor, outputs: Outputs, value_weight: float) -> Tensor:
    """``(N,)`` losses of the decisions of ``outputs``, those on values times ``value_weight``.

    Raises:
        ModelError: the decisions are not tokens of answers, so that there are no tags.
    """
    if value_weight == 1:
        return losses
    if outputs.tags is None:
        raise ModelError(
            f"value_weight {value_weight:g} is given, but this task writes no tags that values could be told from; leave it out"
        )
    return torch.where(outputs.tags, losses, value_weight * losses)
