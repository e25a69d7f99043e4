"""PURE: the few words that the router knows, by language.

They tell the language, leave grammar out of what a text is about, and name kinds of work. None of
them alone makes a request hard: what is asked for is measured by structure, see ``signals``. Words
are compared without accents and in small letters; a trailing ``*`` takes any ending, ``de:`` before a word keeps it
to that language.
"""

# ruff: noqa: RUF001, E501

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

# So many words of a language are remembered with what they may be.
MOST_MET = 20_000
_ACCENTS = re.compile("[\u0300-\u036f]+")


def plain(text: str) -> str:
    """Small letters without accents, as all words are compared."""
    folded = text.casefold()
    if folded.isascii():
        return folded
    return _ACCENTS.sub("", unicodedata.normalize("NFD", folded)).replace("’", "'")


# Grammar: enough of it to tell languages apart. Words that two languages share are in both.
FUNCTION_WORDS: Mapping[str, str] = {
    "en": """the a an and or but if then than so as of to in on at by for with from into about over
        under between after before during without within is are was were be been being am do does
        did done have has had having will would shall should can could may might must not no nor
        this that these those there here it its he she they them his her their our your my me you we
        us i who whom whose which what when where why how all any some each every both few many much
        more most other another such only own same too very just also again once up down out off
        because while until though although whether either neither it's don't isn't i'm let get got
        one's please""",
    "de": """der die das den dem des ein eine einer eines einem einen und oder aber wenn dann als so
        wie von zu zum zur in im an am auf bei fur mit aus nach vor uber unter zwischen durch ohne um
        gegen seit wahrend ist sind war waren sein bin bist wird werden wurde wurden habe hat haben
        hatte kann konnen konnte muss mussen soll sollen sollte darf durfen will wollen nicht kein
        keine keinen keiner dieser diese dieses diesen jener es er sie ihn ihm ihr ihre ihren ihrem
        sein seine seinen mein meine dein deine wir uns ich mich mir du dich dir wer wen wem wessen
        was wann wo warum welche welcher welches welchen alle alles einige jeder jede jedes jeden
        beide viel viele mehr sehr auch nur noch schon mal man sich da dort hier ob weil dass bis
        damit sowie entweder weder bitte""",
    "fr": """le la les l un une des du de d et ou mais si alors que qu qui quoi dont ou quand comment
        pourquoi quel quelle quels quelles combien a au aux en dans sur sous par pour avec sans entre
        vers chez apres avant pendant depuis est sont etait etaient etre suis es ete ai as avons avez
        ont avait peut peuvent pouvoir doit doivent devoir ne pas plus moins ni ce cet cette ces cela
        ca il elle ils elles on nous vous je j tu me m te se s lui leur leurs son sa ses mon ma mes
        ton ta tes notre nos votre vos tout toute tous toutes chaque quelques plusieurs autre autres
        meme tres trop aussi encore y parce lorsque afin ainsi c n""",
    "es": """el la los las lo un una unos unas y o u e pero si entonces que quien quienes cual cuales
        cuando donde como por para con sin sobre entre hacia desde hasta tras durante segun a al de
        del en es son era eran ser estar esta este estan fue fueron ha han he hay habia puede pueden
        poder debe deben no ni mas menos muy tan tambien ya yo tu el ella ellos ellas nosotros me te
        se le les nos su sus mi mis tus nuestro esto eso esta ese esa estos esas aquel todo toda
        todos todas cada algun alguno algunos otro otra otros porque aunque mientras cuanto cuantos
        cuantas cuyo cuya""",
    "it": """il lo la i gli le un uno una e o ma se allora che chi cui quale quali quando dove come
        perche di del dello della dei degli delle a al allo alla ai agli alle da dal dalla in nel
        nella nei nelle con su sul sulla per tra fra senza e sono era erano essere ho hai ha abbiamo
        hanno puo possono deve devono non ne piu meno molto anche solo questo questa questi queste
        quello quella io tu lui lei noi voi loro mi ti si ci vi suo sua suoi mio tuo ogni tutto tutti
        quanto quanti quante""",
    "pt": """o a os as um uma uns umas e ou mas se entao que quem qual quais quando onde como por para
        com sem sobre entre ate desde do da dos das de no na nos nas em ao aos pelo pela e sao era
        eram ser estar esta estao foi foram tem ha pode podem deve devem nao nem mais menos muito
        tambem ja eu tu ele ela eles elas nos voce voces me te se lhe seu sua seus suas meu minha
        este esta isso isto esse essa cada todo toda todos todas outro porque embora enquanto quanto
        quantos quantas""",
    "nl": """de het een en of maar als dan van naar in op aan bij voor met uit over onder tussen door
        zonder om tegen sinds tijdens is zijn was waren wordt worden werd heb heeft hebben had kan
        kunnen moet moeten mag zal zullen niet geen deze dit die dat er hij zij ze hem haar hun ons
        wij we ik mij je jij u wie wat wanneer waar waarom hoe welke alle elke ieder veel meer zeer
        ook nog al omdat terwijl hoeveel""",
}

