# SPDX-License-Identifier: Apache-2.0
"""Textured triangle meshes and the parametric surfaces that rendered scenes are built of.

World frame: x and y horizontal, z up, metres. Texture coordinates are metres too, until a
material divides them by the size of one repeat.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Mesh:
    """Triangles, wound counter-clockwise seen from outside.

    vertices, normals: float (n, 3). uv: float (n, 2). faces: int (m, 3).
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> Mesh:
        """Return the mesh rotated by `rotation` (3, 3), then shifted by `translation` (3,)."""
        return Mesh(
            self.vertices @ rotation.T + translation, self.normals @ rotation.T, self.uv, self.faces
        )

    def two_sided(self) -> Mesh:
        """Return the mesh with a second side, for sheets that are seen from both."""
        back = Mesh(self.vertices, -self.normals, self.uv, self.faces[:, ::-1])
        return merge([self, back])


def merge(meshes: list[Mesh]) -> Mesh:
    """Join meshes into one."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, offsets, strict=True)]),
    )


def patch(points: np.ndarray, uv: np.ndarray, normals: np.ndarray | None = None) -> Mesh:
    """Triangulate a grid of points, float (rows, columns, 3); the outside is du x dv.

    u runs along columns, v along rows. normals default to those of the grid.
    """
    rows, columns = points.shape[:2]
    if normals is None:
        normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), (0.0, 0.0, 1.0))
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces)


def quad(origin, u_edge, v_edge, *, cell: float = 0.5, uv_origin=(0.0, 0.0), uv_size=None) -> Mesh:
    """Build a parallelogram from a corner and two edges, facing u_edge x v_edge.

    Divided into cells of about `cell` metres, because lighting is computed at vertices.
    uv_size: texture coordinates across the whole; None means metres.
    """
    origin, u_edge, v_edge = (np.asarray(a, float) for a in (origin, u_edge, v_edge))
    u_length, v_length = np.linalg.norm(u_edge), np.linalg.norm(v_edge)
    columns = int(np.clip(np.ceil(u_length / cell), 1, 40)) + 1
    rows = int(np.clip(np.ceil(v_length / cell), 1, 40)) + 1
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    points = origin + u[..., None] * u_edge + v[..., None] * v_edge
    size = (u_length, v_length) if uv_size is None else uv_size
    uv = np.stack([u * size[0], v * size[1]], -1) + np.asarray(uv_origin)
    return patch(points, uv, np.broadcast_to(_cross(u_edge, v_edge), points.shape))


def box(size, *, centre=(0.0, 0.0, 0.0), cell: float = 0.5, inside: bool = False) -> Mesh:
    """Build a box of `size` (x, y, z); `inside` turns its faces inwards, as a room's."""
    size, centre = np.asarray(size, float), np.asarray(centre, float)
    if (size <= cell).all():  # Most boxes of a scene are small: one quad a side.
        unit, u_axis, v_axis = _unit_box(inside)
        scale = np.stack([size[u_axis], size[v_axis]], axis=-1)
        return Mesh(unit.vertices * size + centre, unit.normals, unit.uv * scale, unit.faces)
    return _box(size, cell, inside).moved(np.eye(3), centre)


@functools.cache
def _unit_box(inside: bool) -> tuple[Mesh, np.ndarray, np.ndarray]:
    axes = np.repeat(_SIDE_AXES, 8, axis=0)  # Two sides of four corners each.
    return _box(np.ones(3), 1.0, inside), axes[:, 0], axes[:, 1]


_SIDE_AXES = np.array([(1, 2), (0, 2), (0, 1)])


def _box(size: np.ndarray, cell: float, inside: bool) -> Mesh:
    half, sides = size / 2, []
    for axis, (u_axis, v_axis) in enumerate(_SIDE_AXES):
        for sign in (-1.0, 1.0):
            u_edge, v_edge = np.zeros(3), np.zeros(3)
            u_edge[u_axis], v_edge[v_axis] = 2 * half[u_axis], 2 * half[v_axis]
            corner = -half.copy()
            corner[axis] = sign * half[axis]
            if _cross(u_edge, v_edge)[axis] * sign * (-1 if inside else 1) < 0:
                corner[u_axis] *= -1
                u_edge = -u_edge
            sides.append(quad(corner, u_edge, v_edge, cell=cell))
    return merge(sides)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # For two vectors np.cross takes twenty times as long.
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                     a[0] * b[1] - a[1] * b[0]])  # fmt: skip


