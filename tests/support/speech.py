"""What the tests of speech say and have written down."""

from __future__ import annotations

import io
import shutil
import wave

# Of some twenty words.
GRAMMAR = """#JSGF V1.0;
grammar house;
<colour> = red | blue | green | old;
<thing> = door | window | engine | light | curtain | radio;
<when> = now | please | tomorrow;
public <order> = (open | close | start | stop | raise | lower) the <colour> <thing> [<when>];
"""
SENTENCES = (
    "open the red door",
    "close the blue window now",
    "start the old engine please",
    "stop the green radio",
    "raise the red curtain",
    "lower the blue light tomorrow",
    "open the green window please",
    "close the old curtain",
    "start the red radio now",
    "stop the old engine tomorrow",
    "raise the green light",
    "lower the red curtain please",
    "open the old door tomorrow",
    "close the green door",
    "start the blue engine",
    "stop the red light now",
    "raise the old window",
    "lower the green radio please",
    "open the blue curtain now",
    "close the red window tomorrow",
)


def espeak() -> str:
    """Where the program is; whoever has it not is told what to install."""
    found = shutil.which("espeak-ng")
    assert found, "espeak-ng is missing: apt-get install espeak-ng (.ci/run does)"
    return found


def seconds(sound: bytes) -> float:
    """The length of a WAV file."""
    with wave.open(io.BytesIO(sound)) as file:
        return file.getnframes() / file.getframerate()
