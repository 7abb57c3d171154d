# SPDX-License-Identifier: Apache-2.0
"""What it costs to let the guide see every N-th frame only: accuracy on a moving sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from depth_sr_ros.data.demo_clip import DemoClip
from depth_sr_ros.data.frame import RGBDFrame
from depth_sr_ros.data.imitated_guide import imitate_guide
from depth_sr_ros.evaluation.cases import Case
from depth_sr_ros.evaluation.metrics import near_depth_edges, rmse
from depth_sr_ros.evaluation.network import IMITATED_QUALITY
from depth_sr_ros.pipeline import DepthSRPipeline, DepthSRResult
from depth_sr_ros.stream import DepthSRStream

# In the place of a data set's folder: the demo's clip, one way.
CLIP = 'clip'
DEFAULT_INTERVALS = (1, 2, 3, 5, 10)
_SHOWN = {'rmse': 'RMSE', 'rmse_edge': 'RMSE near edges'}


def clip_frames(limit: int | None = None) -> list[RGBDFrame]:
    """The demo's clip at 30 Hz, from one end of the camera's way to the other, or its first."""
    clip = DemoClip()
    count = min(len(clip) // 2 + 1, limit or len(clip))
    return [
        RGBDFrame(clip.rgb(i), clip.depth_truth(i), clip.intrinsics, f'{i:04d}')
        for i in range(count)
    ]


class _ImitatedGuide:
    """A pipeline whose guide is made from the truth of the frame that is set."""

    def __init__(self, pipeline: DepthSRPipeline):
        self._pipeline = pipeline
        self.truth = np.empty(0, np.float32)

    def relative_depth(self, rgb: np.ndarray) -> np.ndarray:
        # One seed: networks keep their faults from frame to frame.
        return imitate_guide(self.truth, np.random.default_rng(0), IMITATED_QUALITY)

    def __call__(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        *,
        out: np.ndarray | None = None,
        relative: np.ndarray | None = None,
        **camera: Any,
    ) -> DepthSRResult:
        if relative is None:
            relative = self.relative_depth(rgb)
        return self._pipeline(rgb, depth, out=out, relative=relative, **camera)


def measure_intervals(
    pipeline: DepthSRPipeline,
    cases: Sequence[Case],
    intervals: Sequence[int],
    *,
    imitated: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Score a sequence once for every interval, and once without a guide.

    Args:
        pipeline: with a guide, unless `imitated`.
        cases: frames of one camera in their order.
        intervals: the guide sees every so many frames.
        imitated: the guide is made from the truth of the frame that it sees, as a large Depth
            Anything might give it: what holding a good guide costs.

    Returns:
        A row for each: 'interval' (None = no guide), and the means over frames of 'rmse' and
        'rmse_edge', metres.
    """
    imitation = _ImitatedGuide(pipeline)
    nothing = np.zeros((2, 2), np.float32)  # constant: says nothing, as no guide does
    rows = []
    for interval in (None, *intervals):
        guided: Any = imitation if imitated else pipeline
        stream = DepthSRStream(guided, 1 if interval is None else interval)
        scores = []
        for case in cases:
            imitation.truth = case.truth
            if interval is None:
                result = pipeline(case.rgb, case.depth, relative=nothing)
            else:
                result = stream(case.rgb, case.depth)
            near = near_depth_edges(case.truth)
            scores.append((rmse(result.depth, case.truth), rmse(result.depth, case.truth, near)))
            progress()
        means = dict(zip(_SHOWN, np.nanmean(scores, axis=0).tolist(), strict=True))
        rows.append({'interval': interval, **means})
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table of millimetres, and of the change from a guide that sees every frame."""
    first = next((row for row in rows if row['interval'] == 1), None)
    lines = [
        '| guide sees | ' + ' | '.join(f'{text} mm | change' for text in _SHOWN.values()) + ' |'
    ]
    lines.append('|---' * (1 + 2 * len(_SHOWN)) + '|')
    for row in rows:
        interval = row['interval']
        cells = ['no frame' if interval is None else f'every {interval}. frame']
        if interval == 1:
            cells = ['every frame']
        for name in _SHOWN:
            change = '' if first is None else f'{row[name] / first[name] - 1:+.1%}'
            cells += [f'{1000 * row[name]:.1f}', change]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
