# SPDX-License-Identifier: Apache-2.0
"""MVS-Synth, the seed's training data: 120 sequences of 100 rendered city frames."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from depth_sr_ros.data.frame import DatasetError, FrameFiles, RGBDFrame
from depth_sr_ros.data.rgbd_folder import read_rgb

#: Depths are clipped here, as in the seed; divided by it they are in [0, 1].
MAX_DEPTH = 300.0

#: What is farther is taken for sky, as are infinite values: what the files hold there is not
#: documented, and geometry ends well before it.
SKY_DEPTH = 1000.0

VALIDATION_SAMPLES = 100

#: Published files have one half-precision channel, Y; other tools write Z.
DEPTH_CHANNELS = ('Y', 'Z')

SPLITS = ('train', 'validation')


class MVSSynth(FrameFiles):
    """Frames of MVS-Synth (Huang et al., 'DeepMVS: Learning Multi-view Stereopsis', CVPR 2018).

    Layout, as published; root is the folder of the sequences, or one above it::

        GTAV_1080/0000/images/0000.png
        GTAV_1080/0000/depths/0000.exr
        GTAV_1080/0000/poses/0000.json    f_x, f_y, c_x, c_y in pixels (and the extrinsic matrix)

    split: 'validation' is the last `validation_samples` frames, in the order of their names,
        'train' all others.
    normalise: give depth / MAX_DEPTH in [0, 1], as the seed's loss takes it, and not metres.

    Depth is clipped to MAX_DEPTH; sky (farther than SKY_DEPTH, or infinite) and what is not
    positive is 0. It is not reliably metric. Frames are named SEQUENCE/FRAME; without a pose
    file a frame's intrinsics are None. strict: see FrameFiles.

    Raises DatasetError, naming the file; ValueError for an unknown split; ImportError that says
    what to install where the OpenEXR package is missing.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'train',
        *,
        normalise: bool = False,
        strict: bool = True,
        validation_samples: int = VALIDATION_SAMPLES,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split is {split!r}; allowed: {", ".join(SPLITS)}')
        super().__init__(root, strict=strict)
        self.split = split
        self.normalise = normalise
        self.path = _sequences_root(self.path)
        names: list[str] = []
        for sequence in sorted(self.path.iterdir()):
            if (sequence / 'images').is_dir():
                names += self._pairs(sequence)
        if not 0 < validation_samples < len(names):
            raise DatasetError(
                f'{self.path}: {len(names)} frames, of which {validation_samples} are kept for '
                f'validation; allowed is 1 to fewer than there are'
            )
        cut = len(names) - validation_samples
        self.names = names[:cut] if split == 'train' else names[cut:]

    def read(self, name: str) -> RGBDFrame:
        """Read one frame by its name, SEQUENCE/FRAME. Raises DatasetError, naming the file."""
        sequence, frame = name.split('/')
        folder = self.path / sequence
        rgb = read_rgb(folder / 'images' / f'{frame}.png')
        file = folder / 'depths' / f'{frame}.exr'
        depth = read_exr_depth(file)
        if depth.shape != rgb.shape[:2]:
            raise DatasetError(
                f'{file}: depth is {depth.shape[1]}x{depth.shape[0]}, '
                f'its image {rgb.shape[1]}x{rgb.shape[0]}'
            )
        seen = np.isfinite(depth) & (depth > 0) & (depth <= SKY_DEPTH)
        depth = np.where(seen, np.minimum(depth, np.float32(MAX_DEPTH)), np.float32(0))
        if self.normalise:
            depth /= np.float32(MAX_DEPTH)
        intrinsics = _read_intrinsics(folder / 'poses' / f'{frame}.json')
        return RGBDFrame(rgb, depth, intrinsics, name)

    def _pairs(self, sequence: Path) -> list[str]:
        images = {file.stem for file in (sequence / 'images').glob('*.png')}
        depths = {file.stem for file in (sequence / 'depths').glob('*.exr')}
        for stem in sorted(images ^ depths):
            if stem in images:
                reason = f'{sequence / "images" / stem}.png: no depths/{stem}.exr'
            else:
                reason = f'{sequence / "depths" / stem}.exr: no images/{stem}.png'
            self.reject(f'{sequence.name}/{stem}', reason)
        return [f'{sequence.name}/{stem}' for stem in sorted(images & depths)]


def read_exr_depth(file: Path) -> np.ndarray:
    """Read the depth channel (Y or Z) of an EXR file as float32 (H, W), values as they are.

    OpenCV's wheels are built without EXR, so this takes the OpenEXR package. Raises DatasetError,
    naming the file.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise ImportError('reading EXR depth needs the OpenEXR package: pip install OpenEXR') from (
            error
        )
    if not file.is_file():
        raise DatasetError(f'{file}: no such file')
    try:
        # Without threads of its own: data loaders have a process per core already.
        with OpenEXR.File(str(file), separate_channels=True, num_threads=0) as exr:
            # A file cut off within its pixels opens, but without the part that is incomplete.
            channels = {name: c.pixels for name, c in exr.channels().items()} if exr.parts else None
    except (RuntimeError, ValueError, TypeError) as error:
        raise DatasetError(f'{file}: damaged or not an EXR file: {error}') from error
    if channels is None:
        raise DatasetError(f'{file}: truncated after {file.stat().st_size} bytes, or damaged')
    for name in DEPTH_CHANNELS:
        if name in channels:
            return np.ascontiguousarray(channels[name], np.float32)
    raise DatasetError(
        f'{file}: no depth channel; it has {", ".join(sorted(channels)) or "none"}, '
        f'allowed is {" or ".join(DEPTH_CHANNELS)}'
    )


def _sequences_root(root: Path) -> Path:
    if any((child / 'images').is_dir() for child in root.iterdir()):
        return root
    inner = [
        child
        for child in sorted(root.iterdir())
        if child.is_dir()
        and any((grandchild / 'images').is_dir() for grandchild in child.iterdir())
    ]
    if len(inner) == 1:
        return inner[0]
    if not inner:
        raise DatasetError(f'{root}: no sequences, that is folders with images/ and depths/, here')
    raise DatasetError(f'{root}: several versions, {", ".join(p.name for p in inner)}; name one')


def _read_intrinsics(file: Path) -> np.ndarray | None:
    if not file.is_file():
        return None
    try:
        pose = json.loads(file.read_text(encoding='utf-8'))
        fx, fy, cx, cy = (float(pose[key]) for key in ('f_x', 'f_y', 'c_x', 'c_y'))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f'{file}: no numbers f_x, f_y, c_x, c_y in it: {error!r}') from error
    if not all(map(math.isfinite, (fx, fy, cx, cy))):
        raise DatasetError(f'{file}: f_x, f_y, c_x, c_y are {fx}, {fy}, {cx}, {cy}; not finite')
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
