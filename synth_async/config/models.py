"""The config file as frozen models: every key, its default and its bounds.

A config names the *variable* that holds an API key, never the key. Paths are relative to the file. Unknown keys are
mistakes. Durations are seconds, prices are US dollars per million tokens.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from synth_async.records import PiiKind, ResponseFormat

SIMULATOR = "simulator"
"""The `base_url` (and the model name) of the embedded endpoint."""


class _Section(BaseModel):
    # Not `use_attribute_docstrings`: it reads the source at import (40 ms); `config.schema` does when it is asked.
    # `defer_build`: the schemas of sections are built once, within the first model that is used (20 ms).
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


Share = Annotated[float, Field(gt=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


EndpointNames = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""One endpoint, or several that serve a stage together; the first one's model and `extra_body` name the answers."""


def _as_words(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


Command = Annotated[tuple[str, ...], BeforeValidator(_as_words), Field(min_length=1)]
"""A program and its arguments: a list, or a line that is split as a shell splits it, and not run by one."""


def is_long_facet(given: object) -> bool:
    """Whether a facet is written with its keys, rather than as its values alone."""
    return isinstance(given, Facet) or (isinstance(given, dict) and isinstance(given.get("values"), list | dict))


def _as_weights(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        return value
    return dict.fromkeys(value, 1.0)


FacetWeights = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_as_weights), Field(min_length=1)]
"""Values and their weights; a list of values gives each the weight 1."""


def _as_times(value: object) -> object:
    if value is False or value == 0:
        return None
    return {"times": value} if isinstance(value, int) else value


