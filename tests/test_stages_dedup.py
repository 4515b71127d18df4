"""The deduplicator: nothing equal gets past it, nothing that it drops is below the threshold."""

from __future__ import annotations

import random
from difflib import SequenceMatcher
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from synth_async.records import Message
from synth_async.stages.dedup import Deduplicator, compared_parts, normalise, unpack
from synth_async.stages.dedup.signatures import shingle_size
from synth_async.stages.dedup.verification import LONG_CHARACTERS, article_similarity, indel_similarity

ANY_TEXT = st.text(st.characters(), max_size=300)  # st.characters() gives surrogates too
TOKENS = [
    "refund",
    "order",
    "4711",
    "parcel",
    "Lyon,",
    "invoice",
    "twice",
    "charged",
    "help",
    "my",
    "card",
    "the",
    "a",
    "on",
]
PROSE = st.lists(st.sampled_from(TOKENS), min_size=3, max_size=60).map(" ".join)


def prose(rng: random.Random, words: int, vocabulary: int = 5000) -> str:
    """Random words: two such texts have next to nothing in common."""
    return " ".join(f"w{rng.randrange(vocabulary):04d}" for _ in range(words))


def edited(rng: random.Random, text: str, share: float) -> str:
    """A text with a share of its words replaced."""
    return " ".join(f"x{rng.randrange(99)}" if rng.random() < share else word for word in text.split())


# --- normalising ---------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    """A normalised text is its own normal form."""
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.slow
def test_every_character_has_a_stable_normal_form() -> None:
    """Each code point alone, and before a combining mark, is stable after one pass."""
    for point in range(0x80, 0x11_0000):
        text = chr(point)
        assert normalise(normalise(text)) == normalise(text), hex(point)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\uff26\uff55\uff4c\uff4c\u3000\uff57idth", "full width"),
        ("It\u2019s \u201cfine\u201d \u2013 really\u2026", 'it\'s "fine" - really...'),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("cafe\u0301", "caf\u00e9"),
        (" a\t\r\n b\u00a0c ", "A B C"),
    ],
)
def test_writing_habits_do_not_make_a_new_text(one: str, other: str) -> None:
    """Width, typographic quotes and dashes, invisible characters, composition, case and white space do not count."""
    assert normalise(one) == normalise(other)


def test_digits_accents_and_punctuation_stay() -> None:
    """What carries meaning is compared."""
    assert len({normalise(text) for text in ("pay 10", "pay 11", "pay 10?", "páy 10")}) == 4


# --- find and add --------------------------------------------------------------------------------


@given(st.lists(ANY_TEXT, max_size=3), st.lists(ANY_TEXT, max_size=3))
def test_a_text_that_was_added_is_found(parts: list[str], others: list[str]) -> None:
    """Whatever the text - empty, blank, NUL, emoji, lone surrogates - its second appearance is an exact match."""
    dedup = Deduplicator()
    dedup.add("other", dedup.sketch(others))
    sketch = dedup.sketch(parts)
    if dedup.find(sketch) is None:
        dedup.add("first", sketch)
    match = dedup.find(dedup.sketch(parts))
    assert match is not None
    assert match.exact or match.similarity > dedup.threshold


@given(st.lists(PROSE, min_size=1, max_size=12), PROSE)
def test_find_changes_nothing(kept: list[str], query: str) -> None:
    """Asking, however often and in between, leaves every later answer as it was."""
    asked, silent = Deduplicator(), Deduplicator()
    for number, text in enumerate(kept):
        first = asked.find(asked.sketch([query]))
        assert asked.find(asked.sketch([query])) == first
        asked.add(str(number), asked.sketch([text]))
        silent.add(str(number), silent.sketch([text]))
    assert asked.find(asked.sketch([query])) == silent.find(silent.sketch([query]))
    assert repr(asked) == repr(silent)


