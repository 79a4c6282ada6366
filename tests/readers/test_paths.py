"""From the command line's words to a list of scans."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from spcli.errors import InputError, UsageError
from spcli.readers import ScanPath, colliding, find_scans, read_list, stem_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.bin", "a.npy", "deep/er/c.pcd", "deep/a.PLY", "deep/d.xyz", "deep/e.npz", "f.voxels.npz",
        "notes.txt", "calib.yaml", ".hidden.bin", ".git/x.bin",
        "b.features.npz", "b.features.conv1.npz", "b.rulebooks.npz", "b.stats.json",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(scans: list[ScanPath], root: Path) -> list[str]:
    return [os.path.relpath(scan.source, root) for scan in scans]


# --- directories -----------------------------------------------------------------------------------------------------


def test_a_directory_stands_for_the_scans_below_it_sorted_by_path(tree: Path) -> None:
    assert names(find_scans([str(tree)]), tree) == [
        "a.npy", "b.bin", "deep/a.PLY", "deep/d.xyz", "deep/e.npz", "deep/er/c.pcd", "f.voxels.npz",
    ]  # fmt: skip


def test_relative_dir_is_the_folder_between_the_directory_and_the_scan(tree: Path) -> None:
    found = {scan.stem: scan.relative_dir for scan in find_scans([str(tree / "deep"), str(tree / "b.bin")])}
    assert found == {"a": "", "d": "", "e": "", "c": "er", "b": ""}
    assert {scan.relative_dir for scan in find_scans([str(tree) + "/"])} == {"", "deep", "deep/er"}


def test_arguments_keep_their_order_and_files_are_not_looked_at(tree: Path) -> None:
    given = [str(tree / "none.bin"), "-", str(tree / "deep/er"), str(tree / "notes.txt")]
    assert [scan.source for scan in find_scans(given)] == [given[0], "-", str(tree / "deep/er/c.pcd"), given[3]]


def test_linked_directories_are_searched_once_and_loops_end(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "z.bin").touch()
    (tree / "link").symlink_to(outside)
    (tree / "deep" / "loop").symlink_to(tree)
    assert names(find_scans([str(tree)]), tree).count("link/z.bin") == 1
    assert sum(scan.stem == "b" for scan in find_scans([str(tree)])) == 1


def test_a_directory_without_scans_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no scan; scans are files named \*\.bin"):
        find_scans([str(tmp_path)])


# --- stems -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("dir/a.bin", "a"),
        ("a.voxels.npz", "a"),
        ("a.b.bin", "a.b"),
        ("n015-2018.pcd.bin", "n015-2018.pcd"),
        ("-", "stdin"),
        ("noext", "noext"),
        ("mein scan (1) ü.bin", "mein_scan__1___"),
        (".voxels.npz", ".voxels"),
        ("a.features.npz", "a"),
    ],
)
def test_the_stem_is_the_name_without_suffix_in_plain_characters(source: str, stem: str) -> None:
    assert stem_of(source) == stem


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_has_one_path_a_line(tmp_path: Path) -> None:
    assert read_list(io.BytesIO(b"a.bin\n\n dir/b c.bin \r\nlast.bin")) == ["a.bin", " dir/b c.bin ", "last.bin"]


def test_a_nul_list_may_hold_any_path() -> None:
    assert read_list(io.BytesIO(b"a\nb.bin\0\xff.bin\0"), nul=True) == ["a\nb.bin", os.fsdecode(b"\xff.bin")]


@pytest.mark.parametrize("data", [b"a.bin\0b.bin\0", b"\x00\x01\n\xff"])
def test_a_list_of_lines_with_nul_bytes_asks_for_the_option(data: bytes) -> None:
    with pytest.raises(UsageError, match="pass -0"):
        read_list(io.BytesIO(data))


# --- collisions ------------------------------------------------------------------------------------------------------


def test_two_scans_with_one_stem_are_found_and_both_named(tree: Path) -> None:
    found = colliding(find_scans([str(tree)]))
    assert found == (str(tree / "a.npy"), str(tree / "deep/a.PLY"))


def test_with_the_tree_kept_only_the_same_folder_collides(tree: Path) -> None:
    assert colliding(find_scans([str(tree)]), keep_tree=True) is None
    (tree / "deep" / "c.npy").touch()
    (tree / "deep" / "er" / "c.bin").touch()
    found = colliding(find_scans([str(tree)]), keep_tree=True)
    assert found == (str(tree / "deep/er/c.bin"), str(tree / "deep/er/c.pcd"))


def test_the_same_scan_twice_collides() -> None:
    assert colliding(find_scans(["a.bin", "a.bin"])) == ("a.bin", "a.bin")
    assert colliding(find_scans(["a.bin", "b.bin", "-"])) is None
