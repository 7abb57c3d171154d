# SPDX-License-Identifier: Apache-2.0
"""From true depth to what a sensor would have delivered: composing, naming and drawing.

The transforms themselves are in downsampling, depth_noise, depth_holes and depth_sensors. All
are callables `(rgb, depth, rng) -> depth`, see `Degradation`; the same rng state gives the same
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from depth_sr_ros.data.depth_holes import (
    BlobHoles,
    BorderHoles,
    DepthRangeHoles,
    EdgeHoles,
    GlassHoles,
    RectangleHoles,
    SpecularHoles,
)
from depth_sr_ros.data.depth_noise import (
    QUANTISATIONS,
    GaussianNoise,
    JPEGArtefacts,
    LowFrequencyBias,
    Misregistration,
    Outliers,
    Quantise,
    RangeLimit,
)
from depth_sr_ros.data.depth_sensors import (
    AlignedDepth,
    Kinect,
    LidarLines,
    PhoneLidar,
    SparsePoints,
    StereoCamera,
    TimeOfFlight,
)
from depth_sr_ros.data.downsampling import Downsample, PlacePoints, Upsample, valid_depth

FRAME_SIZE = (480, 640)


class Degradation(Protocol):
    """Takes the truth away: `degradation(rgb, depth, rng) -> depth`.

    rgb: uint8 (H, W, 3). depth: (h, w) metres, 0 or NaN = no measurement, up to RGB's size.
    Returns float32 metres with 0 where nothing is measured and never NaN: (h, w) smaller than
    RGB from those that downsample, the size of `depth` from the others. Inputs are left as they
    are. Only Misregistration makes a pixel valid that was not (it moves them).
    """

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return degraded depth, float32 (h, w) metres."""
        ...


@dataclass(frozen=True)
class Compose:
    """Apply degradations from left to right; without any, only mark what is missing with 0."""

    steps: tuple[Degradation, ...] = ()

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        for step in self.steps:
            depth = step(rgb, depth, rng)
        return depth


@dataclass(frozen=True)
class AtSensorScale:
    """Apply `inner` to the scene shrunk or grown so that its median depth is `median` metres.

    Sensors work at a few metres, rendered scenes may be streets. The result is scaled back.
    """

    inner: Degradation
    median: float = 2.0

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        values = depth[depth > 0]
        if not values.size:
            return self.inner(rgb, depth, rng)
        factor = np.float32(self.median / float(np.median(values)))
        return self.inner(rgb, depth * factor, rng) / factor


def _numbers(text: str, count: int) -> list[float]:
    parts = text.split(':')
    if len(parts) > count:
        raise ValueError(f'has {len(parts)} values, at most {count} are allowed')
    numbers = [float(part) for part in parts]
    if not all(map(math.isfinite, numbers)):
        raise ValueError('is not finite')
    return numbers


def _integer(text: str) -> int:
    value = float(text)
    if not value.is_integer():
        raise ValueError('is not a whole number')
    return int(value)


def _one(build: Callable[[float], Degradation]) -> Callable[[str], Degradation]:
    return lambda text: build(*_numbers(text, 1))


