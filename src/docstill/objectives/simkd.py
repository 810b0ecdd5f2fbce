"""SimKD: the student takes over the teacher's classifier (Chen et al. 2022, arXiv 2203.14001, section 3.2).

With h the features that reach a network's classifier, and W, b the teacher's classifier:

    student's logits = W (P h_s + p) + b
    loss = mean over documents and channels of ( P h_s + p − h_t )²  /  mean of ( h_t − mean h_t )²

P and p are learned. Both maps are linear, so while training the student's own classifier *is* their product, and afterwards
it is an ordinary classifier with weight W P and bias W p + b: the student reloads alone, with no trace of the teacher.
The paper's projector (and DistilDoc's) ends in a ReLU: it cannot reach the negative half of a transformer's features. Deeper ones
that end in no activation can be had, too: only their last layer is folded, those before stay in the student. Dividing by the
teacher's variance is ours, so that one weight fits all teachers.

`cnn` is the paper's bottleneck, convolutions of 1 × 1, 3 × 3 and 1 × 1 over the student's map before it is pooled, with three
differences. Neither norm nor ReLU follows the last one, which is then linear and changes places with the pooling. Norms are over
each page, not over the batch. And the target is what reaches the teacher's classifier, a CLS token or a mean behind a norm, not
its last map: on anything else that classifier would look at features that it was not trained on.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from docstill.models.conv_head import give_conv_head
from docstill.models.head import head_of, names_in_order
from docstill.models.mlp_head import give_mlp_head
from docstill.objectives.base import Objective, Outputs


class Simkd(Objective):
    """The teacher's classifier on projected features of the student; for page classifiers of any two families.

    Args:
        normalise: divide by the variance of the teacher's features over the first batch.
        projector: ``linear``; ``mlp``: linear → GELU → linear, as wide in the middle as the teacher's features; or ``cnn``:
            convolutions of 1 × 1, 3 × 3 and 1 × 1 over the student's last map, half as wide in the middle.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"

    def __init__(self, normalise: bool = True, projector: Literal["linear", "mlp", "cnn"] = "linear") -> None:
        super().__init__()
        self.normalise, self.projector = normalise, projector
        self.variance = 1.0
        self._outside: dict[str, Any] = {}  # the networks' own layers: not this module's children

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Makes the student's classifier the product of the teacher's and a projector."""
        assert teacher is not None
        if self.projector == "mlp":
            give_mlp_head(student, head_of(teacher).in_features)
        elif self.projector == "cnn":
            give_conv_head(student, head_of(teacher).in_features)
        head, taught = head_of(student), head_of(teacher)
        theirs = names_in_order(teacher.config)
        order = [theirs.index(name) for name in names_in_order(student.config)]
        weight, bias = taught.weight.detach()[order].clone(), taught.bias.detach()[order].clone()
        parametrize.register_parametrization(head, "weight", _Projected(weight, None), unsafe=True)
        parametrize.register_parametrization(head, "bias", _Projected(weight, bias), unsafe=True)
        self._outside = {"head": head, "hooks": []}
        for side, layer in (("student", head), ("teacher", taught)):

            def keep(_module: nn.Module, inputs: tuple[Tensor, ...], side: str = side) -> None:
                self._outside[side] = inputs[0].float()

            self._outside["hooks"].append(layer.register_forward_pre_hook(keep))

    def detach(self) -> None:
        """Leaves the product behind as an ordinary classifier."""
        for hook in self._outside["hooks"]:
            hook.remove()
        for name in ("weight", "bias"):
            parametrize.remove_parametrizations(self._outside["head"], name, leave_parametrized=True)
        self._outside = {}

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Takes the teacher's feature variance from the dry batch."""
        features = self._outside["teacher"]
        if self.normalise:
            self.variance = max(float((features - features.mean(0)).square().mean()), 1e-6)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean squared error over documents and channels, over the teacher's variance."""
        parts = self._outside["head"].parametrizations
        ours, theirs = self._outside.pop("student"), self._outside.pop("teacher")
        projected = nn.functional.linear(ours, parts.weight.original, parts.bias.original)
        error: Tensor = (projected - theirs).square().mean()
        return error / self.variance


class _Projected(nn.Module):
    """The teacher's classifier after a projector: for the weight W P from P, for the bias W p + b from p."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, projector: Tensor) -> Tensor:
        product: Tensor = self.weight @ projector
        return product if self.bias is None else product + self.bias

    def right_inverse(self, old: Tensor) -> Tensor:
        """Where the projector begins; what the student's classifier was before is of no use."""
        width = self.weight.shape[1]
        if self.bias is not None:
            return torch.zeros(width, dtype=old.dtype, device=old.device)
        return nn.Linear(old.shape[1], width).weight.detach().to(old)
