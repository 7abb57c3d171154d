# SPDX-License-Identifier: Apache-2.0
"""Reprojection against OpenCV, against ray-cast scenes, and against itself."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.geometry import (
    Camera,
    DepthReprojection,
    GeometryError,
    PointCounts,
    distort,
    pixel_rays,
    project,
    project_points,
    projected_size,
    undistort,
)

PLAIN = Camera(160, 120, 140.0, 141.0, 80.3, 59.1)
COLOR = Camera(320, 180, 240.0, 241.0, 158.8, 91.2)
DISTORTED = {
    'plumb_bob': (-0.28, 0.09, 0.0007, -0.0004, -0.01),
    # Those of an Azure Kinect's depth camera.
    'rational_polynomial': (0.52, 0.02, 6e-5, -2e-5, -0.002, 0.86, 0.1, -0.003),
    'equidistant': (-0.02, 0.01, -0.004, 0.0006),
}


def lens(model, camera=PLAIN):
    return dataclasses.replace(camera, distortion=DISTORTED[model], model=model)


def matrix(camera):
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def pose(rotation=(0, 0, 0), translation=(0, 0, 0)):
    """From a rotation vector (radians) and a translation (metres)."""
    result = np.eye(4)
    result[:3, :3] = cv2.Rodrigues(np.asarray(rotation, np.float64))[0]
    result[:3, 3] = translation
    return result


def tensors(*arrays):
    return [torch.from_numpy(np.array(array, np.float64)) for array in arrays]


# Against OpenCV


@pytest.mark.parametrize('model', DISTORTED)
@pytest.mark.parametrize('turned', [(0, 0, 0), (0.1, -0.3, 0.2)])
def test_projection_is_opencvs(model, turned):
    camera, move = lens(model), pose(turned, (0.05, -0.1, 0.2))
    points = np.random.default_rng(0).uniform((-0.8, -0.6, 2), (0.8, 0.6, 4), (500, 3))
    coefficients = np.array(camera.distortion)
    vectors = cv2.Rodrigues(move[:3, :3])[0], move[:3, 3]
    call = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    if model == 'equidistant':
        expected = call(points[:, None], *vectors, matrix(camera), coefficients)[0][:, 0]
    else:
        expected = call(points, *vectors, matrix(camera), coefficients)[0][:, 0]
    moved = move[:3, :3] @ points.T + move[:3, 3:]
    column, row = project(*tensors(*moved), camera)
    in_view = ((expected >= 0) & (expected < (160, 120))).all(1)
    assert in_view.sum() > 200
    got = np.stack((column, row), 1)
    np.testing.assert_allclose(got[in_view], expected[in_view], atol=1e-6)


@pytest.mark.parametrize('model', DISTORTED)
def test_pixel_rays_are_opencvs(model):
    camera = lens(model)
    rows, columns = np.mgrid[0:120, 0:160].astype(np.float64)
    pixels = np.stack((columns, rows), -1).reshape(-1, 1, 2)
    k, coefficients = matrix(camera), np.array(camera.distortion)
    if model == 'equidistant':
        expected = cv2.fisheye.undistortPoints(pixels, k, coefficients)
    else:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-12)
        if hasattr(cv2, 'undistortPointsIter'):  # OpenCV 4
            expected = cv2.undistortPointsIter(pixels, k, coefficients, None, None, criteria)
        else:
            expected = cv2.undistortPoints(pixels, k, coefficients, criteria=criteria)
    np.testing.assert_allclose(
        np.stack(pixel_rays(camera), -1), expected.reshape(120, 160, 2), atol=1e-6
    )


@pytest.mark.parametrize('model', DISTORTED)
@given(x=st.floats(-0.5, 0.5), y=st.floats(-0.4, 0.4))
@settings(max_examples=50, deadline=None)
def test_undistort_is_the_inverse_of_distort(model, x, y):
    camera = lens(model)
    back = undistort(*distort(*tensors([x], [y]), camera), camera)
    np.testing.assert_allclose(np.concatenate(back), [x, y], atol=1e-7)


def test_pixels_that_no_ray_reaches_are_no_measurement():
    # 1 - 0.9 r**2 turns back at r = 0.61, where it has got to 0.41: the image goes on to 0.57.
    camera = dataclasses.replace(PLAIN, distortion=(-0.9,))
    x, y = pixel_rays(camera)
    assert x[60, 80].isfinite()
    assert y[0, 0].isnan()
    depth = np.ones((120, 160), np.float32)
    result = DepthReprojection(camera, PLAIN, pose())(depth)
    assert result.counts.invalid == int(x.isnan().sum()) > 0


def test_what_is_beside_the_view_is_not_folded_into_it():
    camera = dataclasses.replace(PLAIN, distortion=(-0.25,))
    beside = np.array([[1.75, 0.0, 1.0]], np.float32)
    coefficients = np.array(camera.distortion)
    (folded,) = cv2.projectPoints(beside, np.zeros(3), np.zeros(3), matrix(camera), coefficients)[0]
    assert 0 < folded[0, 0] < 160, 'OpenCV puts it into the image'
    assert project_points(beside, camera, pose()).counts.outside == 1


# Against analytic scenes: a wall at 4 m and a box in front of it


def ray_cast(camera, camera_from_world):
    """Depth (h, w) of the wall z = 4 and the box's front z = 2, |x| < 0.5, -0.4 < y < 0.3."""
    x, y = (plane.numpy() for plane in pixel_rays(camera))
    rotation, origin = (
        camera_from_world[:3, :3].T,
        -camera_from_world[:3, :3].T @ camera_from_world[:3, 3],
    )
    rays = np.stack((x, y, np.ones_like(x)), -1) @ rotation.T
    to_wall, to_box = ((z - origin[2]) / rays[..., 2] for z in (4.0, 2.0))
    hit = origin + to_box[..., None] * rays
    on_box = (np.abs(hit[..., 0]) < 0.5) & (hit[..., 1] > -0.4) & (hit[..., 1] < 0.3)
    return np.where(on_box, to_box, to_wall).astype(np.float32)


