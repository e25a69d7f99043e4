"""The families by which lists of words and rules were corrected after a first look; like ``training``
they prove nothing.

Each function makes one request and says what it demands, see ``items.difficulty``.
"""
# ruff: noqa: E501

from __future__ import annotations

from random import Random

from .items import Family

Made = tuple[str, dict[str, int]]


def discounts(r: Random, lang: str) -> Made:
    """Percentages and rates, one on top of the other."""
    n = r.randint(1, 5)
    price = r.randint(20, 400)
    en = (
        f"A coat costs {price} dollars. ",
        f"The shop takes {r.choice((10, 15, 20, 25))}% off in the sale. ",
        f"Members get another {r.choice((5, 8, 12))}% off the reduced price. ",
        f"Sales tax of {r.choice((6, 7, 9))}% is added afterwards. ",
        f"Whoever pays cash is given {r.randint(2, 9)} dollars back. ",
        f"Maya has already put aside {r.randint(5, 60)} dollars and earns {r.randint(8, 20)} an hour. ",
    )
    fr = (
        f"Un manteau coûte {price} euros. ",
        f"Le magasin fait {r.choice((10, 15, 20, 25))} % de remise. ",
        f"Les membres ont encore {r.choice((5, 8, 12))} % sur le prix réduit. ",
        f"Une taxe de {r.choice((6, 7, 9))} % s'ajoute ensuite. ",
        f"Qui paie comptant reçoit {r.randint(2, 9)} euros en retour. ",
        f"Maya a déjà mis de côté {r.randint(5, 60)} euros et gagne {r.randint(8, 20)} euros par heure. ",
    )
    lines = {"en": en, "fr": fr}[lang][: n + 1]
    if n == 5:
        ask = {
            "en": "How many hours must she work?",
            "fr": "Combien d'heures doit-elle travailler ?",
        }[lang]
    else:
        ask = {"en": "What is the final price?", "fr": "Quel est le prix final ?"}[lang]
    return "".join(lines) + ask, {"steps": n, "operands": n}


def dates(r: Random, lang: str) -> Made:
    n = r.randint(1, 4)
    day = r.choice(
        {"en": ("Monday", "Friday", "Sunday"), "de": ("Montag", "Freitag", "Sonntag")}[lang]
    )
    if lang == "en":
        text = f"Today is {day}. "
        text += (
            f"What day will it be in {r.randint(2, 6)} days?",
            f"What day was it {r.randint(30, 200)} days ago?",
            f"If a meeting takes place every {r.randint(9, 16)} days, on which day will the {r.randint(4, 9)}th meeting be held?",
            f"One bus runs every {r.randint(4, 9)} days and another every {r.randint(10, 16)} days; both ran yesterday. On which day of the week do they next run together, and how often will each have run by then?",
        )[n - 1]
    else:
        text = f"Heute ist {day}. "
        text += (
            f"Welcher Tag ist in {r.randint(2, 6)} Tagen?",
            f"Welcher Tag war vor {r.randint(30, 200)} Tagen?",
            f"Wenn eine Sitzung alle {r.randint(9, 16)} Tage stattfindet, auf welchen Tag fällt die {r.randint(4, 9)}. Sitzung?",
            f"Ein Bus fährt alle {r.randint(4, 9)} Tage, ein anderer alle {r.randint(10, 16)} Tage; gestern fuhren beide. An welchem Wochentag fahren sie das nächste Mal zusammen, und wie oft ist bis dahin jeder gefahren?",
        )[n - 1]
    return text, {"steps": (1, 2, 3, 5)[n - 1], "operands": n}


