"""The same request in other words: what must not change which model answers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .items import Item

OPENINGS = {
    "en": ("Please help me with this. ", "Hi! ", "I was wondering about the following. "),
    "de": ("Bitte hilf mir dabei. ", "Hallo! ", "Ich habe folgendes Anliegen. "),
    "fr": ("Aide-moi s'il te plaît. ", "Bonjour ! ", "J'ai la demande suivante. "),
    "es": ("Ayúdame, por favor. ", "¡Hola! ", "Tengo la siguiente petición. "),
}
ENDINGS = {
    "en": (" Thanks in advance!", " Think carefully.", " This matters a lot to me."),
    "de": (" Vielen Dank!", " Denk gut nach.", " Das ist mir sehr wichtig."),
    "fr": (" Merci d'avance !", " Réfléchis bien.", " C'est très important pour moi."),
    "es": (" ¡Gracias!", " Piénsalo bien.", " Es muy importante para mí."),
}


def paraphrases(item: Item) -> Iterator[str]:
    """Five of an item: an opening, an ending, small letters, typing errors, other spaces."""
    random = Random(item.prompt)
    yield random.choice(OPENINGS[item.language]) + item.prompt
    yield item.prompt + random.choice(ENDINGS[item.language])
    yield item.prompt.lower() if "\n" not in item.prompt else item.prompt.strip() + "\n"
    yield with_typos(item.prompt, random)
    yield item.prompt.replace(". ", ".  ").rstrip(".")


def with_typos(text: str, random: Random, share: float = 0.02) -> str:
    """Letters within words swapped with their neighbours."""
    letters = list(text)
    for index in range(1, len(letters) - 2):
        if random.random() < share and all(c.isalpha() for c in letters[index - 1 : index + 3]):
            letters[index], letters[index + 1] = letters[index + 1], letters[index]
    return "".join(letters)
