"""Another backbone for a detector: what lies behind it is kept as far as it fits, the backbone itself is new.

The student begins with its teacher's pyramid or encoder, decoder and heads, and has to learn again what they are fed with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from docstill.errors import ModelError, UserError, nearest
from docstill.models.blocks import QUERY_DETECTORS
from docstill.models.fresh import begin_anew

BACKBONES = ("backbone.body.", "model.backbone.")
"""What the names of a backbone's tensors begin with."""


def swap_backbone(network: Any, to: str, choices: Mapping[str, Mapping[str, Any]]) -> tuple[Any, int, int]:
    """A detector like ``network`` with a new backbone.

    Args:
        network: a detector; it is not changed.
        to: a name of ``choices``.
        choices: by name, the configuration keys that differ with the backbone, and the ``model_type`` they are for.

    Returns:
        The new network, how many of its tensors behind the backbone were kept, and how many there are.

    Raises:
        UserError: no such backbone.
        ModelError: a backbone for another kind of network.
    """
    if to not in choices:
        raise UserError(f"there is no backbone of {to!r}; choose one of {', '.join(choices)}{nearest(to, choices)}")
    changes = dict(choices[to])
    wanted = changes.pop("model_type")
    if wanted != network.config.model_type:
        fitting = [name for name, choice in choices.items() if choice["model_type"] == network.config.model_type]
        which = f"choose one of {', '.join(fitting)}" if fitting else "there is no other one for it"
        raise ModelError(
            f"the backbone of {to} is for a {wanted}, the student is a {network.config.model_type}; {which}"
        )
    config = copy.deepcopy(network.config)
    for key, value in changes.items():
        setattr(config, key, copy.deepcopy(value))
    if "freeze_backbone_batch_norms" in config.to_dict():
        config.freeze_backbone_batch_norms = False  # they know nothing yet: a new backbone has to find its statistics
    swapped = type(network)(config)
    if wanted in QUERY_DETECTORS:
        begin_anew(swapped)
    old, new = network.state_dict(), swapped.state_dict()
    behind = {name for name in new if not name.startswith(BACKBONES)}
    kept = {name: old[name] for name in behind if name in old and old[name].shape == new[name].shape}
    swapped.load_state_dict({**new, **kept})
    swapped.to(next(network.parameters()).device).train(network.training)
    return swapped, len(kept), len(behind)
