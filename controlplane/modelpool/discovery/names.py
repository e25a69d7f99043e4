"""PURE. What a model that was found is called in the catalog.

As llama.cpp's ``-hf`` and Ollama have it: ``owner/repo:Q4_K_M``, ``llama3.2:3b``. A file in no
folder of its own is called as it is, without the suffix.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from modelpool.catalog.model import MAX_ID_BYTES, id_problem

# As files of quantised models end; unsloth's own have UD in front.
QUANTIZATION = re.compile(
    r"(?:^|[-._ ])((?:UD-)?(?:I?Q\d\w*|B?F16|F32|FP16|FP32|FP8\w*|MXFP4\w*|NVFP4|TQ\d_\d)"
    r"|int[48]|[48]bit|Q\d)$",
    re.IGNORECASE,
)
PART = re.compile(r"-\d{5}-of-\d{5}$")
REPO_ENDINGS = re.compile(r"[-_.]?(gguf|onnx|mlx|coreml|safetensors)$", re.IGNORECASE)
NOT_LETTERS = re.compile(r"[^a-z0-9]+")
# What makes a name one that an id may have, where its own last word is one of the routes'.
PLAIN_ENDING = "-model"
LAST_RESORT = "model"
# What llama.cpp takes of a repository where nobody says which.
PREFERRED = ("Q4_K_M", "Q8_0")


@dataclass(frozen=True)
class Named:
    """What there is to make an id of.

    Attributes:
        name, tag, is_repository: see ``Sighting``.
        quantization: as the file's header has it.
    """

    path: str
    name: str
    tag: str = ""
    quantization: str = ""
    is_repository: bool = False


def stem(path: str) -> str:
    """The file's name without its suffix and the number of its part."""
    name = PurePath(path).name
    base, dot, suffix = name.rpartition(".")
    return PART.sub("", base if dot and suffix.isalpha() and base else name)


def split_quantization(text: str) -> tuple[str, str]:
    """A name without its quantisation, and that; empty where it has none."""
    match = QUANTIZATION.search(text)
    return (text[: match.start()], match[1]) if match and match.start() else (text, "")


def plain(text: str) -> str:
    """What two spellings of a name have in common."""
    return NOT_LETTERS.sub("", text.lower())


def proposals(model: Named, siblings: Sequence[Named]) -> Iterator[str]:
    """Ids for a model, the best first; all differ, and there is no end to them.

    Args:
        siblings: all that the layout calls by the same name, the model among them.
    """
    first = _first(model, siblings)
    yield allowed(first)
    own = stem(model.path)
    if model.name and not model.tag:
        yield allowed(f"{model.name}:{own}")
    number = 2
    while True:
        yield allowed(f"{first}-{number}")
        number += 1


def _first(model: Named, siblings: Sequence[Named]) -> str:
    own = stem(model.path)
    if model.tag:
        return f"{model.name}:{model.tag}"
    if not model.name:
        return own
    if is_folder_model(model):
        return model.name
    if not _is_of_its_folder(model):
        return f"{model.name}/{own}"
    kinds = Counter(_quantization(s).lower() for s in siblings)
    quantization = _quantization(model)
    if not quantization:
        return model.name
    return f"{model.name}:{quantization if kinds[quantization.lower()] == 1 else own}"


def is_folder_model(model: Named) -> bool:
    """Whether the folder is the model, and has given it its name."""
    return model.path.endswith(f"/{model.name}") or not PurePath(model.path).suffix


def _is_of_its_folder(model: Named) -> bool:
    """Whether its folder is called like it: then that is its name, as it is on hubs."""
    folder = plain(REPO_ENDINGS.sub("", model.name.rpartition("/")[2]))
    own = plain(split_quantization(stem(model.path))[0])
    is_alike = bool(own) and bool(folder) and (own in folder or folder in own)
    return model.is_repository or is_alike


def _quantization(model: Named) -> str:
    """As the file's name has it, which is how people know it; else as its header has it."""
    said = split_quantization(stem(model.path))[1]
    return said.upper() if said else model.quantization


def short_name(models: Iterable[Named]) -> tuple[str, str] | None:
    """The name of a repository, for the one of its quantisations that is meant without saying
    which, with that one's path; None where there is none to choose from."""
    named = [m for m in models if m.name and not m.tag and _quantization(m)]
    named = [m for m in named if _is_of_its_folder(m)]
    if not named or any(is_folder_model(m) for m in named):
        return None
    order = {q: i for i, q in enumerate(PREFERRED)}
    best = min(named, key=lambda m: (order.get(_quantization(m), len(order)), m.path))
    return allowed(best.name), best.path


def allowed(text: str) -> str:
    """The text as an id may be; itself where it is one."""
    if id_problem(text) is None:
        return text
    kept = "".join("-" if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    segments = [s.strip() for s in kept.split("/")]
    kept = "/".join(s for s in segments if s not in ("", ".", ".."))
    kept = kept.encode(errors="ignore")[: MAX_ID_BYTES - len(PLAIN_ENDING)].decode(errors="ignore")
    kept = kept.strip() or LAST_RESORT
    return kept if id_problem(kept) is None else f"{kept}{PLAIN_ENDING}"


def first_free(ids: Iterator[str], is_taken: Callable[[str], bool]) -> str:
    """The best of some proposals that nobody has."""
    return next(i for i in ids if not is_taken(i))