def surface(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], columns: int, rows: int, uv_size
) -> Mesh:
    """Sample function(u, v) -> (rows, columns, 3) over the unit square, facing du x dv."""
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    return patch(function(u, v), np.stack([u * uv_size[0], v * uv_size[1]], -1))


def lathe(profile: np.ndarray, *, sides: int = 20) -> Mesh:
    """Turn a profile, float (n, 2) of radius and height from bottom to top, about z."""
    profile = np.asarray(profile, float)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    radius, height = profile[:, :1], profile[:, 1:]
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height + 0 * angle], axis=-1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    u, v = np.meshgrid(angle / (2 * np.pi), along)
    circumference = 2 * np.pi * max(profile[:, 0].max(), 1e-3)
    # A difference across the seam would tilt its normals: take them from the profile.
    slope = np.gradient(profile, axis=0) if len(profile) > 2 else np.diff(profile, axis=0)[[0, 0]]
    normals = np.stack(
        [slope[:, 1:] * np.cos(angle), slope[:, 1:] * np.sin(angle), -slope[:, :1] + 0 * angle],
        axis=-1,
    )
    return patch(points, np.stack([u * circumference, v], -1), normals)


def cylinder(radius: float, height: float, *, sides: int = 16, top: float | None = None) -> Mesh:
    """Build a closed cylinder standing on z = 0; `top` another radius there makes a cone."""
    top = radius if top is None else top
    parts = [lathe(np.array([[radius, 0], [top, height]]), sides=sides)]
    if top > 0:
        parts.append(lathe(np.array([[top, height], [0, height]]), sides=sides))
    parts.append(lathe(np.array([[0, 0], [radius, 0]]), sides=sides))
    return merge(parts)


def ellipsoid(radii, *, sides: int = 20) -> Mesh:
    """Build an ellipsoid about the origin."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, max(6, sides // 2))
    ball = lathe(np.stack([np.cos(latitude), np.sin(latitude)], -1), sides=sides)
    radii = np.asarray(radii, float)
    normals = ball.normals / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(ball.vertices * radii, normals, ball.uv * radii.mean(), ball.faces)


def rounded_box(size, *, roundness: float = 0.4, sides: int = 24) -> Mesh:
    """Build a superellipsoid about the origin: roundness 0 nears a box, 1 is an ellipsoid."""
    half, power = np.asarray(size, float) / 2, max(roundness, 0.08)

    def bend(wave):
        return np.sign(wave) * np.abs(wave) ** power

    latitude = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)[:, None]
    longitude = np.linspace(0, 2 * np.pi, sides + 1)[None]
    across = bend(np.cos(latitude))
    points = np.stack(
        [across * bend(np.cos(longitude)), across * bend(np.sin(longitude)),
         bend(np.sin(latitude)) + 0 * longitude], axis=-1,
    )  # fmt: skip
    # The gradient of the implicit function, with exponent 2 / power - 1 >= 1.
    normals = np.sign(points) * np.abs(points) ** (2 / power - 1) / half
    uv = np.stack([np.broadcast_to(longitude, points.shape[:2]) * half[:2].mean(),
                   np.broadcast_to(latitude, points.shape[:2]) * half[2] * 1.5], -1)  # fmt: skip
    return patch(points * half, uv, normals)


def tube(path: np.ndarray, radius, *, sides: int = 8) -> Mesh:
    """Sweep a circle along a path, float (n, 3); radius: one number or one per point."""
    path = np.asarray(path, float)
    tangent = np.gradient(path, axis=0) if len(path) > 2 else np.diff(path, axis=0)[[0, 0]]
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    helper = np.eye(3)[np.argmin(np.abs(tangent).max(axis=0))]
    side = np.cross(tangent, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    normals = side[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
    radius = np.broadcast_to(np.asarray(radius, float), len(path))[:, None, None]
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    u, v = np.meshgrid(angle * float(radius.max()), along)
    return patch(path[:, None] + radius * normals, np.stack([u, v], -1), normals)


def rotation_z(angle: float) -> np.ndarray:
    """Rotation by `angle` radians about the vertical, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation, uniform over SO(3), (3, 3)."""
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
