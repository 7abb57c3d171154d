# SPDX-License-Identifier: Apache-2.0
"""What a camera does to RGB: light and shade, exposure, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np

from depth_sr_ros.data.frame import glass_mask


def photograph(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn a rendering, float32 (H, W, 3) in [0, 1], into a photograph, uint8 (H, W, 3).

    Nothing in here moves a pixel's contents by more than the blur's few pixels, so depth stays
    aligned. Shadows and glare are drawn in the image plane too: RGB edges that no depth explains.
    """
    image = linear * _illumination(linear.shape[:2], rng)
    level = np.quantile(image.mean(axis=-1)[::8, ::8], 0.7) + 0.02
    gain = np.clip(rng.uniform(0.3, 0.75) / level, 0.5, 4.0)
    image = image * (gain * np.clip(rng.normal(1, 0.06, 3), 0.8, 1.25).astype(np.float32))
    if rng.random() < 0.5:
        image = _vignette(image, rng)
    if rng.random() < 0.5:
        image = np.clip(image, 0, 1) ** rng.uniform(0.75, 1.3)
    image = _blur(image, rng)
    image = _sensor_noise(image, rng)
    picture = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        encoded = cv2.imencode('.jpg', picture, quality)[1]
        picture = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return picture


def through_glass(
    linear: np.ndarray,
    depth: np.ndarray,
    behind: np.ndarray,
    intrinsics: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Bend what is seen through glass, and let the glass shine.

    A renderer without rays only tints what lies behind. Displaced along the surface's normals it
    looks refracted; towards the outline glass reflects its surroundings (Fresnel), and lamps leave
    sharp highlights.

    Args:
        linear: float32 (H, W, 3) in [0, 1].
        depth: float32 (H, W), metres, of the glass where there is any.
        behind: the same without it.
        intrinsics: (3, 3), pixels.
        rng: source of all randomness.

    Returns:
        float32 (H, W, 3); `linear` itself outside of glass.
    """
    glass = glass_mask(depth, behind)
    if not glass.any():
        return linear
    normals = _normals(depth, intrinsics)
    height, width = depth.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def shifted(image: np.ndarray, pixels: float) -> np.ndarray:
        return cv2.remap(
            image, x + pixels * normals[..., 0], y + pixels * normals[..., 1],
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip

    strength = width / 640
    image = shifted(linear, strength * rng.uniform(-25, 25))
    around = shifted(
        cv2.GaussianBlur(linear, (0, 0), 4 * strength), strength * rng.uniform(40, 160)
    )
    facing = np.clip(-normals[..., 2], 0, 1)
    rim = ((1 - facing) ** rng.uniform(1.5, 4) * rng.uniform(0.4, 1))[..., None]
    image = image * (1 - rim) + rng.uniform(0.3, 1.5) * around * rim
    for _ in range(int(rng.integers(1, 5))):
        lamp = np.append(rng.normal(0, 0.6, 2), -1.0)
        towards = np.clip(normals @ (lamp / np.linalg.norm(lamp)).astype(np.float32), 0, 1)
        image = image + (rng.uniform(0.2, 1) * towards ** rng.uniform(30, 300))[..., None]
    soft = cv2.GaussianBlur(glass.astype(np.float32), (0, 0), 0.6)[..., None] * glass[..., None]
    return np.clip(linear * (1 - soft) + image * soft, 0, 1).astype(np.float32)


def _normals(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Unit normals (H, W, 3) in the camera's frame (x right, y down, z ahead), towards it."""
    height, width = depth.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    points = np.stack(
        [
            (x - intrinsics[0, 2]) / intrinsics[0, 0] * depth,
            (y - intrinsics[1, 2]) / intrinsics[1, 1] * depth,
            depth,
        ],
        axis=-1,
    ).astype(np.float32)
    along, down = (cv2.Sobel(points, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    normals = np.cross(down, along)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def _illumination(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw gradients, shadows and patches of light in the image plane, float32 (H, W, 1)."""
    height, width = size
    shade: np.ndarray = np.ones((height // 2, width // 2), np.float32)
    if rng.random() < 0.4:
        coarse = rng.uniform(0.5, 1.2, (3, 4)).astype(np.float32)
        shade = cv2.resize(coarse, shade.shape[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.choice([0, 1, 3], p=[0.65, 0.25, 0.1]))):
        centre = rng.uniform(0, 1, 2) * shade.shape[::-1]
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        reach = rng.uniform(0.1, 0.7) * shade.shape[1] * rng.uniform(0.5, 1, len(angles))
        corners = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
        mask: np.ndarray = np.zeros_like(shade)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.choice([0.4, 1.5, 6.0]))
        shade *= 1 + mask * (rng.uniform(0.35, 0.8) * rng.choice([1, 1.4]) - 1)
    return cv2.resize(shade, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


def _vignette(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return image * (1 - rng.uniform(0.05, 0.35) * (x * x + y * y) / 2)[..., None]


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.2:  # The camera moves while the shutter is open.
        # Odd, since the middle of an even kernel is between pixels and would move the picture.
        length = 2 * int(rng.integers(1, 6)) + 1
        kernel = np.zeros((length, length), np.float32)
        middle, angle = length // 2, rng.uniform(0, np.pi)
        reach = np.round(np.array([np.cos(angle), np.sin(angle)]) * middle).astype(int)
        ends = [(int(middle + s * reach[0]), int(middle + s * reach[1])) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        kernel += kernel[::-1, ::-1]
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    if kind < 0.5:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if kind < 0.65:  # A camera's own sharpening leaves halos.
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        return image + rng.uniform(0.2, 0.8) * (image - soft)
    return image


def _sensor_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add shot and read noise, at times in the blotches that demosaicking leaves."""
    shot, read = np.exp(rng.uniform(np.log(0.002), np.log(0.05))), rng.uniform(0, 0.012)
    deviation = np.sqrt(shot**2 * np.clip(image, 0, 1) + read**2)
    noise = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.4:
        noise = 1.6 * cv2.GaussianBlur(noise, (0, 0), 0.8)
    return image + deviation * noise
