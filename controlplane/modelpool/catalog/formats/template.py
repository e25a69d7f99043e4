"""What a chat template tells without being run: a digest, and what it mentions. PURE."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

# A hint, and texts of which a template that knows of such a thing has one: names of the variables
# that transformers and llama.cpp hand to templates, types of content parts, and the marks of the
# families' own vocabularies.
MENTIONS: Mapping[str, tuple[str, ...]] = {
    "tools": ("tools", "tool_calls", "builtin_tools"),
    "images": ("image_url", "'image'", '"image"', "<image>", "<|image|>", "<|vision_start|>"),
    "audio": ("input_audio", "'audio'", '"audio"', "<|audio|>", "<|AUDIO|>", "<audio>"),
    "video": ("'video'", '"video"', "<video>", "<|video_pad|>"),
    "thinking": ("enable_thinking", "reasoning_content", "<think>", "<|channel|>", "thinking"),
    "system": ("'system'", '"system"', "system_message", "system_prompt"),
    "documents": ("documents",),
}


def digest(template: str) -> str:
    """Which template it is; empty for none."""
    return hashlib.sha256(template.encode(errors="replace")).hexdigest()[:16] if template else ""


def hints(*templates: str) -> tuple[str, ...]:
    """What one of them mentions, see ``MENTIONS``: that it is mentioned, not that it works."""
    return tuple(
        hint
        for hint, texts in MENTIONS.items()
        if any(text in template for template in templates for text in texts)
    )
