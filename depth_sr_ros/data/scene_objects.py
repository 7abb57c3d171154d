# SPDX-License-Identifier: Apache-2.0
"""Furniture, clutter and street furniture, each built at the origin of the builder's frame.

Every function takes (builder, rng), stands its thing on z = 0 and returns the radius of the
circle it needs. Things against a wall have it at y = 0 and extend towards +y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from depth_sr_ros.data.scene_builder import Material, SceneBuilder
from depth_sr_ros.data.scene_mesh import (
    box,
    cylinder,
    ellipsoid,
    lathe,
    patch,
    quad,
    random_rotation,
    rounded_box,
    surface,
    tube,
)

Thing = Callable[[SceneBuilder, np.random.Generator], float]


def _post(builder, x, y, z, height, radius, square, material) -> None:
    if square:
        post = box((2 * radius, 2 * radius, height), centre=(x, y, z + height / 2))
    else:
        post = tube(np.array([[x, y, z], [x, y, z + height]]), radius)
    builder.add(post, material)


def table(builder: SceneBuilder, rng: np.random.Generator, height: float | None = None) -> float:
    """Build a table: a top, four legs or a pillar, perhaps a rail between the legs."""
    width, depth = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.0)
    height = rng.uniform(0.4, 1.0) if height is None else height
    thick, leg = rng.uniform(0.015, 0.06), rng.uniform(0.012, 0.05)
    top, legs = builder.material(0.8), builder.material(0.4)
    if rng.random() < 0.25:
        radius = width / 2
        with builder.frame(z=height - thick):
            builder.add(cylinder(radius, thick, sides=32), top)
        builder.add(cylinder(rng.uniform(0.03, 0.1), height - thick), legs)
        builder.add(cylinder(radius * 0.6, 0.03), legs)
        builder.support(0, 0, height, 1.3 * radius, 1.3 * radius)
        return radius
    builder.add(box((width, depth, thick), centre=(0, 0, height - thick / 2), cell=0.25), top)
    inset = leg + rng.uniform(0, 0.1)
    square = rng.random() < 0.6
    for x in (-width / 2 + inset, width / 2 - inset):
        for y in (-depth / 2 + inset, depth / 2 - inset):
            _post(builder, x, y, 0, height - thick, leg, square, legs)
    if rng.random() < 0.4:
        rail = (width - 2 * inset, 0.02, 0.04)
        builder.add(box(rail, centre=(0, depth / 2 - inset, rng.uniform(0.1, height - 0.1))), legs)
    builder.support(0, 0, height, width - 0.1, depth - 0.1)
    return float(np.hypot(width, depth) / 2)


def chair(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a chair: seat, thin legs, a back of slats, bars or one panel."""
    width, seat_z = rng.uniform(0.36, 0.5), rng.uniform(0.4, 0.5)
    back = rng.uniform(0.35, 0.6)
    leg, square = rng.uniform(0.008, 0.025), rng.random() < 0.5
    frame, seat = builder.material(0.3), builder.material(0.4)
    builder.add(box((width, width, rng.uniform(0.02, 0.06)), centre=(0, 0, seat_z)), seat)
    half = width / 2 - leg
    for x in (-half, half):
        _post(builder, x, half, 0, seat_z, leg, square, frame)
        _post(builder, x, -half, 0, seat_z + back, leg, square, frame)
    kind = rng.integers(3)
    if kind == 0:
        builder.add(box((width, 0.02, back * 0.6), centre=(0, -half, seat_z + back * 0.7)), seat)
    elif kind == 1:
        for z in np.linspace(seat_z + 0.12, seat_z + back - 0.02, int(rng.integers(2, 5))):
            builder.add(box((width, 0.015, 0.035), centre=(0, -half, z)), frame)
    else:
        builder.add(box((width, 0.02, 0.03), centre=(0, -half, seat_z + back)), frame)
        for x in np.linspace(-half, half, int(rng.integers(4, 9)))[1:-1]:
            _post(builder, x, -half, seat_z, back, leg * 0.6, False, frame)
    if rng.random() < 0.5:
        for z in (0.12, 0.25):
            builder.add(tube(np.array([[-half, half, z], [half, half, z]]), leg * 0.7), frame)
    builder.support(0, 0, seat_z + 0.03, width * 0.6, width * 0.6)
    return width * 0.75


