"""Folders of local state: private, and not left behind by processes that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vigie.state import make_private, remove_abandoned

PROGRAM = """
import tempfile, time
from pathlib import Path
from vigie.state import hold

folder = Path(tempfile.mkdtemp(prefix="vigie-training-"))
held = hold(folder)
print(folder, flush=True)
time.sleep(600)
"""


def test_the_temporary_folder_of_a_killed_process_is_removed_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = tmp_path / "vigie-elsewhere"
    other.mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        remove_abandoned()
        assert folder.is_dir()
        process.kill()
        process.wait()
    remove_abandoned()
    assert not folder.exists()
    assert other.is_dir()


def test_new_folders_are_private_and_existing_ones_stay(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    make_private(shared / "state" / "models")
    modes = [
        path.stat().st_mode & 0o777 for path in (shared, shared / "state", shared / "state/models")
    ]
    assert modes == [0o755, 0o700, 0o700]