# name: (what comes after '=', default or None where it must be given, builder)
_GRAMMAR: dict[str, tuple[str, str | None, Callable[[str], Degradation]]] = {
    'scale': ('factor 1 to 64, area mean', None, _one(Downsample)),
    'bicubic': ('factor 1 to 64', None, _one(lambda s: Downsample(s, 'bicubic'))),
    'nearest': (
        'factor 1 to 64, the pixel in the middle of each cell',
        None,
        _one(lambda s: Downsample(s, 'nearest')),
    ),
    'sliced': (
        'factor 1 to 64, the first pixel of each cell, as INTER_NEAREST takes it',
        None,
        _one(lambda s: Downsample(s, 'nearest', offset=(0, 0))),
    ),
    'upsampled': ("share of RGB's size 0.1 to 1, by repeating pixels", '1', _one(Upsample)),
    'noise': ('sigma relative to depth, 0 to 0.5', None, _one(GaussianNoise)),
    'noise_m': ('sigma in metres, 0 to 100', None, _one(lambda s: GaussianNoise(s, False))),
    'bias': ('sigma relative to depth, 0 to 0.2, smooth', '0.01', _one(LowFrequencyBias)),
    'quantise': (', '.join(QUANTISATIONS), None, Quantise),
    'jpeg': ('quality 1 to 100', '50', lambda t: JPEGArtefacts(_integer(t))),
    'outliers': ('fraction 0 to 0.5', None, _one(Outliers)),
    'misregistration': ('pixels of RGB, 0 to 32; goes first', '2', _one(Misregistration)),
    'range': ('NEAR:FAR metres', None, lambda t: RangeLimit(*_near_far(t))),
    'kinect': (
        'focal length times baseline, 1 to 1000 px m',
        str(Kinect.focal_baseline),
        _one(Kinect),
    ),
    'stereo': (
        'focal length times baseline, 1 to 1000 px m',
        str(StereoCamera.focal_baseline),
        _one(StereoCamera),
    ),
    'aligned': ('factor 1 to 16 of a coarser camera beside the RGB one', '2', _one(AlignedDepth)),
    'tof': ('factor 1 to 64', '2', _one(TimeOfFlight)),
    'phone_lidar': ('factor 1 to 64', '2.5', _one(PhoneLidar)),
    'lidar_lines': ('lines in the frame, 1 to 512', '64', lambda t: LidarLines(_integer(t))),
    'sparse': ('points in the frame, 1 or more', '500', lambda t: SparsePoints(_integer(t))),
    'corners': (
        'textured points in the frame, 1 or more',
        '500',
        lambda t: SparsePoints(_integer(t), corners=True),
    ),
    'holes': ('fraction 0 to 0.95, blobs', '0.1', _one(BlobHoles)),
    'rectangles': ('fraction 0 to 0.95', '0.1', _one(RectangleHoles)),
    'depth_band': ('fraction 0 to 0.95 lost in a band of depths', '0.15', _one(DepthRangeHoles)),
    'border': ('width 0 to 400 px of RGB', '20', lambda t: BorderHoles(_integer(t))),
    'specular': ('fraction 0 to 0.95, brightest', '0.03', _one(SpecularHoles)),
    'edges': ('probability 0 to 1', '0.6', _one(EdgeHoles)),
    'glass': ('objects, 0 to 20', '2', lambda t: GlassHoles(_integer(t))),
}


def _near_far(text: str) -> list[float]:
    numbers = _numbers(text, 2)
    if len(numbers) != 2:
        raise ValueError('must be NEAR:FAR')
    return numbers


def degradation_help() -> str:
    """Return one line per name that `parse_degradation` takes."""
    return '\n'.join(
        f'{name}{"" if default is None else f" (={default})"}: {meaning}'
        for name, (meaning, default, _) in _GRAMMAR.items()
    )


def parse_degradation(text: str) -> Degradation:
    """Read 'scale=8,noise=0.02' as Compose of the named transforms, applied from left to right.

    Each item is NAME=VALUE, or NAME alone where a default exists; '' and 'clean' change nothing.
    See `degradation_help`. Raises ValueError that quotes the item and what is allowed.
    """
    steps: list[Degradation] = []
    for item in text.split(','):
        item = item.strip()
        if item in ('', 'clean'):
            continue
        name, equals, value = (part.strip() for part in item.partition('='))
        if name not in _GRAMMAR:
            raise ValueError(f'degradation {name!r} is unknown; allowed: {", ".join(_GRAMMAR)}')
        meaning, default, build = _GRAMMAR[name]
        if not equals:
            if default is None:
                raise ValueError(f'degradation {name!r} needs a value: {name}=({meaning})')
            value = default
        try:
            steps.append(build(value))
        except (ValueError, OverflowError) as error:
            raise ValueError(f'degradation {item!r}: {error}; {name} takes {meaning}') from error
    return Compose(tuple(steps))


