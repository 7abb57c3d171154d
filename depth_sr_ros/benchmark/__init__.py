# SPDX-License-Identifier: Apache-2.0
"""`depth_sr benchmark`: how fast it is here, beside a reference and beside others, in one run."""
