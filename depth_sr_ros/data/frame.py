# SPDX-License-Identifier: Apache-2.0
"""One RGB-D frame, as every data set of this package hands it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class DatasetError(ValueError):
    """A file of a data set is missing or unusable; the message names it."""


@dataclass
class RGBDFrame:
    """A colour image and the depth that covers the same field of view.

    rgb: uint8 (H, W, 3), RGB order.
    depth: float32 (h, w), metres along the optical axis, 0 or NaN = no measurement. It may be
        smaller than rgb; pixel centres map as (u + .5) W / w - .5.
    intrinsics: float64 (3, 3) pinhole matrix of the RGB image, or None where unknown.
    name: what to call the frame in tables and messages.

    Raises ValueError where shapes or types differ from the above.
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray | None
    name: str

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(
                f'{self.name}: rgb must be uint8 (H, W, 3), not {self.rgb.dtype} {self.rgb.shape}'
            )
        if self.depth.dtype != np.float32 or self.depth.ndim != 2:
            raise ValueError(
                f'{self.name}: depth must be float32 (h, w), not '
                f'{self.depth.dtype} {self.depth.shape}'
            )
        if self.intrinsics is not None and self.intrinsics.shape != (3, 3):
            raise ValueError(f'{self.name}: intrinsics must be (3, 3), not {self.intrinsics.shape}')