@pytest.mark.parametrize('source_model', [None, *DISTORTED])
@pytest.mark.parametrize('target_model', [None, 'plumb_bob'])
def test_a_box_before_a_wall_from_another_place(source_model, target_model):
    source = lens(source_model) if source_model else PLAIN
    target = lens(target_model, COLOR) if target_model else COLOR
    move = pose((0.02, -0.03, 0.05), (0.12, -0.05, 0.03))
    reproject = DepthReprojection(source, target, move)
    depth, counts = reproject(ray_cast(source, pose()))
    truth = ray_cast(reproject.camera, move)
    assert depth.dtype == np.float32
    assert depth.shape == truth.shape == (reproject.camera.height, reproject.camera.width)
    # Half a cell of rounding, on a wall that is seen at an angle or across the box's edge.
    kernel = np.ones((3, 3), np.uint8)
    nearest, farthest = cv2.erode(truth, kernel), cv2.dilate(truth, kernel)
    seen = depth > 0
    assert (depth[seen] > nearest[seen] - 0.02).all()
    assert (depth[seen] < farthest[seen] + 0.02).all(), 'the wall shines through the box'
    assert counts.visible == seen.sum()
    assert counts.hidden > 0
    # Both surfaces are without pinholes; what is left open is beside them or the box's shadow.
    box = cv2.erode((truth < 3).astype(np.uint8), kernel) > 0
    assert box.sum() > 500
    assert seen[box].all()
    shadow = ~seen & (truth > 3)
    assert shadow.sum() > 0


