# SPDX-License-Identifier: Apache-2.0
"""The fused NAFNet / AdaIN U-Net of the seed. Read from the bottom of the network up.

Two encoders of NAFNet blocks (Chen et al., Simple Baselines for Image Restoration, ECCV 2022), one
for relative depth and one for the low-resolution depth; at every stage adaptive instance
normalisation (Huang and Belongie, ICCV 2017) gives the features of relative depth the statistics
of those of the measured depth; a decoder with skips. Statistics are pooled over windows of the
training size (TLC: Chu et al., ECCV 2022), so that a crop and a 1080p frame mean the same.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_sr_ros.model.config import ENCODER_STAGES, FusionUNetConfig
from depth_sr_ros.model.repetition import RUN_LENGTHS

RELATIVE_CHANNELS = 4  # relative depth, RGB

# Windows move in steps of an eighth of their side, or less.
_STEPS = 8
# With fewer valid cells than this in its window, AdaIN takes the statistics of the filled map.
_MINIMUM_VALID_CELLS = 16.0
_EPSILON = 1e-5


class Windows:
    """The pooling windows of one stage, on a grid at least eight times finer than they are.

    Args:
        window: side of a window in cells; windows at the image's border are moved inside it.
        multiple: power of two that divides the sides of all maps of the stage.
    """

    def __init__(self, window: int, multiple: int):
        self.window = window
        self.multiple = multiple
        self.step = 1
        while 2 * self.step <= min(multiple, window // _STEPS):
            self.step *= 2

    @property
    def side(self) -> int:
        """Of a window, on the grid."""
        return max(1, self.window // self.step)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the windows, up to a constant factor.

        Args:
            values: (B, C, h, w).

        Returns:
            (B, C, m, n) of the same type; (B, C, 1, 1) when one window holds all.
        """
        return self._window_means(self._grid(values))

    def spread(self, coarse: Tensor, features: Tensor) -> Tensor:
        """Bring a map from the grid of `sum` to that of `features` (B, C, h, w)."""
        if self.step == 1 or max(features.shape[-2:]) <= self.step * self.side:
            return coarse
        return functional.interpolate(
            coarse, scale_factor=self.step, mode='bilinear', align_corners=False
        )

    def _grid(self, values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, self.step) if self.step > 1 else values

    def _window_means(self, cells: Tensor) -> Tensor:
        height, width = cells.shape[-2:]
        kernel = (min(self.side, height), min(self.side, width))
        sums = functional.avg_pool2d(cells, kernel, stride=1)
        if sums.shape[-2:] == (1, 1):
            return sums
        top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        padding = (left, kernel[1] - 1 - left, top, kernel[0] - 1 - top)
        return functional.pad(sums, padding, mode='replicate')