def calculus(r: Random, lang: str) -> Made:
    a, b, c = r.randint(2, 9), r.randint(2, 7), r.randint(1, 9)
    level = r.randint(0, 3)
    en = (
        f"What is {a * 7} minus {b}?",
        f"Differentiate f(x) = {a}x^{b} + {c}x.",
        f"Evaluate the integral of x^{b} e^({a}x) from 0 to {c}.",
        f"Find all functions f: R -> R with f(x + {a}y) = f(x) + {b} f(y) + {c}xy for all real x, y, and show there are no others.",
    )
    de = (
        f"Was ist {a * 7} minus {b}?",
        f"Leite f(x) = {a}x^{b} + {c}x ab.",
        f"Werte das Integral von x^{b} e^({a}x) von 0 bis {c} aus.",
        f"Finde alle Funktionen f: R -> R mit f(x + {a}y) = f(x) + {b} f(y) + {c}xy für alle reellen x, y, und zeige, dass es keine weiteren gibt.",
    )
    text = {"en": en, "de": de}[lang][level]
    return text, {"steps": (1, 1, 3, 4)[level], "operands": (1, 2, 2, 3)[level], "knowledge": level}


def queries(r: Random, lang: str) -> Made:
    n = r.randint(1, 5)
    schema = "customers(id, city), orders(id, customer_id, placed_at, total), items(order_id, sku, quantity), products(sku, category, cost)"
    en = (
        "list all customers in Lyon",
        "count orders per customer",
        "give the revenue per category and month",
        "find customers whose spending fell in three consecutive months",
        "rank categories by margin within each city, ignoring returns, and keep ties",
    )
    de = (
        "alle Kunden aus Lyon",
        "die Zahl der Bestellungen je Kunde",
        "den Umsatz je Kategorie und Monat",
        "die Kunden, deren Ausgaben drei Monate in Folge fielen",
        "die Rangfolge der Kategorien nach Marge je Stadt, ohne Rückgaben und mit Gleichständen",
    )
    dialect = r.choice(("Postgres", "SQLite", "MySQL"))
    if lang == "en":
        text = f"Given the tables {schema}, write a {dialect} query to {en[n - 1]}."
    else:
        text = (
            f"Gegeben sind die Tabellen {schema}. Schreibe eine {dialect}-Abfrage für {de[n - 1]}."
        )
    return text, {
        "steps": (1, 1, 2, 4, 4)[n - 1],
        "operands": n // 2,
        "constraints": (0, 0, 0, 1, 2)[n - 1],
        "knowledge": 1,
    }


def algorithms(r: Random, lang: str) -> Made:
    level = r.randint(0, 3)
    tongue = r.choice(("Python", "C++", "Kotlin", "Scala"))
    en = (
        "prints the numbers from 1 to 10",
        "checks whether a string is a palindrome, ignoring spaces",
        "finds the k shortest loopless paths between two nodes of a weighted graph",
        "maintains the convex hull of a moving point set under insertions and deletions in polylogarithmic amortised time",
    )
    es = (
        "imprima los números del 1 al 10",
        "compruebe si una cadena es un palíndromo, sin contar espacios",
        "halle los k caminos más cortos sin ciclos entre dos nodos de un grafo ponderado",
        "mantenga la envolvente convexa de puntos móviles con inserciones y borrados en tiempo amortizado polilogarítmico",
    )
    extras = {
        "en": (
            "Keep memory linear.",
            "It has to accept streams that never end.",
            "Add property-based checks.",
        ),
        "es": (
            "La memoria debe ser lineal.",
            "Tiene que aceptar flujos infinitos.",
            "Añade pruebas por propiedades.",
        ),
    }[lang]
    c = r.randint(0, 2) if level else 0
    text = (
        f"I need a {tongue} function that {en[level]}."
        if lang == "en"
        else f"Necesito una función en {tongue} que {es[level]}."
    )
    return " ".join([text, *r.sample(extras, k=c)]), {
        "steps": 1 + level,
        "size": 1,
        "constraints": c,
        "knowledge": level,
    }