def training_kind(rng: np.random.Generator) -> str:
    """Draw what a training sample is made by: 'downsampling', 'dense sensor' or 'sparse'."""
    return str(rng.choice(['downsampling', 'dense sensor', 'sparse'], p=[0.40, 0.43, 0.17]))


def training_degradation(
    rng: np.random.Generator,
    frame_size: tuple[int, int] = FRAME_SIZE,
    kind: str | None = None,
) -> Degradation:
    """Draw the degradation of one training sample.

    Two fifths are downsampled x1.4 to x16, nearly half come from a dense sensor, the rest are
    sparse points or LiDAR lines, so that one network learns all. frame_size: (H, W) of the frame
    that crops are cut from; 'sparse points' mean that many in it. On crops, scale factors stay
    what they are. kind: of `training_kind`; None draws one.
    """
    kind = training_kind(rng) if kind is None else kind
    steps: list[Degradation] = []
    if rng.random() < 0.15:
        steps.append(Misregistration(pixels=float(rng.uniform(0.5, 3))))
    if kind == 'downsampling':
        steps += _draw_downsampled(rng)
    elif kind == 'dense sensor':
        steps += _draw_sensor(rng)
    else:
        steps += _draw_sparse(rng, frame_size)
    return Compose(tuple(steps))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _chance(rng: np.random.Generator, *options: tuple[float, Callable[[], Degradation]]):
    """Return the degradation of one option, drawn by probability; none with what is left to 1."""
    draw = rng.random()
    for probability, build in options:
        draw -= probability
        if draw < 0:
            return [build()]
    return []


def _draw_holes(rng: np.random.Generator, probability: float) -> list[Degradation]:
    if rng.random() >= probability:
        return []
    return _chance(
        rng,
        (0.30, lambda: GlassHoles(int(rng.integers(1, 5)), see_through=float(rng.uniform(0, 0.6)))),
        (0.25, lambda: BlobHoles(_log_uniform(rng, 0.02, 0.5))),
        (0.10, lambda: RectangleHoles(_log_uniform(rng, 0.02, 0.3))),
        (0.10, lambda: DepthRangeHoles(_log_uniform(rng, 0.05, 0.4))),
        (0.10, lambda: SpecularHoles(_log_uniform(rng, 0.005, 0.1), float(rng.choice([0, 0.1])))),
        (0.15, lambda: BorderHoles(int(rng.integers(4, 40)))),
    )


def _draw_downsampled(rng: np.random.Generator) -> list[Degradation]:
    # What can hide behind a cell is lost before it is averaged, so half of the holes come first.
    steps = _draw_holes(rng, 0.12)
    if rng.random() < 0.7:
        factor = float(rng.choice([2, 4, 8, 16], p=[0.28, 0.24, 0.24, 0.24]))
    else:
        factor = _log_uniform(rng, 1.4, 16)
    method = str(rng.choice(['area', 'bicubic', 'nearest'], p=[0.5, 0.2, 0.3]))
    offset, place = _draw_offset(rng), []
    if method == 'nearest' and factor.is_integer() and rng.random() < 0.7:
        # Found to be points: mostly the first of each cell, else the one in the middle.
        share = 0.0 if rng.random() < 0.7 else 0.5
        offset = (share, share)
        place = [PlacePoints(int(factor), (int(share * factor),) * 2)]
    steps.append(Downsample(factor, method, offset=offset))
    noise = rng.random()
    if noise < 0.25:
        steps.append(GaussianNoise(0.02))
    elif noise < 0.55:
        steps.append(GaussianNoise(_log_uniform(rng, 0.002, 0.06)))
    elif noise < 0.60:
        steps.append(AtSensorScale(GaussianNoise(_log_uniform(rng, 0.003, 0.06), relative=False)))
    steps += _draw_rounding(rng, 0.2)
    if rng.random() < 0.1:
        steps.append(Outliers(float(rng.uniform(0, 0.05))))
    return steps + _draw_holes(rng, 0.12) + place