def test_a_camera_that_sees_the_same_gets_the_same_image():
    depth = np.random.default_rng(1).uniform(0.3, 9, (120, 160)).astype(np.float32)
    depth[::3, ::4] = 0
    for camera in (PLAIN, *map(lens, DISTORTED)):
        result = DepthReprojection(camera, camera, pose())(depth)
        np.testing.assert_array_equal(result.depth, depth)
        assert result.counts.hidden == result.counts.outside == result.counts.behind == 0


def test_aligned_depth_of_half_the_size_stays_as_it_is():
    depth = np.random.default_rng(1).uniform(0.3, 9, (90, 160)).astype(np.float32)
    result = DepthReprojection(COLOR.resized(160, 90), COLOR, pose())(depth)
    np.testing.assert_array_equal(result.depth, depth)


def test_there_and_back():
    """A slanted wall, to another camera and back: where it comes back it is what it was."""
    x, y = pixel_rays(PLAIN)
    depth = (3 / (1 + 0.2 * x - 0.1 * y)).float().numpy()
    move = pose((0.0, 0.05, 0.0), (-0.1, 0.02, 0.0))
    there = DepthReprojection(PLAIN, COLOR, move)
    back = DepthReprojection(there.camera, PLAIN, np.linalg.inv(move), size=(160, 120))
    result = back(there(depth).depth).depth
    seen = result > 0
    assert seen.mean() > 0.3
    np.testing.assert_allclose(result[seen], depth[seen], rtol=0.01)


# Properties

angles = st.tuples(*[st.floats(-0.15, 0.15)] * 2, st.floats(-3.2, 3.2))


