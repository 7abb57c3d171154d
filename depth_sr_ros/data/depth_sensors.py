# SPDX-License-Identifier: Apache-2.0
"""What depth cameras and LiDARs make of a scene. Pixels and metres only: works on any crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from depth_sr_ros.data.depth_holes import blob_mask, brightness, edge_mask, ragged
from depth_sr_ros.data.downsampling import (
    area_downsample,
    cell_samples,
    low_frequency_field,
    low_size,
    valid_depth,
)

#: Focal length (px, in a 640 px wide image) times baseline (m) of the Kinect v1: 1/8 px of
#: disparity is one step of the published 35130 cm / z.
KINECT_FOCAL_BASELINE = 351.30 / 8


def _check_focal_baseline(value: float) -> None:
    if not 1 <= value <= 1000:
        raise ValueError(f'focal length times baseline is {value}; allowed is 1 to 1000 px m')


def kinect_quantise(depth: np.ndarray, noise: np.ndarray | float = 0.0, steps: float = 351.30):
    """Return the depth (m) that a Kinect v1 reports for `depth` (m), with `noise` in steps.

    z = 351.30 / round(351.30 / z + noise), in whole 1/8 px of disparity (Barron and Malik,
    'Intrinsic Scene Properties from a Single RGB-D Image', CVPR 2013, who write 35130 for
    centimetres). Steps are 2.8 mm at 1 m, 11 mm at 2 m, 71 mm at 5 m. Their '+ 0.5' is the
    rounding, not a bias. The rounding of z itself to centimetres, found in some versions, is left
    out: recorded Kinect frames show the finer steps. Not positive stays 0.
    """
    disparity = np.floor(steps / np.maximum(depth, 1e-6) + noise + 0.5)
    return np.where(depth > 0, steps / np.maximum(disparity, 1), 0).astype(np.float32)


@dataclass(frozen=True)
class Kinect:
    """A structured-light camera such as the Kinect v1, depth (H, W), 0 where it sees nothing.

    Lateral jitter N(0, `jitter` px), shared by the pixels of each patch of `patch` x `patch`, as
    windows that are matched at once share it (outlines become ragged in runs of pixels); only one
    pixel of each cell of `cell` x `cell` measured and repeated, the one at `phase` from the cell's
    first row and column (outlines end where cells do, as in the simulated frames of Choi, Zhou and
    Koltun, CVPR 2015); objects fatter by half of `window` px, over which disparity is matched (1:
    not at all); axial noise of sigma = 0.0012 + 0.0019 (z - 0.4)^2 m (Nguyen, Izadi and Lovell
    2012); a smooth `distortion` of that share of z; disparity rounded by `kinect_quantise`; the
    projector's `shadow` to the left of near objects (projector right of the camera), of width
    focal_baseline (1 / z_near - 1 / z_far) px, or to the right if `mirrored`; holes along a share
    `edge_holes` of the depth edges; nothing nearer than `near` or beyond `far` metres.

    focal_baseline: px m in the RGB image's pixels.
    """

    focal_baseline: float = KINECT_FOCAL_BASELINE
    jitter: float = 0.5
    patch: int = 1
    cell: int = 1
    phase: tuple[int, int] = (0, 0)
    window: int = 1
    near: float = 0.4
    far: float = 8.0
    edge_holes: float = 0.4
    distortion: float = 0.004
    shadow: bool = True
    mirrored: bool = False

    def __post_init__(self) -> None:
        _check_focal_baseline(self.focal_baseline)
        for name in ('patch', 'cell', 'window'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}; allowed is 1 or more pixels')
        if not all(0 <= offset < self.cell for offset in self.phase):
            raise ValueError(
                f'phase is {self.phase}; allowed is 0 to {self.cell - 1} px '
                f'in a cell of {self.cell}'
            )

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        shape = depth.shape
        seen = (depth >= self.near) & (depth <= self.far)
        focal_baseline = self.focal_baseline * shape[1] / rgb.shape[1]
        if self.window > 1:
            inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-3), np.float32(0))
            fat = fattened(inverse, self.window)
            depth = np.where(fat > 0, 1 / np.maximum(fat, 1e-6), np.float32(0)).astype(np.float32)
        if self.shadow:
            shadow = projector_shadow(depth, focal_baseline, self.mirrored)
            seen &= ~ragged(shadow, 1.5, rng, 0.3, 0.5)
        if self.edge_holes:
            seen &= ~edge_mask(depth, self.edge_holes, 3, rng)
        z = _jittered(depth, self.jitter, rng, self.patch)
        if self.cell > 1:
            rows, columns = (
                np.minimum(np.arange(n) // self.cell * self.cell + offset, n - 1)
                for n, offset in zip(shape, self.phase, strict=True)
            )
            z = z[rows[:, None], columns]
        # A pixel's disparity comes from a window of its neighbours, so noise is shared with them:
        # blurred by 1.2 px, white noise keeps 1 / 4.25 of its deviation.
        noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), 1.2)
        sigma = 0.0012 + 0.0019 * np.square(z - np.float32(0.4))
        noisy = z + sigma * np.float32(4.25) * noise
        if self.distortion:
            noisy *= 1 + np.float32(self.distortion) * low_frequency_field(shape, 40, rng)
        disparity_noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(1 / 6)
        measured = kinect_quantise(
            np.maximum(noisy, 0.1 * z), disparity_noise, steps=8 * self.focal_baseline
        )
        return np.where(seen & (z > 0), measured, np.float32(0))


def fattened(disparity: np.ndarray, window: int) -> np.ndarray:
    """Disparity (h, w) matched over windows of `window` px: across an edge the nearer one wins."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    nearest = cv2.dilate(disparity, kernel)
    return np.where(nearest > 1.05 * disparity, nearest, disparity)


