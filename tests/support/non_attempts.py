"""Made-up responses that are no attempts, English and German: plain ones, and as many that try to pass for attempts."""

import random
from collections.abc import Callable
from dataclasses import dataclass

COUNT = 300
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u202a\u202c\u180e\ufe0f\u034f"
SPACES = " \t\n\r\u00a0\u2003\u2009\u3000\u202f\u205f"
FILLERS = "\u3164\u115f\u1160\uffa0\u2800"
LOOKALIKES = str.maketrans("aeopcyxisjk", "аеорсухіѕјк")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiopü", "asdfghjklöä", "yxcvbnm")

QUESTIONS = {
    "en": (
        "How does TCP differ from UDP? State at least two differences and explain why.",
        "TCP is connection-oriented and resends lost packets, while UDP is connectionless and sends datagrams once. "
        "The header of TCP is larger because it carries sequence numbers.",
    ),
    "de": (
        "Wie reagierst du, wenn du während des Jobs auf deine Tätigkeit als Testkäufer angesprochen wirst?",
        "Der Jobber soll sich dem Personal gegenüber zu erkennen geben und das Schreiben in der App vorzeigen. "
        "Zusätzlich muss notiert werden, zu welchem Zeitpunkt des Jobs der Jobber enttarnt wurde.",
    ),
}
"""Language → question and reference of a task."""

WORDS = {
    "en": ["yes", "no", "maybe", "water", "packet", "both", "router", "true", "false", "faster", "energy", "good"],
    "de": ["ja", "nein", "vielleicht", "Wasser", "beide", "Kunde", "richtig", "falsch", "Energie", "Gespräch", "gut"],
}
REFUSALS = {
    "en": (
        *("I don't know", "I do not know", "idk", "no idea", "No clue", "I have no idea", "dunno", "I'm not sure"),
        *("I don't understand", "I can't answer this", "I give up", "not sure", "I don't remember", "I forgot"),
    ),
    "de": (
        *("weiß nicht", "Ich weiß es nicht", "keine Ahnung", "kein Plan", "Weiß ich nicht", "ich habe keine Ahnung"),
        *("verstehe ich nicht", "kann ich nicht", "ich gebe auf", "keine Antwort", "bin nicht sicher"),
    ),
}
BESIDE = {
    "en": ("", "", "sorry, {}", "{} lol", "{} the answer", "honestly {}", "{}, really", "um {}", "{} sorry"),
    "de": ("", "", "sorry, {}", "{} leider", "ehrlich gesagt {}", "{} echt", "hm {}", "{} sorry"),
}
FOREIGN = (
    "El agua se calienta y después se evapora porque recibe energía del sol durante el día",
    "No entiendo la pregunta pero creo que los paquetes se pierden cuando la red está llena",
    "La réponse est que le protocole envoie les paquets dans l'ordre et attend une confirmation",
    "Je pense que les plantes ont besoin de lumière pour grandir et produire leur nourriture",
    "Penso che la risposta sia che il protocollo controlla se i pacchetti arrivano a destinazione",
    "A água aquece e depois evapora porque recebe energia do sol durante todo o dia",
    "Het water wordt warm en verdampt daarna omdat het de hele dag energie van de zon krijgt",
    "Myślę, że woda się nagrzewa, a potem paruje, ponieważ słońce daje jej dużo energii",
    "Bence su ısınıyor ve sonra buharlaşıyor çünkü güneşten bütün gün enerji alıyor",
    "Я думаю, что вода нагревается и потом испаряется, потому что солнце даёт ей энергию",
    "Вода нагрівається і потім випаровується, тому що сонце дає їй багато енергії",
    "أعتقد أن الماء يسخن ثم يتبخر لأن الشمس تعطيه الطاقة طوال اليوم",
    "Tôi nghĩ rằng nước nóng lên rồi bay hơi vì mặt trời cho nó năng lượng suốt cả ngày",
    "Jag tror att vattnet blir varmt och sedan avdunstar eftersom solen ger det energi hela dagen",
    "Cred că apa se încălzește și apoi se evaporă pentru că primește energie de la soare",
    "水は太陽からエネルギーをもらって温まり、それから蒸発すると思います。だから雨になります",
    "我认为水会变热然后蒸发，因为它整天都从太阳那里获得能量，所以会下雨，然后又回到地面",
    "Νομίζω ότι το νερό ζεσταίνεται και μετά εξατμίζεται επειδή παίρνει ενέργεια από τον ήλιο",
    "Ndryshe nga kjo, uji nxehet dhe pastaj avullon sepse merr energji nga dielli gjatë gjithë ditës",
    "Sa palagay ko umiinit ang tubig at pagkatapos ay sumisingaw dahil sa init ng araw buong araw",
)
OWN_ELSEWHERE = {
    "de": "I think that the water gets warm and then evaporates because the sun gives it energy all day long",
    "en": "Ich glaube, dass das Wasser warm wird und dann verdunstet, weil ihm die Sonne den ganzen Tag Energie gibt",
}


@dataclass(frozen=True)
class NonAttempt:
    """A text with the code that it must get, and the language of its task."""

    code: str
    text: str
    language: str
    adversarial: bool


