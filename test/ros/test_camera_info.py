# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depth_sr_ros.ros.camera_info import folded_camera_info, scaled_camera_info


def camera_info(width=1280, height=720, roi=(0, 0, 0, 0), binning=(0, 0)):
    x_offset, y_offset, roi_width, roi_height = roi
    return SimpleNamespace(
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=[0.1, -0.2, 0.001, 0.002, 0.0],
        k=np.array([600.0, 0.0, 642.0, 0.0, 610.0, 355.0, 0.0, 0.0, 1.0]),
        r=np.eye(3).ravel(),
        p=np.array([590.0, 0.0, 640.0, -59.0, 0.0, 592.0, 357.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(
            x_offset=x_offset,
            y_offset=y_offset,
            width=roi_width,
            height=roi_height,
            do_rectify=False,
        ),
    )


def project(info, point):
    projected = np.reshape(info.p, (3, 4)) @ [*point, 1.0]
    return projected[:2] / projected[2]


@pytest.mark.parametrize('size', [(640, 360), (2560, 1440), (320, 180), (639, 360)])
def test_a_point_lands_on_the_same_place_of_the_resized_image(size):
    info = camera_info()
    scaled = scaled_camera_info(info, *size)
    for point in ([0.3, -0.2, 2.0], [-1.0, 0.4, 5.0]):
        expected = (project(info, point) + 0.5) * np.array(size) / (1280, 720) - 0.5
        np.testing.assert_allclose(project(scaled, point), expected, atol=1e-9)
        ray = np.array(point) / point[2]
        raw = np.reshape(info.k, (3, 3)) @ ray
        np.testing.assert_allclose(
            (np.reshape(scaled.k, (3, 3)) @ ray)[:2],
            (raw[:2] + 0.5) * np.array(size) / (1280, 720) - 0.5,
            atol=1e-9,
        )
    assert (scaled.width, scaled.height) == size
    assert (scaled.k[8], scaled.p[10]) == (1.0, 1.0)


def test_region_of_interest_and_binning_are_folded_into_the_matrices():
    info = camera_info(roi=(100, 60, 800, 600), binning=(2, 2))
    scaled = scaled_camera_info(info, 200, 150)
    point = [0.1, 0.2, 3.0]
    expected = (project(info, point) + 0.5 - (100, 60)) / 4 - 0.5
    np.testing.assert_allclose(project(scaled, point), expected, atol=1e-9)
    assert (scaled.binning_x, scaled.binning_y) == (0, 0)
    assert (scaled.roi.width, scaled.roi.height, scaled.roi.x_offset) == (0, 0, 0)


def test_the_image_s_own_size_leaves_the_calibration_unchanged():
    info = camera_info(roi=(100, 60, 800, 600), binning=(2, 2))
    same = scaled_camera_info(info, 400, 300)
    assert same is not info
    np.testing.assert_array_equal(same.k, info.k)
    assert (same.width, same.binning_x, same.roi.x_offset) == (1280, 2, 100)


@pytest.mark.parametrize('roi', [(0, 0, 0, 0), (100, 60, 800, 600)])
@pytest.mark.parametrize('binning', [(0, 0), (2, 2), (4, 2)])
def test_a_folded_calibration_sees_the_same_at_the_image_s_own_size(roi, binning):
    info = camera_info(roi=roi, binning=binning)
    divisor = np.maximum(binning, 1)
    width, height = np.array(roi[2:] if roi[2] else (1280, 720)) // divisor
    folded = folded_camera_info(info, int(width), int(height))
    point = [0.1, 0.2, 3.0]
    expected = (project(info, point) + 0.5 - roi[:2]) / divisor - 0.5
    np.testing.assert_allclose(project(folded, point), expected, atol=1e-9)
    assert (folded.width, folded.height) == (width, height)
    assert (folded.binning_x, folded.roi.x_offset) == (0, 0)


def test_pixels_that_binning_leaves_over_do_not_stretch_the_rest():
    info = camera_info(width=1281, binning=(2, 2))
    folded = folded_camera_info(info, 640, 360)
    point = [0.1, 0.2, 3.0]
    np.testing.assert_allclose(
        project(folded, point), (project(info, point) + 0.5) / 2 - 0.5, atol=1e-9
    )
    assert scaled_camera_info(info, 640, 360).binning_x == 2


def test_the_given_info_is_not_changed():
    info = camera_info()
    scaled_camera_info(info, 640, 360)
    assert (info.width, info.k[0], info.p[3]) == (1280, 600.0, -59.0)


def test_another_aspect_ratio_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r'640x480.*1280x720.*2%'):
        scaled_camera_info(camera_info(), 640, 480)


@pytest.mark.parametrize('size', [(0, 10), (10, -1)])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match=f'{size[0]}x{size[1]}'):
        scaled_camera_info(camera_info(), *size)


def test_an_uncalibrated_camera_is_refused():
    with pytest.raises(ValueError, match=r'0x0.*not calibrated'):
        scaled_camera_info(camera_info(width=0, height=0), 640, 480)


def test_the_real_message_is_scaled():
    messages = pytest.importorskip('sensor_msgs.msg')
    info = messages.CameraInfo(width=1280, height=720, k=camera_info().k, p=camera_info().p)
    info.header.frame_id = 'camera_optical_frame'
    scaled = scaled_camera_info(info, 640, 360)
    assert isinstance(scaled, messages.CameraInfo)
    assert scaled.k[0] == 300.0
    assert scaled.p[3] == -29.5
    assert scaled.header.frame_id == 'camera_optical_frame'
    assert info.k[0] == 600.0