# How words of content are long in a language, on average, in plain texts.
USUAL_LENGTH: Mapping[str, float] = {
    "en": 5.4, "de": 6.6, "fr": 6.0, "es": 6.2, "it": 6.2, "pt": 6.0, "nl": 6.2, "ru": 6.4,
}  # fmt: skip

# What limits an answer.
LIMITS = """must should exactly only without avoid least most maximum minimum never always cannot
    ensure limit within precisely respectively handle support include* except
    muss mussen genau nur ohne hochstens mindestens maximal minimal nie niemals immer vermeide*
    jeweils sollte beachte*
    doit doivent exactement seulement uniquement sans maximum minimum jamais toujours evite* moins
    debe deben exactamente solo solamente sin maximo minimo nunca siempre evita*
    deve devono esattamente soltanto senza massimo exatamente apenas sem moet precies alleen"""

# What makes a statement one about cases: quantifiers, conditions, negations, comparisons.
LOGIC = """if unless not no none neither nor every each all some any exactly either both only except
    whenever iff implies therefore given suppose assume than otherwise always never
    wenn falls nicht kein* jeder jede jedes alle einige entweder weder genau sofern angenommen ausser
    immer sonst
    si sauf ne aucun aucune chaque tous toutes quelque* ni soit supposons sinon toujours jamais
    no ningun* cada todos todas algun* ni salvo excepto supon* siempre nunca
    se nessun* ogni tutti nenhum* todo als niet geen elke alle tenzij"""

# What joins clauses to one sentence, or tells an order of events.
JOINS = """because while when after before until since although though whereas which whose who then
    next finally afterwards later instead remaining rest
    weil wahrend nachdem bevor bis obwohl dessen deren dann danach anschliessend schliesslich zuerst
    ubrig* rest sobald
    parce pendant apres avant quoique dont puis ensuite enfin lorsque tandis restant* reste
    porque mientras despues antes aunque cuyo cuya luego finalmente primero resto
    perche mentre dopo prima poi infine depois enquanto omdat terwijl daarna"""

# What leads from one thing to the next: "the mother of the author of the book".
LINKS = """of whose that who von dessen deren des du de dont qui cuyo cuya del que di della dello van
    do da"""

# Numbers in letters, from two on.
NUMBERS = """two three four five six seven eight nine ten eleven twelve twenty thirty fifty hundred
    half twice double triple dozen third quarter percent
    zwei drei vier funf sechs sieben acht neun zehn elf zwolf zwanzig hundert halb* doppelt* dritte*
    viertel prozent
    deux trois quatre cinq sept huit neuf dix onze douze vingt cent moitie double tiers quart
    dos tres cuatro cinco seis siete ocho nueve diez doce veinte cien mitad doble tercio
    due tre quattro sei sette otto nove dieci meta doppio dois sete oito nove dez metade dobro
    twee drie vier zes zeven negen tien helft dubbel"""

# Politeness and praise: says nothing of the work.
COURTESY = """please thanks thank hello hi hey dear kindly sorry cheers greetings appreciate wondering
    could would can you
    bitte danke hallo servus guten tag morgen lieber liebe gerne konntest konnten konnen wurdest
    merci bonjour salut plait svp pourriez pourrais peux pouvez
    gracias hola favor buenos dias podrias puedes podria
    grazie ciao obrigado ola bedankt hallo alstublieft"""

