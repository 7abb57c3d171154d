# SPDX-License-Identifier: Apache-2.0
"""Losses, the Lightning module and the training command."""
