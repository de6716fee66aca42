"""A finished file takes another's place: at once, and for the eyes of whom that was for."""

import os
from pathlib import Path

import pytest

from backfill.files.placing import beside, put


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "page.html"
    place.write_text("old")
    place.chmod(mode)
    with beside(tmp_path, ".page.", ".part") as part:
        assert part.stat().st_mode & 0o777 == 0o600
        part.write_text("new")
        put(part, place)
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("new", mode)
    assert list(tmp_path.iterdir()) == [place]


def test_a_new_file_may_be_read_by_whom_the_umask_allows_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with beside(tmp_path, ".page.", ".part") as part:
            put(part, tmp_path / "page.html")
    finally:
        os.umask(before)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_put_nowhere_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no room"), beside(tmp_path, ".page.", ".part"):
        raise OSError("no room")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_replaced_stays_its_groups_and_its_owners(tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    place.write_text("old")
    place.chmod(0o640)
    own = place.stat().st_gid
    owner, group = -1, next((one for one in os.getgroups() if one != own), own)
    if os.geteuid() == 0:
        owner, group = 54_321, 54_322
    os.chown(place, owner, group)
    was = place.stat()
    with beside(tmp_path, ".page.", ".part") as part:
        part.write_text("new")
        put(part, place)
    now = place.stat()
    assert place.read_text() == "new"
    assert (now.st_uid, now.st_gid, now.st_mode) == (was.st_uid, was.st_gid, was.st_mode)