def make(seed: int = 17) -> list[NonAttempt]:
    """Return `COUNT` texts a code, every second one adversarial."""
    draw = random.Random(seed)
    made = []
    for code, maker in MAKERS.items():
        for number in range(COUNT):
            language, adversarial = ("en", "de")[number // 2 % 2], bool(number % 2)
            made.append(NonAttempt(code, maker(draw, language, adversarial), language, adversarial))
    return made


def disguise(draw: random.Random, text: str) -> str:
    """Return a text that looks much the same."""
    way = draw.randrange(4)
    if way == 0:
        return "".join(c + (draw.choice(INVISIBLE) if draw.random() < 0.3 else "") for c in text)
    if way == 1:
        return text.translate(LOOKALIKES)
    if way == 2:
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    return "".join(c + "\u0301" if c.isalpha() and draw.random() < 0.2 else c for c in text)


def _blank(draw: random.Random, _: str, adversarial: bool) -> str:
    letters = SPACES + INVISIBLE + FILLERS if adversarial else " \n\t"
    return "".join(draw.choices(letters, k=draw.randint(1 if adversarial else 0, 40)))


def _insufficient(draw: random.Random, language: str, adversarial: bool) -> str:
    word = draw.choice(WORDS[language])
    if not adversarial:
        return draw.choice((word, word.upper(), f"{word}.", f" {word}\n"))
    ways: tuple[Callable[[], str], ...] = (
        lambda: disguise(draw, word),
        lambda: f"...{word}!!! \u200b - ",
        lambda: " ".join([word] * 2),
        lambda: f"{word} … \u3164 …",
    )
    return draw.choice(ways)()


def _refusal(draw: random.Random, language: str, adversarial: bool) -> str:
    said = (draw.choice(BESIDE[language]) or "{}").format(draw.choice(REFUSALS[language]))
    if not adversarial:
        return said + draw.choice(("", ".", "!", "..."))
    ways: tuple[Callable[[], str], ...] = (
        lambda: disguise(draw, said),
        lambda: said.upper().replace("'", ""),
        lambda: said + said[-1] * draw.randint(2, 6),
        lambda: said.replace("o", "0").replace("'", "’"),
        lambda: f"*** {said.replace(' ', '   ')} ??? :(",
        lambda: f"{said}. {draw.choice(REFUSALS[language])}!",
    )
    return draw.choice(ways)()


def _mash(draw: random.Random, row: str) -> str:
    return "".join(draw.choices(row, k=draw.randint(4, 12)))


def _uninterpretable(draw: random.Random, _: str, adversarial: bool) -> str:
    rows = [draw.choice(KEYS) for _ in range(draw.randint(2, 5))]
    if not adversarial:
        ways: tuple[Callable[[], str], ...] = (
            lambda: "".join(_mash(draw, row) for row in rows),
            lambda: " ".join(_mash(draw, row) for row in rows),
            lambda: "".join(draw.choices("?!.,-#*+/()", k=draw.randint(1, 30))),
            lambda: draw.choice("abcdxyz") * draw.randint(8, 60),
        )
    else:
        ways = (
            lambda: disguise(draw, " ".join(_mash(draw, row) for row in rows)),
            lambda: " ".join(_mash(draw, "".join(KEYS)) for _ in range(draw.randint(3, 8))),
            lambda: ". ".join(_mash(draw, row).capitalize() for row in rows) + ".",
            lambda: "\u200b".join(draw.choices("😀🙈👍🎉🤷", k=draw.randint(1, 9))),
            lambda: "".join(_mash(draw, row) + draw.choice("1234567890;,") for row in rows),
        )
    return draw.choice(ways)()


def _copied(draw: random.Random, language: str, adversarial: bool) -> str:
    question, reference = QUESTIONS[language]
    source = draw.choice((question, reference, reference.split(". ")[0] + "."))
    if not adversarial:
        return draw.choice((source, source.lower(), source.upper(), f"{source} {source}"))
    words = source.split()
    changed = [draw.choice(WORDS[language]) if n % 13 == 12 else word for n, word in enumerate(words)]
    ways: tuple[Callable[[], str], ...] = (
        lambda: disguise(draw, source),
        lambda: " ".join(changed),
        lambda: " ".join(word.strip(".,?-").lower() for word in words),
        lambda: "\u200b".join(source),
        lambda: "-".join(words),
        lambda: " ".join(source.replace(" ", "")),
        lambda: f"{question} {reference}",
    )
    return draw.choice(ways)()


def _foreign(draw: random.Random, language: str, adversarial: bool) -> str:
    said = draw.choice((*FOREIGN, OWN_ELSEWHERE[language]))
    if not adversarial:
        return said + draw.choice(("", ".", " " + draw.choice(FOREIGN)))
    ways: tuple[Callable[[], str], ...] = (
        lambda: disguise(draw, said) if said.isascii() else "\u200b".join(said),
        lambda: said.upper(),
        lambda: f"{draw.choice(WORDS[language])}. {said} {draw.choice(WORDS[language])}!",
        lambda: said.replace(" ", "\u3000 "),
        lambda: said.translate(str.maketrans("áéíóúàèçãñöüåäışğ", "aeiouaecanouaaisg")),
    )
    return draw.choice(ways)()


MAKERS = {"B": _blank, "I": _insufficient, "R": _refusal, "U": _uninterpretable, "C": _copied, "L": _foreign}
