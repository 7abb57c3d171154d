# SPDX-License-Identifier: Apache-2.0
"""Rendered RGB-D frames without end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from depth_sr_ros.data.camera_effects import photograph, through_glass
from depth_sr_ros.data.frame import RGBDFrame, glass_mask
from depth_sr_ros.data.scene_builder import GLASS_SHARE
from depth_sr_ros.data.scene_layouts import Layout, random_layout
from depth_sr_ros.data.texture_copying import texture_copying_layout
from depth_sr_ros.data.textures import TextureLibrary

SPLITS = ('train', 'validation', 'texture_copying')


class RenderedScenes(Sequence[RGBDFrame]):
    """Random-access frames of random scenes, each fixed by (seed, split, index).

    seed: 0 or larger. size: (width, height) in pixels. split: 'train' or 'validation'; their
    scenes never agree, whatever the seeds, and each has photographs of its own for textures. Or
    'texture_copying': smooth surfaces under strong textures, prints and shadows, where every edge
    in depth that RGB suggests is wrong; with validation's photographs.
    count: the length; frames are there without end, but a sequence has to have one.
    views: frames of one scene, index // views being the scene. Reading them one after another is
    several times faster than at random, since a scene is built and uploaded once.
    textures: folders of photographs, as for texture_folders.
    glass_share: share of bottles and other turned things that are of glass, 0 to 1; of no meaning
    for 'texture_copying'. Frames know what lies behind glass (`RGBDFrame.depth_behind_glass`).
    clean: leave RGB as rendered, without a camera's exposure, blur and noise.

    Depth is float32 metres along the optical axis up to 150 m, 0 where the sky is. Results are the
    same wherever the same photographs, MuJoCo and OpenGL driver are.

    Raises ValueError, and RenderingUnavailableError on first use where there is no OpenGL.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (640, 480),
        *,
        split: str = 'train',
        count: int = 1_000_000,
        views: int = 6,
        textures=None,
        glass_share: float = GLASS_SHARE,
        clean: bool = False,
    ) -> None:
        if seed < 0:
            raise ValueError(f'seed is {seed}; allowed is 0 or larger')
        if split not in SPLITS:
            raise ValueError(f'split is {split!r}; allowed is one of {SPLITS}')
        if len(size) != 2 or not all(32 <= side <= 4096 for side in size):
            raise ValueError(f'size is {size}; allowed is (width, height), each 32 to 4096')
        if count < 1 or views < 1:
            raise ValueError(f'count and views are {count}, {views}; allowed is 1 or larger')
        if not 0 <= glass_share <= 1:
            raise ValueError(f'glass_share is {glass_share}; allowed is 0 to 1')
        self.glass_share = glass_share
        self.seed, self.size, self.split = seed, (int(size[0]), int(size[1])), split
        self._count, self.views, self.clean = count, views, clean
        detail = 512 if max(size) > 400 else 256
        self.library = TextureLibrary(textures, split=split, max_size=detail)
        # How often a view of bare walls is taken as it comes; it teaches not to copy textures.
        self._keep_plain = 1.0 if split == 'texture_copying' else 0.3
        self._renderer: Any = None
        self._loaded: tuple[int, Layout] | None = None

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict:
        # An OpenGL context does not survive into another process.
        return {**self.__dict__, '_renderer': None, '_loaded': None}

    def __getitem__(self, index: int) -> RGBDFrame:  # type: ignore[override]
        index = range(self._count)[index]
        layout = self._layout(index // self.views)
        rng = self._rng(1, index)
        widest = 70 if self.split == 'texture_copying' else 95
        intrinsics = random_intrinsics(rng, self.size, widest)
        pose = layout.camera(rng)
        for _ in range(12):
            preview = self._renderer.depth_preview(pose, intrinsics)
            if _usable(preview) and (_has_edges(preview) or rng.random() < self._keep_plain):
                break
            pose = layout.camera(rng)
        linear, depth = self._renderer.render(pose, intrinsics)
        behind = self._renderer.depth_behind_glass
        if behind is not None and glass_mask(depth, behind).any():
            linear = through_glass(linear, depth, behind, intrinsics, rng)
        else:
            behind = None
        if self.clean:
            rgb = np.clip(linear * 255 + 0.5, 0, 255).astype(np.uint8)
        else:
            rgb = photograph(linear, rng)
        name = f'{self.split}_{self.seed}_{index:07d}'
        return RGBDFrame(rgb, depth, intrinsics, name, behind)

    def close(self) -> None:
        """Free what the graphics driver holds; the next frame opens it anew."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._loaded = None

    def _rng(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng([SPLITS.index(self.split), self.seed, kind, number])

    def _layout(self, scene: int) -> Layout:
        from depth_sr_ros.data.offscreen_renderer import OffscreenRenderer

        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.size)
        if self._loaded is None or self._loaded[0] != scene:
            self._loaded = None
            rng = self._rng(0, scene)
            if self.split == 'texture_copying':
                layout = texture_copying_layout(rng, self.library)
            else:
                layout = random_layout(rng, self.library, self.glass_share)
            self._renderer.load(layout.scene)
            self._loaded = (scene, layout)
        return self._loaded[1]


def random_intrinsics(
    rng: np.random.Generator, size: tuple[int, int], widest: float = 95.0
) -> np.ndarray:
    """Draw a pinhole camera with a horizontal field of view of 50-`widest` degrees, (3, 3)."""
    width, height = size
    focal = width / 2 / np.tan(np.radians(rng.uniform(50, widest)) / 2)
    cx = (width - 1) / 2 + rng.normal(0, 0.015) * width
    cy = (height - 1) / 2 + rng.normal(0, 0.015) * height
    return np.array([[focal, 0, cx], [0, focal * rng.uniform(0.99, 1.01), cy], [0, 0, 1.0]])


def _usable(depth: np.ndarray) -> bool:
    """Whether a camera is neither inside a thing nor facing only the sky."""
    seen = depth[depth > 0]
    if seen.size < 0.5 * depth.size:
        return False
    near, middle = np.percentile(seen, [1, 50])
    return near > 0.2 and middle > 0.3


def _has_edges(depth: np.ndarray) -> bool:
    """Whether a fair part of a view is near steps in depth."""
    inverse = 1 / np.where(depth > 0, depth, 200.0)
    bend = np.abs(np.diff(inverse, n=2, axis=1)[1:-1]) + np.abs(
        np.diff(inverse, n=2, axis=0)[:, 1:-1]
    )
    return float((bend > 0.06 * inverse[1:-1, 1:-1]).mean()) > 0.12