class StageWeights(NamedTuple):
    """What counts in the statistics of one stage; float32.

    Attributes:
        inside: (B, 1, h, w), the share of each cell that lies in the image and not in its padding;
            None where there is no padding, so that it is 1 everywhere.
        valid: (B, 1, h, w), the share of each cell that was measured.
        total: (B, 1, m, n), the sum of `inside` over the windows of the stage; None where it is 1
            everywhere.
    """

    inside: Tensor | None
    valid: Tensor
    total: Tensor | None

    @classmethod
    def of(cls, inside: Tensor | None, valid: Tensor, windows: Windows) -> StageWeights:
        """From the maps at the stage's resolution."""
        if inside is None:
            return cls(None, valid, None)
        return cls(inside, valid, windows.sum(inside).clamp_min(_EPSILON))

    @classmethod
    def pooled(
        cls, inside: Tensor | None, valid: Tensor, factor: int, windows: Windows
    ) -> StageWeights:
        """From the maps at a resolution that is `factor` times finer."""
        if inside is not None:
            inside = functional.avg_pool2d(inside, factor)
        return cls.of(inside, functional.avg_pool2d(valid, factor), windows)

    def mean(self, values: Tensor, windows: Windows) -> Tensor:
        """Mean of (B, C, h, w) over the windows, of what lies in the image: (B, C, m, n)."""
        if self.inside is not None:
            values = values * self.inside.to(values.dtype)
        sums = windows.sum(values)
        return sums if self.total is None else sums / self.total


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel of (B, C, h, w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        # In channels_last memory both permutations are free.
        features = features.permute(0, 2, 3, 1)
        features = functional.layer_norm(
            features, self.weight.shape, self.weight, self.bias, _EPSILON
        )
        return features.permute(0, 3, 1, 2)


def simple_gate(features: Tensor) -> Tensor:
    """Product of the two halves of the channels."""
    first, second = features.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """Nonlinear-activation-free block with channel attention pooled over windows.

    Args:
        channels: of input and output.
        windows: of the attention.
    """

    def __init__(self, channels: int, windows: Windows):
        super().__init__()
        self.windows = windows
        self.norm1 = LayerNorm2d(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.feed_forward_in = nn.Conv2d(channels, 2 * channels, 1)
        self.feed_forward_out = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor, weights: StageWeights) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        hidden = simple_gate(self.depthwise(self.expand(self.norm1(features))))
        attention = self.attention(weights.mean(hidden, self.windows).to(hidden.dtype))
        hidden = self.project(hidden * self.windows.spread(attention, hidden))
        features = torch.addcmul(features, hidden, self.beta)
        hidden = simple_gate(self.feed_forward_in(self.norm2(features)))
        return torch.addcmul(features, self.feed_forward_out(hidden), self.gamma)


class AdaptiveInstanceNorm(nn.Module):
    """AdaIN: sigma_lr * (F_rel - mu_rel) / sigma_rel + mu_lr, by windows and by validity.

    Args:
        windows: of this stage.
    """

    def __init__(self, windows: Windows):
        super().__init__()
        self.windows = windows

    def statistics(self, features: Tensor, weights: StageWeights) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by window; float32 whatever comes in."""
        features = features.float()
        mean = weights.mean(features, self.windows)
        square = weights.mean(features.square(), self.windows)
        return mean, (square - mean.square()).clamp_min(0.0).add(_EPSILON).sqrt()

    def forward(self, relative: Tensor, low_resolution: Tensor, weights: StageWeights) -> Tensor:
        """Two feature maps (B, C, h, w) -> the first with the statistics of the second."""
        valid = (weights.valid > 0).float()
        inside = torch.ones_like(valid) if weights.inside is None else weights.inside
        valid = valid * inside
        cells = self.windows.sum(valid) * float(self.windows.window**2)
        enough = self.windows.spread((cells >= _MINIMUM_VALID_CELLS).float(), relative)
        counted = torch.lerp(inside, valid, enough.expand_as(valid))
        measured = StageWeights.of(counted, weights.valid, self.windows)
        relative_mean, relative_deviation = self.statistics(relative, weights)
        mean, deviation = self.statistics(low_resolution, measured)
        scale = deviation / relative_deviation
        shift = mean - relative_mean * scale
        scale = self.windows.spread(scale, relative)
        shift = self.windows.spread(shift, relative)
        return (relative.float() * scale + shift).to(relative.dtype)


def of_last_channels(convolution: nn.Conv2d, image: Tensor) -> Tensor:
    """`convolution` of an image whose first channels are left out, being zero."""
    absent = convolution.in_channels - image.shape[1]
    if not absent:
        return convolution(image)
    weight = convolution.weight[:, absent:]
    return functional.conv2d(image, weight, convolution.bias, stride=convolution.stride)


class Encoder(nn.Module):
    """One of the two paths: four stages that each start by downsampling."""

    def __init__(self, in_channels: int, config: FusionUNetConfig, windows: list[Windows]):
        super().__init__()
        widths = config.widths
        # A convolution of stride and size `stem` is a pixel-unshuffle and a 1x1 convolution.
        steps = [nn.Conv2d(in_channels, widths[0], config.stem, stride=config.stem)]
        steps += [nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths)]
        self.downsample = nn.ModuleList(steps)
        self.stages = nn.ModuleList(
            nn.ModuleList(NAFBlock(width, window) for _ in range(count))
            for width, window, count in zip(widths, windows, config.encoder_blocks, strict=True)
        )

    def forward(
        self, image: Tensor, weights: list[StageWeights], shift: Tensor | None = None
    ) -> list[Tensor]:
        """(B, in_channels, H, W) -> the features of the four stages, finest first.

        Leading channels of the image that are zero may be left out. `shift`, (B, C, 1, 1), is added
        to what the blocks of the first stage start from.
        """
        features: list[Tensor] = []
        hidden = image
        for downsample, blocks, weight in zip(self.downsample, self.stages, weights, strict=True):
            hidden = of_last_channels(downsample, hidden)
            if shift is not None and not features:
                hidden = hidden + shift
            for block in blocks:
                hidden = block(hidden, weight)
            features.append(hidden)
        return features


class Fusion(nn.Module):
    """Fuse the two paths at one stage: [AdaIN(F_rel, F_lr), F_lr].

    AdaIN keeps only the statistics of F_lr; its spatial content passes beside it.
    """

    def __init__(self, channels: int, windows: Windows):
        super().__init__()
        self.adaptive_norm = AdaptiveInstanceNorm(windows)
        self.mix = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, relative: Tensor, low_resolution: Tensor, weights: StageWeights) -> Tensor:
        """Two (B, C, h, w) -> (B, C, h, w)."""
        aligned = self.adaptive_norm(relative, low_resolution, weights)
        return self.mix(torch.cat([aligned, low_resolution], dim=1))


class Decoder(nn.Module):
    """From the deepest fused map back to the first stage's resolution, adding the skips."""

    def __init__(self, config: FusionUNetConfig, windows: list[Windows]):
        super().__init__()
        widths = config.widths
        self.middle = nn.ModuleList(
            NAFBlock(widths[-1], windows[-1]) for _ in range(config.middle_blocks)
        )
        self.upsample = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
            for fine, coarse in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(NAFBlock(width, window) for _ in range(count))
            for width, window, count in zip(widths, windows, config.decoder_blocks, strict=True)
        )

    def forward(self, skips: list[Tensor], weights: list[StageWeights]) -> Tensor:
        """The fused maps, finest first -> (B, widths[0], H / stem, W / stem)."""
        hidden = skips[-1]
        for block in self.middle:
            hidden = block(hidden, weights[-1])
        for stage in reversed(range(ENCODER_STAGES)):
            if stage < ENCODER_STAGES - 1:
                hidden = self.upsample[stage](hidden) + skips[stage]
            for block in self.stages[stage]:
                hidden = block(hidden, weights[stage])
        return hidden


