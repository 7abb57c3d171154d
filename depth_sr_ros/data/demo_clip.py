# SPDX-License-Identifier: Apache-2.0
"""The rendered clip that the demo plays: RGB with exact depth, read with numpy and OpenCV alone."""

from __future__ import annotations

import functools
import lzma
import os
import zipfile
from importlib import resources

import cv2
import numpy as np

_PACKAGE, _FILE = 'depth_sr_ros.ros', 'clip/demo_clip.npz'


class DemoClip:
    """A camera that moves to and fro in a furnished room.

    Frames 0 .. len - 1 play at `frame_rate` Hz and begin again without a jump. Only the way there
    is stored, the way back is the same frames in reverse.

    path: a clip that render_demo_clip wrote; None means the one in this package.

    Attributes: size (width, height); intrinsics float64 (3, 3), pixels, centres at whole numbers;
    frame_rate in Hz.

    The truth is stored as what it is: everything seen is a piece of a plane, and a plane's inverse
    depth is linear in the pixel's coordinates. So a frame is a map of which plane each pixel
    shows, which is exact and small.

    Raises FileNotFoundError, and ValueError where the file is not a clip.
    """

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        if path is None:
            file = resources.files(_PACKAGE).joinpath(_FILE)
            with resources.as_file(file) as real:
                self._load(real)
        else:
            self._load(path)

    def _load(self, path) -> None:
        try:
            file = np.load(path, allow_pickle=False)
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f'{path} is not a demo clip, or not all of one: {error}') from error
        with file as data:
            try:
                self._rgb = _unpack(data['rgb'], data['rgb_ends'])
                self._labels = _unpack(data['labels'], data['labels_ends'])
                self._seen = _unpack(data['seen'], data['seen_ends'])
                self._planes = data['planes'].astype(np.float64)
                self._poses = data['poses'].astype(np.float64)
                self.intrinsics = data['intrinsics'].astype(np.float64)
                self.frame_rate = float(data['frame_rate'])
                width, height = data['size']
            except KeyError as error:
                raise ValueError(f'{path} is not a demo clip: {error.args[0]}') from error
        self.size = int(width), int(height)

    def __len__(self) -> int:
        return max(2 * len(self._rgb) - 2, 1)

    def rgb(self, index: int) -> np.ndarray:
        """Decode frame `index`: uint8 (H, W, 3), RGB order."""
        image = cv2.imdecode(self._rgb[self._stored(index)], cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(
                f'frame {index} of the demo clip cannot be decoded: no WebP in OpenCV?'
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def depth_truth(self, index: int) -> np.ndarray:
        """Decode the depth of frame `index`: float32 (H, W), metres along the optical axis."""
        stored = self._stored(index)
        width, height = self.size
        rows = np.frombuffer(lzma.decompress(self._labels[stored].tobytes()), '<u2')
        labels = np.bitwise_xor.accumulate(rows.reshape(height, width), axis=0)
        planes = self._planes[self._seen[stored]]
        linear = inverse_depth_planes(planes, self._poses[stored], self.intrinsics)
        a, b, c = linear.astype(np.float32).T
        u, v = _pixels(self.size)
        return 1 / (a[labels] * u + b[labels] * v + c[labels])

    def camera_to_world(self, index: int) -> np.ndarray:
        """Pose of frame `index`'s optical frame (x right, y down, z ahead), float64 (4, 4)."""
        return self._poses[self._stored(index)].copy()

    def _stored(self, index: int) -> int:
        index = range(len(self))[index]
        return min(index, len(self) - index)


def inverse_depth_planes(
    planes: np.ndarray, camera_to_world: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Coefficients of 1 / depth in (u, v, 1), (n, 3), of world planes (n, 4): n . x + d = 0.

    A point at depth z on pixel p is x = R K^-1 p z + t, hence 1 / z = -n . R K^-1 p / (n . t + d).
    """
    normals, offsets = planes[:, :3], planes[:, 3]
    rotation, eye = camera_to_world[:3, :3], camera_to_world[:3, 3]
    return -(normals @ rotation @ np.linalg.inv(intrinsics)) / (normals @ eye + offsets)[:, None]


@functools.lru_cache(maxsize=2)
def _pixels(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    width, height = size
    return np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]


def _unpack(data: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    return np.split(data, ends[:-1])
