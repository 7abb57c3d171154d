# SPDX-License-Identifier: Apache-2.0
"""What an engine is: the part of the pipeline that computes, behind the checks of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """Runs the model on checked arrays; one frame at a time, from one thread.

    `DepthSRPipeline` checks sizes, types and that there is a measurement at all, before it asks.

    Attributes:
        mark: called with the name of each stage as it ends, for timing; the pipeline has called it
            with 'start', and 'inspect', which is what it does itself, ends where the engine begins.
    """

    mark: Callable[[str], None]

    @property
    def description(self) -> dict[str, Any]:
        """What a log should say of it: at least 'device' and 'precision'."""

    def run(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        out: np.ndarray,
        relative: np.ndarray | None = None,
    ) -> np.ndarray:
        """Write the dense depth to `out` and return the confidence.

        Args:
            rgb: uint8 (H, W, 3) RGB; may be read-only or not contiguous.
            depth: float32 (h, w), metres; 0, negative, NaN and infinite are no measurement, at
                least one pixel is one. May be read-only or not contiguous.
            out: float32 (H, W), metres.
            relative: relative inverse depth in the place of the guide's: float32 (g, k) of any
                size over the same view.

        Returns:
            float32 (H, W) in [0, 1], see `DepthSRResult.confidence`; the caller's to keep.
        """

    def relative_depth(self, rgb: np.ndarray) -> np.ndarray | None:
        """Ask the guide only, to use its answer for several frames (see `run`).

        Returns:
            float32 (g, k) relative inverse depth; None without a guide.
        """

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        """Make frames of (W, H) with depth of (w, h) fast from the first one on."""

    def memory(self) -> dict[str, int]:
        """Bytes of accelerator memory by name ('allocated', 'reserved', 'peak'); {} on a CPU."""

    def close(self) -> None:
        """Free the model and all memory held for it; nothing may be run afterwards."""


def no_mark(_stage: str) -> None:
    """The clock that is not there."""
