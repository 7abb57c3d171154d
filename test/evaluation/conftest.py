# SPDX-License-Identifier: Apache-2.0
import argparse
import json

import cv2
import numpy as np
import pytest

from depth_sr_ros.evaluation import evaluate


def _write_frame(folder, name, rgb, depth):
    for kind in ('rgb', 'depth'):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / 'dataset.json').write_text(json.dumps({'depth_scale': 1000, 'intrinsics': None}))
    cv2.imwrite(str(folder / 'rgb' / f'{name}.png'), rgb[..., ::-1])
    cv2.imwrite(str(folder / 'depth' / f'{name}.png'), np.round(depth * 1000).astype(np.uint16))


def _box_scene(seed=0, size=(96, 128)):
    """Return (rgb, depth): a near box before a slanted wall; colours tell them apart."""
    rng = np.random.default_rng(seed)
    depth = np.fromfunction(lambda v, u: 2 + u / 128 + v / 200, size).astype(np.float32)
    top, left = rng.integers(10, 30, 2)
    depth[top : top + 40, left : left + 50] = 1.2
    grey = np.where(depth < 1.5, 200, 60) + rng.normal(0, 4, size)
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=-1), depth


@pytest.fixture
def scenes(tmp_path):
    """Write an RGBDFolder of three frames of 96x128 and return its path."""
    folder = tmp_path / 'scenes'
    for index in range(3):
        _write_frame(folder, f'{index:05d}', *_box_scene(index))
    return folder


@pytest.fixture
def arguments_of():
    """Return a function that parses the words of an `evaluate` command."""

    def parse(*words):
        parser = argparse.ArgumentParser()
        evaluate.add_arguments(parser)
        return parser.parse_args([str(word) for word in words])

    return parse


@pytest.fixture
def write_frame():
    return _write_frame


@pytest.fixture
def box_scene():
    return _box_scene