# Units in which the length of an answer is told.
SIZES = """words pages lines paragraphs sentences chapters essays
    worte worter wortern seiten zeilen absatze absatzen satze satzen kapitel
    mots pages lignes paragraphes phrases chapitres
    palabras paginas lineas parrafos frases capitulos
    parole pagine righe paragrafi woorden regels"""

# How deep a piece of work goes, after Bloom's taxonomy: 1 remember, 2 understand, 3 apply,
# 4 analyse, 5 evaluate, 6 create.
DEPTHS: Mapping[int, str] = {
    1: """what who when where which name list define say tell repeat spell
        was wer wann wo nenne nennen liste buchstabiere sag
        quel quelle qui quand ou nomme liste cite dis epelle
        que quien cuando donde cual nombra lista di deletrea""",
    2: """explain describe summari* translate rephrase rewrite paraphras* convert classify
        erklare erklaren beschreibe zusammen* ubersetz* formuliere
        explique* decris decrire fr:resume tradui* reformule*
        explica* describe resum* traduc* reformula*""",
    3: """solve calculate compute find apply write make fix show use determine how
        de:lose berechne* finde schreib* zeige bestimme* wie
        resous resoudre calcule* trouve* ecris ecrire montre* comment
        resuelve resolver calcula* encuentra escribe muestra como""",
    4: """compare analy* why diagnose debug infer deduce deduze conclude distinguish investigate
        vergleich* analysier* warum untersuche* folgere ermittle*
        compare* analyse* pourquoi deduis deduire
        compara* analiza* por deduce""",
    5: """evaluate assess critique justify argue recommend review decide weigh verify objections
        persuade debate pros cons
        bewerte* beurteile* begrunde* argumentier* einwand* empfiehl empfehle* prufe* entscheide*
        evalue* juge* justifie* recommande* critique* argumente* objection*
        evalua* justifica* recomienda* critica* argumenta* objecion*""",
    6: """design implement prove derive develop architect optimi* invent formulate propose plan
        construct refactor disprove generali* synthesi* build
        organi* entwirf entwerfe* implementier* beweis* leite entwickle* optimier* konstruier* de:plane
        concois concevoir implemente* prouve* demontre* derive* developpe* optimise* planifie*
        disena* implementa* demuestra* demostrar desarrolla* optimiza* planifica*""",
}  # fmt: skip

# Kinds of work by what they are called. Of "code" both lists must be met, see ``tasks``.
MAKING = """write implement create build make fix refactor add port rewrite develop generate debug
    convert optimize complete design give show code review
    schreib* implementier* erstell* bau* programmier* behebe* entwickle* entwirf optimier* erganz*
    ecris ecrire implemente* cree* construis programme* corrige* developpe* genere* ecrivez
    escribe* implementa* crea* construye* programa* corrige* desarrolla* genera*
    scrivi implementa crea escreva implemente crie schrijf maak"""
CODE = """code function method class script program algorithm api endpoint regex query sql python rust
    javascript typescript java kotlin swift golang haskell ruby php bash html css react django pandas
    compiler parser unittest unittests module library recursion array linked hashmap iterator
    decorator thread async queue stack tree heap graph cache server schema database binary sort
    funktion klasse skript programm algorithmus abfrage methode warteschlange
    fonction classe script programme algorithme requete methode
    funcion clase programa algoritmo consulta metodo
    funzione funcao functie"""
