"""nginx as a plain reverse proxy before one upstream: what a relay in C costs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil

from bench.figures import BenchError
from bench.messages import HOST
from bench.processes import Child, wait_for_port

INSTALL_HINT = "nginx: not installed, skipped; apt-get install nginx"
START_SECONDS = 10.0
# Kept connections and no buffering of answers, as the documentation says for event streams.
CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream canned {{
        server {host}:{upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://canned;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def is_installed() -> bool:
    """Is it on the path?"""
    return shutil.which("nginx") is not None


def start(folder: Path, port: int, upstream: int) -> Child:
    """Start one that listens on ``port``; returns when it does."""
    home = folder / "nginx"
    home.mkdir()
    file = home / "nginx.conf"
    text = CONFIG.format(folder=home, host=HOST, port=port, upstream=upstream)
    file.write_text(text, encoding="utf-8")
    errors = ["-e", "stderr"]
    child = Child(["nginx", *errors, "-p", str(home), "-c", str(file)], folder / "nginx.log")
    try:
        wait_for_port(port, child, START_SECONDS)
    except BaseException:
        child.stop()
        raise
    return child


def worker_pid(master: Child) -> int:
    """The process that does the work; it is started only after the master listens.

    Raises:
        BenchError: there is none.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        workers = psutil.Process(master.pid).children()
        if workers:
            return workers[0].pid
        time.sleep(0.02)
    raise BenchError(f"nginx has no worker process: {master.last_words()}")
