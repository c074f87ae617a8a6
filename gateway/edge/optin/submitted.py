"""What a page hands in: a form's fields, or the same as JSON; both become one model, or are refused.

Pure. Everything is bounded, unknown fields are errors, and nothing of it is believed: which boxes there are, what they
cost and where we are is the server's own knowledge.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from gateway.contract.form import MOST_TOPICS, Locale
from gateway.contract.message import Dotted, Strict
from gateway.edge import bodies
from gateway.edge.problems import Refused, fields, wrong

MOST_FIELDS = 64
MOST_EVENTS = 64
Model = TypeVar("Model", bound=BaseModel)


class Act(Strict):
    """One change of a box as the page's script saw it. `at`: the browser's own clock, Unix ms."""

    topic: Dotted
    ticked: bool
    by: Literal["mouse", "touch", "pen", "pointer", "keyboard"]
    trusted: bool
    """The browser's `isTrusted`: a person's act, not a program's."""
    at: Annotated[int, Field(ge=0, lt=2**53)]


class Submission(Strict):
    """A person agreed, or declined."""

    action: Literal["agree", "decline"] = "agree"
    number: Annotated[str, StringConstraints(max_length=64)] = ""
    topics: Annotated[list[Dotted], Field(default_factory=list, max_length=MOST_TOPICS)]
    version: int
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    lang: Locale
    page: Annotated[str, StringConstraints(max_length=1000)] = ""
    """The page the form is embedded in, as the widget says; empty on the form's own page."""
    embed: bool = False
    shown_at: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    acts: Annotated[list[Act], Field(max_length=MOST_EVENTS)] | None = None

    def scripted(self) -> bool:
        """Whether a ticked box was last ticked by a program, or the acts do not lead to what was handed in."""
        if self.acts is None:
            return False
        last = {act.topic: act for act in self.acts}
        ticked = {topic for topic, act in last.items() if act.ticked}
        return ticked != set(self.topics) or not all(last[topic].trusted for topic in ticked)


class Confirmation(Strict):
    """The code of an opt-in. Whatever is wrong with it, the answer is the same."""

    opt_in: Annotated[str, StringConstraints(max_length=64)]
    code: Annotated[str, StringConstraints(max_length=32)]
    lang: Locale = "zh"
    embed: bool = False


def is_json(content_type: str) -> bool:
    """Whether the caller speaks JSON; anything else is a form."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def submission(body: bytes, *, json: bool) -> Submission:
    """The first page's fields. Raises Refused."""
    return _of(Submission, body, json=json, many=("topics",), nested=("acts",))


def confirmation(body: bytes, *, json: bool) -> Confirmation:
    """The second page's fields. Raises Refused."""
    return _of(Confirmation, body, json=json, many=(), nested=())


def _of(model: type[Model], body: bytes, *, json: bool, many: Sequence[str], nested: Sequence[str]) -> Model:
    if json:
        return bodies.one(model, bodies.parse(body), body)
    try:
        given = parse_qs(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise wrong("body", "not a form in UTF-8") from None
    values: dict[str, Any] = {}
    for name, found in given.items():
        if name not in many and len(found) > 1:
            raise wrong("body", "a field appears twice")
        if name in many:
            values[name] = found
        elif name in nested:
            values[name] = bodies.parse(found[0].encode()) if found[0] else None
        elif found[0] or name in {"number", "code", "page"}:
            values[name] = found[0]
    try:
        model_value = model.model_validate(values)
    except ValidationError as error:
        raise Refused(bodies.INVALID, fields(error)) from None
    if bodies.has_nul(values):
        raise Refused(bodies.INVALID, bodies.NUL)
    return model_value
