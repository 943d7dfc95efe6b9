"""What scripts read outside their folder is found in their code, if it exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightlab.project.reach import outside


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ('import os\nD = os.path.join(os.path.expanduser("~"), ".cache", "lab")', "~/.cache/lab"),
        ('D = os.path.join(os.path.expanduser("~"), ".cache", "lab", name)', "~/.cache/lab"),
        ('from pathlib import Path\nD = Path.home() / ".cache" / "lab"', "~/.cache/lab"),
        ('D = Path.home().joinpath(".cache", "lab")', "~/.cache/lab"),
        ('D = os.path.expanduser("~/.cache/lab")', "~/.cache/lab"),
        ("from transformers import AutoModel", "~/.cache/huggingface"),
    ],
)
def test_places_in_the_home_are_found(tmp_path: Path, source: str, place: str) -> None:
    assert outside([source], tmp_path) == ()  # nothing is there yet
    (tmp_path / place[2:]).mkdir(parents=True)
    assert outside([source], tmp_path) == (place,)


def test_data_elsewhere_is_found_and_system_folders_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nightlab.project.reach._SYSTEM", {"usr", "etc"}
    )  # a test's own folder is in /tmp
    data = tmp_path / "elsewhere" / "data"
    data.mkdir(parents=True)
    source = f"A = {str(data)!r}\nB = '/usr/lib/x'\nC = '/etc/passwd'\nD = '/nowhere/at/all'"
    assert outside([source], tmp_path / "home") == (str(data),)


@pytest.mark.parametrize("name", [".ssh", ".aws", ".config", ".."])
def test_secrets_and_ways_out_are_never_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "x").mkdir(parents=True, exist_ok=True)
    assert outside([f'D = os.path.expanduser("~/{name}/x")'], tmp_path) == ()


def test_a_file_that_does_not_parse_names_nothing(tmp_path: Path) -> None:
    assert outside(["def (", "x = '\\0/a/b'"], tmp_path) == ()
