# SPDX-License-Identifier: Apache-2.0
"""What one camera measured, as another camera would see it: reprojection with a z-buffer.

Frames: x right, y down, z forward along the optical axis (REP 103), metres. Depth is the distance
along that axis (REP 118), 0 = no measurement. Pixel (0, 0) is the centre of the first pixel. Poses
are 4x4 matrices named TARGET_from_SOURCE: they take a point's coordinates in the source camera's
frame to those in the target camera's frame.

Arrays may be numpy's or torch tensors on any device; what comes back is of the same kind, on the
same device. Calibrations are prepared in float64, frames are computed in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Coefficients that each model takes, in OpenCV's order; fewer stand for zeros at the end.
DISTORTION_MODELS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}
ASPECT_TOLERANCE = 0.02
SMALLEST_SIZE = 8

_UNDISTORT_ITERATIONS = 100
# A tenth of what rounding to whole pixels costs; where the iteration does not get there, the pixel
# is outside the range in which the calibration means anything.
_UNDISTORT_TOLERANCE_PIXELS = 0.05
# The pitch of points grows where the target camera is nearer to the scene than the source camera.
_PITCH_MARGIN = 1.05
_HIDDEN_BEHIND = 0.95


class GeometryError(ValueError):
    """A calibration, pose or size that cannot be computed with; quotes it and what is allowed."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with distortion, for images of exactly width x height pixels.

    Attributes:
        fx, fy, cx, cy: focal lengths and principal point, pixels.
        distortion: coefficients in OpenCV's order; empty or all zero = none.
        model: a key of DISTORTION_MODELS, as in sensor_msgs/CameraInfo: 'plumb_bob' (k1 k2 p1 p2
            k3), 'rational_polynomial' (k1 k2 p1 p2 k3 k4 k5 k6), 'equidistant' (fisheye, k1-k4).

    Raises:
        GeometryError: focal lengths or sizes that are not above zero, or an unknown distortion.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: str = 'plumb_bob'

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise GeometryError(f'image size is {self.width}x{self.height}; both must be above 0')
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not (np.isfinite(numbers).all() and self.fx > 0 and self.fy > 0):
            raise GeometryError(
                f'focal lengths are {self.fx:g} and {self.fy:g}, principal point '
                f'({self.cx:g}, {self.cy:g}), distortion {list(self.distortion)}: focal lengths '
                'must be above 0 and everything finite (is the camera calibrated?)'
            )
        if not self.distorted:
            object.__setattr__(self, 'distortion', ())
            object.__setattr__(self, 'model', 'plumb_bob')
            return
        if self.model not in DISTORTION_MODELS:
            raise GeometryError(
                f'distortion model is {self.model!r}; allowed: {", ".join(DISTORTION_MODELS)}'
            )
        number = DISTORTION_MODELS[self.model]
        if any(self.distortion[number:]):
            raise GeometryError(
                f'distortion model {self.model} has {len(self.distortion)} coefficients, '
                f'{list(self.distortion)}; it takes {number}'
            )
        padded = (*self.distortion, *[0.0] * number)[:number]
        object.__setattr__(self, 'distortion', tuple(map(float, padded)))

    @property
    def distorted(self) -> bool:
        return any(self.distortion)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The camera of a region of the image whose first pixel is (x, y)."""
        return dataclasses.replace(self, width=width, height=height, cx=self.cx - x, cy=self.cy - y)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same view at another size.

        Raises:
            GeometryError: the aspect ratio would differ by more than 2% (and a pixel).
        """
        fitting = height * self.width / self.height
        if abs(width - fitting) > max(ASPECT_TOLERANCE * fitting, 1.0):
            raise GeometryError(
                f'the image is {width}x{height}, the calibration is for '
                f'{self.width}x{self.height}; aspect ratios may differ by {ASPECT_TOLERANCE:.0%}'
            )
        across, down = width / self.width, height / self.height
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
        )


