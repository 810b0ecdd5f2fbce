"""The adaptor between an encoder and a decoder of different widths, as in DONUT-hole's small student.

transformers has a linear one of its own. The published text says "a small neural network": two layers are an option, and a
class of their own, since stock transformers has no place for the second.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel

from docstill.errors import UserError

ADAPTORS = ("linear", "mlp")
CONFIG_KEY = "docstill_adaptor"
"""Where `config.json` says that there are two layers; a linear adaptor is not mentioned."""


class DonutWithMlp(VisionEncoderDecoderModel):  # type: ignore[misc]  # transformers has no types here
    """A Donut whose adaptor is linear → GELU → linear, as wide in the middle as the decoder.

    The name of the part, ``enc_to_dec_proj``, is that of the linear one.
    """

    def __init__(
        self, config: VisionEncoderDecoderConfig | None = None, encoder: Any = None, decoder: Any = None
    ) -> None:
        super().__init__(config, encoder, decoder)
        seen, written = self.encoder.config.hidden_size, self.decoder.config.hidden_size
        self.enc_to_dec_proj = nn.Sequential(nn.Linear(seen, written), nn.GELU(), nn.Linear(written, written))


def mark_adaptor(config: VisionEncoderDecoderConfig, adaptor: Any) -> None:
    """Writes the kind of adaptor into the configuration.

    Raises:
        UserError: no such adaptor, or there is none because encoder and decoder are equally wide.
    """
    if adaptor not in ADAPTORS:
        raise UserError(f"adaptor can be {' or '.join(ADAPTORS)}, {adaptor!r} given")
    if adaptor == "linear":
        return
    if config.encoder.hidden_size == config.decoder.hidden_size:
        raise UserError(
            f"encoder and decoder are both {config.encoder.hidden_size} wide and need no adaptor; leave adaptor out, or give the "
            "decoder another d_model"
        )
    setattr(config, CONFIG_KEY, adaptor)


def donut_class(config: Any) -> Any:
    """The class of network that a configuration describes."""
    return DonutWithMlp if getattr(config, CONFIG_KEY, None) == "mlp" else VisionEncoderDecoderModel
