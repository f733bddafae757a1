"""Kernels are compiled once, and it is said where they are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import logging
logging.basicConfig(level=logging.INFO)
from vigie.detectors.compiled import evidence, odds
"""


@pytest.mark.slow
def test_the_first_process_compiles_and_says_where_to_and_the_next_is_silent(tmp_path: Path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def said() -> str:
        command = [sys.executable, "-c", CODE]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return ended.stderr

    first = said()
    assert first.count("functions are compiled once") == 1
    assert str(tmp_path) in first
    assert any(tmp_path.rglob("*.nbc"))
    assert said() == ""


def test_without_just_in_time_compilation_the_kernels_are_plain_functions(tmp_path: Path):
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", CODE]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
