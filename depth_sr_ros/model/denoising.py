# SPDX-License-Identifier: Apache-2.0
"""A depth map without its noise, edges kept: a bilateral filter as wide as the noise is strong.

Tomasi and Manduchi, Bilateral Filtering for Gray and Color Images, ICCV 1998, on inverse depth and
on the grid of the measurements, where noise is white. How strong it is shows in second differences,
which planes and most of curved surfaces have none of (Immerkaer, Fast Noise Variance Estimation,
CVIU 1996).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from depth_sr_ros.model.median import masked_quantile

# Of the sizes of second differences: low, because edges and clutter have large ones.
_QUANTILE = 0.3
# That quantile of |N(0, 1)|.
_NORMAL_QUANTILE = 0.3853
# Standard deviation of a second difference of white noise over that of the noise.
_SECOND_DIFFERENCE = math.sqrt(6.0)
# Relative noise that counts as none: rounding to millimetres, curved surfaces.
_NEGLIGIBLE = 0.001
# So many differences tell.
_SAMPLES = 4000
_RADIUS, _SPREAD = 2, 1.5
# Width of the kernel over values in each pass, in standard deviations of the noise.
_WIDTHS = (2.0, 1.2)


def noise_level(inverse: Tensor, valid: Tensor) -> Tensor:
    """Standard deviation of the noise relative to the values.

    Args:
        inverse: float32 (B, 1, h, w), positive where valid.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 1, 1, 1); 0 where no three neighbours are measured.
    """
    sizes, known = [], []
    for image, mask in ((inverse, valid), (inverse.transpose(-2, -1), valid.transpose(-2, -1))):
        count = image.shape[-1] - 2
        if count < 1:
            continue
        left, middle, right = (image[..., i : i + count] for i in range(3))
        size = (left - 2.0 * middle + right).abs() / middle.clamp_min(_tiny())
        all_known = mask[..., :count] & mask[..., 1 : 1 + count] & mask[..., 2 : 2 + count]
        step = max(1, math.isqrt(size[0].numel() * 2 // _SAMPLES))
        sizes.append(size[..., ::step, ::step].flatten(1))
        known.append(all_known[..., ::step, ::step].flatten(1))
    if not sizes:
        return torch.zeros_like(inverse[..., :1, :1])
    size = masked_quantile(torch.cat(sizes, dim=1), torch.cat(known, dim=1), _QUANTILE)
    return (size / (_NORMAL_QUANTILE * _SECOND_DIFFERENCE)).view(-1, 1, 1, 1)


def denoised(depth: Tensor, valid: Tensor) -> Tensor:
    """The map with its noise averaged away among measurements of the same surface.

    Args:
        depth: float32 (B, 1, h, w), metres; what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 1, h, w), metres; `depth` itself for a map without noise.
    """
    inverse = torch.where(valid, 1.0 / depth.clamp_min(_tiny()), torch.zeros_like(depth))
    level = (noise_level(inverse, valid) - _NEGLIGIBLE).clamp_min(0.0)
    result = inverse
    for width in _WIDTHS:
        result = _bilateral(result, valid, width * level)
    noisy = valid & (level > 0)
    return torch.where(noisy, 1.0 / result.clamp_min(_tiny()), depth)


def _bilateral(inverse: Tensor, valid: Tensor, width: Tensor) -> Tensor:
    """One pass; `width` is relative to the values, (B, 1, 1, 1)."""
    height, columns = inverse.shape[-2:]
    padding = (_RADIUS, _RADIUS, _RADIUS, _RADIUS)
    # Not measured is 0, infinitely unlike anything.
    padded = functional.pad(inverse, padding)
    offsets = range(2 * _RADIUS + 1)
    near = torch.cat(
        [padded[..., y : y + height, x : x + columns] for y in offsets for x in offsets], dim=1
    )
    # Made on the device: a copy from the host cannot be part of a CUDA graph.
    axis = torch.arange(2.0 * _RADIUS + 1.0, device=inverse.device) - _RADIUS
    distance = (axis[:, None].square() + axis.square()).reshape(1, -1, 1, 1)
    unlike = (near - inverse) / (width * inverse).clamp_min(_tiny())
    weight = torch.exp(-0.5 * (distance / _SPREAD**2 + unlike.square().clamp_max(100.0)))
    # ONNX Runtime takes three times as long for a choice as for a product.
    weight = weight * (near > 0).float()
    mean = (weight * near).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp_min(
        _tiny()
    )
    return torch.where(valid, mean, inverse)


def _tiny() -> float:
    return torch.finfo(torch.float32).tiny
