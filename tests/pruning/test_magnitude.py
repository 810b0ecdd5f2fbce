"""Magnitude pruning: exact counts, ties, scopes, patterns, tied tensors, earlier masks."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import MBartConfig, MBartForCausalLM
from transformers.models.donut.modeling_donut_swin import DonutSwinConfig, DonutSwinModel

from docstill.errors import ModelError, UserError
from docstill.pruning.magnitude import magnitude_masks, select_weights
from docstill.pruning.masks import Masks, apply_masks

SIDES = st.lists(st.integers(1, 7), min_size=2, max_size=5)
SPARSITIES = st.floats(0, 0.999)
SCOPES = st.sampled_from(["global", "layer", "lamp"])


def network(sides: list[int], seed: int = 0, levels: int = 0) -> nn.Sequential:
    """A chain of linear layers; with ``levels``, weights take so few values that most of them tie."""
    torch.manual_seed(seed)
    chain = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sides)))
    if levels:
        for layer in chain:
            layer.weight.data = torch.randint(-levels, levels + 1, layer.weight.shape).float()
    return chain


def gone(masks: Masks) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


def size(masks: Masks) -> int:
    return sum(mask.numel() for mask in masks.values())


@given(SIDES, SPARSITIES, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_global_count_is_exact_whatever_the_ties(sides: list[int], sparsity: float, levels: int) -> None:
    masks = magnitude_masks(network(sides, levels=levels), sparsity)
    assert gone(masks) == round(sparsity * size(masks))


@given(SIDES, SPARSITIES, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_layer_count_is_exact_in_every_tensor(sides: list[int], sparsity: float, levels: int) -> None:
    for mask in magnitude_masks(network(sides, levels=levels), sparsity, scope="layer").values():
        assert gone({"": mask}) == round(sparsity * mask.numel())


@given(SIDES, SPARSITIES, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_lamp_count_is_exact_and_follows_the_formula(sides: list[int], sparsity: float, levels: int) -> None:
    model = network(sides, levels=levels)
    masks = magnitude_masks(model, sparsity, scope="lamp")
    assert gone(masks) == round(sparsity * size(masks))
    scores = {}
    for name, weight in select_weights(model, "all").items():
        squares = sorted(float(value) ** 2 for value in weight.flatten())
        for index, value in enumerate(sorted(weight.flatten().tolist(), key=abs)):
            scores.setdefault((name, abs(value)), []).append(squares[index] / (sum(squares[index:]) or 1.0))
    kept = [
        max(scores[name, abs(v)]) for name, w in select_weights(model, "all").items() for v in w[masks[name]].tolist()
    ]
    lost = [
        min(scores[name, abs(v)]) for name, w in select_weights(model, "all").items() for v in w[~masks[name]].tolist()
    ]
    assert not kept or not lost or min(kept) >= max(lost) * (1 - 1e-6)


def test_lamp_leaves_a_layer_of_small_weights_its_share() -> None:
    model = network([8, 8, 8])
    model[0].weight.data *= 0.01
    assert not magnitude_masks(model, 0.5)["0.weight"].any()
    assert magnitude_masks(model, 0.5, scope="lamp")["0.weight"].float().mean() > 0.3


@given(SIDES, SPARSITIES, st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_nothing_that_goes_is_larger_than_what_stays(sides: list[int], sparsity: float, levels: int) -> None:
    model = network(sides, levels=levels)
    masks = magnitude_masks(model, sparsity)
    weights = dict(model.named_parameters())
    taken = torch.cat([weights[name].detach().abs()[~mask] for name, mask in masks.items()])
    kept = torch.cat([weights[name].detach().abs()[mask] for name, mask in masks.items()])
    if len(taken) and len(kept):
        assert taken.max() <= kept.min()


@given(SIDES, SPARSITIES, SPARSITIES, SCOPES, SCOPES)
@settings(deadline=None, max_examples=100)
def test_what_was_pruned_stays_pruned(sides: list[int], first: float, second: float, scope: str, other: str) -> None:
    model = network(sides)
    before = magnitude_masks(model, first, scope=scope)  # type: ignore[arg-type]
    after = magnitude_masks(model, second, scope=other, within=before)  # type: ignore[arg-type]
    for name, mask in before.items():
        assert not (after[name] & ~mask).any(), name
    if other == "global":
        assert gone(after) == max(gone(before), round(second * size(after)))


def test_earlier_masks_count_even_where_the_weight_has_grown_again() -> None:
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    masks = magnitude_masks(model, 0.5, within={"weight": torch.tensor([[False, True, True, True]])})
    assert masks["weight"].tolist() == [[False, False, True, True]]


def test_earlier_masks_of_tensors_not_selected_are_kept() -> None:
    model = network([4, 4, 4])
    before = magnitude_masks(model, 0.5, of="0.*")
    after = magnitude_masks(model, 0.25, of="1.*", within=before)
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert gone({"1": after["1.weight"]}) == 4
    assert set(before) == {"0.weight"}, "the earlier masks themselves were changed"


def test_earlier_masks_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match=r"0\.weight"):
        magnitude_masks(network([4, 4]), 0.5, within={"0.weight": torch.ones(3, 3, dtype=torch.bool)})


def test_of_equal_weights_the_first_go() -> None:
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert magnitude_masks(model, 0.5)["weight"].tolist() == [[False, False, True, True]]


def test_global_threshold_empties_the_weak_layer_and_layer_scope_does_not() -> None:
    model = network([4, 4, 4])
    model[0].weight.data.fill_(0.1)
    model[1].weight.data.fill_(1.0)
    together = magnitude_masks(model, 0.5)
    assert (gone({"": together["0.weight"]}), gone({"": together["1.weight"]})) == (16, 0)
    each = magnitude_masks(model, 0.5, scope="layer")
    assert (gone({"": each["0.weight"]}), gone({"": each["1.weight"]})) == (8, 8)


def test_the_model_is_not_changed_until_the_masks_are_applied() -> None:
    model = network([5, 5])
    before = model[0].weight.detach().clone()
    masks = magnitude_masks(model, 0.6)
    assert torch.equal(model[0].weight, before)
    apply_masks(model, masks)
    assert int((model[0].weight == 0).sum()) == 15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    assert gone(magnitude_masks(network([9, 9]).to(dtype), 0.3)) == round(0.3 * 81)


def test_more_weights_than_torch_quantile_can_take() -> None:
    model = nn.Linear(4250, 4000, bias=False)
    assert model.weight.numel() > 2**24
    masks = magnitude_masks(model, 0.7)
    assert gone(masks) == round(0.7 * 17_000_000)


def tiny_decoder() -> MBartForCausalLM:
    config = MBartConfig(
        vocab_size=50, d_model=16, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, max_position_embeddings=20,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    return MBartForCausalLM(config)


def test_embeddings_and_what_is_tied_to_them_stay_whole() -> None:
    model = tiny_decoder()
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    names = set(select_weights(model, "non-embedding"))
    assert not {name for name in names if "embed" in name or "lm_head" in name}
    apply_masks(model, magnitude_masks(model, 0.9))
    assert int((model.lm_head.weight == 0).sum()) <= 16, "only the row of the padding token is zero"


def test_a_tied_tensor_has_one_mask() -> None:
    model = tiny_decoder()
    masks = magnitude_masks(model, 0.5, of="all")
    assert [name for name in masks if "embed_tokens" in name or "lm_head" in name] == [
        "model.decoder.embed_tokens.weight"
    ]
    assert any("embed_positions" in name for name in masks)
    apply_masks(model, masks)
    assert torch.equal(model.lm_head.weight == 0, model.model.decoder.embed_tokens.weight == 0)


@pytest.mark.parametrize("of", ["all", "non-embedding", "encoder.*"])
def test_biases_and_norms_are_never_selected(of: str) -> None:
    swin = DonutSwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2)
    model = DonutSwinModel(swin)
    names = set(select_weights(model, of))
    assert names
    assert "encoder.layers.0.blocks.0.attention.self.relative_position_bias_table" in dict(model.named_parameters())
    assert not {name for name in names if "bias" in name or "norm" in name}


def test_a_glob_selects_by_parameter_name() -> None:
    assert set(select_weights(network([3, 3, 3, 3]), "[12].*")) == {"1.weight", "2.weight"}


def test_a_pattern_that_selects_nothing_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"'model\.decoder\.layers\.0\.fc1\.weigth'.*model\.decoder\.layers\.0\.fc1\.weight"
    ):
        magnitude_masks(tiny_decoder(), 0.5, of="model.decoder.layers.0.fc1.weigth")


def test_a_model_of_embeddings_alone_has_nothing_to_prune() -> None:
    with pytest.raises(UserError, match="nothing to prune"):
        magnitude_masks(nn.Embedding(4, 4), 0.5)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(UserError, match="at least 0 and below 1"):
        magnitude_masks(network([3, 3]), sparsity)


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = network([3, 3])
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"0\.weight"):
        magnitude_masks(model, 0.5)
