"""What answers say of the limits in their headers, in the forms of the providers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.headers import (
    DAY_S,
    MINUTE_S,
    LimitWindow,
    RefusedLimit,
    SeenLimits,
    read_limits,
    read_refusal,
    seconds_until,
)

_NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_NOW_S = _NOW.timestamp()


def _read(headers: dict[str, str]) -> SeenLimits:
    return read_limits([(name.encode(), value.encode("latin-1")) for name, value in headers.items()], now_s=_NOW_S)


def _until(value: str) -> float | None:
    return seconds_until(value, now_s=_NOW_S)


# --- the forms of the providers ------------------------------------------------------------------


def test_openai() -> None:
    """Limits, what is left of them, and durations of several parts, whatever the case of the names."""
    seen = _read(
        {
            "Content-Type": "application/json",
            "X-RateLimit-Limit-Requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-tokens": "199842",
            "x-ratelimit-reset-tokens": "6m0s",
        }
    )
    assert seen == SeenLimits(LimitWindow(10_000, 9_999, 0.006), LimitWindow(200_000, 199_842, 360.0))


def test_azure() -> None:
    """One of the two limits may be told, what is left may be -1, and a limit that is not told is none."""
    seen = _read(
        {
            "x-ratelimit-remaining-requests": "-1",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": "-1",
        }
    )
    assert seen == SeenLimits(None, LimitWindow(30_000))


def test_groq() -> None:
    """Durations with fractions of a second; a reset is not taken for a limit of time."""
    seen = _read(
        {
            "retry-after": "2",
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-limit-tokens": "18000",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-tokens": "7.66s",
        }
    )
    assert seen.requests == LimitWindow(14_400, 14_370, 179.56)
    assert seen.tokens == LimitWindow(18_000, 17_997, 7.66)


def test_cerebras() -> None:
    """The names tell the period, and resets are plain seconds."""
    seen = _read(
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-requests-day": "14399",
            "x-ratelimit-remaining-tokens-minute": "59500",
            "x-ratelimit-reset-requests-day": "33011.382867",
            "x-ratelimit-reset-tokens-minute": "11.382867",
        }
    )
    assert seen == SeenLimits(
        LimitWindow(14_400, 14_399, 33_011.382867, DAY_S), LimitWindow(60_000, 59_500, 11.382867, MINUTE_S)
    )


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_limit_per_day_and_one_per_minute_the_shorter_counts(order: int) -> None:
    """Both may be told at once, in any order, and are not mixed up."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-limit-requests-day": "12000",
        "x-ratelimit-remaining-requests-day": "11000",
    }
    assert _read(dict(list(headers.items())[::order])).requests == LimitWindow(60, 59)
    del headers["x-ratelimit-limit-requests"]
    assert _read(headers).requests == LimitWindow(12_000, 11_000, None, DAY_S)


def test_anthropic() -> None:
    """Names with the kind before the part, and resets that are RFC 3339 times."""
    seen = _read(
        {
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-remaining": "3999",
            "anthropic-ratelimit-requests-reset": "2026-03-01T12:00:01Z",
            "anthropic-ratelimit-tokens-limit": "480000",
            "anthropic-ratelimit-tokens-remaining": "480000",
            "anthropic-ratelimit-tokens-reset": "2026-03-01T14:00:30+02:00",
            "anthropic-ratelimit-input-tokens-limit": "1",
        }
    )
    assert seen == SeenLimits(LimitWindow(4_000, 3_999, 1.0), LimitWindow(480_000, 480_000, 30.0))


@pytest.mark.parametrize("limit", ["-1", "0", "", "none", "nan", "inf", "1e999", "100, 100;w=60", "²"])
def test_a_limit_that_is_none_or_cannot_be_read_is_no_limit(limit: str) -> None:
    """Nothing is made up, and the other limit is read all the same."""
    seen = _read({"x-ratelimit-limit-requests": limit, "x-ratelimit-limit-tokens": "1,000,000.0"})
    assert seen == SeenLimits(None, LimitWindow(1_000_000))


@pytest.mark.parametrize("value", ["-1", "", "unknown", "nan"])
def test_what_is_left_is_unknown_where_it_is_not_told(value: str) -> None:
    """A limit stands without it."""
    seen = _read({"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": value})
    assert seen.requests == LimitWindow(500)


@pytest.mark.parametrize("name", ["ratelimit-limit", "x-ratelimit-limit", "x-ratelimit-limit-requests-fortnight"])
def test_other_names_are_passed_over(name: str) -> None:
    """A name that does not say of what is no limit of ours."""
    assert _read({name: "5"}) == SeenLimits()


