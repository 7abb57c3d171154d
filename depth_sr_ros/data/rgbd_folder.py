# SPDX-License-Identifier: Apache-2.0
"""Any folder of rgb/ and depth/ files with a dataset.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_sr_ros.data.frame import DatasetError, FrameFiles, RGBDFrame

RGB_SUFFIXES = ('.png', '.jpg', '.jpeg')
DEPTH_SUFFIXES = ('.png', '.npy')


class RGBDFolder(FrameFiles):
    """RGB-D frames of a folder, in the order of their file names.

    Layout::

        rgb/STEM.png | .jpg     8-bit colour
        depth/STEM.png | .npy   16-bit PNG, value / depth_scale = metres; or float (h, w) metres
        mask/STEM.png           optional; a stem's part before its last '_' is tried too
        depth_behind_glass/STEM.npy     optional, of depth's size: see RGBDFrame
        dataset.json            {"depth_scale": 1000, "intrinsics": {"fx", "fy", "cx", "cy"} | null}

    Depth may be smaller than RGB. What is not positive and finite becomes 0 (no measurement).
    A missing partner raises at once, an unreadable file where it is read; strict: see FrameFiles.

    Raises DatasetError, naming the file.
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        super().__init__(path, strict=strict)
        self.metadata = _read_metadata(self.path / 'dataset.json')
        self.depth_scale: float | None = self.metadata['depth_scale']
        self.intrinsics: np.ndarray | None = self.metadata['intrinsics']

        self._rgb = _files_by_stem(self.path / 'rgb', RGB_SUFFIXES)
        self._depth = _files_by_stem(self.path / 'depth', DEPTH_SUFFIXES)
        for stem in sorted(self._rgb.keys() | self._depth.keys()):
            if stem not in self._depth:
                reason = f'{self._rgb[stem]}: no depth/{stem}.png or depth/{stem}.npy'
                self.reject(stem, reason)
            elif stem not in self._rgb:
                self.reject(stem, f'{self._depth[stem]}: no rgb/{stem}.png or rgb/{stem}.jpg')
            else:
                self.names.append(stem)
        if not self.names:
            raise DatasetError(f'{self.path}: no pair of rgb/STEM and depth/STEM')

    def read(self, name: str) -> RGBDFrame:
        """Read one frame by its stem. Raises DatasetError, naming the file."""
        depth = read_depth(self._depth[name], self.depth_scale)
        file = self.path / 'depth_behind_glass' / f'{name}.npy'
        behind = read_depth(file, None) if file.is_file() else None
        if behind is not None and behind.shape != depth.shape:
            raise DatasetError(
                f'{file}: is {behind.shape}, but depth is {depth.shape}: they must agree'
            )
        return RGBDFrame(read_rgb(self._rgb[name]), depth, self.intrinsics, name, behind)

    def mask(self, name: str) -> np.ndarray | None:
        """Return mask/NAME.png as bool (H, W), True where marked; None where there is none."""
        for stem in (name, name.rpartition('_')[0]):
            file = self.path / 'mask' / f'{stem}.png'
            if stem and file.is_file():
                return _decode(file, cv2.IMREAD_GRAYSCALE) > 127
        return None


def read_rgb(file: Path) -> np.ndarray:
    """Read a PNG or JPEG as uint8 (H, W, 3) RGB. Raises DatasetError, naming the file."""
    # Depth is stored as the sensor lies, so a phone's EXIF rotation must not turn RGB.
    bgr = _decode(file, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def read_depth(file: Path, depth_scale: float | None) -> np.ndarray:
    """Read a 16-bit PNG (value / depth_scale) or a float .npy as float32 (h, w) metres.

    What is not positive and finite becomes 0. Raises DatasetError, naming the file.
    """
    if file.suffix.lower() == '.npy':
        try:
            raw = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f'{file}: not a readable .npy file: {error}') from error
        if raw.ndim != 2 or not np.issubdtype(raw.dtype, np.floating):
            raise DatasetError(
                f'{file}: depth must be float16 or float32 (h, w) metres, '
                f'not {raw.dtype} {raw.shape}'
            )
        depth = raw.astype(np.float32)
    else:
        raw = _decode(file, cv2.IMREAD_UNCHANGED)
        if raw.ndim != 2 or raw.dtype != np.uint16:
            raise DatasetError(
                f'{file}: depth must be a 16-bit PNG with one channel, not {raw.dtype} {raw.shape}'
            )
        if depth_scale is None:
            raise DatasetError(f'{file}: dataset.json names no depth_scale for 16-bit depth')
        depth = raw.astype(np.float32) / np.float32(depth_scale)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return depth


def _decode(file: Path, flags: int) -> np.ndarray:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(f'{file}: cannot be read: {error.strerror}') from error
    # OpenCV returns half a picture for half a file, so the end marker is looked for here.
    if data[:4] == b'\x89PNG':
        whole = b'IEND' in data[-4096:]
    elif data[:2] == b'\xff\xd8':
        whole = b'\xff\xd9' in data[-4096:]
    else:
        raise DatasetError(f'{file}: neither a PNG nor a JPEG file ({len(data)} bytes)')
    if not whole:
        raise DatasetError(f'{file}: truncated after {len(data)} bytes')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DatasetError(f'{file}: damaged, cannot be decoded')
    return image


def _files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder')
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in suffixes or file.name.startswith('.'):
            continue
        if file.stem in files:
            raise DatasetError(f'{file}: the same frame as {files[file.stem].name}; keep one')
        files[file.stem] = file
    return files


def _read_metadata(file: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise DatasetError(f'{file}: missing; it holds depth_scale and intrinsics') from error
    except (OSError, ValueError) as error:
        raise DatasetError(f'{file}: not readable as JSON: {error}') from error
    if not isinstance(metadata, dict):
        raise DatasetError(f'{file}: must hold an object, not {type(metadata).__name__}')

    scale = metadata.get('depth_scale')
    if scale is not None and not (_is_number(scale) and scale > 0):
        raise DatasetError(f'{file}: depth_scale is {scale!r}; allowed is a number above 0')
    metadata['depth_scale'] = None if scale is None else float(scale)

    intrinsics = metadata.get('intrinsics')
    if intrinsics is not None:
        keys = ('fx', 'fy', 'cx', 'cy')
        if not isinstance(intrinsics, dict) or not all(_is_number(intrinsics.get(k)) for k in keys):
            raise DatasetError(
                f'{file}: intrinsics is {intrinsics!r}; allowed is null or numbers fx, fy, cx, cy'
            )
        fx, fy, cx, cy = (float(intrinsics[k]) for k in keys)
        if fx <= 0 or fy <= 0:
            raise DatasetError(f'{file}: fx, fy are {fx}, {fy}; allowed is above 0')
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    metadata['intrinsics'] = intrinsics
    return metadata


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
