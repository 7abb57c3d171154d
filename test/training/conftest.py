# SPDX-License-Identifier: Apache-2.0
"""A small folder of frames in the RGBDFolder layout: boxes before a slanted wall."""

import json

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def single_thread():
    """Small tensors on a shared machine: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_frames(folder, count, size=(160, 120), seed=0):
    width, height = size
    (folder / 'rgb').mkdir(parents=True)
    (folder / 'depth').mkdir()
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        columns = np.linspace(0, 1, width, dtype=np.float32)[None]
        depth = np.repeat(3.0 + generator.uniform(-1, 1) * columns, height, axis=0)
        colour = np.full((height, width, 3), generator.integers(30, 120, 3), np.uint8)
        for _ in range(4):
            x, y = generator.integers(0, width - 40), generator.integers(0, height - 40)
            w, h = generator.integers(12, 40, 2)
            depth[y : y + h, x : x + w] = generator.uniform(0.8, 2.2)
            colour[y : y + h, x : x + w] = generator.integers(100, 255, 3)
        noise = generator.normal(0, 4, colour.shape)
        cv2.imwrite(
            str(folder / 'rgb' / f'{number:03}.png'), np.clip(colour + noise, 0, 255).astype('u1')
        )
        np.save(folder / 'depth' / f'{number:03}.npy', depth.astype(np.float16))
    (folder / 'dataset.json').write_text(json.dumps({'depth_scale': 1000, 'intrinsics': None}))
    return folder


@pytest.fixture(scope='session')
def frames_folder(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp('frames') / 'train', 6)


@pytest.fixture(scope='session')
def validation_folder(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp('frames') / 'validation', 2, seed=1)