def books(builder: SceneBuilder, rng: np.random.Generator, width: float, height: float) -> None:
    """Stand a row of books of differing height and depth in (-width/2, width/2)."""
    x = -width / 2
    while x < width / 2 - 0.06:
        thick = rng.uniform(0.012, 0.06)
        tall, deep = height * rng.uniform(0.55, 0.95), rng.uniform(0.1, 0.2)
        if rng.random() < 0.85:
            book = box((thick, deep, tall), centre=(x + thick / 2, deep / 2, tall / 2))
            builder.add(book, builder.material(0.2, plain=0.5))
        x += thick + (rng.uniform(0, 0.15) if rng.random() < 0.15 else 0.001)


def shelf(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build an open shelf against a wall: boards, perhaps without a back, books and boxes."""
    width, height = rng.uniform(0.5, 2.0), rng.uniform(0.7, 2.2)
    depth, board = rng.uniform(0.22, 0.45), rng.uniform(0.01, 0.035)
    wood = builder.material(0.6)
    columns = int(rng.integers(1, 4))
    for x in np.linspace(-width / 2, width / 2, columns + 1):
        if rng.random() < 0.25 and abs(x) > width / 2 - 0.01:
            for y in (0.02, depth - 0.02):
                _post(builder, x, y, 0, height, 0.012, True, wood)
        else:
            builder.add(box((board, depth, height), centre=(x, depth / 2, height / 2)), wood)
    levels = np.linspace(0.05, height - board, int(rng.integers(3, 7)))
    for z, above in zip(levels, [*levels[1:], height + 0.3], strict=True):
        builder.add(box((width, depth, board), centre=(0, depth / 2, z)), wood)
        room, cell = above - z - 2 * board, width / columns
        for column in range(columns):
            x = -width / 2 + (column + 0.5) * cell
            with builder.frame(x=x, y=0.02, z=z + board / 2):
                kind = rng.random()
                if kind < 0.4:
                    books(builder, rng, cell * rng.uniform(0.5, 0.95), min(room, 0.35))
                elif kind < 0.7:
                    builder.support(0, depth / 2, 0, cell * 0.8, depth * 0.6)
    if rng.random() < 0.6:
        back = quad((width / 2, 0.005, 0), (-width, 0, 0), (0, 0, height))
        builder.add(back, wood if rng.random() < 0.5 else builder.material(0.8))
    return width / 2


def cabinet(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a cabinet against a wall: doors and drawers with gaps and handles, one ajar."""
    width, height, depth = rng.uniform(0.5, 1.8), rng.uniform(0.5, 2.2), rng.uniform(0.3, 0.65)
    body, front = builder.material(0.7), builder.material(0.7)
    foot = rng.uniform(0, 0.15)
    builder.add(box((width, depth, height), centre=(0, depth / 2, foot + height / 2)), body)
    for x in (-width / 2 + 0.04, width / 2 - 0.04):
        for y in (0.04, depth - 0.04):
            _post(builder, x, y, 0, foot, 0.02, True, body)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    gap, thick = rng.uniform(0.003, 0.02), rng.uniform(0.012, 0.025)
    cell_w, cell_h = width / columns, height / rows
    handle = builder.material(0.2)
    for column in range(columns):
        for row in range(rows):
            x = -width / 2 + column * cell_w
            z = foot + row * cell_h
            size = (cell_w - gap, thick, cell_h - gap)
            ajar = rng.uniform(0.2, 1.5) if rows < 3 and rng.random() < 0.15 else 0.0
            pulled = rng.uniform(0.05, 0.25) if rows >= 3 and rng.random() < 0.15 else 0.0
            with builder.frame(x=x, y=depth + pulled, z=z, yaw=ajar):
                door = box(size, centre=(cell_w / 2, thick / 2, cell_h / 2))
                builder.add(door, front)
                grip = np.array([[cell_w - 0.06, thick, cell_h / 2 - 0.05],
                                 [cell_w - 0.06, thick + 0.035, cell_h / 2],
                                 [cell_w - 0.06, thick, cell_h / 2 + 0.05]])  # fmt: skip
                builder.add(tube(grip, 0.006), handle)
                if pulled:
                    drawer = (cell_w - 0.06, pulled, cell_h * 0.7)
                    builder.add(box(drawer, centre=(cell_w / 2, -pulled / 2, cell_h * 0.4)), body)
    builder.support(0, depth / 2, foot + height, width - 0.1, depth - 0.1)
    return width / 2


def sofa(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a sofa or bed: soft blocks with cushions."""
    width, depth = rng.uniform(0.8, 2.2), rng.uniform(0.7, 1.0)
    seat, arm = rng.uniform(0.3, 0.45), rng.uniform(0.1, 0.25)
    cloth, soft = builder.material(0.5), rng.uniform(0.1, 0.35)

    def block(size, x, y, z, roundness=soft):
        with builder.frame(x, y, z):
            builder.add(rounded_box(size, roundness=roundness), cloth)

    block((width, depth, seat), 0, depth / 2, seat / 2)
    block((width, 0.25, seat + 0.4), 0, 0.13, (seat + 0.4) / 2)
    for x in (-width / 2 - arm / 2, width / 2 + arm / 2):
        tall = seat + rng.uniform(0.1, 0.25)
        block((arm, depth, tall), x, depth / 2, tall / 2)
    seats = int(rng.integers(1, 4))
    for i in range(seats):
        x = (i + 0.5) / seats * width - width / 2
        block((width / seats - 0.01, depth - 0.25, 0.16), x, depth / 2 + 0.1, seat + 0.04, 0.3)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(-width / 2 + 0.2, width / 2 - 0.2)
        with builder.frame(x, 0.35, seat + 0.25, rotation=random_rotation(rng)):
            builder.add(rounded_box((0.45, 0.45, 0.14), roundness=0.5), builder.material(0.3))
    if rng.random() < 0.5:
        _blanket(builder, rng, width, depth, seat + 0.13)
    builder.support(0, depth * 0.6, seat + 0.12, width - 0.2, depth * 0.5)
    return width / 2 + arm


def _blanket(builder: SceneBuilder, rng: np.random.Generator, width, depth, height) -> None:
    """Throw a blanket over a seat or bed: flat with folds, hanging down in front."""
    wide, waves = width * rng.uniform(0.3, 0.9), rng.normal(0, 1.5, (4, 2))
    phase, front = rng.uniform(0, 6, 4), depth * rng.uniform(0.9, 1.1)

    def shape(u, v):
        folds = sum(np.sin(2 * np.pi * (k[0] * u + k[1] * v) + p)
                    for k, p in zip(waves, phase, strict=True))  # fmt: skip
        along = v * (front + height * 0.6)
        over = np.maximum(along - front, 0)
        y = np.minimum(along, front) + 0.03 + 0.02 * folds * (over > 0)
        return np.stack([(0.5 - u) * wide, y, height + 0.02 + 0.012 * folds - over], -1)

    x = rng.uniform(-1, 1) * (width - wide) / 2
    with builder.frame(x):
        builder.add(surface(shape, 24, 24, (wide, depth)).two_sided(), builder.material(0.5))


def bed(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a bed with its head against a wall: mattress, pillows, a blanket."""
    width, length, height = rng.uniform(0.9, 1.8), rng.uniform(1.9, 2.1), rng.uniform(0.35, 0.6)
    frame, cloth = builder.material(0.6), builder.material(0.5)
    builder.add(box((width, length, height * 0.5), centre=(0, length / 2, height * 0.35)), frame)
    board = height + rng.uniform(0.2, 0.6)
    builder.add(box((width + 0.06, 0.04, board), centre=(0, 0.02, board / 2)), frame)
    with builder.frame(y=length / 2, z=height * 0.8):
        builder.add(rounded_box((width, length, height * 0.5), roundness=0.12), cloth)
    for x in (-width / 4, width / 4):
        with builder.frame(x, 0.3, height * 1.1, rotation=random_rotation(rng) if rng.random() < 0.2
                           else None):  # fmt: skip
            builder.add(rounded_box((width / 2.2, 0.4, 0.16), roundness=0.5), cloth)
    _blanket(builder, rng, width, length * 0.95, height * 1.05)
    builder.support(0, length * 0.6, height * 1.07, width - 0.2, length * 0.5)
    return max(width / 2, 1.0)


def stairs(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a flight of steps along a wall."""
    steps, width = int(rng.integers(2, 12)), rng.uniform(0.7, 1.3)
    tread, rise = rng.uniform(0.22, 0.32), rng.uniform(0.12, 0.2)
    material = builder.material(0.8)
    for i in range(steps):
        x, z = (i - steps / 2) * tread, (i + 1) * rise
        if rng.random() < 0.9:
            builder.add(box((tread, width, z), centre=(x, width / 2, z / 2)), material)
    if rng.random() < 0.6:
        low = np.array([-steps / 2 * tread, width, 0.9 + rise])
        high = low + np.array([steps * tread, 0, steps * rise])
        builder.add(tube(np.stack([low, high]), 0.02), builder.material(0.3))
        for t in np.linspace(0, 1, steps + 1):
            x, y, z = low + t * (high - low)
            _post(builder, x, y, z - 0.9, 0.9, 0.008, False, material)
    return steps * tread / 2


def panelling(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Cover a part of a wall with relief: stones, boards, tiles, mouldings of 4 to 50 mm."""
    width, height = rng.uniform(1, 3), rng.uniform(0.8, 2.3)
    columns, rows = int(rng.integers(1, 12)), int(rng.integers(1, 12))
    deep, gap = rng.uniform(0.004, 0.05), rng.uniform(0.002, 0.03)
    first, second = builder.material(0.6), builder.material(0.6)
    cell = np.array([width / columns, height / rows])
    rounded = rng.random() < 0.4
    for row in range(rows):
        shift = cell[0] / 2 * (row % 2) * (rng.random() < 0.5)
        for column in range(columns):
            thick = deep * rng.uniform(0.5, 1.0)
            size = np.array([max(cell[0] - gap, 0.01), 2 * thick, max(cell[1] - gap, 0.01)])
            place = ((column + 0.5) * cell[0] - width / 2 + shift, 0, (row + 0.5) * cell[1])
            with builder.frame(*place):
                made = rounded_box(size, roundness=0.3, sides=12) if rounded else box(size, cell=1)
                builder.add(made, first if rng.random() < 0.8 else second)
    return width / 2


def person(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a person of rounded limbs, standing in some pose."""
    tall = rng.uniform(1.0, 1.9)
    shirt, trousers, skin = (builder.material(0.4) for _ in range(3))

    def limb(material, points, thick):
        builder.add(tube(np.array(points) * tall, np.array(thick) * tall, sides=12), material)
        for point, radius in zip(points, thick, strict=True):
            with builder.frame(*(np.array(point) * tall)):
                builder.add(ellipsoid((radius * tall,) * 3, sides=10), material)

    with builder.frame(z=0.68 * tall):
        builder.add(rounded_box(np.array([0.25, 0.14, 0.36]) * tall, roundness=0.6), shirt)
    with builder.frame(z=0.93 * tall):
        builder.add(ellipsoid(np.array([0.045, 0.055, 0.068]) * tall), skin)
    for side in (-1, 1):
        stride, bend, swing = rng.normal(0, 0.07), abs(rng.normal(0, 0.05)), rng.normal(0, 0.12)
        limb(trousers, [(side * 0.06, 0, 0.52), (side * 0.06, stride + bend, 0.28),
                        (side * 0.06, stride, 0.03)], [0.055, 0.04, 0.03])  # fmt: skip
        out = abs(rng.normal(0, 0.08))
        limb(shirt if rng.random() < 0.7 else skin,
             [(side * 0.14, 0, 0.81), (side * (0.17 + out), swing / 2, 0.64),
              (side * (0.16 + out), swing + rng.uniform(0, 0.12), 0.49 + rng.uniform(0, 0.2))],
             [0.033, 0.025, 0.018])  # fmt: skip
    return 0.3 * tall


def toy(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a thing of several rounded parts: a toy, a tool, a fruit on a dish."""
    size = np.exp(rng.uniform(np.log(0.04), np.log(0.4)))
    first, second = builder.material(size * 2), builder.material(size)
    for _ in range(int(rng.integers(2, 8))):
        parts = size * np.exp(rng.uniform(np.log(0.15), 0, 3))
        place = rng.normal(0, 0.3, 3) * size
        rotation = random_rotation(rng) if rng.random() < 0.6 else None
        with builder.frame(place[0], place[1], max(abs(place[2]), parts[2] / 2), rotation=rotation):
            shape = rounded_box(parts, roundness=rng.uniform(0.1, 1), sides=20)
            builder.add(shape, first if rng.random() < 0.6 else second)
    return size * 0.6


def lamp(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a floor lamp: a foot, a thin pole and a shade."""
    height, radius = rng.uniform(0.3, 1.8), rng.uniform(0.08, 0.25)
    metal = builder.material(0.3)
    builder.add(cylinder(radius * 0.8, 0.02), metal)
    _post(builder, 0, 0, 0, height, rng.uniform(0.005, 0.015), False, metal)
    profile = np.array([[radius, height], [radius * rng.uniform(0.4, 1), height + radius * 1.3]])
    builder.add(lathe(profile).two_sided(), builder.material(0.3))
    return radius


def plant(builder: SceneBuilder, rng: np.random.Generator, green: Material | None = None) -> float:
    """Build a plant: a pot, thin stems, curved leaves."""
    pot_r, pot_h = rng.uniform(0.06, 0.22), rng.uniform(0.1, 0.4)
    height, spread = rng.uniform(0.2, 1.5), rng.uniform(0.15, 0.6)
    pot = lathe(np.array([[0, 0], [pot_r * 0.7, 0], [pot_r, pot_h], [pot_r * 0.85, pot_h - 0.02]]))
    builder.add(pot, builder.material(0.3))
    green = green or builder.material(0.2, plain=0.4)
    leaf_length, leaf_width = rng.uniform(0.08, 0.35), rng.uniform(0.015, 0.1)
    for _ in range(int(rng.integers(4, 14))):
        angle, reach = rng.uniform(0, 2 * np.pi), spread * np.sqrt(rng.random())
        t = np.linspace(0, 1, 6)[:, None]
        tip = np.array([reach * np.cos(angle), reach * np.sin(angle), height * rng.uniform(0.4, 1)])
        stem = np.array([0, 0, pot_h - 0.03]) + t ** np.array([1.6, 1.6, 0.8]) * tip
        builder.add(tube(stem, rng.uniform(0.002, 0.008), sides=5), green)
        for _ in range(int(rng.integers(1, 6))):
            place = stem[int(rng.integers(2, 6))]
            with builder.frame(*place, yaw=rng.uniform(0, 2 * np.pi)):
                builder.add(_leaf(rng, leaf_length, leaf_width), green)
    return max(pot_r, spread * 0.5)


def _leaf(rng: np.random.Generator, length: float, width: float):
    droop, lift = rng.uniform(0.1, 1.2), rng.uniform(-0.2, 1.0)

    def shape(u, v):
        across = (u - 0.5) * width * np.sin(np.pi * np.clip(v, 0.03, 0.97))
        return np.stack([v * length, across, length * (lift * v - droop * v**2)], -1)

    return surface(shape, 3, 6, (width, length)).two_sided()


def bottle(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a turned thing: bottle, vase, cup, bowl, can."""
    height, radius = rng.uniform(0.06, 0.35), rng.uniform(0.025, 0.1)
    heights = np.linspace(0, height, 9)
    knots = rng.uniform(0.35, 1.0, 4) if rng.random() < 0.6 else np.full(4, rng.uniform(0.8, 1))
    radii = radius * np.interp(heights, np.linspace(0, height, 4), knots)
    profile = np.concatenate([[[0, 0]], np.stack([radii, heights], -1)])
    if rng.random() < 0.5:  # Open at the top: the inside shows.
        inner = np.stack([np.maximum(radii - 0.004, 0.003), heights], -1)[:0:-1]
        profile = np.concatenate([profile, inner, [[0, 0.01]]])
    else:
        profile = np.concatenate([profile, [[0, height]]])
    clear = rng.random() < builder.glass_share
    builder.add(lathe(profile), builder.glass() if clear else builder.material(0.15, plain=0.4))
    if rng.random() < 0.3:
        bend = np.array([[0.9, 0.8], [1.5, 0.75], [1.6, 0.5], [1.4, 0.3], [0.9, 0.25]])
        handle = np.stack([bend[:, 0] * radius, 0 * bend[:, 0], bend[:, 1] * height], -1)
        builder.add(tube(handle, 0.005), builder.material(0.15))
    return radius


def carton(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a box, perhaps open with flaps, perhaps with print on its front."""
    size = rng.uniform(0.05, 0.45, 3)
    material = builder.material(0.3)
    if rng.random() < 0.3 and size.min() > 0.12:
        for sx, sy, x, y in ((size[0], 0.006, 0, 1), (size[0], 0.006, 0, -1),
                             (0.006, size[1], 1, 0), (0.006, size[1], -1, 0)):  # fmt: skip
            side = (x * size[0] / 2, y * size[1] / 2, size[2] / 2)
            builder.add(box((sx, sy, size[2]), centre=side), material)
        builder.add(box((size[0], size[1], 0.006), centre=(0, 0, 0.003)), material)
    else:
        builder.add(box(size, centre=(0, 0, size[2] / 2)), material)
        if rng.random() < 0.5:
            label = quad((-size[0] / 2, -size[1] / 2 - 0.0015, 0), (size[0], 0, 0),
                         (0, 0, size[2]), uv_size=(1, 1))  # fmt: skip
            builder.add(label, builder.picture())
    return float(np.hypot(*size[:2]) / 2)


def ball(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a ball, an egg, a fruit."""
    radii = rng.uniform(0.025, 0.15) * rng.uniform(0.7, 1.0, 3)
    with builder.frame(z=radii[2]):
        builder.add(ellipsoid(radii), builder.material(0.25))
    return float(radii.max())


def sheet(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Lay down paper, a magazine or a cloth: print without a depth edge worth the name."""
    width = rng.uniform(0.1, 0.5)
    depth = width * rng.uniform(0.6, 1.5)
    thick = rng.choice([0.0015, 0.004, 0.02])
    builder.add(box((width, depth, thick), centre=(0, 0, thick / 2)), builder.material(0.3))
    top = quad((-width / 2, -depth / 2, thick + 0.0015), (width, 0, 0), (0, depth, 0),
               cell=0.2, uv_size=(1, 1))  # fmt: skip
    builder.add(top, builder.picture())
    return width / 2


def screen(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a monitor: a thin panel with a picture on a stand."""
    width = rng.uniform(0.25, 1.1)
    height, stand = width * rng.uniform(0.55, 0.75), rng.uniform(0.02, 0.2)
    dark = builder.material(0.3, plain=0.8)
    builder.add(box((width * 0.3, 0.15, 0.015), centre=(0, 0, 0.0075)), dark)
    _post(builder, 0, 0, 0, stand + height / 2, 0.015, True, dark)
    middle = stand + height / 2
    builder.add(box((width, 0.03, height), centre=(0, 0.02, middle)), dark)
    face = quad((width * 0.48, 0.037, middle - height * 0.46), (-width * 0.96, 0, 0),
                (0, 0, height * 0.92), uv_size=(1, 1))  # fmt: skip
    builder.add(face, builder.picture())
    return width / 2


def cable(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Lay a cable or hose in loops."""
    reach, turns = rng.uniform(0.15, 0.8), rng.uniform(0.5, 2.5)
    t = np.linspace(0, 1, 40)
    angle = 2 * np.pi * turns * t + rng.uniform(0, 6)
    radius = reach * (0.4 + 0.6 * t * rng.uniform(0.5, 1))
    wobble = np.interp(t, np.linspace(0, 1, 8), rng.normal(0, 0.15 * reach, 8))
    thick = rng.uniform(0.003, 0.015)
    lift = np.interp(t, np.linspace(0, 1, 5), np.abs(rng.normal(0, 0.02, 5)))
    path = np.stack([radius * np.cos(angle) + wobble, radius * np.sin(angle), thick + lift], -1)
    builder.add(tube(path, thick, sides=6), builder.material(0.2, plain=0.5))
    return reach


def wheel(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Stand up a wheel: a tyre, a hub and thin spokes."""
    radius, thick = rng.uniform(0.12, 0.4), rng.uniform(0.01, 0.04)
    angle = np.linspace(0, 2 * np.pi, 33)
    ring = np.stack([radius * np.cos(angle), 0 * angle, radius * np.sin(angle)], -1)
    material = builder.material(0.3)
    with builder.frame(z=radius + thick):
        builder.add(tube(ring, thick), material)
        for a in np.linspace(0, 2 * np.pi, int(rng.integers(3, 13)))[:-1]:
            spoke = radius * np.array([[0, 0, 0], [np.cos(a), 0, np.sin(a)]])
            builder.add(tube(spoke, 0.004 + thick * 0.1, sides=5), material)
    return radius


def rack(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a rack, grating or railing of thin bars."""
    width, height = rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.3)
    radius = rng.uniform(0.003, 0.012)
    metal = builder.material(0.3)
    for x in np.linspace(-width / 2, width / 2, int(rng.integers(3, 14))):
        _post(builder, x, 0, 0, height, radius, False, metal)
    for z in np.linspace(0.05, height, int(rng.integers(2, 9))):
        builder.add(tube(np.array([[-width / 2, 0, z], [width / 2, 0, z]]), radius), metal)
    return width / 2


def solid(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a random shape in a random pose: box, cone, egg, bent pipe or crumpled sheet."""
    size = rng.uniform(0.05, 0.35)
    material = builder.material(size * 2)
    kind = rng.integers(5)
    with builder.frame(z=size, rotation=random_rotation(rng)):
        if kind == 0:
            builder.add(box(size * rng.uniform(0.3, 1.2, 3)), material)
        elif kind == 1:
            top = size * rng.uniform(0, 1) * 0.5
            builder.add(cylinder(size * 0.5, size * 1.2, top=top), material)
        elif kind == 2:
            builder.add(ellipsoid(size * rng.uniform(0.3, 1.0, 3)), material)
        elif kind == 3:
            t = np.linspace(0, 1, 24)
            knots = rng.normal(0, size * 0.7, (5, 3))
            path = np.stack([_spline(t, knots[:, i]) for i in range(3)], -1)
            builder.add(tube(path, size * rng.uniform(0.03, 0.2)), material)
        else:
            builder.add(crumpled(rng, 2 * size, 2 * size, 0.2 * size).two_sided(), material)
    return size


def _spline(t: np.ndarray, knots: np.ndarray) -> np.ndarray:
    fit = np.polynomial.Polynomial.fit(np.linspace(0, 1, len(knots)), knots, len(knots) - 1)
    return fit(t)


def crumpled(rng: np.random.Generator, width: float, depth: float, height: float, cells: int = 24):
    """Build a smoothly curved sheet about the origin, facing +z."""
    waves = [(rng.normal(0, 1.2, 2), rng.uniform(0, 6), rng.uniform(0.3, 1)) for _ in range(5)]

    def shape(u, v):
        z = sum(a * np.sin(2 * np.pi * (k[0] * u + k[1] * v) + p) for k, p, a in waves)
        return np.stack([(u - 0.5) * width, (v - 0.5) * depth, height * z / 2], -1)

    return surface(shape, cells, cells, (width, depth))


def curtain(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Hang a curtain against a wall: smooth folds."""
    width, height = rng.uniform(0.4, 1.8), rng.uniform(1.0, 2.4)
    folds, deep = int(rng.integers(3, 12)), rng.uniform(0.02, 0.08)

    def shape(u, v):
        fold = deep * np.sin(2 * np.pi * folds * u + 1.5 * v) + 0.12
        return np.stack([(0.5 - u) * width, fold, v * height], -1)

    mesh = surface(shape, 10 * folds, 6, (width * 1.3, height)).two_sided()
    builder.add(mesh, builder.material(0.6))
    return width / 2


def radiator(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a ribbed radiator against a wall."""
    width, height = rng.uniform(0.4, 1.4), rng.uniform(0.4, 0.8)
    material = builder.material(0.5, plain=0.6)
    for x in np.arange(-width / 2, width / 2, rng.uniform(0.04, 0.09)):
        builder.add(box((0.025, 0.1, height), centre=(x, 0.08, 0.1 + height / 2)), material)
    for z in (0.15, height):
        builder.add(tube(np.array([[-width / 2, 0.08, z], [width / 2, 0.08, z]]), 0.015), material)
    return width / 2


def picture_on_wall(
    builder: SceneBuilder, rng: np.random.Generator, width: float, height: float
) -> None:
    """Hang a picture of width x height with its middle at the origin of the wall y = 0."""
    lift = 0.002
    if rng.random() < 0.4:
        rim, thick = rng.uniform(0.01, 0.05), rng.uniform(0.006, 0.025)
        frame = box((width + 2 * rim, thick, height + 2 * rim), centre=(0, thick / 2, 0))
        builder.add(frame, builder.material(0.2))
        lift += thick
    picture = quad((width / 2, lift, -height / 2), (-width, 0, 0), (0, 0, height), uv_size=(1, 1))
    builder.add(picture, builder.picture())


def tree(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a tree: a tapering trunk, branches, and leaf clusters or bare twigs."""
    height = rng.uniform(2.5, 9)
    bark, leaves = builder.material(0.8), builder.material(0.6)
    lean = rng.normal(0, 0.08, 2) * height
    trunk = np.array([[0, 0, 0], [*(lean * 0.4), height * 0.4], [*lean, height * 0.8]])
    thick = height * rng.uniform(0.012, 0.03)
    builder.add(tube(trunk, np.array([thick, thick * 0.8, thick * 0.4])), bark)
    bare, spread = rng.random() < 0.3, height * rng.uniform(0.15, 0.35)
    for _ in range(int(rng.integers(5, 14))):
        start = trunk[0] + (trunk[2] - trunk[0]) * rng.uniform(0.4, 1.0)
        angle = rng.uniform(0, 2 * np.pi)
        end = start + spread * np.array([np.cos(angle), np.sin(angle), rng.uniform(0.1, 0.9)])
        builder.add(tube(np.array([start, (start + end) / 2 + [0, 0, 0.1], end]),
                         np.array([0.4, 0.25, 0.1]) * thick, sides=5), bark)  # fmt: skip
        with builder.frame(*end, yaw=angle):
            if bare:
                for _ in range(5):
                    twig = np.array([[0, 0, 0], rng.normal(0, 0.35, 3) * spread])
                    builder.add(tube(twig, 0.008, sides=4), bark)
            else:
                for _ in range(int(rng.integers(8, 24))):
                    with builder.frame(*(rng.normal(0, 0.3, 3) * spread),
                                       rotation=random_rotation(rng)):  # fmt: skip
                        builder.add(_leaf(rng, rng.uniform(0.15, 0.5), 0.2), leaves)
    return max(0.5, 2 * thick)


def street_pole(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a lamp post, a traffic sign or a mast."""
    height, radius = rng.uniform(2, 8), rng.uniform(0.025, 0.12)
    metal = builder.material(0.5)
    _post(builder, 0, 0, 0, height, radius, False, metal)
    if height < 3.5:
        size = rng.uniform(0.4, 0.9)
        plate = quad((-size / 2, -radius - 0.01, height - size), (size, 0, 0), (0, 0, size),
                     uv_size=(1, 1))  # fmt: skip
        builder.add(plate.two_sided(), builder.picture())
    else:
        arm = np.array([[0, 0, height], [0.5, 0, height + 0.3], [1.5, 0, height + 0.35]])
        builder.add(tube(arm, radius * 0.6), metal)
    return 0.4


def car(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a car of rounded blocks on wheels."""
    length, width, height = rng.uniform(3.2, 5), rng.uniform(1.5, 2), rng.uniform(1.3, 2.2)
    paint, glass = builder.material(1.5, plain=0.8), builder.material(0.5, plain=0.8)
    side = np.array([[0, 0.25], [0, 0.5], [0.2, 0.6], [0.35, 1.0], [0.75, 1.0], [0.95, 0.6],
                     [1, 0.5], [1, 0.25]])  # fmt: skip
    x, z = (side[:, 0] - 0.5) * length, side[:, 1] * height
    for begin, end in zip(range(7), range(1, 8), strict=True):
        slab = quad((x[begin], -width / 2, z[begin]), (x[end] - x[begin], 0, z[end] - z[begin]),
                    (0, width, 0))  # fmt: skip
        builder.add(slab, glass if begin in (2, 4) else paint)
    bottom = np.full_like(z, 0.25 * height)
    for y in (-width / 2, width / 2):
        low, high = np.stack([x, 0 * x + y, bottom], -1), np.stack([x, 0 * x + y, z], -1)
        points = np.stack([low, high]) if y < 0 else np.stack([high, low])
        builder.add(patch(points, points[..., [0, 2]]), paint)
    tyre = builder.material(0.3, plain=0.8)
    for wx in (-length * 0.32, length * 0.32):
        for y in (-width / 2 - 0.02, width / 2 - 0.18):
            turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
            with builder.frame(wx, y + 0.2, 0.32, rotation=turn):
                builder.add(cylinder(0.32, 0.2), tyre)
    return length / 2


def fence(builder: SceneBuilder, rng: np.random.Generator) -> float:
    """Build a length of fence of slats or bars."""
    length, height = rng.uniform(2, 8), rng.uniform(0.7, 2)
    wood = builder.material(0.5)
    wide, gap = rng.uniform(0.02, 0.14), rng.uniform(0.03, 0.2)
    for x in np.arange(-length / 2, length / 2, wide + gap):
        builder.add(box((wide, 0.02, height), centre=(x, 0, height / 2), cell=2), wood)
    for z in (height * 0.25, height * 0.8):
        builder.add(box((length, 0.04, 0.06), centre=(0, 0.03, z)), wood)
    return length / 2


STANDING: tuple[Thing, ...] = (
    table, table, chair, chair, lamp, plant, rack, wheel, carton, solid, screen, person, toy,
)  # fmt: skip
AGAINST_WALL: tuple[Thing, ...] = (
    shelf, shelf, cabinet, cabinet, sofa, sofa, bed, curtain, radiator, stairs, panelling,
    panelling,
)  # fmt: skip
CLUTTER: tuple[Thing, ...] = (
    bottle, bottle, bottle, carton, ball, sheet, sheet, screen, plant, cable, solid, toy, toy, toy,
)  # fmt: skip
OUTDOOR: tuple[Thing, ...] = (tree, street_pole, car, fence, carton, rack, person)