def projector_shadow(
    depth: np.ndarray, focal_baseline: float, mirrored: bool = False
) -> np.ndarray:
    """Return bool (h, w): what a projector right of the camera (left if mirrored) cannot light.

    A point at column x meets the projector's column x - focal_baseline / z. Where a point further
    right meets a smaller one, it is nearer and stands in the light.
    """
    if mirrored:
        return projector_shadow(depth[:, ::-1], focal_baseline)[:, ::-1]
    x = np.arange(depth.shape[1], dtype=np.float32)
    column = np.where(depth > 0, x - focal_baseline / np.maximum(depth, 1e-3), np.float32(np.inf))
    nearest = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    shadow = np.zeros(depth.shape, bool)
    shadow[:, :-1] = nearest[:, 1:] < column[:, :-1]
    return shadow & (depth > 0)


def _jittered(
    depth: np.ndarray, sigma: float, rng: np.random.Generator, patch: int = 1
) -> np.ndarray:
    height, width = depth.shape
    patches = (2, -(-height // patch), -(-width // patch))
    offset = np.rint(rng.standard_normal(patches, dtype=np.float32) * sigma)
    offset = offset.repeat(patch, axis=1).repeat(patch, axis=2)[:, :height, :width]
    y = np.clip(np.arange(height)[:, None] + offset[0].astype(np.int32), 0, height - 1)
    x = np.clip(np.arange(width) + offset[1].astype(np.int32), 0, width - 1)
    return depth[y, x]


@dataclass(frozen=True)
class StereoCamera:
    """An active stereo camera such as the RealSense D400 series, depth (H, W).

    Disparity is matched over windows: objects' outlines are `window` px fat and rounded, noise is
    smooth, of `disparity_sigma` px; missing are the strip that only one camera sees, ragged
    outlines and specks.
    """

    focal_baseline: float = 25.0
    window: int = 5
    disparity_sigma: float = 0.05
    speckle: float = 0.005

    def __post_init__(self) -> None:
        _check_focal_baseline(self.focal_baseline)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        shape = depth.shape
        focal_baseline = self.focal_baseline * shape[1] / rgb.shape[1]
        disparity = np.where(depth > 0, focal_baseline / np.maximum(depth, 1e-3), np.float32(0))
        matched = cv2.medianBlur(fattened(disparity, self.window), 5)
        noise = 0.8 * low_frequency_field(shape, 9, rng) + 0.6 * low_frequency_field(shape, 4, rng)
        matched = matched + np.float32(self.disparity_sigma) * noise
        matched = np.maximum(matched, 0.3 * disparity)
        seen = (depth > 0) & (matched > 0)
        seen &= ~ragged(projector_shadow(depth, focal_baseline), 2, rng, 0.2, 0.5)
        seen &= ~edge_mask(depth, 0.6, self.window, rng)
        if self.speckle:
            seen &= ~blob_mask(shape, self.speckle, rng, 5)
        measured = focal_baseline / np.maximum(matched, 1e-3)
        return np.where(seen, measured, np.float32(0)).astype(np.float32)


@dataclass(frozen=True)
class AlignedDepth:
    """Depth of a coarser camera beside the RGB one, drawn into the RGB image as rectangles.

    Depth (H, W). What drivers call aligned to colour (librealsense's `align`): a measurement fills
    a rectangle of about `factor` x `factor` px, which parallax moves against its neighbours where
    depth changes, so that outlines are blocks without a grid. What the RGB camera sees and the
    other one, to the right of it, does not is missing: left of near objects (right if mirrored, the
    camera being to the left), focal_baseline (1 / z_near - 1 / z_far) px wide.

    focal_baseline: px m in the RGB image's pixels; 14 is 23 mm beside a camera of 600 px.
    """

    factor: float = 2.0
    focal_baseline: float = 14.0
    mirrored: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 16:
            raise ValueError(f'factor is {self.factor}; allowed is 1 to 16')
        _check_focal_baseline(self.focal_baseline)

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        if self.mirrored:
            flipped = AlignedDepth(self.factor, self.focal_baseline)
            return np.ascontiguousarray(flipped(rgb, depth[:, ::-1], rng)[:, ::-1])
        focal_baseline = self.focal_baseline * depth.shape[1] / rgb.shape[1]
        # The other camera sees a point so many of RGB's pixels further left.
        parallax = focal_baseline / np.maximum(depth, 1e-3)
        row_phase, column_phase = rng.uniform(0, self.factor, 2).astype(np.float32)[::-1]

        def measured_at(offset: np.ndarray | np.float32, length: int) -> np.ndarray:
            """Where the middles of the other camera's pixels lie in RGB's."""
            place = np.arange(length, dtype=np.float32) + offset
            middle = (np.floor(place / self.factor) + 0.5) * self.factor
            return np.rint(middle - offset).astype(np.intp).clip(0, length - 1)

        rows = measured_at(row_phase, depth.shape[0])[:, None]
        measured = depth[rows, measured_at(column_phase - parallax, depth.shape[1])]
        hidden = projector_shadow(depth, focal_baseline)
        return np.where((depth > 0) & ~hidden, measured, np.float32(0))


@dataclass(frozen=True)
class TimeOfFlight:
    """A time-of-flight camera of 1 / factor of the RGB's resolution.

    In each cell the surface that returns most light (brightness / z^2) wins; a smooth positive
    bias of 0 to `max_bias` of z (multipath); within a pixel or two of edges, some flying pixels
    a z1 + (1 - a) z2 between the surfaces; noise grows with distance and on dark surfaces, whose
    weakest returns are missing.
    """

    factor: float = 2.0
    max_bias: float = 0.03
    flying: float = 0.5
    sigma: float = 0.003

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 64:
            raise ValueError(f'ToF factor is {self.factor}; allowed is 1 to 64')
        if not 0 <= self.max_bias <= 0.2:
            raise ValueError(f'ToF bias is {self.max_bias}; allowed is 0 to 0.2')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        size = low_size(depth.shape, self.factor)
        grey = 0.15 + brightness(rgb, depth.shape)
        light = np.where(depth > 0, grey / np.square(np.maximum(depth, 1e-3)), np.float32(0))
        per_side = min(4, math.ceil(self.factor))
        samples, lights = (cell_samples(image, size, per_side) for image in (depth, light))
        winner = lights.argmax(0)[None]
        z = np.take_along_axis(samples, winner, 0)[0]
        returned = np.take_along_axis(lights, winner, 0)[0]
        seen = z > 0

        if self.flying:
            kernel = np.ones((3, 3), np.uint8)
            far = cv2.dilate(z, kernel)
            near = cv2.erode(np.where(seen, z, np.float32(1e9)), kernel)
            flies = seen & (far > 1.05 * near) & (rng.random(size) < self.flying)
            # Mostly one surface or the other: seldom half way.
            share = rng.beta(0.6, 0.6, size).astype(np.float32)
            z = np.where(flies, share * near + (1 - share) * far, z)

        if self.max_bias:
            field = low_frequency_field(size, max(2.0, 60 / self.factor), rng)
            height = np.float32(rng.uniform(0, self.max_bias))
            z = z * (1 + height * (0.5 + 0.5 * np.tanh(field)))
        if seen.any():
            # 1 for the median return; shot noise falls with the light's square root.
            relative = returned / np.median(returned[seen])
            noise = self.sigma / np.sqrt(np.maximum(relative, 0.02))
            z = z * (1 + noise * rng.standard_normal(size, dtype=np.float32))
            seen &= relative > 0.04
        return np.where(seen, z, np.float32(0)).astype(np.float32)


@dataclass(frozen=True)
class PhoneLidar:
    """A phone's LiDAR as its maker's software hands it out: dense, smooth, 1 / factor of RGB.

    Distances exist only at anchors on a jittered grid of `stride` low-resolution pixels; the rest
    is refilled with the anchors' mean, weighted by nearness and by likeness of colour (as Lin et
    al., 'Prompting Depth Anything for 4K Resolution Accurate Metric Depth Estimation', CVPR 2025,
    imitate ARKit's 256x192 images). So thin things vanish and outlines follow the picture.
    """

    factor: float = 2.5
    stride: int = 7
    sigma: float = 0.002

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 64:
            raise ValueError(f'phone LiDAR factor is {self.factor}; allowed is 1 to 64')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low = area_downsample(valid_depth(depth), low_size(depth.shape, self.factor), 0.3)
        height, width = low.shape
        colour = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        colour = colour.astype(np.float32) / 255
        stride = max(1, min(self.stride, min(height, width) // 3))
        rows, columns = height // stride + 2, width // stride + 2

        # Anchors of one cell more on every side, so that each pixel has all nine around it.
        jitter = rng.uniform(-0.5, 0.5, (2, rows, columns))
        phase = rng.uniform(0, stride, 2)
        anchor_y = (np.arange(rows)[:, None] - 0.5 + jitter[0]) * stride + phase[0]
        anchor_x = (np.arange(columns) - 0.5 + jitter[1]) * stride + phase[1]
        y = np.clip(np.rint(anchor_y), 0, height - 1).astype(np.intp)
        x = np.clip(np.rint(anchor_x), 0, width - 1).astype(np.intp)
        noise = 1 + self.sigma * rng.standard_normal((rows, columns), dtype=np.float32)
        anchor_colour = colour[y, x]
        # Inverse depth is linear on planes, so each anchor carries its slope and slanted surfaces
        # get no steps; across an edge the lesser of both sides' slopes is none.
        inverse = np.where(low > 0, 1 / np.maximum(low, 1e-3), np.float32(0))
        anchor_inverse = inverse[y, x] * np.maximum(noise, np.float32(0.5))
        slope_y, slope_x = (_lesser_slope(inverse, axis)[y, x] for axis in (0, 1))

        cell_y = ((np.arange(height) - phase[0]) / stride + 0.5).round().astype(np.intp)[:, None]
        cell_x = ((np.arange(width) - phase[1]) / stride + 0.5).round().astype(np.intp)
        total = np.zeros(low.shape, np.float32)
        weights = np.full(low.shape, 1e-12, np.float32)
        pixel_y = np.arange(height, dtype=np.float32)[:, None]
        pixel_x = np.arange(width, dtype=np.float32)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                i, j = np.clip(cell_y + dy, 0, rows - 1), np.clip(cell_x + dx, 0, columns - 1)
                off_y, off_x = pixel_y - y[i, j], pixel_x - x[i, j]
                unlike = np.square(colour - anchor_colour[i, j]).sum(2)
                exponent = (np.square(off_y) + np.square(off_x)) / (2 * (0.55 * stride) ** 2)
                exponent += unlike / (2 * 0.12**2)
                level = anchor_inverse[i, j]
                weight = np.exp(-np.minimum(exponent, 20)).astype(np.float32) * (level > 0)
                slanted = level + slope_y[i, j] * off_y + slope_x[i, j] * off_x
                total += weight * np.clip(slanted, 0.7 * level, 1.4 * level)
                weights += weight
        filled = cv2.GaussianBlur(weights, (0, 0), 0.7) / cv2.GaussianBlur(
            np.maximum(total, 1e-12), (0, 0), 0.7
        )
        return np.where((low > 0) & (weights > 1e-9), filled, np.float32(0)).astype(np.float32)


def _lesser_slope(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the slope per pixel along `axis`: the lesser of both sides', 0 if they disagree."""
    reach = min(2, values.shape[axis] - 1)
    if reach < 1:
        return np.zeros_like(values)
    values = np.moveaxis(values, axis, 0)
    # Continued linearly past the border, so that both sides agree there.
    beyond = [(reach, reach), (0, 0)]
    padded = np.pad(values, beyond, mode='reflect', reflect_type='odd')
    ahead = np.moveaxis(padded[2 * reach :] - values, 0, axis) / reach
    behind = np.moveaxis(values - padded[: len(values)], 0, axis) / reach
    lesser = np.where(np.abs(ahead) < np.abs(behind), ahead, behind)
    return np.where(ahead * behind > 0, lesser, np.float32(0))


def _crop_share(shape: tuple[int, ...], frame_size: tuple[int, int] | None) -> float:
    if frame_size is None:
        return 1.0
    return shape[0] * shape[1] / (frame_size[0] * frame_size[1])


@dataclass(frozen=True)
class SparsePoints:
    """Keep `count` random measurements, depth (H, W) with 0 elsewhere.

    frame_size: (H, W) of the frame that `count` is meant for, where crops of it are given: they
    keep the density. None: `count` points in whatever is given.
    corners: prefer textured pixels, as the landmarks of a visual odometry.
    """

    count: int = 500
    frame_size: tuple[int, int] | None = None
    corners: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f'number of sparse points is {self.count}; allowed is 1 or more')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        where = np.flatnonzero(depth)
        count = max(1, round(self.count * _crop_share(depth.shape, self.frame_size)))
        if count >= where.size:
            return depth
        if self.corners:
            grey = brightness(rgb, depth.shape)
            texture = np.abs(cv2.Laplacian(grey, cv2.CV_32F, ksize=3)).ravel()[where] + 0.01
            # Gumbel's trick: the largest of log p + noise are draws without replacement from p.
            score = np.log(texture) + rng.gumbel(size=where.size)
            chosen = where[np.argpartition(score, -count)[-count:]]
        else:
            chosen = rng.choice(where, count, replace=False, shuffle=False)
        sparse = np.zeros_like(depth)
        sparse.ravel()[chosen] = depth.ravel()[chosen]
        return sparse


@dataclass(frozen=True)
class LidarLines:
    """A spinning LiDAR of `lines` rows projected into the frame, depth (H, W), 0 elsewhere.

    Rows are bent and tilted a little, with a measurement every `step` px and some lost. The LiDAR
    looks from `baseline` px m (focal length times distance) beside the camera: behind the outline
    of a near object it still sees the background, so that returns land on the object that are
    deeper than it (parallax bleed).

    frame_size: as in SparsePoints.
    """

    lines: int = 64
    step: float = 2.0
    baseline: float = 20.0
    sigma: float = 0.004
    dropout: float = 0.15
    frame_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.lines <= 512:
            raise ValueError(f'number of LiDAR lines is {self.lines}; allowed is 1 to 512')
        if not self.step >= 1:
            raise ValueError(f'LiDAR step is {self.step} px; allowed is 1 or more')

    def __call__(self, rgb: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        depth = valid_depth(depth)
        height, width = depth.shape
        spacing = (self.frame_size or depth.shape)[0] / self.lines
        x = np.arange(rng.uniform(0, self.step), width, self.step)
        across = (x - rng.uniform(0, width)) / max(width, 1)
        # Rows above and below the frame too: bent lines come in there.
        row = np.arange(-0.2 * height, 1.2 * height, spacing) + rng.uniform(0, spacing)
        bend = height * (rng.normal(0, 0.03) * across + rng.normal(0, 0.04) * np.square(across))
        y = row[:, None] + bend + rng.normal(0, 0.2, (row.size, x.size))
        x = np.broadcast_to(x, y.shape) + rng.normal(0, 0.2, y.shape)
        y, x = np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)
        keep = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        keep &= rng.random(y.shape) >= self.dropout
        y, x = y[keep], x[keep]
        z = depth[y, x]
        y, x, z = y[z > 0], x[z > 0], z[z > 0]

        side = 1 if rng.random() < 0.5 else -1
        baseline = self.baseline * width / rgb.shape[1]
        bled = z
        for reach in (1, 2, 3, 4, 6, 8):
            behind = depth[y, np.clip(x + side * reach, 0, width - 1)]
            parallax = baseline * (1 / z - 1 / np.maximum(behind, 1e-3))
            hidden = (bled == z) & (behind > 1.05 * z) & (parallax > reach)
            bled = np.where(hidden & (rng.random(z.size) < 0.6), behind, bled)
        noise = 1 + np.float32(self.sigma) * rng.standard_normal(z.size, dtype=np.float32)
        sparse = np.zeros_like(depth)
        sparse[y, x] = bled * np.maximum(noise, np.float32(0.05))
        return sparse
