"""A file is whole or it is not there."""

from __future__ import annotations

import os

import pytest

from spcli.errors import UsageError
from spcli.writers import append_manifest, read_manifest, replacing, write_text


def test_the_old_content_stays_until_the_new_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    write_text(str(path), "old")
    with replacing(str(path)) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_interruption_leaves_neither_the_file_nor_a_trace_of_it(tmp_path, failure):
    with pytest.raises(failure), replacing(str(tmp_path / "a.txt")) as stream:
        stream.write(b"half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made(tmp_path):
    write_text(str(tmp_path / "x" / "y" / "a.txt"), "text")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "text"


def test_a_symbolic_link_keeps_pointing_at_its_target(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(str(tmp_path / "link"), "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"


def test_a_device_is_written_to_and_not_replaced():
    write_text("/dev/null", "text")
    assert not os.path.isfile("/dev/null")


def test_a_new_file_has_the_permissions_the_user_asked_for(tmp_path):
    previous = os.umask(0o027)
    try:
        write_text(str(tmp_path / "a.txt"), "text")
    finally:
        os.umask(previous)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_written_is_a_usage_error_that_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/a\.txt: cannot be written \(.*\)"):
        write_text(str(tmp_path / "file" / "a.txt"), "text")


def test_a_folder_in_the_way_is_a_usage_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_text(str(tmp_path / "a"), "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_the_manifest_keeps_its_order(tmp_path):
    append_manifest(str(tmp_path), {"source": "a"})
    append_manifest(str(tmp_path), {"source": "b"})
    assert read_manifest(str(tmp_path)) == [{"source": "a"}, {"source": "b"}]


def test_a_manifest_line_that_was_cut_is_skipped_and_does_not_spoil_the_next(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(b'{"source": "a"}\n{"sour')
    append_manifest(str(tmp_path), {"source": "b"})
    assert read_manifest(str(tmp_path)) == [{"source": "a"}, {"source": "b"}]


def test_a_folder_without_a_manifest_has_no_entries(tmp_path):
    assert read_manifest(str(tmp_path)) == []
