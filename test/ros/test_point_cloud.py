# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from depth_sr_ros.ros.point_cloud import camera_place, fill_point_cloud, pixel_rays

K = np.array([[50.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])


def info(**changes):
    values = {
        'width': 64,
        'height': 48,
        'k': K.ravel(),
        'd': [],
        'p': np.hstack((2 * K, np.zeros((3, 1)))).ravel(),
        'distortion_model': 'plumb_bob',
    }
    return SimpleNamespace(**{**values, **changes})


def test_rays_of_a_pinhole():
    rays = pixel_rays(info())
    assert rays.shape == (48, 64, 2)
    np.testing.assert_allclose(rays[10, 20], [(20 - 31.5) / 50, (10 - 23.5) / 60], rtol=1e-6)


@pytest.mark.parametrize(
    ('model', 'coefficients'),
    [
        ('plumb_bob', [0.1, -0.05, 0.001, 0.002, 0.01]),
        ('rational_polynomial', [0.1, -0.05, 0.001, 0.002, 0.01, 0.02, 0.01, 0.005]),
        ('equidistant', [0.05, -0.01, 0.002, 0.001]),
    ],
)
def test_distorted_rays_project_back_to_their_pixels(model, coefficients):
    rays = pixel_rays(info(d=coefficients, distortion_model=model))
    points = np.concatenate((rays, np.ones((48, 64, 1))), -1).reshape(-1, 1, 3).astype(np.float64)
    project = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    zero = np.zeros(3)
    pixels, _ = project(points, zero, zero, K, np.array(coefficients))
    columns, rows = np.meshgrid(np.arange(64), np.arange(48))
    np.testing.assert_allclose(pixels.reshape(48, 64, 2)[..., 0], columns, atol=0.05)
    np.testing.assert_allclose(pixels.reshape(48, 64, 2)[..., 1], rows, atol=0.05)


def test_a_rectified_image_uses_p_and_no_distortion():
    rays = pixel_rays(info(d=[0.1, 0, 0, 0, 0]), rectified=True)
    np.testing.assert_allclose(rays[10, 20, 0], (20 - 63) / 100, rtol=1e-6)


def test_an_uncalibrated_camera_is_refused():
    with pytest.raises(ValueError, match='focal lengths are 0 and 0'):
        pixel_rays(info(k=np.zeros(9)))


@pytest.mark.parametrize(
    ('model', 'coefficients'),
    [('plumb_bob', [0.1]), ('plumb_bob', [0.1] * 40), ('equidistant', [0.1] * 5)],
)
def test_a_wrong_number_of_coefficients_is_quoted(model, coefficients):
    with pytest.raises(ValueError, match=f'^{len(coefficients)} distortion coefficients'):
        pixel_rays(info(d=coefficients, distortion_model=model))


def test_points_and_colours():
    depth = np.full((48, 64), 2.0, np.float32)
    depth[0, 0], depth[0, 1] = 0, np.inf
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[10, 20] = (1, 2, 3)
    cloud = SimpleNamespace()
    fill_point_cloud(cloud, depth, rgb, pixel_rays(info()))
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (48, 64, 16, 1024)
    assert not cloud.is_dense
    values = np.frombuffer(cloud.data, np.float32).reshape(48, 64, 4)
    expected = [2 * (20 - 31.5) / 50, 2 * (10 - 23.5) / 60, 2]
    np.testing.assert_allclose(values[10, 20, :3], expected, rtol=1e-6)
    assert np.isnan(values[0, :2, :3]).all()
    colours = np.frombuffer(cloud.data, np.uint32).reshape(48, 64, 4)
    assert colours[10, 20, 3] == 0x010203


def test_the_second_camera_of_a_stereo_pair_is_beside_its_frame():
    """P's fourth column: a point of the frame is projected to -fx * baseline aside."""
    p = np.array([50.0, 0, 31.5, -5.0, 0, 60.0, 23.5, 0, 0, 0, 1, 0])
    right = info(p=p)
    assert camera_place(right) == (0, 0)
    assert camera_place(right, rectified=True) == pytest.approx((0.1, 0))
    cloud = SimpleNamespace()
    depth = np.full((48, 64), 2.0, np.float32)
    rays = pixel_rays(right, rectified=True)
    rgb = np.zeros((48, 64, 3), np.uint8)
    fill_point_cloud(cloud, depth, rgb, rays, camera_place(right, rectified=True))
    x, y, z, _ = np.frombuffer(cloud.data, np.float32).reshape(48, 64, 4)[10, 20]
    u, v, w = p.reshape(3, 4) @ [x, y, z, 1]
    np.testing.assert_allclose((u / w, v / w), (20, 10), atol=1e-4)
