"""Running statistics of batch norm: an average over batches, not the last one."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MOMENTUM = 0.1
"""The last batch's share in the running statistics; torch's default."""
_MOST = 0.5


def average_batches(network: nn.Module) -> None:
    """Gives batch norms whose statistics are the last batch's alone torch's own momentum.

    TensorFlow's momentum is the share of the past, torch's that of the last batch. transformers carries TensorFlow's 0.997 and
    0.99 for MobileNet and EfficientNet over as they are: trained so, a network's answers depend on which 16 pages came last.
    Momentum is kept in no model folder, so this is for training alone.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None and module.momentum > _MOST:
            module.momentum = MOMENTUM
