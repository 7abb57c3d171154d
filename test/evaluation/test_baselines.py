# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from depth_sr_ros.evaluation import baselines
from depth_sr_ros.evaluation.baselines import BASELINES
from depth_sr_ros.evaluation.metrics import near_depth_edges, rmse

NAMES = list(BASELINES)
FILTERS = [name for name in NAMES if len(BASELINES[name].grid) > 1]


@pytest.fixture(scope='module')
def scene():
    """Return a box before a slanted wall, textured; RGB edges where depth has them."""
    height, width = 96, 128
    truth = np.fromfunction(lambda v, u: 2 + u / 128 + v / 200, (height, width)).astype(np.float32)
    truth[30:70, 40:90] = 1.2
    rng = np.random.default_rng(0)
    grey = np.where(truth < 1.5, 200, 60) + rng.normal(0, 4, truth.shape)
    rgb = np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    return rgb, truth


def low_resolution(truth, factor):
    return truth.reshape(truth.shape[0] // factor, factor, -1, factor).mean(axis=(1, 3))


def gentle(name):
    grid = BASELINES[name].grid
    return grid[len(grid) // 2]


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('shape', [(12, 16), (48, 64), (96, 128)])
def test_flat_wall_with_holes_stays_flat(name, shape):
    # Zeros mixed into any average would show at once.
    rng = np.random.default_rng(1)
    depth = np.where(rng.random(shape) < 0.4, 0, 3.0).astype(np.float32)
    depth[0, 0] = np.nan
    rgb = rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)
    for settings in BASELINES[name].grid[:: max(len(BASELINES[name].grid) // 4, 1)]:
        output = BASELINES[name](rgb, depth, settings)
        assert output.shape == (96, 128)
        assert output.dtype == np.float32
        assert output == pytest.approx(3.0, rel=1e-4), settings


@pytest.mark.parametrize('name', NAMES)
def test_scaling_depth_scales_the_output(name, scene):
    rgb, truth = scene
    depth = low_resolution(truth, 4).astype(np.float32)
    depth[3:6, 10:14] = 0
    output = BASELINES[name](rgb, depth, gentle(name))
    scaled = BASELINES[name](rgb, depth * 16, gentle(name))
    tolerance = 5e-3 if name == 'weighted median filter' else 1e-4
    assert scaled == pytest.approx(output * 16, rel=tolerance)


@pytest.mark.parametrize('name', FILTERS)
def test_some_setting_beats_bilinear_where_rgb_shows_the_edge(name, scene):
    rgb, truth = scene
    depth = low_resolution(truth, 8).astype(np.float32)
    baseline = BASELINES[name]
    near = near_depth_edges(truth, 6)
    errors = [rmse(baseline(rgb, depth, s), truth, near) for s in baseline.grid]
    assert min(errors) < 0.9 * rmse(baselines.bilinear(rgb, depth), truth, near)


@pytest.mark.parametrize('name', NAMES)
def test_a_single_measurement_fills_the_image(name):
    depth = np.zeros((24, 32), np.float32)
    depth[10, 20] = 1.5
    rgb = np.random.default_rng(3).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    assert BASELINES[name](rgb, depth, gentle(name)) == pytest.approx(1.5, rel=1e-4)


def test_pixel_centres():
    rgb = np.zeros((8, 8, 3), np.uint8)
    ramp = np.arange(1, 5, dtype=np.float32)[None].repeat(4, axis=0)
    assert baselines.nearest(rgb, ramp)[0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    # (u + .5) / 2 - .5 = -.25, .25, .75 ...
    assert baselines.bilinear(rgb, ramp)[0] == pytest.approx(
        [1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]
    )


def test_fills_by_hand():
    depth = np.array([[1, 0, 0, 4]], np.float32).repeat(4, axis=0)
    assert baselines.fill_nearest(depth)[0].tolist() == [1, 1, 4, 4]
    assert baselines.fill_linear(depth)[1] == pytest.approx([1, 2, 3, 4], abs=1e-4)
    row = np.array([[0, 2, 0, 3]], np.float32)
    assert baselines.fill_linear(row).tolist() == baselines.fill_nearest(row).tolist()
    for method in ('telea', 'navier_stokes'):
        hole = np.full((9, 9), 2.0, np.float32)
        hole[4, 4] = 0
        assert baselines.fill_inpainting(hole, method) == pytest.approx(2.0, abs=1e-5)


def test_linear_fill_is_exact_on_a_plane_of_scattered_points():
    plane = np.fromfunction(lambda v, u: 1 + 0.01 * u + 0.02 * v, (60, 80)).astype(np.float32)
    keep = np.random.default_rng(4).random(plane.shape) < 0.05
    keep[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    filled = baselines.fill_linear(np.where(keep, plane, 0).astype(np.float32))
    assert filled == pytest.approx(plane, abs=1e-4)


def test_linear_fill_agrees_with_scipy():
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(6)
    points = rng.uniform(0, 20, (30, 2))
    triangles = Delaunay(points)
    ours = baselines._barycentric_transforms(points[triangles.simplices])
    assert ours == pytest.approx(triangles.transform)
    depth = np.where(rng.random((24, 24)) < 0.1, rng.uniform(1, 3, (24, 24)), 0).astype(np.float32)
    known = np.argwhere(depth > 0)
    expected = LinearNDInterpolator(known, depth[depth > 0])(*np.indices(depth.shape))
    inside = np.isfinite(expected)
    assert baselines.fill_linear(depth)[inside] == pytest.approx(expected[inside], abs=1e-5)


def test_applies():
    dense, hole = np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)
    hole[0, 0] = 0
    assert not BASELINES['bilinear'].applies(dense, (8, 8))
    assert BASELINES['bilinear'].applies(dense, (16, 16))
    assert not BASELINES['inpainting (Telea)'].applies(dense, (16, 16))
    assert BASELINES['inpainting (Telea)'].applies(hole, (8, 8))


def test_refuses_what_it_cannot_use():
    rgb = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match='no measurement'):
        BASELINES['bilinear'](rgb, np.zeros((4, 4), np.float32), {})
    with pytest.raises(ValueError, match='float64'):
        BASELINES['bilinear'](rgb.astype(float), np.ones((4, 4), np.float32), {})


def test_ximgproc_is_there():
    for name in ('jointBilateralFilter', 'fastGlobalSmootherFilter', 'weightedMedianFilter'):
        assert hasattr(cv2.ximgproc, name)


def test_guided_filter_solves_each_pixels_system():
    rng = np.random.default_rng(5)
    root = rng.normal(size=(4, 5, 3, 3))
    matrices = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(3)
    right = rng.normal(size=(4, 5, 3))
    upper = {(i, j): matrices[..., i, j] for i in range(3) for j in range(i, 3)}
    solution = baselines._solve_symmetric(upper, [right[..., i] for i in range(3)])
    expected = np.linalg.solve(matrices, right[..., None])[..., 0]
    assert np.stack(solution, -1) == pytest.approx(expected)
