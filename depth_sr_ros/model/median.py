# SPDX-License-Identifier: Apache-2.0
"""The lower median of part of a batch of values."""

from __future__ import annotations

import torch
from torch import Tensor

# The search narrows the bracket by this factor at each step: 2^33 in all.
_SECTIONS = 8
_STEPS = 11


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Lower median of the valid ones of float32 (B, N); 0 where there are none; (B, 1)."""
    if torch.onnx.is_in_onnx_export():
        median = _median_by_search(values, valid)
    else:
        ordered = torch.where(valid, values, torch.inf).sort(dim=1).values
        index = (valid.sum(dim=1, keepdim=True) - 1).clamp_min(0) // 2
        median = ordered.gather(1, index)
    return torch.where(valid.any(dim=1, keepdim=True), median, 0.0)


def _median_by_search(values: Tensor, valid: Tensor) -> Tensor:
    """The same by counting: TensorRT sorts at most 3840 values, and sorts slowly."""
    largest = torch.finfo(torch.float32).max
    values = torch.where(valid, values, largest)
    lowest = values.amin(dim=1, keepdim=True)
    highest = torch.where(valid, values, lowest).amax(dim=1, keepdim=True)
    # At least so many values are not above the median.
    needed = (valid.float().sum(dim=1, keepdim=True) * 0.5).ceil()
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
