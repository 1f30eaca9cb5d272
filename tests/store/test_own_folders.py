"""Folders of ours that a command cannot take: it says what they are, and what takes them."""

import shutil
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.store.own_folders import OWN_FOLDERS, own_kind

ARCHIVE = Path(__file__).parents[1] / "data" / "archive"
ARCHIVED = {"epochs": "epochs-1", "run": "run-1", "model": "model-1"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of every kind, by its name: archived ones, or a manifest alone."""
    for kind in OWN_FOLDERS:
        folder = tmp_path / kind
        if kind in ARCHIVED:
            shutil.copytree(ARCHIVE / ARCHIVED[kind], folder)
        else:
            folder.mkdir()
            store.Manifest(f"sleeptools-{kind}").write(folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = [
    *(("inspect", k) for k in OWN_FOLDERS if k not in ("recordings", "scores", "simulated")),
    *(("score default", k) for k in OWN_FOLDERS if k not in ("recordings", "simulated")),
    *(("hypnogram", k) for k in OWN_FOLDERS if k != "scores"),
]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("words", "kind"), REFUSED)
def test_a_folder_of_another_kind_is_named_with_its_command(command, words, kind):
    further = {"hypnogram": ["out"], "score default": ["--out", "out"]}.get(words, [])
    ran = command(*words.split(), kind, *further)
    told, hint = OWN_FOLDERS[kind]
    assert (ran.code, ran.out) == (65, "")
    assert f"error: {kind}: holds {told}; expected " in ran.err
    assert hint.replace("{}", kind).split("`")[0] in ran.err
    assert "sleeptools-" not in ran.err


def test_every_folder_is_known_and_others_are_not(project):
    assert {k: own_kind(project / k) for k in OWN_FOLDERS} == {k: k for k in OWN_FOLDERS}
    (project / "other").mkdir()
    (project / "other" / "config.json").write_text('{"format": "sleeptools-unheard"}')
    assert own_kind(project / "other") == own_kind(project / "absent") == ""
