"""``poolctl`` in a real terminal, as a person sees it: what is written there, keys, a change of its
size, Ctrl-C, and that the terminal is as it was when a command has ended."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pexpect
import pytest
from support.hub import Hub, running_hub

from e2e.conftest import WithModels
from e2e.helpers import WAIT_SECONDS, fake, until
from e2e.support import PoolProcess

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()].|\x1b[=>]")
HOME = "\x1b[H"
POOLCTL = [sys.executable, "-c", "from modelpool_client.cli import main; main()"]
# As from a shell: what it says of the terminal afterwards is what the next command would find.
SHELL = """
stty -a >"$0.before"; trap : INT; "$@"; echo "left with $?"; stty -a >"$0.after"
"""
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
GGUF = (Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf").read_bytes()

# pexpect forks, which newer Pythons warn of where there are threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Terminal:
    """A command in a terminal of its own, of 30 lines of 100 characters."""

    def __init__(self, pool: PoolProcess, folder: Path, *arguments: str) -> None:
        self._noted = folder / "stty"
        sized = {k: v for k, v in pool.environment.items() if k not in ("COLUMNS", "LINES")}
        self._child = pexpect.spawn(
            "/bin/sh",
            ["-c", SHELL, str(self._noted), *POOLCTL, "--url", pool.url, *arguments],
            env={**sized, "TERM": "xterm", "XDG_STATE_HOME": str(folder)},
            dimensions=(30, 100),
            encoding="utf-8",
            timeout=WAIT_SECONDS,
        )
        self._child.delaybeforesend = None
        self.written = ""

    def sees(self, *wanted: str) -> str:
        """Read on until each was written, one after the other; all that was, without what only
        moves the cursor and colours. What was read before that is not looked at again."""
        seen = ""
        for text in wanted:
            try:
                self._child.expect(_spelled(text))
            except (pexpect.TIMEOUT, pexpect.EOF) as e:
                told = CONTROL.sub("", self._child.before)[-2000:]
                raise AssertionError(f"{text!r} was not written, but {told!r}") from e
            seen += self._child.before + self._child.after
        self.written += seen
        return CONTROL.sub("", seen.replace(HOME, "\n"))

    def types(self, keys: str) -> None:
        self._child.send(keys)

    def resize(self, lines: int, columns: int) -> None:
        self._child.setwinsize(lines, columns)

    def ends(self) -> int:
        """The exit code of a command that ends. The terminal is as it was before."""
        self.sees("left with ")
        self._child.expect(pexpect.EOF)
        code = int(self._child.before.split()[0])
        before, after = (self._noted.with_suffix(s).read_text() for s in (".before", ".after"))
        assert _settings(after) == _settings(before)
        for on, off in (("\x1b[?1049l", "\x1b[?1049h"), ("\x1b[?25h", "\x1b[?25l")):
            assert self.written.rfind(on) >= self.written.rfind(off), "screen or cursor is not back"
        return code

    def close(self) -> None:
        self._child.close(force=True)


def _spelled(text: str) -> str:
    """A pattern for it, whatever moves the cursor or colours in between."""
    return rf"(?:{CONTROL.pattern})*".join(map(re.escape, text))


def _settings(stty: str) -> str:
    return stty.partition("\n")[2]  # the first line holds the size


Open = Callable[..., Terminal]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_terminal(pool: PoolProcess, *arguments: str) -> Terminal:
            terminal = Terminal(pool, tmp_path, *arguments)
            stack.callback(terminal.close)
            return terminal

        yield open_terminal


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repos["owner/tiny"] = {"tiny-Q4_0.gguf": GGUF}
        yield hub


@pytest.fixture(scope="module")
def pool_keys(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    models = tmp_path_factory.mktemp("pulled")
    return {"hub_url": hub.url, "models_dir": str(models), "pull_max_mb_per_second": 2}


def test_top_shows_what_changes_and_outlives_the_manager(
    own_pool: WithModels, opened: Open
) -> None:
    pool = own_pool(fake("m"))
    screen = opened(pool, "top", "-d", "0.2")
    screen.sees("no model is loaded")
    pool.load("m")
    screen.sees("HOT")
    pool.ask("m")
    screen.sees("1 of 1 models loaded")
    pool.kill()
    screen.sees("nobody answers")
    pool.start()
    screen.sees("1 of 1 models loaded")
    screen.types(CTRL_C)
    assert screen.ends() == 130


def test_top_hears_keys_and_fits_the_window(own_pool: WithModels, opened: Open) -> None:
    pool = own_pool(fake("a-model-with-a-long-name"))
    pool.load("a-model-with-a-long-name")
    screen = opened(pool, "top", "-d", "600")
    screen.sees("HOT")
    screen.types("x")
    assert "x" not in screen.sees("tokens/s", "HOT"), "what is typed is not shown"
    screen.resize(20, 48)

    def fits() -> bool:
        screen.types(" ")
        lines = screen.sees("tokens/s", "HOT", "\r\n").split("\n")
        return max(len(line.strip("\r")) for line in lines) <= 48

    until(fits, "lines of the new width")
    screen.types("q")
    assert screen.ends() == 0


def test_a_conversation_as_a_person_has_it(own_pool: WithModels, opened: Open) -> None:
    pool = own_pool(fake("m"), fake("slow", options={"tokens": 10_000, "tokens_per_second": 20}))
    talk = opened(pool, "chat", "m")
    talk.sees("> ")
    talk.types("say this\r")
    talk.sees("say this", "say this", "written", "> ")
    talk.types('"""one\rtwo\rthree"""\r')
    talk.sees("… ", "… ", "one\r\ntwo\r\nthree", "> ")
    talk.types("four \\\rfive\r")
    talk.sees("… ", "four \r\nfive", "> ")
    talk.types(UP + "\r")  # the line before that one: what was typed last
    talk.sees("five", "five", "written", "> ")

    talk.types("/set temperature=0.2\r")
    talk.sees("temperature is 0.2", "> ")
    talk.types("/set\r")
    talk.sees("temperature 0.2", "> ")
    talk.types("/nope\r")
    talk.sees("there is no command /nope; /help says which there are", "> ")
    talk.types("/help\r")
    talk.sees("/model NAME", "/exit", "> ")

    talk.types("never mind" + CTRL_C)
    talk.sees("> ")
    talk.types("/model slow\r")
    talk.sees("slow answers from now on", "> ")
    talk.types("go on for ever\r")
    talk.sees("go on for ever", "go on for ever")
    talk.types(CTRL_C)
    talk.sees("(stopped)", "> ")
    until(lambda: pool.model("slow")["in_flight"] == 0, "the end of its work")
    talk.types("/retry\r")
    talk.sees("go on for ever")
    talk.types(CTRL_C)
    talk.sees("(stopped)", "> ")
    talk.types("/model m\r/system\r")
    talk.sees("it behaves as it does by itself", "> ")
    talk.types(CTRL_D)
    assert talk.ends() == 0

    again = opened(pool, "chat", "m")
    again.sees("> ")
    again.types("/load\r")
    again.sees("messages with slow", "> ")
    again.types("/exit\r")
    assert again.ends() == 0


def test_run_fetches_loads_and_talks(own_pool: WithModels, opened: Open) -> None:
    pool = own_pool()
    screen = opened(pool, "run", "hf:owner/tiny")
    screen.sees("MB", "> ")
    assert [m["state"] for m in pool.http.get("/models").json()["models"]] == ["HOT"]
    screen.types("What does a pool do?\r")
    screen.sees("written", "> ")
    screen.types("/bye\r")
    assert screen.ends() == 0


def test_a_load_is_seen_and_left(own_pool: WithModels, opened: Open) -> None:
    loads = {"load_seconds": 600, "load_steps": 60_000}
    pool = own_pool(fake("slow", options=loads), fake("bad", options={"fail_load": "oom"}))
    screen = opened(pool, "run", "slow")
    screen.sees("slow", "%")
    screen.types(CTRL_C)
    assert screen.ends() == 130
    assert pool.model("slow")["state"] == "WARMING", "others may wait for it"
    failing = opened(pool, "run", "bad", "hello")
    failing.sees("error: ", "poolctl logs MODEL")
    assert failing.ends() == 5
    nobody = opened(pool, "chat", "nobody", "hello")
    nobody.sees("error: ", "poolctl list")
    assert nobody.ends() == 4