class PointCounts(NamedTuple):
    """What became of every pixel or point; `total` is the sum of the others."""

    total: int
    invalid: int
    """No measurement: 0, negative, NaN or infinite; or where the lens is not calibrated."""
    behind: int
    """Not in front of the target camera."""
    outside: int
    """In front of the target camera, but not in its image."""
    hidden: int
    """Behind something nearer in the target camera's view."""
    visible: int
    """In the result."""


class Projection(NamedTuple):
    """Depth in the target camera's view: float32 (h, w), metres, 0 = nothing measured there."""

    depth: Any
    counts: PointCounts


def distort(x: Tensor, y: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Where the lens puts what an ideal one would put at x, y.

    Normalised image coordinates (x / z, y / z) in and out, of any shape. Formulas: OpenCV's
    calib3d, which sensor_msgs/distortion_models names.
    """
    if not camera.distorted:
        return x, y
    if camera.model == 'equidistant':
        radius = torch.hypot(x, y)
        scale = _equidistant_radius(torch.atan(radius), camera.distortion)[0] / radius
        scale = torch.where(radius > 1e-8, scale, torch.ones_like(scale))
        return x * scale, y * scale
    radial, shift_x, shift_y = _brown(x, y, camera)
    return x * radial + shift_x, y * radial + shift_y


def undistort(x: Tensor, y: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The inverse of `distort`; NaN where it has none.

    By fixed-point iteration (Newton's, along the radius, for 'equidistant'), until the result is
    distorted to within 0.05 pixels of where it came from.
    """
    if not camera.distorted:
        return x, y
    if camera.model == 'equidistant':
        far_x, far_y = _undistort_equidistant(x, y, camera)
    else:
        far_x, far_y = _undistort_brown(x, y, camera)
    back_x, back_y = distort(far_x, far_y, camera)
    error = torch.hypot((back_x - x) * camera.fx, (back_y - y) * camera.fy)
    lost = ~(error <= _UNDISTORT_TOLERANCE_PIXELS)
    return far_x.masked_fill(lost, torch.nan), far_y.masked_fill(lost, torch.nan)


def _brown(x: Tensor, y: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """The radial factor and the tangential shifts of the plumb-bob and rational models."""
    k1, k2, p1, p2, k3, *denominator = camera.distortion
    square, product = x * x + y * y, x * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    if any(denominator):
        k4, k5, k6 = denominator
        radial = radial / (1 + square * (k4 + square * (k5 + square * k6)))
    shift_x = 2 * p1 * product + p2 * (square + 2 * x * x)
    shift_y = p1 * (square + 2 * y * y) + 2 * p2 * product
    return radial, shift_x, shift_y


def _undistort_brown(x: Tensor, y: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    far_x, far_y = x, y
    for _ in range(_UNDISTORT_ITERATIONS):
        radial, shift_x, shift_y = _brown(far_x, far_y, camera)
        next_x, next_y = (x - shift_x) / radial, (y - shift_y) / radial
        # Some pixels may never settle; they are found by their error at the end.
        change = torch.maximum((next_x - far_x).abs(), (next_y - far_y).abs()).nan_to_num(0.0)
        far_x, far_y = next_x, next_y
        if float(change.max()) < 1e-9:
            break
    return far_x, far_y


def _equidistant_radius(angle: Tensor, coefficients: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Distance from the centre at an angle to the optical axis, and its derivative."""
    k1, k2, k3, k4 = coefficients
    square = angle * angle
    value = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    slope = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * 9 * k4)))
    return value, slope


def _undistort_equidistant(x: Tensor, y: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    radius = torch.hypot(x, y)
    angle = radius.clone()
    for _ in range(20):
        value, slope = _equidistant_radius(angle, camera.distortion)
        angle = angle - (value - radius) / slope
    # A pinhole image plane has no place for what comes from the side or from behind.
    angle = angle.masked_fill((angle < 0) | (angle >= np.pi / 2), torch.nan)
    scale = torch.where(radius > 1e-8, torch.tan(angle) / radius, torch.ones_like(radius))
    return x * scale, y * scale


@functools.lru_cache(maxsize=8)
def pixel_rays(camera: Camera) -> tuple[Tensor, Tensor]:
    """Where each pixel looks: x / z and y / z, float64 (h, w); NaN where `undistort` has no answer.

    Computed once per camera; not to be written to.
    """
    columns = (torch.arange(camera.width, dtype=torch.float64) - camera.cx) / camera.fx
    rows = (torch.arange(camera.height, dtype=torch.float64) - camera.cy) / camera.fy
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    return undistort(x.contiguous(), y.contiguous(), camera)


@functools.lru_cache(maxsize=8)
def field_of_view(camera: Camera) -> tuple[float, float, float, float]:
    """What the image covers: smallest and largest x / z, smallest and largest y / z."""
    left, right = -0.5 - camera.cx, camera.width - 0.5 - camera.cx
    top, bottom = -0.5 - camera.cy, camera.height - 0.5 - camera.cy
    across = torch.linspace(left, right, 64, dtype=torch.float64) / camera.fx
    down = torch.linspace(top, bottom, 64, dtype=torch.float64) / camera.fy
    x = torch.cat((across, across, across[0].expand(64), across[-1].expand(64)))
    y = torch.cat((down[0].expand(64), down[-1].expand(64), down, down))
    x, y = undistort(x, y, camera)
    x, y = x[x.isfinite()], y[y.isfinite()]
    if not len(x):
        return -np.inf, np.inf, -np.inf, np.inf
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def project(x: Tensor, y: Tensor, z: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (column, row) of points in the camera's frame; NaN or out of the image
    where the camera does not see them. `z` has to be above 0."""
    x, y = x / z, y / z
    if camera.distorted:
        # Beyond the field of view the polynomials fold back into the image.
        x_min, x_max, y_min, y_max = field_of_view(camera)
        margin_x, margin_y = 1 / camera.fx, 1 / camera.fy
        seen = (x >= x_min - margin_x) & (x <= x_max + margin_x)
        seen &= (y >= y_min - margin_y) & (y <= y_max + margin_y)
        x, y = distort(x, y, camera)
        x = torch.where(seen, x, torch.nan)
    return x * camera.fx + camera.cx, y * camera.fy + camera.cy


def check_pose(target_from_source: np.ndarray) -> np.ndarray:
    """The pose as float64 (4, 4), when it is a rotation and a translation.

    Raises:
        GeometryError: another shape, not finite, or not a rotation.
    """
    pose = np.asarray(target_from_source, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise GeometryError(f'pose is {pose.tolist()}; it must be a finite 4x4 matrix')
    rotation = pose[:3, :3]
    turned = np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3
    if turned or np.linalg.det(rotation) < 0 or np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise GeometryError(f'pose is {pose.tolist()}; it must be a rotation and a translation')
    return pose


def projected_size(
    source: Camera, target: Camera, target_from_source: np.ndarray
) -> tuple[int, int]:
    """Width and height of the grid on which a reprojected depth image leaves no pinholes.

    The grid covers the target camera's image. Its cells are as wide as the widest distance, in
    the target image, between the points of neighbouring source pixels in view (for far surfaces;
    5% are added where the cameras are apart), so that on a surface that the source camera sees
    about as squarely as the target camera does every cell gets a point, and nothing behind it
    shines through. The grid is never finer than the target's image and never below 8x8. Where
    both cameras look the same way from the same place it is the source's own grid.
    """
    pose = check_pose(target_from_source)
    x, y = pixel_rays(source)
    column, row = project(*_rotated(pose, x, y), target)
    seen = (column > -1) & (column < target.width) & (row > -1) & (row < target.height)
    pitch = 1.0
    for coordinate in (column, row):
        along = (coordinate[:-1, 1:] - coordinate[:-1, :-1]).abs()
        down = (coordinate[1:, :-1] - coordinate[:-1, :-1]).abs()
        steps = (along + down)[seen[:-1, :-1] & seen[1:, :-1] & seen[:-1, 1:]]
        steps = steps[steps.isfinite()]
        if len(steps):
            pitch = max(pitch, float(steps.max()))
    if pitch > 1 and np.abs(pose[:3, 3]).max() > 1e-3:
        pitch *= _PITCH_MARGIN
    # A hundredth, lest half the size become half less a pixel by rounding.
    height = max(min(int(target.height / pitch + 0.01), target.height), SMALLEST_SIZE)
    width = int(height * target.width / target.height + 0.01)
    return max(min(width, target.width), SMALLEST_SIZE), height


def _rotated(pose: np.ndarray, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (x, y, 1) in the other camera's frame."""
    r = pose[:3, :3].tolist()
    x, y, z = (row[0] * x + row[1] * y + row[2] for row in r)
    return x, y, z.masked_fill(z <= 0, torch.nan)


class DepthReprojection:
    """Turns depth images of one camera into what another camera, at another place, would measure.

    Each measured pixel becomes one point, each point one pixel of the result, and the nearest wins.
    Nothing is spread: pixels without a point stay 0.

    Args:
        source: the depth camera, at the size of its images.
        target: the camera whose view is wanted.
        target_from_source: (4, 4) pose of the source in the target's frame, metres.
        size: (width, height) of the result; None chooses by `projected_size`.

    Raises:
        GeometryError: see Camera and `check_pose`.
    """

    def __init__(
        self,
        source: Camera,
        target: Camera,
        target_from_source: np.ndarray,
        *,
        size: tuple[int, int] | None = None,
    ):
        pose = check_pose(target_from_source)
        if size is None:
            size = projected_size(source, target, pose)
        self.source = source
        self.camera = target.resized(*size)
        rays = torch.stack([*pixel_rays(source), torch.ones(source.height, source.width)])
        rotation = torch.from_numpy(pose[:3, :3].copy())
        self._directions = (rotation @ rays.reshape(3, -1)).float()
        self._calibrated = self._directions[2].isfinite()
        self._translation = pose[:3, 3].tolist()

    def __call__(self, depth: Any) -> Projection:
        """Reproject float32 (h, w) metres; 0, negative, NaN and infinite are no measurement.

        Raises:
            GeometryError: the image has not the source camera's size.
        """
        if tuple(depth.shape) != (self.source.height, self.source.width):
            raise GeometryError(
                f'depth is {" x ".join(map(str, depth.shape))} (rows x columns), its calibration '
                f'is for {self.source.height} x {self.source.width}'
            )
        tensor = _tensor(depth).reshape(-1)
        if self._directions.device != tensor.device:
            self._directions = self._directions.to(tensor.device)
            self._calibrated = self._calibrated.to(tensor.device)
        measured = (tensor > 0) & (tensor < torch.inf) & self._calibrated
        x, y, z = (
            torch.addcmul(tensor.new_full((), shift), direction, tensor)
            for direction, shift in zip(self._directions, self._translation, strict=True)
        )
        return _like(depth, *_z_buffer(x, y, z, measured, self.camera))


def project_points(
    points: Any, camera: Camera, camera_from_points: np.ndarray, *, hidden_window: int = 0
) -> Projection:
    """A sparse depth image of a point cloud, at the camera's resolution; the nearest point wins.

    Args:
        points: float32 (N, 3), metres, in the frame of `camera_from_points`'s source.
        camera: whose view is wanted.
        camera_from_points: (4, 4) pose of the cloud's frame in the camera's.
        hidden_window: pixels; 0 = off. A LiDAR beside a camera also measures what the camera does
            not see, and between its sparse points that is not covered by the nearer surface. With
            a window of about the distance of two scan lines in the image, points are left out that
            have points at least 5% nearer in all four diagonal directions, within two windows. On
            the ground or on a slanted wall one direction always leads away: they stay whole.

    Raises:
        GeometryError: another shape, or see `check_pose`.
    """
    if len(points.shape) != 2 or points.shape[1] != 3:
        raise GeometryError(f'points are {tuple(points.shape)}; they must be (N, 3)')
    pose = check_pose(camera_from_points)
    tensor = _tensor(points)
    rotation = torch.from_numpy(pose[:3, :3]).to(tensor)
    translation = torch.from_numpy(pose[:3, 3:]).to(tensor)
    x, y, z = rotation @ tensor.T + translation
    return _like(points, *_z_buffer(x, y, z, (x + y + z).isfinite(), camera, hidden_window))


def _z_buffer(
    x: Tensor, y: Tensor, z: Tensor, measured: Tensor, camera: Camera, hidden_window: int = 0
) -> tuple[Tensor, PointCounts]:
    """Points (n,) in the camera's frame, as far as `measured`, to depth (h, w) and counts.

    All shapes are static: on a GPU nothing waits until the counts are read at the end.
    """
    width, height = camera.width, camera.height
    front = measured & (z > 0)
    column, row = project(x, y, z, camera)
    column, row = column.add_(0.5).floor_(), row.add_(0.5).floor_()
    inside = front & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    numbers = [torch.count_nonzero(mask) for mask in (measured, front, inside)]
    if hidden_window:
        inside = inside & ~_behind_others(column, row, z, inside, camera, hidden_window)
    # One cell more than the image has takes all that is not in it. Whole numbers up to 2**24 are
    # exact in float32, and 4096x4096 pixels are not more.
    cell = torch.where(inside, row.mul_(width).add_(column), width * height).long()
    nearest = z.new_full((width * height + 1,), torch.inf)
    nearest.scatter_reduce_(0, cell, z, 'amin')
    depth = nearest[:-1].nan_to_num_(posinf=0.0).view(height, width)
    numbers.append(torch.count_nonzero(depth))
    valid, in_front, in_view, visible = torch.stack(numbers).tolist()
    counts = PointCounts(
        total=z.numel(),
        invalid=z.numel() - valid,
        behind=valid - in_front,
        outside=in_front - in_view,
        hidden=in_view - visible,
        visible=visible,
    )
    return depth, counts


def _behind_others(
    column: Tensor, row: Tensor, z: Tensor, inside: Tensor, camera: Camera, window: int
) -> Tensor:
    """Which points have much nearer ones around them, in cells of window x window pixels."""
    rows, columns = -(-camera.height // window), -(-camera.width // window)
    cell = (row / window).floor_().mul_(columns) + (column / window).floor_()
    cell = torch.where(inside, cell, rows * columns).long()
    nearest = z.new_full((rows * columns + 1,), torch.inf)
    nearest.scatter_reduce_(0, cell, z, 'amin')
    grid = nearest[:-1].view(rows, columns)
    grid = torch.nn.functional.pad(grid, (1, 1, 1, 1), value=torch.inf)
    # The four diagonal neighbours: on any plane at least one of them is wholly farther away.
    corners = [
        grid[down : down + rows, right : right + columns] for down in (0, 2) for right in (0, 2)
    ]
    around = functools.reduce(torch.maximum, corners)
    border = around.new_full((1,), torch.inf)
    return torch.cat((around.reshape(-1), border))[cell] < _HIDDEN_BEHIND * z


def _tensor(array: Any) -> Tensor:
    if isinstance(array, Tensor):
        return array.float()
    array = np.asarray(array, np.float32)
    # torch warns about arrays that it may not write to, such as views of a message's bytes.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _like(given: Any, depth: Tensor, counts: PointCounts) -> Projection:
    return Projection(depth if isinstance(given, Tensor) else depth.numpy(), counts)