def outputs(r: Random, lang: str) -> Made:
    """What a program prints: loops within loops."""
    depth = r.randint(1, 3)
    lines, pad = [f"let n = {r.randint(0, 3)};"], ""
    for i in range(depth):
        lines.append(f"{pad}for (let v{i} = 0; v{i} < {r.randint(2, 6)}; v{i}++) {{")
        pad += "  "
    lines.append(f"{pad}n += v{depth - 1} * {r.randint(2, 4)};")
    if depth > 1:
        lines.append(f"{pad}if (n % {r.randint(3, 7)} === 0) {{ n = n - v0; }}")
    for _ in range(depth):
        pad = pad[2:]
        lines.append(pad + "}")
    lines.append("console.log(n);")
    ask = {"en": "What is printed here?", "de": "Was wird hier ausgegeben?"}[lang]
    return ask + "\n\n" + "\n".join(lines), {
        "steps": 1 + 2 * (depth - 1),
        "operands": depth,
        "knowledge": 1,
    }


CHOICES = {
    "en": (
        (0, "Which of these can fly?", ("A stone", "A sparrow", "A table", "A shoe")),
        (0, "Where do you keep milk?", ("In the oven", "In the fridge", "In a drawer", "On the roof")),
        (1, "Which force keeps planets in orbit?", ("Friction", "Gravity", "Tension", "Magnetism")),
        (1, "In a right triangle with legs 3 and 4, how long is the hypotenuse?", ("5", "6", "7", "12")),
        (2, "Under the doctrine of promissory estoppel, reliance must be", ("immediate and written", "reasonable and detrimental", "mutual and simultaneous", "intentional and malicious")),
        (2, "A perfectly elastic supply curve implies that a per-unit tax is borne", ("entirely by producers", "entirely by consumers", "equally by both", "by neither side")),
        (3, "Which spectral sequence relates the cohomology of the base and the fibre to that of the total space?", ("Adams", "Leray-Serre", "Atiyah-Hirzebruch in degenerate form", "Grothendieck of composite functors")),
        (3, "Loss of which phosphatase most directly sustains phosphatidylinositol signalling downstream of receptor tyrosine kinases?", ("PTEN", "PP2A catalytic subunit", "SHP2", "calcineurin")),
    ),
    "de": (
        (0, "Was davon kann fliegen?", ("Ein Stein", "Ein Spatz", "Ein Tisch", "Ein Schuh")),
        (0, "Wo bewahrt man Milch auf?", ("Im Ofen", "Im Kühlschrank", "In der Schublade", "Auf dem Dach")),
        (1, "Welche Kraft hält Planeten auf ihrer Bahn?", ("Reibung", "Gravitation", "Spannung", "Magnetismus")),
        (1, "Wie lang ist die Hypotenuse eines rechtwinkligen Dreiecks mit Katheten 3 und 4?", ("5", "6", "7", "12")),
        (2, "Eine Willenserklärung unter Abwesenden wird wirksam mit", ("Abgabe", "Zugang", "Kenntnisnahme", "notarieller Beurkundung")),
        (3, "Welche Spektralsequenz verbindet die Kohomologie von Basis und Faser mit der des Totalraums?", ("Adams", "Leray-Serre", "Atiyah-Hirzebruch im entarteten Fall", "Grothendieck für zusammengesetzte Funktoren")),
        (3, "Der Verlust welcher Phosphatase erhält die Signalkaskade unterhalb von Rezeptortyrosinkinasen am unmittelbarsten aufrecht?", ("PTEN", "katalytische Untereinheit von PP2A", "SHP2", "Calcineurin")),
    ),
}  # fmt: skip