@given(st.lists(PROSE, min_size=1, max_size=10), st.randoms())
def test_what_is_an_exact_duplicate_does_not_depend_on_the_order(texts: list[str], rng: random.Random) -> None:
    """With `threshold=1` nothing is near: the set of normalised texts that are kept is the same in any order."""

    def kept(order: list[str]) -> set[str]:
        dedup, found = Deduplicator(threshold=1.0), set[str]()
        for text in order:
            sketch = dedup.sketch([text])
            if dedup.find(sketch) is None:
                dedup.add(text, sketch)
                found.add(sketch.text)
        return found

    shuffled = texts.copy()
    rng.shuffle(shuffled)
    assert kept(texts) == kept(shuffled) == {normalise(text) for text in texts}


@settings(max_examples=50)
@given(
    st.lists(PROSE, min_size=2, max_size=15), st.sampled_from(["indel", "article"]), st.sampled_from([0.6, 0.8, 0.9])
)
def test_every_match_is_above_the_threshold(
    texts: list[str], verify: Literal["indel", "article"], threshold: float
) -> None:
    """A match that is reported is confirmed by computing the similarity anew, and carries that figure."""
    dedup = Deduplicator(threshold, verify)
    for number, text in enumerate(texts):
        sketch = dedup.sketch([text])
        match = dedup.find(sketch)
        if match is not None and not match.exact:
            kept = texts[int(match.kept)]
            if verify == "indel":
                again = Indel.normalized_similarity(normalise(text), normalise(kept))
            else:
                again = SequenceMatcher(None, text, kept).ratio()
            assert match.similarity == pytest.approx(again)
            assert again > threshold
        dedup.add(str(number), sketch)


def test_planted_near_duplicates_are_found() -> None:
    """Texts with one word in twenty replaced are found, each at its own original."""
    rng = random.Random(4)
    originals = [prose(rng, 150) for _ in range(60)]
    dedup = Deduplicator()
    for number, text in enumerate(originals):
        assert dedup.find(dedup.sketch([text])) is None
        dedup.add(str(number), dedup.sketch([text]))
    matches = [dedup.find(dedup.sketch([edited(rng, text, 0.05) + " end"])) for text in originals]
    assert [match.kept for match in matches if match] == [str(number) for number in range(60)]
    assert not any(match.exact for match in matches if match)


def test_difflib_hides_what_indel_finds() -> None:
    """`article` reports less than `indel`: difflib's autojunk drops frequent characters of long texts."""
    rng = random.Random(5)
    base = prose(rng, 150, vocabulary=300)
    changed = edited(rng, base, 0.1)
    assert indel_similarity(changed, base, 0.80) is not None
    ratio = SequenceMatcher(None, changed, base).ratio()
    assert article_similarity(changed, base, 0.80) == (ratio if ratio > 0.80 else None)


@given(PROSE, PROSE)
def test_the_prefilter_never_loses_a_pair_of_difflib(one: str, other: str) -> None:
    """`article` gives difflib's own answer for every pair: Indel bounds difflib's ratio from above."""
    ratio = SequenceMatcher(None, one, other).ratio()
    assert article_similarity(one, other, 0.5) == (ratio if ratio > 0.5 else None)


def test_a_hundred_copies_of_a_template_keep_one() -> None:
    """Names and numbers changed in one template do not make new examples."""
    dedup = Deduplicator()
    frame = prose(random.Random(6), 120)
    for number in range(100):
        sketch = dedup.sketch([f"Dear Name{number}, your order {number * 37} is on its way. {frame}"])
        if dedup.find(sketch) is None:
            dedup.add(str(number), sketch)
    assert len(dedup) == 1


def test_a_shared_preamble_makes_no_duplicates() -> None:
    """Texts that share 700 characters and differ in 800 are all kept."""
    rng = random.Random(7)
    preamble = prose(rng, 140)[:700]
    dedup = Deduplicator()
    for number in range(100):
        sketch = dedup.sketch([preamble, prose(rng, 140)])
        assert dedup.find(sketch) is None
        dedup.add(str(number), sketch)


