"""The families that show what a router is worth: other subjects and forms than ``training`` and
``development``, written after weights, words and rules were frozen. They are not to be tuned to: who
changes the router because of one of them moves it to ``development`` and writes others.

Each function makes one request and says what it demands, see ``items.difficulty``.
"""
# ruff: noqa: E501

from __future__ import annotations

import itertools
from random import Random

from .items import Family

Made = tuple[str, dict[str, int]]


def recipes(r: Random, lang: str) -> Made:
    n = r.randint(1, 5)
    a, b, c, d = r.randint(2, 8), r.randint(100, 900), r.randint(2, 12), r.randint(10, 60)
    en = (
        f"My soup for {a} people needs {b} g of lentils. I am cooking for {a + c}. ",
        f"The shop only sells bags of {d * 10} g. ",
        f"Each bag is {c}.50 and I have a voucher that takes a tenth off. ",
        "Two of the guests eat half as much as the others. ",
        f"Whatever is left over I freeze in tubs of {d} g, and the freezer already has {c} tubs of its {c + 20}. ",
    )
    es = (
        f"Mi sopa para {a} personas lleva {b} g de lentejas. Cocino para {a + c}. ",
        f"La tienda solo vende bolsas de {d * 10} g. ",
        f"Cada bolsa vale {c},50 y tengo un vale que descuenta una décima parte. ",
        "Dos de los invitados comen la mitad que los demás. ",
        f"Lo que sobra lo congelo en botes de {d} g, y el congelador ya tiene {c} botes de sus {c + 20}. ",
    )
    asks = {
        "en": ("How many grams do I need?", "How many bags do I have to buy?", "What do I pay?", "What do I pay now?", "How many tubs fit in afterwards?"),
        "es": ("¿Cuántos gramos necesito?", "¿Cuántas bolsas tengo que comprar?", "¿Cuánto pago?", "¿Cuánto pago entonces?", "¿Cuántos botes caben después?"),
    }[lang]  # fmt: skip
    return "".join({"en": en, "es": es}[lang][:n]) + asks[n - 1], {"steps": n, "operands": n}


def mechanics(r: Random, lang: str) -> Made:
    m, v, h = r.randint(2, 40), r.randint(3, 30), r.randint(2, 50)
    level = r.randint(0, 3)
    en = (
        f"A box weighs {m} kg and another weighs {v} kg. What do they weigh together?",
        f"A {m} kg cart moves at {v} m/s. What is its kinetic energy?",
        f"A ball of {m} kg is thrown at {v} m/s from a roof {h} m high at 30 degrees; ignoring drag, how far from the house does it land?",
        f"A uniform rod of mass {m} kg and length {h} m hangs from a pivot that is itself accelerated horizontally with amplitude {v} mm; derive the effective potential and the stability of the inverted position.",
    )
    de = (
        f"Eine Kiste wiegt {m} kg, eine andere {v} kg. Was wiegen sie zusammen?",
        f"Ein Wagen von {m} kg fährt mit {v} m/s. Wie groß ist seine kinetische Energie?",
        f"Ein Ball von {m} kg wird mit {v} m/s von einem {h} m hohen Dach unter 30 Grad geworfen; wie weit vom Haus landet er ohne Luftwiderstand?",
        f"Ein homogener Stab der Masse {m} kg und Länge {h} m hängt an einem Drehpunkt, der selbst waagrecht mit der Amplitude {v} mm beschleunigt wird; leite das effektive Potential und die Stabilität der aufrechten Lage her.",
    )
    return {"en": en, "de": de}[lang][level], {
        "steps": (1, 1, 3, 4)[level],
        "operands": (1, 2, 3, 3)[level],
        "knowledge": level,
    }


def pumps(r: Random, lang: str) -> Made:
    n = r.randint(1, 4)
    a, b, c = r.randint(2, 9), r.randint(3, 14), r.randint(20, 90)
    en = (
        f"A pump fills the pool in {a} hours. ",
        f"A second one needs {b} hours. ",
        f"After {c} minutes the first one breaks down. ",
        f"Meanwhile a crack lets a {b + 2}th of the volume run out every hour. ",
    )
    fr = (
        f"Une pompe remplit le bassin en {a} heures. ",
        f"Une deuxième met {b} heures. ",
        f"Au bout de {c} minutes la première tombe en panne. ",
        f"Pendant ce temps une fissure laisse fuir un {b + 2}e du volume par heure. ",
    )
    ask = {
        "en": (
            "What part is full after one hour?",
            "How long do both take?",
            "When is it full?",
            "When is it full, if ever?",
        ),
        "fr": (
            "Quelle part est pleine après une heure ?",
            "Combien de temps mettent-elles ensemble ?",
            "Quand est-il plein ?",
            "Quand est-il plein, s'il l'est un jour ?",
        ),
    }[lang][n - 1]
    return "".join({"en": en, "fr": fr}[lang][:n]) + ask, {
        "steps": (1, 2, 3, 4)[n - 1],
        "operands": n,
    }


