# SPDX-License-Identifier: Apache-2.0
"""Metrics, classical baselines, evaluation and benchmark."""