def _as_categories(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return value
    return dict.fromkeys(value)


class Price(_Section):
    """US dollars per million tokens."""

    prompt: Annotated[float, Field(ge=0)]
    """Price of a million prompt tokens."""
    completion: Annotated[float, Field(ge=0)]
    """Price of a million completion tokens."""
    batch_discount: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of it that a batch saves; 0.5 is what OpenAI's page on the Batch API says."""

    @property
    def in_batches(self) -> Price:
        """What tokens cost in a batch."""
        factor = 1 - self.batch_discount
        return self.model_copy(update={"prompt": self.prompt * factor, "completion": self.completion * factor})


class FaultMix(_Section):
    """Share of requests (0-1) that the embedded endpoint answers with each fault."""

    rate_limited: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A 429 although the limits have room, with one of every kind of hint in turn."""
    server_error: Annotated[float, Field(ge=0, le=1)] = 0.0
    """500 and 502 with HTML bodies, 503 and 529 with JSON."""
    reset: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The connection is reset, half of them in the middle of the body."""
    hang: Annotated[float, Field(ge=0, le=1)] = 0.0
    """No answer until the client gives up."""
    truncated_body: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A 200 whose JSON body is cut, or is HTML."""
    invalid_json: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Content that is not the JSON that was asked for: prose, two objects, a missing key, a wrong type."""
    empty: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Content that is empty or null."""
    refusal: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The `refusal` field, or a refusal in words."""
    length: Annotated[float, Field(ge=0, le=1)] = 0.0
    """`finish_reason: length`, the content cut."""


class BatchSimulation(_Section):
    """What the embedded endpoint does with batches; shares are of batches, or of lines where that is said (0-1)."""

    duration_s: Annotated[float, Field(ge=0)] = 2.0
    """Median time from the creation of a batch to its end."""
    enqueued_tokens: PositiveInt | None = None
    """Prompt tokens that may wait in all batches together; what passes it fails after its creation. None: any."""
    failed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Batches that fail when their file is validated, on account of one line."""
    expired: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Batches that expire with a part of their lines done."""
    cancelled: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Batches that somebody cancels with a part of their lines done."""
    only_errors: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Batches that complete with an error file and no output."""
    line_error: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lines that end in the error file with a 500, a 429 or a time-out."""
    line_rejected: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lines that end in the error file with a 400, whenever they are asked."""
    line_missing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lines that are in neither file."""
    lost_reply: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Batches that are created although the reply to that is never sent."""
    listed_after_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a new batch is missing in the list."""
    dialect: Literal["openai", "upper", "wrapped"] = "openai"
    """How a batch is written: as OpenAI does, its status in capitals, or in capitals within an object `job`."""


class Simulation(_Section):
    """How the embedded endpoint behaves (`base_url: simulator`). Its data is simulated and says so."""

    rpm: Annotated[float, Field(gt=0)] | None = None
    """Requests per minute that it enforces; none: no limit."""
    tpm: Annotated[float, Field(gt=0)] | None = None
    """Tokens per minute that it enforces; none: no limit."""
    burst_s: Annotated[float, Field(gt=0, le=60)] = 60
    """Seconds of each limit that can be spent at once after a pause; 60: a minute's, small: counted by the second."""
    latency_s: Annotated[float, Field(ge=0)] = 0.05
    """Median latency."""
    latency_sigma: Annotated[float, Field(ge=0, le=3)] = 0.3
    """Sigma of the lognormal latency; 0: constant."""
    seed: int = 0
    """Seed of what it says and of its faults."""
    weak_share: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Share of generated examples that are weak on purpose."""
    duplicate_share: Annotated[float, Field(ge=0, le=1)] = 0.08
    """Share of generated examples that are near-duplicates of an earlier one on purpose."""
    placeholder_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of generated examples in which a placeholder was left."""
    pii_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of generated examples with an invented e-mail address, phone number, card or account in them."""
    favourite_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of examples in its favourite tone whatever was asked, and of topics about its favourite theme."""
    faults: FaultMix = FaultMix()
    """Faults, each a share of requests."""
    batch: BatchSimulation = BatchSimulation()
    """What becomes of batches."""


class Batch(_Section):
    """How batches are put together and waited for (`mode: batch`)."""

    max_requests: Annotated[int, Field(ge=1, le=50_000)] = 50_000
    """Requests in one file; 50,000 is OpenAI's limit."""
    max_bytes: Annotated[int, Field(ge=10_000, le=200_000_000)] = 200_000_000
    """Size of one file; 200 MB is OpenAI's limit."""
    enqueued_tokens: PositiveInt | None = None
    """Prompt tokens that may wait in all batches together, as your account's limits page says; none: found out."""
    max_waiting: Annotated[int, Field(ge=1, le=500_000)] = 50_000
    """Requests of one stage that may wait for their answers at once."""
    gather_s: Annotated[float, Field(ge=0)] = 30
    """A file that is not full is sent when nothing new has come for so long."""
    poll_s: Annotated[float, Field(gt=0)] = 30
    """How often the state of each batch is asked for, give or take a quarter."""
    settle_s: Annotated[float, Field(ge=0)] = 60
    """A creation that brought no reply counts as failed when no list shows the batch after so long."""


class Endpoint(_Section):
    """One OpenAI-compatible endpoint and what it allows."""

    base_url: str | None = None
    """Such as `https://host/v1`; `simulator` for the embedded one; none: `OPENAI_BASE_URL`, then OpenAI's own."""
    model: str
    """Model name as the endpoint knows it."""
    api_key_env: str | None = None
    """Name of the variable with the key; none: `OPENAI_API_KEY` (which may be missing when `base_url` is given)."""
    rpm: Annotated[float, Field(gt=0)] | None = None
    """Requests per minute allowed; none: not limited by us."""
    tpm: Annotated[float, Field(gt=0)] | None = None
    """Tokens per minute allowed; none: not limited by us."""
    token_accounting: Literal["auto", "actual", "reserved"] = "auto"
    """What the server charges against `tpm`: tokens used, or prompt + max_tokens when the request is admitted."""
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Requests open at once, at the most."""
    timeout_s: Annotated[float, Field(gt=0)] = 300
    """Deadline of one request."""
    response_format: ResponseFormat = "json_schema"
    """How JSON is asked for at first; where the endpoint refuses it: `json_schema`, then `json_object`, then `text`."""
    extra_body: dict[str, Any] = {}
    """More keys for every request body, such as vLLM's `chat_template_kwargs`."""
    headers: dict[str, str] = {}
    """More headers for every request."""
    query: dict[str, str] = {}
    """More query parameters for every request, such as Azure's `api-version`."""
    price: Price | None = None
    """What tokens cost; none: the cost is unknown, not 0."""
    mode: Literal["online", "batch"] = "online"
    """`batch`: examples and verdicts go through the Batch API (half the price, up to 24 h); topics stay online."""
    batch: Batch = Batch()
    """How batches are put together and waited for."""
    simulation: Simulation | None = None
    """How the embedded endpoint behaves; only with `base_url: simulator`."""

    @property
    def is_simulator(self) -> bool:
        return self.base_url == SIMULATOR

    @field_validator("base_url")
    @classmethod
    def _has_a_scheme(cls, value: str | None) -> str | None:
        if value is None or value == SIMULATOR or value.startswith(("http://", "https://")):
            return value
        raise ValueError("must start with http:// or https://, or be 'simulator'")

    @model_validator(mode="after")
    def _simulation_needs_the_simulator(self) -> Endpoint:
        if self.simulation is not None and not self.is_simulator:
            raise ValueError("'simulation' is only for base_url: simulator")
        return self


class Budget(_Section):
    """What a run may spend, all its processes together; it stops with work left (exit 4) before it would pass it."""

    usd: Annotated[float, Field(gt=0)] | None = None
    """US dollars; every endpoint in use needs a price."""
    tokens: PositiveInt | None = None
    """Prompt and completion tokens."""
    requests: PositiveInt | None = None
    """Requests sent."""


class ContextFile(_Section):
    """A document that the examples must agree with: a policy, a product sheet."""

    file: Path
    """UTF-8 text file, rendered into the generation and the judge prompts."""


class Personas(_Section):
    """People to write as, from a file of the user's own; drawn in turn, in an order by the seed."""

    file: Path
    """JSONL (`persona`, or else `description` or `text`) or text (one a line), UTF-8."""


class Examples(_Section):
    """Examples of the user's own that are shown to the model, and that no answer may copy."""

    file: Path
    """Chat JSONL: `messages`, or a pair such as `prompt` and `completion`."""
    per_request: Annotated[int, Field(ge=1, le=20)] = 2
    """How many each generation request shows."""


class Category(_Section):
    """One category of topics. A number is short for `share`."""

    share: Annotated[float, Field(gt=0)] = 1.0
    """Its weight among the categories beside it."""
    categories: Annotated[dict[str, Category], BeforeValidator(_as_categories)] = {}
    """Parts of it, with weights among themselves."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: object) -> object:
        if given is None:
            return {}
        return {"share": given} if isinstance(given, int | float) else given


def _leaves(categories: Mapping[str, Category], above: str, weight: float) -> Iterator[tuple[str, float]]:
    total = sum(category.share for category in categories.values())
    for name, category in categories.items():
        share = weight * category.share / total
        if category.categories:
            yield from _leaves(category.categories, f"{above}{name} / ", share)
        else:
            yield f"{above}{name}", share


class Topics(_Section):
    """Where seed topics come from: the model (default), or a file."""

    count: PositiveInt | None = None
    """Topics asked of the model for the first round; none: half the target."""
    file: Path | None = None
    """Text (one topic a line) or JSONL (`topic`, optional `category`), UTF-8; then no model is asked."""
    endpoint: EndpointNames | None = None
    """Name of the endpoint that is asked, or a list of names that share the work; none: the only one."""
    temperature: Temperature = 1.0
    """Sampling temperature."""
    max_tokens: PositiveInt | None = 2048
    """Limit of one answer; none: the endpoint's own."""
    batch_size: Annotated[int, Field(ge=1, le=200)] = 25
    """Topics asked for in one request."""
    categories: Annotated[dict[str, Category] | PositiveInt, BeforeValidator(_as_categories)] = {}
    """Categories with their shares, nested where wanted; a number: so many are asked of the model. None: one pool."""
    evolve: bool = False
    """When the model has no new topics left, make more from those it gave: deeper, broader, trickier."""
    prompt: str | None = None
    """Jinja2 template: `domain`, `system_prompt`, `context`, `count`, `known`, `angle`, `category`, `evolve`."""

    @property
    def category_weights(self) -> dict[str, float]:
        """Leaf categories (`billing / refunds`) and their shares of 1; empty where none are given."""
        return dict(_leaves(self.categories, "", 1.0)) if isinstance(self.categories, dict) else {}


class Generation(_Section):
    """How examples are asked for."""

    endpoint: EndpointNames | None = None
    """Name of the endpoint that is asked, or a list of names that share the work; none: the only one."""
    examples_per_topic: PositiveInt = 3
    """Completions per topic in the first round."""
    max_examples_per_topic: PositiveInt = 30
    """How often a topic may be used when the first round was not enough and no new topics are to be had."""
    temperature: Temperature = 0.8
    """Sampling temperature."""
    max_tokens: PositiveInt | None = 1024
    """Limit of one answer; none: the endpoint's own."""
    prompt: str | None = None
    """Jinja2 template: `domain`, `system_prompt`, `topic`, `category`, `facets`, `facet_lines`, `examples`, `context`,
    `turns`, `variation`, `missing`."""
    turns: Annotated[int, Field(ge=1, le=20)] = 1
    """User turns per conversation; above 1 the model is asked for `messages` in place of one exchange."""

    @model_validator(mode="after")
    def _room_for_the_first_round(self) -> Generation:
        if self.max_examples_per_topic < self.examples_per_topic:
            raise ValueError("max_examples_per_topic is below examples_per_topic")
        return self


class FacetRule(_Section):
    """Other weights of a facet where the example has certain values of earlier facets, or a certain category."""

    given: Annotated[dict[str, str], Field(min_length=1)]
    """Facets named before this one, or `category`, with the value that each must have."""
    values: FacetWeights
    """The values and weights that hold then; those left out are not drawn."""


class Facet(_Section):
    """An axis of variation. A list of values, or values with weights, is short for `values`."""

    values: FacetWeights
    """Values, or values with weights."""
    when: tuple[FacetRule, ...] = ()
    """Conditional weights: the first rule that fits an example holds for it."""
    prompt: str | None = None
    """Jinja2 template of its line in the prompt: `value`, `category`, `topic`, `facets`; none: `Name: value`."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: object) -> object:
        return given if is_long_facet(given) else {"values": given}


class Words(_Section):
    """Bounds on length, both inclusive: words, or characters in scripts that write without spaces."""

    min: Annotated[int, Field(ge=0)]
    """Fewest."""
    max: PositiveInt
    """Most."""

    @model_validator(mode="after")
    def _in_order(self) -> Words:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Pattern(_Section):
    """A user's own rule: examples in which `regex` is found are dropped, counted under `name`."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Reason under which drops are counted."""
    regex: str
    """Python regular expression, searched in the text."""
    where: Literal["user", "assistant", "both"] = "both"
    """Which side is searched."""


class Repetition(_Section):
    """How much of a turn may be repeated; a number alone is `share`."""

    share: Share | None = 0.3
    """Most of a turn that may stand in repeated word 4-grams or repeated sentences; null turns this part off."""
    gopher: bool = True
    """The bounds of Gopher (Rae et al. 2021, table A1) on repeated lines, paragraphs and n-grams, from 50 words on."""


class Pii(_Section):
    """Personal data that a model has written, on either side; `pii: redact` alone sets the action."""

    action: Literal["drop", "redact", "keep"] = "drop"
    """Drop the example, put `[EMAIL]`, `[PHONE]` ... in its place, or do not look."""
    kinds: Annotated[tuple[PiiKind, ...], Field(min_length=1)] = ("email", "phone", "card", "iban", "ip", "national_id")
    """What is looked for. Names and postal addresses cannot be told from other words, and are not."""
    allow_synthetic: bool = True
    """Let pass what is nobody's: example.com, 555-01xx, test cards, info@, toll-free and private addresses."""


class Profanity(_Section):
    """Words that the user does not want; there is no list of ours. A list alone is `words`."""

    words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Words and phrases, found as whole words in any case; those of `file` are added when the config is loaded."""
    file: Path | None = None
    """UTF-8 text file, one word or phrase a line; `#` begins a comment."""
    where: Literal["user", "assistant", "both"] = "both"
    """Which side is searched."""

    @model_validator(mode="after")
    def _holds_something(self) -> Profanity:
        if not self.words and self.file is None:
            raise ValueError("has neither words nor a file")
        return self


def _as_word_list(value: object) -> object:
    return {"words": value} if isinstance(value, list | tuple) else value


def _as_action(value: object) -> object:
    return {"action": value} if isinstance(value, str) else value


def _as_share(value: object) -> object:
    return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


def reason_of(custom: str) -> str:
    """The reason under which a function of the user's drops: its own name, or that of the entry point."""
    return re.split(r"[:.]", custom)[-1] if ":" in custom else custom


class Filters(_Section):
    """Cheap heuristics before the judge is paid: named rules with counted reasons; `false` or null turns one off."""

    user_words: Words | None = Words(min=5, max=500)
    """Length of each user turn."""
    assistant_words: Words | None = Words(min=10, max=1000)
    """Length of each assistant turn."""
    refusal: bool = True
    """The reply opens like a refusal ("I'm sorry, but I can't", "As an AI")."""
    placeholder: bool = True
    """A placeholder was left in (`[insert`, `[your`, `{{`, `xxx`, lorem ipsum)."""
    leakage: bool = True
    """A turn holds parts of a prompt: `Topic:`, the system prompt, "Here is the JSON", keys of the answer's format."""
    role_mixup: bool = True
    """A turn speaks for the other side: it goes on with `Customer:`, or the user greets like an agent."""
    pii: Annotated[Pii | None, BeforeValidator(_as_action)] = Pii()
    """Personal data: e-mail, phone, card, IBAN, IP and national ids, by their checksums where they have one."""
    short_reply: Share | None = 0.2
    """The reply is shorter than this share of a long question."""
    profanity: Annotated[Profanity | None, BeforeValidator(_as_word_list)] = None
    """The user's own list of words."""
    patterns: tuple[Pattern, ...] = ()
    """The user's own regular expressions."""
    echo: Share | None = 0.8
    """The reply is more similar than this to the question."""
    repetition: Annotated[Repetition | None, BeforeValidator(_as_share)] = Repetition()
    """Too much of a turn is repeated."""
    language: Annotated[tuple[LanguageCode, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    """Languages that turns may be written in, as ISO 639 codes; short turns pass. Needs the extra `language`."""
    custom: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(:[A-Za-z_][\w.]*)?$")], ...] = ()
    """The user's own functions, `package.module:function` or entry points of `synth_async.filters`: their code runs."""

    @field_validator(
        "user_words", "assistant_words", "pii", "short_reply", "profanity", "echo", "repetition", mode="before"
    )
    @classmethod
    def _false_is_off(cls, value: object) -> object:
        return None if value is False else value

    @field_validator("language", mode="before")
    @classmethod
    def _norwegian_in_quotes(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be codes such as en; null turns it off, and Norwegian is 'no' in quotes")  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _reasons_differ(self) -> Filters:
        own = [*(pattern.name for pattern in self.patterns), *map(reason_of, self.custom)]
        names = [*(name for name in type(self).model_fields if name not in {"patterns", "custom"}), *own]
        if repeated := sorted({name for name in own if names.count(name) > 1}):
            raise ValueError(f"two filters would count under the same name: {', '.join(repeated)}")
        return self


class Criterion(_Section):
    """One line of the judge's rubric, scored 1-5."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Key of the score."""
    description: str = ""
    """What the judge shall look at."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight in the mean."""
    anchors: dict[Annotated[int, Field(ge=1, le=5)], Annotated[str, Field(min_length=1)]] = {}
    """What a score means, such as `{1: ..., 3: ..., 5: ...}`; stands in the rubric."""
    must_pass: Annotated[float, Field(ge=1, le=5)] | None = None
    """Score that an example needs in this criterion, whatever the mean."""
    safety: bool = False
    """Scored and kept apart, and no part of the mean: harmful bias, fabricated facts."""

    def __hash__(self) -> int:
        """By what tells criteria apart as a rule; a dict has no hash."""
        return hash((self.name, self.description, self.weight))


DEFAULT_CRITERIA = (
    Criterion(name="helpfulness", description="Does the reply resolve what the user asked, with concrete next steps?"),
    Criterion(name="accuracy", description="Is everything in the reply correct and consistent with the context?"),
    Criterion(name="naturalness", description="Do both sides read like real people, without templates or padding?"),
    Criterion(name="policy", description="Does the reply keep to the system prompt, and promise nothing it may not?"),
)


DEFAULT_TONES = ("polite", "frustrated", "confused", "in a hurry", "formal", "chatty")
"""Tones of the user's side, drawn in turn where the config names no facets."""


class Judge(_Section):
    """The rubric, and who applies it. `judge: null` turns judging off."""

    endpoint: EndpointNames | None = None
    """Name of the endpoint that is asked, or a list of names that share the work; none: the only one."""
    panel: EndpointNames | None = None
    """Endpoints that are asked each, in place of `endpoint`."""
    mode: Literal["score", "pairwise"] = "score"
    """`pairwise`: two replies are shown in both orders and one is chosen; the best one alone is scored."""
    samples: Annotated[int, Field(ge=1, le=20)] = 1
    """Verdicts on each example from each endpoint asked; above 1, choose a temperature above 0."""
    combine: Literal["mean", "median", "min"] = "mean"
    """What becomes of several scores of one criterion."""
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)] = DEFAULT_CRITERIA
    """The rubric: a list of names, of mappings, or a mapping from name to description."""
    min_score: Annotated[float, Field(ge=1, le=5)] = 4.0
    """Weighted mean that an example needs."""
    temperature: Temperature = 0.0
    """Sampling temperature."""
    max_tokens: PositiveInt | None = 512
    """Limit of one answer; none: the endpoint's own."""
    labels: tuple[str, ...] = ()
    """Facets (and `category`) that the judge labels as it observes them; shares then count by its label."""
    prompt: str | None = None
    """Jinja2 template in place of ours: `domain`, `system_prompt`, `context`, `criteria`, `topic`."""

    @field_validator("criteria", mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, dict):
            return [
                {"name": name, **(rest if isinstance(rest, dict) else {"description": rest or ""})}
                for name, rest in value.items()
            ]
        if isinstance(value, list):
            return [{"name": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @field_validator("criteria")
    @classmethod
    def _each_name_once(cls, value: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        names = [criterion.name for criterion in value]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(repeated))}")
        if all(criterion.safety for criterion in value):
            raise ValueError("safety criteria are no part of the mean: at least one other is needed")
        return value

    @model_validator(mode="after")
    def _pool_or_panel(self) -> Judge:
        if self.panel is not None and self.endpoint is not None:
            raise ValueError("endpoint shares the work and panel asks each: name the endpoints in one of them")
        if self.panel is not None and len(set(self.panel)) < len(self.panel):
            raise ValueError("panel names an endpoint twice; more verdicts from one endpoint are judge.samples")
        return self


class Revise(_Section):
    """Send an example that is almost good back with the judge's reason. A number alone is `times`."""

    times: Annotated[int, Field(ge=1, le=3)] = 1
    """How often one example is sent back, at the most."""
    band: Annotated[float, Field(gt=0, le=4)] = 1.0
    """How far below `judge.min_score` an example may be to be worth it."""


class Preference(_Section):
    """Where the two sides of a preference come from; for `mode: preference`."""

    samples: Annotated[int, Field(ge=1, le=20)] = 3
    """Replies to each prompt, the first one with it; 1 only with a `rejected_endpoint`."""
    margin: Annotated[float, Field(gt=0, le=4)] = 1.0
    """How far below the chosen reply's score the rejected one's has to be, at least; not for `judge.mode: pairwise`."""
    rejected_endpoint: str | None = None
    """Name of a weaker endpoint that gives one more reply, which can only be the rejected side."""
    temperature: Temperature = 1.0
    """Sampling temperature of the further replies."""


class Coverage(_Section):
    """Hold the accepted examples to the wished shares. `coverage: null`: only what is asked for is balanced."""

    tolerance: Annotated[float, Field(gt=0, le=0.5)] = 0.02
    """How far a value may end from its share."""
    axes: tuple[str, ...] | None = None
    """`category` and facets that are held to their shares; none: all that have fixed shares."""

    def includes(self, axis: str) -> bool:
        """Whether an axis is held to its shares."""
        return self.axes is None or axis in self.axes


class Dedup(_Section):
    """Near-duplicates: MinHash-LSH finds candidates, `verify` decides. `dedup: null` turns it off."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.80
    """Verified similarity; strictly above is a duplicate. Never the LSH Jaccard."""
    verify: Literal["indel", "article", "jaccard", "none"] = "indel"
    """`indel`: rapidfuzz; `article`: difflib as naively called; `jaccard`: of signatures; `none`: any candidate."""
    fields: Literal["user", "assistant", "both"] = "both"
    """Which texts are compared."""


class Output(_Section):
    """What the dataset lines hold."""

    system_message: bool = True
    """Put the system prompt as the first message of every example."""
    dir: Path | None = None
    """Run folder; none: `runs/<name>` under the working folder. `--out` goes before it."""


class Config(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Names the run and its folder."""
    domain: Annotated[str, Field(min_length=1)]
    """What the examples are about, in a phrase."""
    system_prompt: Annotated[str, Field(min_length=1)]
    """System message of the model that will be trained; also tells the generator who answers."""
    context: ContextFile | None = None
    """A document that the examples must agree with."""
    target: PositiveInt
    """Accepted examples wanted: `dataset.jsonl` has exactly so many lines."""
    seed: int = 0
    """Seed of every choice that the run makes itself."""
    mode: Literal["chat", "preference"] = "chat"
    """`chat`: conversations; `preference`: with a second, worse reply to each prompt, for DPO."""
    fsync: Literal["100ms", "always", "never"] = "100ms"
    """When answers are forced to the disk: at most this late, one by one, or by the system."""
    give_up_after_s: Annotated[float, Field(gt=0)] = 6 * 3600
    """How long the run waits for an endpoint that has gone away before it stops (exit 4)."""
    on_finish: Command | None = None
    """Command run at the end, the outcome in its `SYNTH_ASYNC_...` variables; a list or a line, run without a shell."""
    endpoints: Annotated[dict[str, Endpoint], Field(min_length=1)]
    """Named endpoints. With one, every stage uses it."""
    budget: Budget | None = None
    """What the run may spend."""
    topics: Topics = Topics()
    """Seed topics."""
    generation: Generation = Generation()
    """Examples."""
    facets: dict[str, Facet] = {"tone": Facet(values=dict.fromkeys(DEFAULT_TONES, 1.0))}
    """Axes of variation (tone, persona...): values, or values with weights; by default six tones. `{}`: none."""
    personas: Personas | None = None
    """People to write as."""
    examples: Examples | None = None
    """Examples to follow in style, never in content."""
    filters: Filters = Filters()
    """Cheap rules before the judge."""
    judge: Judge | None = Judge()
    """The rubric."""
    revise: Annotated[Revise | None, BeforeValidator(_as_times)] = None
    """A second chance for what is almost good; 0: none."""
    preference: Preference = Preference()
    """The pairs of `mode: preference`."""
    coverage: Coverage | None = Coverage()
    """Wished shares."""
    dedup: Dedup | None = Dedup()
    """Near-duplicates."""
    output: Output = Output()
    """The dataset file."""

    @model_validator(mode="after")
    def _stages_name_endpoints(self) -> Config:
        for stage in ("topics", "generation", "judge"):
            section = getattr(self, stage)
            if section is None or (stage == "topics" and section.file is not None):
                continue
            key = "panel" if stage == "judge" and section.panel is not None else "endpoint"
            named = getattr(section, key)
            if named is None and len(self.endpoints) > 1:
                raise ValueError(f"{stage}.endpoint: several endpoints, name one of {', '.join(self.endpoints)}")
            for name in named or ():
                if name not in self.endpoints:
                    raise ValueError(
                        f"{stage}.{key}: no endpoint is named {name!r}, there is {', '.join(self.endpoints)}"
                    )
        return self

    @model_validator(mode="after")
    def _one_mode_for_a_stage(self) -> Config:
        for stage in ("generation", "judge"):
            section = getattr(self, stage)
            names = (section.endpoint if section is not None else None) or ()
            if len({self.endpoints[name].mode for name in names}) > 1:
                raise ValueError(f"{stage}.endpoint: endpoints that share the work need the same mode, batch or online")
        return self

    @model_validator(mode="after")
    def _axes_are_there(self) -> Config:
        known = [*self.facets, "category"]
        named = {"judge.labels": self.judge.labels if self.judge else (), "coverage.axes": ()}
        if self.coverage is not None and self.coverage.axes is not None:
            named["coverage.axes"] = self.coverage.axes
        for key, axes in named.items():
            for axis in axes:
                if axis not in known:
                    raise ValueError(f"{key}: no facet is named {axis!r}, there is {', '.join(known)}")
        if "persona" in self.facets and self.personas is not None:
            raise ValueError("personas: a facet is named persona as well; rename it, or leave one of them out")
        return self

    @model_validator(mode="after")
    def _verdicts_are_there_for_what_needs_them(self) -> Config:
        if self.revise is not None and self.judge is None:
            raise ValueError("revise: goes by the judge's reason, and judge is null")
        if self.mode == "preference" and self.judge is None:
            raise ValueError("mode: the judge decides which reply is preferred, and judge is null")
        if self.mode == "preference" and self.revise is not None:
            raise ValueError("revise: with mode: preference a reply that is not good enough is the rejected side")
        if self.judge is not None and self.judge.mode == "pairwise" and self.mode != "preference":
            raise ValueError("judge.mode: pairwise compares the replies of mode: preference, and there is one of each")
        return self

    @model_validator(mode="after")
    def _preference_can_come_about(self) -> Config:
        given, named = self.preference.model_fields_set, self.preference.rejected_endpoint
        if self.mode != "preference":
            if self.preference != Preference():
                raise ValueError("preference: is for mode: preference")
            return self
        if self.preference.samples == 1 and named is None:
            raise ValueError("preference.samples: one reply has no other to be preferred to; name a rejected_endpoint")
        if named is not None and named not in self.endpoints:
            there = ", ".join(self.endpoints)
            raise ValueError(f"preference.rejected_endpoint: no endpoint is named {named!r}, there is {there}")
        if "margin" in given and self.judge is not None and self.judge.mode == "pairwise":
            raise ValueError("preference.margin: judge.mode: pairwise gives no scores to be apart")
        if self.dedup is not None and "fields" in self.dedup.model_fields_set and self.dedup.fields != "user":
            raise ValueError("dedup.fields: with mode: preference the prompts are compared (user)")
        return self

    @model_validator(mode="after")
    def _budget_can_be_kept(self) -> Config:
        if self.budget is None:
            return self
        unpriced = [name for name in self.used_endpoints if self.endpoints[name].price is None]
        if self.budget.usd is not None and unpriced:
            raise ValueError(
                f"budget.usd: endpoints.{unpriced[0]} has no price; give it `price: {{prompt: P, completion: C}}` in"
                " dollars per million tokens, or install 'synth-async[prices]', which knows many models"
            )
        if self.budget.usd is not None or self.budget.tokens is not None:
            for stage in ("topics", "generation", "judge"):
                section = getattr(self, stage)
                if section is not None and section.max_tokens is None:
                    raise ValueError(f"budget: {stage}.max_tokens is needed, as an answer without a limit has no price")
        return self

    @property
    def topic_count(self) -> int:
        """Topics of the first round."""
        return self.topics.count or max(1, (self.target + 1) // 2)

    @property
    def used_endpoints(self) -> list[str]:
        """Names of the endpoints that some stage sends to, in the config's order."""
        stages = ["generation"]
        stages += ["topics"] if self.topics.file is None else []
        stages += ["judge"] if self.judge is not None else []
        used = {name for stage in stages for name in self.endpoints_of(stage)}
        if self.mode == "preference" and self.preference.rejected_endpoint is not None:
            used.add(self.preference.rejected_endpoint)
        return [name for name in self.endpoints if name in used]

    @property
    def compared_fields(self) -> Literal["user", "assistant", "both"]:
        """Which texts tell duplicates: in a dataset of preferences the prompts."""
        return "user" if self.mode == "preference" or self.dedup is None else self.dedup.fields

    def endpoints_of(self, stage: str) -> tuple[str, ...]:
        """Names of the endpoints that serve a stage: `topics`, `generation` or `judge`."""
        section = getattr(self, stage)
        named: tuple[str, ...] | None = section.endpoint if section is not None else None
        if stage == "judge" and self.judge is not None and self.judge.panel is not None:
            named = self.judge.panel
        return tuple(dict.fromkeys(named)) if named else (next(iter(self.endpoints)),)

    def sends_batches(self, stage: str) -> bool:
        """Whether a stage's requests go through the Batch API."""
        return stage != "topics" and any(self.endpoints[name].mode == "batch" for name in self.endpoints_of(stage))

    def price_of(self, endpoint: str, *, in_batches: bool) -> Price | None:
        """What tokens cost, online or in batches; None where that is unknown, or no endpoint is so named."""
        price = self.endpoints[endpoint].price if endpoint in self.endpoints else None
        return price.in_batches if price is not None and in_batches else price

    def endpoint_of(self, stage: str) -> str:
        """Name of the first endpoint that serves a stage: its model is the one that was configured."""
        return self.endpoints_of(stage)[0]
