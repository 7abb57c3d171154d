# SPDX-License-Identifier: Apache-2.0
"""A small model, and what stands in for CUDA graphs."""

import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_sr_ros.inference.graphs import Recording
from depth_sr_ros.inference.torch_engine import TorchEngine
from depth_sr_ros.model.config import (
    DEPTH_ANYTHING_EMBEDDED,
    DepthSRConfig,
    FusionUNetConfig,
    RelativeDepthConfig,
)
from depth_sr_ros.model.depth_sr import DepthSR

_GUIDE = {
    **DEPTH_ANYTHING_EMBEDDED,
    'backbone_config': {
        **DEPTH_ANYTHING_EMBEDDED['backbone_config'],
        'hidden_size': 16,
        'num_hidden_layers': 4,
        'num_attention_heads': 2,
        'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
    },
    'reassemble_hidden_size': 16,
    'neck_hidden_sizes': [4, 4, 8, 8],
    'fusion_hidden_size': 8,
    'head_hidden_size': 4,
}


class _Tape(TorchDispatchMode):
    """Keeps every operator with its arguments and results, which live on with it."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        results = operator(*args, **kwargs)
        read = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        # Views need not be made again: they show the memory that is written to.
        written = [t for t in _tensors(results) if t.untyped_storage().data_ptr() not in read]
        if written or operator._schema.is_mutable:
            self.steps.append((operator, args, kwargs, results))
        return results

    def replay(self):
        for operator, args, kwargs, results in self.steps:
            again = operator(*args, **kwargs)
            if not operator._schema.is_mutable:
                for old, new in zip(_tensors(results), _tensors(again), strict=True):
                    old.copy_(new)


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class TapeRecorder:
    """A CUDA graph in software: replays the operators of one run, and none of the model's Python.

    As with a graph, everything happens in the memory of the run that was recorded: the inputs are
    what was read there, the outputs are overwritten, and what depended on values (an `if`, an
    `.item()`) stays as it was then.
    """

    def __init__(self):
        self.recorded = 0
        self.replayed = 0
        self.reset = 0

    def __call__(self, function):
        self.recorded += 1
        with _Tape() as tape:
            outputs = function()
        for output in outputs:
            output.fill_(torch.nan)  # recording a graph computes nothing

        def replay():
            self.replayed += 1
            tape.replay()

        def reset():
            self.reset += 1
            tape.steps.clear()

        return Recording(outputs, replay, reset)


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny operators wait for each other's threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def recorder():
    return TapeRecorder()


@pytest.fixture(scope='session')
def small_model():
    """A DepthSR with random weights all through, and a guide of 224 pixels."""
    torch.manual_seed(0)
    model = DepthSR(
        DepthSRConfig(
            fusion=FusionUNetConfig(stem=4, widths=(8, 8, 8, 8), training_size=64),
            relative_depth=RelativeDepthConfig(_GUIDE, short_side=224),
        )
    )
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            if not parameter.any():  # what starts as zero would hide what is before it
                parameter.normal_(std=0.3)
        for parameter in model.relative_depth.network.parameters():
            if parameter.dim() > 1:  # at their usual start the picture hardly matters
                parameter.normal_(std=0.2)
    return model


@pytest.fixture
def make_engine(small_model):
    """`make_engine(guide=True, **options)`: a TorchEngine on the CPU, with a model of its own."""

    def make(guide=True, **options):
        model = copy.deepcopy(small_model)
        return TorchEngine(
            model,
            guide=model.relative_depth if guide else None,
            device=torch.device('cpu'),
            dtype=torch.float32,
            **options,
        )

    return make


@pytest.fixture
def pair():
    """`pair(width, height, seed=0)`: RGB and depth at a quarter of its size, with holes."""

    def make(width, height, seed=0):
        generator = np.random.default_rng(seed)
        rgb = generator.integers(0, 256, (height, width, 3), np.uint8)
        depth = generator.uniform(0.5, 4.0, (height // 4, width // 4)).astype(np.float32)
        depth[generator.random(depth.shape) < 0.1 * seed] = 0
        return rgb, depth

    return make
