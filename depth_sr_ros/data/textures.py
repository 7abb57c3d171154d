# SPDX-License-Identifier: Apache-2.0
"""Textures of rendered scenes: photographs found on the machine, or procedural ones.

Photographs are read when scenes are rendered and never become part of this package.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np

TEXTURE_FOLDERS_VARIABLE = 'DEPTH_SR_TEXTURES'
_SYSTEM_FOLDERS = ('share/games/supertuxkart/data', 'share/supertuxkart/data')
_SUFFIXES = ('.png', '.jpg', '.jpeg')
# Maps that a shader reads, interface parts, particles: not what a surface looks like.
_NOT_A_SURFACE = (
    'normal', '_nm', '_n.', 'gloss', 'mask', 'spec', 'alpha', 'lightmap', 'height', 'emit',
    'shadow', 'icon', 'particle', 'gfx', 'flare', 'smoke', 'spark', '_ibl', '-ibl', 'cubemap',
    'minimap', 'colormask', 'displace', 'noise', 'rain', 'halo', 'skid', 'snowflake', 'font',
)  # fmt: skip
_NOT_A_FOLDER = ('skins', 'gui', 'editor', 'fonts', 'chars')
_PICTURES = (
    'screenshot', 'sshot', 'portrait', 'painting', 'sky', 'stkflag', 'sign', 'poster', 'logo',
    'cloth', 'diff', 'books', 'karts', 'screen', 'panel', 'banner', 'window', 'door', 'menu',
)  # fmt: skip
#: One file in this many is kept for validation scenes only.
_VALIDATION_SHARE = 10


def texture_folders(folders: str | os.PathLike | list | tuple | None = None) -> list[Path]:
    """Folders to look for photographs in, those that exist.

    folders: one or several; None means those named by the environment variable DEPTH_SR_TEXTURES
    (separated as PATH is), or else those of `miniworld` and of SuperTuxKart's data where they are
    installed. An empty list means no photographs at all.

    Raises FileNotFoundError where a folder that was asked for does not exist.
    """
    if folders is None and os.environ.get(TEXTURE_FOLDERS_VARIABLE):
        folders = os.environ[TEXTURE_FOLDERS_VARIABLE].split(os.pathsep)
    if folders is not None:
        if isinstance(folders, (str, os.PathLike)):
            folders = [folders]
        paths = [Path(folder) for folder in folders]
        for path in paths:
            if not path.is_dir():
                raise FileNotFoundError(f'{path}: no such texture folder')
        return paths
    found = []
    spec = importlib.util.find_spec('miniworld')
    if spec is not None and spec.submodule_search_locations:
        found += [Path(place) / 'textures' for place in spec.submodule_search_locations]
    prefixes = dict.fromkeys((sys.prefix, sys.base_prefix, os.path.join(os.sep, 'usr')))
    found += [Path(prefix) / folder for prefix in prefixes for folder in _SYSTEM_FOLDERS]
    return [path for path in found if path.is_dir()]


class TextureLibrary:
    """Random textures, uint8 (h, w, 3) RGB, of at most `max_size` pixels a side.

    folders: as for texture_folders. split: 'train', or any other; a tenth of the photographs,
    chosen by a checksum of their names, is kept for the others. Without any photograph every
    texture is procedural.
    """

    def __init__(self, folders=None, *, split: str = 'train', max_size: int = 512) -> None:
        self.max_size = max_size
        self.surfaces: list[Path] = []
        self.pictures: list[Path] = []
        for folder in texture_folders(folders):
            for path in sorted(folder.rglob('*')):
                kind = _classify(path, folder)
                held_out = zlib.crc32(path.name.encode()) % _VALIDATION_SHARE == 0
                if kind is None or held_out != (split != 'train'):
                    continue
                (self.pictures if kind == 'picture' else self.surfaces).append(path)

    @property
    def photographic(self) -> bool:
        """Whether any photograph was found."""
        return bool(self.surfaces or self.pictures)

    def surface(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a texture that tiles or nearly so: wood, stone, brick, cloth."""
        if self.surfaces and rng.random() < 0.85:
            image = self._draw(self.surfaces, rng)
            if image is not None:
                image = _vary_colour(image, rng)
                return stained(image, rng) if rng.random() < 0.2 else image
        return procedural_texture(rng)

    def plain(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one colour with a faint grain."""
        grain = 1 + rng.uniform(0, 0.03) * fractal_noise(rng, 64, 4)
        return np.clip(random_colour(rng) * grain[..., None], 0, 255).astype(np.uint8)

    def picture(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a printed picture: a photograph, a sign, a page of text."""
        if self.pictures and rng.random() < 0.8:
            image = self._draw(self.pictures, rng)
            if image is not None:
                return image
        return printed_page(rng) if rng.random() < 0.4 else procedural_texture(rng)

    def _draw(self, paths: list[Path], rng: np.random.Generator) -> np.ndarray | None:
        for _ in range(8):
            image = _read(paths[int(rng.integers(len(paths)))], self.max_size)
            if image is not None:
                return image
        return None


def _classify(path: Path, root: Path) -> str | None:
    if path.suffix.lower() not in _SUFFIXES:
        return None
    relative = path.relative_to(root)
    if any(part in _NOT_A_FOLDER for part in relative.parts[:-1]):
        return None
    name = str(relative).lower()
    if any(word in relative.name.lower() for word in _NOT_A_SURFACE):
        return None
    return 'picture' if any(word in name for word in _PICTURES) else 'surface'


@functools.lru_cache(maxsize=400)
def _read(path: Path, max_size: int) -> np.ndarray | None:
    data = np.frombuffer(_without_profile(path.read_bytes()), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None or image.dtype != np.uint8 or min(image.shape[:2]) < 64:
        return None
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:
        alpha = image[..., 3:] / 255.0
        if alpha.mean() < 0.5:
            return None
        image = (image[..., :3] * alpha + 128 * (1 - alpha)).astype(np.uint8)
    scale = max_size / max(image.shape[:2])
    if scale < 1:
        size = (max(16, round(image.shape[1] * scale)), max(16, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if image[::4, ::4].std(axis=(0, 1)).max() < 4:
        return None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    image.flags.writeable = False
    return image


def _without_profile(data: bytes) -> bytes:
    """Cut a PNG's colour profile out: libpng complains of many on standard error."""
    if not data.startswith(b'\x89PNG'):
        return data
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], 'big')
        if data[at + 4 : at + 8] != b'iCCP':
            kept.append(data[at:end])
        at = end
    return b''.join(kept)


def _vary_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.normal(0, 1) * rng.choice([3, 40], p=[0.8, 0.2])) % 180
    hsv[..., 1] *= rng.uniform(0.1, 1.1)
    hsv[..., 2] *= rng.uniform(0.7, 1.4)
    return cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def stained(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken or lighten patches of a texture, soft or sharp: stains, wear, painted shadows."""
    height, width = image.shape[:2]
    mask: np.ndarray = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        centre, reach = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.05, 0.4) * width
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        spokes = reach * rng.uniform(0.3, 1, (7, 1))
        corners = centre + spokes * np.stack([np.cos(angles), np.sin(angles)], -1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], float(rng.uniform(-0.7, 0.4)))
    mask = cv2.GaussianBlur(mask, (0, 0), rng.choice([0.5, 3, 15]))
    return np.clip(image * (1 + mask[..., None]), 0, 255).astype(np.uint8)


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a surface colour, float (3,) in [0, 255]; most real surfaces are not saturated."""
    grey = rng.uniform(30, 240)
    return np.clip(grey + rng.normal(0, 1, 3) * rng.choice([4, 15, 50]), 5, 250)


def fractal_noise(rng: np.random.Generator, size: int, octaves: int = 5) -> np.ndarray:
    """Tiling noise over several octaves, float32 (size, size), zero mean, unit deviation."""
    total = np.zeros((size, size), np.float32)
    persistence = rng.uniform(0.4, 0.8)
    for octave in range(octaves):
        cells = 2 ** (octave + 2)
        coarse = np.pad(rng.normal(0, 1, (cells, cells)).astype(np.float32), 2, mode='wrap')
        step = size // cells
        fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += persistence**octave * fine[2 * step : -2 * step, 2 * step : -2 * step]
    return (total - total.mean()) / max(float(total.std()), 1e-6)


def procedural_texture(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """Draw a tiling texture: plain, noise, stripes, checks, bricks, planks or spots."""
    first, second = random_colour(rng), random_colour(rng)
    y, x = np.mgrid[0:size, 0:size] / size
    noise = fractal_noise(rng, size)
    kind = rng.choice(['plain', 'noise', 'stripes', 'checks', 'bricks', 'planks', 'spots'])
    if kind == 'plain':
        mix: np.ndarray = 0.05 * noise
    elif kind == 'noise':
        mix = 0.5 + rng.uniform(0.1, 0.4) * noise
    elif kind == 'stripes':
        along = int(rng.integers(0, 12)) * x + int(rng.integers(1, 12)) * y
        wave = np.sin(2 * np.pi * along + rng.uniform(0, 0.8) * noise)
        mix = (wave > rng.uniform(-0.6, 0.6)) if rng.random() < 0.6 else 0.5 + 0.5 * wave
    elif kind == 'checks':
        count = 2 * int(rng.integers(1, 9))
        mix = (np.floor(x * count) + np.floor(y * count)) % 2
    elif kind in ('bricks', 'planks'):
        rows = 2 * int(rng.integers(1, 7))
        columns = int(rng.integers(1, 4)) if kind == 'planks' else rows // 2
        row = np.floor(y * rows)
        shift = rng.random(rows)[row.astype(int)] if kind == 'planks' else 0.5 * (row % 2) / columns
        u = (x + shift) % 1 * columns
        gap = rng.uniform(0.02, 0.12)
        edge = (y * rows % 1 < gap) | (u % 1 < gap * columns / rows)
        tone = rng.random((rows, columns))[row.astype(int), u.astype(int)]
        mix = np.where(edge, 1.0, 0.4 * tone + 0.08 * noise)
    else:
        mix = noise > rng.uniform(-0.5, 1.5)
    share = np.asarray(mix, np.float32)[..., None]
    image = first * (1 - share) + second * share
    image = image + rng.uniform(0, 12) * fractal_noise(rng, size)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def printed_page(rng: np.random.Generator, size: int = 384) -> np.ndarray:
    """Draw print: lines of text, filled figures and frames on paper."""
    paper = random_colour(rng)
    image = np.empty((size, size, 3), np.uint8)
    image[:] = paper
    for _ in range(int(rng.integers(2, 10))):
        colour = tuple(float(c) for c in random_colour(rng))
        a, b = (tuple(int(c) for c in rng.integers(0, size, 2)) for _ in range(2))
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(image, a, b, colour, int(rng.choice([-1, 2, 6])))
        elif kind == 1:
            cv2.circle(image, a, int(rng.integers(8, size // 3)), colour, int(rng.choice([-1, 4])))
        else:
            points = rng.integers(0, size, (int(rng.integers(3, 7)), 2)).astype(np.int32)
            cv2.fillPoly(image, [points], colour)
    ink = tuple(float(c) for c in (255 - paper if rng.random() < 0.7 else random_colour(rng)))
    letters = 'abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 '
    scale = rng.uniform(0.4, 2.0)
    for line in range(int(rng.integers(0, 16))):
        text = ''.join(rng.choice(list(letters), 40))
        place = (int(rng.integers(0, 40)), int((line + 1) * 26 * scale))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink,
                    max(1, round(2 * scale)), cv2.LINE_AA)  # fmt: skip
    return image
