# SPDX-License-Identifier: Apache-2.0
"""What Lightning trains: the fusion network (with or without its guide), or the guide alone."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from depth_sr_ros.model.depth_sr import DepthNormalisation, DepthSR, DepthSROutput
from depth_sr_ros.model.relative_depth import RelativeDepth, normalise_relative_depth
from depth_sr_ros.training.config import TrainingConfig
from depth_sr_ros.training.losses import (
    CONFIDENT_RELATIVE_ERROR,
    confidence_loss,
    fusion_loss,
    guide_loss,
    mean_depth,
    mean_square_error,
    ratio_loss,
)
from depth_sr_ros.training.samples import Sample, crop_window, prepared_depth

_FINAL_RATE = 0.02
# An error of this share of the depth is none: ratios of smaller ones mean nothing.
_EXACT = 2e-4


def rate_factor(config: TrainingConfig, total_steps: int, step: int) -> float:
    """Learning rate at `step` relative to the configured one."""
    if config.schedule == 'constant':
        return 1.0
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return _FINAL_RATE + (1.0 - _FINAL_RATE) * cosine


def weight_groups(
    module: torch.nn.Module, rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups: biases, norms and gains are not decayed."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {'params': [p for p in parameters if p.ndim >= 2 and max(p.shape) < p.numel()], 'lr': rate,
         'weight_decay': weight_decay},
        {'params': [p for p in parameters if p.ndim < 2 or max(p.shape) == p.numel()], 'lr': rate,
         'weight_decay': 0.0},
    ]  # fmt: skip


class _Training(pl.LightningModule):
    """Common part: optimiser and schedule."""

    def __init__(self, config: TrainingConfig, total_steps: int):
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        # Lightning's own count reads 0 while validating after the end of training.
        self.trained_steps = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained_steps = self.trainer.global_step

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their learning rates."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.groups(), betas=(0.9, 0.99))
        schedule = LambdaLR(
            optimizer, lambda step: rate_factor(self.config, self.total_steps, step)
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }


class FusionTraining(_Training):
    """The U-Net with the seed's loss; with `joint_guide`, Depth Anything at its own rate.

    Args:
        model: what is trained.
        config: the run.
        total_steps: for the schedule.
        degradations: names of the validation degradations, in the order of their numbers.
    """

    def __init__(
        self, model: DepthSR, config: TrainingConfig, total_steps: int, degradations: list[str]
    ):
        super().__init__(config, total_steps)
        self.model = model
        self.degradations = degradations
        if model.relative_depth is not None:
            model.relative_depth.requires_grad_(config.joint_guide)
        self._sums: dict[int, Tensor] = {}

    def groups(self) -> list[dict[str, Any]]:
        config = self.config
        groups = weight_groups(self.model.fusion, config.learning_rate, config.weight_decay)
        if config.joint_guide and self.model.relative_depth is not None:
            groups += weight_groups(
                self.model.relative_depth, config.guide_learning_rate, config.weight_decay
            )
        return groups

    def forward(self, batch: Sample) -> DepthSROutput:
        """Run the model on prepared crops."""
        relative: Tensor | None = batch['relative']
        if self.config.joint_guide and self.model.relative_depth is not None:
            # As in use: of whole frames, and normalised by them.
            whole = normalise_relative_depth(self.model.relative_depth(batch['frame']))
            relative = crop_window(whole, batch['window'], batch['rgb'].shape[-2:])
        return self.model.fuse(
            batch['rgb'],
            prepared_depth(batch),
            relative,
            DepthNormalisation(batch['median'], batch['scale']),
        )

    def training_step(self, batch: Sample, _index: int) -> Tensor:
        output = self(batch)
        truth = batch['truth']
        config = self.config
        depth_loss = fusion_loss(
            output.depth,
            truth,
            space=config.loss_space,
            edge_weight=config.edge_weight,
            scales=config.edge_scales,
            square_weight=config.square_weight,
        )
        confidence = confidence_loss(output.confidence_logit, output.depth, truth)
        loss = depth_loss + config.confidence_weight * confidence
        if config.ratio_weight:
            ratio = ratio_loss(output.depth, truth, output.interpolated)
            loss = loss + config.ratio_weight * ratio
            self.log('ratio_loss', ratio, prog_bar=True, batch_size=truth.shape[0])
        size = truth.shape[0]
        self.log('loss', loss, prog_bar=True, batch_size=size)
        self.log('depth_loss', depth_loss, prog_bar=True, batch_size=size)
        self.log('confidence_loss', confidence, batch_size=size)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batches: list[Sample], index: int) -> None:
        outputs = [self._validate(batch) for batch in batches]
        if index == 0:
            self._log_pictures(batches[0], outputs[0])

    def _validate(self, batch: Sample) -> DepthSROutput:
        output = self(batch)
        truth = batch['truth']
        mask = (truth > 0).float()
        count = mask.sum(dim=(1, 2, 3)).clamp_min(1.0)
        relative = (output.depth - truth).abs() / truth.clamp_min(1e-6)
        right = (relative < CONFIDENT_RELATIVE_ERROR).float()
        calibration = (torch.sigmoid(output.confidence_logit) - right).square()
        calibration = (calibration * mask).sum(dim=(1, 2, 3)) / count
        # By frame: a mean of metres would be that of the farthest scenes.
        floor = _EXACT * mean_depth(truth) + 1e-9
        rmse, before = (
            mean_square_error(depth, truth).sqrt() for depth in (output.depth, output.interpolated)
        )
        ratio = (rmse + floor) / (before + floor)
        rows = torch.stack([ratio.log(), calibration, torch.ones_like(count)], 1)
        for kind, row in zip(batch['kind'].tolist(), rows.double().cpu(), strict=True):
            self._sums[kind] = self._sums.get(kind, torch.zeros(3, dtype=torch.float64)) + row
        return output

    def on_validation_epoch_end(self) -> None:
        logarithms = []
        for kind, sums in sorted(self._sums.items()):
            logarithms.append(float(sums[0] / sums[2]))
            self.log(f'ratio/{self.degradations[kind]}', math.exp(logarithms[-1]))
        brier = sum(float(sums[1] / sums[2]) for sums in self._sums.values())
        self.log('brier', brier / max(1, len(self._sums)))
        # The one score that weights are chosen by.
        score = math.exp(sum(logarithms) / max(1, len(logarithms)))
        self.log('score', score, prog_bar=True)

    def _log_pictures(self, batch: Sample, output: DepthSROutput) -> None:
        if not hasattr(self.logger, 'add_image'):
            return
        from depth_sr_ros.training.preview import sample_sheet

        sheet = sample_sheet(batch, output.depth.float(), limit=6)
        self.logger.add_image('validation', sheet, self.global_step, dataformats='HWC')


class GuideTraining(_Training):
    """Depth Anything from scratch or from a checkpoint, with a scale- and shift-invariant loss."""

    def __init__(self, guide: RelativeDepth, config: TrainingConfig, total_steps: int):
        super().__init__(config, total_steps)
        self.guide = guide
        self._losses: list[Tensor] = []

    def groups(self) -> list[dict[str, Any]]:
        return weight_groups(self.guide, self.config.learning_rate, self.config.weight_decay)

    def _loss(self, batch: Sample) -> Tensor:
        return guide_loss(self.guide(batch['rgb']), batch['truth'])

    def training_step(self, batch: Sample, _index: int) -> Tensor:
        loss = self._loss(batch)
        self.log('loss', loss, prog_bar=True, batch_size=batch['rgb'].shape[0])
        return loss

    def on_validation_epoch_start(self) -> None:
        self._losses = []

    def validation_step(self, batch: Sample, _index: int) -> None:
        self._losses.append(self._loss(batch).cpu())

    def on_validation_epoch_end(self) -> None:
        self.log('score', float(torch.stack(self._losses).mean()), prog_bar=True)
