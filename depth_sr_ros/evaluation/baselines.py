# SPDX-License-Identifier: Apache-2.0
"""
What a user would try first: classical interpolation, hole filling and guided filters.

Every method takes `rgb` uint8 (H, W, 3) and `depth` float32 (h, w) metres (0 or NaN = no
measurement, pixel centres map as (u + .5) W / w - .5) and returns float32 (H, W) metres with every
pixel filled. None mixes a missing measurement into a value: holes are filled or weighted out. They
are the adversary of the network, so each has a grid of settings to be tuned over.

Settings hold no metre: windows are given in spacings (the mean distance between measurements, in
pixels of the RGB image), colours on 0-255.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay, QhullError, cKDTree

from depth_sr_ros.evaluation.metrics import has_depth

Depth = NDArray[np.float32]
RGB = NDArray[np.uint8]
Settings = dict[str, Any]


def _resize(image: NDArray, size: tuple[int, int], method: int = cv2.INTER_LINEAR) -> NDArray:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=method)


def fill_nearest(depth: Depth) -> Depth:
    """Fill each hole pixel with the nearest measurement; same shape."""
    valid = has_depth(depth)
    if valid.all():
        return depth
    index = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return depth[tuple(index)]


def fill_linear(depth: Depth) -> Depth:
    """Fill holes linearly over the Delaunay triangles of the measurements; outside: nearest."""
    valid = has_depth(depth)
    filled = fill_nearest(depth)
    if valid.all() or valid.sum() < 4:
        return filled
    # Only measurements beside a hole can be corners of the triangles that cover it.
    rim = valid & ndimage.binary_dilation(~valid, np.ones((3, 3), bool))
    points = np.argwhere(rim).astype(np.float64)
    try:
        triangles = Delaunay(points)
    except QhullError:  # All measurements on one line.
        return filled
    barycentric = _barycentric_transforms(points[triangles.simplices])
    # What scipy works out itself when it has to, with a LAPACK call per triangle that takes a
    # thousand times longer where OpenBLAS has to share its cores.
    triangles._transform = barycentric
    holes = np.argwhere(~valid)
    found = triangles.find_simplex(holes)
    inside = found >= 0
    matrix, origin = barycentric[found[inside], :2], barycentric[found[inside], 2]
    weights = np.einsum('nij,nj->ni', matrix, holes[inside] - origin)
    weights = np.column_stack([weights, 1 - weights.sum(axis=1)])
    corners = depth[rim][triangles.simplices[found[inside]]]
    filled = filled.copy()
    rows, columns = holes[inside].T
    filled[rows, columns] = np.sum(weights * corners, axis=1)
    return filled


def _barycentric_transforms(corners: NDArray) -> NDArray:
    """Return scipy's `Delaunay.transform`, (n, 3, 2), of triangles with corners (n, 3, 2)."""
    edges = corners[:, :2] - corners[:, 2:]
    (a, c), (b, d) = edges[:, 0].T, edges[:, 1].T
    determinant = a * d - b * c
    transforms = np.full((len(corners), 3, 2), np.nan)
    solid = np.abs(determinant) > 1e-9
    inverse = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], 1)
    transforms[solid, :2] = inverse[solid] / determinant[solid, None, None]
    transforms[:, 2] = corners[:, 2]
    return transforms


def fill_inpainting(depth: Depth, method: str = 'telea', radius: float = 3.0) -> Depth:
    """Fill holes with cv2.inpaint, which takes float32: 'telea' or 'navier_stokes'."""
    valid = has_depth(depth)
    if valid.all():
        return depth
    flags = {'telea': cv2.INPAINT_TELEA, 'navier_stokes': cv2.INPAINT_NS}[method]
    # cv2 adds constants meant for grey levels (0.5 for rounding, to floats too): in 1/10000 of the
    # median they vanish, and the result follows the unit.
    unit = np.median(depth[valid]) / 1e4
    known = np.where(valid, depth / unit, 0).astype(np.float32)
    painted = cv2.inpaint(known, (~valid).astype(np.uint8), radius, flags)
    # Navier-Stokes may overshoot below zero; no method is punished for what a clamp mends.
    painted = np.clip(painted, known[valid].min(), known[valid].max())
    return np.where(valid, depth, painted * unit).astype(np.float32)