TASK_WORDS: Mapping[str, str] = {
    "translation": """translate translation translat* ubersetz* tradui* traduction traduis traduc*
        traduz* tradurre traduci vertaal*""",
    "summary": """summari* summary tldr condense shorten gist recap overview digest abstract
        zusammenfass* uberblick worum fasse kurze fr:resume resumer
        resumez synthetise* essentiel es:resume resumen esencia resumir riassum* resuma samenvat*""",
    "text_analysis": """classify categor* sentiment extract entities label tag identify detect tone
        json fields parse spam keywords
        klassifizier* extrahier* stimmung kategor* bestimme erkenne einordn* felder
        classe classifie* extrais extraire sentiment etiquette* identifie* champs
        clasifica* extrae extraer sentimiento etiqueta* identifica* campos""",
    "editing": """rewrite rephrase paraphras* proofread correct grammar polish shorten
        formuliere umformulier* korrigier* lektorier* reformule* corrige* reecris relis
        reescribe* corrige* reformula* revisa*""",
    "creative_writing": """story poem haiku novel song lyrics limerick sonnet fairy tale dialogue
        slogan screenplay fiction villanelle ballad monologue verse* rhyme* acrostic essay blog
        vers verse reim* aufsatz geschichte gedicht marchen lied erzahlung roman dialog
        vers rime* redaction histoire poeme conte chanson roman recit dialogue
        verso* rima* ensayo cuento poema cancion novela relato dialogo historia""",
    "math": """solve equation integral derivative integrate differentiate polynomial matrix theorem
        lemma probability modulo triangle perimeter prime divisor proof prove eigenvalue calculate
        compute sum product remainder
        gleichung ableitung integral beweis* wahrscheinlichkeit dreieck primzahl berechne* summe
        de:lose produkt de:rest
        equation derivee integrale prouve* demontre* probabilite triangle calcule* somme resous
        ecuacion derivada integral demuestra* probabilidad triangulo calcula* suma resuelve""",
    "data_analysis": """dataset table csv spreadsheet column columns rows average mean median trend
        correlation regression outliers chart histogram figures revenue statistics
        datensatz tabelle spalte* zeilen durchschnitt mittelwert trend korrelation diagramm umsatz
        tableau donnees colonne* moyenne tendance correlation graphique
        tabla datos columna* promedio media tendencia correlacion grafico""",
    "planning": """plan itinerary schedule roadmap strategy architecture design proposal migration
        rollout curriculum agenda budget organize organise arrange prepare project
        organisier* vorbereit* projekt reiseplan zeitplan strategie architektur entwirf konzept ablaufplan de:plane
        organise* prepare* projet planifie* itineraire strategie architecture concois conception
        organiza* prepara* proyecto planifica* itinerario estrategia arquitectura disena* cronograma""",
    "reasoning": """why explain deduce infer conclude puzzle riddle liar knights compare argue argument
        evaluate assess imply cause consequence tradeoffs tradeoff objections premise pros cons
        persuade debate related relation advantages disadvantages
        argumentier* einwand* pramisse verwandt* vorteil* nachteil* warum erklare* folgere vergleich* ratsel begrunde* bewerte* ursache
        argumente* objection* premisse avantage* inconvenient* pourquoi explique* deduis compare* enigme justifie* evalue* cause
        argumenta* objecion* premisa ventaja* desventaja* explica* deduce compara* acertijo justifica* evalua* causa""",
}  # fmt: skip

# Languages by name: asked for "in" one, a text is to be translated.
LANGUAGES = """english german french spanish italian portuguese dutch polish turkish russian chinese
    japanese korean arabic hindi swedish latin greek czech danish
    englisch* deutsch* franzosisch* spanisch* italienisch* portugiesisch* polnisch* turkisch*
    russisch* chinesisch* japanisch* lateinisch*
    anglais allemand francais espagnol italien portugais polonais turc russe chinois japonais latin
    ingles aleman frances espanol italiano portugues polaco turco ruso chino japones"""
INTO = frozenset(["in", "into", "to", "auf", "ins", "en", "vers", "al"])