def shells(r: Random, lang: str) -> Made:
    level = r.randint(0, 3)
    n = r.randint(2, 90)
    en = (
        f"Give me a bash one-liner that prints the first {n} lines of a file.",
        f"Write a regex for ISO dates that also accepts a missing day, with {n} as the highest year suffix.",
        f"Write a bash script that rotates logs older than {n} days, keeps the newest of each month, and stops when another copy of it runs.",
        f"Write a POSIX shell supervisor that restarts {n} children with exponential backoff, forwards signals, reaps zombies, and never loses a line of their output.",
    )
    de = (
        f"Gib mir einen Bash-Befehl, der die ersten {n} Zeilen einer Datei ausgibt.",
        f"Schreib einen regulären Ausdruck für ISO-Daten, bei denen der Tag fehlen darf, mit {n} als höchster Jahresendung.",
        f"Schreib ein Bash-Skript, das Logs älter als {n} Tage rotiert, je Monat das neueste behält und aufhört, wenn es schon läuft.",
        f"Schreib einen Supervisor in POSIX-Shell, der {n} Kinder mit exponentieller Wartezeit neu startet, Signale weitergibt, Zombies einsammelt und keine Zeile ihrer Ausgabe verliert.",
    )
    return {"en": en, "de": de}[lang][level], {
        "steps": 1 + level // 2,
        "size": (0, 1, 3, 4)[level],
        "constraints": (0, 1, 2, 3)[level],
        "knowledge": (0, 1, 1, 2)[level],
    }


def endpoints(r: Random, lang: str) -> Made:
    n, c = r.randint(1, 5), r.randint(0, 3)
    frame = r.choice(("FastAPI", "Express", "Spring", "Rails"))
    noun = r.choice(
        {
            "en": ("invoices", "bookings", "recipes"),
            "fr": ("les factures", "les réservations", "les recettes"),
        }[lang]
    )
    parts = {
        "en": ("create", "list with paging", "search by date", "export as CSV", "bulk delete"),
        "fr": (
            "la création",
            "la liste paginée",
            "la recherche par date",
            "l'export CSV",
            "la suppression en lot",
        ),
    }[lang]
    rules = {
        "en": (
            "Requests repeated by a client may not take effect twice.",
            "Old clients must keep working.",
            "No call may hold a transaction longer than 50 ms.",
            "Reject what does not fit the schema, naming each field.",
        ),
        "fr": (
            "Une requête répétée ne doit pas agir deux fois.",
            "Les anciens clients doivent continuer à marcher.",
            "Aucun appel ne garde une transaction plus de 50 ms.",
            "Refuse ce qui ne suit pas le schéma en nommant chaque champ.",
        ),
    }[lang]
    chosen = ", ".join(r.sample(parts, k=n))
    text = (
        f"Build a {frame} API for {noun}: {chosen}."
        if lang == "en"
        else f"Construis une API {frame} pour {noun} : {chosen}."
    )
    return " ".join([text, *r.sample(rules, k=c)]), {
        "steps": 2,
        "size": n,
        "constraints": c,
        "knowledge": 1,
    }


def traces(r: Random, lang: str) -> Made:
    level, n = r.randint(0, 2), r.randint(2, 7)
    cause = (
        "NameError: name 'cuont' is not defined",
        "KeyError: 'user'",
        "RuntimeError: dictionary changed size during iteration",
    )[level]
    frames = "\n".join(
        f'  File "app/{r.choice(("core", "views", "jobs", "cache"))}.py", line {r.randint(5, 300)}, in {r.choice(("run", "load", "handle", "flush", "merge"))}'
        for _ in range(n)
    )
    ask = {
        "en": ("What is wrong?", "Why does this happen only for some requests?", "This shows up once a day under load with four workers. What is the cause, how do I prove it, and what is the smallest safe fix?"),
        "es": ("¿Qué está mal?", "¿Por qué pasa solo en algunas peticiones?", "Aparece una vez al día con carga y cuatro procesos. ¿Cuál es la causa, cómo la demuestro y cuál es el arreglo seguro más pequeño?"),
    }[lang][level]  # fmt: skip
    return f"{ask}\n\n```\nTraceback (most recent call last):\n{frames}\n{cause}\n```", {
        "steps": (1, 3, 5)[level],
        "operands": n // 3,
        "knowledge": (0, 1, 2)[level],
    }


