# SPDX-License-Identifier: Apache-2.0
"""A scene as data: surfaces with materials, lights and a sky. No renderer is involved."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from depth_sr_ros.data.scene_mesh import Mesh, merge, rotation_z
from depth_sr_ros.data.textures import TextureLibrary, procedural_texture


@dataclass
class Material:
    """What a surface looks like.

    texture: uint8 (h, w, 3), one repeat of which covers `repeat` (x, y) metres.
    tint: multiplies the texture. specular, shininess, emission: in [0, 1].
    opacity: below 1 for glass, whose depth is that of its surface all the same.
    """

    texture: np.ndarray
    repeat: tuple[float, float] = (1.0, 1.0)
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    specular: float = 0.1
    shininess: float = 0.3
    emission: float = 0.0
    opacity: float = 1.0


@dataclass
class Light:
    """A light. kind: 'directional', 'spot' or 'point'; cutoff: half angle of a spot, degrees."""

    kind: str
    position: np.ndarray
    direction: np.ndarray
    colour: np.ndarray
    cutoff: float = 60.0
    shadow: bool = True


@dataclass
class Scene:
    """Everything a renderer needs. reflective_floor: (material, half sizes, height, share)."""

    surfaces: list[tuple[Material, Mesh]]
    lights: list[Light]
    ambient: float
    sky: np.ndarray
    fog: tuple[float, float] | None = None
    reflective_floor: tuple[Material, tuple[float, float], float, float] | None = None

    @property
    def see_through(self) -> bool:
        """Whether anything in the scene is of glass."""
        return any(material.opacity < 1 for material, _ in self.surfaces)


@dataclass
class Support:
    """A flat top that things stand on: a rectangle of `size` about `centre`, turned by `yaw`."""

    centre: np.ndarray
    size: tuple[float, float]
    yaw: float


#: Share of bottles, vases and the like that are of glass.
GLASS_SHARE = 0.08


@dataclass
class SceneBuilder:
    """Collects meshes by material while frames of reference nest.

    sameness: chance that a thing takes a material which the scene already has, so that there are
    depth edges between surfaces that look the same. glass_share: of turned things that are of
    glass.
    """

    rng: np.random.Generator
    textures: TextureLibrary
    sameness: float = 0.4
    glass_share: float = GLASS_SHARE
    meshes: dict[int, list[Mesh]] = field(default_factory=dict)
    materials: list[Material] = field(default_factory=list)
    pictures: list[Material] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    supports: list[Support] = field(default_factory=list)
    #: Most textures in one scene: each costs upload time and memory.
    max_materials: int = 16
    max_pictures: int = 8

    def __post_init__(self) -> None:
        self._rotation, self._translation = np.eye(3), np.zeros(3)

    @contextmanager
    def frame(self, x=0.0, y=0.0, z=0.0, *, yaw=0.0, rotation=None):
        """Nest a frame of reference at (x, y, z), turned by `yaw` or by `rotation`."""
        before = self._rotation, self._translation
        turn = rotation_z(yaw) if rotation is None else rotation
        self._translation = before[0] @ np.array([x, y, z], float) + before[1]
        self._rotation = before[0] @ turn
        try:
            yield
        finally:
            self._rotation, self._translation = before

    def add(self, mesh: Mesh, material: Material) -> None:
        """Place a mesh in the current frame."""
        moved = mesh.moved(self._rotation, self._translation)
        self.meshes.setdefault(id(material), []).append(moved)
        if not any(material is known for known in (*self.materials, *self.pictures)):
            self.materials.append(material)

    def support(self, x: float, y: float, z: float, width: float, depth: float) -> None:
        """Remember a flat top of the current frame, for clutter to stand on."""
        centre = self._rotation @ np.array([x, y, z]) + self._translation
        yaw = float(np.arctan2(self._rotation[1, 0], self._rotation[0, 0]))
        self.supports.append(Support(centre, (width, depth), yaw))

    def material(self, scale: float = 1.0, *, plain: float = 0.2) -> Material:
        """Draw a material of the scene; scale: how large one repeat is, in metres.

        plain: chance of a surface of one colour when a new one is made.
        """
        rng = self.rng
        full = len(self.materials) >= self.max_materials
        known = [material for material in self.materials if material.opacity == 1]
        if known and (full or rng.random() < self.sameness):
            return known[int(rng.integers(len(known)))]
        if rng.random() < plain:
            texture = self.textures.plain(rng)
        else:
            texture = self.textures.surface(rng)
        size = scale * rng.uniform(0.5, 1.6)
        made = Material(
            texture,
            repeat=(size, size * texture.shape[0] / texture.shape[1]),
            tint=tuple(np.clip(rng.normal(0.95, 0.1, 3), 0.5, 1.0)),
            specular=float(rng.choice([0.0, 0.1, 0.4, 0.9])),
            shininess=float(rng.uniform(0.05, 0.9)),
            emission=float(rng.choice([0.0, 0.05, 0.2], p=[0.85, 0.1, 0.05])),
        )
        self.materials.append(made)
        return made

    def glass(self) -> Material:
        """Make a see-through material."""
        return Material(
            self.textures.plain(self.rng), specular=1.0, shininess=0.9,
            opacity=float(self.rng.uniform(0.06, 0.4)),
        )  # fmt: skip

    def picture(self) -> Material:
        """Draw a printed picture: texture coordinates (0, 0)-(1, 1) cover it once."""
        rng = self.rng
        if len(self.pictures) >= self.max_pictures:
            return self.pictures[int(rng.integers(len(self.pictures)))]
        made = Material(
            self.textures.picture(rng),
            specular=float(rng.choice([0.0, 0.5])),
            emission=float(rng.choice([0.0, 0.6], p=[0.9, 0.1])),
        )
        self.pictures.append(made)
        return made

    def finish(self, *, ambient: float, fog=None, reflective_floor=None, sky=None) -> Scene:
        """Close the scene."""
        known = {id(m): m for m in (*self.materials, *self.pictures)}
        surfaces = [(known[key], merge(meshes)) for key, meshes in self.meshes.items()]
        sky = procedural_texture(self.rng) if sky is None else sky
        return Scene(surfaces, self.lights, ambient, sky, fog, reflective_floor)
