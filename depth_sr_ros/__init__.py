# SPDX-License-Identifier: Apache-2.0
"""Dense metric depth at camera rate from RGB and poor depth, for ROS 2 and for notebooks."""
