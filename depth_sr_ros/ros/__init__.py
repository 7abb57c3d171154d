# SPDX-License-Identifier: Apache-2.0
"""The ROS half: messages, time and topics, never a tensor."""
