"""PURE. What pip installs for an engine, as the engine says it itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# In what says how to install an engine: the extra of ours, or somebody else's packages, alone or as
# the first way of several. Of several packages the further ones stand in quotes, to tell them from
# words that follow; a name is no option of pip's.
_EXTRA = re.compile(r"modelpool\[([A-Za-z0-9_-]+)\]")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9_,-]+\])?"
_PACKAGES = re.compile(rf"^pip install ((?:'{_NAME}'|{_NAME})(?: '{_NAME}')*)(?:$|, or )")


class Packages(NamedTuple):
    """``extras`` of ours and ``names`` of others'."""

    extras: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def packages_of(engine: Mapping[str, Any]) -> Packages | None:
    """Of an engine as ``Engines.all`` tells of it; None where it does not come by pip."""
    hint = str(engine.get("install_hint", ""))
    extra = str(engine.get("extra", "")) or (m[1] if (m := _EXTRA.search(hint)) else "")
    if extra:
        return Packages(extras=(extra,))
    if packages := _PACKAGES.match(hint):
        return Packages(names=tuple(name.strip("'") for name in packages[1].split()))
    return None
