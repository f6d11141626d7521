"""Holds the vocabulary of mini-GLUE, and what its tasks share: sentences as text, and facts with their paraphrases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, TypeVar


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A transitive verb with its forms; empty `synonym`: it has none."""

    past: str
    participle: str
    synonym: str = ""


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A countable noun with its plural, its hypernym `kind`, and its synonym (empty: none)."""

    many: str
    kind: str
    synonym: str = ""


Entry = TypeVar("Entry", Verb, Noun)


def _lexicon(make: Callable[..., Entry], alone: str, twins: str) -> dict[str, Entry]:
    """Reads words and their forms, written as `word/form/form`; `twins` holds pairs of synonyms, written as
    `word/form=word/form`. `make` returns an entry from the forms and the synonym."""
    table = {word: make(*forms, synonym="") for word, *forms in (each.split("/") for each in alone.split())}
    for twin in twins.split():
        (left, *of_left), (right, *of_right) = (each.split("/") for each in twin.split("="))
        table |= {left: make(*of_left, synonym=right), right: make(*of_right, synonym=left)}
    return table


def _nouns(kind: str, alone: str, twins: str = "") -> dict[str, Noun]:
    """Reads nouns written as `one/many`; `twins` holds pairs of synonyms, written as `one/many=one/many`."""
    return _lexicon(lambda many, synonym: Noun(many=many, kind=kind, synonym=synonym), alone, twins)


def _verbs(alone: str, twins: str = "") -> dict[str, Verb]:
    """Reads verbs written as `verb/past/participle`, and pairs of them as nouns are."""
    return _lexicon(lambda past, did, synonym: Verb(past=past, participle=did, synonym=synonym), alone, twins)


VERBS = {
    **_verbs(
        "",
        "buy/bought/bought=purchase/purchased/purchased fix/fixed/fixed=repair/repaired/repaired "
        "hide/hid/hidden=conceal/concealed/concealed choose/chose/chosen=select/selected/selected",
    ),
    **_verbs(
        "sell/sold/sold steal/stole/stolen paint/painted/painted break/broke/broken find/found/found "
        "borrow/borrowed/borrowed clean/cleaned/cleaned draw/drew/drawn"
    ),
}

MEETINGS = _verbs(
    "thank/thanked/thanked call/called/called visit/visited/visited help/helped/helped blame/blamed/blamed "
    "follow/followed/followed warn/warned/warned praise/praised/praised"
)
"""What one person does to another; who does it to whom matters."""

PEOPLE = _nouns(
    "person",
    "farmer/farmers pilot/pilots nurse/nurses soldier/soldiers student/students baker/bakers judge/judges "
    "tourist/tourists writer/writers dancer/dancers king/kings boy/boys",
    "doctor/doctors=physician/physicians lawyer/lawyers=attorney/attorneys woman/women=lady/ladies "
    "teacher/teachers=instructor/instructors",
)

THINGS = {
    **_nouns("vehicle", "boat/boats truck/trucks", "car/cars=automobile/automobiles bike/bikes=bicycle/bicycles"),
    **_nouns("instrument", "piano/pianos guitar/guitars drum/drums flute/flutes", "violin/violins=fiddle/fiddles"),
    **_nouns("tool", "hammer/hammers ladder/ladders saw/saws shovel/shovels brush/brushes"),
    **_nouns("device", "camera/cameras radio/radios computer/computers", "phone/phones=telephone/telephones"),
}

ANIMALS = _nouns(
    "animal",
    "dog/dogs cat/cats horse/horses cow/cows goat/goats duck/ducks sheep/sheep pig/pigs bird/birds wolf/wolves",
)

MEN = ("boy", "man", "king", "uncle", "father", "brother")
WOMEN = ("girl", "woman", "queen", "aunt", "mother", "sister")

CITIES = (
    "Paris", "London", "Berlin", "Rome", "Boston", "Chicago", "Tokyo", "Madrid", "Vienna", "Moscow", "Delhi", "Cairo",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
SCENES = (
    "garden", "park", "kitchen", "street", "yard", "house", "field", "barn", "forest", "tower", "station", "castle",
)  # fmt: skip
LOOKS = ("old", "small", "quiet", "empty", "big", "dark", "cold", "dirty")
TRAITS = ("tall", "young", "old", "happy", "tired", "rich", "quiet", "clever", "thin", "brave", "shy", "poor", "strong")
STATES = (
    "tired", "late", "sad", "busy", "ill", "happy", "angry", "lonely", "bored", "hungry", "lost", "afraid", "cold",
)  # fmt: skip
DOINGS = (
    "sleeping", "eating", "running", "playing", "resting", "waiting",
    "drinking", "fighting", "hiding", "crying", "jumping", "walking",
)  # fmt: skip

GOOD = (
    "funny", "clever", "charming", "moving", "fresh", "brilliant", "lovely", "exciting", "smart", "warm", "superb",
    "gripping", "elegant", "witty", "graceful", "honest", "delightful", "splendid", "original", "touching",
)  # fmt: skip
BAD = (
    "dull", "boring", "clumsy", "silly", "awful", "weak", "stale", "tedious", "ugly", "annoying", "terrible", "bland",
    "lifeless", "shallow", "dreadful", "messy", "pointless", "tiresome", "lazy", "hollow",
)  # fmt: skip
ASPECTS = (
    "plot", "acting", "story", "music", "ending", "script", "humor", "dialogue", "cast", "opening", "hero",
    "camera work", "first half", "love story", "second act", "final scene",
)  # fmt: skip


class Example(NamedTuple):
    """The texts in the order of the task's inputs, and the label."""

    texts: tuple[str, ...]
    label: float


Writer = Callable[[Random, int], Example]


def sentence(text: str, end: str = ".") -> str:
    """Returns the text with a capital letter first and `end` last."""
    return text[0].upper() + text[1:] + end


def as_question(text: str) -> str:
    return sentence(text, "?")


def a(phrase: str) -> str:
    """Returns the phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact: who did what to which thing, where and when. Every word can be changed on its own."""

    agent: str
    verb: str
    number: str
    colour: str
    thing: str
    city: str
    day: str

    @property
    def past(self) -> str:
        return VERBS[self.verb].past

    @property
    def participle(self) -> str:
        return VERBS[self.verb].participle


WORDS: Mapping[str, Sequence[str]] = {
    "agent": tuple(PEOPLE),
    "verb": tuple(VERBS),
    "number": NUMBERS,
    "colour": COLOURS,
    "thing": tuple(THINGS),
    "city": CITIES,
    "day": DAYS,
}
"""The words that may fill each place of a fact."""

SYNONYMS: Mapping[str, str] = {
    word: entry.synonym for table in (PEOPLE, THINGS, VERBS) for word, entry in table.items() if entry.synonym
}


def draw(rng: Random) -> Fact:
    """Returns a random fact."""
    return Fact(**{slot: rng.choice(words) for slot, words in WORDS.items()})


def change(rng: Random, fact: Fact, slot: str) -> Fact:
    """Returns the same fact except for one word, which is neither the old one nor its synonym."""
    old = getattr(fact, slot)
    return replace(fact, **{slot: rng.choice([word for word in WORDS[slot] if word not in (old, SYNONYMS.get(old))])})


def reword(rng: Random, fact: Fact) -> Fact:
    """Returns the same fact, with about half of the words that have a synonym replaced by it."""
    words = {slot: getattr(fact, slot) for slot in WORDS}
    return replace(fact, **{slot: SYNONYMS[w] for slot, w in words.items() if w in SYNONYMS and rng.random() < 0.5})