def _draw_offset(rng: np.random.Generator) -> tuple[float, float]:
    kind = rng.random()
    if kind < 0.4:
        return 0.5, 0.5
    if kind < 0.7:
        return 0.0, 0.0
    row, column = rng.random(2).tolist()
    return row, column


def _draw_rounding(rng: np.random.Generator, probability: float) -> list[Degradation]:
    if rng.random() >= probability:
        return []
    return _chance(
        rng,
        (0.75, lambda: Quantise(str(rng.choice(QUANTISATIONS)))),
        (0.25, lambda: JPEGArtefacts(int(rng.integers(25, 95)))),
    )


def _draw_sensor(rng: np.random.Generator) -> list[Degradation]:
    kind = rng.random()
    steps: list[Degradation] = []
    place: list[Degradation] = []
    if kind < 0.53:
        cell = 1
        if rng.random() < 0.8:
            cell = int(rng.choice([1, 2, 3], p=[0.55, 0.4, 0.05]))
            # Outlines that are right to the pixel must stay.
            exact = 0.75 if cell == 1 else 0.2
            # Mostly a cell's first pixel; where it is another, only RGB can tell.
            phase = (0, 0) if rng.random() < 0.75 else tuple(rng.integers(0, cell, 2).tolist())
            sensor: Degradation = Kinect(
                focal_baseline=_log_uniform(rng, 25, 80),
                jitter=float(
                    rng.choice([0, 0.25, rng.uniform(0, 1.0)], p=[exact, 0.2, 0.8 - exact])
                ),
                patch=int(rng.choice([1, 2, 3, 5], p=[0.55, 0.15, 0.15, 0.15])),
                cell=cell,
                phase=phase,
                window=int(rng.choice([1, 3, 5, 7], p=[0.6, 0.15, 0.15, 0.1])),
                edge_holes=float(rng.choice([0, rng.uniform(0, 0.8)])),
                distortion=float(rng.uniform(0, 0.01)),
                shadow=bool(rng.random() < 0.7),
                mirrored=bool(rng.random() < 0.25),
            )
            if cell > 1 and phase == (0, 0) and rng.random() < 0.7:
                place = [PlacePoints(cell)]
        else:
            sensor = StereoCamera(
                focal_baseline=_log_uniform(rng, 12, 50),
                window=int(rng.choice([3, 5, 7, 9])),
                disparity_sigma=_log_uniform(rng, 0.02, 0.15),
                speckle=float(rng.uniform(0, 0.03)),
            )
        aligned = rng.random() < 0.5 and cell == 1
        if rng.random() < 0.4:
            sensor = Compose((sensor, LowFrequencyBias(float(rng.uniform(0, 0.01)))))
        if aligned:
            # The last thing that happens: what a driver repeats is equal.
            sensor = Compose((sensor, _draw_aligned(rng)))
        steps.append(AtSensorScale(sensor, median=_log_uniform(rng, 0.8, 3.5)))
        if rng.random() < 0.2 and not aligned and not place:
            factor = float(rng.choice([2, 4]))
            steps.append(Downsample(factor, 'nearest', offset=_draw_offset(rng)))
        steps += _draw_holes(rng, 0.35) + _draw_holes(rng, 0.35)
    elif kind < 0.63:
        sensor = TimeOfFlight(
            _log_uniform(rng, 1.5, 8), flying=float(rng.uniform(0, 0.7)),
            sigma=_log_uniform(rng, 0.001, 0.01),
        )  # fmt: skip
        steps += [sensor, *_draw_holes(rng, 0.4)]
    elif kind < 0.73:
        steps.append(PhoneLidar(_log_uniform(rng, 2, 8), stride=int(rng.integers(4, 9))))
    else:
        # Perfect but for holes and noise, as simulated cameras are: nothing hides what has to be
        # repaired, and what is right has to stay.
        perfect = rng.random()
        if perfect < 0.4:
            glass = GlassHoles(int(rng.integers(1, 5)), see_through=float(rng.uniform(0, 0.6)))
            steps.append(glass)
        elif perfect < 0.7:
            steps += _draw_holes(rng, 1.0) + _draw_holes(rng, 0.5)
        steps += _chance(rng, (0.6, lambda: GaussianNoise(_log_uniform(rng, 0.001, 0.02))))
        if rng.random() < 0.25:
            steps.append(AtSensorScale(_draw_aligned(rng), median=_log_uniform(rng, 0.8, 3.5)))
    return steps + _chance(rng, (0.3, lambda: Quantise('mm'))) + place


