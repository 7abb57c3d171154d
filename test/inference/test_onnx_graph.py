# SPDX-License-Identifier: Apache-2.0
"""Graphs in the real ONNX Runtime, against PyTorch."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from depth_sr_ros.inference.onnx_graph import (
    OUTPUTS,
    GraphSizes,
    build_graph,
    build_guide_graph,
    golden_input,
)
from depth_sr_ros.inference.onnx_session import open_session
from depth_sr_ros.model.config import FusionUNetConfig

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

# TensorRT sorts 3840 values at most and unrolls no control flow.
UNWANTED = {'TopK', 'Upsample', 'NonZero', 'If', 'Loop', 'Scan', 'GatherND'}
# Slow in ONNX Runtime.
UNWANTED |= {'Asinh', 'DepthToSpace'}


def check_operators(content):
    nodes = onnx.load_from_string(content).graph.node
    assert not {node.op_type for node in nodes} & UNWANTED
    # TensorRT knows no antialiasing, and only these are in ONNX Runtime's layout of convolutions.
    for node in nodes:
        if node.op_type == 'Resize':
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert options.pop('coordinate_transformation_mode') == b'half_pixel'
            assert options == {'mode': b'linear'}


def expected(model, inputs, guide=None):
    with torch.inference_mode():
        image = torch.from_numpy(inputs['rgb']).permute(2, 0, 1)[None].float() / 255.0
        relative = None if guide is None else guide(image)
        if 'relative' in inputs:
            relative = torch.from_numpy(inputs['relative'])[None, None]
        output = model(image, torch.from_numpy(inputs['depth'])[None, None], relative)
    return output.depth[0, 0].numpy(), torch.sigmoid(output.confidence_logit)[0, 0].numpy()


def session_of(content):
    return open_session(content, 'cpu', 1)


SMALL = FusionUNetConfig(stem=2, widths=(8, 8, 12, 16), training_size=64)
DETAILED = FusionUNetConfig(
    stem=4, widths=(8, 8, 12, 16), training_size=64, detail_width=8, detail_blocks=2
)
CONSISTENT = dataclasses.replace(
    DETAILED,
    consistency_steps=2,
    smoothing_sizes=(6, 24),
    fitting_size=16,
    softening_sizes=(3,),
    denoising=True,
    keeping=True,
    guided_filter_cells=(4, 16),
    repetition=True,
)


@pytest.mark.parametrize(
    ('config', 'sizes'),
    [
        (SMALL, GraphSizes((128, 128), (32, 32))),
        (DETAILED, GraphSizes((150, 113), (75, 56))),  # padded
        (DETAILED, GraphSizes((160, 96), (160, 96))),  # as large as RGB: coarser cells
        (SMALL, GraphSizes((96, 64), (12, 8), (42, 28))),
        (CONSISTENT, GraphSizes((160, 96), (40, 24))),
        (CONSISTENT, GraphSizes((150, 113), (50, 37))),  # pixels belong to two cells
        (CONSISTENT, GraphSizes((96, 64), (24, 16), (42, 28))),
        (CONSISTENT, GraphSizes((160, 96), (160, 96))),  # other outputs, repetition
        (CONSISTENT, GraphSizes((150, 113), (150, 113), (42, 28))),
    ],
)
def test_a_graph_gives_what_pytorch_gives(randomised, config, sizes):
    model = randomised(config)
    content = build_graph(model, None, sizes)
    inputs = golden_input(sizes)
    came = session_of(content).run(list(OUTPUTS), inputs)
    depth, confidence = expected(model, inputs)
    assert np.abs(depth / inputs['depth'].max() - 1).max() > 0.01
    # Of the guide fitted to full-resolution depth, large numbers cancel.
    assert np.allclose(came[0], depth, rtol=1e-4 if sizes.relative is None else 1e-3)
    assert np.allclose(came[1], confidence, atol=1e-3)
    check_operators(content)


def test_a_graph_holds_its_guide(small_model):
    guide, model = small_model.relative_depth, copy.deepcopy(small_model)
    model.relative_depth = None
    sizes = GraphSizes((128, 96), (32, 24))
    inputs = golden_input(sizes)
    content = build_graph(model, guide, sizes)
    came = session_of(content).run(None, inputs)
    depth, _ = expected(model, inputs, guide)
    without, _ = expected(model, inputs)
    assert not np.allclose(depth, without, rtol=1e-3)
    assert np.allclose(came[0], depth, rtol=1e-3)
    check_operators(content)
    # The guide alone, and its answer given from outside.
    relative = session_of(build_guide_graph(guide, sizes.rgb)).run(None, {'rgb': inputs['rgb']})[0]
    given = sizes._replace(relative=relative.shape[::-1])
    content = build_graph(model, guide, given)
    came = session_of(content).run(None, {**inputs, 'relative': relative})
    assert np.allclose(came[0], depth, rtol=1e-3)


def test_without_a_measurement_everything_is_zero(randomised):
    sizes = GraphSizes((96, 64), (12, 8))
    inputs = golden_input(sizes)
    session = session_of(build_graph(randomised(SMALL), None, sizes))
    for value in (0.0, np.nan, -1.0):
        inputs['depth'][:] = value
        for output in session.run(None, inputs):
            assert not output.any()


def test_the_model_stays_as_it_was(randomised):
    model = randomised(SMALL)
    before = copy.deepcopy(model.state_dict())
    build_graph(model, None, GraphSizes((96, 64), (12, 8)))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert isinstance(torch.zeros(2).shape, torch.Size)
