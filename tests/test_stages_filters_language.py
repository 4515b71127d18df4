"""The rule about languages, on translations that are installed with the system and on English documentation."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest
from filter_cases import SUPPORT, breach_of, conversation_of, example_of, reason_of

from synth_async.config.extensions import LANGUAGES

py3langid = pytest.importorskip("py3langid.langid")
LOCALES = Path("/usr/share/locale")
# A format, an option or a tag says nothing about the language around it.
NO_PROSE = re.compile(r"%[-+ #0-9.*]*[a-zA-Z]|\\n|<[^>]*>|--?[\w-]+")


def translations(locale: str, count: int) -> list[str]:
    """Longer messages of installed programs in a language, as their translators wrote them."""
    found = []
    for path in sorted((LOCALES / locale / "LC_MESSAGES").glob("*.mo")):
        try:
            with path.open("rb") as file:
                catalog = vars(gettext.GNUTranslations(file))["_catalog"]
        except UnicodeDecodeError:  # a few are not what they say they are
            continue
        for key, text in catalog.items():
            if isinstance(key, str) and key and text != key:
                plain = " ".join(NO_PROSE.sub(" ", text).split())
                found += [plain] if 150 <= len(plain) <= 500 else []
    return found[:: max(1, len(found) // count)][:count]


def test_the_codes_are_those_of_the_package() -> None:
    """What the config lets through is what can be told apart."""
    identifier = py3langid.LanguageIdentifier.from_model_file(py3langid.MODEL_FILE)
    assert frozenset(identifier.labels) - {"zxx"} == LANGUAGES


def test_english_support_is_english() -> None:
    """No reply of support is taken for another language; where others are wanted, nearly all are dropped."""
    for reply in SUPPORT:
        assert breach_of(example_of(assistant=reply), language="en") is None
    dropped = [reply for reply in SUPPORT if reason_of(breach_of(example_of(assistant=reply), language=["de", "fr"]))]
    assert len(dropped) > 0.9 * len(SUPPORT)


@pytest.mark.skipif(not LOCALES.is_dir(), reason="no translations are installed")
@pytest.mark.parametrize("code", ["de", "fr", "es", "ru", "ja"])
def test_other_languages_are_dropped_and_pass_where_they_are_wanted(code: str) -> None:
    """Nine of ten translations are surely not English; fewer than one in fifty is surely not what it is."""
    texts = translations(code, 60)
    if len(texts) < 60:
        pytest.skip("few translations are installed")
    assert sum(breach_of(example_of(user=text), language="en") is not None for text in texts) >= 54
    assert sum(breach_of(example_of(user=text), language=[code, "en"]) is not None for text in texts) <= 1


def test_short_turns_are_not_judged_and_every_long_one_is() -> None:
    """A name or a thank-you is in every language; a late turn in another one counts."""
    german = "Vielen Dank für Ihre schnelle Antwort, die Rechnung ist heute Morgen bei mir angekommen und stimmt jetzt."
    assert breach_of(example_of(user="Vielen Dank für die schnelle Antwort, alles ist gut."), language="en") is None
    drop = breach_of(conversation_of(SUPPORT[0], SUPPORT[1], german, SUPPORT[2]), language="en")
    assert drop is not None
    assert drop.detail.startswith("user: de (")
