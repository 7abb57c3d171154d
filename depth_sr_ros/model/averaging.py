# SPDX-License-Identifier: Apache-2.0
"""Means over squares of a map."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

# Variance of a normalised guide within a square below which it says nothing of the shapes there.
_FLAT_GUIDE = 1e-4
# More than a frame needs, and few of them are as large as a megabyte.
_CONSTANTS = 64
_BORROWED: contextvars.ContextVar[list[Tensor] | None] = contextvars.ContextVar('_BORROWED')


@contextlib.contextmanager
def borrowed_constants() -> Iterator[list[Tensor]]:
    """Collect what `made_once` hands out meanwhile.

    A recorded CUDA graph reads it at every replay, also when it is not kept here any more: whoever
    has the graph has to hold it.
    """
    borrowed: list[Tensor] = []
    token = _BORROWED.set(borrowed)
    try:
        yield borrowed
    finally:
        _BORROWED.reset(token)


def made_once(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`build` for arguments that come again with every frame: what it returns is never written to.

    What is there before a CUDA graph is recorded is no work in it.
    """

    # Every stream has its own: others would not wait until it is made, nor until it was read.
    @functools.lru_cache(maxsize=_CONSTANTS)
    def kept(_stream, *arguments, **options) -> Tensor:
        # Training may meet again what inference made.
        with torch.inference_mode(False), torch.no_grad():
            return build(*arguments, **options)

    @functools.wraps(build)
    def given(*arguments, **options) -> Tensor:
        if torch.compiler.is_compiling():
            return build(*arguments, **options)
        stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
        constant = kept(stream, *arguments, **options)
        borrowed = _BORROWED.get(None)
        if borrowed is not None:
            borrowed.append(constant)
        return constant

    return given


def full_precision(tensor: Tensor) -> contextlib.AbstractContextManager:
    """No autocast: half precision would round away differences of millimetres."""
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def pad_to_multiple(image: Tensor, multiple: int, mode: str = 'constant') -> Tensor:
    """Pad (B, C, h, w) at the right and the bottom: with zeros, or in another mode of torch's."""
    height, width = image.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    # Padding by nothing copies.
    return functional.pad(image, (0, right, 0, bottom), mode) if right or bottom else image


@made_once
def averaging_matrix(count: int, length: int, device: torch.device | None = None) -> Tensor:
    """(count, length): the mean of `length` pixels over each of `count` equal cells."""
    cell = length / count
    cells = torch.arange(float(count), device=device)[:, None] * cell
    pixels = torch.arange(float(length), device=device)[None]
    overlap = torch.minimum(cells + cell, pixels + 1.0) - torch.maximum(cells, pixels)
    return overlap.clamp_min(0.0) / cell


@made_once
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


class _Squares:
    """Squares of about `size` pixels that tile a map of `shape`."""

    def __init__(self, shape: torch.Size, size: float, device: torch.device):
        sizes = [(max(2, round(length / size)), length) for length in shape[-2:]]
        self._average = [averaging_matrix(n, m, device) for n, m in sizes]
        self._spread = [spreading_matrix(n, m, device, beyond=True) for n, m in sizes]

    def mean(self, image: Tensor) -> Tensor:
        """Over each square: (B, 1, H, W) -> (B, 1, n, m)."""
        return self._average[0] @ image @ self._average[1].T

    def spread(self, values: Tensor) -> Tensor:
        """Linear between the squares' centres and beyond: (B, 1, n, m) -> (B, 1, H, W)."""
        return self._spread[0] @ (values @ self._spread[1].T)


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
    squares = _Squares(interpolated.shape, size, interpolated.device)
    with full_precision(inverse):
        means = squares.mean(inverse)
        smooth = squares.spread(means)
    # Beyond the outer centres a steep line can reach zero.
    return 1.0 / torch.maximum(smooth, 0.5 * means.amin(dim=(-2, -1), keepdim=True))


def softened(interpolated: Tensor, size: int) -> Tensor:
    """A map with wide edges instead of ragged ones: means of inverse depth around each pixel.

    Args:
        interpolated: float32 (B, 1, H, W), metres, without holes.
        size: side of the square around a pixel, pixels; odd.

    Returns:
        float32 (B, 1, H, W), metres.
    """
    inverse = 1.0 / interpolated.clamp_min(torch.finfo(torch.float32).tiny)
    return 1.0 / functional.avg_pool2d(
        inverse, size, stride=1, padding=size // 2, count_include_pad=False
    )


def fitted(interpolated: Tensor, relative: Tensor, size: float) -> Tensor:
    """The guide's shapes at the measured depths: a guided filter (He et al., ECCV 2010).

    In squares, inverse depth as a linear function of the guide by least squares; the two
    coefficients are linear between the centres of squares. What is wrong with a guide's scale,
    offset and large shapes does not matter then, and neither does the measurements' noise.

    Args:
        interpolated: float32 (B, 1, H, W), metres, without holes.
        relative: float32 (B, 1, H, W), relative inverse depth, normalised; all zero for no guide.
        size: side of a square, pixels.

    Returns:
        float32 (B, 1, H, W), metres; `interpolated` where there is no guide.
    """
    inverse = 1.0 / interpolated.clamp_min(torch.finfo(torch.float32).tiny)
    squares = _Squares(interpolated.shape, size, interpolated.device)
    with full_precision(inverse):
        guide, mean = squares.mean(relative), squares.mean(inverse)
        variance = (squares.mean(relative * relative) - guide * guide).clamp_min(0.0)
        covariance = squares.mean(relative * inverse) - guide * mean
        slope = covariance / (variance + _FLAT_GUIDE)
        fit = squares.spread(slope) * relative + squares.spread(mean - slope * guide)
    fit = 1.0 / torch.maximum(fit, 0.5 * inverse.amin(dim=(-2, -1), keepdim=True))
    return torch.where(relative.abs().amax(dim=(-2, -1), keepdim=True) > 0, fit, interpolated)
