# SPDX-License-Identifier: Apache-2.0
"""The same network with fewer operations, for runtimes that execute a graph of fixed size.

Scales and shifts before or behind a convolution move into its weights, convolutions whose output
is cut in two become two, pooling over windows ends in two matrix products, and outputs that nobody
looks at are not computed. Results differ by rounding only; nothing of it can be trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from depth_sr_ros.model.fusion_unet import (
    _EPSILON,
    FusionUNet,
    LayerNorm2d,
    NAFBlock,
    StageWeights,
    Windows,
)


class MatrixWindows(Windows):
    """`Windows` with products of constant matrices in the place of padded pooling.

    A graph runtime has no fast kernel for that, and all have one for matrices. Tracing turns the
    matrices into constants.
    """

    @classmethod
    def like(cls, windows: Windows) -> MatrixWindows:
        """The same windows."""
        return cls(windows.window, windows.multiple)

    def _window_means(self, cells: Tensor) -> Tensor:
        height, width = (int(length) for length in cells.shape[-2:])
        single = max(height, width) <= self.side
        return self._means(height, single) @ cells @ self._means(width, single).T

    def _means(self, length: int, single: bool) -> Tensor:
        """(m, length): the means of the windows along one axis."""
        kernel = min(self.side, length)
        starts = np.arange(length - kernel + 1)
        if not single:
            starts = (np.arange(length) - (kernel - 1) // 2).clip(0, length - kernel)
        distance = np.arange(length) - starts[:, None]
        inside = (distance >= 0) & (distance < kernel)
        # From numpy, so that tracing sees a constant.
        return torch.from_numpy(inside.astype(np.float32) / kernel)


class FoldedNorm(nn.Module):
    """Divide the features of each pixel by their standard deviation.

    What else a layer normalisation does is linear and folded into the convolution behind it.
    """

    def __init__(self, channels: int):
        super().__init__()
        # A mean over channels as a product with one row: reductions over the channels are slow.
        self.register_buffer('averager', torch.full((1, channels), 1.0 / channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        flat = features.flatten(2)
        mean = self.averager @ flat
        variance = (self.averager @ (flat * flat) - mean * mean).clamp_min(0.0)
        return (flat * torch.rsqrt(variance + _EPSILON)).view(features.shape)


def _convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    depthwise = like.groups > 1
    result = nn.Conv2d(
        weight.shape[0] if depthwise else weight.shape[1],
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]
        padding=like.padding,  # type: ignore[arg-type]
        groups=weight.shape[0] if depthwise else 1,
    )
    result.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    result.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return result


def _halves(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.ModuleList:
    parts = zip(weight.chunk(2), bias.chunk(2), strict=True)
    return nn.ModuleList(_convolution(convolution, *part) for part in parts)


def _halves_behind(norm: LayerNorm2d, convolution: nn.Conv2d) -> nn.ModuleList:
    """The two halves of a 1x1 convolution, with the affine part and the centring of `norm`."""
    weight = convolution.weight * norm.weight[None, :, None, None]
    bias = convolution.bias + convolution.weight[:, :, 0, 0] @ norm.bias
    return _halves(convolution, weight - weight.mean(dim=1, keepdim=True), bias)


def _scaled(convolution: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """A convolution whose output is multiplied by `scale` (1, C, 1, 1)."""
    scale = scale.flatten()
    weight = convolution.weight * scale[:, None, None, None]
    return _convolution(convolution, weight, convolution.bias * scale)


class FoldedNAFBlock(nn.Module):
    """What a NAFBlock computes."""

    def __init__(self, block: NAFBlock):
        super().__init__()
        self.windows = MatrixWindows.like(block.windows)
        self.norm = FoldedNorm(block.project.in_channels)
        self.expand = _halves_behind(block.norm1, block.expand)
        depthwise = block.depthwise
        self.depthwise = _halves(depthwise, depthwise.weight, depthwise.bias)
        self.attention = block.attention
        self.project = _scaled(block.project, block.beta)
        self.feed_forward_in = _halves_behind(block.norm2, block.feed_forward_in)
        self.feed_forward_out = _scaled(block.feed_forward_out, block.gamma)

    def forward(self, features: Tensor, weights: StageWeights) -> Tensor:
        """As NAFBlock.forward."""
        normalised = self.norm(features)
        first, second = (
            depthwise(expand(normalised))
            for expand, depthwise in zip(self.expand, self.depthwise, strict=True)
        )
        hidden = first * second
        attention = self.attention(weights.mean(hidden, self.windows))
        hidden = hidden * self.windows.spread(attention, hidden)
        features = features + self.project(hidden)
        normalised = self.norm(features)
        first, second = (convolution(normalised) for convolution in self.feed_forward_in)
        return features + self.feed_forward_out(first * second)


def _only(convolution: nn.Conv2d, heads: list[int], count: int) -> nn.Conv2d:
    """The convolution before a pixel-shuffle of `count` channels, for some of those alone."""
    weight = convolution.weight.unflatten(0, (count, -1))[heads].flatten(0, 1)
    bias = convolution.bias.view(count, -1)[heads].flatten()
    return _convolution(convolution, weight, bias)


@torch.no_grad()
def fold(fusion: FusionUNet, heads: Sequence[str] | None = None) -> FusionUNet:
    """Fold a float32 network in place and return it.

    Args:
        fusion: the network.
        heads: which of its outputs are wanted, in the order that they have; None for all.
    """
    if heads is not None:
        kept = [fusion.heads.index(name) for name in heads]
        ends = [fusion.head] if fusion.detail is None else [fusion.head, fusion.detail.head]
        for end in ends:
            end[0] = _only(end[0], kept, len(fusion.heads))
        fusion.heads = tuple(heads)
    fusion.windows = [MatrixWindows.like(windows) for windows in fusion.windows]
    for module in list(fusion.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NAFBlock):
                setattr(module, name, FoldedNAFBlock(child))
            elif isinstance(getattr(child, 'windows', None), Windows):
                child.windows = MatrixWindows.like(child.windows)
    return fusion
