# SPDX-License-Identifier: Apache-2.0
"""The renderer against geometry that can be computed by hand."""

import os
import subprocess
import sys

import numpy as np
import pytest

from depth_sr_ros.data import offscreen_renderer
from depth_sr_ros.data.offscreen_renderer import OffscreenRenderer, RenderingUnavailableError
from depth_sr_ros.data.scene_builder import Light, Material, Scene
from depth_sr_ros.data.scene_layouts import CameraPose
from depth_sr_ros.data.scene_mesh import box, quad

SIZE = (96, 64)
INTRINSICS = np.array([[80.0, 0.0, 44.0], [0.0, 76.0, 35.5], [0.0, 0.0, 1.0]])
GREY = np.full((8, 8, 3), 128, np.uint8)


def material(colour=(128, 128, 128), **options):
    return Material(np.full((8, 8, 3), colour, np.uint8), specular=0.0, **options)


def scene(*surfaces, lights=(), ambient=0.5, **options):
    return Scene(list(surfaces), list(lights), ambient, GREY, **options)


def looking(eye, forward, up=(0.0, 0.0, 1.0)):
    forward = np.asarray(forward, float) / np.linalg.norm(forward)
    up = np.asarray(up, float) - forward * (np.asarray(up, float) @ forward)
    return CameraPose(np.asarray(eye, float), forward, up / np.linalg.norm(up))


def rays(pose):
    """Ray of each pixel with length 1 along the optical axis, (H, W, 3), in the world."""
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    x = (u - INTRINSICS[0, 2]) / INTRINSICS[0, 0]
    y = (v - INTRINSICS[1, 2]) / INTRINSICS[1, 1]
    right = np.cross(pose.forward, pose.up)
    return pose.forward + x[..., None] * right - y[..., None] * pose.up


@pytest.fixture(scope='module')
def renderer(opengl):
    made = OffscreenRenderer(SIZE)
    yield made
    made.close()


@pytest.mark.parametrize(
    'pose',
    [
        looking((0, 0, 1.0), (1, 0.3, -0.4)),
        looking((3, -2, 0.3), (0, 1, -0.05)),
        looking((0, 0, 40.0), (0.2, 0.1, -1), up=(1, 1, 0)),
        looking((0, 0, 0.4), (0.1, 1, -2), up=(0.3, 1, 0)),
    ],
    ids=['room', 'grazing', 'high', 'close'],
)
def test_depth_is_metric_along_the_optical_axis(renderer, pose):
    ground = quad((-300, -300, 0), (600, 0, 0), (0, 600, 0), cell=20)
    renderer.load(scene((material(), ground)))
    _, depth = renderer.render(pose, INTRINSICS)
    ray = rays(pose)
    down = ray[..., 2] < -1e-4
    expected = np.where(down, -pose.eye[2] / np.where(down, ray[..., 2], -1), 0)
    expected[expected > offscreen_renderer.FARTHEST] = 0
    # Where the threshold on the range falls is a matter of rounding.
    clear = np.abs(expected - offscreen_renderer.FARTHEST) > 1
    assert (expected[clear] > 0).any()
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=2e-4)


def test_sky_and_what_is_farther_than_the_range_has_no_depth(renderer):
    far_wall = quad((130, 100, -100), (0, -200, 0), (0, 0, 200), cell=20)
    renderer.load(scene((material(), far_wall)))
    for forward in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 1, 1)):
        up = (0, 0, 1) if forward != (0, 0, 1) else (1, 0, 0)
        _, depth = renderer.render(looking((0, 0, 0), forward, up), INTRINSICS)
        assert (depth == 0).all()


def test_colour_and_depth_edges_are_at_the_same_place(renderer):
    """A white square before black: pixels are grey where the edge runs, by the share it covers."""
    left, top = 20.3, 12.7  # In pixels; centres at whole numbers.
    z = 2.0
    x0, y0 = (left - 44) / 80 * z, (top - 35.5) / 76 * z
    # Looking along +y: right is +x, down is -z.
    near = quad((x0, z, -1.0), (3, 0, 0), (0, 0, 1.0 - y0))
    far = quad((-9, 4, -9), (18, 0, 0), (0, 0, 18))
    white, black = material((255, 255, 255), emission=1.0), material((0, 0, 0))
    renderer.load(scene((white, near), (black, far), ambient=0.0))
    rgb, depth = renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    column, row = depth[40], depth[:, 60]
    assert column[20] == pytest.approx(4, rel=1e-4)
    assert column[21] == pytest.approx(2, rel=1e-4)
    assert row[12] == pytest.approx(4, rel=1e-4)
    assert row[13] == pytest.approx(2, rel=1e-4)
    # A tent two pixels wide over samples half a pixel apart finds the edge within a quarter.
    grey = rgb[..., 0]
    assert 44 - grey[40, :44].sum() == pytest.approx(left + 0.5, abs=0.26)
    assert 35 - grey[:35, 60].sum() == pytest.approx(top + 0.5, abs=0.26)
    assert 0.05 < grey[40, 20] < 0.95