TERMS = {
    "en": (
        ("a bicycle", "rain", "a triangle", "breakfast", "a library"),
        ("evaporation", "the Reformation", "a mortgage", "an ecosystem", "a vaccine"),
        ("estoppel in contract law", "Bayesian shrinkage", "the Phillips curve debate", "homeostatic regulation of blood calcium", "eventual consistency"),
        ("the Atiyah-Singer index theorem", "epigenetic imprinting disorders at the 15q11 locus", "Gibbardian expressivism", "renormalisation group fixed points in frustrated magnets", "interpretations of ergodicity breaking in econophysics"),
    ),
    "fr": (
        ("un vélo", "la pluie", "un triangle", "le petit déjeuner", "une bibliothèque"),
        ("l'évaporation", "la Réforme", "une hypothèque", "un écosystème", "un vaccin"),
        ("l'imprévision en droit des contrats", "le rétrécissement bayésien", "la courbe de Phillips", "la régulation homéostatique de la calcémie", "la cohérence à terme"),
        ("le théorème de l'indice d'Atiyah-Singer", "les troubles de l'empreinte épigénétique au locus 15q11", "l'expressivisme gibbardien", "les points fixes du groupe de renormalisation dans les aimants frustrés"),
    ),
}  # fmt: skip


def terms(r: Random, lang: str) -> Made:
    level = r.randint(0, 3)
    term = r.choice(TERMS[lang][level])
    form = r.randint(0, 2)
    if lang == "en":
        text = (
            f"What is meant by {term}?",
            f"Can you tell me about {term}?",
            f"{term[0].upper()}{term[1:]}: what should I know, and what do people get wrong?",
        )[form]
    else:
        text = (
            f"Que désigne-t-on par {term} ?",
            f"Peux-tu me parler de ceci : {term} ?",
            f"{term[0].upper()}{term[1:]} : que faut-il savoir, et où se trompe-t-on ?",
        )[form]
    return text, {"steps": 1 + (form == 2), "knowledge": level}


