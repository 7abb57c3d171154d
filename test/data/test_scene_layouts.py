# SPDX-License-Identifier: Apache-2.0
"""Random scenes as data: no renderer is needed for these."""

import numpy as np
import pytest

from depth_sr_ros.data import scene_objects
from depth_sr_ros.data.scene_builder import SceneBuilder
from depth_sr_ros.data.scene_layouts import random_layout
from depth_sr_ros.data.texture_copying import texture_copying_layout
from depth_sr_ros.data.textures import TextureLibrary

THINGS = sorted(
    {
        *scene_objects.STANDING,
        *scene_objects.AGAINST_WALL,
        *scene_objects.CLUTTER,
        *scene_objects.OUTDOOR,
    },
    key=lambda thing: thing.__name__,
)


@pytest.fixture(scope='module')
def textures():
    return TextureLibrary([])


@pytest.mark.parametrize('thing', THINGS, ids=lambda thing: thing.__name__)
def test_things_stand_on_the_floor_within_reach(thing, textures):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        builder = SceneBuilder(rng, textures)
        radius = thing(builder, rng)
        scene = builder.finish(ambient=0.3)
        vertices = np.concatenate([mesh.vertices for _, mesh in scene.surfaces])
        assert 0 < radius < 6
        # What hangs or is thrown over may reach a little below; nothing is buried.
        assert vertices[:, 2].min() > -0.35
        assert np.abs(vertices).max() < 12
        for material, mesh in scene.surfaces:
            assert np.isfinite(mesh.vertices).all()
            assert np.isfinite(mesh.uv).all()
            assert min(material.repeat) > 0
            assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize('draw', [random_layout, texture_copying_layout])
def test_same_seed_same_scene(draw, textures):
    first, again, other = (draw(np.random.default_rng(s), textures).scene for s in (3, 3, 4))
    for (_, a), (_, b) in zip(first.surfaces, again.surfaces, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)
    sizes = [[len(mesh.vertices) for _, mesh in scene.surfaces] for scene in (first, other)]
    assert sizes[0] != sizes[1]


def test_cameras_stay_in_the_room_with_a_proper_frame(textures):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        layout = random_layout(rng, textures)
        assert len(layout.scene.surfaces) <= 40  # Textures to upload.
        assert layout.scene.lights
        for _ in range(20):
            pose = layout.camera(rng)
            assert (np.abs(pose.eye - layout.centre) <= layout.half + 1e-6).all()
            frame = np.stack([pose.forward, pose.up, np.cross(pose.forward, pose.up)])
            np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)


def test_frames_of_reference_nest(textures):
    builder = SceneBuilder(np.random.default_rng(0), textures)
    with builder.frame(1, 0, 0, yaw=np.pi / 2), builder.frame(2, 0, 0.5):
        builder.support(0, 0, 0, 1, 2)
    builder.support(0, 0, 0, 1, 1)
    np.testing.assert_allclose(builder.supports[0].centre, (1, 2, 0.5), atol=1e-12)
    assert builder.supports[0].yaw == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(builder.supports[1].centre, 0)


def test_texture_copying_cameras_see_the_surface_alone(textures):
    """Even the widest ray meets a plane within its size, and a dome above its horizon."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        layout = texture_copying_layout(rng, textures)
        occluders = [light.position[2] for light in layout.scene.lights]
        assert min(occluders) > 7
        for _ in range(20):
            pose = layout.camera(rng)
            lean = np.degrees(np.arccos(-pose.forward[2]))
            assert lean <= layout.max_lean
            assert pose.eye[2] <= layout.max_distance
            assert pose.eye[2] * np.tan(np.radians(lean + 42)) < 30
            if layout.max_lean == 20 and layout.max_distance < 2:
                assert lean + 42 < np.degrees(np.arcsin(10 / (10 + pose.eye[2]))) + 1
