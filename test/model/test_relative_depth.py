# SPDX-License-Identifier: Apache-2.0
"""The guide, loaded through transformers from small checkpoints that are made here."""

import numpy as np
import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from depth_sr_ros.model.config import DEPTH_ANYTHING_EMBEDDED, RelativeDepthConfig
from depth_sr_ros.model.relative_depth import (
    RelativeDepth,
    guide_size,
    normalise_relative_depth,
)
from depth_sr_ros.pipeline import DepthSRPipeline

ARCHITECTURE = {
    **DEPTH_ANYTHING_EMBEDDED,
    'backbone_config': {
        **DEPTH_ANYTHING_EMBEDDED['backbone_config'],
        'hidden_size': 32,
        'num_hidden_layers': 4,
        'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
    },
    'reassemble_hidden_size': 32,
    'neck_hidden_sizes': [8, 8, 16, 16],
    'fusion_hidden_size': 8,
    'head_hidden_size': 8,
}


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """The same network saved as a relative and as a metric checkpoint."""
    folder = tmp_path_factory.mktemp('checkpoints')
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(DepthAnythingConfig(**ARCHITECTURE))
    # Depth Anything ends in a ReLU: without a bias an untrained one gives zeros.
    with torch.no_grad():
        network.head.conv3.bias.fill_(3.0)
        network.head.conv3.weight.mul_(20.0)
    network.save_pretrained(folder / 'relative')
    metric = DepthAnythingForDepthEstimation(
        DepthAnythingConfig(**ARCHITECTURE, depth_estimation_type='metric', max_depth=20)
    )
    metric.load_state_dict(network.state_dict())
    metric.save_pretrained(folder / 'metric')
    return folder


def test_input_size_is_whole_patches_and_keeps_the_aspect():
    assert guide_size(480, 640, 196) == (196, 266)
    assert guide_size(1080, 1920, 518) == (518, 924)
    assert guide_size(640, 480, 196) == (266, 196)


def test_checkpoint_gives_relative_depth_of_any_image(checkpoints):
    guide = RelativeDepth.from_pretrained(str(checkpoints / 'relative'), short_side=112).eval()
    with torch.inference_mode():
        relative = guide(torch.rand(2, 3, 101, 203))
    assert relative.shape == (2, 1, 112, 224)
    assert relative.std() > 0


def test_metric_checkpoints_are_inverted(checkpoints):
    image = torch.rand(1, 3, 112, 112)
    with torch.inference_mode():
        metric = RelativeDepth.from_pretrained(str(checkpoints / 'metric'), short_side=112).eval()
        depth = metric.network((image - metric.mean) / metric.deviation).predicted_depth
        relative = metric(image)
    assert torch.allclose(relative[:, 0], 1.0 / depth, rtol=1e-4)
    order = np.corrcoef(depth.flatten(), relative.flatten())[0, 1]
    assert order < 0


def test_swapping_the_type_of_the_checkpoint_changes_the_pipeline(checkpoints):
    """In relative depth near is large, in metric depth small: the pipeline tells them apart."""
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 255, (256, 256, 3), np.uint8)
    depth = generator.uniform(1, 3, (32, 32)).astype(np.float32)
    results = [
        DepthSRPipeline.from_pretrained(relative_depth=str(checkpoints / name), device='cpu')(
            rgb, depth
        ).depth
        for name in ('relative', 'metric')
    ]
    assert not np.allclose(*results, rtol=1e-3)


def test_normalisation_forgets_scale_and_shift():
    relative = torch.rand(2, 1, 30, 40)
    changed = relative * torch.tensor([3.0, 0.01]).view(2, 1, 1, 1) + 5.0
    assert torch.allclose(
        normalise_relative_depth(relative), normalise_relative_depth(changed), atol=1e-2
    )
    assert torch.isfinite(normalise_relative_depth(torch.ones(1, 1, 8, 8))).all()


def test_other_checkpoints_are_refused(tmp_path):
    with pytest.raises(OSError, match='nowhere'):
        RelativeDepth.from_pretrained(str(tmp_path / 'nowhere'))
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path / 'vit'
    )
    with pytest.raises((ValueError, RuntimeError, OSError)):
        RelativeDepth.from_pretrained(str(tmp_path / 'vit'))


def test_pickled_checkpoints_are_refused(checkpoints, tmp_path):
    network = DepthAnythingForDepthEstimation.from_pretrained(checkpoints / 'relative')
    network.config.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / 'pytorch_model.bin')
    with pytest.raises(OSError, match='safetensors'):
        RelativeDepth.from_pretrained(str(tmp_path))


def test_an_untrained_guide_is_built_from_the_configuration():
    for seed in range(4):
        torch.manual_seed(seed)
        guide = RelativeDepth(RelativeDepthConfig(ARCHITECTURE, short_side=56))
        relative = guide(torch.rand(1, 3, 64, 64))
        assert relative.shape == (1, 1, 56, 56)
        # It can learn: its last ReLU is open.
        relative.var().backward()
        assert guide.network.head.conv1.weight.grad.abs().sum() > 0
