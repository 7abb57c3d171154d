# SPDX-License-Identifier: Apache-2.0
"""Configuration of the networks: plain dataclasses, written to config.json beside the weights."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

ENCODER_STAGES = 4
# Of the networks' inputs and parameters; weights of another one are refused.
LAYOUT_VERSION = 1


@dataclass(frozen=True)
class FusionUNetConfig:
    """Size of the fused NAFNet / AdaIN U-Net.

    Each of the four stages starts by halving the resolution, except the first one, a
    pixel-unshuffle by `stem`: 2 as in the seed, 4 for CPUs (field notes: full-resolution blocks
    are bound by memory bandwidth).

    Attributes:
        stem: factor of the first pixel-unshuffle; the deepest map is stem * 8 times smaller.
        widths: channels of the four stages.
        encoder_blocks: NAFNet blocks of each stage, in each of the two encoders.
        middle_blocks: NAFNet blocks between encoder and decoder.
        decoder_blocks: NAFNet blocks of each stage of the decoder.
        training_size: side of a training crop in pixels. AdaIN and channel attention pool over
            windows of this size at inference (TLC, Chu et al., ECCV 2022).
        residual_range: bound of the residual relative to the depth, where there are measurements.
        hole_residual_range: the same where there are none.
        detail_width: channels of the detail head at half resolution, 0 for none. With a stem of 4
            or 8 a cell of the first stage stands for more pixels than its channels tell apart.
        detail_blocks: NAFNet blocks of the detail head.
        consistency_steps: how often the output of low-resolution input is brought nearer to its
            measurements (`depth_sr_ros.model.consistency`); 0 for never, as in the seed.
        smoothing_sizes: pixels over which the input is averaged to offer the network maps without
            noise, each of which it mixes in where it sees fit; none in the seed.
        fitting_size: side in pixels of the squares in which a guide is fitted to the input, to
            offer the network its shapes at the measured depths; 0 for never, as in the seed.
        softening_sizes: pixels, odd, over which the input is averaged, where the network sees fit,
            before its edges are moved: those of a depth camera are sharp but ragged; none in the
            seed.
        denoising: whether the network is offered the input without its noise
            (`depth_sr_ros.model.denoising`); False in the seed.
        keeping: whether one more channel scales down all that is drawn into depth of full
            resolution, so that outlines which are right already stay; False in the seed.
        guided_filter_cells: sides in pixels of the cells on which the input is filtered with RGB as
            the guide (`depth_sr_ros.model.guided_filter`), even, each a multiple of the one before:
            each result is one more input, and one more map that is offered; none in the seed.
        repetition: whether the network is told how often pixels of a map without cells repeat
            their neighbours (`depth_sr_ros.model.repetition`); False in the seed.
    """

    stem: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 256)
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    training_size: int = 256
    residual_range: float = 0.05
    hole_residual_range: float = 0.5
    detail_width: int = 0
    detail_blocks: int = 1
    consistency_steps: int = 0
    smoothing_sizes: tuple[int, ...] = ()
    fitting_size: int = 0
    softening_sizes: tuple[int, ...] = ()
    denoising: bool = False
    keeping: bool = False
    guided_filter_cells: tuple[int, ...] = ()
    repetition: bool = False

    def __post_init__(self) -> None:
        # JSON has no tuples.
        for name in ('widths', 'encoder_blocks', 'decoder_blocks'):
            value = tuple(getattr(self, name))
            object.__setattr__(self, name, value)
            if len(value) != ENCODER_STAGES or any(v < 1 for v in value):
                raise ValueError(
                    f'{name} is {value}: expected {ENCODER_STAGES} positive whole numbers'
                )
        for name in ('smoothing_sizes', 'softening_sizes', 'guided_filter_cells'):
            value = tuple(getattr(self, name))
            object.__setattr__(self, name, value)
            if any(size < 2 for size in value):
                raise ValueError(f'{name} is {value}: expected 2 or more each')
        if any(size % 2 == 0 for size in self.softening_sizes):
            raise ValueError(f'softening_sizes is {self.softening_sizes}: expected odd numbers')
        # Whatever is a multiple of an even number is even.
        if any(b % a for a, b in itertools.pairwise((2, *self.guided_filter_cells))):
            raise ValueError(
                f'guided_filter_cells is {self.guided_filter_cells}: expected even numbers, each a '
                'multiple of the one before'
            )
        if self.fitting_size < 0 or self.fitting_size == 1:
            raise ValueError(f'fitting_size is {self.fitting_size}: expected 0, or 2 or more')
        if self.stem not in (1, 2, 4, 8):
            raise ValueError(f'stem is {self.stem}: expected 1, 2, 4 or 8')
        if self.detail_width < 0 or (self.detail_width and self.stem < 4):
            raise ValueError(
                f'detail_width is {self.detail_width} with stem {self.stem}: expected 0, or more '
                'with a stem of 4 or 8'
            )
        if self.detail_blocks < 1:
            raise ValueError(f'detail_blocks is {self.detail_blocks}: expected 1 or more')
        if not 0 <= self.consistency_steps <= 8:
            raise ValueError(f'consistency_steps is {self.consistency_steps}: expected 0 to 8')

    @property
    def heads(self) -> tuple[str, ...]:
        """What the network's output channels are: gate, residual, confidence, and if any the rest.

        That is the trust in means, the share of each offered map and what is kept.
        """
        return (
            'gate',
            'residual',
            'confidence',
            *(['trust'] if self.consistency_steps else []),
            *(f'smoothed {size}' for size in self.smoothing_sizes),
            *(['fitted'] if self.fitting_size else []),
            *(f'softened {size}' for size in self.softening_sizes),
            *(['denoised'] if self.denoising else []),
            *(['kept'] if self.keeping else []),
            *(f'guided filter {size}' for size in self.guided_filter_cells),
        )

    @property
    def low_resolution_channels(self) -> int:
        """Normalised depth, validity, position in range, log range, RGB; guided filters."""
        return 7 + len(self.guided_filter_cells)

    @property
    def total_stride(self) -> int:
        """Input pixels per cell of the deepest map."""
        return self.stem * 2 ** (ENCODER_STAGES - 1)


@dataclass(frozen=True)
class RelativeDepthConfig:
    """Architecture of the relative-depth guide, and the size at which it sees the image.

    Attributes:
        architecture: keyword arguments of `transformers.DepthAnythingConfig`.
        short_side: short side of the guide's input in pixels (rounded to whole 14-pixel patches).
        enabled: whether the pipeline uses it unasked; False for a guide with which the weights
            validate worse than without.
    """

    architecture: dict[str, Any] = field(default_factory=dict)
    short_side: int = 518
    enabled: bool = True


@dataclass(frozen=True)
class DepthSRConfig:
    """Everything that decides the shape of the parameters.

    Attributes:
        fusion: the fusion network.
        relative_depth: the guide stored with the weights; None when the weights hold none.
        name: what the configuration is called (`seed`, `embedded`, `base`).
        version: LAYOUT_VERSION of the release that wrote the weights.
    """

    fusion: FusionUNetConfig = field(default_factory=FusionUNetConfig)
    relative_depth: RelativeDepthConfig | None = None
    name: str = 'custom'
    version: int = LAYOUT_VERSION

    def __post_init__(self) -> None:
        for name, kind in (('fusion', FusionUNetConfig), ('relative_depth', RelativeDepthConfig)):
            values = getattr(self, name)
            if isinstance(values, dict):
                try:
                    object.__setattr__(self, name, kind(**values))
                except TypeError as error:
                    raise ValueError(
                        f'{name} of the configuration is not understood ({error}): another release '
                        'wrote it'
                    ) from error

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready dictionaries and lists."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DepthSRConfig:
        """Inverse of `to_dict`.

        Raises:
            ValueError: for an unknown key, a wrong value or another version of the layout.
        """
        version = values.get('version')
        if version != LAYOUT_VERSION:
            raise ValueError(
                f'configuration version is {version!r}: this release reads {LAYOUT_VERSION}'
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f'configuration not understood: {error}') from error


DEPTH_ANYTHING_SMALL: dict[str, Any] = {
    'backbone_config': {
        'model_type': 'dinov2',
        'hidden_size': 384,
        'num_hidden_layers': 12,
        'num_attention_heads': 6,
        'patch_size': 14,
        'image_size': 518,
        'out_features': ['stage3', 'stage6', 'stage9', 'stage12'],
        'reshape_hidden_states': False,
    },
    'reassemble_hidden_size': 384,
    'patch_size': 14,
    'neck_hidden_sizes': [48, 96, 192, 384],
    'fusion_hidden_size': 64,
}

# The architecture of Depth Anything at a size that a CPU runs at camera rate.
DEPTH_ANYTHING_EMBEDDED: dict[str, Any] = {
    'backbone_config': {
        'model_type': 'dinov2',
        'hidden_size': 128,
        'num_hidden_layers': 4,
        'num_attention_heads': 4,
        'patch_size': 14,
        'image_size': 252,
        'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
        'reshape_hidden_states': False,
    },
    'reassemble_hidden_size': 128,
    'patch_size': 14,
    'neck_hidden_sizes': [16, 24, 48, 64],
    'fusion_hidden_size': 24,
    'head_hidden_size': 16,
}

_EMBEDDED_FUSION = FusionUNetConfig(
    stem=4,
    widths=(32, 56, 88, 120),
    encoder_blocks=(1, 2, 2, 2),
    middle_blocks=2,
    decoder_blocks=(2, 2, 2, 2),
    training_size=192,
    detail_width=24,
    detail_blocks=2,
    consistency_steps=5,
    smoothing_sizes=(12, 48),
    fitting_size=96,
    softening_sizes=(3, 7),
    denoising=True,
    keeping=True,
    guided_filter_cells=(4, 16),
    repetition=True,
)

CONFIGURATIONS: dict[str, DepthSRConfig] = {
    'seed': DepthSRConfig(
        name='seed',
        fusion=FusionUNetConfig(
            stem=2,
            widths=(32, 64, 128, 256),
            encoder_blocks=(1, 2, 3, 1),
            middle_blocks=2,
            decoder_blocks=(2, 2, 2, 1),
        ),
        relative_depth=RelativeDepthConfig(DEPTH_ANYTHING_SMALL, short_side=518),
    ),
    # Nearly as many parameters as the seed's: the embedded network's and those of more blocks that
    # start as the identity (Net2Net, Chen et al., ICLR 2016), so that training goes on from the
    # embedded weights' answers. With a stem of 4 it has half the operations of the seed's.
    'base': DepthSRConfig(
        name='base',
        fusion=dataclasses.replace(
            _EMBEDDED_FUSION,
            encoder_blocks=(2, 4, 5, 4),
            middle_blocks=8,
            decoder_blocks=(4, 5, 6, 7),
            detail_blocks=3,
        ),
    ),
    'embedded': DepthSRConfig(
        name='embedded',
        fusion=_EMBEDDED_FUSION,
        relative_depth=RelativeDepthConfig(DEPTH_ANYTHING_EMBEDDED, short_side=196),
    ),
}
