# SPDX-License-Identifier: Apache-2.0
"""Means over squares of a map, as products with two matrices: of any size in pixels."""

import contextlib

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> contextlib.AbstractContextManager:
    """No autocast: half precision would round away differences of millimetres."""
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def averaging_matrix(count: int, length: int, device: torch.device | None = None) -> Tensor:
    """(count, length): the mean of `length` pixels over each of `count` equal cells."""
    cell = length / count
    cells = torch.arange(float(count), device=device)[:, None] * cell
    pixels = torch.arange(float(length), device=device)[None]
    overlap = torch.minimum(cells + cell, pixels + 1.0) - torch.maximum(cells, pixels)
    return overlap.clamp_min(0.0) / cell


def spreading_matrix(
    count: int, length: int, device: torch.device | None = None, *, beyond: bool
) -> Tensor:
    """(length, count): linear between the centres of equal cells.

    beyond: whether the line goes on beyond the outer centres; else the outer cells' values hold.
    """
    place = (torch.arange(float(length), device=device)[:, None] + 0.5) * (count / length) - 0.5
    if not beyond:
        place = place.clamp(0.0, count - 1.0)
    left = place.floor().clamp(0.0, max(0.0, count - 2.0))
    cells = torch.arange(float(count), device=device)[None]
    return (1.0 - (place - left)) * (cells == left) + (place - left) * (cells == left + 1.0)


def smoothed(interpolated: Tensor, size: float) -> Tensor:
    """What remains of a map without its noise, and without everything else that is small.

    Means over squares of inverse depth, linear between their centres: planes stay as they are.

    Args:
        interpolated: float32 (B, 1, H, W), metres, without holes.
        size: side of a square, pixels.

    Returns:
        float32 (B, 1, H, W), metres.
    """
    inverse = 1.0 / interpolated.clamp_min(torch.finfo(torch.float32).tiny)
    counts = [max(2, round(length / size)) for length in interpolated.shape[-2:]]
    sizes = list(zip(counts, interpolated.shape[-2:], strict=True))
    average = [averaging_matrix(n, m, inverse.device) for n, m in sizes]
    spread = [spreading_matrix(n, m, inverse.device, beyond=True) for n, m in sizes]
    with full_precision(inverse):
        means = average[0] @ inverse @ average[1].T
        smooth = spread[0] @ (means @ spread[1].T)
    # Beyond the outer centres a steep line can reach zero.
    smooth = torch.maximum(smooth, 0.5 * means.amin(dim=(-2, -1), keepdim=True))
    return 1.0 / smooth
