"""Writes the README.md beside an adapter: a model card as the Hugging Face hub reads it. No torch."""

import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from krona_tune.adapters.adapter_card import WRITES_ALONE, AdapterCard
from krona_tune.adapters.approximation import Nearness
from krona_tune.adapters.export_forms import UNPUBLISHED, Form, Licence, Publication, loading, quoted
from krona_tune.data.tasks import TASKS
from krona_tune.study.formatting import format_answer, format_bounds

README = "README.md"
TEMPLATES = Path(__file__).parent / "templates"
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def render_model_card(
    card: AdapterCard,
    form: Form,
    folder: str,
    published: Publication = UNPUBLISHED,
    approximation: Nearness | None = None,
    *,
    package: str = "",
) -> str:
    """Returns the text of README.md; a `package` carries the backbone.

    Values from the card can't break out of their line, cell or quotes.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML: `plain` removes the markup of both
    )
    environment.filters |= {"plain": _plain, "code": _code, "fenced": _fenced}
    return environment.get_template(f"{README}.j2").render(
        card=card,
        front=yaml.safe_dump(_front(card, form, published.licence), sort_keys=False, allow_unicode=True),
        title=_title(card),
        backbone=_backbone(card),
        intro=form.facts.intro,
        columns=[f"{_plain(name)}{' (synthetic)' * card.synthetic}" for name in ("score", *card.metric_names)],
        halves=_halves(card),
        approximation=approximation.text if approximation else "",
        interval=bool(card.test_interval),
        prompt=_prompt(card),
        generation=card.own_task and card.own_task.generation,
        before_answer=quoted(before) if (before := card.decoding and card.decoding.before_answer) else "",
        ends=[quoted(end) for end in card.decoding.ends] if card.decoding else [],
        writes_alone=card.pipeline == WRITES_ALONE,
        licence=_licence(published.licence),
        data=_data(card),
        language=form.facts.language,
        usage=form.facts.usage,
        beside="" if published.repo else folder,
        loading=loading(card, form, published.repo or folder, on_hub=bool(published.repo), package=package),
    )


def _front(card: AdapterCard, form: Form, licence: Licence) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": form.facts.library}
    if HUB_NAME.fullmatch(card.backbone):
        front |= {"base_model": card.backbone}
    synthetic = ["synthetic-data"] if card.synthetic else []
    return front | {
        **{key: _line(value) for key, value in licence.items()},
        "pipeline_tag": card.pipeline,
        **({} if card.own_task or card.synthetic else {"datasets": ["nyu-mll/glue"]}),
        "metrics": [_line(name) for name in card.metric_names],
        "tags": ["kronecker-adapter", _line(card.adapter.method), _line(card.task), *synthetic],
    }


def _licence(licence: Licence) -> str:
    """Returns the licence of the backbone in words, with its name and link if the hub has no word for it."""
    if not licence:
        return "unknown here; see the backbone's own card"
    return " ".join(licence[key] for key in ("license", "license_name", "license_link") if key in licence)


def _data(card: AdapterCard) -> str:
    if card.synthetic:
        return "synthetic mini-GLUE"
    return "the user's own" if card.own_task else f"{card.task} of GLUE"


def _halves(card: AdapterCard) -> dict[str, list[str]]:
    """Returns the score and each metric on the validation half and, if it was evaluated there, on the test half."""
    halves = {} if card.score is None else {"validation": (format_answer(card.score), card.metrics)}
    if card.test_score is not None:
        within = " ({} to {})".format(*format_bounds(card.test_interval)) if card.test_interval else ""
        halves["test"] = (f"{format_answer(card.test_score)}{within}", card.test_metrics)
    return {
        half: [score, *(format_answer(metrics[name]) if name in metrics else "–" for name in card.metric_names)]
        for half, (score, metrics) in halves.items()
    }


def _title(card: AdapterCard) -> str:
    task = card.own_task or TASKS.get(card.task)
    return _plain(task.title if task else card.task)


def _prompt(card: AdapterCard) -> str:
    """Returns what a model that answers in words reads, with the names of the inputs in the place of their texts: a
    decoder's prompt without blanks at its end, which belong to the answer, unless a chat template may follow."""
    task = card.own_task or TASKS.get(card.task)
    if task is None or not card.text_to_text:
        return ""
    prompt = task.prompt([f"{{{name}}}" for name in task.inputs])
    templated = card.decoding is None or card.decoding.before_answer is not None
    chats = templated and task.generation and task.generation.chat_template
    return prompt if chats or card.pipeline != WRITES_ALONE else prompt.rstrip(" ")


def _backbone(card: AdapterCard) -> str:
    """Returns a hub name as it is, or the last part of a folder, which does not show anybody's home folder."""
    return card.backbone if HUB_NAME.fullmatch(card.backbone) else Path(card.backbone).name


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Returns the text on one line, without what opens a tag, a link, a code span or a cell."""
    return re.sub(r"[<>|`\[\]]", "", _line(text))


def _fenced(text: str) -> str:
    """Returns the text for a block of code, without what would end it."""
    return text.replace("```", "'''")


def _code(text: str) -> str:
    """Returns the text in a code span, without the backtick, bar or new line that would end it."""
    return "`" + _line(text).replace("`", "'").replace("|", "¦") + "`"
