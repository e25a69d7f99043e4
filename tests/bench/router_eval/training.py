"""The families that weights were fitted to. What is here is no proof of anything: ``held_out`` is.

Each function makes one request and says what it demands, see ``items.difficulty``.
"""
# ruff: noqa: E501

from __future__ import annotations

import itertools
from random import Random

from .items import Family

Made = tuple[str, dict[str, int]]

NAMES = ("Anna", "Ben", "Carla", "David", "Eva", "Felix", "Greta", "Hugo", "Ines", "Jonas")


def shop(r: Random, lang: str) -> Made:
    """A chain of sums, told as a story."""
    steps = r.randint(1, 8)
    name = r.choice(NAMES)
    thing = r.choice({"en": ("apples", "pens", "books"), "de": ("Äpfel", "Stifte", "Bücher")}[lang])
    start = r.randint(8, 60)
    en = lang == "en"
    text = f"{name} has {start} {thing}." if en else f"{name} hat {start} {thing}."
    moves = {
        "en": (
            "buys {n} more", "gives {n} of them to a friend", "loses a third of what is left",
            "then sells half of them", "receives {n} from each of {m} neighbours",
            "puts the rest into boxes of {m}", "doubles the number at the market",
        ),
        "de": (
            "kauft {n} dazu", "gibt einem Freund {n} davon", "verliert ein Drittel des Rests",
            "verkauft danach die Hälfte", "bekommt je {n} von {m} Nachbarn",
            "packt den Rest in Kisten zu je {m}", "verdoppelt die Zahl auf dem Markt",
        ),
    }[lang]  # fmt: skip
    for move in r.sample(moves, k=min(steps, len(moves))):
        subject = r.choice(("She", "He")) if en else r.choice(("Sie", "Er"))
        text += f" {subject} {move.format(n=r.randint(2, 20), m=r.randint(2, 6))}."
    text += (
        f" How many {thing} are there at the end?" if en else f" Wie viele {thing} sind es am Ende?"
    )
    return text, {"steps": steps, "operands": 1 + steps // 2}


def equations(r: Random, lang: str) -> Made:
    n = r.randint(1, 4)
    letters = "xyzw"[:n]
    lines = [
        " + ".join(f"{r.randint(2, 9)}{v}" for v in letters) + f" = {r.randint(5, 60)}"
        for _ in range(n)
    ]
    ask = {"en": "Solve for {v}:", "de": "Löse nach {v} auf:", "fr": "Résous pour {v} :"}[lang]
    text = ask.format(v=", ".join(letters)) + " " + "; ".join(lines)
    return text, {"steps": 1 + n, "operands": n * n // 2, "knowledge": 1}


def proofs(r: Random, lang: str) -> Made:
    level, en, de = r.choice(
        (
            (1, "the sum of two even numbers is even", "die Summe zweier gerader Zahlen gerade ist"),
            (1, "the square of an odd number is odd", "das Quadrat einer ungeraden Zahl ungerade ist"),
            (2, "there are infinitely many primes", "es unendlich viele Primzahlen gibt"),
            (2, "every bounded monotone sequence converges", "jede beschränkte monotone Folge konvergiert"),
            (3, "every compact Hausdorff space is normal", "jeder kompakte Hausdorff-Raum normal ist"),
            (3, "a finite group of order p^2 is abelian for prime p", "eine Gruppe der Ordnung p^2 für Primzahlen p abelsch ist"),
            (3, "the Riesz representation theorem holds for Hilbert spaces", "der Darstellungssatz von Riesz in Hilberträumen gilt"),
        )
    )  # fmt: skip
    text = f"Prove that {en}." if lang == "en" else f"Beweise, dass {de}."
    return text, {"steps": 1 + level, "knowledge": level}


def classes(r: Random, lang: str) -> Made:
    """Something of a program with so many parts and conditions."""
    what = r.choice(("stack", "queue", "cache", "linked list", "priority queue", "trie", "graph"))
    language = r.choice(("Python", "Rust", "Java", "Go", "TypeScript"))
    parts = {
        "en": ("insertion", "deletion", "lookup", "iteration", "serialisation", "resizing", "merging"),
        "fr": ("l'insertion", "la suppression", "la recherche", "l'itération", "la sérialisation", "la fusion"),
    }[lang]  # fmt: skip
    conditions = {
        "en": ("It must be thread-safe.", "All operations must run in O(log n).", "Do not use the standard library.", "Include unit tests.", "Handle invalid input without exceptions."),
        "fr": ("Elle doit être sûre entre fils d'exécution.", "Toutes les opérations doivent être en O(log n).", "N'utilise pas la bibliothèque standard.", "Ajoute des tests unitaires."),
    }[lang]  # fmt: skip
    n, c = r.randint(1, 5), r.randint(0, 3)
    chosen = r.sample(parts, k=n)
    if lang == "en":
        text = f"Implement a {what} in {language} with {', '.join(chosen)}."
    else:
        text = f"Implémente une classe {what} en {language} avec {', '.join(chosen)}."
    text = " ".join([text, *r.sample(conditions, k=c)])
    return text, {"steps": 2, "size": n, "constraints": c, "knowledge": 1}


def snippets(r: Random, lang: str) -> Made:
    names = r.sample(("total", "rows", "acc", "left", "right", "seen", "best"), k=4)
    n = r.randint(2, 14)
    lines = [f"def f({names[0]}, {names[1]}):"]
    for i in range(n):
        pad = "    " * (1 + (i % 3 if n > 6 else 0))
        lines.append(
            pad
            + r.choice(
                (
                    f"for {names[2]} in {names[1]}:", f"{names[3]} = {names[0]} + {i}",
                    f"if {names[3]} > {names[0]}:", f"{names[0]} -= {names[2]}",
                    f"{names[1]}.append({names[3]})", "continue",
                )
            )
        )  # fmt: skip
    ask = {
        "en": "What does this function return, and where is the bug?",
        "de": "Was gibt diese Funktion zurück, und wo ist der Fehler?",
    }[lang]
    text = f"{ask}\n```python\n" + "\n".join(lines) + "\n```"
    return text, {"steps": 1 + n // 3, "operands": n // 4, "knowledge": 1}


FACTS = {
    0: {"en": ("What colour is the sky?", "How many days has a week?", "What is the capital of Italy?", "Who wrote Hamlet?", "Which animal barks?"),
        "de": ("Welche Farbe hat der Himmel?", "Wie viele Tage hat eine Woche?", "Was ist die Hauptstadt von Italien?", "Wer schrieb den Faust?"),
        "es": ("¿De qué color es el cielo?", "¿Cuál es la capital de Italia?", "¿Quién escribió Don Quijote?", "¿Cuántos días tiene una semana?")},
    1: {"en": ("What is photosynthesis?", "Why does the moon have phases?", "What does a catalyst do?", "What is inflation in economics?"),
        "de": ("Was ist Photosynthese?", "Warum hat der Mond Phasen?", "Was bewirkt ein Katalysator?", "Was ist Inflation?"),
        "es": ("¿Qué es la fotosíntesis?", "¿Por qué tiene fases la luna?", "¿Qué hace un catalizador?", "¿Qué es la inflación?")},
    2: {"en": ("How does the citric acid cycle regulate mitochondrial respiration?", "What distinguishes a parliamentary from a presidential constitution in budget disputes?", "How does backpropagation handle vanishing gradients in recurrent networks?"),
        "de": ("Wie reguliert der Citratzyklus die mitochondriale Atmung?", "Worin unterscheiden sich parlamentarische und präsidentielle Verfassungen bei Haushaltskonflikten?", "Wie geht die Rückpropagierung mit verschwindenden Gradienten in rekurrenten Netzen um?"),
        "es": ("¿Cómo regula el ciclo del ácido cítrico la respiración mitocondrial?", "¿Cómo trata la retropropagación los gradientes evanescentes en redes recurrentes?")},
    3: {"en": ("How do topological insulators protect edge states against non-magnetic disorder?", "What are the implications of the Langlands correspondence for automorphic representations?", "How does allosteric modulation of metabotropic glutamate receptors alter synaptic plasticity?"),
        "de": ("Wie schützen topologische Isolatoren Randzustände gegen nichtmagnetische Unordnung?", "Wie verändert die allosterische Modulation metabotroper Glutamatrezeptoren die synaptische Plastizität?"),
        "es": ("¿Cómo protegen los aislantes topológicos los estados de borde frente al desorden no magnético?", "¿Cómo altera la modulación alostérica de los receptores metabotrópicos la plasticidad sináptica?")},
}  # fmt: skip


def facts(r: Random, lang: str) -> Made:
    level = r.randint(0, 3)
    opening = r.choice(
        ("", "", {"en": "Quick question: ", "de": "Kurze Frage: ", "es": "Una pregunta: "}[lang])
    )
    text = opening + r.choice(FACTS[level][lang])
    return text, {"steps": 1 + level // 2, "knowledge": level}


def hops(r: Random, lang: str) -> Made:
    n = r.randint(1, 5)
    links = {
        "en": ("the director of", "the birthplace of", "the mother of", "the publisher of", "the successor of", "the founder of"),
        "de": ("der Regisseur von", "der Geburtsort von", "die Mutter von", "der Verlag von", "der Nachfolger von", "der Gründer von"),
    }[lang]  # fmt: skip
    chain = " ".join(r.choice(links) for _ in range(n))
    last = r.choice(("Metropolis", "Volkswagen", "Dune", "Nature", "Siemens"))
    text = f"Who is {chain} {last}?" if lang == "en" else f"Wer ist {chain} {last}?"
    return text, {"steps": n, "operands": n - 1}


def orders(r: Random, lang: str) -> Made:
    """Who is older than whom, and what follows."""
    n = r.randint(2, 7)
    people = r.sample(NAMES, k=n)
    more = {"en": "is older than", "de": "ist älter als"}[lang]
    clues = [f"{a} {more} {b}." for a, b in itertools.pairwise(people)]
    r.shuffle(clues)
    extra = r.randint(0, 2)
    twist = {
        "en": ("If {a} were the youngest, {b} would not be here.", "Either {a} or {b} lies, but not both.", "Nobody is as old as {a} unless it is {b}."),
        "de": ("Wäre {a} am jüngsten, dann wäre {b} nicht hier.", "Entweder {a} oder {b} lügt, aber nicht beide.", "Niemand ist so alt wie {a}, außer {b}."),
    }[lang]  # fmt: skip
    clues += [line.format(a=people[0], b=people[-1]) for line in r.sample(twist, k=extra)]
    ask = {"en": "Who is the oldest?", "de": "Wer ist am ältesten?"}[lang]
    return " ".join([*clues, ask]), {"steps": n - 1, "operands": n // 2, "constraints": 2 * extra}


PLAIN = {
    "en": ("The town council met on Tuesday.", "Many people came to the new library.", "A storm closed the harbour for two days.", "The bakery on the corner sells bread again.", "Children planted trees along the river.", "The bus now stops near the school.", "An old bridge will be repaired in spring."),
    "fr": ("Le conseil municipal s'est réuni mardi.", "Beaucoup de gens sont venus à la bibliothèque.", "Une tempête a fermé le port pendant deux jours.", "La boulangerie du coin vend de nouveau du pain.", "Des enfants ont planté des arbres le long du fleuve.", "Le bus s'arrête maintenant près de l'école."),
    "de": ("Der Stadtrat tagte am Dienstag.", "Viele Leute kamen in die neue Bücherei.", "Ein Sturm schloss den Hafen für zwei Tage.", "Die Bäckerei an der Ecke verkauft wieder Brot.", "Kinder pflanzten Bäume am Fluss."),
}  # fmt: skip


def summaries(r: Random, lang: str) -> Made:
    n, c = r.randint(3, 30), r.randint(0, 3)
    material = " ".join(r.choice(PLAIN[lang]) for _ in range(n))
    ask = {"en": "Summarize the following text", "fr": "Résume le texte suivant"}[lang]
    conditions = {
        "en": ("in exactly three sentences", "without naming any place", "for children", "in the past tense only"),
        "fr": ("en exactement trois phrases", "sans nommer aucun lieu", "pour des enfants", "au passé seulement"),
    }[lang]  # fmt: skip
    text = f"{ask} {', '.join(r.sample(conditions, k=c))}".strip() + ":\n\n" + material
    return text, {"steps": 1, "constraints": c, "size": n // 12}


def translations(r: Random, lang: str) -> Made:
    n = r.randint(1, 8)
    material = " ".join(r.choice(PLAIN[lang]) for _ in range(n))
    hard = r.random() < 0.4
    if hard:
        material += {
            "en": " Notwithstanding the foregoing indemnification, the licensee's subrogation rights shall be extinguished upon rescission.",
            "de": " Ungeachtet der vorstehenden Freistellung erlöschen die Regressansprüche des Lizenznehmers mit der Rückabwicklung.",
        }[lang]
    ask = {"en": "Translate into French: ", "de": "Übersetze ins Englische: "}[lang]
    return ask + material, {"steps": 1, "size": n // 4, "knowledge": 2 if hard else 0}


def extraction(r: Random, lang: str) -> Made:
    keys = r.sample(
        ("name", "date", "amount", "currency", "reason", "address", "iban", "deadline"),
        k=r.randint(1, 7),
    )
    body = {
        "en": "Dear team, please transfer 420 euros to Maria Keller by Friday, the invoice from May is still open.",
        "de": "Liebes Team, bitte überweist bis Freitag 420 Euro an Maria Keller, die Rechnung vom Mai ist noch offen.",
    }[lang]
    ask = {
        "en": "Extract the following fields as JSON",
        "de": "Extrahiere die folgenden Felder als JSON",
    }[lang]
    return f"{ask}: {', '.join(keys)}.\n\n{body}", {
        "operands": len(keys) // 2,
        "constraints": len(keys) // 3,
    }


def stories(r: Random, lang: str) -> Made:
    c = r.randint(0, 5)
    theme = r.choice(
        {
            "en": ("a lighthouse", "a lost dog", "the sea", "an old clock"),
            "es": ("un faro", "un perro perdido", "el mar", "un reloj viejo"),
        }[lang]
    )
    form = r.choice(
        {
            "en": ("a short poem", "a short story", "a limerick"),
            "es": ("un poema corto", "un cuento corto"),
        }[lang]
    )
    conditions = {
        "en": ("Each line must have exactly eight syllables.", "Never use the letter e.", "The first letters of the lines must spell HOPE.", "It must end with a question.", "Mention three rivers without naming a country.", "Only use the present tense."),
        "es": ("Cada verso debe tener exactamente ocho sílabas.", "No uses nunca la letra a.", "Las primeras letras deben formar CASA.", "Debe terminar con una pregunta.", "Usa solamente el presente."),
    }[lang]  # fmt: skip
    text = f"Write {form} about {theme}." if lang == "en" else f"Escribe {form} sobre {theme}."
    c = min(c, len(conditions))
    return " ".join([text, *r.sample(conditions, k=c)]), {"steps": 1, "size": 1, "constraints": c}


def plans(r: Random, lang: str) -> Made:
    c = r.randint(0, 5)
    what, level = r.choice(
        {
            "en": (("a birthday party", 0), ("a week of dinners", 0), ("a weekend in Vienna", 0), ("the migration of a payment database", 2), ("a clinical trial for a vaccine", 3)),
            "de": (("eine Geburtstagsfeier", 0), ("eine Woche Abendessen", 0), ("ein Wochenende in Wien", 0), ("die Migration einer Zahlungsdatenbank", 2), ("eine klinische Studie für einen Impfstoff", 3)),
        }[lang]
    )  # fmt: skip
    conditions = {
        "en": ("The budget must stay below 500 euros.", "At most two people may work at the same time.", "Nothing may be interrupted for more than an hour.", "Every step needs a fallback.", "Include a risk assessment.", "It must end before 1 May."),
        "de": ("Das Budget muss unter 500 Euro bleiben.", "Höchstens zwei Personen dürfen gleichzeitig arbeiten.", "Nichts darf länger als eine Stunde unterbrochen sein.", "Jeder Schritt braucht eine Rückfallebene.", "Nenne auch die Risiken."),
    }[lang]  # fmt: skip
    text = f"Plan {what}." if lang == "en" else f"Plane {what}."
    c = min(c, len(conditions))
    return " ".join([text, *r.sample(conditions, k=c)]), {
        "steps": 2,
        "size": 1,
        "constraints": c,
        "knowledge": level,
    }


def tables(r: Random, lang: str) -> Made:
    n, steps = r.randint(3, 15), r.randint(1, 4)
    rows = "\n".join(
        f"{r.choice(NAMES)},{r.randint(20, 60)},{r.randint(1000, 9000)}" for _ in range(n)
    )
    asks = {
        "en": ("Which person earns most?", "What is the average age of those who earn more than 4000?", "By how many percent do the older half earn more than the younger half?", "After removing the highest and lowest salary, how do mean and median differ, and what explains it?"),
        "de": ("Welche Person verdient am meisten?", "Wie alt sind im Durchschnitt die, die mehr als 4000 verdienen?", "Um wie viel Prozent verdient die ältere Hälfte mehr als die jüngere?", "Wie unterscheiden sich Mittelwert und Median, wenn man das höchste und das niedrigste Gehalt weglässt, und woran liegt das?"),
    }[lang]  # fmt: skip
    return f"{asks[steps - 1]}\n\nname,age,salary\n{rows}", {"steps": steps, "operands": n // 5 + 1}


def chat(r: Random, lang: str) -> Made:
    text = r.choice(
        {
            "en": (
                "Hi, how are you?",
                "Thanks a lot!",
                "Good morning!",
                "I am tired today.",
                "That was nice, thank you.",
                "Tell me a joke.",
                "lol ok",
            ),
            "de": (
                "Hallo, wie geht es dir?",
                "Vielen Dank!",
                "Guten Morgen!",
                "Ich bin heute müde.",
                "Erzähl mir einen Witz.",
            ),
            "fr": (
                "Bonjour, comment vas-tu ?",
                "Merci beaucoup !",
                "Bonne nuit !",
                "Je suis fatigué aujourd'hui.",
            ),
        }[lang]
    )
    return text, {}


def edits(r: Random, lang: str) -> Made:
    n, c = r.randint(1, 6), r.randint(0, 2)
    material = " ".join(r.choice(PLAIN[lang]) for _ in range(n))
    ask = {
        "en": "Correct the grammar of this text",
        "de": "Korrigiere die Grammatik dieses Textes",
    }[lang]
    conditions = {
        "en": ("without changing the order of words", "and keep every number"),
        "de": ("ohne die Reihenfolge zu ändern", "und behalte jede Zahl"),
    }[lang]
    return f"{ask} {' '.join(conditions[:c])}: {material}", {"size": n // 4, "constraints": c}


def comparisons(r: Random, lang: str) -> Made:
    n = r.randint(2, 4)
    things, level = r.choice(
        {
            "en": ((("buses", "trains", "bicycles", "cars"), 0), (("TCP", "QUIC", "SCTP", "UDP"), 2), (("Kant", "Hume", "Mill", "Rawls"), 2)),
            "de": ((("Busse", "Züge", "Fahrräder", "Autos"), 0), (("TCP", "QUIC", "SCTP", "UDP"), 2), (("Kant", "Hume", "Mill", "Rawls"), 2)),
        }[lang]
    )  # fmt: skip
    criteria = r.randint(1, 4)
    en = ("cost", "speed", "fairness", "robustness")[:criteria]
    de = ("Kosten", "Geschwindigkeit", "Gerechtigkeit", "Robustheit")[:criteria]
    if lang == "en":
        text = f"Compare {', '.join(things[:n])} by {', '.join(en)} and justify which one you would recommend."
    else:
        text = f"Vergleiche {', '.join(things[:n])} nach {', '.join(de)} und begründe, was du empfiehlst."
    return text, {"steps": 2, "operands": n, "constraints": criteria // 2, "knowledge": level}


FAMILIES = (
    Family("shop", "math", ("en", "de"), shop),
    Family("equations", "math", ("en", "de", "fr"), equations),
    Family("proofs", "math", ("en", "de"), proofs),
    Family("classes", "code_generation", ("en", "fr"), classes),
    Family("snippets", "code_analysis", ("en", "de"), snippets),
    Family("facts", "question_answering", ("en", "de", "es"), facts),
    Family("hops", "question_answering", ("en", "de"), hops),
    Family("orders", "reasoning", ("en", "de"), orders),
    Family("comparisons", "reasoning", ("en", "de"), comparisons),
    Family("summaries", "summary", ("en", "fr"), summaries),
    Family("translations", "translation", ("en", "de"), translations),
    Family("extraction", "text_analysis", ("en", "de"), extraction),
    Family("stories", "creative_writing", ("en", "es"), stories),
    Family("plans", "planning", ("en", "de"), plans),
    Family("tables", "data_analysis", ("en", "de"), tables),
    Family("chat", "conversation", ("en", "de", "fr"), chat),
    Family("edits", "editing", ("en", "de"), edits),
)