def fill_push_pull(depth: Depth) -> Depth:
    """Fill holes with the masked pyramid of the pipeline's interpolated input."""
    from depth_sr_ros.model.interpolation import interpolate_depth

    return interpolate_depth(depth, depth.shape)


FILLS: dict[str, Callable[[Depth], Depth]] = {
    'nearest': fill_nearest,
    'linear': fill_linear,
    'telea': fill_inpainting,
    'navier_stokes': lambda depth: fill_inpainting(depth, 'navier_stokes'),
    'push_pull': fill_push_pull,
}


def _spacing(depth: Depth, size: tuple[int, int]) -> float:
    """Mean distance between measurements in pixels of the RGB image, at least 1."""
    measurements = max(int(np.count_nonzero(has_depth(depth))), 1)
    return max(float(np.sqrt(size[0] * size[1] / measurements)), 1.0)


@lru_cache(maxsize=16)
def _filled(data: bytes, shape: tuple[int, int], fill: str) -> Depth:
    # Searching settings asks for the same filled map many times.
    filled = np.array(FILLS[fill](np.frombuffer(data, np.float32).reshape(shape)))
    filled.flags.writeable = False
    return filled


def _upsampled(depth: Depth, size: tuple[int, int], fill: str) -> Depth:
    data = np.ascontiguousarray(depth, np.float32).tobytes()
    return _resize(_filled(data, depth.shape, fill), size)


def nearest(rgb: RGB, depth: Depth) -> Depth:
    """Nearest-neighbour resize; holes from the nearest measurement."""
    filled, (height, width) = fill_nearest(depth), rgb.shape[:2]
    # cv2's INTER_NEAREST does not follow pixel centres.
    rows = (np.arange(height) + 0.5) * filled.shape[0] / height
    columns = (np.arange(width) + 0.5) * filled.shape[1] / width
    return filled[rows.astype(int)[:, None], columns.astype(int)]


def bilinear(rgb: RGB, depth: Depth, fill: str = 'nearest') -> Depth:
    """Bilinear resize after filling holes."""
    return _upsampled(depth, rgb.shape[:2], fill)


def bicubic(rgb: RGB, depth: Depth) -> Depth:
    """Bicubic resize after filling holes with the nearest; overshoot cut at the depths' range."""
    filled = fill_nearest(depth)
    return np.clip(_resize(filled, rgb.shape[:2], cv2.INTER_CUBIC), filled.min(), filled.max())


def _box(image: NDArray, radius: int) -> NDArray:
    size = (2 * radius + 1, 2 * radius + 1)
    return cv2.boxFilter(image, -1, size, borderType=cv2.BORDER_REFLECT)


def _solve_symmetric(matrix: dict[tuple[int, int], NDArray], right: list[NDArray]) -> list[NDArray]:
    """Solve 3x3 symmetric systems, one per pixel, by cofactors; `matrix` is its upper triangle."""
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    d, e, f = matrix[1, 1], matrix[1, 2], matrix[2, 2]
    inverse = {
        (0, 0): d * f - e * e,
        (0, 1): c * e - b * f,
        (0, 2): b * e - c * d,
        (1, 1): a * f - c * c,
        (1, 2): b * c - a * e,
        (2, 2): a * d - b * b,
    }
    determinant = a * inverse[0, 0] + b * inverse[0, 1] + c * inverse[0, 2]
    return [
        sum(inverse[min(i, j), max(i, j)] * right[j] for j in range(3)) / determinant
        for i in range(3)
    ]


