"""What a careless model leaves in a text: placeholders, and personal data. All of it is made up of random signs."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from synth_async.endpoint.simulator.draws import pick

__all__ = ["Exchange", "with_personal_data", "with_placeholder"]

_PLACEHOLDERS = (
    "The guide is at [insert link here].",
    "Kind regards, [Your Name]",
    "Your reference is {{case_number}}.",
    "You can call XXX-XXXX at any time.",
    "Hello {{customer_name}}, this is settled.",
    "[Insert company name] will confirm it in writing.",
)
_EMAIL = (
    "You can write to me at {}.",
    "My address is {}, in case you need it.",
    "The account runs under {}.",
)
_PHONE = ("You can call me at {}.", "My number is {}.", "Please ring {} if that is quicker.")
_CARD = ("The card is {}.", "I paid with card {}.", "Please charge {} instead.")
_IBAN = ("The refund can go to {}.", "My account is {}.", "We pay from {}.")
_CONSONANTS, _VOWELS = "bdfgklmnprstvw", "aeiou"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of each side."""

    user: str
    assistant: str


def with_placeholder(rng: random.Random, exchange: Exchange) -> Exchange:
    """The exchange with a placeholder in the reply."""
    return replace(exchange, assistant=f"{exchange.assistant} {pick(rng, _PLACEHOLDERS)}")


def with_personal_data(rng: random.Random, exchange: Exchange) -> Exchange:
    """The exchange with an e-mail address, a phone number, a card or an account in the question."""
    frames, value = (
        (_EMAIL, _email(rng)),
        (_PHONE, _phone(rng)),
        (_CARD, _card(rng)),
        (_IBAN, _iban(rng)),
    )[int(rng.random() * 4)]
    return replace(exchange, user=f"{exchange.user} {pick(rng, frames).format(value)}")


def _word(rng: random.Random, syllables: int) -> str:
    return "".join(pick(rng, _CONSONANTS) + pick(rng, _VOWELS) for _ in range(syllables))


def _digits(rng: random.Random, count: int) -> str:
    return "".join(str(int(rng.random() * 10)) for _ in range(count))


def _email(rng: random.Random) -> str:
    return f"{_word(rng, 3)}{_digits(rng, 2)}@{_word(rng, 4)}.net"


def _phone(rng: random.Random) -> str:
    """In the form of the North American plan: neither area nor office begins with 0 or 1, nor is the office 555."""
    area, office = (f"{2 + int(rng.random() * 3)}{2 + int(rng.random() * 7)}{_digits(rng, 1)}" for _ in range(2))
    return f"+1 {area}-{office}-{_digits(rng, 4)}"


def _card(rng: random.Random) -> str:
    """Sixteen digits that pass Luhn's check."""
    body = "4" + _digits(rng, 14)
    doubled = [int(sign) * (2 - place % 2) for place, sign in enumerate(body)]
    check = -sum(digit - 9 * (digit > 9) for digit in doubled) % 10
    number = f"{body}{check}"
    return " ".join(number[start : start + 4] for start in range(0, 16, 4))


def _iban(rng: random.Random) -> str:
    """A German account number with its check digits (ISO 13616: 98 less the rest modulo 97, `DE` as 1314)."""
    account = _digits(rng, 18)
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"
