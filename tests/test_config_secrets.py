from __future__ import annotations

import copy
import logging
import pickle

import pytest

from synth_async.config.models import Endpoint
from synth_async.config.secrets import Secret, resolve_endpoint
from synth_async.errors import ExitCode, UsageError

KEY = "sk-Zq81XyPw7Rt5"
OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("endpoint", "env", "base_url", "key"),
    [
        ({}, {"OPENAI_API_KEY": KEY}, OPENAI, KEY),
        ({}, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h/v1/"}, "http://h/v1", KEY),
        ({}, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": ""}, OPENAI, KEY),
        ({}, {"OPENAI_BASE_URL": "http://h/v1"}, "http://h/v1", "none"),
        ({"base_url": "http://c/v1"}, {"OPENAI_BASE_URL": "http://h/v1"}, "http://c/v1", "none"),
        ({"base_url": "http://c/v1"}, {"OPENAI_API_KEY": KEY}, "http://c/v1", KEY),
        (
            {"base_url": "http://c/v1", "api_key_env": "OWN"},
            {"OWN": "own", "OPENAI_API_KEY": KEY},
            "http://c/v1",
            "own",
        ),
        ({"api_key_env": "OWN"}, {"OWN": "own", "OPENAI_API_KEY": KEY}, OPENAI, "own"),
        ({"base_url": "simulator"}, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h"}, "simulator", "none"),
        ({"base_url": "simulator", "api_key_env": "OWN"}, {}, "simulator", "none"),
    ],
)
def test_url_and_key_are_found(endpoint: dict[str, str], env: dict[str, str], base_url: str, key: str) -> None:
    """The config goes before the environment, that before OpenAI's own; the embedded endpoint gets no key."""
    settings = Endpoint(model="m", **endpoint)
    resolved = resolve_endpoint("main", settings, env)
    assert (resolved.name, resolved.base_url, resolved.api_key.reveal()) == ("main", base_url, key)
    assert resolved.settings is settings
    assert resolved.is_simulator is (base_url == "simulator")


SPACES = "endpoints.main: the key in OPENAI_API_KEY holds whitespace or characters outside ASCII; export it again"


@pytest.mark.parametrize(
    ("endpoint", "env", "message"),
    [
        (
            {},
            {},
            "endpoints.main: the variable OPENAI_API_KEY is not set; export it, or name another one with api_key_env",
        ),
        (
            {"api_key_env": "BILLING_KEY"},
            {"OPENAI_API_KEY": KEY},
            "endpoints.main.api_key_env: the variable BILLING_KEY is not set; export it",
        ),
        (
            {"api_key_env": "BILLING_KEY", "base_url": "http://h"},
            {"BILLING_KEY": ""},
            "endpoints.main.api_key_env: the variable BILLING_KEY is not set; export it",
        ),
        (
            {"api_key_env": KEY},
            {},
            (
                "endpoints.main.api_key_env: must be the name of an environment variable, such as OPENAI_API_KEY, "
                "and not the key itself (not shown)"
            ),
        ),
        ({}, {"OPENAI_API_KEY": f"{KEY}\n"}, SPACES),
        ({}, {"OPENAI_API_KEY": f"{KEY} {KEY}"}, SPACES),
        ({}, {"OPENAI_API_KEY": f"{KEY}é"}, SPACES),
        ({}, {"OPENAI_BASE_URL": f"ftp://{KEY}"}, "OPENAI_BASE_URL: must start with http:// or https://"),
        (
            {},
            {"OPENAI_BASE_URL": f"http://u:{KEY}@h"},
            (
                "OPENAI_BASE_URL: must not hold a user or a password: export the key as a variable, "
                "and name that with api_key_env"
            ),
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_a_usage_error(
    endpoint: dict[str, str], env: dict[str, str], message: str
) -> None:
    """The message names the variable and what to do, and never a value."""
    with pytest.raises(UsageError) as caught:
        resolve_endpoint("main", Endpoint(model="m", **endpoint), env)
    assert str(caught.value) == message
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_secret_does_not_show_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr, str, format nor a log record holds the key, also within the resolved endpoint."""
    resolved = resolve_endpoint("main", Endpoint(model="m"), {"OPENAI_API_KEY": KEY})
    logging.getLogger("test").warning("%s %r", resolved, resolved.api_key)
    texts = [repr(resolved), str(resolved.api_key), f"{resolved.api_key:>9}", caplog.text]
    assert "Zq81" not in "".join(texts)
    assert "***" in caplog.text


def test_a_secret_is_copied_but_not_pickled() -> None:
    """A copy is the same secret; pickling, which would write it to a file or a pipe, is refused."""
    secret = Secret(KEY)
    assert copy.deepcopy(secret) is copy.copy(secret) is secret
    with pytest.raises(TypeError, match="a key is not pickled"):
        pickle.dumps(secret)


def test_secrets_compare_by_their_text() -> None:
    """Equal keys are one key in a set, and a secret never equals its plain text."""
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
