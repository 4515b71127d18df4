"""API keys: where they come from, and what keeps them out of logs, files and tracebacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from synth_async.config.models import SIMULATOR, Config, Endpoint
from synth_async.config.source import looks_secret
from synth_async.errors import UsageError

__all__ = [
    "NO_KEY",
    "OPENAI_BASE_URL",
    "ResolvedEndpoint",
    "Secret",
    "base_url_problem",
    "header_problem",
    "key_variables",
    "resolve_endpoint",
    "resolve_endpoints",
    "variable_name_problem",
]

OPENAI_BASE_URL = "https://api.openai.com/v1"
"""OpenAI's own endpoint, the default of the openai package."""

NO_KEY = "none"
"""Sent where an endpoint wants no key: the openai package refuses an empty one."""

_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
)


class Secret:
    """A text that shows itself as `***` and leaves only through `reveal()`. It is not pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the one place that puts it on the wire."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret(***)"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled: resolve the endpoint again where it is needed")


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    """An endpoint with its URL and key found. `base_url` has no trailing slash, or is `simulator`."""

    name: str
    base_url: str
    api_key: Secret
    settings: Endpoint

    @property
    def is_simulator(self) -> bool:
        return self.base_url == SIMULATOR


def variable_name_problem(name: str) -> str | None:
    """Why a text cannot name the variable of a key; it never repeats the text, which may be the key itself."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or looks_secret(name):
        return "must be the name of an environment variable, such as OPENAI_API_KEY, and not the key itself (not shown)"
    return None


def base_url_problem(url: str) -> str | None:
    """Why a text cannot be a base URL; it never repeats the text."""
    if not url.startswith(("http://", "https://")):
        return "must start with http:// or https://"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a valid URL"
    if "@" in parts.netloc:
        return "must not hold a user or a password: export the key as a variable, and name that with api_key_env"
    if parts.query or parts.fragment:
        return "must not hold a query: put it under query"
    if not parts.hostname or any(c.isspace() or not c.isprintable() for c in url):
        return "is not a valid URL"
    return None


def header_problem(name: str, value: str) -> str | None:
    """Why a header cannot stand in a config: it carries a credential, or cannot be sent."""
    if name.lower() in _CREDENTIAL_HEADERS:
        return "a credential does not belong into a config: export it as a variable, and name that with api_key_env"
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        return "is not a valid header name"
    if not value.isascii() or not value.isprintable():
        return "a header value must be printable ASCII, in one line"
    return None


def key_variables(config: Config) -> frozenset[str]:
    """Names of the variables that may hold the keys of a config, whether an endpoint is used or not."""
    named = {endpoint.api_key_env for endpoint in config.endpoints.values() if endpoint.api_key_env}
    return frozenset({"OPENAI_API_KEY", *named})


def resolve_endpoint(name: str, endpoint: Endpoint, env: Mapping[str, str]) -> ResolvedEndpoint:
    """The endpoint with its base URL and key.

    URL: the config's, then `OPENAI_BASE_URL`, then OpenAI's own. Key: the variable named by `api_key_env`, else
    `OPENAI_API_KEY`, which may be missing where a base URL was given. The embedded endpoint never gets a key.
    Raises `UsageError`, without any value.
    """
    if endpoint.is_simulator:
        return ResolvedEndpoint(name, SIMULATOR, Secret(NO_KEY), endpoint)
    given = endpoint.base_url or env.get("OPENAI_BASE_URL", "").strip()
    if given and (problem := base_url_problem(given)):
        raise UsageError(
            f"endpoints.{name}.base_url: {problem}" if endpoint.base_url else f"OPENAI_BASE_URL: {problem}"
        )
    key = _key(name, endpoint, env, required=not given)
    return ResolvedEndpoint(name, (given or OPENAI_BASE_URL).rstrip("/"), Secret(key), endpoint)


def resolve_endpoints(config: Config, env: Mapping[str, str]) -> dict[str, ResolvedEndpoint]:
    """The endpoints that the stages of a config send to, by name. Raises `UsageError` with all that is wrong."""
    resolved, problems = {}, []
    for name in config.used_endpoints:
        try:
            resolved[name] = resolve_endpoint(name, config.endpoints[name], env)
        except UsageError as problem:
            problems.append(str(problem))
    if problems:
        raise UsageError("\n".join(problems))
    return resolved


def _key(name: str, endpoint: Endpoint, env: Mapping[str, str], *, required: bool) -> str:
    variable = "OPENAI_API_KEY" if endpoint.api_key_env is None else endpoint.api_key_env
    if problem := variable_name_problem(variable):
        raise UsageError(f"endpoints.{name}.api_key_env: {problem}")
    key = env.get(variable, "")
    if not key and endpoint.api_key_env is not None:
        raise UsageError(f"endpoints.{name}.api_key_env: the variable {variable} is not set; export it")
    if not key and required:
        raise UsageError(
            f"endpoints.{name}: the variable OPENAI_API_KEY is not set; export it, or name another one with api_key_env"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"endpoints.{name}: the key in {variable} holds whitespace or characters outside ASCII; export it again"
        )
    return key or NO_KEY
