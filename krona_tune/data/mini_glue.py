"""Generates mini-GLUE: balanced splits of synthetic examples in the format of every GLUE task, from a small grammar."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from random import Random

import pyarrow as pa

from krona_tune.data.mini_grammar import (
    ANIMALS,
    ASPECTS,
    BAD,
    CITIES,
    DOINGS,
    GOOD,
    LOOKS,
    MEETINGS,
    MEN,
    PEOPLE,
    SCENES,
    STATES,
    THINGS,
    TRAITS,
    WOMEN,
    Example,
    Fact,
    Writer,
    a,
    as_question,
    change,
    draw,
    reword,
    sentence,
)
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refuse_unknown


@dataclass(frozen=True, kw_only=True)
class Clause:
    """Subject, verb and place as words, for example `the tall pilots`, `are sleeping`, `in the old barn`."""

    subject: tuple[str, ...]
    verb: tuple[str, ...]
    place: tuple[str, ...]

    def __str__(self) -> str:
        return sentence(" ".join(self.subject + self.verb + self.place))


_OTHER_NUMBER = {"is": "are", "are": "is", "was": "were", "were": "was"}

ERRORS: dict[str, tuple[int, Callable[[Clause], Clause]]] = {
    "agreement": (1, lambda c: replace(c, verb=(_OTHER_NUMBER[c.verb[0]], c.verb[1]))),
    "adjective after its noun": (3, lambda c: replace(c, subject=(c.subject[0], c.subject[2], c.subject[1]))),
    "participle before its auxiliary": (3, lambda c: replace(c, verb=c.verb[::-1])),
    "article before its preposition": (3, lambda c: replace(c, place=(c.place[1], c.place[0], *c.place[2:]))),
    "no auxiliary": (2, lambda c: replace(c, verb=c.verb[1:])),
}
"""Every error with its share among the errors."""

_SHARES = tuple(share for share, _ in ERRORS.values())
_SPOIL = tuple(spoil for _, spoil in ERRORS.values())


def cola(rng: Random, label: int) -> Example:
    clause = _clause(rng)
    if not label:
        (spoil,) = rng.choices(_SPOIL, _SHARES)
        clause = spoil(clause)
    return Example((str(clause),), label)


def _clause(rng: Random) -> Clause:
    one, noun = rng.choice(tuple(PEOPLE.items()))
    many = rng.random() < 0.5
    auxiliary = rng.choice(("are", "were") if many else ("is", "was"))
    return Clause(
        subject=("the", rng.choice(TRAITS), noun.many if many else one),
        verb=(auxiliary, rng.choice(DOINGS)),
        place=(rng.choice(("in", "near", "behind", "outside")), "the", rng.choice(LOOKS), rng.choice(SCENES)),
    )


_NOUNS = {
    "animals": tuple(noun.many for noun in ANIMALS.values()),
    "people": tuple(noun.many for noun in PEOPLE.values()),
}
_KIND = {noun: kind for kind, nouns in _NOUNS.items() for noun in nouns}
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)


def mnli(rng: Random, label: int) -> Example:
    """Writes about some or no people or animals that do something somewhere.

    The hypothesis is drawn first, whatever the label. `Two dogs` decides what is said of some animals, `no animals`
    what is said of dogs; the other way round the hypothesis stays open, as it does for another activity or scene.
    """
    noun = rng.choice(tuple(_NOUNS) if rng.random() < 0.2 else tuple(_KIND))
    doing, scene = rng.choice(DOINGS), rng.choice(SCENES)
    some = rng.random() < 0.5
    hypothesis = f"{'some' if some else 'no'} {noun} are {doing} in the {scene}"
    asserted = {ENTAILMENT: some, NEUTRAL: rng.random() < 0.5, CONTRADICTION: not some}[label]
    if label != NEUTRAL:
        noun = _settling(rng, noun, asserted) if rng.random() < 0.35 else noun
    elif rng.random() < 0.35:
        asserted = noun in _KIND
        noun = _settling(rng, noun, not asserted)
    elif rng.random() < 0.5:
        doing = _other(rng, doing, DOINGS)
    else:
        scene = _other(rng, scene, SCENES)
    quantity = rng.choice(("two", "three", "many", "several")) if asserted else "no"
    return Example((sentence(f"{quantity} {noun} in the {scene} are {doing}"), sentence(hypothesis)), label)


def _settling(rng: Random, noun: str, asserted: bool) -> str:
    """Returns a narrower noun for a premise that asserts, a wider one for one that denies; `noun` if there is none."""
    return rng.choice(_NOUNS.get(noun, (noun,))) if asserted else _KIND.get(noun, noun)


def _other(rng: Random, word: str, words: tuple[str, ...]) -> str:
    return rng.choice([other for other in words if other != word])


def rte(rng: Random, label: int) -> Example:
    """Writes two facts, and a third: one of them (label 0), or one of them with its agent or its thing changed."""
    facts = draw(rng), draw(rng)
    concluded = rng.choice(facts)
    if label:
        concluded = change(rng, concluded, rng.choice(("agent", "thing")))
    premise = f"{_fact_clause(facts[0])} in {facts[0].city} and {_fact_clause(facts[1])}"
    return Example((sentence(premise), sentence(_fact_clause(concluded))), label)


def _fact_clause(fact: Fact) -> str:
    return f"the {fact.agent} {fact.past} {a(fact.thing)}"


def mrpc(rng: Random, label: int) -> Example:
    """Writes an active and a passive sentence; if they do not agree, one word differs, or the roles are reversed."""
    pair = _meeting(rng, label) if rng.random() < 0.15 else _deal(rng, label)
    return Example(pair if rng.random() < 0.5 else pair[::-1], label)


def _deal(rng: Random, label: int) -> tuple[str, str]:
    one = draw(rng)
    other = reword(rng, one if label else change(rng, one, rng.choice(("agent", "verb", "number", "thing", "city"))))
    return (
        sentence(f"the {one.agent} {one.past} {_counted(one)} in {one.city}"),
        sentence(f"in {other.city}, {_counted(other)} were {other.participle} by the {other.agent}"),
    )


def _counted(fact: Fact) -> str:
    return f"{fact.number} {THINGS[fact.thing].many}"


def _meeting(rng: Random, label: int) -> tuple[str, str]:
    people = rng.sample(tuple(PEOPLE), 2)
    verb, city = rng.choice(tuple(MEETINGS.values())), rng.choice(CITIES)
    agent, patient = people if label else people[::-1]
    return (
        sentence(f"the {people[0]} {verb.past} the {people[1]} in {city}"),
        sentence(f"in {city}, the {patient} was {verb.participle} by the {agent}"),
    )


INTENTS = (
    ("how can I", "how do people", "what is the best way to"),
    ("am I allowed to", "may people", "is it legal to"),
)
"""Ways to begin a question for each thing that one may want to know."""


def qqp(rng: Random, label: int) -> Example:
    """Writes two questions; if they do not agree, one word of the content differs, or the kind of question."""
    one = other = draw(rng)
    intent, another = rng.sample(INTENTS, 2)
    openings = rng.sample(intent, 2)
    if not label and rng.random() < 0.15:
        openings[1] = rng.choice(another)
    elif not label:
        other = change(rng, one, rng.choice(("verb", "thing", "city")))
    other = reword(rng, other)
    pair = (
        as_question(f"{openings[0]} {one.verb} {a(one.thing)} in {one.city}"),
        as_question(f"in {other.city}, {openings[1]} {other.verb} {a(other.thing)}"),
    )
    return Example(pair if rng.random() < 0.5 else pair[::-1], label)


def wnli(rng: Random, label: int) -> Example:
    """Writes of a man and a woman, one called he or she; the second sentence names that one (label 1) or the other."""
    he, she = (f"{rng.choice(TRAITS)} {rng.choice(people)}" for people in (MEN, WOMEN))
    pronoun, meant, other = rng.choice((("he", he, she), ("she", she, he)))
    agent, patient = rng.sample((he, she), 2)
    verb, state = rng.choice(tuple(MEETINGS.values())), rng.choice(STATES)
    premise = f"the {agent} {verb.past} the {patient} because {pronoun} was {state}"
    return Example((sentence(premise), sentence(f"the {meant if label else other} was {state}")), label)


ASKED = {
    "by the {fact.agent}": "who {fact.past} the {fact.colour} {fact.thing}",
    "in {fact.city}": "where was the {fact.colour} {fact.thing} {fact.participle}",
    "on {fact.day}": "when was the {fact.colour} {fact.thing} {fact.participle}",
}
"""A part of a sentence, and the question that it answers."""


def qnli(rng: Random, label: int) -> Example:
    """Writes a question, and a sentence that tells two of who, where and when.

    Without an answer (label 1) the sentence leaves out what is asked, or is about another deed or another thing.
    """
    fact = draw(rng)
    answer = rng.choice(tuple(ASKED))
    asked = as_question(ASKED[answer].format(fact=fact))
    others = [part for part in ASKED if part != answer]
    told = [answer, rng.choice(others)]
    if label and rng.random() < 0.2:
        told = others
    elif label:
        fact = change(rng, fact, rng.choice(("verb", "thing")))
    rng.shuffle(told)
    statement = " ".join(("the {fact.colour} {fact.thing} was {fact.participle}", *told))
    return Example((asked, sentence(statement.format(fact=fact))), label)


PLAIN = (
    "the {aspect} is {word}",
    "the {aspect} is very {word}",
    "the {aspect} is really {word} indeed",
    "everyone says that the {aspect} is {word}",
    "the {aspect} could hardly be more {word}",
    "the {aspect} is as {word} as ever",
    "nobody denies that the {aspect} is {word}",
    "the {aspect} never fails to be {word}",
)
NEGATED = (
    "the {aspect} is not {word} at all",
    "the {aspect} is never {word}",
    "nobody says that the {aspect} is {word}",
    "the {aspect} is far from {word}",
    "the {aspect} could hardly be less {word}",
    "the {aspect} is anything but {word}",
    "the {aspect} is hardly {word}",
    "the {aspect} fails to be {word}",
)
CONTRASTED = (
    "the {aspect} is {word}, not {opposite}",
    "the {aspect} is not {opposite} but {word}",
    "the {aspect} is {word} rather than {opposite}",
    "the {aspect} looks {opposite}, but it is {word}",
    "despite its {opposite} {aspect}, the film is {word}",
    "the film is {word} despite its {opposite} {aspect}",
)
"""These contain both kinds of words: `word` decides the label, `opposite` is denied or outweighed."""


def sst2(rng: Random, label: int) -> Example:
    (forms,) = rng.choices((PLAIN, NEGATED, CONTRASTED), (4, 3, 3))
    said = label ^ (forms is NEGATED)
    words = {"word": rng.choice((BAD, GOOD)[said]), "opposite": rng.choice((GOOD, BAD)[said])}
    return Example((sentence(rng.choice(forms).format(aspect=rng.choice(ASPECTS), **words)),), label)


WEIGHTS = {"agent": 1.4, "verb": 1.2, "thing": 1.4, "city": 0.6, "colour": 0.4}
"""The weight of each part of a fact; together 5.0."""


def stsb(rng: Random, level: int) -> Example:
    """Writes two sentences with `level` of the five parts the same (or synonyms); the score is the weight of these."""
    one = other = draw(rng)
    changed = rng.sample(tuple(WEIGHTS), len(WEIGHTS) - level)
    for slot in changed:
        other = change(rng, other, slot)
    pair = _plain(one), _fronted(reword(rng, other))
    score = round(sum(WEIGHTS.values()) - sum(WEIGHTS[slot] for slot in changed), 1)
    return Example(pair if rng.random() < 0.5 else pair[::-1], score)


def _plain(fact: Fact) -> str:
    return sentence(f"the {fact.agent} {fact.past} the {fact.colour} {fact.thing} in {fact.city}")


def _fronted(fact: Fact) -> str:
    return sentence(f"in {fact.city}, the {fact.colour} {fact.thing} was {fact.participle} by the {fact.agent}")


ATTEMPTS = 500
"""The number of drafts in a row that may repeat used texts before a task counts as exhausted."""


WRITERS: dict[str, Writer] = {write.__name__: write for write in (cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli)}
"""The way in which each task is written: it drafts an example of a level, which is the label, or in a regression how
many parts agree; all levels are equally frequent."""


SIZES = {"train": 512, "validation": 256, "test": 512}
"""The examples that a task has where nobody asks for a number."""


def generate(
    task: Task,
    *,
    train: int = SIZES["train"],
    validation: int = SIZES["validation"],
    test: int = SIZES["test"],
    seed: int = 0,
) -> dict[str, pa.Table]:
    """Returns tables `train`, `validation` and `test` with the columns `*task.inputs` and `label`.

    The same arguments give the same tables, in every process and on every machine. No example occurs twice in a split,
    and no text of one split occurs in another. Train is written last, so that a larger one does not change the others.
    Raises a Refusal for more examples than the vocabulary allows.
    """
    refuse_unknown("mini-GLUE", "task", WRITERS, task.name)
    taken: set[str] = set()
    tables: dict[str, pa.Table] = {}
    for split, size in {"validation": validation, "test": test, "train": train}.items():
        rng = Random(f"mini-GLUE {task.name} {split} {seed}")
        examples = _write(task, split, size, rng, taken)
        taken.update(text for example in examples for text in example.texts)
        tables[split] = _table(task, examples)
    return {split: tables[split] for split in ("train", "validation", "test")}


def _write(task: Task, split: str, size: int, rng: Random, taken: set[str]) -> list[Example]:
    """Returns `size` examples with different texts, balanced over the levels, with no text from `taken`."""
    write, levels = WRITERS[task.name], len(task.labels) or len(WEIGHTS) + 1
    order = list(islice(cycle(range(levels)), size))
    rng.shuffle(order)
    written: dict[tuple[str, ...], Example] = {}
    for level in order:
        drafts = (write(rng, level) for _ in range(ATTEMPTS))
        fresh = next((draft for draft in drafts if draft.texts not in written and taken.isdisjoint(draft.texts)), None)
        if fresh is None:
            raise Refusal(
                f"mini-GLUE {task.name}",
                f"the vocabulary gave {len(written)} distinct examples for {split}, {size} were asked for",
                "ask for smaller splits",
            )
        written[fresh.texts] = fresh
    return list(written.values())


def _table(task: Task, examples: list[Example]) -> pa.Table:
    texts = {name: pa.array([e.texts[i] for e in examples], pa.string()) for i, name in enumerate(task.inputs)}
    labels = pa.array([e.label for e in examples], pa.float64() if task.is_regression else pa.int64())
    return pa.table({**texts, "label": labels})
