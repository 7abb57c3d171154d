# SPDX-License-Identifier: Apache-2.0
"""Quantiles of part of a batch of values."""

from __future__ import annotations

import torch
from torch import Tensor

# The search narrows the bracket by this factor at each step: 2^33 in all, so that one wild value
# that widens it does not blur the others.
_SECTIONS = 8
_STEPS = 11


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Lower median of the valid ones of float32 (B, N); 0 where there are none; (B, 1)."""
    return masked_quantile(values, valid, 0.5)


def masked_quantile(values: Tensor, valid: Tensor, share: float) -> Tensor:
    """The least of the valid ones of float32 (B, N) that `share` of them do not exceed; (B, 1).

    0 where there are none.
    """
    if torch.onnx.is_in_onnx_export():
        found = _by_search(values, valid, share)
    else:
        ordered = torch.where(valid, values, torch.inf).sort(dim=1).values
        index = _needed(valid, share).long() - 1
        found = ordered.gather(1, index.clamp_min(0))
    return torch.where(valid.any(dim=1, keepdim=True), found, 0.0)


def _needed(valid: Tensor, share: float) -> Tensor:
    """At least so many values are not above the quantile."""
    return (valid.float().sum(dim=1, keepdim=True) * share).ceil()


def _by_search(values: Tensor, valid: Tensor, share: float) -> Tensor:
    """The same by counting: TensorRT sorts at most 3840 values, and sorts slowly."""
    largest = torch.finfo(torch.float32).max
    values = torch.where(valid, values, largest)
    lowest = values.amin(dim=1, keepdim=True)
    highest = torch.where(valid, values, lowest).amax(dim=1, keepdim=True)
    needed = _needed(valid, share)
    # Fewer than that are at or below `low`, at all times.
    low = lowest - 1e-3 * (highest - lowest) - 1e-3 * lowest.abs() - 1e-6
    width = highest - low
    sections = torch.arange(1, _SECTIONS, dtype=torch.float32, device=values.device)
    for _ in range(_STEPS):
        width = width / _SECTIONS
        bounds = low + width * sections
        counts = (values[:, None, :] <= bounds[:, :, None]).float().sum(dim=2)
        low = low + width * (counts < needed).float().sum(dim=1, keepdim=True)
    return torch.where(values > low, values, largest).amin(dim=1, keepdim=True)
