# SPDX-License-Identifier: Apache-2.0
"""The diagnostics as a picture, because RViz shows images and knows no diagnostics."""

from __future__ import annotations

import textwrap
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

_SIZE = (640, 400)
_LEVELS = {
    DiagnosticStatus.OK: ('OK', (40, 140, 60)),
    DiagnosticStatus.WARN: ('WARN', (200, 120, 0)),
    DiagnosticStatus.ERROR: ('ERROR', (190, 30, 30)),
    DiagnosticStatus.STALE: ('STALE', (90, 90, 110)),
}
_BACKGROUND, _TEXT, _WEAK = (24, 24, 28), (235, 235, 235), (150, 150, 160)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE = 22
_CHARACTERS, _SENTENCE_LINES = 72, 5


def diagnostics_picture(status: Any) -> np.ndarray:
    """Draw a diagnostic_msgs/DiagnosticStatus of `NodeDiagnostics.status`.

    Returns:
        uint8 (400, 640, 3) RGB: the level, the sentence, rates, drops, latencies and memory.
    """
    width, height = _SIZE
    picture = np.full((height, width, 3), _BACKGROUND, np.uint8)
    name, colour = _LEVELS[status.level]
    cv2.rectangle(picture, (0, 0), (width, 40), colour, -1)
    _write(picture, f'{name}   {status.name}', (12, 27), _TEXT, 0.6)
    y = 66
    sentence = textwrap.wrap(status.message, _CHARACTERS)[:_SENTENCE_LINES]
    for line in sentence:
        _write(picture, line, (12, y), _TEXT)
        y += _LINE
    y = 66 + _SENTENCE_LINES * _LINE + 6
    values = {pair.key: pair.value for pair in status.values}
    for column, lines in enumerate((_flow(values), _cost(values))):
        for row, (label, value) in enumerate(lines[: (height - y) // _LINE + 1]):
            left = 12 + column * width // 2
            _write(picture, label, (left, y + row * _LINE), _WEAK)
            _write(picture, value, (left + 190, y + row * _LINE), _TEXT)
    return picture


def _flow(values: dict[str, str]) -> list[tuple[str, str]]:
    """What came, what went out and what was dropped."""
    lines = [
        (key.removeprefix('rate ').removesuffix(' [Hz]'), f'{value} Hz')
        for key, value in values.items()
        if key.startswith('rate ') and 'camera_info' not in key
    ]
    lines += [
        (key, value) for key, value in values.items() if key.startswith('dropped ') and value != '0'
    ]
    return lines


def _cost(values: dict[str, str]) -> list[tuple[str, str]]:
    """Latencies, processor and memory."""
    lines = [('latency', 'p50 / p99')]
    for stage in ('decode', 'pipeline', 'encode', 'total', 'stamp age'):
        key = f'latency {stage} p50 [ms]'
        if key in values:
            median, high = float(values[key]), float(values[f'latency {stage} p99 [ms]'])
            lines.append((stage, f'{median:.1f} / {high:.1f} ms'))
    for key, value in values.items():
        if key.startswith(('cpu', 'gpu memory', 'nearest gap')):
            label, _, unit = key.partition(' [')
            lines.append((label, f'{value} {unit.removesuffix("]").removesuffix(" of a core")}'))
    return lines


def _write(
    picture: np.ndarray,
    text: str,
    place: tuple[int, int],
    colour: tuple[int, ...],
    size: float = 0.47,
) -> None:
    # OpenCV's font knows ASCII.
    text = text.encode('ascii', 'replace').decode()
    cv2.putText(picture, text, place, _FONT, size, colour, 1, cv2.LINE_AA)
