# SPDX-License-Identifier: Apache-2.0
"""Random scenes: furnished rooms, table tops, halls, streets, heaps of shapes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from depth_sr_ros.data import scene_objects as things
from depth_sr_ros.data.scene_builder import (
    GLASS_SHARE,
    Light,
    Material,
    Scene,
    SceneBuilder,
    Support,
)
from depth_sr_ros.data.scene_mesh import box, cylinder, ellipsoid, quad, random_rotation, tube
from depth_sr_ros.data.textures import TextureLibrary


@dataclass
class CameraPose:
    """Where a camera stands and looks; unit vectors in the world frame."""

    eye: np.ndarray
    forward: np.ndarray
    up: np.ndarray


@dataclass
class Layout:
    """A scene and where cameras in it make sense.

    centre, half: the box (x, y, z) that cameras stay in. walls: (point, inward normal) of large
    flat surfaces. supports: table tops and the like.
    """

    scene: Scene
    centre: np.ndarray
    half: np.ndarray
    walls: list[tuple[np.ndarray, np.ndarray]]
    supports: list[Support]
    outdoors: bool = False
    #: Where things stand: what a camera would look at.
    targets: list[np.ndarray] = field(default_factory=list)

    def camera(self, rng: np.random.Generator) -> CameraPose:
        """Draw a camera: eye level, low as on a small robot, close to a table, facing a wall."""
        low, high = self.centre - self.half, self.centre + self.half
        kind = rng.random()
        if self.outdoors or kind < 0.33:
            eye = rng.uniform(low, high)
            eye[2] = rng.uniform(0.9, 1.9) if rng.random() < 0.6 else rng.uniform(0.12, 0.6)
            if rng.random() < 0.15:
                eye[2] = high[2]
            target = rng.uniform(low, high)
            if self.targets and rng.random() < 0.75:
                target = self.targets[int(rng.integers(len(self.targets)))] + rng.normal(0, 0.3, 3)
            elif self.outdoors:
                target = eye + rng.normal(0, 1, 3) * (20, 20, 1.5) - (0, 0, 1.0)
        elif kind < 0.75 and self.supports:
            top = self.supports[int(rng.integers(len(self.supports)))]
            target = top.centre + np.append(rng.normal(0, 0.12, 2), rng.uniform(0, 0.15))
            angle, lift = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(10, 80))
            reach = np.exp(rng.uniform(np.log(0.3), np.log(1.6)))
            ray = (np.cos(angle) * np.cos(lift), np.sin(angle) * np.cos(lift), np.sin(lift))
            eye = np.clip(target + reach * np.array(ray), low, high)
        elif kind < 0.9 and self.walls:
            point, normal = self.walls[int(rng.integers(len(self.walls)))]
            target = point + rng.normal(0, 0.6, 3) * (1 - np.abs(normal))
            slant = rng.normal(0, 0.6, 3) * (1, 1, 0.4)
            eye = np.clip(target + rng.uniform(0.5, 2.8) * (normal + slant), low, high)
        else:
            eye, target = rng.uniform(low, high), rng.uniform(low, high) * (1, 1, 0.3)
        forward = target - eye
        length = np.linalg.norm(forward)
        forward = forward / length if length > 1e-3 else np.array([1.0, 0.0, 0.0])
        up = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.06, 3)
        if abs(forward[2]) > 0.98 or rng.random() < 0.06:
            up = rng.normal(0, 1, 3)
        up = up - forward * (up @ forward)
        return CameraPose(eye, forward, up / np.linalg.norm(up))


def random_layout(
    rng: np.random.Generator, textures: TextureLibrary, glass_share: float = GLASS_SHARE
) -> Layout:
    """Draw a scene: rooms mostly, then streets, halls and heaps of shapes.

    glass_share: of bottles and other turned things that are of glass.
    """
    kind = rng.choice(['room', 'street', 'hall', 'heap'], p=[0.62, 0.16, 0.1, 0.12])
    builder = SceneBuilder(
        rng,
        textures,
        sameness=float(rng.choice([0.15, 0.4, 0.8])),
        glass_share=glass_share,
    )
    if kind == 'street':
        return _street(builder, rng)
    if kind == 'hall':
        return _room(builder, rng, rng.uniform((12, 12, 4), (40, 35, 9)), furniture=40)
    size = rng.uniform((2.4, 2.4, 2.2), (6.5, 7.5, 3.4))
    if kind == 'heap':
        return _room(builder, rng, size * (0.7, 0.7, 1), furniture=3, heap=True)
    return _room(builder, rng, size, furniture=int(rng.integers(8, 24)))


def _room(builder, rng, size, *, furniture: int, heap: bool = False) -> Layout:
    width, depth, height = size
    wall = builder.material(1.2, plain=0.3)
    floor, ceiling = builder.material(1.5, plain=0.1), builder.material(1.5, plain=0.6)
    open_top = rng.random() < 0.12
    reflective = None
    if rng.random() < 0.15:
        reflective = (floor, (width / 2 + 6, depth / 2 + 6), 0.0, float(rng.uniform(0.1, 0.5)))
    else:
        builder.add(quad((0, 0, 0), (width, 0, 0), (0, depth, 0)), floor)
    if not open_top:
        builder.add(quad((0, 0, height), (0, depth, 0), (width, 0, 0)), ceiling)
        for x in np.arange(1, width, rng.uniform(0.8, 3)) if rng.random() < 0.15 else ():
            builder.add(box((0.12, depth, 0.18), centre=(x, depth / 2, height - 0.09)), wall)

    walls = []
    corners = ((0, 0, width), (width, 0, depth), (width, depth, width), (0, depth, depth))
    for side, (x, y, length) in enumerate(corners):
        material = wall if rng.random() < 0.75 else builder.material(1.2, plain=0.3)
        with builder.frame(x, y, 0, yaw=side * np.pi / 2):
            _wall(builder, rng, length, height, material, floor)
        inward = np.round([-np.sin(side * np.pi / 2), np.cos(side * np.pi / 2), 0.0])
        along = np.array([inward[1], -inward[0], 0.0])
        walls.append((np.array([x, y, 1.2]) + along * length / 2, inward))

    taken: list[tuple[float, float, float]] = []
    for _ in range(furniture):
        if rng.random() < 0.5:
            _against_wall(builder, rng, corners, taken)
        else:
            thing = things.STANDING[int(rng.integers(len(things.STANDING)))]
            _scatter(builder, rng, thing, (0.5, 0.5, width - 0.5, depth - 0.5), taken)
    for _ in range(int(rng.integers(0, 3)) + furniture // 15):
        with builder.frame(rng.uniform(0.5, width - 0.5), rng.uniform(0.5, depth - 0.5)):
            radius = rng.uniform(0.03, 0.3)
            if rng.random() < 0.4:
                builder.add(cylinder(radius, height), builder.material(0.8))
            elif not open_top:
                _hanging(builder, rng, height)
    if rng.random() < 0.6:
        _carpet(builder, rng, width, depth)
    if heap:
        _heap(builder, rng, size)
    _clutter(builder, rng)

    _room_lights(builder, rng, size, open_top)
    scene = builder.finish(ambient=rng.uniform(0.15, 0.5), reflective_floor=reflective)
    middle = np.array(size) / 2
    half = np.maximum(middle - (0.25, 0.25, 0.1), 0.1)
    walls.append((middle * (1, 1, 0), np.array([0.0, 0.0, 1.0])))
    supports = builder.supports or [Support(middle * (1, 1, 0), (1.0, 1.0), 0.0)]
    targets = [np.array([x, y, rng.uniform(0.2, 1.2)]) for x, y, _ in taken]
    return Layout(scene, middle, half, walls, supports, targets=targets)


def _wall(builder, rng, length, height, material: Material, floor: Material) -> None:
    """Build a wall along x from the origin, facing +y, perhaps with a door, window or pictures."""

    def panel(x0, x1, z0, z1):
        if x1 - x0 > 1e-3 and z1 - z0 > 1e-3:
            edges = (x0 - x1, 0, 0), (0, 0, z1 - z0)
            builder.add(quad((x1, 0, z0), *edges, uv_origin=(-x1, z0)), material)

    kind = rng.random()
    opening = None
    if kind < 0.35 and length > 1.8:
        wide = rng.uniform(0.7, min(length - 0.8, 2.2))
        x0 = rng.uniform(0.3, length - wide - 0.3)
        bottom = 0.0 if rng.random() < 0.55 else rng.uniform(0.5, 1.1)
        top = min(rng.uniform(1.9, 2.3), height - 0.1)
        opening = (x0, x0 + wide, bottom, top)
        x1, thick = x0 + wide, rng.uniform(0.05, 0.35)
        panel(0, x0, 0, height)
        panel(x1, length, 0, height)
        panel(x0, x1, 0, bottom)
        panel(x0, x1, top, height)
        reveal = builder.material(0.8)
        builder.add(quad((x0, 0, bottom), (0, -thick, 0), (0, 0, top - bottom)), reveal)
        builder.add(quad((x1, -thick, bottom), (0, thick, 0), (0, 0, top - bottom)), reveal)
        builder.add(quad((x0, -thick, bottom), (wide, 0, 0), (0, thick, 0)), reveal)
        builder.add(quad((x0, 0, top), (wide, 0, 0), (0, -thick, 0)), reveal)
        if bottom > 0:
            for x in np.linspace(x0, x1, int(rng.integers(2, 6))):
                bar = box((0.035, 0.05, top - bottom), centre=(x, -thick / 2, (bottom + top) / 2))
                builder.add(bar, reveal)
        _beyond(builder, rng, length, height, thick, floor)
    else:
        panel(0, length, 0, height)
    for _ in range(int(rng.integers(0, 5))):
        wide, tall = rng.uniform(0.2, 1.3), rng.uniform(0.2, 1.0)
        x = rng.uniform(0.1 + wide / 2, max(length - 0.1 - wide / 2, 0.2 + wide / 2))
        if opening and opening[0] - wide / 2 - 0.05 < x < opening[1] + wide / 2 + 0.05:
            continue
        with builder.frame(x, 0, rng.uniform(0.7 + tall / 2, height - 0.2)):
            things.picture_on_wall(builder, rng, wide, tall)
    if rng.random() < 0.3:
        strip = box((length, 0.015, 0.1), centre=(length / 2, 0.0075, 0.05), cell=1)
        builder.add(strip, builder.material(0.5))


def _beyond(builder, rng, length, height, thick, floor: Material) -> None:
    """Put something behind an opening: a second room, or the outside and a house across."""
    if rng.random() < 0.55:
        deep = rng.uniform(1.2, 7)
        size = (length + 3, deep, height)
        room = box(size, centre=(length / 2, -thick - deep / 2, height / 2), inside=True)
        builder.add(room, builder.material(1.2))
        for _ in range(int(rng.integers(0, 4))):
            with builder.frame(rng.uniform(0, length), -thick - rng.uniform(0.6, deep)):
                thing = things.STANDING[int(rng.integers(len(things.STANDING)))]
                thing(builder, rng)
        return
    far = rng.uniform(4, 40)
    ground = quad((-40, -thick - far, -0.02), (80 + length, 0, 0), (0, far, 0), cell=4)
    builder.add(ground, builder.material(3.0) if rng.random() < 0.7 else floor)
    if rng.random() < 0.7:
        house = quad((40, -thick - far, 0), (-80, 0, 0), (0, 0, rng.uniform(3, 12)), cell=4)
        builder.add(house, builder.material(4.0))
    for _ in range(int(rng.integers(0, 4))):
        place = rng.uniform(0, length), -thick - rng.uniform(2.5, max(far - 1, 3))
        with builder.frame(*place, 0, yaw=rng.uniform(0, 6)):
            things.OUTDOOR[int(rng.integers(len(things.OUTDOOR)))](builder, rng)


def _free(x, y, radius, taken) -> bool:
    return all(np.hypot(x - a, y - b) > 0.75 * (radius + r) for a, b, r in taken)


def _scatter(builder, rng, thing, area, taken) -> None:
    x, y = rng.uniform(area[:2], area[2:])
    if not _free(x, y, 0.4, taken):
        return
    with builder.frame(x, y, 0, yaw=rng.uniform(0, 2 * np.pi)):
        radius = thing(builder, rng)
        if thing is things.table:
            for _ in range(int(rng.integers(0, 5))):
                angle = rng.uniform(0, 2 * np.pi)
                place = radius * 0.8 * np.cos(angle), radius * 0.8 * np.sin(angle)
                with builder.frame(*place, yaw=angle + np.pi / 2 + rng.normal(0, 0.3)):
                    things.chair(builder, rng)
    taken.append((x, y, radius))


def _against_wall(builder, rng, corners, taken) -> None:
    side = int(rng.integers(4))
    x, y, length = corners[side]
    if length < 2.2:
        return
    along = rng.uniform(1.0, length - 1.0)
    turn = side * np.pi / 2
    wx, wy = x + along * np.cos(turn), y + along * np.sin(turn)
    if not _free(wx, wy, 0.8, taken):
        return
    with builder.frame(wx, wy, 0, yaw=turn):
        thing = things.AGAINST_WALL[int(rng.integers(len(things.AGAINST_WALL)))]
        taken.append((wx, wy, thing(builder, rng)))


def _hanging(builder, rng, height) -> None:
    """Hang a lamp on a thin cord from the ceiling."""
    drop, radius = rng.uniform(0.3, 1.2), rng.uniform(0.06, 0.25)
    cord = np.array([[0, 0, height - drop], [0, 0, height]])
    builder.add(tube(cord, rng.uniform(0.003, 0.01)), builder.material(0.3))
    with builder.frame(z=height - drop - radius):
        builder.add(ellipsoid((radius, radius, radius)), builder.material(0.3))


def _carpet(builder, rng, width, depth) -> None:
    size = rng.uniform(0.3, 0.8, 2) * (width, depth)
    with builder.frame(width / 2, depth / 2, 0, yaw=rng.normal(0, 0.2)):
        corner = (-size[0] / 2, -size[1] / 2, rng.choice([0.004, 0.015]))
        whole = (1, 1) if rng.random() < 0.5 else None
        carpet = builder.picture() if whole else builder.material(0.8, plain=0.0)
        builder.add(quad(corner, (size[0], 0, 0), (0, size[1], 0), uv_size=whole), carpet)


def _heap(builder, rng, size) -> None:
    """Fill the room with shapes that float or lie, large and small."""
    for _ in range(int(rng.integers(15, 60))):
        scale = np.exp(rng.uniform(np.log(0.08), np.log(1.2)))
        material = builder.material(max(0.15, scale))
        with builder.frame(*rng.uniform((0, 0, 0), size), rotation=random_rotation(rng)):
            kind = rng.integers(5)
            if kind == 0:
                builder.add(box(scale * rng.uniform(0.1, 1, 3)), material)
            elif kind == 1:
                builder.add(ellipsoid(scale * rng.uniform(0.2, 0.6, 3), sides=28), material)
            elif kind == 2:
                builder.add(cylinder(scale * 0.2, scale, top=scale * rng.uniform(0, 0.4)), material)
            elif kind == 3:
                line = np.array([[0, 0, -2 * scale], [0, 0, 2 * scale]])
                builder.add(tube(line, rng.uniform(0.003, 0.03)), material)
            else:
                sheet = things.crumpled(rng, 2 * scale, 2 * scale, 0.3 * scale * rng.random())
                builder.add(sheet.two_sided(), material)


def _clutter(builder, rng) -> None:
    """Stand small things on every support, and some on the floor."""
    for top in list(builder.supports):
        for _ in range(int(rng.integers(0, 9))):
            x, y = rng.uniform(-0.5, 0.5, 2) * top.size
            with (
                builder.frame(*top.centre, yaw=top.yaw),
                builder.frame(x, y, yaw=rng.uniform(0, 6)),
            ):
                things.CLUTTER[int(rng.integers(len(things.CLUTTER)))](builder, rng)


def _room_lights(builder, rng, size, open_top) -> None:
    count = int(rng.integers(1, 4))
    for _ in range(count):
        # Brightness above 1 is lost, so several lights share it; some still dazzle.
        colour = rng.uniform(0.4, 1.1) / np.sqrt(count) * np.clip(rng.normal(1, 0.12, 3), 0.5, 1.2)
        position = rng.uniform((0.2, 0.2, 0.6), (0.8, 0.8, 0.97)) * size
        if rng.random() < 0.2:
            builder.lights.append(
                Light('point', position, np.array([0, 0, -1.0]), colour, shadow=False)
            )
            continue
        aim = rng.uniform((0.1, 0.1, 0), (0.9, 0.9, 0.3)) * size - position
        builder.lights.append(
            Light('spot', position, aim / np.linalg.norm(aim), colour, rng.uniform(40, 75))
        )
    if open_top:
        _sun(builder, rng)


def _sun(builder, rng) -> None:
    direction = np.append(rng.normal(0, 0.7, 2), -1.0)
    colour = rng.uniform(0.5, 0.9) * np.clip(rng.normal(1, 0.08, 3), 0.7, 1.1)
    builder.lights.append(
        Light('directional', -20 * direction, direction / np.linalg.norm(direction), colour)
    )


def _street(builder, rng) -> Layout:
    builder.add(quad((-110, -110, 0), (220, 0, 0), (0, 220, 0), cell=5.5), builder.material(4))
    wide = rng.uniform(4, 14)
    road = quad((-100, -wide / 2, 0.02), (200, 0, 0), (0, wide, 0), cell=5)
    builder.add(road, builder.material(wide / 2, plain=0.3))
    for side in (-1, 1):
        kerb = box((200, 2.5, 0.14), centre=(0, side * (wide / 2 + 1.25), 0.07), cell=5)
        builder.add(kerb, builder.material(1.5))
        x = -90.0
        while x < 90 and rng.random() < 0.95:
            length, tall, deep = rng.uniform((5, 3, 5), (25, 18, 15))
            front = wide / 2 + 2.5 + rng.choice([0, rng.uniform(0, 8)])
            _house(builder, rng, x, side, front, (length, deep, tall))
            x += length + rng.choice([0.0, rng.uniform(1, 15)])
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(15, 45))):
        thing = things.OUTDOOR[int(rng.integers(len(things.OUTDOOR)))]
        reach = rng.choice([6, 15, 40])
        _scatter(builder, rng, thing, (-reach, -wide / 2 - 6, reach, wide / 2 + 6), taken)
    for _ in range(int(rng.integers(0, 5))):  # Cables across the street.
        x, sag = rng.uniform(-20, 20), rng.uniform(0.1, 0.8)
        t = np.linspace(-1, 1, 20)
        path = np.stack([x + t * rng.normal(0, 3), t * (wide / 2 + 2.4),
                         rng.uniform(3, 6) + sag * (t**2 - 1)], -1)  # fmt: skip
        builder.add(tube(path, rng.uniform(0.01, 0.03), sides=6), builder.material(0.5))
    for _ in range(int(rng.integers(0, 6))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(75, 100)
        with builder.frame(far * np.cos(angle), far * np.sin(angle), 0):
            builder.add(ellipsoid(rng.uniform((10, 10, 4), (25, 25, 20))), builder.material(6))
    _sun(builder, rng)
    fog = (rng.uniform(15, 50), rng.uniform(90, 250)) if rng.random() < 0.25 else None
    scene = builder.finish(ambient=rng.uniform(0.2, 0.55), fog=fog, sky=_sky(rng))
    centre, half = np.array([0.0, 0.0, 1.9]), np.array([15, wide / 2 + 1, 1.75])
    targets = [np.array([x, y, rng.uniform(0.5, 2)]) for x, y, _ in taken]
    return Layout(scene, centre, half, [], [], outdoors=True, targets=targets)


def _house(builder, rng, x, side, front, size) -> None:
    length, deep, tall = size
    facade = builder.material(rng.uniform(2, 6), plain=0.15)
    middle = side * (front + deep / 2)
    builder.add(
        box((length, deep, tall), centre=(x + length / 2, middle, tall / 2), cell=3), facade
    )
    if rng.random() < 0.5:  # Balconies, sills, pillars: relief on the front.
        part = builder.material(1.5)
        for _ in range(int(rng.integers(2, 10))):
            piece = rng.uniform((0.2, 0.1, 0.1), (3, 1.2, 1.2))
            place = (x + rng.uniform(1, length - 1), side * (front - piece[1] / 2),
                     rng.uniform(0.3, tall))  # fmt: skip
            builder.add(box(piece, centre=place), part)
    if rng.random() < 0.5:
        sign = rng.uniform((1, 0.5), (4, 1.5))
        left = (x + length / 2 + side * sign[0] / 2, side * (front - 0.02), rng.uniform(2, tall))
        plate = quad(left, (-side * sign[0], 0, 0), (0, 0, sign[1]), uv_size=(1, 1))
        builder.add(plate.two_sided(), builder.picture())


def _sky(rng: np.random.Generator) -> np.ndarray:
    top, horizon = rng.uniform((60, 100, 150), (140, 170, 240)), rng.uniform(170, 250, 3)
    mix = np.linspace(0, 1, 128)[:, None, None] ** rng.uniform(0.5, 2)
    return np.broadcast_to(top * (1 - mix) + horizon * mix, (128, 128, 3)).astype(np.uint8)
