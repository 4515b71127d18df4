"""National ids in a text: where the form alone could be another number, a checksum or the words before it decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from synth_async.stages.filters.pii.checksums import (
    codice_fiscale_holds,
    cpf_holds,
    dni_holds,
    nir_holds,
    tax_id_holds,
)
from synth_async.stages.filters.pii.finding import Finding, Window, is_dummy, matches, only_digits, stands_after

__all__ = ["find_national_ids"]


@dataclass(frozen=True, slots=True)
class _Scheme:
    """One country's id, of at least `digits` digits.

    `holds` judges it without spaces and hyphens; `introduction`, where there is one, has to stand before it.
    """

    digits: int
    form: re.Pattern[str]
    holds: Callable[[str], bool]
    introduction: re.Pattern[str] | None = None


def _after(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b(?:[ :.,#()-]|\b(?:number|numero|is|no|nr|code)\b){{0,6}}$", re.IGNORECASE)


def _always(_: str) -> bool:
    return True


# Social Security Administration, "Social Security Number Randomization": no area 000, 666 or 9xx, no group 00, no
# serial 0000. HM Revenue & Customs, manual NIM39110: the letters that a National Insurance number may have.
_SSN = r"(?!000|666|9)\d{3}_(?!00)\d{2}_(?!0000)\d{4}"
_NINO = r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]_\d{2}_\d{2}_\d{2}_[A-D]"


def _form(expression: str, *, separator: str = "") -> re.Pattern[str]:
    """A number that stands alone, `separator` where the expression has a `_`."""
    return re.compile(rf"(?<![\w.+/-]){expression.replace('_', separator)}(?![\w/]|[-.]\d)")


_SCHEMES = (
    _Scheme(9, _form(_SSN, separator="-"), _always),
    _Scheme(9, _form(_SSN, separator="[ -]?"), _always, _after("ssn|social security")),
    _Scheme(6, _form(_NINO, separator=" "), _always),
    _Scheme(6, _form(_NINO, separator=" ?"), _always, _after("nino|national insurance|ni")),
    _Scheme(7, _form(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]"), dni_holds),  # ES
    _Scheme(
        13, _form(r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"), nir_holds
    ),  # FR
    _Scheme(11, _form(r"[1-9]\d ?\d{3} ?\d{3} ?\d{3}"), tax_id_holds),  # DE
    _Scheme(11, _form(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), cpf_holds),  # BR
    _Scheme(11, _form(r"\d{11}"), cpf_holds, _after("cpf")),
)
# Italian: letters between its digits, so it is in no window. No lookbehind: capitals are rare, and found at once.
_CODICE_FISCALE = re.compile(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)")
# Printed as samples: a wallet's card (the Social Security Administration lists both SSNs), forms, documentation.
_SAMPLES = frozenset(
    ["078051120", "219099999", "AB123456C", "12345678Z", "00000001R", "X1234567L", "Y1234567X", "Z1234567R"]
)
_MARIO_ROSSI = "RSSMRA"


def find_national_ids(text: str, windows: Sequence[Window], *, allow_synthetic: bool) -> Iterator[Finding]:
    """US SSN, UK National Insurance, ES DNI and NIE, FR NIR, DE tax id, BR CPF, IT codice fiscale."""
    for scheme in _SCHEMES:
        for found in matches(scheme.form, text, windows, digits=scheme.digits):
            number = "".join(character for character in found[0] if character.isalnum())
            if not scheme.holds(number) or (allow_synthetic and _is_a_sample(number)):
                continue
            if scheme.introduction is None or stands_after(scheme.introduction, text, found.start()):
                yield Finding(*found.span(), "national_id")
    for found in _CODICE_FISCALE.finditer(text):
        if codice_fiscale_holds(found[0]) and not (allow_synthetic and _is_a_sample(found[0])):
            yield Finding(*found.span(), "national_id")


def _is_a_sample(number: str) -> bool:
    return number in _SAMPLES or number.startswith(_MARIO_ROSSI) or is_dummy(only_digits(number))
