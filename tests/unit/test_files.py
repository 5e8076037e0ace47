import json
import os
from pathlib import Path

import pytest

from keepshot import files
from keepshot.errors import RunError
from keepshot.files import new_folder, put_back, read_json, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_replaces_text_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old and long")
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert names(path.parent) == ["b.txt"]


def test_a_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_json_is_standard_json_and_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "ü": "é"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert json.loads((tmp_path / "x.json").read_bytes()) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[1]", "holds a list, not a JSON object"),
    ],
)
def test_what_is_no_json_object_is_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_appears_at_once_and_replaces_the_old(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with new_folder(tmp_path / "model") as aside:
            (aside / "deep").mkdir()
            (aside / "deep" / text).write_text(text)
            assert [path.name for path in tmp_path.glob("model/deep/*")] == (["first"] if text == "second" else [])
        assert names(tmp_path / "model" / "deep") == [text]
    assert names(tmp_path) == ["model"]


def test_an_error_leaves_the_old_folder_and_the_next_try_starts_clean(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as aside:
        (aside / "old").touch()

    def fail() -> None:
        with new_folder(tmp_path / "model") as aside:
            (aside / "half").touch()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert names(tmp_path / "model") == ["old"]
    with new_folder(tmp_path / "model") as aside:
        assert names(aside) == []
        (aside / "new").touch()
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_every_file_is_on_disk_before_the_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: flushed.append((tmp_path / "model").exists()))
    with new_folder(tmp_path / "model") as aside:
        (aside / "a").touch()
        (aside / "deep").mkdir()
        (aside / "deep" / "b").touch()
    assert flushed[:2] == [False, False]
    assert flushed[-1] is True


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as aside:
        (aside / "a").write_text("old")
    (tmp_path / "model").rename(tmp_path / ".model.old")  # as a kill leaves it
    put_back(tmp_path / "model")
    assert (tmp_path / "model" / "a").read_text() == "old"
    put_back(tmp_path / "model")
    assert names(tmp_path) == ["model"]
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "model"):
        raise ValueError("no")
    assert (tmp_path / "model" / "a").read_text() == "old"


def test_a_kill_amid_the_deletion_of_the_old_folder_puts_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(text: str) -> None:
        with new_folder(tmp_path / "model") as aside:
            (aside / text).touch()

    write("old")
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # as if nothing could be deleted any more
    write("new")
    monkeypatch.undo()
    (tmp_path / "model" / "new").unlink()
    (tmp_path / "model").rmdir()
    put_back(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    write("newest")
    assert names(tmp_path) == ["model"]


def test_a_kill_after_both_renames_is_made_good(tmp_path: Path) -> None:
    for name in ("model", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    with new_folder(tmp_path / "model") as aside:
        assert names(tmp_path) == [".model.part", "model"]
        (aside / "new").touch()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["new"]
