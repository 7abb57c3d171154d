# SPDX-License-Identifier: Apache-2.0
# make demo    a real node over a real stream, figures and a picture in out/
# make test    the tests          make lint    ruff and mypy
# make performance    measure the speed and write the tables of docs/performance.md
# make venv    only .venv         make clean
# Each makes .venv when it is needed; PYTHON chooses the interpreter (3.10 to 3.13).

PYTHON ?= python3
PYTEST_ARGS ?=

# The stamps' names tell a .venv beside a sourced ROS from one with ROS 2 wheels.
ros := $(shell [ -n "$$ROS_DISTRO" ] && $(PYTHON) -c 'import rclpy' 2>/dev/null && echo $$ROS_DISTRO)
kind := $(or $(ros),wheels)
ifeq ($(kind),wheels)
unexport PYTHONPATH AMENT_PREFIX_PATH
make_venv := $(PYTHON) tools/make_venv.py
else
make_venv := $(PYTHON) tools/make_venv.py --beside-ros
endif
inputs := setup.py setup.cfg constraints.txt tools/make_venv.py
installed := .venv/$(kind).stamp
installed_dev := .venv/$(kind)-dev.stamp

.PHONY: venv demo test lint performance clean

venv: $(installed)

demo: $(installed)
	.venv/bin/python -m depth_sr_ros.ros.demo

test: $(installed_dev)
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(installed_dev)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m mypy

performance: $(installed)
	.venv/bin/depth_sr benchmark --resume --json out/benchmark.json
	.venv/bin/python tools/write_performance_tables.py out/benchmark.json

clean:
	rm -rf .venv out build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find depth_sr_ros launch test tools -name __pycache__ -prune -exec rm -rf {} +

$(installed): $(inputs)
	@$(make_venv)
	@touch $@

$(installed_dev): $(inputs)
	@$(make_venv) --dev
	@touch $(installed) $@
