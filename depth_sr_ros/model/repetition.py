# SPDX-License-Identifier: Apache-2.0
"""Whether pixels of a depth map repeat their neighbours: how often one, two or three are equal.

A driver that aligns depth to the RGB image draws each measurement as a rectangle of pixels, moved
by its parallax. Outlines of such a map are blocks without a grid, a pixel or two beside the object,
and look like those of a map whose every pixel was measured, which are right. Its values tell: where
depth changes from pixel to pixel, it changes after every second or third.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Lengths of the runs of equal values that are counted.
RUN_LENGTHS = (1, 2, 3)
# One row (or column) in so many is looked at: the shares are the same, at a quarter of the cost.
_LINE_STEP = 4


def run_shares(depth: Tensor, valid: Tensor) -> Tensor:
    """Of the places where depth changes, those that begin a run of one, two or three equal values.

    Runs are counted along rows and columns, between measurements. Noise has runs of one, the
    depth of a driver that repeats pixels has others, whole millimetres on a wall have long ones.

    Args:
        depth: float32 (B, 1, h, w); what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 3), each 0 to 1; 0 where nothing changes between neighbours.
    """
    batch = len(depth)
    counts = depth.new_zeros(batch, len(RUN_LENGTHS))
    changes = depth.new_zeros(batch, 1)
    for image, known in (
        (depth[..., ::_LINE_STEP, :], valid[..., ::_LINE_STEP, :]),
        (depth[..., ::_LINE_STEP].transpose(-2, -1), valid[..., ::_LINE_STEP].transpose(-2, -1)),
    ):
        longest = max(RUN_LENGTHS)
        count = image.shape[-1] - longest - 1
        if count < 1:
            continue
        pair = known[..., 1:] & known[..., :-1]
        changed = (pair & (image[..., 1:] != image[..., :-1])).float()
        equal = pair.float() - changed
        # Of each place the pair before it, and those that follow.
        start = changed[..., :count]
        changes = changes + start.flatten(1).sum(1, keepdim=True)
        runs = []
        for length in RUN_LENGTHS:
            end = changed[..., length : length + count]
            runs.append((start * end).flatten(1).sum(1, keepdim=True))
            start = start * equal[..., length : length + count]
        counts = counts + torch.cat(runs, dim=1)
    return counts / changes.clamp_min(1.0)