# --- resets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17ms", 0.017),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("2m59.56s", 179.56),
        ("1h0m3s", 3_603.0),
        ("1d2h", 93_600.0),
        ("1m 5s", 65.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("86400", 86_400.0),
        (f"{_NOW_S + 90:.0f}", 90.0),
        (f"{(_NOW_S + 90) * 1000:.0f}", 90.0),
        (f"{_NOW_S + 0.25:.3f}", 0.25),
        (f"{_NOW_S - 90:.0f}", 0.0),
        ("2026-03-01T12:01:30Z", 90.0),
        ("2026-03-01T12:01:30.500000+00:00", 90.5),
        ("2026-03-01T12:01:30", 90.0),
        ("2026-03-01T11:00:00Z", 0.0),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 14:01:30 +0200", 90.0),
    ],
)
def test_resets_of_every_form(value: str, seconds: float) -> None:
    """Durations, seconds, Unix times in seconds and milliseconds, RFC 3339 and HTTP dates; never less than nothing."""
    assert _until(value) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    "value",
    ["", "-1", "soon", "nan", "inf", "5 minutes", "1s!", "s", "m5", "9" * 400 + "s", "2026-13-45T00:00:00Z", "Foo, 99"],
)
def test_resets_that_cannot_be_read(value: str) -> None:
    """Garbage, and what is not finite, is None."""
    assert _until(value) is None


# --- for all -------------------------------------------------------------------------------------

_NAMES = [
    *(f"x-ratelimit-{part}-{kind}" for part in ("limit", "remaining", "reset") for kind in ("requests", "tokens-day")),
    *(f"anthropic-ratelimit-tokens-{part}" for part in ("limit", "remaining", "reset")),
]
_RAW_NAMES = st.one_of(st.sampled_from(_NAMES).map(str.encode), st.binary(max_size=40))
_RAW_VALUES = st.one_of(
    st.binary(max_size=30),
    st.floats().map(lambda number: str(number).encode()),
    st.text("0123456789.,:+-TZ msmhdGMTJanSun", max_size=40).map(str.encode),
)


@given(st.lists(st.tuples(_RAW_NAMES, _RAW_VALUES), max_size=12), st.floats(0, 1e11))
def test_headers_are_never_an_error(raw: list[tuple[bytes, bytes]], now_s: float) -> None:
    """Whatever bytes come: limits above nothing, what is left and resets not below it, all finite."""
    seen = read_limits(raw, now_s=now_s)
    for window in (seen.requests, seen.tokens):
        if window is not None:
            assert 0 < window.limit < math.inf
            assert window.remaining is None or 0 <= window.remaining < math.inf
            assert window.reset_s is None or 0 <= window.reset_s < math.inf


@given(st.text(max_size=60))
def test_any_text_is_a_reset_or_none(value: str) -> None:
    """Never an error, never less than nothing, always finite."""
    left_s = _until(value)
    assert left_s is None or 0 <= left_s < math.inf


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_come_back(days: int, hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    """Written with all parts, without those that are zero, or with a fraction: the same span."""
    span_s = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=thousandths)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"), (thousandths, "ms")]
    whole = "".join(f"{amount}{unit}" for amount, unit in parts)
    short = "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"
    fraction = f"{days}d{hours}h{minutes}m{seconds}.{thousandths:03d}s"
    for written in (whole, short, fraction, whole.replace("h", "h ")):
        assert _until(written) == pytest.approx(span_s.total_seconds(), abs=1e-6)


@given(st.integers(0, 10_000_000), st.integers(-14, 14))
def test_moments_come_back(ahead_s: int, zone_h: int) -> None:
    """The same moment as an RFC 3339 time in any zone, an HTTP date, and a Unix time."""
    moment = _NOW + timedelta(seconds=ahead_s)
    for written in (
        moment.astimezone(timezone(timedelta(hours=zone_h))).isoformat(),
        format_datetime(moment, usegmt=True),
        str(int(moment.timestamp())),
        str(int(moment.timestamp() * 1000)),
    ):
        assert _until(written) == pytest.approx(ahead_s)


# --- the words of a refusal ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29,500, Requested 562. Try in 9ms.",
            RefusedLimit("tokens", 30_000, 562),
        ),
        ("on requests per minute (RPM): Limit 30, Used 30, Requested 1", RefusedLimit("requests", 30, 1)),
        ("on tokens per min (TPM): Limit 1,000,000", RefusedLimit("tokens", 1_000_000, None)),
        ("on tokens per day (TPD): Limit 500000, Used 499000, Requested 1200", None),
        ("Too Many Requests", None),
        ("on tokens per min: Limit 0", None),
        ("", None),
    ],
)
def test_a_refusal_names_its_limit_in_words(message: str, expected: RefusedLimit | None) -> None:
    """The limit per minute and what was asked of it; not one per day."""
    assert read_refusal(message) == expected


@given(st.text())
def test_any_words_are_read_or_passed_over(message: str) -> None:
    """No text of a server is an error."""
    found = read_refusal(message)
    assert found is None or found.limit > 0
