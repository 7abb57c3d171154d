# SPDX-License-Identifier: Apache-2.0
"""The engine without a network: the interpolated input, to see what the network adds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from depth_sr_ros.inference.engine import no_mark
from depth_sr_ros.model.interpolation import interpolate, valid_mask


class InterpolationEngine:
    """Fills holes and interpolates, on the CPU; see `Engine`."""

    def __init__(self) -> None:
        self.mark: Callable[[str], None] = no_mark
        self.description: dict[str, Any] = {
            'device': f'cpu ({torch.get_num_threads()} threads)',
            'precision': 'float32',
        }

    def run(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        out: np.ndarray,
        relative: np.ndarray | None = None,
    ) -> np.ndarray:
        self.mark('inspect')
        with torch.inference_mode():
            # A copy: torch warns about arrays that it may not write to.
            measured = torch.from_numpy(np.array(depth, order='C'))[None, None]
            valid = valid_mask(measured)
            np.copyto(out, interpolate(measured, valid, out.shape)[0, 0].numpy())
            # What is between measurements is as good as what was measured, or unknown.
            confidence = interpolate(valid.float(), torch.ones_like(valid), out.shape)
        self.mark('fusion')
        return confidence[0, 0].numpy()

    def relative_depth(self, rgb: np.ndarray) -> np.ndarray | None:
        return None

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        pass

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass
