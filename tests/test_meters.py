"""What lies in a run's folders, watched from outside while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightlab import process
from nightlab.process import _meters
from nightlab.process._meters import Disk


def passed(disk: Disk) -> bool:
    """One whole pass over the folders, whatever it costs."""
    disk.over()
    while disk._pass is not None and not disk.full:
        disk.over()
    return bool(disk.full)


def disk_of(folder: Path, limit_bytes: int) -> Disk:
    return Disk([os.fsencode(folder)], limit_bytes)


def test_blocks_count_and_holes_and_second_names_do_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").write_bytes(b"x" * (1 << 20))
    os.link(tmp_path / "a" / "full", tmp_path / "again")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "out").symlink_to("/usr")
    (tmp_path / "round").symlink_to(".")
    assert not passed(disk_of(tmp_path, (1 << 20) + (1 << 16)))
    assert passed(disk_of(tmp_path, (1 << 20) - 1))


def test_without_a_limit_nothing_is_looked_at(tmp_path: Path) -> None:
    disk = Disk([b"/"], None)
    assert not disk.over()
    assert disk._pass is None


def test_too_many_files_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_meters, "MOST_ENTRIES", 50)
    for number in range(51):
        (tmp_path / str(number)).touch()
    disk = disk_of(tmp_path, 1 << 40)
    assert passed(disk)
    assert disk.full == "files"


def test_folders_too_deep_to_be_looked_at_are_too_much(tmp_path: Path) -> None:
    program = "import os\nfor _ in range(30): os.mkdir('d' * 200); os.chdir('d' * 200)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    disk = disk_of(tmp_path, 1 << 40)
    assert passed(disk)
    assert disk.full == "depth"
    subprocess.run(["rm", "-rf", "--", str(tmp_path / ("d" * 200))], check=True)


def test_many_files_cost_a_hundredth_of_a_core(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / str(number)).touch()
    disk = disk_of(tmp_path, 1 << 40)
    disk.over()
    began, used = time.monotonic(), time.thread_time()
    while time.monotonic() - began < 2:
        time.sleep(0.05)
        assert not disk.over()
    assert time.thread_time() - used < 0.01 * 2 + 0.06  # what it may have saved up before


def test_a_run_is_ended_for_all_its_files_together_and_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = "for n in 1 2 3 4 5 6 7 8 9; do head -c 300000 /dev/zero > f$n; done; sleep 30"
    finished = process.start(
        ["/bin/sh", "-c", command], env={"PATH": os.environ["PATH"]}, cwd=folder, wall_s=40,
        log=tmp_path / "log", folders=(folder,), disk_bytes=2 << 20,
    ).poll(60)  # fmt: skip
    assert finished is not None
    assert finished.overran == "2 MiB"
    assert finished.cut_short
    assert (finished.timed_out, finished.stopped, finished.oom) == (False, False, False)
    assert finished.duration_s < 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to play")
def test_a_folder_that_its_run_has_closed_is_looked_into_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "big").write_bytes(b"x" * (1 << 20))
    for path in (tmp_path, tmp_path / "closed", tmp_path / "closed" / "big"):
        os.chown(path, 65534, 65534)
    (tmp_path / "closed").chmod(0)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    source = Path(_meters.__file__).parent.parent
    program = (
        f"import os, sys; os.setgid(65534); os.setuid(65534); sys.path[:0] = [{str(source)!r}];"
        f"from nightlab.process._meters import Disk; d = Disk([{os.fsencode(tmp_path)!r}], 1000000);"
        "print(any(d.over() for _ in range(1000)))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program], capture_output=True, text=True, check=False
    )
    if "Permission" in done.stderr or "No module" in done.stderr:
        pytest.skip(f"the other user cannot read this checkout: {done.stderr[-100:]}")
    assert done.stdout.strip() == "True", done.stderr
