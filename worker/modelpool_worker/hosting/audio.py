"""PURE. Samples as WAV and back: signed 16-bit integers, little-endian, one channel."""

from __future__ import annotations

import array
import io
import itertools
import sys
import wave

from modelpool_client.errors import InvalidRequest

# Of a recording. What a small file says of itself may be of any length: some seconds of sound for
# each of its bytes.
LONGEST_SECONDS = 4 * 3600


def check_length(samples: int, rate: int) -> None:
    """Of so many samples, of one channel, with that many a second.

    Raises:
        InvalidRequest: it is no recording, or one of more than ``LONGEST_SECONDS``.
    """
    if rate <= 0 or samples > LONGEST_SECONDS * rate:
        text = f"file must be a recording of {LONGEST_SECONDS // 3600} hours at most"
        raise InvalidRequest(text, param="file", source="engine")


def wav(samples: bytes, rate: int) -> bytes:
    """A file of one channel with so many samples a second."""
    out = io.BytesIO()
    with wave.Wave_write(out) as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()


def read_wav(data: bytes, rate: int) -> bytes:
    """The samples of a WAV file at ``rate`` a second, its channels mixed into one.

    Raises:
        InvalidRequest: it is no WAV file of whole numbers, or too long.
    """
    try:
        with wave.Wave_read(io.BytesIO(data)) as file:
            channels, width, own = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
            count = len(frames) // (channels * width)
    except (wave.Error, EOFError) as e:
        text = f"file must be a WAV file of 8, 16, 24 or 32-bit integers for this engine: {e}"
        raise InvalidRequest(text, param="file", source="engine") from None
    check_length(count, own)
    mono = _mixed(_wide(frames, width), channels)
    return _bytes(_resampled(mono, own, rate))


def resampled(samples: bytes, own: int, rate: int, channels: int = 1) -> bytes:
    """Samples of ``own`` a second as such of ``rate``, channels mixed into one."""
    return _bytes(_resampled(_mixed(_wide(samples, 2), channels), own, rate))


def _wide(frames: bytes, width: int) -> array.array[int]:
    """Of samples of that many bytes the upper 16 bits."""
    if width == 1:
        return array.array("h", [(byte - 128) << 8 for byte in frames])
    if width != 2:
        frames = b"".join(
            frames[i + width - 2 : i + width] for i in range(0, len(frames) - width + 1, width)
        )
    samples = array.array("h")
    samples.frombytes(frames[: len(frames) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _mixed(samples: array.array[int], channels: int) -> array.array[int]:
    if channels == 1:
        return samples
    parts = [samples[i::channels] for i in range(channels)]
    return array.array("h", [sum(frame) // channels for frame in zip(*parts, strict=False)])


def _resampled(samples: array.array[int], own: int, rate: int) -> array.array[int]:
    """Between two samples the straight line; of several in one the mean, lest what is too high for
    the new rate is heard as what it is not."""
    if own == rate or not samples:
        return samples
    if own > rate:
        sums, total = [0], 0
        for sample in samples:
            total += sample
            sums.append(total)
        edges = [i * own // rate for i in range(len(samples) * rate // own + 1)]
        parts = itertools.pairwise(edges)
        return array.array("h", [(sums[b] - sums[a]) // (b - a) for a, b in parts])
    last, found = len(samples) - 1, array.array("h")
    for i in range(len(samples) * rate // own):
        at, part = divmod(i * own, rate)
        a, b = samples[at], samples[min(at + 1, last)]
        found.append(a + (b - a) * part // rate)
    return found


def _bytes(samples: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples.tobytes()
