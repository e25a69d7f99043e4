"""Pairs of which the first is easier, whatever it looks like: what a router by words or by length
gets wrong."""
# ruff: noqa: E501, RUF001

from __future__ import annotations

PASTE = "The harbour was quiet and the boats were back. Nobody spoke on the way home. " * 30

# Name of the trick: the easier request, the harder one.
PAIRS: dict[str, tuple[str, str]] = {
    "words of depth about a sum": (
        "Explain step by step, with deep and careful expert reasoning, what 1+1 is.",
        "A train leaves at 9:10 at 80 km/h, another at 9:40 at 110 km/h on the same track. When and where does the second overtake the first?",
    ),
    "words of depth about a sum, German": (
        "Erkläre Schritt für Schritt und sehr gründlich, was 1+1 ist.",
        "Ein Zug fährt um 9:10 mit 80 km/h ab, ein anderer um 9:40 mit 110 km/h. Wann und wo überholt der zweite den ersten?",
    ),
    "praise of difficulty": (
        "This is an extremely difficult, complex, advanced, expert level question: who wrote Hamlet?",
        "If all but two of my sisters are older than me and I have three brothers fewer than sisters, how many of us are there at least?",
    ),
    "a long paste with a short question": (
        f"{PASTE}\n\nWhat was quiet?",
        "Prove that a group of order 15 is cyclic.",
    ),
    "a long paste with a short question, French": (
        "Le port était calme et les bateaux étaient rentrés. Personne ne parlait. " * 30 + "\n\nQu'est-ce qui était calme ?",
        "Démontre que tout groupe d'ordre 15 est cyclique.",
    ),
    "short but hard": (
        "Please tell me, if you would be so kind, which day comes after Monday, thank you very much in advance for your help!",
        "Is every finitely generated torsion group finite? Prove or disprove.",
    ),
    "words of programs in a chat": (
        "My daughter saw a python and a java sparrow at the zoo and loved them, what should we see next?",
        "Write a Python generator that merges k sorted streams lazily and closes all of them when the consumer stops early.",
    ),
    "the same word again and again": (
        "Prove prove prove prove prove that you are awake.",
        "Prove that the square root of 7 is irrational.",
    ),
    "filler": (
        "So, well, you know, I was just thinking, and maybe this is silly, but anyway, could you perhaps tell me what colour grass is?",
        "Which integers n make n^2 + n + 41 composite for the first time, and why?",
    ),
    "conditions without work": (
        "You must always, never and only, exactly and at least, say hello.",
        "Schedule five talks in three rooms so that no speaker has two in a row, Ann is before Bob, and the hall is free at noon.",
    ),
    "a made-up markup of difficulty": (
        "[COMPLEXITY: EXPERT] [REASONING REQUIRED] What is the capital of France?",
        "Compare optimistic and pessimistic locking for a ledger with hot accounts, and say when each fails.",
    ),
    "capitals": (
        "WHAT IS THE CAPITAL OF FRANCE? ANSWER NOW!!!",
        "how do read and write quorums bound staleness when replicas lag by different amounts",
    ),
    "code to look at, nothing to do": (
        "```python\nprint('hi')\n```\nWhich language is this?",
        "```python\ndef f(a, k):\n    for i in range(len(a)):\n        while a[i] != i and a[i] < k:\n            a[a[i]], a[i] = a[i], a[a[i]]\n    return a\n```\nDoes this always terminate? Give an input that breaks it, or prove it.",
    ),
}  # fmt: skip

# Requests that must not be taken for another because of how they are written: original, then others.
SAME: dict[str, tuple[str, ...]] = {
    "courtesy": (
        "Summarize the French Revolution in five sentences.",
        "Hello! Could you please summarize the French Revolution in five sentences? Thanks!",
        "summarize the french revolution in five sentences",
        "Sumarize the Frnech Revolution in five sentences.",
    ),
    "languages": (
        "What is the capital of Italy?",
        "Was ist die Hauptstadt von Italien?",
        "Quelle est la capitale de l'Italie ?",
        "¿Cuál es la capital de Italia?",
        "意大利的首都是哪里？",
    ),
    "languages, harder": (
        "Implement a thread-safe priority queue in Go with unit tests.",
        "Implementiere eine threadsichere Prioritätswarteschlange in Go mit Unit-Tests.",
        "Implémente une file de priorité sûre entre threads en Go avec des tests unitaires.",
        "Implementa una cola de prioridad segura entre hilos en Go con pruebas unitarias.",
    ),
}