@given(turn=angles, shift=st.tuples(*[st.floats(-0.1, 0.1)] * 3), focal=st.floats(80, 400))
@settings(max_examples=40, deadline=None)
def test_no_pinholes_in_a_far_wall(turn, shift, focal):
    source = dataclasses.replace(PLAIN, fx=focal, fy=focal)
    move = pose(turn, shift)
    result = DepthReprojection(source, COLOR, move)(np.full((120, 160), 30, np.float32)).depth
    # Cells all of whose neighbourhood is inside what the source camera covers.
    seen = (result > 0).astype(np.uint8)
    closed = cv2.morphologyEx(np.pad(seen, 4), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    interior = cv2.erode(closed, np.ones((5, 5), np.uint8))[4:-4, 4:-4] > 0
    assert seen[interior].all()


@given(turn=angles, shift=st.tuples(*[st.floats(-1, 1)] * 3), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_counts_add_up_and_order_does_not_matter(turn, shift, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 2, (400, 3)).astype(np.float32)
    points[:20] = np.nan
    points[20:30, 1] = np.inf
    result = project_points(points, COLOR, pose(turn, shift))
    assert sum(result.counts[1:]) == result.counts.total == 400
    assert result.counts.invalid == 30
    assert result.counts.visible == (result.depth > 0).sum()
    again = project_points(rng.permutation(points), COLOR, pose(turn, shift))
    np.testing.assert_array_equal(again.depth, result.depth)


@given(turn=angles, shift=st.tuples(*[st.floats(-0.5, 0.5)] * 3))
@settings(max_examples=20, deadline=None)
def test_a_depth_image_is_its_point_cloud(turn, shift):
    depth = np.random.default_rng(3).uniform(0.3, 9, (120, 160)).astype(np.float32)
    reproject = DepthReprojection(PLAIN, COLOR, pose(turn, shift), size=(320, 180))
    image, counts = reproject(depth)
    x, y = (plane.numpy() for plane in pixel_rays(PLAIN))
    points = np.stack((x * depth, y * depth, depth), -1).reshape(-1, 3).astype(np.float32)
    other, other_counts = project_points(points, COLOR, pose(turn, shift))
    # A point on the border of two pixels may go to either.
    assert (np.abs(image - other) < 1e-4).mean() > 0.999
    assert np.abs(np.subtract(counts, other_counts)).max() <= 5


# Point clouds


def test_each_point_is_accounted_for():
    points = np.array(
        [[0, 0, 3], [0.001, 0, 2], [0, 0, -1], [9, 0, 1], [np.nan, 0, 1], [0.5, 0, 1]], np.float32
    )
    depth, counts = project_points(points, COLOR, pose())
    assert counts == PointCounts(total=6, invalid=1, behind=1, outside=1, hidden=1, visible=2)
    assert depth[91, 159] == 2
    assert depth[91, round(0.5 * 240 + 158.8)] == 1


def test_points_go_where_the_pose_says():
    # A LiDAR: x forward, y left, z up; 0.2 m above the camera.
    rotation = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation, (0, -0.2, 0)
    depth, _ = project_points(np.array([[5.0, 1.0, 0.0]], np.float32), COLOR, move)
    ((row, column),) = np.argwhere(depth)
    assert depth[row, column] == 5
    assert column == round(158.8 - 240 / 5)
    assert row == round(91.2 - 241 * 0.2 / 5)


def scan_lines(surface, rows, columns):
    """Points at every `columns`-th pixel of every `rows`-th row, at the depth of a surface."""
    grid = np.zeros((180, 320), bool)
    grid[::rows, ::columns] = True
    x, y = (plane.numpy() for plane in pixel_rays(COLOR))
    depth = np.broadcast_to(surface, grid.shape) * grid
    return np.stack((x * depth, y * depth, depth), -1)[grid].astype(np.float32)


def test_what_is_seen_between_the_scan_lines_of_something_nearer_is_left_out():
    near = scan_lines(np.float32(2), 6, 3)
    near = near[(np.abs(near[:, 0]) < 0.6) & (np.abs(near[:, 1]) < 0.5)]
    # The LiDAR looks past the near board: in the camera's view the wall is between its lines.
    wall = scan_lines(np.float32(8), 6, 3) + np.float32([0.03, 0.1, 0])
    both = np.concatenate((near, wall))
    plain = project_points(both, COLOR, pose())
    clean = project_points(both, COLOR, pose(), hidden_window=6)
    rows, columns = np.nonzero(plain.depth == 2)
    inner = (slice(rows.min() + 12, rows.max() - 12), slice(columns.min() + 12, columns.max() - 12))
    assert (plain.depth[inner] == 8).sum() > 50
    assert (clean.depth[inner] == 8).sum() == 0
    assert (clean.depth == 2).sum() == (plain.depth == 2).sum()
    far = np.ones_like(plain.depth, bool)
    far[rows.min() - 13 : rows.max() + 14, columns.min() - 13 : columns.max() + 14] = False
    np.testing.assert_array_equal(clean.depth[far], plain.depth[far])
    assert sum(clean.counts[1:]) == len(both)


def test_ground_and_slanted_walls_are_not_taken_for_hidden():
    x, y = (plane.numpy() for plane in pixel_rays(COLOR))
    for slope in (y, x):
        with np.errstate(divide='ignore'):
            surface = np.where(slope > 0.02, 1.5 / slope, 80).astype(np.float32)
        points = scan_lines(surface, 6, 2)
        plain, clean = (project_points(points, COLOR, pose(), hidden_window=w) for w in (0, 6))
        np.testing.assert_array_equal(clean.depth, plain.depth)


# Sizes, kinds of array, refusals


def test_the_grid_has_the_density_of_the_depth_image():
    # Twice the field of view per pixel, looking the same way: half as many.
    assert projected_size(PLAIN, COLOR, pose()) == (186, 105)
    # Apart, 5% less; a quarter turn makes no difference to square pixels.
    assert projected_size(PLAIN, COLOR, pose(translation=(0.1, 0, 0))) == (177, 100)
    turned = projected_size(dataclasses.replace(PLAIN, fy=140), COLOR, pose((0, 0, np.pi / 2)))
    assert turned == (184, 104)
    # Diagonal neighbours are farther apart.
    assert projected_size(PLAIN, COLOR, pose((0, 0, np.pi / 4)))[1] == pytest.approx(
        105 / 2**0.5, 1
    )
    # Never finer than the target's image.
    assert projected_size(dataclasses.replace(PLAIN, fx=999, fy=999), COLOR, pose()) == (320, 180)


def test_tensors_come_back_as_tensors():
    depth = torch.full((120, 160), 2.0)
    result = DepthReprojection(PLAIN, COLOR, pose())(depth)
    assert isinstance(result.depth, torch.Tensor)
    array = DepthReprojection(PLAIN, COLOR, pose())(depth.numpy())
    assert isinstance(array.depth, np.ndarray)
    np.testing.assert_array_equal(result.depth, array.depth)
    assert result.counts == array.counts


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_the_gpu():
    move = pose((0.02, -0.03, 0.05), (0.12, -0.05, 0.03))
    depth = torch.from_numpy(ray_cast(PLAIN, pose()))
    reproject = DepthReprojection(lens('plumb_bob'), lens('plumb_bob', COLOR), move)
    cpu, gpu = reproject(depth), reproject(depth.cuda())
    assert gpu.depth.is_cuda
    assert (np.abs(cpu.depth - gpu.depth.cpu()) < 1e-3).float().mean() > 0.999
    points = torch.randn(5000, 3)
    cpu, gpu = (project_points(p, COLOR, move, hidden_window=6) for p in (points, points.cuda()))
    assert (np.abs(cpu.depth - gpu.depth.cpu()) < 1e-3).float().mean() > 0.999


def test_read_only_and_double_arrays_are_taken():
    depth = np.full((120, 160), 2.0)
    depth.flags.writeable = False
    assert DepthReprojection(PLAIN, COLOR, pose())(depth).counts.visible > 0


def test_regions_and_sizes_keep_their_rays():
    camera = lens('plumb_bob', COLOR)
    x, y = pixel_rays(camera)
    part_x, part_y = pixel_rays(camera.cropped(40, 20, 200, 100))
    torch.testing.assert_close(part_x, x[20:120, 40:240])
    torch.testing.assert_close(part_y, y[20:120, 40:240])
    half_x, _ = pixel_rays(camera.resized(160, 90))
    torch.testing.assert_close(half_x, x.reshape(90, 2, 160, 2).mean((1, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'fx': 0.0}, 'focal lengths are 0 and 141'),
        ({'cx': np.nan}, r'principal point \(nan'),
        ({'width': 0}, 'image size is 0x120'),
        ({'model': 'scramble', 'distortion': (0.1,)}, "'scramble'; allowed: plumb_bob, rational"),
        ({'distortion': (0.1,) * 8}, 'it takes 5'),
    ],
)
def test_a_calibration_that_is_none(change, sentence):
    with pytest.raises(GeometryError, match=sentence):
        dataclasses.replace(PLAIN, **change)


def test_no_distortion_is_the_same_by_any_name():
    plain = dataclasses.replace(PLAIN, distortion=(0.0,) * 14, model='whatever')
    assert plain == PLAIN
    assert dataclasses.replace(PLAIN, distortion=(0.1,)).distortion == (0.1, 0, 0, 0, 0)


def test_refusals_quote_what_came():
    with pytest.raises(GeometryError, match='depth is 3 x 4'):
        DepthReprojection(PLAIN, COLOR, pose())(np.ones((3, 4), np.float32))
    with pytest.raises(GeometryError, match='rotation and a translation'):
        DepthReprojection(PLAIN, COLOR, 2 * pose())
    with pytest.raises(GeometryError, match='finite 4x4'):
        project_points(np.ones((3, 3)), COLOR, np.eye(3))
    with pytest.raises(GeometryError, match=r'\(7, 4\); they must be \(N, 3\)'):
        project_points(np.ones((7, 4)), COLOR, pose())
    with pytest.raises(GeometryError, match='aspect ratios'):
        COLOR.resized(320, 240)
    assert project_points(np.ones((0, 3), np.float32), COLOR, pose()).counts.total == 0
