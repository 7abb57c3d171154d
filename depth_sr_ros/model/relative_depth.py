# SPDX-License-Identifier: Apache-2.0
"""The relative-depth guide: a Depth Anything network (Yang et al., CVPR 2024) of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from depth_sr_ros.model.config import RelativeDepthConfig
from depth_sr_ros.model.median import masked_median

_PATCH = 14
# Per-channel statistics of the images that DINOv2 was trained on, RGB in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def guide_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Size (h, w) in pixels at which the guide sees an image: whole patches, aspect kept."""
    scale = short_side / min(height, width)
    return (
        max(1, round(height * scale / _PATCH)) * _PATCH,
        max(1, round(width * scale / _PATCH)) * _PATCH,
    )


class RelativeDepth(nn.Module):
    """Depth Anything through `transformers`, from RGB to relative inverse depth.

    Args:
        config: architecture and input size.
        network: a loaded network; None builds an untrained one from `config`.
    """

    def __init__(
        self,
        config: RelativeDepthConfig,
        network: DepthAnythingForDepthEstimation | None = None,
    ):
        super().__init__()
        self.config = config
        if network is None:
            network = DepthAnythingForDepthEstimation(DepthAnythingConfig(**config.architecture))
            # The last layer ends in a ReLU: from small random weights around zero it may give
            # zeros only, and then nothing is ever learnt.
            nn.init.ones_(network.head.conv3.bias)
        self.network = network
        self.metric = network.config.depth_estimation_type == 'metric'
        self.register_buffer('mean', torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            'deviation', torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False
        )

    @classmethod
    def from_pretrained(cls, name_or_path: str, *, short_side: int = 518) -> RelativeDepth:
        """Load a checkpoint of the Depth Anything family: a folder or a Hugging Face id.

        Only safetensors are read and no code of the checkpoint is run.

        Raises:
            OSError: when there is no such checkpoint, or none in safetensors.
            ValueError: when it is of another architecture.
        """
        network, report = DepthAnythingForDepthEstimation.from_pretrained(
            name_or_path, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        missing = sorted(report['missing_keys'])
        if missing:
            raise ValueError(
                f'{name_or_path} is no Depth Anything checkpoint: {len(missing)} parameters are '
                f'missing, {missing[0]} among them'
            )
        return cls(RelativeDepthConfig(short_side=short_side), network)

    def forward(self, rgb: Tensor, short_side: int | None = None) -> Tensor:
        """Relative inverse depth: larger is nearer, scale and shift unknown.

        Args:
            rgb: float (B, 3, H, W) in [0, 1].
            short_side: of the network's input in pixels; None takes the configuration's.

        Returns:
            float32 (B, 1, h, w) at the guide's own size.
        """
        size = guide_size(rgb.shape[-2], rgb.shape[-1], short_side or self.config.short_side)
        image = functional.interpolate(
            rgb, size=size, mode='bilinear', align_corners=False, antialias=True
        )
        image = (image - self.mean) / self.deviation
        predicted = self.network(image.to(self.network.dtype)).predicted_depth[:, None].float()
        if self.metric:
            predicted = 1.0 / predicted.clamp_min(1e-3)
        return predicted


def normalise_relative_depth(relative: Tensor) -> Tensor:
    """Median / mean-absolute-deviation normalisation of each frame of (B, 1, h, w); float32.

    The median and the mean absolute deviation from it are those of MiDaS's scale- and
    shift-invariant loss (Ranftl et al., TPAMI 2022).
    """
    flat = relative.float().flatten(1)
    if torch.onnx.is_in_onnx_export():
        median = masked_median(flat, torch.ones_like(flat, dtype=torch.bool))
    else:
        median = flat.median(dim=1, keepdim=True).values
    deviation = (flat - median).abs().mean(dim=1, keepdim=True)
    flat = (flat - median) / deviation.clamp_min(1e-6)
    # A guide that is wrong somewhere must not reach the convolutions as an outlier.
    return torch.asinh(flat).view(relative.shape)
