"""What flows through a run, in the order in which it comes to exist.

    Topic -> Task -> Completion -> Example -> Verdict -> Outcome (accepted, or a Drop with its reason)
                                      ^          |
                                      └ Revision ┘ , or a Preference between several replies

All records are frozen. Keys are 32 hex digits (blake2b, 128 bits); an example's `id` is the first 16 of its task's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "AnswerSchema",
    "ChatRequest",
    "Completion",
    "DatasetLine",
    "Drop",
    "DropReason",
    "Example",
    "Message",
    "PiiKind",
    "Preference",
    "ResponseFormat",
    "Revision",
    "Stage",
    "Task",
    "Topic",
    "Usage",
    "Verdict",
]


class Stage(StrEnum):
    """Where in the flow something happened; also the `stage` of a rejects line."""

    TOPICS = "topics"
    GENERATE = "generate"
    FILTER = "filter"
    SCREEN = "screen"
    JUDGE = "judge"
    REVISE = "revise"
    REPLY = "reply"
    DEDUP = "dedup"
    TARGET = "target"


class Message(TypedDict):
    """One message of the chat format."""

    role: Literal["system", "user", "assistant"]
    content: str
    name: NotRequired[str]


class DatasetLine(TypedDict):
    """A line of `dataset.jsonl`, and what a filter of the user's own is shown: the scores are not there yet then.

    `rejected` is the other last turn of a preference.
    """

    id: str
    messages: list[Message]
    rejected: NotRequired[list[Message]]
    metadata: dict[str, Any]


ResponseFormat = Literal["json_schema", "json_object", "text"]
"""How an answer in JSON can be asked for, the strictest first: held to a schema, as any object, or in words alone."""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """The JSON object that an answer should be: a JSON schema, and the name that it is sent under (`[a-z_]`, <= 64)."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Topic:
    """A seed topic: a specific situation that examples are written about. `index` counts from 0 in the run."""

    index: int
    text: str
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One completion to ask for: (topic, sample index, facets), with the prompt as it will be sent."""

    key: str
    topic: Topic
    sample: int
    messages: tuple[Message, ...]
    facets: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[int, ...] = ()
    """Numbers of the user's examples that the prompt shows, from 0."""
    missing: tuple[str, ...] = ()
    """What the prompt says that the run falls short of."""

    @property
    def id(self) -> str:
        return self.key[:16]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked of an endpoint. `key` names it in the journal; wire spellings are the endpoint's business.

    `response_format` is `text`, or `json_object` where JSON is wanted; where the endpoint can be held to more than
    that, `schema` says to what. Which of them is sent is no part of the key. `endpoint` names the one that has to
    answer; None: whichever serves the stage. `attempt` counts how often it has been asked, from 1.
    """

    key: str
    stage: Stage
    messages: tuple[Message, ...]
    temperature: float | None
    max_tokens: int | None
    response_format: ResponseFormat
    schema: AnswerSchema | None = None
    endpoint: str | None = None
    attempt: int = 1
    """Which answer under this key is asked for: a malformed verdict is asked for once more."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of a chat completion, read from the raw body. `content` is None where the body has none."""

    content: str | None
    finish_reason: str | None
    refusal: str | None
    model: str
    usage: Usage


PiiKind = Literal["email", "phone", "card", "iban", "ip", "national_id"]
"""Personal data that can be told from other text."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's scores (1-5) per criterion, their weighted mean, and its one-line reason.

    Of several verdicts combined, `model` names all that were asked, and `reason` is that of the strictest one.
    """

    scores: Mapping[str, float]
    score: float
    reason: str
    model: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the judge observed: axis -> value."""
    safety: Mapping[str, float] = field(default_factory=dict)
    """Scores of the safety criteria, which are no part of the mean."""
    disagreement: Mapping[str, float] = field(default_factory=dict)
    """Highest minus lowest score of each criterion, where several verdicts were asked for."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What an example was before it was sent back with the judge's reason.

    `draft` is the verdict that it was sent back with. `key` names the answer that the example is read from now; None:
    that answer was of no use, and the example is the draft still. `tokens`: what all of that took.
    """

    key: str | None
    draft: Verdict
    tokens: int


@dataclass(frozen=True, slots=True)
class Preference:
    """The reply that an example's last one was preferred to.

    `chosen_key` and `rejected_key` name the answers that the two were read from. Where scores told, `verdict` has those
    of the rejected one and `margin` how far it was below; where they were compared, neither is there.
    """

    chosen_key: str
    rejected_key: str
    reply: str
    model: str
    verdict: Verdict | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A training example on its way: the conversation without the system message, and where it came from.

    `redacted` counts the marks that stand in the place of personal data, by its kind. `revision` and `preference` are
    there where the one was asked for or the other decided.
    """

    task: Task
    messages: tuple[Message, ...]
    model: str
    redacted: Mapping[PiiKind, int] = field(default_factory=dict)
    revision: Revision | None = None
    preference: Preference | None = None

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def user(self) -> str:
        """All user turns, joined by a newline."""
        return "\n".join(message["content"] for message in self.messages if message["role"] == "user")

    @property
    def assistant(self) -> str:
        """All assistant turns, joined by a newline."""
        return "\n".join(message["content"] for message in self.messages if message["role"] == "assistant")


class DropReason(StrEnum):
    """Why something was dropped. Filters add their own names; these belong to the flow itself."""

    TRUNCATED = "truncated"
    REFUSED = "refused"
    EMPTY = "empty"
    NOT_JSON = "not_json"
    SEVERAL_OBJECTS = "several_objects"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    REQUEST_REJECTED = "request_rejected"
    NO_VERDICT = "no_verdict"
    NO_MARGIN = "no_margin"
    LOW_SCORE = "low_score"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    COPIED_EXAMPLE = "copied_example"
    OVER_SHARE = "over_share"
    OVER_TARGET = "over_target"
    PENDING_JUDGE = "pending_judge"


@dataclass(frozen=True, slots=True)
class Drop:
    """A drop is a record with a reason, not an absence. `reason` is a `DropReason` or the name of a filter."""

    stage: Stage
    reason: str
    detail: str = ""
