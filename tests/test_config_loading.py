from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synth_async.config.loading import LoadedConfig, load_config
from synth_async.config.models import Config, Facet
from synth_async.errors import ConfigError, ConfigProblem, ExitCode
from synth_async.records import Topic

BASE = "name: a\ndomain: d\nsystem_prompt: s\ntarget: 10\nendpoints: {main: {model: m}}\n"
"""A config without mistakes, in five lines."""


def load(folder: Path, text: str, *overrides: str) -> LoadedConfig:
    """The config that a text holds."""
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[tuple[str, str, int | None]]:
    """Key, message and line of every mistake that a text holds."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return [(problem.key, problem.message, problem.line) for problem in caught.value.problems]


def test_a_small_config_loads_with_the_defaults(tmp_path: Path) -> None:
    """What a config leaves out has the defaults of the models."""
    loaded = load(tmp_path, BASE)
    expected = Config.model_validate(yaml.safe_load(BASE))
    assert dataclasses.astuple(loaded) == (expected, tmp_path / "c.yaml", BASE, None, (), (), (), {})


def test_paths_are_relative_to_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path of a config becomes absolute, counted from the config's folder and not from the working folder."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "policy.md").write_text("policy", encoding="utf-8")
    (folder / "topics.txt").write_text("one\n\n two \n", encoding="utf-8")
    (folder / "c.yaml").write_text(
        BASE + "context: {file: policy.md}\ntopics: {file: topics.txt}\noutput: {dir: out}\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Path("configs/c.yaml"))
    config = loaded.config
    assert config.context is not None
    assert (config.context.file, config.topics.file, config.output.dir) == (
        folder / "policy.md",
        folder / "topics.txt",
        folder / "out",
    )
    assert (loaded.context, loaded.topics) == ("policy", (Topic(0, "one"), Topic(1, "two")))


MISTAKES = [
    ("generation: {temprature: 1}", "generation.temprature", "unknown key (did you mean temperature?)"),
    ("generaton: {}", "generaton", "unknown key (did you mean generation?)"),
    ("qqqqq: {}", "qqqqq", "unknown key"),
    ("generation: {temperature: hot}", "generation.temperature", "must be a number, got 'hot'"),
    ("generation: {temperature: 3}", "generation.temperature", "must be at most 2, got 3"),
    ("generation: {max_tokens: 0}", "generation.max_tokens", "must be at least 1, got 0"),
    ("generation: {turns: 1.5}", "generation.turns", "must be a whole number, got 1.5"),
    ("generation: {turns: yes}", "generation.turns", "must be a number, got true"),
    ("generation: [a]", "generation", "must be a section with keys, got a list"),
    ("give_up_after_s: 0", "give_up_after_s", "must be above 0, got 0"),
    ("fsync: sometimes", "fsync", "must be one of 100ms, always, never, got 'sometimes'"),
    ("filters: {refusal: maybe}", "filters.refusal", "must be true or false, got 'maybe'"),
    ("filters: {short_reply: yes}", "filters.short_reply", "must be a number, got true"),
    ("filters: {user_words: {min: 3}}", "filters.user_words.max", "is missing"),
    ("filters: {user_words: {min: 3, max: 2}}", "filters.user_words", "min 3 is above max 2"),
    ("filters: {patterns: a}", "filters.patterns", "must be a list, got 'a'"),
    (
        'filters: {patterns: [{name: a, regex: "("}]}',
        "filters.patterns.0.regex",
        "is not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    (
        "judge: {criteria: [Good]}",
        "judge.criteria.0",
        "must be lower-case letters, digits and '_', starting with a letter, got 'Good'",
    ),
    ("judge: {criteria: {a: {weigth: 2}}}", "judge.criteria.a.weigth", "unknown key (did you mean weight?)"),
    ("judge: {criteria: [a, a]}", "judge.criteria", "named twice: a"),
    ("judge: {criteria: []}", "judge.criteria", "must not be empty"),
    ("judge: {endpoint: mian}", "judge.endpoint", "no endpoint is named 'mian' (did you mean main?)"),
    ("judge: {endpoint: qq}", "judge.endpoint", "no endpoint is named 'qq' (there is: main)"),
    ("facets: 3", "facets", "must be a section with keys, got 3"),
    ("facets: {tone: calm}", "facets.tone", "must be a list of values, or values with weights, got 'calm'"),
    ("facets: {tone: []}", "facets.tone", "must not be empty"),
    ("facets: {tone: {}}", "facets.tone", "must not be empty"),
    ("facets: {tone: ['']}", "facets.tone.0", "must not be empty"),
    ("facets: {tone: [a, a]}", "facets.tone.1", "given twice: 'a'"),
    ("facets: {tone: [no, a]}", "facets.tone.0", "must be text, got false: put it in quotes"),
    ("facets: {tone: {a: 0}}", "facets.tone.a", "must be above 0, got 0"),
    ("facets: {tone: {a: b}}", "facets.tone.a", "must be a number, the weight of this value, got 'b'"),
    ("facets:", "facets", "must be a section with keys, got nothing"),
    ("facets: {tone: {values: [a, a]}}", "facets.tone.values.1", "given twice: 'a'"),
    ("facets: {tone: {values: [a], wenn: []}}", "facets.tone.wenn", "unknown key (did you mean when?)"),
    (
        "facets: {tone: {values: [a], when: [{given: {chanel: x}, values: [a]}]}, channel: [x]}",
        "facets.tone.when.0.given.chanel",
        "no facet above this one is named 'chanel' (there is: category)",
    ),
    (
        "facets: {channel: [x], tone: {values: [a], when: [{given: {channel: y}, values: [a]}]}}",
        "facets.tone.when.0.given.channel",
        "channel has no value 'y'",
    ),
    (
        "facets: {channel: [x], tone: {values: [a], when: [{given: {channel: x}, values: [b]}]}}",
        "facets.tone.when.0.values",
        "'b' is not among the facet's values",
    ),
    ("coverage: {axes: [mood]}", "coverage.axes", "no facet is named 'mood', there is tone, category"),
    ("judge: {labels: [mood]}", "judge.labels", "no facet is named 'mood', there is tone, category"),
    ("judge: {prompt: ' '}", "judge.prompt", "must not be empty"),
    (
        "judge: {prompt: '{% if %}'}",
        "judge.prompt",
        "is not a Jinja2 template: Expected an expression, got 'end of statement block'",
    ),
    ("judge: {prompt: '{{ a | nosuch }}'}", "judge.prompt", "is not a Jinja2 template: No filter named 'nosuch'."),
    ("generation: {prompt: '{{ topics }}'}", "generation.prompt", "unknown variable topics (did you mean topic?)"),
    (
        "topics: {prompt: '{{ zzz }}'}",
        "topics.prompt",
        "unknown variable zzz (there is: domain, system_prompt, context, count, known, angle, category, evolve)",
    ),
]


@pytest.mark.parametrize(("line", "key", "message"), MISTAKES)
def test_each_mistake_in_plain_words(tmp_path: Path, line: str, key: str, message: str) -> None:
    """A mistake is named by its key and line, in words that do not need the documentation of a library."""
    assert problems(tmp_path, BASE + line) == [(key, message, 6)]


ENDPOINT_MISTAKES = [
    ("rpm: 0", "main.rpm", "must be above 0, got 0"),
    ("base_url: host/v1", "main.base_url", "must start with http:// or https://, or be 'simulator'"),
    ("base_url: 'https://h/v1?k=v'", "main.base_url", "must not hold a query: put it under query"),
    ("base_url: 'https://h:x/v1'", "main.base_url", "is not a valid URL"),
    ("simulation: {}", "main", "'simulation' is only for base_url: simulator"),
    ("headers: {'a b': c}", "main.headers.a b", "is not a valid header name"),
    ('headers: {a: "b\\nc"}', "main.headers.a", "a header value must be printable ASCII, in one line"),
]


@pytest.mark.parametrize(("entry", "key", "message"), ENDPOINT_MISTAKES)
def test_each_mistake_of_an_endpoint(tmp_path: Path, entry: str, key: str, message: str) -> None:
    """An endpoint is checked before the first request."""
    text = BASE.replace("{model: m}", f"{{model: m, {entry}}}")
    assert problems(tmp_path, text) == [(f"endpoints.{key}", message, 5)]


ADVICE = "a key does not belong into a config: export it as a variable, and name that with api_key_env"
HEADER_ADVICE = "a credential does not belong into a config: export it as a variable, and name that with api_key_env"
NAME_ADVICE = "must be the name of an environment variable, such as OPENAI_API_KEY, and not the key itself (not shown)"
URL_ADVICE = "must not hold a user or a password: export the key as a variable, and name that with api_key_env"
SECRET = "sk-live-Zq81XyPw7Rt5"
SECRET_PLACES = [
    (f"api_key_env: {SECRET}", "api_key_env", NAME_ADVICE),
    ("api_key_env: hf_Zq81XyPw7Rt5Zq81XyPw", "api_key_env", NAME_ADVICE),
    (f"api_key: {SECRET}", "api_key", ADVICE),
    (f"headers: {{Authorization: Bearer {SECRET}}}", "headers.Authorization", HEADER_ADVICE),
    (f"headers: {{api-key: {SECRET}}}", "headers.api-key", HEADER_ADVICE),
    (f"base_url: 'https://u:{SECRET}@h/v1'", "base_url", URL_ADVICE),
    (f"base_url: {SECRET}", "base_url", "must start with http:// or https://, or be 'simulator'"),
    (f"rpm: {SECRET}", "rpm", "must be a number, got a text of 20 characters"),
    (f"{SECRET}: 1", "***", "unknown key"),
    (f"api_key_env: [{SECRET}]", "api_key_env", "must be text, got a list"),
]


@pytest.mark.parametrize(("entry", "key", "message"), SECRET_PLACES)
def test_a_pasted_key_is_refused_and_never_shown(tmp_path: Path, entry: str, key: str, message: str) -> None:
    """Wherever a key is pasted, the answer says what to do and does not repeat it."""
    text = BASE.replace("{model: m}", f"{{model: m, {entry}}}")
    found = problems(tmp_path, text)
    assert found == [(f"endpoints.main.{key}", message, 5)]
    assert "Zq81" not in str(found)


def test_a_pasted_key_in_broken_yaml_or_an_override_is_not_shown(tmp_path: Path) -> None:
    """Neither a syntax error nor `--set` repeats what may be a key."""
    broken = problems(tmp_path, f"api_key: *{SECRET}")
    override = problems(
        tmp_path, BASE, f"endpoints.main.api_key={SECRET}", SECRET, f"endpoints.main.api_key_env={SECRET}"
    )
    assert [key for key, _, _ in override] == [
        "--set ***",
        "--set endpoints.main.api_key_env",
        "--set endpoints.main.api_key",
    ]
    assert "Zq81" not in str([broken, override])


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Models, rules, templates and files are all checked, whatever else is wrong; what has no line comes first."""
    text = (
        "domain: d\nsystem_prompt: s\ntarget: 0\nendpoints:\n  one: {}\n  two: {model: m}\n"
        "judge: {prompt: '{{ a }}'}\ncontext: {file: none.md}\n"
    )
    assert problems(tmp_path, text) == [
        ("topics.endpoint", "there are several endpoints, name one of one, two", None),
        ("generation.endpoint", "there are several endpoints, name one of one, two", None),
        ("name", "is missing", None),
        ("target", "must be at least 1, got 0", 3),
        ("endpoints.one.model", "is missing", 5),
        ("judge.endpoint", "there are several endpoints, name one of one, two", 7),
        ("judge.prompt", "unknown variable a (there is: domain, system_prompt, context, criteria, topic)", 7),
        ("context.file", f"there is no file {tmp_path / 'none.md'}", 8),
    ]


