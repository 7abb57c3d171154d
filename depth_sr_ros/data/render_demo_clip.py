# SPDX-License-Identifier: Apache-2.0
"""Renders the demo clip: `python -m depth_sr_ros.data.render_demo_clip`.

Needs MuJoCo and OpenGL; what it writes is read by DemoClip without either.
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import depth_sr_ros
from depth_sr_ros.data.demo_clip import DemoClip, inverse_depth_planes
from depth_sr_ros.data.demo_scene import demo_camera_pose, demo_scene
from depth_sr_ros.data.offscreen_renderer import OffscreenRenderer
from depth_sr_ros.data.scene_builder import Material, Scene
from depth_sr_ros.data.scene_layouts import CameraPose
from depth_sr_ros.data.scene_mesh import Mesh, merge

INTRINSICS = np.array([[480.0, 0.0, 319.5], [0.0, 480.0, 239.5], [0.0, 0.0, 1.0]])
SIZE = (640, 480)
_CELL = 4  # Pixels a side that one triangle's number takes up in the texture of numbers.


def main(arguments: list[str] | None = None) -> None:
    """Render, write, read back and compare."""
    package = Path(depth_sr_ros.__file__).parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=package / 'ros' / 'clip' / 'demo_clip.npz')
    parser.add_argument('--stored', type=int, default=53, help='frames of the way there (53)')
    parser.add_argument('--rate', type=float, default=30.0, help='frames per second (30)')
    parser.add_argument('--quality', type=int, default=68, help='of the WebP pictures (68)')
    options = parser.parse_args(arguments)
    if options.stored < 2:
        raise ValueError(f'--stored is {options.stored}; allowed is 2 or larger')

    # Slow at both ends, where the camera turns round.
    times = (1 - np.cos(np.pi * np.arange(options.stored) / (options.stored - 1))) / 2
    poses = [demo_camera_pose(t) for t in times]
    scene = demo_scene()
    pictures, depths = render_pictures(scene, poses, options.quality)
    labels, seen, planes = render_truth(scene, poses, depths)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        **_packed('rgb', [np.frombuffer(picture, np.uint8) for picture in pictures]),
        **_packed('labels', [np.frombuffer(label, np.uint8) for label in labels]),
        **_packed('seen', seen),
        'planes': planes.astype(np.float32),
        'poses': np.stack([pose_matrix(pose) for pose in poses]),
        'intrinsics': INTRINSICS,
        'size': np.array(SIZE),
        'frame_rate': np.array(options.rate),
    }
    np.savez(options.out, **contents)
    clip = DemoClip(options.out)
    worst = max(_error(clip.depth_truth(i), depth).max() for i, depth in enumerate(depths))
    if worst > 1e-3:
        raise RuntimeError(f'the stored truth is off by {worst:.2%}: too many triangles?')
    print(
        f'{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, plays {len(clip)} frames; '
        f'RGB {sum(map(len, pictures)) / 1e6:.2f} MB, depth {sum(map(len, labels)) / 1e6:.2f} MB, '
        f'depth within {worst:.1e} of what was rendered'
    )


def render_pictures(
    scene: Scene, poses: list[CameraPose], quality: int
) -> tuple[list[bytes], list[np.ndarray]]:
    """Render RGB, compressed as WebP, and depth, float32 (H, W) metres."""
    renderer = OffscreenRenderer(SIZE, shadow_size=8192)
    renderer.load(scene)
    pictures, depths = [], []
    for pose in poses:
        linear, depth = renderer.render(pose, INTRINSICS)
        picture = np.clip(1.2 * linear * 255, 0, 255).astype(np.uint8)
        flags = [cv2.IMWRITE_WEBP_QUALITY, quality]
        pictures.append(cv2.imencode('.webp', picture[..., ::-1], flags)[1].tobytes())
        depths.append(depth)
    renderer.close()
    return pictures, depths


def render_truth(
    scene: Scene, poses: list[CameraPose], depths: list[np.ndarray]
) -> tuple[list[bytes], list[np.ndarray], np.ndarray]:
    """Render which plane each pixel shows.

    Returns per frame the packed map of numbers and the planes that those stand for, uint16 (n,);
    and the planes, (m, 4).
    """
    triangles = merge([mesh for _, mesh in scene.surfaces])
    corners = triangles.vertices[triangles.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    corners, normals = (
        corners[area > 1e-12],
        (normals / np.maximum(area, 1e-12)[:, None])[area > 1e-12],
    )
    world = np.concatenate([normals, -np.einsum('ij,ij->i', normals, corners[:, 0])[:, None]], 1)
    # Triangles of one plane share a number: a box's side is one, not two.
    _, first, number = np.unique(np.round(world, 5), axis=0, return_index=True, return_inverse=True)
    world, number = world[first], number.ravel()
    if len(world) > 65535:
        raise ValueError(f'the scene has {len(world)} planes; allowed are 65535')

    renderer = OffscreenRenderer(SIZE)
    renderer.load(_numbered(corners, number))
    packed, everything = [], []
    for pose, depth in zip(poses, depths, strict=True):
        colours, _ = renderer.render_centres(pose, INTRINSICS)
        shown = colours[..., 0].astype(int) + 256 * colours[..., 1].astype(int)
        seen, labels = np.unique(shown, return_inverse=True)
        linear = inverse_depth_planes(world[seen], pose_matrix(pose), INTRINSICS)
        rows = labels.reshape(SIZE[1], SIZE[0]).astype('<u2')
        _mend(rows, linear, depth)
        rows[1:] ^= rows[:-1].copy()
        packed.append(lzma.compress(rows.tobytes(), preset=9))
        everything.append(seen)
    renderer.close()
    used, numbers = np.unique(np.concatenate(everything), return_inverse=True)
    parts = np.split(numbers.astype(np.uint16), np.cumsum([len(s) for s in everything])[:-1])
    return packed, parts, world[used]


def _mend(labels: np.ndarray, planes: np.ndarray, depth: np.ndarray) -> None:
    """Give pixels on the border of two triangles, where two renderings differ, the better plane."""
    height, width = labels.shape
    a, b, c = planes.T[:, labels]
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    inverse = a * u + b * v + c
    depth = np.where(depth > 0, depth, cv2.medianBlur(depth, 5))
    bad = (inverse <= 0) | (_error(1 / np.where(inverse > 0, inverse, 1.0), depth) > 1e-4)
    for y, x in np.argwhere(bad):
        near = np.unique(labels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3])
        labels[y, x] = near[np.argmin(np.abs(planes[near] @ (x, y, 1) * depth[y, x] - 1))]


def _error(depth: np.ndarray, reference: np.ndarray) -> np.ndarray:
    # A rendering has cracks of a pixel between triangles, where the reference is 0.
    return np.where(reference > 0, np.abs(depth - reference) / np.maximum(reference, 1e-3), 0.0)


def _numbered(corners: np.ndarray, number: np.ndarray) -> Scene:
    """Build the scene whose colours are its planes' numbers: red the low byte, green the high."""
    side = int(np.ceil(np.sqrt(number.max() + 1)))
    values = np.zeros((side * side, 3), np.uint8)
    values[: number.max() + 1, 0] = np.arange(number.max() + 1) & 255
    values[: number.max() + 1, 1] = np.arange(number.max() + 1) >> 8
    texture = values.reshape(side, side, 3).repeat(_CELL, 0).repeat(_CELL, 1)
    centre = (np.stack([number % side, number // side], -1) + 0.5) / side
    # The texture's first row is at the top, texture coordinates begin at the bottom.
    centre[:, 1] = 1 - centre[:, 1]
    mesh = Mesh(
        corners.reshape(-1, 3), np.tile((0.0, 0.0, 1.0), (3 * len(corners), 1)),
        centre.repeat(3, 0), np.arange(3 * len(corners)).reshape(-1, 3),
    )  # fmt: skip
    material = Material(texture, specular=0.0, emission=1.0)
    return Scene([(material, mesh)], [], 0.0, np.zeros((16, 16, 3), np.uint8))


def pose_matrix(pose: CameraPose) -> np.ndarray:
    """Camera-to-world transform of the optical frame: x right, y down, z ahead; (4, 4)."""
    matrix = np.eye(4)
    right = np.cross(pose.forward, pose.up)
    matrix[:3, :3] = np.stack([right, -pose.up, pose.forward], axis=1)
    matrix[:3, 3] = pose.eye
    return matrix


def _packed(name: str, parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(part) for part in parts])
    return {name: np.concatenate(parts), f'{name}_ends': ends}


if __name__ == '__main__':
    main()
