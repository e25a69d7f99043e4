"""Which folders are looked through, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from modelpool.catalog.sources.windows_paths import posix_path
from modelpool.discovery.roots import (
    HUNG_RETRY_SECONDS,
    Root,
    RootReport,
    can_be_watched,
    file_system_of,
    given_path,
    is_due,
)

READY = RootReport(Root("/m"), "ready", tried_at=1000.0, looked_at=1000.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"C:\models", "/mnt/c/models"),
        ("d:/DEV/All-Project/AI-models", "/mnt/d/DEV/All-Project/AI-models"),
        ("E:\\", "/mnt/e"),
        (r"\\wsl$\Ubuntu\home\me\models", "/home/me/models"),
        ("//wsl.localhost/Debian/srv", "/srv"),
        ("/srv/C:/models", "/srv/C:/models"),
        ("models", "models"),
    ],
)
def test_windows_paths(text: str, expected: str) -> None:
    assert posix_path(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~/m", "/home/me/m"),
        ("m/../n/", "/etc/pool/n"),
        ("/a//b/./c", "/a/b/c"),
        (r"C:\models", "/mnt/c/models"),
    ],
)
def test_paths_as_people_write_them(text: str, expected: str) -> None:
    assert given_path(text, "/home/me", "/etc/pool") == expected


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "relative/to/nothing"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"should be|must be"):
        given_path(text, "/home/me")


@pytest.mark.parametrize(
    ("report", "now", "changed", "is_watched", "expected"),
    [
        (RootReport(Root("/m")), 0.0, None, False, True),
        (replace(READY, state="scanning"), 9e9, None, False, False),
        (READY, 1299.0, None, False, False),
        (READY, 1300.0, None, False, True),
        (READY, 9e9, None, True, False),
        (READY, 1004.0, (1000.0, 1000.0), True, False),
        (READY, 1005.0, (1000.0, 1000.0), True, True),
        (READY, 1006.0, (1000.0, 1005.0), True, False),
        (READY, 1031.0, (1000.0, 1030.0), True, True),
        (replace(READY, state="unreadable"), 1300.0, None, True, True),
        (replace(READY, state="hung"), 1300.0, None, False, False),
        (replace(READY, state="hung"), 1000.0 + HUNG_RETRY_SECONDS, None, False, True),
    ],
)
def test_when_a_root_is_due(
    report: RootReport,
    now: float,
    changed: tuple[float, float] | None,
    is_watched: bool,
    expected: bool,
) -> None:
    assert is_due(report, now, 300.0, changed, 5.0, is_watched) is expected


def test_no_interval_means_never() -> None:
    assert not is_due(READY, 9e9, 0.0, None, 5.0, False)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /mnt/c rw,noatime - 9p C:\\134 rw
31 22 0:31 / /mnt/my\\040nas rw - nfs4 nas:/export rw
33 22 8:3 / /mnt/größer rw - btrfs /dev/sdc rw
32 31 8:2 / /mnt/my\\040nas/local rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "watched"),
    [
        ("/srv/models", "ext4", True),
        ("/mnt/c/models", "9p", False),
        ("/mnt/cc", "ext4", True),
        ("/mnt/my nas", "nfs4", False),
        ("/mnt/my nas/local/x", "xfs", True),
        ("/mnt/größer/x", "btrfs", True),
    ],
)
def test_file_systems_are_told_without_touching_them(path: str, kind: str, watched: bool) -> None:
    assert file_system_of(path, MOUNTS) == kind
    assert can_be_watched(kind) is watched


def test_a_system_without_a_list_of_mounts_is_watched() -> None:
    assert can_be_watched(file_system_of("/m", ""))
