# SPDX-License-Identifier: Apache-2.0
"""The real `sr_node` with the shipped weights over DDS, by each backend of a CPU."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
RGB = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
METRES = np.linspace(1.0, 2.0, 32 * 48, dtype=np.float32).reshape(32, 48)


@pytest.mark.parametrize('backend', ['torch', 'onnxruntime'])
def test_dense_depth_by_backend(start_node, make_client, messages, backend):
    if backend == 'onnxruntime':
        pytest.importorskip('onnx')
        pytest.importorskip('onnxruntime')
    name = f'sr_{backend}'
    node = start_node(
        name=name, weights='embedded', device='cpu', backend=backend,
        warm_up_rgb_size=[96, 64], warm_up_depth_size=[48, 32],
    )  # fmt: skip
    client = make_client(name)
    client.wait_for_node()
    depth = messages.array(client.exchange(RGB, METRES))
    assert depth.shape == (64, 96)
    # A plane is smooth: it comes back as it was measured, whatever the picture shows.
    assert abs(float(np.median(depth)) - 1.5) < 0.02
    assert node.alive, node.output