def test_chinese_near_duplicates_are_found_by_two_grams() -> None:
    """CJK text is cut into 2-grams, and a few changed characters do not hide a copy."""
    rng = random.Random(8)
    text = "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(120))
    changed = text[:40] + "您好" + text[43:]
    dedup = Deduplicator()
    dedup.add("kept", dedup.sketch([text]))
    match = dedup.find(dedup.sketch([changed]))
    assert shingle_size(text) == 2
    assert match is not None
    assert match.similarity > 0.9


def test_topics_are_compared_by_three_grams() -> None:
    """A topic with one word changed is a near-duplicate at 0.85; another topic of the same domain is not."""
    dedup = Deduplicator(threshold=0.85, shingle=3)
    dedup.add("kept", dedup.sketch(["A customer was charged twice for one order and wants the second payment back"]))
    match = dedup.find(dedup.sketch(["A customer was charged twice for an order and wants the second payment back"]))
    assert match is not None
    assert dedup.find(dedup.sketch(["A customer wants to change the address of an order that was shipped"])) is None


def test_a_short_text_is_compared_exactly_only() -> None:
    """Below twenty characters there is no near-duplicate."""
    dedup = Deduplicator(threshold=0.5)
    dedup.add("kept", dedup.sketch(["Yes, of course!"]))
    assert dedup.find(dedup.sketch(["Yes, of course"])) is None
    match = dedup.find(dedup.sketch(["  YES,  of course! "]))
    assert match is not None
    assert match.exact


def test_the_border_between_parts_counts() -> None:
    """The same characters cut elsewhere are another document to the exact hash."""
    dedup = Deduplicator()
    assert dedup.sketch(["ab", "c"]).exact != dedup.sketch(["a", "bc"]).exact


@pytest.mark.parametrize("text", ["", " \n", "a", "😀", "😀" * 40, "\0" * 50, "\ud800" * 30, "abc " * 250_000])
def test_odd_texts_are_handled(text: str) -> None:
    """Empty, blank, tiny, emoji, NUL, lone surrogates and a megabyte: added once, then found exactly."""
    dedup = Deduplicator()
    dedup.add("kept", dedup.sketch([text]))
    match = dedup.find(dedup.sketch([text]))
    assert match is not None
    assert match.exact


def test_long_texts_are_bounded_from_below() -> None:
    """Beyond the limit the piecewise similarity is never above the true one, and still finds a lightly edited copy."""
    rng = random.Random(9)
    text = "".join(rng.choice("abcdefgh ") for _ in range(LONG_CHARACTERS + 100))
    changed = "an insertion " + "".join("z" if rng.random() < 0.02 else character for character in text)
    piecewise = indel_similarity(changed, text, 0.80)
    assert piecewise is not None
    assert piecewise <= Indel.normalized_similarity(changed, text)


@pytest.mark.parametrize("verify", ["jaccard", "none"])
def test_signatures_alone_can_decide(verify: Literal["jaccard", "none"]) -> None:
    """`jaccard` and `none` compare no text and keep none; both report the agreement."""
    rng = random.Random(10)
    text = prose(rng, 100)
    dedup = Deduplicator(0.80, verify)
    dedup.add("kept", dedup.sketch([text]))
    close, farther = dedup.find(dedup.sketch([text + " x"])), dedup.find(dedup.sketch([edited(rng, text, 0.2)]))
    assert close is not None
    assert close.similarity > 0.80
    assert (farther is None) == (verify == "jaccard")


