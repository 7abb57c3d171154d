# SPDX-License-Identifier: Apache-2.0
"""Scenes to measure texture copying on: what is smooth in depth and anything but in colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_sr_ros.data.scene_builder import Light, Material, SceneBuilder
from depth_sr_ros.data.scene_layouts import CameraPose, Layout
from depth_sr_ros.data.scene_mesh import box, lathe, patch, quad, random_rotation, tube
from depth_sr_ros.data.scene_objects import crumpled
from depth_sr_ros.data.textures import TextureLibrary

_HALF = 30.0


@dataclass
class SmoothLayout(Layout):
    """A smooth surface near z = 0, seen from above.

    Lights hang higher than any camera, and so do the things that throw shadows on the surface.
    max_distance, max_lean: how far a camera is, in metres, and how far from upright it looks, in
    degrees, so that its widest ray, 42 degrees off, still meets the surface.
    """

    max_distance: float = 3.0
    max_lean: float = 38.0

    def camera(self, rng: np.random.Generator) -> CameraPose:
        """Draw a camera that sees nothing but the surface."""
        distance = np.exp(rng.uniform(np.log(0.6), np.log(self.max_distance)))
        lean, turn = np.radians(rng.uniform(0, self.max_lean)), rng.uniform(0, 2 * np.pi)
        forward = np.array(
            [np.sin(lean) * np.cos(turn), np.sin(lean) * np.sin(turn), -np.cos(lean)]
        )
        target = np.append(rng.uniform(-0.4, 0.4, 2), 0.0)
        up = rng.normal(0, 1, 3)
        up -= forward * (up @ forward)
        return CameraPose(target - distance * forward, forward, up / np.linalg.norm(up))


def texture_copying_layout(rng: np.random.Generator, textures: TextureLibrary) -> Layout:
    """Draw a plane, a gentle relief, a dome or a cylinder; prints on planes; lights; shadows."""
    builder = SceneBuilder(rng, textures)
    texture = _strong(textures.surface, rng)
    size = float(np.exp(rng.uniform(np.log(0.15), np.log(0.9))))
    ground = Material(
        texture, (size, size * texture.shape[0] / texture.shape[1]),
        specular=float(rng.choice([0.0, 0.3, 0.9])), shininess=float(rng.uniform(0.1, 0.9)),
    )  # fmt: skip
    kind = rng.choice(['plane', 'relief', 'dome', 'cylinder'], p=[0.55, 0.15, 0.15, 0.15])
    if kind == 'plane':
        # Fine cells near the middle, where the cameras look: lighting is computed at vertices.
        ticks = _HALF * np.sign(np.linspace(-1, 1, 121)) * np.abs(np.linspace(-1, 1, 121)) ** 2.5
        x, y = np.meshgrid(ticks, ticks)
        up = np.broadcast_to((0.0, 0.0, 1.0), (121, 121, 3))
        builder.add(patch(np.stack([x, y, 0 * x], -1), np.stack([x, y], -1), up), ground)
        _prints(builder, rng, textures)
    elif kind == 'relief':
        builder.add(crumpled(rng, 20, 20, rng.uniform(0.05, 0.3), cells=160), ground)
    elif kind == 'dome':
        radius = rng.uniform(10, 25)
        latitude = np.linspace(0.3, np.pi / 2, 120)
        profile = radius * np.stack([np.cos(latitude), np.sin(latitude) - 1], -1)
        builder.add(lathe(profile, sides=160), ground)
    else:
        radius = rng.uniform(10, 20)
        angle = np.linspace(0, np.pi, 240)
        along = np.linspace(-_HALF, _HALF, 80)
        a, y = np.meshgrid(angle[::-1], along)
        points = np.stack([radius * np.cos(a), y, radius * (np.sin(a) - 1)], -1)
        normals = np.stack([np.cos(a), 0 * a, np.sin(a)], -1)
        builder.add(patch(points, np.stack([-radius * a, y], -1), normals), ground)

    count = int(rng.integers(1, 4))
    for _ in range(count):
        _light_with_shadows(builder, rng, rng.uniform(0.4, 0.9) / count)
    scene = builder.finish(ambient=float(rng.uniform(0.1, 0.35)))
    layout = SmoothLayout(scene, np.zeros(3), np.ones(3), [], [])
    if kind in ('dome', 'cylinder'):  # Their horizon is 64 degrees from straight down, or more.
        layout.max_distance, layout.max_lean = 1.1, 20.0
    elif kind == 'relief':
        layout.max_lean = 20.0
    return layout


def _strong(draw, rng: np.random.Generator) -> np.ndarray:
    """Draw textures until one has contrast, and edges enough."""
    for _ in range(20):
        texture = draw(rng)
        grey = texture.mean(axis=-1)
        steps = np.abs(np.diff(grey, axis=1)).mean() * grey.shape[1] / 256
        if grey.std() > 25 and steps > 4:
            break
    return texture


def _prints(builder: SceneBuilder, rng: np.random.Generator, textures: TextureLibrary) -> None:
    """Paste pictures on the plane, far less than a millimetre apart."""
    for layer in range(int(rng.integers(0, 8))):
        wide, tall = rng.uniform(0.1, 0.9, 2)
        x, y = rng.uniform(-1, 1, 2)
        picture = Material(_strong(textures.picture, rng), specular=float(rng.choice([0.0, 0.6])))
        with builder.frame(x, y, 0.00004 * (layer + 1), yaw=rng.uniform(0, 6)):
            builder.add(
                quad(
                    (-wide / 2, -tall / 2, 0), (wide, 0, 0), (0, tall, 0), cell=0.1, uv_size=(1, 1)
                ),
                picture,
            )


def _light_with_shadows(builder: SceneBuilder, rng: np.random.Generator, strength: float) -> None:
    """Hang a light above the cameras, and between it and them things that throw shadows."""
    position = np.append(rng.uniform(-4, 4, 2), rng.uniform(8, 12))
    aim = np.append(rng.uniform(-0.5, 0.5, 2), 0.0) - position
    colour = strength * np.clip(rng.normal(1, 0.1, 3), 0.6, 1.2)
    light = Light('spot', position, aim / np.linalg.norm(aim), colour, rng.uniform(20, 40))
    builder.lights.append(light)
    cloth = builder.material(1.0)
    for _ in range(int(rng.integers(0, 7))):
        t = rng.uniform(0.25, 0.45)
        place = position + t * aim + np.append(rng.uniform(-1, 1, 2), 0.0)
        with builder.frame(*place, rotation=random_rotation(rng)):
            if rng.random() < 0.5:
                builder.add(box(rng.uniform(0.05, 0.8, 3)), cloth)
            else:
                line = np.array([[0, 0, -1.5], [0, 0, 1.5]])
                builder.add(tube(line, rng.uniform(0.01, 0.08)), cloth)