def searches(r: Random, lang: str) -> Made:
    """Something known only by way of others."""
    n = r.randint(1, 4)
    en = (
        "the river",
        "that runs through the city",
        "where the composer was born",
        "whose opera opened the theatre",
        "which burned down in the year the bridge was finished",
    )
    de = (
        "der Fluss",
        "der durch die Stadt fließt",
        "in der die Komponistin geboren wurde",
        "deren Oper das Theater eröffnete",
        "das in dem Jahr abbrannte, in dem die Brücke fertig wurde",
    )
    town = r.choice(("Prague", "Lisbon", "Oslo", "Trieste", "Riga", "Porto"))
    words = {"en": en, "de": de}[lang][: n + 1]
    text = (
        f"What is the name of {' '.join(words)} in {town}?"
        if lang == "en"
        else f"Wie heißt {', '.join(words)}, in {town}?"
    )
    return text, {"steps": n, "operands": n // 2}


def syllogisms(r: Random, lang: str) -> Made:
    n = r.randint(2, 6)
    things = r.sample(
        ("wugs", "blickets", "daxes", "feps", "tomas", "zibs", "mips", "lorps"), k=n + 1
    )
    en = ("All {a} are {b}.", "No {a} are {b}.", "Some {a} are {b}.", "Only {b} are {a}.")
    de = ("Alle {a} sind {b}.", "Keine {a} sind {b}.", "Manche {a} sind {b}.", "Nur {b} sind {a}.")
    lines = [
        r.choice({"en": en, "de": de}[lang]).format(a=a, b=b) for a, b in itertools.pairwise(things)
    ]
    ask = (
        f"Does it follow that some {things[0]} are {things[-1]}?"
        if lang == "en"
        else f"Folgt daraus, dass manche {things[0]} {things[-1]} sind?"
    )
    return " ".join([*lines, ask]), {"steps": n, "operands": n // 2}


def islands(r: Random, lang: str) -> Made:
    n = r.randint(1, 5)
    people = r.sample(("Rex", "Uma", "Kit", "Lou", "Pat", "Sol"), k=n)
    en = (
        "{a} says that {b} always lies.",
        "{a} says that exactly one of the others is honest.",
        "{a} says: if {b} is honest, I am not.",
        "{a} says that {b} and {c} are of the same kind.",
    )
    es = (
        "{a} dice que {b} siempre miente.",
        "{a} dice que exactamente uno de los otros es sincero.",
        "{a} dice: si {b} es sincero, yo no.",
        "{a} dice que {b} y {c} son del mismo tipo.",
    )
    start = (
        "On an island some always tell the truth and the others never do."
        if lang == "en"
        else "En una isla unos dicen siempre la verdad y los demás nunca."
    )
    said = [
        r.choice({"en": en, "es": es}[lang]).format(a=p, b=r.choice(people), c=r.choice(people))
        for p in people
    ]
    ask = "Who is who?" if lang == "en" else "¿Quién es quién?"
    return " ".join([start, *said, ask]), {
        "steps": n,
        "operands": 1 + n // 2,
        "constraints": n // 2,
    }


def dilemmas(r: Random, lang: str) -> Made:
    level, c = r.randint(0, 3), r.randint(0, 2)
    en = (
        "tea or coffee in the morning",
        "renting or buying a flat",
        "a monolith or services for a clinic's records",
        "Bayesian or frequentist sequential designs in adaptive oncology trials",
    )
    fr = (
        "thé ou café le matin",
        "louer ou acheter un appartement",
        "un monolithe ou des services pour les dossiers d'une clinique",
        "plans séquentiels bayésiens ou fréquentistes dans les essais adaptatifs en oncologie",
    )
    rules = {
        "en": (
            "Weigh what can be undone against what cannot.",
            "Say under which assumption your answer turns.",
        ),
        "fr": (
            "Pèse ce qui est réversible contre ce qui ne l'est pas.",
            "Dis sous quelle hypothèse ta réponse s'inverse.",
        ),
    }[lang]
    text = (
        f"What speaks for and against {en[level]}?"
        if lang == "en"
        else f"Qu'est-ce qui parle pour et contre : {fr[level]} ?"
    )
    return " ".join([text, *r.sample(rules, k=c)]), {
        "steps": 1 + level // 2,
        "operands": 1,
        "constraints": c,
        "knowledge": level,
    }


MINUTES = {
    "en": ("Ruth opened the meeting at nine.", "The roof will be looked at next week.", "Omar asked for two more chairs.", "It was agreed to move the fair to June.", "The heating stays off until October.", "Lea will write to the neighbours."),
    "es": ("Ruth abrió la reunión a las nueve.", "La semana que viene se revisa el tejado.", "Omar pidió dos sillas más.", "Se acordó pasar la feria a junio.", "La calefacción sigue apagada hasta octubre.", "Lea escribirá a los vecinos."),
}  # fmt: skip


def minutes(r: Random, lang: str) -> Made:
    n, c = r.randint(4, 40), r.randint(0, 3)
    rules = {
        "en": (
            "No names.",
            "Sort it by who has to act.",
            "At most 25 words.",
            "Mark what is still undecided.",
        ),
        "es": (
            "Sin nombres.",
            "Ordénalo por quién debe actuar.",
            "Máximo 25 palabras.",
            "Señala lo que sigue sin decidir.",
        ),
    }[lang]
    ask = {"en": "Condense these minutes.", "es": "Condensa este acta."}[lang]
    return " ".join([ask, *r.sample(rules, k=c)]) + "\n\n" + " ".join(
        r.choice(MINUTES[lang]) for _ in range(n)
    ), {"constraints": c, "size": n // 15}


def subtitles(r: Random, lang: str) -> Made:
    level = r.randint(0, 2)
    en = (
        (
            "Good night, see you tomorrow.",
            "The cat is on the roof.",
            "I would like a glass of water.",
        ),
        (
            "He had been meaning to tell her for years, but it never seemed the right evening.",
            "We laughed so much that the neighbours came to see what was going on.",
        ),
        (
            "Notwithstanding any provision to the contrary, severability shall not extend to the arbitration clause.",
            "Thou still unravish'd bride of quietness, thou foster-child of silence and slow time.",
        ),
    )
    fr = (
        ("Bonne nuit, à demain.", "Le chat est sur le toit.", "Je voudrais un verre d'eau."),
        (
            "Il voulait le lui dire depuis des années, mais ce n'était jamais le bon soir.",
            "Nous avons tant ri que les voisins sont venus voir.",
        ),
        (
            "Nonobstant toute stipulation contraire, la divisibilité ne s'étend pas à la clause compromissoire.",
            "Les sanglots longs des violons de l'automne blessent mon cœur d'une langueur monotone.",
        ),
    )
    line = r.choice({"en": en, "fr": fr}[lang][level])
    target = r.choice(
        {
            "en": ("Spanish", "German", "Finnish", "Japanese"),
            "fr": ("espagnol", "allemand", "finnois", "japonais"),
        }[lang]
    )
    keep = r.random() < 0.4
    text = f"Translate to {target}: {line}" if lang == "en" else f"Traduis en {target} : {line}"
    if keep:
        text += {
            "en": " Keep the rhythm and at most 40 characters a line.",
            "fr": " Garde le rythme et au plus 40 signes par ligne.",
        }[lang]
    return text, {"knowledge": level, "constraints": 2 * keep, "size": int(level > 0)}


def tickets(r: Random, lang: str) -> Made:
    n = r.randint(2, 6)
    labels = r.sample(
        {
            "en": ("billing", "login", "delivery", "praise", "bug", "legal", "other"),
            "de": ("Rechnung", "Anmeldung", "Lieferung", "Lob", "Fehler", "Recht", "Sonstiges"),
        }[lang],
        k=n,
    )
    body = r.choice(
        {
            "en": (
                "I was charged twice and nobody answers.",
                "Lovely service, thank you!",
                "Great, the app logs me out again. Exactly what I needed on a Monday.",
                "My parcel went to the wrong street and the invoice is wrong, too.",
            ),
            "de": (
                "Mir wurde doppelt abgebucht und niemand antwortet.",
                "Toller Service, danke!",
                "Super, die App meldet mich wieder ab. Genau das habe ich am Montag gebraucht.",
                "Mein Paket ging in die falsche Straße, und die Rechnung stimmt auch nicht.",
            ),
        }[lang]
    )
    several = r.random() < 0.4
    if lang == "en":
        text = f"Which label fits this ticket: {', '.join(labels)}?" + (
            " Several may apply; give each a probability and quote the words that decided it."
            if several
            else ""
        )
    else:
        text = f"Welches Etikett passt zu diesem Ticket: {', '.join(labels)}?" + (
            " Mehrere sind möglich; gib zu jedem eine Wahrscheinlichkeit an und zitiere die entscheidenden Wörter."
            if several
            else ""
        )
    return f"{text}\n\n{body}", {"operands": n // 3, "constraints": 2 * several}


def tones(r: Random, lang: str) -> Made:
    c, n = r.randint(1, 4), r.randint(1, 4)
    rules = {
        "en": ("friendlier", "half as long", "without passive voice", "for a reader of ten"),
        "es": ("más amable", "la mitad de largo", "sin voz pasiva", "para un lector de diez años"),
    }[lang]
    body = {
        "en": "Your request was received by us and cannot be processed at this time. ",
        "es": "Su solicitud fue recibida por nosotros y no puede ser tramitada por ahora. ",
    }[lang] * n
    text = (
        f"Make this {', '.join(rules[:c])}: {body}"
        if lang == "en"
        else f"Deja esto {', '.join(rules[:c])}: {body}"
    )
    return text, {"constraints": c - 1, "size": n // 4}


def scenes(r: Random, lang: str) -> Made:
    c = r.randint(0, 4)
    what = r.choice(
        {
            "en": (
                "a toast for my sister's wedding",
                "a scene in a ferry cabin",
                "a bedtime tale about a snail",
            ),
            "fr": (
                "un toast pour le mariage de ma sœur",
                "une scène dans une cabine de ferry",
                "une histoire du soir sur un escargot",
            ),
        }[lang]
    )
    rules = {
        "en": (
            "Nobody may say what they want.",
            "Tell it backwards.",
            "Each sentence is one word longer than the last.",
            "The narrator must turn out to be lying.",
            "Use no word twice but articles.",
        ),
        "fr": (
            "Personne ne dit ce qu'il veut.",
            "Raconte à rebours.",
            "Chaque phrase a un mot de plus que la précédente.",
            "Le narrateur doit se révéler menteur.",
            "Aucun mot deux fois sauf les articles.",
        ),
    }[lang]
    text = f"Write {what}." if lang == "en" else f"Écris {what}."
    return " ".join([text, *r.sample(rules, k=c)]), {"size": 1, "constraints": c}


def roadmaps(r: Random, lang: str) -> Made:
    level, c = r.randint(0, 3), r.randint(0, 3)
    en = (
        "a walk with three dogs",
        "a running plan up to ten kilometres",
        "the switch of a bank branch to a new core system",
        "a staged decommissioning of a research reactor under two regulators",
    )
    de = (
        "einen Spaziergang mit drei Hunden",
        "einen Laufplan bis zehn Kilometer",
        "die Umstellung einer Bankfiliale auf ein neues Kernsystem",
        "den gestuften Rückbau eines Forschungsreaktors unter zwei Aufsichten",
    )
    rules = {
        "en": (
            "Two people are away in week three.",
            "Nothing may depend on a single supplier.",
            "Name the point of no return.",
            "It must work on rainy days, too.",
        ),
        "de": (
            "In Woche drei fehlen zwei Leute.",
            "Nichts darf an einem einzigen Lieferanten hängen.",
            "Nenne den Punkt ohne Rückkehr.",
            "Es muss auch bei Regen gehen.",
        ),
    }[lang]
    text = f"Draw up {en[level]}." if lang == "en" else f"Entwirf {de[level]}."
    return " ".join([text, *r.sample(rules, k=c)]), {
        "steps": 1 + level,
        "size": 1,
        "constraints": c,
        "knowledge": level,
    }


def surveys(r: Random, lang: str) -> Made:
    level, n = r.randint(0, 3), r.randint(4, 12)
    rows = "\n".join(
        f"{r.choice('ABCDEF')};{r.randint(18, 80)};{r.randint(1, 10)};{r.choice(('yes', 'no'))}"
        for _ in range(n)
    )
    en = (
        "How many people answered yes?",
        "What is the mean score of those over 40?",
        "Do the scores differ between yes and no, and by how much?",
        "Which of age and group explains the score better once the other is held fixed, and what would you need to be sure?",
    )
    fr = (
        "Combien de personnes ont répondu yes ?",
        "Quelle est la note moyenne des plus de 40 ans ?",
        "Les notes diffèrent-elles entre yes et no, et de combien ?",
        "De l'âge et du groupe, lequel explique mieux la note à l'autre constant, et que faudrait-il pour en être sûr ?",
    )
    return f"{ {'en': en, 'fr': fr}[lang][level] }\n\ngroup;age;score;again\n{rows}", {
        "steps": 1 + level,
        "operands": 1 + n // 6,
        "knowledge": (0, 0, 1, 2)[level],
    }


def smalltalk(r: Random, lang: str) -> Made:
    text = r.choice(
        {
            "en": (
                "Morning! Coffee first.",
                "haha good one",
                "I missed my train again.",
                "What a lovely day it is.",
                "Are you there?",
                "No worries, talk later.",
                "My cat is asleep on the keyboard.",
            ),
            "de": (
                "Moin! Erst mal Kaffee.",
                "haha, der war gut",
                "Ich habe schon wieder den Zug verpasst.",
                "Was für ein schöner Tag.",
                "Bist du da?",
                "Alles gut, bis später.",
            ),
            "es": (
                "¡Buenas! Primero un café.",
                "jaja, qué bueno",
                "He perdido otra vez el tren.",
                "Qué día tan bonito.",
                "¿Estás ahí?",
                "Nada, hablamos luego.",
            ),
        }[lang]
    )
    return text, {}


FAMILIES = (
    Family("recipes", "math", ("en", "es"), recipes),
    Family("mechanics", "math", ("en", "de"), mechanics),
    Family("pumps", "math", ("en", "fr"), pumps),
    Family("shells", "code_generation", ("en", "de"), shells),
    Family("endpoints", "code_generation", ("en", "fr"), endpoints),
    Family("traces", "code_analysis", ("en", "es"), traces),
    Family("terms", "question_answering", ("en", "fr"), terms),
    Family("searches", "question_answering", ("en", "de"), searches),
    Family("syllogisms", "reasoning", ("en", "de"), syllogisms),
    Family("islands", "reasoning", ("en", "es"), islands),
    Family("dilemmas", "reasoning", ("en", "fr"), dilemmas),
    Family("minutes", "summary", ("en", "es"), minutes),
    Family("subtitles", "translation", ("en", "fr"), subtitles),
    Family("tickets", "text_analysis", ("en", "de"), tickets),
    Family("tones", "editing", ("en", "es"), tones),
    Family("scenes", "creative_writing", ("en", "fr"), scenes),
    Family("roadmaps", "planning", ("en", "de"), roadmaps),
    Family("surveys", "data_analysis", ("en", "fr"), surveys),
    Family("smalltalk", "conversation", ("en", "de", "es"), smalltalk),
)