def choices(r: Random, lang: str) -> Made:
    level, stem, options = r.choice(CHOICES[lang])
    shown = list(options)
    r.shuffle(shown)
    text = (
        stem + "\n" + "\n".join(f"{letter}. {o}" for letter, o in zip("ABCD", shown, strict=True))
    )
    if r.random() < 0.5:
        text += {"en": "\nAnswer with one letter.", "de": "\nAntworte mit einem Buchstaben."}[lang]
    return text, {"steps": 1 + level // 2, "knowledge": level, "operands": 1 if "3" in stem else 0}


def kin(r: Random, lang: str) -> Made:
    n = r.randint(1, 5)
    en = ("brother", "sister", "uncle", "grandmother", "cousin", "nephew", "aunt")
    de = ("Bruder", "Schwester", "Onkel", "Großmutter", "Cousin", "Neffe", "Tante")
    words = [r.choice({"en": en, "de": de}[lang]) for _ in range(n)]
    if lang == "en":
        text = "How am I related to " + "'s ".join(["my " + words[0], *words[1:]]) + "?"
    else:
        text = (
            "Wie bin ich verwandt mit "
            + " von ".join("der Person namens " + w for w in words)
            + "?"
        )
    return text, {"steps": n, "operands": n // 2}


def seats(r: Random, lang: str) -> Made:
    n, c = r.randint(2, 6), r.randint(1, 5)
    people = r.sample(("Ada", "Bo", "Cem", "Dora", "Emil", "Fay", "Gus"), k=n)
    if lang == "en":
        clues = [
            r.choice(
                (
                    "{a} does not sit beside {b}.",
                    "{a} sits left of {b} unless {b} is at an end.",
                    "There is exactly one person between {a} and {b}.",
                    "If {a} is at the window, {b} is at the door.",
                )
            )
            for _ in range(c)
        ]
        text = (
            f"{', '.join(people)} share a bench. " + " ".join(clues) + " In what order do they sit?"
        )
    else:
        clues = [
            r.choice(
                (
                    "{a} n'est pas à côté de {b}.",
                    "{a} est à gauche de {b} sauf si {b} est au bout.",
                    "Il y a exactement une personne entre {a} et {b}.",
                    "Si {a} est à la fenêtre, {b} est à la porte.",
                )
            )
            for _ in range(c)
        ]
        text = (
            f"{', '.join(people)} partagent un banc. "
            + " ".join(clues)
            + " Dans quel ordre sont-ils assis ?"
        )
    a, b = people[0], people[-1]
    return text.format(a=a, b=b), {"steps": 1 + c // 2, "operands": n // 2, "constraints": c}


MAILS = {
    "en": "Hello everyone, the printer on the second floor is out of order again. A technician comes on Thursday. Until then please use the one beside the kitchen, and refill the paper when you took the last sheet. ",
    "de": "Hallo zusammen, der Drucker im zweiten Stock ist wieder kaputt. Am Donnerstag kommt jemand. Bis dahin nehmt bitte den neben der Küche, und füllt Papier nach, wenn ihr das letzte Blatt genommen habt. ",
}  # fmt: skip


def mails(r: Random, lang: str) -> Made:
    n, c = r.randint(1, 12), r.randint(0, 3)
    demands = {
        "en": ("Keep it to one line.", "Leave out every date.", "Say who has to do what.", "Write it as if to the head of the company."),
        "de": ("Höchstens eine Zeile.", "Lass alle Tage weg.", "Sag, wer was tun muss.", "Schreib es wie für die Chefin."),
    }[lang]  # fmt: skip
    ask = {"en": "Give me the gist of this mail.", "de": "Worum geht es in dieser Mail?"}[lang]
    text = " ".join([ask, *r.sample(demands, k=c)]) + "\n\n---\n" + MAILS[lang] * n
    return text, {"constraints": c, "size": n // 6}


def renderings(r: Random, lang: str) -> Made:
    level = r.choice((0, 0, 1, 2))
    en = (
        "Where is the station?",
        "My neighbour waters the plants while I am away, and I bring her cake.",
        "The tenant shall indemnify and hold harmless the lessor from any liability arising out of the negligent use of the premises.",
    )
    es = (
        "¿Dónde está la estación?",
        "Mi vecina riega las plantas cuando no estoy, y yo le llevo pastel.",
        "El arrendatario indemnizará y mantendrá indemne al arrendador frente a toda responsabilidad derivada del uso negligente del inmueble.",
    )
    other = {"en": ("German", "Turkish", "Polish"), "es": ("alemán", "turco", "polaco")}[lang]
    if lang == "en":
        text = f'How would you say this in {r.choice(other)}? "{en[level]}"'
    else:
        text = f"¿Cómo se dice esto en {r.choice(other)}? «{es[level]}»"
    if level and r.random() < 0.5:
        text += {
            "en": " Give a literal and an idiomatic version.",
            "es": " Da una versión literal y otra idiomática.",
        }[lang]
        return text, {"knowledge": level, "size": level, "constraints": 1}
    return text, {"knowledge": level, "size": level // 2}


def records(r: Random, lang: str) -> Made:
    n = r.randint(1, 6)
    keys = r.sample(
        (
            "sender",
            "parcel_id",
            "weight_kg",
            "insured",
            "stops",
            "signature_required",
            "customs_value",
        ),
        k=n,
    )
    body = {
        "en": "Parcel 7781 left Ghent with 3.4 kg, was held in Liege for customs (valued 120 EUR) and then signed for in Metz by M. Roy.",
        "fr": "Le colis 7781 est parti de Gand avec 3,4 kg, a été retenu à Liège par la douane (valeur 120 EUR), puis signé à Metz par M. Roy.",
    }[lang]
    nested = r.random() < 0.4
    if lang == "en":
        text = f"Turn this note into JSON with {', '.join(keys)}" + (
            ", nesting each stop with its time and null where nothing is said." if nested else "."
        )
    else:
        text = f"Mets cette note en JSON avec {', '.join(keys)}" + (
            ", chaque arrêt imbriqué avec son heure et null là où rien n'est dit."
            if nested
            else "."
        )
    return f"{text}\n\n{body}", {"operands": n // 2, "constraints": 2 * nested, "size": 0}


def verses(r: Random, lang: str) -> Made:
    c = r.randint(0, 4)
    topic = r.choice(
        {"en": ("rain", "trains", "my cat"), "de": ("Regen", "Züge", "meine Katze")}[lang]
    )
    rules = {
        "en": ("Rhyme it ABBA.", "Hide the name LENA as an acrostic.", "Let every line hold one colour and no adjective twice.", "Ten syllables a line.", "Turn the meaning around in the last couplet."),
        "de": ("Reime ABBA.", "Verstecke den Namen LENA als Akrostichon.", "Jede Zeile enthält eine Farbe und kein Adjektiv zweimal.", "Zehn Silben je Zeile.", "Kehre im letzten Reimpaar den Sinn um."),
    }[lang]  # fmt: skip
    ask = {
        "en": f"A few lines of verse on {topic}, please.",
        "de": f"Ein paar Verse über {topic}, bitte.",
    }[lang]
    return " ".join([ask, *r.sample(rules, k=c)]), {"size": 1, "constraints": c}


def projects(r: Random, lang: str) -> Made:
    level = r.randint(0, 3)
    en = (
        "a picnic on Saturday",
        "revision for a history exam over two weeks",
        "moving a hospital's appointment system to another data centre",
        "a multi-region event-sourced ledger that survives the loss of any two regions",
    )
    es = (
        "un picnic el sábado",
        "el repaso de un examen de historia en dos semanas",
        "el traslado del sistema de citas de un hospital a otro centro de datos",
        "un libro contable distribuido por eventos que sobreviva a la pérdida de dos regiones",
    )
    rules = {
        "en": (
            "Nobody may work at night.",
            "Say what happens when a step fails.",
            "There are 3 people and 2 vehicles.",
            "Show which steps can run at the same time.",
        ),
        "es": (
            "Nadie puede trabajar de noche.",
            "Di qué pasa cuando falla un paso.",
            "Hay 3 personas y 2 vehículos.",
            "Muestra qué pasos pueden ir a la vez.",
        ),
    }[lang]
    c = r.randint(0, 3)
    text = f"Help me organise {en[level]}." if lang == "en" else f"Ayúdame a organizar {es[level]}."
    return " ".join([text, *r.sample(rules, k=c)]), {
        "steps": 1 + level,
        "size": 1,
        "constraints": c,
        "knowledge": level,
    }


def measurements(r: Random, lang: str) -> Made:
    n, level = r.randint(4, 14), r.randint(1, 4)
    rows = "\n".join(f"{2000 + i} | {r.randint(3, 40)} | {r.randint(100, 900)}" for i in range(n))
    en = (
        "In which year was the second column largest?",
        "By how much did the third column grow from the first to the last year?",
        "Is there a relation between the two columns, and how strong is it?",
        "Fit a line, name the years that deviate most, and say whether a break in the series explains them better.",
    )
    de = (
        "In welchem Jahr war die zweite Spalte am größten?",
        "Um wie viel wuchs die dritte Spalte vom ersten zum letzten Jahr?",
        "Hängen beide Spalten zusammen, und wie stark?",
        "Passe eine Gerade an, nenne die Jahre mit der größten Abweichung, und sag, ob ein Bruch in der Reihe sie besser erklärt.",
    )
    ask = {"en": en, "de": de}[lang][level - 1]
    return f"year | rain | crop\n{rows}\n\n{ask}", {
        "steps": level,
        "operands": 1 + n // 6,
        "knowledge": (0, 0, 1, 1)[level - 1],
    }


def talk(r: Random, lang: str) -> Made:
    text = r.choice(
        {
            "en": (
                "Hey there, long day today.",
                "I just had lunch.",
                "You are funny!",
                "ok cool",
                "Do you like winter?",
                "See you tomorrow.",
            ),
            "de": (
                "Na, wie läuft's?",
                "Ich habe gerade gegessen.",
                "Du bist lustig!",
                "Magst du den Winter?",
                "Bis morgen dann.",
            ),
            "fr": (
                "Salut, ça va ?",
                "Je viens de manger.",
                "Tu es drôle !",
                "Tu aimes l'hiver ?",
                "À demain.",
            ),
        }[lang]
    )
    return text, {}


def arguments(r: Random, lang: str) -> Made:
    level, c = r.randint(0, 3), r.randint(0, 2)
    en = (
        "that dogs make better pets than cats",
        "for a speed limit in towns",
        "that central banks should target nominal income instead of inflation",
        "that the anthropic principle undermines fine-tuning arguments in cosmology",
    )
    de = (
        "dass Hunde bessere Haustiere sind als Katzen",
        "für ein Tempolimit in Städten",
        "dass Zentralbanken das nominale Einkommen statt der Inflation steuern sollten",
        "dass das anthropische Prinzip Feinabstimmungsargumente in der Kosmologie entkräftet",
    )
    rules = {
        "en": (
            "Answer the two strongest objections.",
            "Name the premise that everything hangs on.",
            "Do not appeal to authority.",
        ),
        "de": (
            "Entkräfte die zwei stärksten Einwände.",
            "Nenne die Prämisse, an der alles hängt.",
            "Berufe dich nicht auf Autoritäten.",
        ),
    }[lang]
    text = (
        f"Make the case {en[level]}."
        if lang == "en"
        else f"Argumentiere, {de[level]}."
        if level != 1
        else f"Argumentiere {de[level]}."
    )
    return " ".join([text, *r.sample(rules, k=c)]), {
        "steps": 1 + level,
        "constraints": c,
        "knowledge": level,
    }


FAMILIES = (
    Family("discounts", "math", ("en", "fr"), discounts),
    Family("dates", "math", ("en", "de"), dates),
    Family("calculus", "math", ("en", "de"), calculus),
    Family("queries", "code_generation", ("en", "de"), queries),
    Family("algorithms", "code_generation", ("en", "es"), algorithms),
    Family("outputs", "code_analysis", ("en", "de"), outputs),
    Family("choices", "question_answering", ("en", "de"), choices),
    Family("kin", "reasoning", ("en", "de"), kin),
    Family("seats", "reasoning", ("en", "fr"), seats),
    Family("arguments", "reasoning", ("en", "de"), arguments),
    Family("mails", "summary", ("en", "de"), mails),
    Family("renderings", "translation", ("en", "es"), renderings),
    Family("records", "text_analysis", ("en", "fr"), records),
    Family("verses", "creative_writing", ("en", "de"), verses),
    Family("projects", "planning", ("en", "es"), projects),
    Family("measurements", "data_analysis", ("en", "de"), measurements),
    Family("talk", "conversation", ("en", "de", "fr"), talk),
)