def _draw_aligned(rng: np.random.Generator) -> AlignedDepth:
    return AlignedDepth(
        factor=float(rng.uniform(1, 3)),
        focal_baseline=_log_uniform(rng, 3, 40),
        mirrored=bool(rng.random() < 0.5),
    )


def _draw_sparse(rng: np.random.Generator, frame_size: tuple[int, int]) -> list[Degradation]:
    if rng.random() < 0.65:
        count = 500 if rng.random() < 0.4 else round(_log_uniform(rng, 100, 2000))
        steps: list[Degradation] = [
            SparsePoints(count, frame_size, corners=bool(rng.random() < 0.15))
        ]
        if rng.random() < 0.4:
            steps.append(GaussianNoise(_log_uniform(rng, 0.002, 0.04)))
    else:
        lines = int(rng.choice([8, 16, 32, 64]))
        steps = [
            LidarLines(
                lines,
                step=float(rng.uniform(1.5, 6)),
                baseline=float(rng.uniform(0, 40)),
                sigma=_log_uniform(rng, 0.001, 0.01),
                dropout=float(rng.uniform(0, 0.4)),
                frame_size=frame_size,
            )
        ]
        if rng.random() < 0.75:
            # Streets are 20 m away and a LiDAR sits half a metre from the camera at most.
            steps = [AtSensorScale(steps[0], median=_log_uniform(rng, 1.5, 15))]
    if rng.random() < 0.2:
        steps.append(Outliers(float(rng.uniform(0, 0.05))))
    return steps


#: The fixed set on which weights are compared; densities are those of a 640x480 frame.
VALIDATION_DEGRADATIONS: dict[str, Degradation] = {
    'x2': Downsample(2),
    'x2_nearest': Downsample(2, 'nearest', offset=(0, 0)),
    'x4': Downsample(4),
    'x8': Downsample(8),
    'x16': Downsample(16),
    'x4_points': Compose((Downsample(4, 'nearest', offset=(0, 0)), PlacePoints(4))),
    'x8_bicubic': Downsample(8, 'bicubic'),
    'x8_noise': Compose((Downsample(8), GaussianNoise(0.02))),
    'x16_noise': Compose((Downsample(16), GaussianNoise(0.02))),
    'x8_misregistered': Compose((Misregistration(2), Downsample(8))),
    'sparse_500': SparsePoints(500, FRAME_SIZE),
    'lidar_64': AtSensorScale(LidarLines(64, frame_size=FRAME_SIZE), median=4.0),
    'kinect': AtSensorScale(Compose((Kinect(), SpecularHoles(0.01), BorderHoles(20)))),
    'kinect_cells': AtSensorScale(Kinect(cell=2, edge_holes=0, shadow=False)),
    'kinect_points': AtSensorScale(
        Compose((Kinect(jitter=0, cell=2, edge_holes=0), BorderHoles(20), PlacePoints(2)))
    ),
    'kinect_sharp': AtSensorScale(Kinect(jitter=0, edge_holes=0, shadow=False)),
    # A simulated camera: what is right has to stay.
    'exact': GaussianNoise(0.005),
    'aligned': AtSensorScale(Compose((GaussianNoise(0.005), AlignedDepth(2.0)))),
    'tof': TimeOfFlight(4.0),
    'phone_lidar': PhoneLidar(2.5),
    'glass_holes': AtSensorScale(Compose((StereoCamera(), GlassHoles(3)))),
}
