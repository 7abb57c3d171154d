# SPDX-License-Identifier: Apache-2.0
"""Losses, masked to where the truth is valid; a batch without any valid truth gives zero."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Relative error below which a pixel counts as right for the confidence.
CONFIDENT_RELATIVE_ERROR = 0.05
# Of `ratio_loss`, relative to the mean depth.
_RATIO_FLOOR = 0.005


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (broadcastable) is set; zero, with gradient, where never."""
    weight = mask.to(values.dtype).expand_as(values)
    return (torch.where(weight > 0, values, 0.0) * weight).sum() / weight.sum().clamp_min(1.0)


def sobel(image: Tensor) -> Tensor:
    """Horizontal and vertical Sobel derivatives of (B, 1, H, W): (B, 2, H - 2, W - 2)."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    return functional.conv2d(image, torch.stack([kernel, kernel.T])[:, None])


def _erode(mask: Tensor) -> Tensor:
    """Pixels (B, 1, H - 2, W - 2) whose whole 3x3 neighbourhood is in the mask."""
    return -functional.max_pool2d(-mask.float(), 3, stride=1) > 0.5


def edge_loss(predicted: Tensor, truth: Tensor, mask: Tensor, scales: int = 1) -> Tensor:
    """L1 between the Sobel derivatives, averaged over `scales` halvings of the resolution."""
    total = predicted.new_zeros(())
    for _ in range(scales):
        if min(predicted.shape[-2:]) < 3:
            break
        total = total + masked_mean((sobel(predicted) - sobel(truth)).abs(), _erode(mask))
        weight = mask.float()
        pooled = functional.avg_pool2d(weight, 2)
        truth = functional.avg_pool2d(truth * weight, 2) / pooled.clamp_min(1e-6)
        predicted = functional.avg_pool2d(predicted * weight, 2) / pooled.clamp_min(1e-6)
        mask = pooled > 0.999
    return total / scales


def fusion_loss(
    predicted: Tensor,
    truth: Tensor,
    *,
    space: str,
    edge_weight: float = 1.0,
    scales: int = 1,
    square_weight: float = 0.0,
) -> Tensor:
    """The seed's loss: L1 plus L1 of Sobel derivatives.

    Args:
        predicted: float32 (B, 1, H, W), metres.
        truth: the same; 0 where unknown.
        space: 'log' compares logarithms, so that every range weighs the same; 'linear_300'
            compares depth / 300 clipped to [0, 1], as in the seed.
        edge_weight: weight of the Sobel term (1 in the seed).
        scales: number of resolutions of the Sobel term (1 in the seed).
        square_weight: weight of `square_loss` (0 in the seed).

    Raises:
        ValueError: for an unknown space.
    """
    mask = truth > 0
    square = square_weight * square_loss(predicted, truth) if square_weight else 0.0
    if space == 'log':
        safe = torch.where(mask, truth, torch.ones_like(truth))
        truth, predicted = safe.log(), predicted.clamp_min(1e-6).log()
    elif space == 'linear_300':
        truth, predicted = truth.clamp(0, 300) / 300.0, predicted / 300.0
    else:
        raise ValueError(f"loss space is {space!r}: allowed are 'log' and 'linear_300'")
    pixel = masked_mean((predicted - truth).abs(), mask)
    return pixel + edge_weight * edge_loss(predicted, truth, mask, scales) + square


def square_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Huber loss of the error relative to the mean true depth of each image.

    L1 is content with the more likely of two surfaces; where that is uncertain, as on thin things,
    the squared error that RMSE counts asks for the mean. Beyond 30% of the mean depth it grows
    linearly, so that a few far pixels do not decide.
    """
    mean = mean_depth(truth).clamp_min(1e-6).view(-1, 1, 1, 1)
    error = functional.huber_loss(predicted / mean, truth / mean, reduction='none', delta=0.3)
    return masked_mean(error, truth > 0)


def mean_square_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Of each image over its valid pixels: (B, 1, H, W) twice -> (B,); 0 without any."""
    mask = truth > 0
    square = torch.where(mask, predicted - truth, 0.0).square()
    return square.sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp_min(1)


def mean_depth(truth: Tensor) -> Tensor:
    """Of each image over its valid pixels: (B, 1, H, W) -> (B,), metres; 0 without any."""
    mask = truth > 0
    return truth.clamp_min(0.0).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp_min(1)


def ratio_loss(predicted: Tensor, truth: Tensor, interpolated: Tensor) -> Tensor:
    """RMSE over that of the interpolated input, mean over the images: what weights are judged by.

    Every image weighs the same, however hard its input is. One 200th of the mean depth is
    added to both, so that images without edges, where there is nothing to gain, do not decide.
    An image without valid truth does not count.

    Args:
        predicted: float32 (B, 1, H, W), metres.
        truth: the same; 0 where unknown.
        interpolated: metres, what the network started from.
    """
    depth = mean_depth(truth)
    floor = (_RATIO_FLOOR * depth).square() + 1e-12
    before = mean_square_error(interpolated.detach(), truth) + floor
    ratio = ((mean_square_error(predicted, truth) + floor) / before).sqrt()
    return masked_mean(ratio, depth > 0)


def confidence_loss(logit: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of 'the relative error is below 5%'; the depth gets no gradient."""
    mask = truth > 0
    relative = (predicted.detach() - truth).abs() / truth.clamp_min(1e-6)
    right = (relative < CONFIDENT_RELATIVE_ERROR).float()
    entropy = functional.binary_cross_entropy_with_logits(logit, right, reduction='none')
    return masked_mean(entropy, mask)


def guide_loss(predicted: Tensor, truth: Tensor, scales: int = 4) -> Tensor:
    """Scale- and shift-invariant loss on inverse depth (Ranftl et al., TPAMI 2022).

    Args:
        predicted: float32 (B, 1, H, W), relative inverse depth.
        truth: float32 (B, 1, H, W), metres; 0 where unknown.
        scales: number of resolutions of the gradient term.
    """
    mask = truth > 0
    inverse = torch.where(mask, 1.0 / truth.clamp_min(1e-6), 0.0)
    losses = []
    for one_predicted, one_inverse, one_mask in zip(predicted, inverse, mask, strict=True):
        if one_mask.sum() < 16:
            losses.append(predicted.sum() * 0.0)
            continue
        aligned = _shift_scale_free(one_predicted, one_mask)
        target = _shift_scale_free(one_inverse, one_mask)
        error = (aligned - target).abs()
        gradient = edge_loss(aligned[None], target[None], one_mask[None], scales)
        # The loss does not see the scale: without this term all that varies may sink below what
        # half precision resolves beside the level it varies around.
        scale = _deviation(one_predicted, one_mask).log().abs()
        losses.append(masked_mean(error, one_mask) + 0.5 * scales * gradient + 0.05 * scale)
    return torch.stack(losses).mean()


def _deviation(image: Tensor, mask: Tensor) -> Tensor:
    values = image[mask]
    return (values - values.median()).abs().mean().clamp_min(1e-6)


def _shift_scale_free(image: Tensor, mask: Tensor) -> Tensor:
    return (image - image[mask].median()) / _deviation(image, mask)
