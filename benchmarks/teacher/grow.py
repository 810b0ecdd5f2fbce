"""Makes the decoder of a trained Donut deeper without changing what it answers, and lets it learn on with LayerDrop.

python benchmarks/teacher/grow.py MODEL OUT LAYERS LAYERDROP

New blocks are copies whose last weights are zero, so that they pass on what they are given until they have learnt better
(Wu et al. 2024, LLaMA Pro, arXiv 2401.02415, section 3.1). LayerDrop (Fan et al. 2020, arXiv 1909.11556) leaves blocks out at random
in training, so that the network should bear to lose some of them for good.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from docstill.models.adaptor import donut_class
from docstill.models.io import DocumentModel
from docstill.tasks.kie import Kie

LAYERS = "decoder.model.decoder.layers"
LAST = ("self_attn.out_proj", "encoder_attn.out_proj", "fc2")


def main(source: str, out: Path, layers: int, layerdrop: float) -> None:
    model = Kie().load_model(source)
    pages = torch.randn(2, 3, *model.network.config.encoder.image_size)
    tokens = torch.randint(4, model.network.config.decoder.vocab_size, (2, 9))
    with torch.inference_mode():
        before = model.network(pixel_values=pages, decoder_input_ids=tokens).logits
        grow(model, layers, layerdrop)
        after = model.network(pixel_values=pages, decoder_input_ids=tokens).logits
    if not torch.allclose(before, after, atol=1e-4):
        sys.exit(f"the grown network answers differently, by {float((before - after).abs().max())}")
    model.save(out)


def grow(model: DocumentModel, layers: int, layerdrop: float) -> None:
    """Spreads the old blocks over ``layers``, the first and the last in their places; the others, if any, are new."""
    config, old = model.network.config, model.network.state_dict()
    had = config.decoder.decoder_layers
    places = [round(index * (layers - 1) / (had - 1)) for index in range(had)]
    config.decoder.decoder_layers = config.decoder.num_hidden_layers = config.decoder.encoder_layers = layers
    config.decoder.decoder_layerdrop = layerdrop
    weights: dict[str, Any] = {name: tensor for name, tensor in old.items() if not name.startswith(f"{LAYERS}.")}
    for place in range(layers):
        like = max(index for index, at in enumerate(places) if at <= place)
        start = f"{LAYERS}.{like}."
        for name in [name for name in old if name.startswith(start)]:
            part = name.removeprefix(start)
            new = place not in places and part.rpartition(".")[0] in LAST
            weights[f"{LAYERS}.{place}.{part}"] = torch.zeros_like(old[name]) if new else old[name].clone()
    network = donut_class(config)(config)
    network.load_state_dict(weights)
    network.generation_config = model.network.generation_config
    model.network = network.eval()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(
            "give the model, where the grown one goes, its number of decoder layers, and the share of them left out in training"
        )
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
