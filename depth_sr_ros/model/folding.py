# SPDX-License-Identifier: Apache-2.0
"""The same network with fewer operations, for runtimes that execute a graph of fixed size.

Scales and shifts before or behind a convolution move into its weights, convolutions whose output
is cut in two become two, and pooling over windows becomes two matrix products. Results differ by
rounding only; nothing of it can be trained.
"""

from __future__ import annotations

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
    """`Windows` as products with constant matrices, for maps of the sizes that come by.

    A graph runtime has few kernels for padded pooling and for resizing, and all have fast ones for
    matrices. Tracing turns the matrices into constants.
    """

    def sum(self, values: Tensor) -> Tensor:
        """As Windows.sum."""
        height, width = (int(side) for side in values.shape[-2:])
        single = self._is_single(height, width)
        return self._sums(height, single) @ values @ self._sums(width, single).T

    def spread(self, coarse: Tensor, features: Tensor) -> Tensor:
        """As Windows.spread."""
        if self._is_single(*(int(side) for side in features.shape[-2:])) or self.step == 1:
            return coarse
        rows, columns = (self._spreading(int(side)) for side in features.shape[-2:])
        return rows @ coarse @ columns.T

    def _is_single(self, height: int, width: int) -> bool:
        """Whether one window holds all."""
        return max(height, width) <= self.step * max(1, self.window // self.step)

    def _sums(self, length: int, single: bool) -> Tensor:
        """(m, length): what `Windows.sum` does along one axis."""
        cells = -(-length // self.step)
        kernel = min(max(1, self.window // self.step), cells)
        starts = np.arange(cells - kernel + 1)
        if not single:
            starts = (np.arange(cells) - (kernel - 1) // 2).clip(0, cells - kernel)
        distance = np.arange(length) // self.step - starts[:, None]
        inside = (distance >= 0) & (distance < kernel)
        # From numpy, so that tracing sees a constant.
        return torch.from_numpy(inside.astype(np.float32) / (kernel * self.step))

    def _spreading(self, length: int) -> Tensor:
        """(length, m): what `Windows.spread` does along one axis."""
        cells = np.arange(-(-length // self.step))
        places = (np.arange(length) + 0.5) / self.step - 0.5
        weights = (1.0 - np.abs(places.clip(0, cells[-1])[:, None] - cells)).clip(0.0)
        return torch.from_numpy(weights.astype(np.float32))


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
        self.windows = MatrixWindows(block.windows.window)
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


@torch.no_grad()
def fold(fusion: FusionUNet) -> FusionUNet:
    """Fold a float32 network in place and return it."""
    fusion.windows = [MatrixWindows(windows.window) for windows in fusion.windows]
    for module in list(fusion.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NAFBlock):
                setattr(module, name, FoldedNAFBlock(child))
            elif isinstance(getattr(child, 'windows', None), Windows):
                child.windows = MatrixWindows(child.windows.window)
    return fusion
