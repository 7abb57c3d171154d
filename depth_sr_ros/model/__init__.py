# SPDX-License-Identifier: Apache-2.0
"""The network: guide, fusion U-Net, configuration and export."""