def test_a_mistake_in_a_block_template_has_the_line_of_the_file(tmp_path: Path) -> None:
    """The line is that of the template's own line within the file."""
    text = BASE + "judge:\n  prompt: |\n\n    fine\n    {{ topik }}\n"
    assert problems(tmp_path, text) == [("judge.prompt", "unknown variable topik (did you mean topic?)", 10)]


@pytest.mark.parametrize(
    ("raw", "message", "line"),
    [
        (b"", "is empty", None),
        (b"- a\n", "must be a mapping of keys, got a list", None),
        (b"hello", "must be a mapping of keys, got 'hello'", None),
        (b"a: 1\nb: [", "not valid YAML: did not find expected node content (column 1)", 2),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, raw: bytes, message: str, line: int | None) -> None:
    """What holds no keys is one mistake, of the whole file."""
    path = tmp_path / "c.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.problems == [ConfigProblem(str(path), "", message, line)]
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing config, a folder and a file that is not UTF-8 are mistakes with the path."""
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"a: 1\nb: \xff\n")
    for path, message in [
        (tmp_path / "none.yaml", f"there is no file {tmp_path / 'none.yaml'}"),
        (tmp_path, f"{tmp_path} is a folder, a file is wanted"),
        (bad, f"{bad} is not UTF-8 (byte 0xff in line 2)"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("topics.txt", None, "there is no file {file}"),
        ("topics.txt", b"a\n\xff", "{file} is not UTF-8 (byte 0xff in line 2)"),
        ("topics.txt", b" \n\n", "{file} is empty"),
    ],
)
def test_a_topics_file_that_cannot_be_used(tmp_path: Path, name: str, raw: bytes | None, message: str) -> None:
    """A missing, an empty and a non-UTF-8 topics file are mistakes of the key that names it."""
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    found = problems(tmp_path, BASE + f"topics: {{file: {name}}}")
    assert found == [("topics.file", message.format(file=tmp_path / name), 6)]


def test_jsonl_topics_keep_their_categories(tmp_path: Path) -> None:
    """JSONL gives topic and category; U+2028 within a string ends no line."""
    text = '{"topic": "a\u2028b", "category": "c"}\r\n\n{"topic": " d "}\n'
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8", newline="")
    assert load(tmp_path, BASE + "topics: {file: t.jsonl}").topics == (Topic(0, "a\u2028b", "c"), Topic(1, "d"))


def test_malformed_jsonl_topics_are_named_by_line(tmp_path: Path) -> None:
    """Every malformed line is a mistake in the topics file, at its line."""
    lines = ['{"topic": "fine"}', "{", "[]", '{"topik": "a"}', '{"topic": 3}', '{"topic": "a", "category": 1}']
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, '{"topic": "\\ud800"}']), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, BASE + "topics: {file: t.jsonl}")
    file = tmp_path / "t.jsonl"
    assert str(caught.value).split("\n") == [
        f"{file}:2: malformed JSON: Expecting property name enclosed in double quotes (column 2)",
        f"{file}:3: must be a JSON object",
        f"{file}:4: topic is missing",
        f"{file}:5: topic must be text, got 3",
        f"{file}:6: category must be text, got 1",
        f"{file}:7: holds a lone surrogate, which is not a character",
    ]


def test_many_malformed_topics_are_counted(tmp_path: Path) -> None:
    """Twenty malformed lines are named, the rest is counted."""
    (tmp_path / "t.jsonl").write_text("{\n" * 50, encoding="utf-8")
    found = problems(tmp_path, BASE + "topics: {file: t.jsonl}")
    assert len(found) == 21
    assert ("", "and 30 more malformed lines", None) in found


@pytest.mark.parametrize("off", ["false", "null"])
def test_false_or_null_turns_a_filter_off(tmp_path: Path, off: str) -> None:
    """A filter with a bound is turned off by false as by null."""
    filters = load(tmp_path, BASE + f"filters: {{echo: {off}, user_words: {off}}}").config.filters
    assert (filters.echo, filters.user_words) == (None, None)


def value_at(config: Config, path: str) -> Any:
    """The value at a dotted place of a checked config."""
    value: Any = config
    for part in path.split("."):
        value = (
            value[int(part)] if part.isdecimal() else value[part] if isinstance(value, dict) else getattr(value, part)
        )
    return value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("target=99", 99),
        ("domain=a: b", None),
        ("domain='a: b'", "a: b"),
        ("generation.temperature=0.5", 0.5),
        ("judge=null", None),
        ("judge.criteria.0.weight=2", 2.0),
        ("judge.criteria.2.description=x", "x"),
        ("judge.criteria=[a]", None),
        ("filters.user_words.min=3", 3),
        ("endpoints.main.extra_body.top_k=5", 5),
        ("facets.tone.values={1: 2}", {"1": 2.0}),
    ],
)
def test_set_changes_one_value(tmp_path: Path, override: str, value: object) -> None:
    """`--set` reads its value as YAML and leaves everything else as it is."""
    name = override.partition("=")[0]
    if override == "domain=a: b":
        assert problems(tmp_path, BASE, override) == [("--set domain", "must be text, got a section with keys", None)]
        return
    before, after = load(tmp_path, BASE).config, load(tmp_path, BASE, override).config
    if override == "judge.criteria=[a]":
        assert after.judge is not None
        assert [criterion.name for criterion in after.judge.criteria] == ["a"]
    else:
        assert value_at(after, name) == value
    top = name.split(".")[0]
    assert before.model_dump(exclude={top}) == after.model_dump(exclude={top})


@pytest.mark.parametrize("rubric", ["[a, b]", "{a: x, b: {weight: 3}}", "[{name: a}, b]"])
def test_set_steps_into_every_form_of_the_rubric(tmp_path: Path, rubric: str) -> None:
    """A position works in the rubric's short forms too, and keeps the other criteria."""
    judge = load(tmp_path, BASE + f"judge: {{criteria: {rubric}}}", "judge.criteria.0.weight=2").config.judge
    plain = load(tmp_path, BASE + f"judge: {{criteria: {rubric}}}").config.judge
    assert judge is not None
    assert plain is not None
    assert judge.criteria[0] == plain.criteria[0].model_copy(update={"weight": 2.0})
    assert judge.criteria[1:] == plain.criteria[1:]


@pytest.mark.parametrize(
    ("override", "key", "message"),
    [
        ("generation.temprature=1", "generation.temprature", "unknown key (did you mean temperature?)"),
        ("generation.temperature=hot", "generation.temperature", "must be a number, got 'hot'"),
        ("generation={turns: 0}", "generation.turns", "must be at least 1, got 0"),
        ("target=[", "target", "not valid YAML: did not find expected node content (column 1)"),
        ("target", "target", "must be a dotted key, '=' and a value, such as generation.temperature=0.7"),
        ("a..b=1", "a..b", "must be a dotted key, '=' and a value, such as generation.temperature=0.7"),
        ("target.x=1", "target.x", "stands below a plain value, which has no keys"),
        ("judge.criteria.9.weight=1", "judge.criteria.9", "the list has 4 entries, counted from 0"),
        ("filters.patterns.0.name=a", "filters.patterns.0", "the list has 0 entries, counted from 0"),
        (
            "judge.criteria.accuracy.weight=1",
            "judge.criteria.accuracy",
            "stands below a list: name a position, counted from 0",
        ),
    ],
)
def test_a_mistake_in_set_is_named_by_it(tmp_path: Path, override: str, key: str, message: str) -> None:
    """A mistake that came with `--set` is not blamed on a line of the file."""
    assert problems(tmp_path, BASE, override) == [(f"--set {key}", message, None)]


def test_set_keeps_the_default_facets(tmp_path: Path) -> None:
    """A facet that is set stands beside the default ones, as one key of a section stands beside the others."""
    before, after = load(tmp_path, BASE).config.facets, load(tmp_path, BASE, "facets.channel=[chat]").config.facets
    assert after == {**before, "channel": Facet(values={"chat": 1.0})}


KEYS = [
    "name",
    "target",
    "endpoints",
    "main",
    "model",
    "judge",
    "criteria",
    "facets",
    "tone",
    "filters",
    "prompt",
    "file",
]
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.dictionaries(st.sampled_from(list(Config.model_fields)), TREES), override=TREES, key=st.sampled_from(KEYS)
)
def test_any_tree_gives_a_config_or_its_mistakes(
    tmp_path: Path, tree: dict[str, Any], override: object, key: str
) -> None:
    """Whatever a file or an override holds, nothing but `ConfigError` comes out, and it names at least one mistake."""
    text = yaml.safe_dump({**yaml.safe_load(BASE), **tree}, allow_unicode=True)
    try:
        load(tmp_path, text, f"{key}.{key}={yaml.safe_dump(override)}")
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - it may or may not be raised


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_config_or_its_mistakes(tmp_path: Path, raw: bytes) -> None:
    """No file is too broken for an answer."""
    path = tmp_path / "c.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        load_config(path)
