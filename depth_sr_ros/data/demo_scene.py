# SPDX-License-Identifier: Apache-2.0
"""The furnished room of the demo clip. Its textures are computed; none is a photograph."""

from __future__ import annotations

import cv2
import numpy as np

from depth_sr_ros.data import scene_objects as things
from depth_sr_ros.data.scene_builder import Light, Material, Scene, SceneBuilder
from depth_sr_ros.data.scene_layouts import CameraPose
from depth_sr_ros.data.scene_mesh import box, ellipsoid, lathe, quad, tube
from depth_sr_ros.data.textures import TextureLibrary, fractal_noise

_PALETTE = np.array([
    (196, 78, 60), (222, 160, 78), (238, 222, 190), (64, 108, 122), (38, 60, 84),
    (122, 142, 96), (164, 110, 70), (210, 196, 176), (92, 74, 96), (150, 60, 74),
], float)  # fmt: skip


class DemoTextures(TextureLibrary):
    """Textures of one palette: cloth, weave, painted wood, prints."""

    def __init__(self) -> None:
        super().__init__([])

    def surface(self, rng: np.random.Generator) -> np.ndarray:
        """Draw cloth, wood or ceramic."""
        first, second = _PALETTE[rng.choice(len(_PALETTE), 2, replace=False)]
        kind = rng.integers(4)
        if kind == 0:
            return wood(rng, first * 0.5 + np.array([70, 45, 25]))
        y, x = np.mgrid[0:256, 0:256] / 256
        if kind == 1:
            count = int(rng.integers(3, 9))
            mix = np.clip(4 * np.sin(2 * np.pi * count * (x if rng.random() < 0.5 else y)), -1, 1)
            mix = 0.5 + 0.5 * mix
        elif kind == 2:
            mix = np.clip(3 * np.sin(10 * np.pi * x) * np.sin(10 * np.pi * y), 0, 1)
        else:
            mix = np.clip(0.3 + 0.15 * fractal_noise(rng, 256), 0, 1)
        weave = 5 * np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y)
        return _image(first + (second - first) * mix[..., None] + weave[..., None])

    def plain(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one of the palette's colours with a faint grain."""
        grain = 1 + 0.015 * fractal_noise(rng, 64, 4)
        return _image(_PALETTE[rng.integers(len(_PALETTE))] * grain[..., None])

    def picture(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a landscape or an abstract print."""
        return landscape(rng) if rng.random() < 0.5 else abstract_print(rng)


def _image(array: np.ndarray) -> np.ndarray:
    return np.clip(array, 0, 255).astype(np.uint8)


def wood(rng: np.random.Generator, colour, planks: int = 1) -> np.ndarray:
    """Draw planks of wood along x, uint8 (512, 512, 3)."""
    size = 512
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.zeros((size, size, 3))
    noise = fractal_noise(rng, size, 6)
    for row in range(planks):
        shift = rng.random()
        mine = (y * planks).astype(int) == row
        slow = np.roll(noise, int(rng.integers(size)), axis=1)
        grain = np.sin(2 * np.pi * (9 * y * max(1, planks / 3) + 0.7 * np.roll(slow, 40, 0)))
        fine = cv2.blur(np.roll(noise, row * 37, 0).astype(np.float32), (61, 1))
        tone = 1 + rng.uniform(-0.16, 0.12) + 0.06 * grain + 0.1 * fine
        joint = np.abs((x + shift) % 1 - 0.5) < 0.0025
        image[mine] = (np.asarray(colour) * (tone * np.where(joint, 0.45, 1))[..., None])[mine]
    if planks > 1:
        image *= np.where((y * planks) % 1 < 0.03, 0.5, 1)[..., None]
    return _image(image)


def brick(rng: np.random.Generator) -> np.ndarray:
    """Draw a brick wall of 12 rows, uint8 (512, 512, 3)."""
    size, rows, columns = 512, 12, 4
    y, x = np.mgrid[0:size, 0:size] / size
    row = (y * rows).astype(int)
    u = (x + 0.5 * (row % 2) / columns) % 1 * columns
    tone = rng.normal(1, 0.13, (rows, columns))[row, u.astype(int)]
    red = np.array([158, 88, 68]) * tone[..., None]
    edge = np.minimum((y * rows) % 1, 1 - (y * rows) % 1) * 3 / 9
    edge = np.minimum(edge, np.minimum(u % 1, 1 - u % 1))
    mortar = np.clip(1 - (edge + 0.008 * fractal_noise(rng, size) - 0.02) * 60, 0, 1)[..., None]
    image = red * (1 - mortar) + np.array([196, 186, 172]) * mortar
    return _image(image * (1 + 0.07 * fractal_noise(rng, size, 6)[..., None]))


def carpet(rng: np.random.Generator) -> np.ndarray:
    """Draw a carpet with borders and a repeated medallion, uint8 (512, 768, 3)."""
    height, width = 512, 768
    y, x = np.mgrid[0:height, 0:width].astype(float)
    inset = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    cx, cy = (x % 128) - 64, (y % 128) - 64
    star = np.hypot(cx, cy) * (1 + 0.25 * np.cos(8 * np.arctan2(cy, cx)))
    image = np.tile((126.0, 36.0, 40.0), (height, width, 1))
    for radius, colour in ((58, (38, 50, 86)), (44, (206, 172, 120)), (32, (126, 36, 40)),
                           (20, (224, 204, 164)), (10, (38, 50, 86))):  # fmt: skip
        image[star < radius] = colour
    for edge, colour in ((70, (206, 172, 120)), (64, (38, 50, 86)), (22, (224, 204, 164)),
                         (14, (126, 36, 40))):  # fmt: skip
        image[inset < edge] = colour
    zigzag = np.abs((x + y) % 48 - 24) + np.abs((x - y) % 48 - 24)
    band = (inset > 28) & (inset < 58)
    image[band & (zigzag < 22)] = (206, 172, 120)
    pile = rng.normal(1, 0.07, (height, width, 1)) * (1 + 0.04 * np.sin(np.pi * y))[..., None]
    return _image(image * pile)


def landscape(rng: np.random.Generator) -> np.ndarray:
    """Paint hills under a sky with a sun, uint8 (384, 512, 3)."""
    height, width = 384, 512
    y, x = np.mgrid[0:height, 0:width] / height
    low, high = np.array([250, 196, 140]), np.array([84, 130, 176])
    image = high + (low - high) * np.clip(y * 1.8, 0, 1)[..., None]
    sun = np.hypot(x - rng.uniform(0.3, 1.1), y - 0.3)
    image += 70 * np.exp(-((sun / 0.12) ** 2))[..., None] * (1, 0.9, 0.5)
    for layer in range(5):
        skyline = 0.38 + 0.13 * layer
        for octave in range(1, 6):
            skyline = skyline + 0.09 / octave**1.2 * np.sin(octave * 4 * x + rng.uniform(0, 6))
        colour = np.array([100, 124, 140]) * (1 - layer / 5) + np.array([40, 70, 34]) * layer / 5
        image = np.where((y > skyline)[..., None], colour * rng.uniform(0.85, 1.15), image)
    return _image(image * (1 + 0.04 * rng.standard_normal((height, width, 1))))


def abstract_print(rng: np.random.Generator) -> np.ndarray:
    """Print discs, bars and curves in the palette's colours, uint8 (384, 384, 3)."""
    image = np.empty((384, 384, 3), np.uint8)
    image[:] = _PALETTE[2]
    for _ in range(9):
        colour = tuple(float(c) for c in _PALETTE[rng.integers(len(_PALETTE))])
        a = tuple(int(c) for c in rng.integers(40, 344, 2))
        if rng.random() < 0.5:
            cv2.circle(image, a, int(rng.integers(15, 90)), colour, -1, cv2.LINE_AA)
        else:
            b = tuple(int(c) for c in rng.integers(40, 344, 2))
            cv2.line(image, a, b, colour, int(rng.integers(3, 26)), cv2.LINE_AA)
    return image


def demo_scene() -> Scene:
    """Build the room: 5.2 x 4.6 x 2.7 m; the camera looks from y = 0.5 towards y = 4.6."""
    rng = np.random.default_rng(20)
    builder = SceneBuilder(rng, DemoTextures(), sameness=0.25, max_materials=40)
    width, depth, height = 5.2, 4.6, 2.7

    def plain(colour, **options) -> Material:
        grain = 1 + 0.012 * fractal_noise(rng, 128)[..., None]
        return Material(_image(np.asarray(colour, float) * grain), **options)

    floor = Material(wood(rng, (150, 104, 66), planks=8), (1.6, 1.0), specular=0.3)
    cream, blue = plain((226, 216, 196)), plain((122, 152, 160))
    bricks = Material(brick(rng), (1.1, 1.0), specular=0.0)
    white, oak = plain((235, 232, 226)), Material(wood(rng, (176, 128, 82)), (0.8, 0.5))
    dark, brass = plain((46, 44, 48), specular=0.5), plain((190, 150, 80), specular=0.9)

    builder.add(quad((0, 0, 0), (width, 0, 0), (0, depth, 0), cell=0.2), floor)
    builder.add(quad((0, 0, height), (0, depth, 0), (width, 0, 0), cell=0.3), white)
    builder.add(quad((0, depth, 0), (width, 0, 0), (0, 0, height), cell=0.2), cream)
    builder.add(quad((0, 0, 0), (0, depth, 0), (0, 0, height), cell=0.2), bricks)
    builder.add(quad((width, depth, 0), (0, -depth, 0), (0, 0, height), cell=0.2), blue)
    builder.add(quad((width, 0, 0), (-width, 0, 0), (0, 0, height), cell=0.3), cream)
    for size, centre in (((width, 0.02, 0.1), (width / 2, depth - 0.01, 0.05)),
                         ((0.02, depth, 0.1), (width - 0.01, depth / 2, 0.05))):  # fmt: skip
        builder.add(box(size, centre=centre), white)

    rug = Material(carpet(rng), specular=0.0)
    rug_size = np.array([2.7, 1.8, 0.0])
    with builder.frame(2.75, 2.35, 0.008, yaw=0.12):
        builder.add(quad(-rug_size / 2, (2.7, 0, 0), (0, 1.8, 0), cell=0.2, uv_size=(1, 1)), rug)

    # Facing +y from a wall is what these are built for: turn them round for the far wall.
    with builder.frame(1.25, depth, 0, yaw=np.pi):
        _bookcase(builder, rng, oak)
    for x, z, wide, tall, paint in ((2.75, 1.62, 0.95, 0.7, landscape),
                                    (3.75, 1.75, 0.5, 0.5, abstract_print),
                                    (3.75, 1.15, 0.4, 0.4, abstract_print)):  # fmt: skip
        picture = Material(paint(rng), specular=0.2)
        with builder.frame(x, depth, z, yaw=np.pi):
            _framed(builder, wide, tall, picture, dark)
    with builder.frame(width, 2.9, 1.6, yaw=np.pi / 2):
        _framed(builder, 0.9, 0.65, Material(landscape(rng)), brass)
    with builder.frame(2.85, depth, 0, yaw=np.pi):
        _sideboard(builder, rng, white, oak, brass)

    with builder.frame(2.7, 2.3, 0, yaw=0.1):
        _table(builder, rng, oak, dark)
    for x, y, yaw in ((1.95, 2.75, -2.2), (3.5, 2.05, 1.9)):
        with builder.frame(x, y, 0, yaw=yaw):
            things.chair(builder, np.random.default_rng(3))
    with builder.frame(4.6, 4.0):
        things.plant(builder, np.random.default_rng(11), plain((70, 128, 62)))
    with builder.frame(4.75, 2.55):
        things.lamp(builder, np.random.default_rng(21))
    with builder.frame(0.35, 2.2, 0, yaw=-np.pi / 2):
        things.rack(builder, np.random.default_rng(8))
    with builder.frame(0.75, 3.1, 0, yaw=0.6):
        things.wheel(builder, np.random.default_rng(4))
    with builder.frame(3.9, 1.35, 0, yaw=0.4):
        builder.add(box((0.42, 0.34, 0.3), centre=(0, 0, 0.15)), builder.material(0.4))
        with builder.frame(0.02, 0.02, 0.3, yaw=0.5):
            builder.add(box((0.3, 0.24, 0.2), centre=(0, 0, 0.1)), builder.material(0.3))
    ball = Material(abstract_print(rng), (0.35, 0.35), specular=0.6)
    with builder.frame(1.35, 1.75, 0.16):
        builder.add(ellipsoid((0.16, 0.16, 0.16), sides=32), ball)
    with builder.frame(2.2, 1.4, 0):
        things.cable(builder, np.random.default_rng(6))
    _pendant(builder, height, dark, brass)

    builder.lights += [
        Light('spot', np.array([4.6, 0.6, 2.55]), np.array([-0.55, 0.65, -0.52]),
              np.array([0.62, 0.58, 0.5]), 75.0),
        Light('spot', np.array([2.7, 2.3, 1.7]), np.array([0.0, 0.05, -1.0]),
              np.array([0.35, 0.3, 0.22]), 70.0),
        Light('point', np.array([0.8, 0.7, 2.2]), np.array([0.0, 0.0, -1.0]),
              np.array([0.2, 0.22, 0.26]), shadow=False),
    ]  # fmt: skip
    return builder.finish(ambient=0.34)


def _framed(builder: SceneBuilder, wide, tall, picture: Material, frame: Material) -> None:
    for x, z, sx, sz in ((0, tall / 2, wide + 0.06, 0.03), (0, -tall / 2, wide + 0.06, 0.03),
                         (wide / 2, 0, 0.03, tall), (-wide / 2, 0, 0.03, tall)):  # fmt: skip
        builder.add(box((sx, 0.03, sz), centre=(x, 0.015, z)), frame)
    face = quad((wide / 2, 0.01, -tall / 2), (-wide, 0, 0), (0, 0, tall), uv_size=(1, 1))
    builder.add(face, picture)


def _bookcase(builder: SceneBuilder, rng, oak: Material) -> None:
    wide, tall, deep = 1.5, 2.05, 0.3
    for x in (-wide / 2, 0, wide / 2):
        builder.add(box((0.025, deep, tall), centre=(x, deep / 2, tall / 2)), oak)
    levels = (0.06, 0.46, 0.86, 1.26, 1.66, tall)
    for z in levels:
        builder.add(box((wide, deep, 0.025), centre=(0, deep / 2, z)), oak)
    for z in levels[:-1]:
        for x in (-wide / 4, wide / 4):
            with builder.frame(x, 0.03, z + 0.0125):
                if rng.random() < 0.7:
                    things.books(builder, rng, rng.uniform(0.45, 0.66), 0.33)
                else:
                    with builder.frame(rng.uniform(-0.15, 0.15), 0.14):
                        things.bottle(builder, rng)


def _sideboard(builder: SceneBuilder, rng, white, oak, brass) -> None:
    wide, tall, deep = 1.3, 0.72, 0.4
    builder.add(box((wide, deep, tall - 0.14), centre=(0, deep / 2, tall / 2 + 0.05)), oak)
    for x in (-wide / 2 + 0.05, wide / 2 - 0.05):
        for y in (0.05, deep - 0.05):
            builder.add(box((0.035, 0.035, 0.14), centre=(x, y, 0.07)), oak)
    for column in range(3):
        x = (column - 1) * wide / 3
        front = (wide / 3 - 0.012, 0.02, tall - 0.17)
        builder.add(box(front, centre=(x, deep + 0.01, tall / 2 + 0.05)), white)
        grip = np.array([[x - 0.06, deep + 0.02, 0.55], [x, deep + 0.055, 0.55],
                         [x + 0.06, deep + 0.02, 0.55]])  # fmt: skip
        builder.add(tube(grip, 0.007), brass)
    for x in (-0.5, -0.3, 0.15, 0.45):
        with builder.frame(x, 0.2, tall + 0.0):
            things.bottle(builder, rng)


def _table(builder: SceneBuilder, rng, oak, dark) -> None:
    wide, deep, tall = 1.25, 0.75, 0.72
    builder.add(box((wide, deep, 0.035), centre=(0, 0, tall - 0.0175), cell=0.1), oak)
    for x in (-wide / 2 + 0.06, wide / 2 - 0.06):
        for y in (-deep / 2 + 0.06, deep / 2 - 0.06):
            builder.add(box((0.04, 0.04, tall), centre=(x, y, tall / 2 - 0.03)), dark)
    with builder.frame(-0.35, 0.1, tall, yaw=0.3):
        things.sheet(builder, rng)
    vase = np.array([[0, 0], [0.055, 0], [0.085, 0.08], [0.07, 0.17], [0.035, 0.23], [0.05, 0.27],
                     [0.045, 0.27], [0.03, 0.2], [0, 0.05]])  # fmt: skip
    with builder.frame(0.3, 0.12, tall):
        builder.add(lathe(vase, sides=28), builder.material(0.2))
        for angle in np.linspace(0, 5, 6):
            tip = np.array([0.13 * np.cos(angle), 0.13 * np.sin(angle), 0.5 + 0.03 * angle])
            stem = np.array([[0, 0, 0.2], [tip[0] * 0.3, tip[1] * 0.3, 0.38], tip])
            builder.add(tube(stem, 0.003, sides=5), dark)
            with builder.frame(*tip):
                builder.add(ellipsoid((0.025, 0.025, 0.03), sides=10), builder.material(0.1))
    with builder.frame(0.05, -0.18, tall, yaw=-0.5):
        things.books(builder, rng, 0.12, 0.22)
    for x, y in ((0.45, -0.2), (-0.05, 0.2), (-0.5, -0.22)):
        with builder.frame(x, y, tall, yaw=x * 7):
            things.bottle(builder, rng)


def _pendant(builder: SceneBuilder, height, dark, brass) -> None:
    with builder.frame(2.7, 2.3):
        builder.add(tube(np.array([[0, 0, 1.95], [0, 0, height]]), 0.005), dark)
        shade = np.array([[0.24, 1.72], [0.2, 1.82], [0.05, 1.93], [0.0, 1.95]])
        builder.add(lathe(shade, sides=28).two_sided(), brass)


def demo_camera_pose(t: float) -> CameraPose:
    """Where the camera is at t in [0, 1]: an arc across the room, looking at the table."""
    eye = np.array([1.45 + 2.1 * t, 0.42 + 0.22 * np.sin(np.pi * t), 1.42 - 0.3 * t])
    target = np.array([2.35 + 0.55 * t, 3.2, 0.78 + 0.05 * t])
    forward = (target - eye) / np.linalg.norm(target - eye)
    up = np.array([0.03 * np.sin(2 * np.pi * t), 0.0, 1.0])
    up -= forward * (up @ forward)
    return CameraPose(eye, forward, up / np.linalg.norm(up))
