# SPDX-License-Identifier: Apache-2.0
"""
Pictures for looking: panels of RGB, depth, error and confidence with captions and colour bars.

Only OpenCV and numpy: the demo and `depth_sr infer` use this too. Images are uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
MISSING_COLOUR = (48, 48, 48)
BACKGROUND = 255
CAPTION_HEIGHT = 26
BAR_WIDTH = 84
CURVE_COLOURS = ((31, 119, 180), (44, 160, 44), (150, 150, 150), (214, 39, 40), (148, 103, 189))
COLOUR_MAPS = {
    'depth': cv2.COLORMAP_TURBO,
    'error': cv2.COLORMAP_INFERNO,
    'confidence': cv2.COLORMAP_VIRIDIS,
}


@dataclass(frozen=True)
class Panel:
    """
    One picture of a sheet.

    image: uint8 (H, W, 3) RGB, or a float (H, W) map that `scale` colours.
    """

    caption: str
    image: NDArray
    scale: Scale | None = None


@dataclass(frozen=True)
class Scale:
    """A colour scale: values from `low` to `high` of `unit`, kind in COLOUR_MAPS."""

    low: float
    high: float
    unit: str = 'm'
    kind: str = 'depth'

    def colour(self, values: NDArray) -> Image:
        """Colour a float (H, W) map; NaN, infinities and (for depth) 0 become dark grey."""
        missing = ~np.isfinite(values)
        if self.kind == 'depth':
            missing |= values <= 0
        span = max(self.high - self.low, 1e-12)
        share = np.clip((np.where(missing, self.low, values) - self.low) / span, 0, 1)
        level = np.round(share * 255).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(level, COLOUR_MAPS[self.kind]), cv2.COLOR_BGR2RGB)
        colours[missing] = MISSING_COLOUR
        return colours

    def bar(self, height: int) -> Image:
        """Draw a vertical colour bar with five ticks, (height, BAR_WIDTH, 3)."""
        image = np.full((height, BAR_WIDTH, 3), BACKGROUND, np.uint8)
        if height < 8:
            return image
        ramp = np.linspace(self.high, self.low, height)[:, None].repeat(14, axis=1)
        colours = self.colour(np.maximum(ramp, 1e-9) if self.kind == 'depth' else ramp)
        image[:, 6:20] = colours
        for share in np.linspace(0, 1, 5 if height > 90 else 2):
            row = round((1 - share) * (height - 1))
            value = self.low + share * (self.high - self.low)
            _text(image, f'{value:.3g} {self.unit}', (24, int(np.clip(row + 4, 10, height - 2))))
        return image


def depth_scale(*depths: NDArray, percentiles: tuple[float, float] = (1, 99)) -> Scale:
    """
    One scale for several depth maps in metres, so that their colours can be compared.

    It ends at five times the median: a far background must not turn all else into one colour.
    """
    values = np.concatenate([d[np.isfinite(d) & (d > 0)].ravel()[::7] for d in depths])
    if values.size == 0:
        return Scale(0.0, 1.0)
    low, high = np.percentile(values, percentiles)
    high = min(high, 5 * np.median(values))
    margin = 0.02 * max(high - low, 0.01 * high)
    return Scale(float(max(low - margin, 0)), float(high + margin))


def _text(image: Image, text: str, position: tuple[int, int], size: float = 0.4) -> None:
    # Hershey fonts are ASCII only.
    text = text.encode('ascii', 'replace').decode()
    cv2.putText(image, text, position, cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), 1, cv2.LINE_AA)


def _draw(panel: Panel, size: tuple[int, int]) -> Image:
    height, width = size
    image = panel.image if panel.scale is None else panel.scale.colour(panel.image)
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'panel {panel.caption!r}: needs uint8 (H, W, 3) or a scale, '
            f'got {image.dtype} {image.shape}'
        )
    if image.shape[:2] != size:
        # Enlarged as blocks, so that a low resolution is seen as what it is.
        method = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_NEAREST
        image = cv2.resize(image, (width, height), interpolation=method)
    caption = np.full((CAPTION_HEIGHT, width, 3), BACKGROUND, np.uint8)
    _text(caption, panel.caption, (4, 17), 0.45 if len(panel.caption) * 8 < width else 0.36)
    bar = np.full((height, BAR_WIDTH if panel.scale else 6, 3), BACKGROUND, np.uint8)
    if panel.scale is not None:
        bar = panel.scale.bar(height)
    side = np.full((CAPTION_HEIGHT, bar.shape[1], 3), BACKGROUND, np.uint8)
    return np.hstack([np.vstack([caption, image]), np.vstack([side, bar])])


def sheet(rows: Sequence[Sequence[Panel]], panel_width: int = 480) -> Image:
    """
    Lay panels out in rows, each `panel_width` pixels wide with the first panel's aspect ratio.

    Rows are padded with white to the widest. Raises ValueError without any panel.
    """
    if not rows or not rows[0]:
        raise ValueError('a sheet needs at least one panel')
    first = rows[0][0].image
    size = (max(round(panel_width * first.shape[0] / first.shape[1]), 1), panel_width)
    lines = [np.hstack([_draw(panel, size) for panel in row]) for row in rows if row]
    width = max(line.shape[1] for line in lines)
    padded = [
        np.pad(line, ((0, 6), (0, width - line.shape[1]), (0, 0)), constant_values=BACKGROUND)
        for line in lines
    ]
    return np.vstack(padded)


def line_chart(
    curves: Mapping[str, tuple[NDArray, NDArray]],
    *,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (360, 560),
) -> Image:
    """
    Draw curves, name -> (x, y) with x from 0 to 1 and y from 0 up; uint8 `size` = (H, W).

    The y axis ends at the largest value, 1 at least.
    """
    height, width = size
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    left, right, top, bottom = 52, width - 16, 30, height - 40
    highest = max(1.0, *(float(np.nanmax(y)) for _, y in curves.values()))

    def place(x: float, y: float) -> tuple[int, int]:
        column = left + x * (right - left)
        return round(column), round(bottom - y / highest * (bottom - top))

    for share in np.linspace(0, 1, 6):
        cv2.line(image, place(share, 0), place(share, highest), (225, 225, 225), 1)
        cv2.line(image, place(0, share * highest), place(1, share * highest), (225, 225, 225), 1)
        _text(image, f'{share:.1f}', (place(share, 0)[0] - 10, bottom + 16))
        _text(image, f'{share * highest:.2f}', (12, place(0, share * highest)[1] + 4))
    _text(image, x_label, (left + 4, height - 8))
    _text(image, y_label, (left + 4, 20))
    for index, (name, (x, y)) in enumerate(curves.items()):
        colour = tuple(int(c) for c in CURVE_COLOURS[index % len(CURVE_COLOURS)])
        points = np.array([place(a, b) for a, b in zip(x, y, strict=True)], np.int32)
        cv2.polylines(image, [points], False, colour, 2, cv2.LINE_AA)
        row = top + 18 * (index + 1)
        cv2.line(image, (right - 190, row - 4), (right - 166, row - 4), colour, 2)
        _text(image, name, (right - 160, row))
    return image


def write_image(path: Path | str, image: Image) -> None:
    """Write an RGB image; the name's ending picks the format. OSError names the file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(path.suffix, bgr)
    if not encoded:
        raise OSError(f'{path}: cannot be written as {path.suffix!r}')
    path.write_bytes(data.tobytes())
