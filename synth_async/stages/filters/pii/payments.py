"""Payment cards and IBANs in a text, by issuer and country, length and checksum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from synth_async.stages.filters.pii.checksums import luhn_holds, mod97_holds
from synth_async.stages.filters.pii.finding import Finding, Window, is_dummy, matches, only_digits

__all__ = ["IBAN_LENGTHS", "find_cards", "find_ibans"]

# --- cards ---------------------------------------------------------------------------------------

# In one piece, or in the groups that stand on a card.
_CARD = re.compile(
    r"(?<![\w.,+/-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5}|\d{13,19})(?![\w]|[-.,/]\d)"
)
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12,15}|62\d{14,17}"  # Discover, UnionPay
    r"|3(?:0[0-5]\d|[689]\d\d)\d{10,15}|35(?:2[89]|[3-8]\d)\d{12}"  # Diners Club, JCB
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}"  # Maestro
)
# What the documentation of Stripe, PayPal, Adyen and Braintree hands out for tests and `is_dummy` does not see.
_LISTED_TEST_CARDS = (
    "4012888888881881 4000056655665556 4009348888881881 4005519200000004 4217651111111119 4500600000000061 "
    "2223003122003222 2223000048400011 2223520043560014 5200828282828210 5105105105105100 5431111111111111 "
    "378282246310005 371449635398431 378734493671000 6011111111111117 6011000990139424 6011000991300009 "
    "6011981111111113 30569309025904 38520000023237 3056930009020004 36227206271667 3566002020360505 "
    "3530111333300000 6200000000000005 6205500000000000004 6304000000000000 5019717010103742"
)
_TEST_CARDS = frozenset(_LISTED_TEST_CARDS.split())


def find_cards(text: str, windows: Iterable[Window], *, allow_synthetic: bool) -> Iterator[Finding]:
    """Numbers with the length and the first digits of an issuer for which Luhn's formula holds."""
    for found in matches(_CARD, text, windows, digits=13):
        digits = only_digits(found[0])
        if _ISSUED.fullmatch(digits) and luhn_holds(digits):
            if allow_synthetic and (digits in _TEST_CARDS or is_dummy(digits)):
                continue
            yield Finding(*found.span(), "card")


# --- IBANs ---------------------------------------------------------------------------------------

# Characters of an IBAN by country, from the SWIFT IBAN Registry.
_COUNTRIES_BY_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {country: length for length, countries in _COUNTRIES_BY_LENGTH.items() for country in countries.split()}
"""Characters of an IBAN by country."""

_IBAN_START = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2})\d{2}(?=[ -]?[A-Z0-9])")
# The examples of the SWIFT registry, of ISO 13616 and of Wikipedia, which models know by heart.
_LISTED_SAMPLE_IBANS = (
    "AT611904300234573201 BE68539007547034 BR1800360305000010009795493C1 CH9300762011623852957 "
    "CZ6508000000192000145399 DE89370400440532013000 DE75512108001245126199 DK5000400440116243 "
    "ES9121000418450200051332 ES7921000813610123456789 FI2112345600000785 FR1420041010050500013M02606 "
    "FR7630006000011234567890189 GB29NWBK60161331926819 GB33BUKB20201555555555 GB82WEST12345698765432 "
    "GR1601101250000000012300695 HU42117730161111101800000000 IE29AIBK93115212345678 IE64IRCE92050112345678 "
    "IL620108000000099999999 IT60X0542811101000000123456 LU280019400644750000 NL91ABNA0417164300 NO9386011117947 "
    "PL61109010140000071219812874 PT50000201231234567890154 SE4550000000058398257466 SE3550000000054910000003 "
    "TR330006100519786457841326"
)
_SAMPLE_IBANS = frozenset(_LISTED_SAMPLE_IBANS.split())


def find_ibans(text: str, windows: Iterable[Window], *, allow_synthetic: bool) -> Iterator[Finding]:
    """IBANs with their country's length whose remainder by 97 is 1, in one piece or in groups."""
    for found in matches(_IBAN_START, text, windows, digits=6):
        length = IBAN_LENGTHS.get(found[1])
        if length is None:
            continue
        end, iban = _collected(text, found.start(), length)
        if len(iban) < length or text[end : end + 1].isalnum() or not mod97_holds(iban):
            continue
        if not (allow_synthetic and (iban in _SAMPLE_IBANS or is_dummy(only_digits(iban[4:])))):
            yield Finding(found.start(), end, "iban")


def _collected(text: str, start: int, length: int) -> tuple[int, str]:
    """The next `length` capital letters and digits, single spaces and hyphens between them left out."""
    characters: list[str] = []
    position = start
    while position < len(text) and len(characters) < length:
        character = text[position]
        if character.isascii() and (character.isdigit() or character.isupper()):
            characters.append(character)
        elif character not in " -\u00a0" or text[position - 1] in " -\u00a0":
            break
        position += 1
    return position, "".join(characters)