def test_depth_is_never_averaged_across_an_edge(renderer):
    bars = [box((0.01, 0.01, 4), centre=(x, 1.5, 0)) for x in np.linspace(-1, 1, 30)]
    far = quad((-9, 4, -9), (18, 0, 0), (0, 0, 18))
    renderer.load(scene((material(), far), *((material(), bar) for bar in bars)))
    _, depth = renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    near = np.abs(depth - 1.5) < 0.02
    assert near.sum() > 50
    assert (near | (np.abs(depth - 4) < 1e-3)).all()


def test_pictures_are_not_mirrored(renderer):
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32, 0] = 255  # Red at the top left,
    texture[:32, 32:, 1] = 255  # green at the top right,
    texture[32:, :32, 2] = 255  # blue at the bottom left.
    poster = quad((-1, 2, -1), (2, 0, 0), (0, 0, 2), uv_size=(1, 1))
    renderer.load(scene((Material(texture, specular=0.0, emission=1.0), poster)))
    rgb, _ = renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    for (v, u), channel in (((20, 30), 0), ((20, 60), 1), ((50, 30), 2)):
        assert rgb[v, u, channel] > 0.9
        assert np.delete(rgb[v, u], channel).max() < 0.1
    assert rgb[50, 60].max() < 0.1


def test_glass_has_the_depth_of_its_surface(renderer):
    far = quad((-9, 4, -9), (18, 0, 0), (0, 0, 18))
    pane = quad((-1, 2, -1), (2, 0, 0), (0, 0, 2))
    clear = material((255, 255, 255), opacity=0.3)
    renderer.load(scene((material((200, 0, 0)), far), (clear, pane)))
    rgb, depth = renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    assert depth[32, 48] == pytest.approx(2, rel=1e-4)
    assert rgb[32, 48, 0] > rgb[32, 48, 1] + 0.1  # The red wall shines through.


def test_shadows_darken_without_changing_depth(renderer):
    ground = quad((-5, -5, 0), (10, 0, 0), (0, 10, 0), cell=0.1)
    lamp = Light('spot', np.array([0, 0, 4.0]), np.array([0, 0, -1.0]), np.full(3, 0.8), 60)
    lid = box((0.6, 0.6, 0.05), centre=(0, 0, 3.0))
    pose = looking((0, 0, 2.5), (0, 0, -1), up=(0, 1, 0))
    views = []
    for extra in ([], [(material(), lid)]):
        renderer.load(scene((material(), ground), *extra, lights=[lamp], ambient=0.1))
        views.append(renderer.render(pose, INTRINSICS))
    (lit, depth), (shaded, same) = views
    assert shaded[36, 44].mean() < 0.6 * lit[36, 44].mean()
    np.testing.assert_array_equal(depth, same)


def test_what_lies_behind_glass_is_known_too(renderer):
    wall = (material(), quad((-5, 3, -5), (10, 0, 0), (0, 0, 10), cell=5))
    pane = quad((-0.5, 2, -0.5), (1, 0, 0), (0, 0, 1))
    renderer.load(scene(wall, (material((255, 255, 255), opacity=0.3), pane)))
    _, depth = renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    middle = tuple(side // 2 for side in depth.shape)
    assert depth[middle] == pytest.approx(2, abs=0.01)
    assert renderer.depth_behind_glass.shape == depth.shape
    assert np.median(renderer.depth_behind_glass) == pytest.approx(3, abs=0.01)
    assert renderer.depth_behind_glass[middle] == pytest.approx(3, abs=0.01)
    renderer.load(scene(wall))
    renderer.render(looking((0, 0, 0), (0, 1, 0)), INTRINSICS)
    assert renderer.depth_behind_glass is None


def test_preview_agrees_with_the_full_view(renderer):
    renderer.load(scene((material(), quad((-50, -50, 0), (100, 0, 0), (0, 100, 0), cell=5))))
    pose = looking((0, 0, 1.5), (0, 1, -1))
    _, depth = renderer.render(pose, INTRINSICS)
    small = renderer.depth_preview(pose, INTRINSICS)
    assert small.shape == (8, 8)
    assert np.median(small) == pytest.approx(np.median(depth), rel=0.1)


def test_without_opengl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    for name in ('mujoco.egl', 'mujoco.osmesa'):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RenderingUnavailableError, match=r'libegl1.*egl: .*osmesa: '):
        OffscreenRenderer(SIZE)


def test_without_a_driver_the_context_is_refused_and_the_environment_restored():
    """EGL that finds no device is what a bare container has."""
    code = (
        'import os\n'
        'os.environ["MUJOCO_EGL_DEVICE_ID"] = "999"\n'
        'os.environ["MUJOCO_GL"] = "egl"\n'
        'from depth_sr_ros.data.offscreen_renderer import *\n'
        'try:\n'
        '    OffscreenRenderer((64, 48))\n'
        'except RenderingUnavailableError as error:\n'
        '    print("refused:", "mujoco" in str(error), os.environ.get("PYOPENGL_PLATFORM"))\n'
    )
    environment = {key: os.environ[key] for key in os.environ if key != 'PYOPENGL_PLATFORM'}
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=True
    )
    assert 'refused: True None' in result.stdout