def test_texts_can_be_read_back_from_elsewhere() -> None:
    """With `text_of` the texts of kept documents are asked for by ordinal."""
    texts: list[str] = []
    dedup = Deduplicator(text_of=texts.__getitem__)
    rng = random.Random(11)
    for number in range(3):
        sketch = dedup.sketch([prose(rng, 80)])
        texts.append(sketch.text)
        dedup.add(f"key{number}", sketch)
    match = dedup.find(dedup.sketch([texts[1] + " and more"]))
    assert match is not None
    assert (match.kept, match.ordinal) == ("key1", 1)


@settings(max_examples=40)
@given(st.lists(PROSE | ANY_TEXT, min_size=1, max_size=12), st.lists(PROSE, max_size=4))
def test_what_was_packed_and_restored_decides_the_same(kept: list[str], queries: list[str]) -> None:
    """A deduplicator restored from its records answers every look-up as the one that was filled, then and later."""
    texts: list[str] = []
    filled, restored = Deduplicator(text_of=texts.__getitem__), Deduplicator(text_of=texts.__getitem__)
    records = b""
    for number, text in enumerate(kept):
        sketch = filled.sketch([text])
        texts.append(sketch.text)
        filled.add(f"{number:016x}", sketch)
        records += filled.packed(f"{number:016x}", sketch)
    restored.restore(unpack(records))
    assert (len(restored), restored.stamp) == (len(filled), filled.stamp)
    for query in [*kept, *queries]:
        sketch = filled.sketch([query])
        match = filled.find(sketch)
        assert restored.find(restored.sketch([query])) == match
        if match is None:
            texts.append(sketch.text)
            filled.add(query[:4], sketch)
            restored.add(query[:4], sketch)


def test_a_restore_without_a_source_of_texts_is_refused() -> None:
    """Records hold no texts, so a deduplicator that keeps its own cannot be restored from them."""
    with pytest.raises(ValueError, match="text_of"):
        Deduplicator().restore(unpack(b""))
    assert len(Deduplicator(verify="none")) == 0
    Deduplicator(verify="none").restore(unpack(b""))


def test_a_key_that_does_not_fit_is_refused() -> None:
    """A record has 16 bytes for the key; a longer one, or one with a NUL, is no silent other key."""
    dedup = Deduplicator()
    sketch = dedup.sketch(["text"])
    for key in ("0" * 17, "é" * 9, "a\0"):
        with pytest.raises(ValueError, match="packed"):
            dedup.packed(key, sketch)


def test_the_stamp_tells_what_cannot_be_mixed() -> None:
    """Whatever changes signatures or compared texts changes the stamp; threshold and `indel` or `none` do not."""
    stamps = [
        dedup.stamp
        for dedup in (
            Deduplicator(),
            Deduplicator(seed=2),
            Deduplicator(shingle=3),
            Deduplicator(fields="user"),
            Deduplicator(verify="article"),
        )
    ]
    assert len(set(stamps)) == len(stamps)
    assert Deduplicator(0.9, "none").stamp == stamps[0]


def test_only_comparable_lengths_count_towards_the_cap() -> None:
    """Candidates whose length alone rules them out do not use up the comparisons: the copy behind them is found."""
    rng = random.Random(12)
    text = prose(rng, 60)
    dedup = Deduplicator()
    for number in range(40):
        dedup.add(f"long{number}", dedup.sketch([text, text, f"end {number}"]))
    dedup.add("copy", dedup.sketch([edited(rng, text, 0.08)]))
    match = dedup.find(dedup.sketch([text]))
    assert match is not None
    assert match.kept == "copy"


def test_the_system_message_is_not_compared() -> None:
    """`fields` picks the turns; a system message is never among them."""
    messages: list[Message] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    assert compared_parts(messages) == ("u", "a")
    assert compared_parts(messages, "user") == ("u",)
    assert compared_parts(messages, "assistant") == ("a",)
    dedup = Deduplicator(fields="user")
    assert dedup.sketch_messages(messages).exact == dedup.sketch(["u"]).exact
    assert repr(dedup) == "<Deduplicator kept=0 verify=indel threshold=0.8 fields=user>"
