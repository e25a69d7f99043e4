"""A stand-in of a container runtime: ``run`` starts a server that is nobody's child and knows no
variable of ours, and stays with it as its client; ``stop`` ends it. It notes each stop.

Run as a program: ``python container_double.py run|stop NOTES NAME [PORT]``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER = Path(__file__).with_name("strict_server.py")


def main(verb: str, notes: str, name: str, *port: str) -> None:
    folder = Path(notes)
    if verb == "stop":
        with (folder / "stops").open("a") as stops:
            stops.write(f"{name}\n")
        os.kill(int((folder / name).read_text()), signal.SIGKILL)
        return
    if (pid := os.fork()) == 0:
        command = [sys.executable, str(SERVER), "--port", port[0], "--notes", notes]
        null = subprocess.DEVNULL
        server = subprocess.Popen(
            command, stdin=null, stdout=null, stderr=null, env={}, start_new_session=True
        )
        (folder / "new").write_text(str(server.pid))
        (folder / "new").rename(folder / name)
        os._exit(0)
    os.waitpid(pid, 0)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