def guided_filter(
    rgb: RGB,
    depth: Depth,
    *,
    radius: float = 2.0,
    epsilon: float = 1e-3,
    coarse: bool = True,
    fill: str = 'nearest',
) -> Depth:
    """
    Guided filter (He et al. 2013), colour guide, holes weighted out of the local linear fits.

    radius: of the box, in spacings. epsilon: regulariser, for colours in 0-1.
    coarse: fit on the depth's own grid and upsample the coefficients (fast guided filter, He and
    Sun 2015); otherwise on the bilinearly upsampled depth. fill: where a box holds no measurement.
    """
    size = rgb.shape[:2]
    valid = has_depth(depth)
    base = _upsampled(depth, size, fill)
    guide = rgb.astype(np.float32) / 255
    spacing = _spacing(depth, size)
    if coarse:
        target, weight = np.where(valid, depth, 0).astype(np.float64), valid.astype(np.float64)
        fitted = _resize(guide, depth.shape, cv2.INTER_AREA)
        spacing *= depth.shape[1] / size[1]
    else:
        target, fitted = base.astype(np.float64), guide
        weight = _resize(valid.astype(np.float32), size).astype(np.float64)
    pixels = max(round(radius * spacing), 1)
    mass = _box(weight, pixels)
    inverse_mass = 1 / np.maximum(mass, 1e-9)

    def mean(image: NDArray) -> NDArray:
        return _box(image * weight, pixels) * inverse_mass

    channels = [fitted[..., i].astype(np.float64) for i in range(3)]
    means, mean_target = [mean(c) for c in channels], mean(target)
    covariance = {
        (i, j): mean(channels[i] * channels[j]) - means[i] * means[j] + epsilon * (i == j)
        for i, j in itertools.combinations_with_replacement(range(3), 2)
    }
    cross = [mean(c * target) - m * mean_target for c, m in zip(channels, means, strict=True)]
    slopes = _solve_symmetric(covariance, cross)
    offset = mean_target - sum(a * m for a, m in zip(slopes, means, strict=True))
    # Windows weigh in by what they have measured.
    coefficients = np.stack([*slopes, offset], -1) * mass[..., None]
    total = _box(mass, pixels)
    coefficients = _box(coefficients, pixels) / np.maximum(total, 1e-9)[..., None]
    coefficients = _resize(coefficients.astype(np.float32), size)
    known = _resize((total > 1e-6).astype(np.float32), size) > 0.999
    output = np.sum(coefficients[..., :3] * guide, axis=-1) + coefficients[..., 3]
    output = np.clip(output, depth[valid].min(), depth[valid].max())
    return np.where(known, output, base).astype(np.float32)


def joint_bilateral_upsampling(
    rgb: RGB,
    depth: Depth,
    *,
    radius: float = 1.0,
    sigma_colour: float = 20.0,
    fill: str = 'nearest',
) -> Depth:
    """
    Joint bilateral upsampling (Kopf et al. 2007): each pixel averages the measurements around it.

    Weights are Gaussian in distance (sigma `radius` spacings) and in the colour difference between
    the pixel and the measurement's cell (sigma_colour, Euclidean on 0-255). Holes have no weight.
    Of sparse input, where cells are far apart, each pixel sees its 16 nearest measurements.
    """
    size = rgb.shape[:2]
    cells = _resize(rgb.astype(np.float32), depth.shape, cv2.INTER_AREA)
    sigma = radius * _spacing(depth, size) * depth.shape[1] / size[1]
    gather = _nearest_measurements if sigma > 2 else _cells_around
    total = np.zeros(size, np.float32)
    mass = np.zeros(size, np.float32)
    for cell, squared, valid in gather(depth, size, sigma):
        difference = rgb - cells[cell]
        exponent = squared / (2 * sigma**2)
        exponent = exponent + np.einsum('hwc,hwc->hw', difference, difference) / (
            2 * sigma_colour**2
        )
        weight = np.exp(-exponent) * valid
        total += weight * np.where(valid, depth[cell], 0)
        mass += weight
    base = _upsampled(depth, size, fill)
    # A trace of the interpolated value decides where no measurement has the pixel's colour.
    return ((total + 1e-6 * base) / (mass + 1e-6)).astype(np.float32)


def _pixel_centres(length: int, cells: int) -> NDArray:
    """Positions of `length` pixels on a grid of `cells` cells."""
    return (np.arange(length, dtype=np.float32) + 0.5) * cells / length - 0.5


