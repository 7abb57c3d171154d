# SPDX-License-Identifier: Apache-2.0
"""One RGB-D frame, and sequences of them read from files."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    depth_behind_glass: float32, of depth's shape, metres, 0 for the sky: depth as it were without
        anything of glass, through which a sensor may see; None where there is no glass or it is
        not known.

    Raises ValueError where shapes or types differ from the above.
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray | None
    name: str
    depth_behind_glass: np.ndarray | None = None

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
        behind = self.depth_behind_glass
        if behind is not None and (behind.dtype != np.float32 or behind.shape != self.depth.shape):
            raise ValueError(
                f'{self.name}: depth_behind_glass must be float32 {self.depth.shape}, not '
                f'{behind.dtype} {behind.shape}'
            )
        if self.intrinsics is not None and self.intrinsics.shape != (3, 3):
            raise ValueError(f'{self.name}: intrinsics must be (3, 3), not {self.intrinsics.shape}')


def glass_mask(depth: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Where there is glass, bool (h, w).

    Args:
        depth: float32 (h, w), metres, of the glass where there is any.
        behind: `RGBDFrame.depth_behind_glass`: farther than the glass, or 0 for the sky.
    """
    return (depth > 0) & ((behind <= 0) | (behind > 1.002 * depth))


class FrameFiles(Sequence[RGBDFrame]):
    """Frames read from files when they are asked for.

    strict: with True whatever is missing or unreadable raises DatasetError, which names the file.
    With False such frames are left out, each warned of once and listed in `bad`; indexing an
    unreadable frame then gives the next readable one, so that a training run goes on.
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        self.path = Path(path)
        self.strict = strict
        #: Names of the frames.
        self.names: list[str] = []
        #: Name -> what is wrong with it, of the frames left out so far.
        self.bad: dict[str, str] = {}
        if not self.path.is_dir():
            raise DatasetError(f'{self.path}: no such folder')

    @abstractmethod
    def read(self, name: str) -> RGBDFrame:
        """Read one frame from its files. Raises DatasetError, naming the file."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RGBDFrame:  # type: ignore[override]
        index = range(len(self))[index]
        for step in range(len(self)):
            frame = self._read_or_reject(self.names[(index + step) % len(self)])
            if frame is not None:
                return frame
        raise DatasetError(f'{self.path}: none of the {len(self)} frames can be read')

    def __iter__(self) -> Iterator[RGBDFrame]:
        for name in self.names:
            frame = self._read_or_reject(name)
            if frame is not None:
                yield frame

    def _read_or_reject(self, name: str) -> RGBDFrame | None:
        if name in self.bad:
            return None
        try:
            return self.read(name)
        except DatasetError as error:
            self.reject(name, str(error))
            return None

    def reject(self, name: str, reason: str) -> None:
        """Raise DatasetError if strict, else warn of the frame and leave it out."""
        if self.strict:
            raise DatasetError(reason)
        self.bad[name] = reason
        warnings.warn(f'left out: {reason}', stacklevel=4)
