"""A disk that is full, by the kernel's own word."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from support.hub import running_hub, sha256
from support.small_disk import small_disk

DATA = random.Random(3).randbytes(1_500_000)
ROOM = 1_000_000
PROGRAM = """
import json, pathlib, sys
from modelpool.pulling.base import RemoteFile
from modelpool.pulling.download import Downloader
from modelpool.pulling.http import new_client
from modelpool.pulling.program import check_room
from modelpool.pulling.records import PullRecord
from modelpool.pulling.throttle import Throttle
from modelpool_client.errors import CannotFit

folder, url, size, digest = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
file = RemoteFile("m.gguf", url, size, digest)
target, said, lines = folder / "m.gguf", {}, []

def attempt(do):
    try:
        do()
    except CannotFit as e:
        return {"code": e.code, "text": e.message}
    return {}

def fetch():
    with new_client() as client:
        Downloader(client, "it", Throttle(), lines.append, lines.append).fetch(file, target)

said["room"] = attempt(lambda: check_room(folder, [file], {}))
said["fetch"] = attempt(fetch)
said["left"] = sorted(path.name for path in folder.iterdir() if path.name != "filler")
said["part"] = (folder / ".m.gguf.part").stat().st_size
said["record"] = attempt(lambda: PullRecord("r" , "m" * 5000, "", (), 0.0).write(folder))
said["litter"] = [path.name for path in (folder / ".pulled").glob("*")]
(folder / "big").unlink()  # somebody makes room
fetch()
said["whole"] = target.stat().st_size
print(json.dumps(said))
"""


def test_what_came_is_kept_and_gone_on_with_when_there_is_room(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    disk = tmp_path / "disk"
    disk.mkdir()
    with running_hub() as hub, small_disk(disk, 2 * ROOM) as (folder, run):
        hub.files["m.gguf"] = DATA
        setup = f"open({str(folder / 'big')!r}, 'wb').write(bytes({ROOM}))\n"
        program.write_text(setup + PROGRAM)
        args = [str(folder), f"{hub.url}/files/m.gguf", str(len(DATA)), f"sha256:{sha256(DATA)}"]
        said = json.loads(run([sys.executable, str(program), *args]))
        asked = [seen.headers.get("range") for seen in hub.asked("/files/")]
    assert said["room"]["code"] == said["fetch"]["code"] == "disk_full"
    assert "2 MB are still to come" in said["room"]["text"]
    assert "room for 1 MB" in said["room"]["text"]
    assert "MB of it are there, 0.0 MB are free" in said["fetch"]["text"]
    assert "resume the job" in said["fetch"]["text"]
    assert said["left"] == [".m.gguf.part", ".m.gguf.part.json", "big"]
    assert 0 < said["part"] < len(DATA)
    assert said["record"]["code"] == "disk_full"
    assert said["litter"] == []
    assert said["whole"] == len(DATA)
    assert asked == [None, f"bytes={said['part']}-"]