# In scripts without spaces, and in Russian: what is looked for in the text as it stands.
FOREIGN_TASKS: Mapping[str, tuple[str, ...]] = {
    "translation": ("翻译", "翻譯", "翻訳", "번역", "перевед", "ترجم"),
    "summary": ("总结", "總結", "概括", "摘要", "要約", "まとめて", "요약", "резюм", "кратко изложи"),
    "code_generation": (
        "代码", "函数", "编写程序", "编程", "実装", "コード", "関数", "코드", "함수", "функци", "код ",
    ),
    "text_analysis": ("分类", "提取", "情感", "分類", "抽出", "분류", "классифиц", "извлек"),
    "creative_writing": ("故事", "诗", "小说", "物語", "詩を", "이야기", "стих", "рассказ", "сказк"),
    "math": ("计算", "方程", "证明", "計算", "方程式", "証明", "계산", "방정식", "вычисл", "докаж", "уравнен"),
    "data_analysis": ("数据", "表格", "データ", "平均", "데이터", "данны", "таблиц"),
    "planning": ("计划", "设计", "規劃", "計画", "設計", "계획", "설계", "план", "спроектир"),
    "reasoning": ("为什么", "推理", "比较", "解释", "なぜ", "比較", "説明", "왜", "почему", "объясн", "сравни"),
}  # fmt: skip
FOREIGN_DEPTHS: Mapping[int, tuple[str, ...]] = {
    6: ("设计", "证明", "实现", "推导", "設計", "証明", "実装", "설계", "증명", "구현", "докаж", "спроектир", "реализ"),
    4: ("为什么", "比较", "分析", "なぜ", "比較", "分析", "왜", "비교", "분석", "почему", "сравни", "проанализ"),
    2: ("解释", "总结", "翻译", "説明", "要約", "翻訳", "설명", "요약", "объясн", "перевед"),
}  # fmt: skip
FOREIGN_LOGIC = "如果|每个|所有|都|不|没有|只|至少|最多|必须|もし|すべて|ない|必ず|だけ|если|кажд|все |не |только"


class Kind:
    """What a word may be, as bits; many are several."""

    LIMIT = 1
    LOGIC = 2
    JOIN = 4
    LINK = 8
    NUMBER = 16
    COURTESY = 32
    SIZE = 64
    MAKING = 128
    CODE = 256
    LANGUAGE = 512


# That many bits are taken.
KINDS = 10


# After those, a bit for each depth and each task.
DEPTH_BITS: Mapping[int, int] = {
    depth: 1 << (KINDS + index) for index, depth in enumerate(sorted(DEPTHS))
}
TASK_BITS: Mapping[str, int] = {
    task: 1 << (KINDS + len(DEPTHS) + index) for index, task in enumerate(TASK_WORDS)
}
ANY_TASK = sum(TASK_BITS.values())


def _tables() -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Bits of whole words and of beginnings of words; those of one language with it before them."""
    listed: list[tuple[int, str]] = [
        (Kind.LIMIT, LIMITS),
        (Kind.LOGIC, LOGIC),
        (Kind.JOIN, JOINS),
        (Kind.LINK, LINKS),
        (Kind.NUMBER, NUMBERS),
        (Kind.COURTESY, COURTESY),
        (Kind.SIZE, SIZES),
        (Kind.MAKING, MAKING),
        (Kind.CODE, CODE),
        (Kind.LANGUAGE, LANGUAGES),
        *((DEPTH_BITS[depth], text) for depth, text in DEPTHS.items()),
        *((TASK_BITS[task], text) for task, text in TASK_WORDS.items()),
    ]
    whole: dict[str, int] = {}
    stems: dict[str, int] = {}
    for bit, text in listed:
        for word in text.split():
            table, key = (stems, word[:-1]) if word.endswith("*") else (whole, word)
            table[key] = table.get(key, 0) | bit
    return whole, stems


_WHOLE, _STEMS = _tables()
_LONGEST_STEM = max(len(stem) for stem in _STEMS)


# By language.
_MET: dict[str, dict[str, int]] = {}


def bits_of(words: Iterable[str], language: str) -> list[int]:
    """All that plain words may be, in a language: bits of ``Kind``, ``DEPTH_BITS``,
    ``TASK_BITS``."""
    met = _MET.setdefault(language, {})
    if len(met) >= MOST_MET:
        met.clear()
    return [
        known if (known := met.get(word)) is not None else _bits_of(word, language, met)
        for word in words
    ]


def _bits_of(word: str, language: str, met: dict[str, int]) -> int:
    bits = _WHOLE.get(word, 0) | _WHOLE.get(f"{language}:{word}", 0)
    for end in range(3, min(len(word), _LONGEST_STEM) + 1):
        found = _STEMS.get(word[:end])
        if found is not None:
            bits |= found
    met[word] = bits
    return bits