class DetailHead(nn.Module):
    """What the first stage's cells are too coarse for, at half resolution; zero-initialised.

    Pixels of the inputs meet the decoded features again, so that an edge need not pass through
    the few channels of a cell of stem x stem pixels.
    """

    def __init__(self, config: FusionUNetConfig):
        super().__init__()
        width = config.detail_width
        self.pixels = nn.Conv2d(1 + config.low_resolution_channels, width, 2, stride=2)
        factor = config.stem // 2
        self.features = nn.Sequential(
            nn.Conv2d(config.widths[0], width * factor**2, 1), nn.PixelShuffle(factor)
        )
        windows = Windows(config.training_size // 2, config.total_stride // 2)
        self.block = NAFBlock(width, windows)
        # Weights made when there was one know it by its name.
        self.further_blocks = nn.ModuleList(
            NAFBlock(width, windows) for _ in range(config.detail_blocks - 1)
        )
        self.head = nn.Sequential(
            nn.Conv2d(width, len(config.heads) * 4, 3, padding=1), nn.PixelShuffle(2)
        )
        nn.init.zeros_(self.head[0].weight)
        nn.init.zeros_(self.head[0].bias)

    def forward(
        self,
        decoded: Tensor,
        pixels: Tensor,
        inside: Tensor | None,
        valid: Tensor,
        shift: Tensor | None = None,
    ) -> Tensor:
        """Decoded (B, C, H / stem, W / stem), pixels (B, 1 + C, H, W), masks (B, 1, H, W) ->
        (B, heads, H, W). Without a guide its channel of the pixels, the first, may be left out."""
        hidden = of_last_channels(self.pixels, pixels) + self.features(decoded)
        if shift is not None:
            hidden = hidden + shift
        weights = StageWeights.pooled(inside, valid, 2, self.block.windows)
        hidden = self.block(hidden, weights)
        for block in self.further_blocks:
            hidden = block(hidden, weights)
        return self.head(hidden)


class FusionUNet(nn.Module):
    """The whole fusion network: inputs and outputs at full resolution.

    Zero-initialised at its end: untrained, every output is exactly zero.
    """

    def __init__(self, config: FusionUNetConfig):
        super().__init__()
        self.config = config
        #: What the outputs are, in their order.
        self.heads = config.heads
        strides = [config.stem * 2**stage for stage in range(ENCODER_STAGES)]
        self.windows = windows = [
            Windows(max(1, config.training_size // stride), config.total_stride // stride)
            for stride in strides
        ]
        self.relative_encoder = Encoder(RELATIVE_CHANNELS, config, windows)
        self.low_resolution_encoder = Encoder(config.low_resolution_channels, config, windows)
        self.fusions = nn.ModuleList(
            Fusion(width, window) for width, window in zip(config.widths, windows, strict=True)
        )
        self.decoder = Decoder(config, windows)
        self.head = nn.Sequential(
            nn.Conv2d(config.widths[0], len(config.heads) * config.stem**2, 3, padding=1),
            nn.PixelShuffle(config.stem),
        )
        nn.init.zeros_(self.head[0].weight)
        nn.init.zeros_(self.head[0].bias)
        self.detail = DetailHead(config) if config.detail_width else None
        #: What a map's repetition adds to the features of the first stage and of the detail head.
        self.repetition: nn.Linear | None = None
        if config.repetition:
            widths = config.widths[0] + config.detail_width
            self.repetition = nn.Linear(len(RUN_LENGTHS), widths, bias=False)
            nn.init.zeros_(self.repetition.weight)

    def stage_weights(self, inside: Tensor | None, valid: Tensor) -> list[StageWeights]:
        """Pool the full-resolution masks, float32 (B, 1, H, W), to each stage."""
        weights = []
        for stage, windows in enumerate(self.windows):
            factor = self.config.stem if stage == 0 else 2
            weights.append(StageWeights.pooled(inside, valid, factor, windows))
            inside, valid = weights[-1].inside, weights[-1].valid
        return weights

    def encode(
        self,
        relative: Tensor,
        low_resolution: Tensor,
        weights: list[StageWeights],
        shift: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Both encoders: the features F_rel and F_lr of the four stages."""
        return (
            self.relative_encoder(relative, weights),
            self.low_resolution_encoder(low_resolution, weights, shift),
        )

    def shifts(self, repetition: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the first stage and the detail head, (B, C, 1, 1) each; or nothing."""
        if self.repetition is None or repetition is None:
            return None, None
        # As far from zero as other inputs are.
        shares = 4.0 * repetition.to(self.repetition.weight.dtype)
        shift = self.repetition(shares)[..., None, None]
        width = self.config.widths[0]
        return shift[:, :width], shift[:, width:]

    def decode(
        self,
        relative_features: list[Tensor],
        low_resolution_features: list[Tensor],
        weights: list[StageWeights],
    ) -> Tensor:
        """Fuse the stages and decode them: (B, widths[0], H / stem, W / stem)."""
        skips = [
            fusion(relative, low_resolution, weight)
            for fusion, relative, low_resolution, weight in zip(
                self.fusions, relative_features, low_resolution_features, weights, strict=True
            )
        ]
        return self.decoder(skips, weights)

    def forward(
        self,
        relative: Tensor,
        low_resolution: Tensor,
        inside: Tensor | None,
        valid: Tensor,
        repetition: Tensor | None = None,
    ) -> Tensor:
        """Predict gate, residual, confidence and whatever else `FusionUNetConfig.heads` names.

        Args:
            relative: (B, 4, H, W): normalised relative depth, RGB; or (B, 3, H, W), RGB alone,
                without a guide.
            low_resolution: (B, C, H, W): see `FusionUNetConfig.low_resolution_channels`.
            inside: float32 (B, 1, H, W): 1 in the image, 0 in its padding; None without padding.
            valid: float32 (B, 1, H, W): 1 where depth was measured.
            repetition: float32 (B, 3), see `run_shares`; None for a map of low resolution.

        Returns:
            (B, len(`heads`), H, W). H and W are multiples of `config.total_stride`.
        """
        weights = self.stage_weights(inside, valid)
        shift, detail_shift = self.shifts(repetition)
        relative_features, low_resolution_features = self.encode(
            relative, low_resolution, weights, shift
        )
        decoded = self.decode(relative_features, low_resolution_features, weights)
        prediction = self.head(decoded)
        if self.detail is not None:
            pixels = low_resolution
            if relative.shape[1] == RELATIVE_CHANNELS:
                pixels = torch.cat([relative[:, :1], low_resolution], dim=1)
            prediction = prediction + self.detail(decoded, pixels, inside, valid, detail_shift)
        return prediction