def _cells_around(depth: Depth, size: tuple[int, int], sigma: float) -> Iterator[tuple]:
    """Yield for each offset within 2 sigma: (index of cells, squared distances, validity)."""
    height, width = depth.shape
    known = has_depth(depth)
    rows, columns = _pixel_centres(size[0], height), _pixel_centres(size[1], width)
    reach = max(int(np.ceil(2 * sigma)), 1)
    for down, right in itertools.product(range(-reach, reach + 1), repeat=2):
        row = np.round(rows).astype(int) + down
        column = np.round(columns).astype(int) + right
        inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
        squared = (row - rows)[:, None] ** 2 + (column - columns)[None] ** 2
        cell = (np.clip(row, 0, height - 1)[:, None], np.clip(column, 0, width - 1)[None])
        yield cell, squared, inside & known[cell]


def _nearest_measurements(depth: Depth, size: tuple[int, int], sigma: float) -> Iterator[tuple]:
    """Yield for the first, second ... nearest measurement what `_cells_around` does."""
    points = np.argwhere(has_depth(depth))
    rows, columns = _pixel_centres(size[0], depth.shape[0]), _pixel_centres(size[1], depth.shape[1])
    grid = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1)
    distances, order = cKDTree(points).query(grid, k=list(range(1, min(16, len(points)) + 1)))
    for rank in range(distances.shape[-1]):
        chosen = points[order[..., rank]]
        yield (chosen[..., 0], chosen[..., 1]), distances[..., rank] ** 2, np.True_


def joint_bilateral(
    rgb: RGB,
    depth: Depth,
    *,
    radius: float = 1.0,
    sigma_colour: float = 20.0,
    fill: str = 'nearest',
) -> Depth:
    """
    Joint bilateral filter (cv2.ximgproc) of the bilinearly upsampled depth, holes weighted down.

    radius: sigma of distance in spacings (windows reach two, 12 px at most).
    sigma_colour: on 0-255, of cv2's summed absolute colour difference.
    """
    size = rgb.shape[:2]
    base = _upsampled(depth, size, fill)
    weight = _resize(has_depth(depth).astype(np.float32), size)
    sigma = radius * _spacing(depth, size)
    diameter = 2 * min(max(int(np.ceil(2 * sigma)), 1), 12) + 1
    guide = rgb.astype(np.float32)

    def blur(image: NDArray) -> NDArray:
        return cv2.ximgproc.jointBilateralFilter(guide, image, diameter, sigma_colour, sigma)

    # A filled pixel counts little beside a measured one, but alone it keeps its value.
    confidence = np.maximum(weight, 1e-3)
    if confidence.min() == 1:
        return blur(base)
    return blur(base * confidence) / blur(confidence)


def fast_global_smoother(
    rgb: RGB,
    depth: Depth,
    *,
    strength: float = 30.0,
    sigma_colour: float = 8.0,
    splat: bool = False,
    fill: str = 'nearest',
) -> Depth:
    """
    Fast global smoother (Min et al. 2014; cv2.ximgproc) by normalised interpolation.

    Smooths weight x depth and weight, and divides. splat: weight only at the measurements' own
    positions, as the paper does for sparse input; otherwise also between them.
    strength: lambda in squared spacings. sigma_colour: on 0-255.
    """
    size = rgb.shape[:2]
    valid = has_depth(depth)
    base = _upsampled(depth, size, fill)
    spacing = _spacing(depth, size)
    if splat:
        rows, columns = np.nonzero(valid)
        v = (rows + 0.5) * size[0] / depth.shape[0] - 0.5
        u = (columns + 0.5) * size[1] / depth.shape[1] - 0.5
        weight = np.zeros(size, np.float32)
        value = np.zeros(size, np.float32)
        top, left = np.floor(v).astype(int), np.floor(u).astype(int)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = np.abs(1 - row - (v - top)) * np.abs(1 - column - (u - left))
            at = (np.clip(top + row, 0, size[0] - 1), np.clip(left + column, 0, size[1] - 1))
            np.add.at(weight, at, share)
            np.add.at(value, at, share * depth[rows, columns])
    else:
        weight = _resize(valid.astype(np.float32), size)
        value = base * weight

    def smooth(image: NDArray) -> NDArray:
        return cv2.ximgproc.fastGlobalSmootherFilter(
            rgb, np.ascontiguousarray(image), strength * spacing**2, sigma_colour
        )

    mass = smooth(weight)
    output = smooth(value) / np.maximum(mass, 1e-12)
    output = np.where(mass > 1e-9, output, base)
    return np.clip(output, depth[valid].min(), depth[valid].max()).astype(np.float32)


