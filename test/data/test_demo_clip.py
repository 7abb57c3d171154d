# SPDX-License-Identifier: Apache-2.0
"""The demo's clip: small, exact, smooth, readable without a renderer."""

import importlib.resources
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from depth_sr_ros.data.demo_clip import DemoClip


@pytest.fixture(scope='module')
def clip():
    return DemoClip()


def test_shape_and_rate(clip):
    assert clip.size == (640, 480)
    assert clip.frame_rate == 30
    assert 3 <= len(clip) / clip.frame_rate <= 4
    assert clip.intrinsics.shape == (3, 3)
    rgb, depth = clip.rgb(0), clip.depth_truth(0)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (480, 640, 3)
    assert depth.dtype == np.float32
    assert depth.shape == (480, 640)


def test_package_data_stays_small():
    folder = importlib.resources.files('depth_sr_ros.ros').joinpath('clip')
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 3_000_000


def test_truth_is_dense_and_of_a_room(clip):
    for index in range(0, len(clip), 10):
        depth = clip.depth_truth(index)
        assert 0.5 < depth.min() < 2
        assert 4 < depth.max() < 7


def test_truth_of_two_frames_is_one_scene_seen_twice(clip):
    """Points of one frame, carried to another by the poses, lie on its surfaces."""
    first, second = 10, 22
    u, v = np.meshgrid(np.arange(640.0), np.arange(480.0))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(clip.intrinsics).T
    points = (rays * clip.depth_truth(first)[..., None]).reshape(-1, 3)
    motion = np.linalg.inv(clip.camera_to_world(second)) @ clip.camera_to_world(first)
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    pixel = moved @ clip.intrinsics.T
    pixel = (pixel[:, :2] / pixel[:, 2:]).astype(np.float32).reshape(480, 640, 2)
    seen = cv2.remap(clip.depth_truth(second), pixel, None, cv2.INTER_NEAREST, borderValue=0)
    seen = seen.ravel()
    inside = seen > 0
    assert inside.mean() > 0.7
    farther = seen[inside] / moved[inside, 2] - 1
    assert np.median(np.abs(farther)) < 2e-3  # Half a pixel on slanted surfaces.
    # A point may be hidden in the other view, but nobody can look through it.
    assert (farther > 0.02).mean() < 0.02
    assert (farther < -0.02).mean() < 0.2
    assert np.linalg.norm(motion[:3, 3]) > 0.1


def test_colour_edges_are_where_depth_edges_are(clip):
    depth, rgb = clip.depth_truth(30), clip.rgb(30)
    step = (cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0.5).astype(np.uint8)
    slope = np.hypot(*(cv2.Sobel(rgb.mean(axis=-1), cv2.CV_64F, *d) for d in ((1, 0), (0, 1))))
    at_edges = slope[step > 0].mean()
    for shift in ((0, 6), (6, 0), (0, -6), (-6, 0)):
        assert at_edges > 1.5 * slope[np.roll(step, shift, (0, 1)) > 0].mean()


def test_loops_without_a_jump(clip):
    def moved(i, j):
        return np.linalg.norm(clip.camera_to_world(i)[:3, 3] - clip.camera_to_world(j)[:3, 3])

    steps = [moved(i, (i + 1) % len(clip)) for i in range(len(clip))]
    assert max(steps) < 0.1
    assert steps[-1] < 0.02
    assert np.abs(np.diff(steps)).max() < 0.01
    np.testing.assert_array_equal(clip.rgb(1), clip.rgb(len(clip) - 1))
    np.testing.assert_array_equal(clip.depth_truth(-3), clip.depth_truth(3))


def test_index_beyond_the_end_is_refused(clip):
    for read in (clip.rgb, clip.depth_truth, clip.camera_to_world):
        with pytest.raises(IndexError):
            read(len(clip))


def test_reading_needs_no_renderer_and_no_torch():
    code = (
        'import sys; from depth_sr_ros.data.demo_clip import DemoClip; c = DemoClip(); c.rgb(0); '
        'c.depth_truth(0); '
        'print(sorted({"mujoco", "OpenGL", "torch", "rclpy"} & set(sys.modules)))'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == '[]'


def test_what_is_not_a_clip_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        DemoClip(tmp_path / 'missing.npz')
    other = tmp_path / 'other.npz'
    np.savez(other, rgb=np.zeros(3))
    with pytest.raises(ValueError, match=r'other.npz is not a demo clip.*rgb_ends'):
        DemoClip(other)
    real = importlib.resources.files('depth_sr_ros.ros').joinpath('clip/demo_clip.npz')
    with importlib.resources.as_file(real) as path:
        shutil.copy(path, tmp_path / 'half.npz')
    half = tmp_path / 'half.npz'
    half.write_bytes(half.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r'half.npz is not a demo clip'):
        DemoClip(half)


def test_a_rendered_clip_is_read_back_exactly(opengl, tmp_path):
    from depth_sr_ros.data.render_demo_clip import main

    # main compares what it wrote with what was rendered, and raises where they differ.
    main(['--out', str(tmp_path / 'clip.npz'), '--stored', '2'])
    made = DemoClip(tmp_path / 'clip.npz')
    assert len(made) == 2
    assert made.rgb(0).std() > 20
