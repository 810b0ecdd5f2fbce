"""What a Donut's encoder sees of a page: its own numbers, in fewer steps.

Swin's blocks attend within windows, every second time shifted by half a window (Liu et al. 2021, arXiv 2103.14030, section 3.2). The
network rolls the page, cuts it into windows, puts it together and rolls it back in each block; all else in a block is done patch by patch,
whatever their order. So here patches stay in the order of the windows, and are moved once where the windows change. Queries, keys and
values come from one product, and attention keeps no scores. Windows at the page's edge, which alone hide something, stand last:
the others need no mask.

A block whose windows do not fill its patches pads them, and a merger of pairs those of an odd side; there the network's own modules are asked, on
patches row by row, and all others keep to the order of the windows.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

_HIDDEN = -100.0
"""What is added to scores of patches that are hidden, as in the network."""


class Layout(NamedTuple):
    """An order of a page's patches: windows of ``window`` × ``window`` patches shifted by ``shift``; 1 is row by row, 0 as merged for the next stage."""

    window: int
    shift: int = 0


_ROWS, _MERGED = Layout(1), Layout(0)


def seen(network: Any, pixels: Tensor) -> Tensor:
    """What the encoder says of pages, as ``network.encoder(pixels).last_hidden_state``, up to rounding.

    Args:
        network: a Donut, in eval mode.
        pixels: ``(B, 3, H, W)``, of any size that the network takes.

    Returns:
        ``(B, S, D)``.
    """
    encoder = network.encoder
    states, (height, width) = encoder.embeddings(pixels)
    layout = _ROWS
    for stage in encoder.encoder.layers:
        for block in stage.blocks:
            states, layout = _passed(block, states, height, width, layout)
        if stage.downsample is not None:
            states = _merged(stage.downsample, states, height, width, layout)
            layout, height, width = _ROWS, -(-height // 2), -(-width // 2)
    return _moved(states, height, width, layout, _ROWS)


def _passed(block: Any, states: Tensor, height: int, width: int, layout: Layout) -> tuple[Tensor, Layout]:
    """What a block makes of patches ``(B, N, C)``, and the order that they then stand in."""
    block.set_shift_and_window_size((height, width))  # of pages smaller than a window
    new = Layout(int(block.window_size), int(block.shift_size))
    if height % new.window or width % new.window:
        return block(_moved(states, height, width, layout, _ROWS), (height, width))[0], _ROWS
    states = _moved(states, height, width, layout, new)
    states = states + _attended(block, states, height, width, new)
    return states + block.output(block.intermediate(block.layernorm_after(states))), new


def _merged(downsample: Any, states: Tensor, height: int, width: int, layout: Layout) -> Tensor:
    """Pairs of pairs of patches ``(B, N, C)`` as one each for the next stage, ``(B, M, 2 · C)`` row by row."""
    if height % 2 or width % 2:
        padded: Tensor = downsample(_moved(states, height, width, layout, _ROWS), (height, width))
        return padded
    four = _moved(states, height, width, layout, _MERGED).view(len(states), height * width // 4, -1)
    merged: Tensor = downsample.reduction(downsample.norm(four))
    return merged


def _attended(block: Any, states: Tensor, height: int, width: int, layout: Layout) -> Tensor:
    """What a block's patches ``(B, N, C)``, window by window, find in their windows."""
    own, (pages, patches, channels), size = block.attention.self, states.shape, layout.window**2
    heads = own.num_attention_heads
    joined = own.query, own.key, own.value
    bias = None if own.query.bias is None else torch.cat([part.bias for part in joined])
    asked = linear(block.layernorm_before(states), torch.cat([part.weight for part in joined]), bias)
    asked = asked.view(pages, patches // size, size, 3, heads, -1)
    near = own.relative_position_bias_table[own.relative_position_index.view(-1)]
    near = near.view(size, size, heads).permute(2, 0, 1)[None].contiguous()
    hidden = _hidden(height, width, layout, states.device)
    inner = asked.shape[1] - len(hidden)
    found = [_within(asked[:, :inner], near)]
    if len(hidden):
        found.append(_within(asked[:, inner:], (near + hidden[:, None].to(near.dtype)).repeat(pages, 1, 1, 1)))
    answered: Tensor = block.attention.output.dense(torch.cat(found, dim=1).view(pages, patches, channels))
    return answered


def _within(asked: Tensor, near: Tensor) -> Tensor:
    """Attention within windows: of ``(B, windows, patches, 3, heads, width)`` to ``(B, windows, patches, heads · width)``."""
    pages, windows, patches = asked.shape[:3]
    query, key, value = asked.flatten(0, 1).permute(2, 0, 3, 1, 4).unbind()
    found = scaled_dot_product_attention(query, key, value, attn_mask=near)
    return found.transpose(1, 2).reshape(pages, windows, patches, -1)


def _moved(states: Tensor, height: int, width: int, old: Layout, new: Layout) -> Tensor:
    """Patches ``(B, N, C)`` in another order."""
    move = _move(height, width, old, new, states.device)
    return states if move is None else states.index_select(1, move)


@functools.lru_cache(maxsize=64)
def _move(height: int, width: int, old: Layout, new: Layout, device: torch.device) -> Tensor | None:
    """Where each patch of the new order stood in the old; None if they are the same."""
    with torch.inference_mode(False):  # kept for whoever comes next
        before, after = _order(height, width, old), _order(height, width, new)
        return None if torch.equal(before, after) else before.argsort()[after].to(device)


def _order(height: int, width: int, layout: Layout) -> Tensor:
    """``(height · width,)``: the place, row by row, of each patch."""
    places = torch.arange(height * width).view(height, width)
    if layout == _MERGED:
        return torch.stack([places[row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1).flatten()
    return _windows(places, layout).flatten()


def _windows(page: Tensor, layout: Layout) -> Tensor:
    """``(windows, patches)`` of a page ``(height, width)``, those at its lower and right edge last if windows are shifted."""
    window, shift = layout
    rows, columns = page.shape[0] // window, page.shape[1] // window
    found = page.roll((-shift, -shift), dims=(0, 1)).view(rows, window, columns, window).transpose(1, 2)
    found = found.reshape(rows, columns, window * window)
    if not shift:
        return found.flatten(0, 1)
    return torch.cat([found[:-1, :-1].flatten(0, 1), found[:-1, -1], found[-1]])


@functools.lru_cache(maxsize=64)
def _hidden(height: int, width: int, layout: Layout, device: torch.device) -> Tensor:
    """``(windows, patches, patches)`` of the windows at the edge: rolled there, patches of other sides of the page do not see each other."""
    window, shift = layout
    with torch.inference_mode(False):
        if not shift:
            return torch.zeros(0, window**2, window**2, device=device)
        below = (torch.arange(height) < shift).long()[:, None]
        right = (torch.arange(width) < shift).long()[None]
        sides = _windows(2 * below + right, layout)[-(height + width) // window + 1 :]
        return (sides[:, :, None] != sides[:, None]).float().mul(_HIDDEN).to(device)