def weighted_median(
    rgb: RGB,
    depth: Depth,
    *,
    radius: float = 1.0,
    sigma_colour: float = 25.0,
    iterations: int = 1,
    fill: str = 'nearest',
) -> Depth:
    """
    Weighted median filter (Zhang et al. 2014; cv2.ximgproc) of the bilinearly upsampled depth.

    radius: of the window, in spacings (40 px at most). sigma_colour: on 0-255.
    """
    depth_now = _upsampled(depth, rgb.shape[:2], fill)
    pixels = min(max(round(radius * _spacing(depth, rgb.shape[:2])), 1), 40)
    for _ in range(iterations):
        depth_now = cv2.ximgproc.weightedMedianFilter(rgb, depth_now, pixels, sigma_colour)
    return depth_now


def _grid(**choices: tuple) -> list[Settings]:
    return [dict(zip(choices, c, strict=True)) for c in itertools.product(*choices.values())]


@dataclass(frozen=True)
class Baseline:
    """
    A method and the settings it is tuned over.

    needs: 'resize' or 'holes' where the method is the same as another one without them.
    """

    name: str
    function: Callable[..., Depth]
    grid: list[Settings] = field(default_factory=lambda: [{}])
    needs: str = ''

    def applies(self, depth: Depth, size: tuple[int, int]) -> bool:
        """Whether the method has a meaning of its own for `depth` (h, w) to `size` (H, W)."""
        if self.needs == 'resize':
            return depth.shape != size
        return self.needs != 'holes' or not has_depth(depth).all()

    def __call__(self, rgb: RGB, depth: Depth, settings: Settings) -> Depth:
        _check(rgb, depth)
        output = self.function(rgb, depth, **settings)
        if output.shape != rgb.shape[:2] or not has_depth(output).all():
            raise RuntimeError(f'{self.name} {settings} left pixels without depth')
        return output


def _check(rgb: RGB, depth: Depth) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f'rgb must be uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}')
    if depth.ndim != 2:
        raise ValueError(f'depth must be (h, w), not {depth.shape}')
    if not has_depth(depth).any():
        raise ValueError('depth has no measurement at all: nothing to interpolate')


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline('nearest', nearest),
        Baseline('bilinear', bilinear, needs='resize'),
        Baseline('bicubic', bicubic, needs='resize'),
        Baseline(
            'linear (Delaunay)', lambda rgb, depth: bilinear(rgb, depth, 'linear'), needs='holes'
        ),
        Baseline(
            'inpainting (Telea)', lambda rgb, depth: bilinear(rgb, depth, 'telea'), needs='holes'
        ),
        Baseline(
            'inpainting (Navier-Stokes)',
            lambda rgb, depth: bilinear(rgb, depth, 'navier_stokes'),
            needs='holes',
        ),
        Baseline(
            'guided filter',
            guided_filter,
            _grid(
                radius=(0.25, 0.5, 1.0, 2.0),
                epsilon=(1e-5, 1e-4, 1e-3),
                coarse=(True, False),
                fill=('nearest', 'linear'),
            ),
        ),
        Baseline(
            'joint bilateral filter',
            joint_bilateral,
            _grid(radius=(0.35, 0.5, 1.0), sigma_colour=(10, 20, 40), fill=('nearest', 'linear')),
        ),
        Baseline(
            'joint bilateral upsampling',
            joint_bilateral_upsampling,
            _grid(
                radius=(0.4, 0.5, 0.65, 0.85),
                sigma_colour=(10, 20, 30, 45),
                fill=('nearest', 'linear'),
            ),
        ),
        Baseline(
            'fast global smoother',
            fast_global_smoother,
            _grid(
                strength=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
                sigma_colour=(4, 8, 12, 16, 24, 32),
                splat=(True, False),
                fill=('nearest', 'linear'),
            ),
        ),
        Baseline(
            'weighted median filter',
            weighted_median,
            _grid(
                radius=(0.5, 1.0, 1.5),
                sigma_colour=(10, 40),
                iterations=(1, 2),
                fill=('nearest', 'linear'),
            ),
        ),
    )
}
