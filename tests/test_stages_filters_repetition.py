"""Repetition: loops and doubled text are found, parallel wording and short replies are not."""

from __future__ import annotations

import pytest
from filter_cases import REPLY, UNRELATED, breach_of, example_of, reason_of


@pytest.mark.parametrize(
    "text",
    [
        f"{REPLY} {REPLY}",
        f"{REPLY}\n{REPLY}\n{REPLY}",
        "I am happy to help you. " * 6,
        "please wait " * 20,
        "Check the cable. Then restart it.\n" * 4,
        " ".join(UNRELATED[:20]) + " the light turns green and stays on " * 4,
        "您好。感谢您的耐心等待。我们会尽快处理。" * 3,
        "お待たせして申し訳ございません。確認いたします。" * 3,
        "ขอบคุณที่ติดต่อเราค่ะ " * 6,
    ],
)
def test_repeated_sentences_and_phrases_are_found_on_either_side(text: str) -> None:
    """Loops, doubled paragraphs and repeated lines, in any script."""
    for one in (example_of(user=text), example_of(assistant=text)):
        assert reason_of(breach_of(one, repetition=0.3)) == "repetition"


@pytest.mark.parametrize(
    "text",
    [
        "Yes. Yes, that is right. Yes, that is right.",
        (
            "If you want to add a member, open the team page. If you want to remove a member, use the menu beside the "
            "name. If you want to change a role, ask an owner. If you want to leave, write to us."
        ),
        (
            "- Click on the Save button at the top\n- Click on the Export link below\n- Click on the gear beside it\n"
            "- Click on the name of the file to open it again"
        ),
        (
            "The Premium Annual Plan at 99 dollars covers one phone. With the Premium Annual Plan at home you also get "
            "the call center, spare parts for two years, and somebody who comes by when a lamp or the pump gives up."
        ),
        (
            "您好。您的包裹已经从上海仓库发出、预计周五之前送达。如果您当天不在家、快递员会把包裹放在小区的自提柜里、"
            "并发短信告诉您取件码。包裹会在自提柜里保留三天、逾期会退回仓库。"
        ),
        (
            "ご連絡ありがとうございます。ご注文の商品は本日発送いたしました。お届けは金曜日の午前中を予定しております。"
            "ご不在の場合は宅配ボックスに入れて、番号をメールでお知らせします。"
        ),
    ],
)
def test_short_replies_parallel_starts_and_names_are_no_repetition(text: str) -> None:
    """Lists that begin alike, a name said twice, and natural text without spaces pass."""
    assert breach_of(example_of(user=text, assistant=text), repetition=0.3) is None


@pytest.mark.parametrize(("bound", "passes"), [(0.5, True), (0.49, False), (0.51, True)])
def test_the_bound_on_repetition_is_inclusive(bound: float, *, passes: bool) -> None:
    """12 of 24 words stand in a sentence that is there twice: a bound of one half passes."""
    sentence = " ".join(UNRELATED[:6])
    text = f"{' '.join(UNRELATED[6:14])}. {sentence}. {' '.join(UNRELATED[14:18])}. {sentence}."
    assert (breach_of(example_of(assistant=text), repetition=bound) is None) is passes


@pytest.mark.parametrize(("length", "passes"), [(11, True), (12, False)])
def test_a_phrase_may_be_said_twice_below_twelve_words(length: int, *, passes: bool) -> None:
    """Within longer sentences a phrase counts from 12 words on; a third time it counts at once."""
    phrase, rest = " ".join(UNRELATED[:length]), UNRELATED[length:]
    text = f"{rest[0]} {phrase} {rest[1]}. {rest[2]} {phrase} {rest[3]}."
    assert (breach_of(example_of(assistant=text), repetition=0.3) is None) is passes
    assert breach_of(example_of(assistant=f"{text} {rest[4]} {phrase} {rest[5]}."), repetition=0.3)


# --- Gopher --------------------------------------------------------------------------------------

GOPHER = {"repetition": {"share": None}}


def words(first: int, last: int) -> str:
    """Words that occur once each."""
    return " ".join(f"word{number}" for number in range(first, last))


@pytest.mark.parametrize(("times", "passes"), [(4, True), (5, False)])
def test_repeated_lines_are_bounded_by_their_share(times: int, *, passes: bool) -> None:
    """Of twelve lines 30 % may be there again; that makes 3 repeated lines, not 4, and their characters few."""
    lines = [f"{words(12 * number, 12 * number + 12)}" for number in range(8)]
    text = "\n".join([*lines, *["and so on"] * times])
    assert (breach_of(example_of(assistant=text), **GOPHER) is None) is passes


def test_repeated_paragraphs_are_found_by_their_characters() -> None:
    """One of six paragraphs that is there twice, and long."""
    short = [words(10 * number, 10 * number + 10) for number in range(4)]
    long = words(100, 160)
    drop = breach_of(example_of(assistant="\n\n".join([long, *short, long])), **GOPHER)
    assert drop is not None
    assert "of the lines are repeated" in drop.detail


@pytest.mark.parametrize(("gram", "size"), [("aaaaaaaaaa bbbbbbbbbb", 2), ("aaaaaaa bbbbbbb ccccccc", 3)])
def test_one_gram_may_not_fill_a_text(gram: str, size: int) -> None:
    """A pair that is a fifth of the characters, or a triple that is more than 18 %; three times is never too often."""
    rest = [words(25 * number, 25 * number + 25) for number in range(4)]
    often = " ".join(f"{part} {gram} {gram}" for part in rest)
    drop = breach_of(example_of(assistant=often), **GOPHER)
    assert drop is not None
    assert f"one {size}-gram" in drop.detail or size == 3
    assert (
        breach_of(example_of(assistant=f"{rest[0]} {rest[1]} {rest[2]} {rest[3]} " + f"{gram} " * 3), **GOPHER) is None
    )


@pytest.mark.parametrize(("length", "passes"), [(20, True), (45, False)])
def test_repeated_grams_may_fill_their_share(length: int, *, passes: bool) -> None:
    """In 250 words a phrase of 20 may be said twice (8 %), one of 45 may not (18 %)."""
    phrase = words(1000, 1000 + length)
    text = f"{words(100, 200)} {phrase} {words(200, 360 - 2 * length)} {phrase} {words(400, 440)}"
    assert (breach_of(example_of(assistant=text), **GOPHER) is None) is passes


def test_short_texts_pass_whatever_they_repeat() -> None:
    """Below 80 words the bounds are not for them; the share is."""
    text = "please wait " * 30
    assert breach_of(example_of(assistant=text), **GOPHER) is None
    assert breach_of(example_of(assistant=text), repetition=0.3)
    assert breach_of(example_of(assistant=text + "please wait " * 20), **GOPHER)
    assert (
        breach_of(example_of(assistant=text + "please wait " * 20), repetition={"share": None, "gopher": False}) is None
    )
