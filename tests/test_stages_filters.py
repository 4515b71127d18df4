"""The set of filters, and the rules on length, refusals, placeholders, patterns and echoes: what each must catch."""

from __future__ import annotations

import re

import pytest
from filter_cases import DEFAULTS, OFF, QUESTION, REPLY, breach_of, conversation_of, example_of, reason_of
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from synth_async.config.models import Filters, Pattern, Words
from synth_async.records import Drop, Stage
from synth_async.stages.filters import build_filters, first_breach
from synth_async.stages.filters.refusals import refusal_in_opening
from synth_async.stages.words import count_words, tokens

# --- the set -------------------------------------------------------------------------------------


def test_the_order_is_fixed_and_user_patterns_come_before_the_dear_rules() -> None:
    """The cheapest rules first, so an example is always counted under the same name."""
    named = Filters(patterns=(Pattern(name="no_links", regex="https?://"),))
    assert [rule.name for rule in build_filters(named)] == [
        "user_words",
        "assistant_words",
        "short_reply",
        "refusal",
        "placeholder",
        "role_mixup",
        "pii",
        "no_links",
        "echo",
        "leakage",
        "repetition",
    ]


def test_each_rule_can_be_turned_off() -> None:
    """A config without rules drops nothing."""
    assert build_filters(Filters.model_validate(OFF)) == ()
    assert first_breach(example_of("x", "[insert]"), ()) is None


def test_a_drop_names_its_rule_and_says_what_was_found() -> None:
    """The drop is of the filter stage, its reason is the rule, its detail is short and concrete."""
    assert first_breach(example_of(user="Hi there"), DEFAULTS) == Drop(
        Stage.FILTER, "user_words", "2 words, at least 5"
    )


def test_the_first_rule_in_the_order_counts() -> None:
    """An example that breaches several rules is counted once."""
    assert reason_of(first_breach(example_of("Hi", "As an AI, [insert]"), DEFAULTS)) == "user_words"


@pytest.mark.parametrize(
    "own",
    [
        {"patterns": [{"name": "echo", "regex": "x"}]},
        {"patterns": [{"name": "a", "regex": "x"}, {"name": "a", "regex": "y"}]},
        {"custom": ["shop.checks:pii"]},
        {"custom": ["shop.checks:tone"], "patterns": [{"name": "tone", "regex": "x"}]},
    ],
)
def test_no_two_rules_count_under_one_name(own: dict[str, object]) -> None:
    """A reason in the rejects means one rule."""
    with pytest.raises(ValidationError, match="two filters would count under the same name"):
        Filters.model_validate(own)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("  \n ", 0),
        ("Where is my parcel?", 4),
        ("well-known e-mail don't don’t", 4),
        ("- one\n* two -- three … • 😀 __", 3),
        ("你好\uff0c世界\uff01", 4),
        ("iPhone 15手机", 4),
        ("ラーメンを3つください", 11),
        ("ขอบคุณครับ", 8),
        ("안녕하세요 고객님", 2),
        ("मेरा ऑर्डर कहाँ है", 4),
        ("Größe für cafe\u0301", 3),
    ],
)
def test_words_are_counted_as_readers_of_the_script_would(text: str, count: int) -> None:
    """Words between spaces; letters without marks where the script has no spaces; part by part where it is mixed."""
    assert count_words(text) == count


@given(st.text(st.characters(max_codepoint=127)))
def test_the_short_cut_for_ascii_counts_as_the_general_rule(text: str) -> None:
    """A text and the same text with a non-ASCII word more differ by that word, curly or straight."""
    for longer in (f"{text} é", f"{text} é".replace("'", "’").replace("-", "—")):
        assert count_words(longer) == count_words(text) + 1
        assert tokens(longer) == (*tokens(text), "é")


@given(st.text(), st.sampled_from([" ", "\n", "\t ", "\r\n", "\u00a0", "\u3000"]))
def test_more_white_space_changes_no_count(text: str, space: str) -> None:
    """Counts are about words, however they are set apart."""
    spread = space + re.sub(r"(\s)", rf"\1{space}", text) + space
    assert count_words(spread) == count_words(text)


@pytest.mark.parametrize("side", ["user", "assistant"])
@pytest.mark.parametrize(("length", "passes"), [(6, False), (7, True), (9, True), (10, False)])
@pytest.mark.parametrize("script", ["word ", "字", "é "])
def test_bounds_on_words_are_inclusive_on_each_side(side: str, length: int, script: str, *, passes: bool) -> None:
    """The fewest and the most allowed words pass, one less and one more do not, in any script."""
    one = example_of(**{side: script * length})
    drop = breach_of(one, **{f"{side}_words": Words(min=7, max=9)})
    assert reason_of(drop) == (None if passes else f"{side}_words")


def test_every_turn_is_bounded() -> None:
    """A short turn later in a conversation counts as well."""
    drop = breach_of(conversation_of(QUESTION, REPLY, "ok", REPLY), user_words=Words(min=2, max=50))
    assert drop == Drop(Stage.FILTER, "user_words", "1 words, at least 2")


# --- short reply ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered", "passes"),
    [(29, 1, True), (30, 5, False), (30, 6, True), (35, 7, True), (35, 6, False), (45, 9, True), (100, 19, False)],
)
def test_a_long_question_needs_its_share(asked: int, answered: int, *, passes: bool) -> None:
    """From 30 words on a reply needs the share, and exactly the share is enough."""
    drop = breach_of(example_of("word " * asked, "reply " * answered), short_reply=0.2)
    assert reason_of(drop) == (None if passes else "short_reply")


@given(st.integers(30, 400), st.integers(1, 100))
def test_the_share_is_exact_at_its_bound(asked: int, percent: int) -> None:
    """No rounding moves the bound: a reply of exactly the share passes, one word less does not."""
    share, fewest = percent / 100, -(-asked * percent // 100)
    assert breach_of(example_of("word " * asked, "reply " * fewest), short_reply=share) is None
    assert breach_of(example_of("word " * asked, "reply " * (fewest - 1)), short_reply=share) is not None


# --- refusal -------------------------------------------------------------------------------------

REFUSALS = """
I'm sorry, but I can't
I'm sorry, but I can't.
I'm sorry, but I cannot assist with that.
I'm sorry, but I can't share that information.
I'm sorry, I can't help with that.
I am sorry, but I am unable to do that.
Sorry, but I can't do that.
Sorry, I can't assist with this request.
I apologize, but I cannot provide instructions for that.
I apologize, but I'm not able to help with this.
My apologies, but I must decline.
I cannot assist with that request.
I can't assist with creating fake invoices.
I cannot fulfill this request.
I can't fulfill that request as it goes against the rules.
I'm unable to help with that.
I am unable to assist you with this matter.
I'm not able to assist with that.
I won't be able to help you with that request.
I will not help you do that.
I can't comply with that request.
Unfortunately, I can't help with that.
Unfortunately, I cannot assist with this type of question.
Unfortunately, I'm unable to help with that.
As an AI language model, I don't have access to your account.
As an AI, I cannot feel emotions.
As an AI assistant, I can't make purchases.
As a language model, I have no personal opinions.
As a large language model, I am not able to browse.
I'm just an AI, so I can't do that for you.
I'm an AI language model and do not have personal data.
I'm sorry, but as an AI language model I cannot do that.
Hi Dana, I'm sorry, but I can't help with that.
Hello! Unfortunately, I can't assist with that request.
Thanks for reaching out but I can't help with that.
I understand your frustration, but I can't help with that.
I understand this is hard, however, I cannot assist with it.
I must respectfully decline this request.
I have to decline.
I cannot provide medical advice.
I can't provide legal advice on your case.
I'm not able to provide personalized financial advice.
I cannot generate content of that kind.
I can't write that story for you.
I cannot create explicit content.
I'm not comfortable with that request.
I don't feel comfortable writing that.
That goes against my guidelines.
I can't do that.
I cannot discuss that.
I can't engage in that kind of conversation.
Regrettably, I cannot help you with this.
I'm afraid I can't help with that.
I'm afraid that I cannot assist you with this.
I'm really sorry, but I can't help with that.
We're sorry, but we cannot assist with this request.
"I'm sorry, but I can't assist with that."
**I'm sorry, but I can't help with this.**
I'm sorry, but I won't do that.
I'm sorry\N{EM DASH}but I can't help with that.
I simply cannot help with that.
It would not be appropriate for me to share this.
Thank you for reaching out. Unfortunately, I can't help with that.
I cannot answer that question.
I can't support that request.
""".strip().splitlines()


@pytest.mark.parametrize("reply", REFUSALS)
def test_a_refusal_is_found_in_many_wordings(reply: str) -> None:
    """Declining the request itself is a refusal, with straight and with curly apostrophes."""
    assert reason_of(breach_of(example_of(assistant=reply), refusal=True)) == "refusal"
    assert refusal_in_opening(reply.replace("'", "’")) is not None
    assert refusal_in_opening(f"  {reply.upper()}\n\nIs there anything else?") is not None


def test_only_the_opening_of_an_assistant_turn_counts() -> None:
    """The same words later in a reply, or said by the user, are no refusal."""
    assert breach_of(example_of(assistant=f"{REPLY} I'm sorry, but I can't help with that."), refusal=True) is None
    assert breach_of(example_of(user="I'm sorry, but I can't help with that."), refusal=True) is None


def test_every_assistant_turn_is_looked_at() -> None:
    """A refusal in a later turn of a conversation counts."""
    assert breach_of(conversation_of(QUESTION, REPLY, QUESTION, "As an AI, I cannot do that."), refusal=True)


@given(
    st.lists(
        st.sampled_from(
            ("i'm", "i", "am", "sorry,", "but", "so", "very", "as", "an", "ai", "kind", "of", "any", "cannot", "thanks")
        )
    )
)
@example(["sorry,"] * 60)
@example(["i", "cannot", "create", *["any", "kind", "of"] * 30])
def test_no_opening_makes_the_search_for_refusals_wander(words: list[str]) -> None:
    """Openings that repeat the words of the rule are answered, not searched for ever."""
    found = refusal_in_opening(" ".join(words))
    assert found is None or found


# --- placeholder ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Dear [Customer Name], your order is on its way.",
        "Hello [name]!",
        "Hi [CUSTOMER_NAME], welcome.",
        "Reference: [Order Number]",
        "Regards,\n[Your Name]",
        "Use [your account page] for that.",
        "Call us at [insert phone number].",
        "It costs [Insert price",
        "Hello {{ customer }}, welcome.",
        "Hello {{customer_name}}",
        "Call 1-800-xxx-xxxx now.",
        "The code is XXX.",
        "This is placeholder text.",
        "The placeholders in the form field stay gray.",
        "Lorem ipsum dolor sit amet.",
        "lorem\n  ipsum",
        "Send it to <your email address> please.",
        "curl https://<your-domain>/api",
        "curl https://<YOUR_DOMAIN>/api",
        "Write <insert date here>.",
        "See [link] for more, or [click here].",
    ],
)
def test_a_slot_that_nobody_filled_in_is_found_on_either_side(text: str) -> None:
    """Brackets, braces, angle brackets, xxx, lorem ipsum, and the word placeholder even in honest use."""
    for one in (example_of(user=text), example_of(assistant=text)):
        assert reason_of(breach_of(one, placeholder=True)) == "placeholder"


@pytest.mark.parametrize(
    "text",
    [
        "Size xxxl is back in stock.",
        "No replaceholders or placeholdered words here.",
        "`row[name]` and `cells[0][date]` are indexes.",
        "See the [Order page](https://example.com), [here](/help) or [your account](https://example.com/me).",
        "As noted [1], it was [sic] late [see below].",
        "[ERROR] disk full, [optional] flag, [x] done, [ ] open",
        "Is a < b and c > d? Then <b>stop</b>.",
        "Press <Enter> or <Esc>, f{x} is {one}.",
        "Ipsum is a town, Lorem is not; xx marks the spot.",
        "[we talked about this with the team on that date, at length, and in her own name]",
        "Insert the card [chip first].",
    ],
)
def test_brackets_and_words_with_another_purpose_are_no_slot(text: str) -> None:
    """Links, indexes, notes, check boxes, tags and longer words pass."""
    assert breach_of(example_of(user=text, assistant=text), placeholder=True) is None


# --- patterns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "sides"), [("user", "u"), ("assistant", "a"), ("both", "ua")])
def test_a_pattern_is_searched_on_its_side_alone(where: str, sides: str) -> None:
    """Drops are counted under the pattern's own name, with what was found."""
    patterns = [{"name": "no_links", "regex": r"(?i)HTTPS?://\S+", "where": where}]
    link = "see http://example.com now"
    assert (reason_of(breach_of(example_of(user=link), patterns=patterns)) == "no_links") is ("u" in sides)
    drop = breach_of(example_of(assistant=link), patterns=patterns)
    expected = Drop(Stage.FILTER, "no_links", 'assistant: "http://example.com"')
    assert drop == (expected if "a" in sides else None)


# --- echo ----------------------------------------------------------------------------------------


def test_a_reply_that_says_the_question_again_is_an_echo() -> None:
    """Case, punctuation and a word or two make no difference."""
    for reply in (QUESTION, QUESTION.upper().replace(",", " -"), QUESTION.replace("My", "Your").replace("?", ".")):
        assert reason_of(breach_of(example_of(assistant=reply), echo=0.8)) == "echo"


def test_a_reply_that_holds_a_long_question_word_for_word_is_an_echo() -> None:
    """However much is said around it."""
    assert reason_of(breach_of(example_of(assistant=f'{REPLY} You wrote: "{QUESTION}" {REPLY}'), echo=1.0)) == "echo"


def test_a_short_question_may_be_quoted_and_shared_words_are_no_echo() -> None:
    """Only whole long questions count, and a reply may use the words of its question."""
    short = "How do I change the plan of my team?"
    assert breach_of(example_of(short, f'You asked "{short}" - {REPLY}'), echo=0.8) is None
    assert breach_of(example_of(), echo=0.8) is None
    assert breach_of(example_of("?!", "!?"), echo=0.8) is None


@pytest.mark.parametrize(("letters", "echoes"), [(8, False), (9, True)])
def test_the_bound_on_similarity_is_inclusive(letters: int, *, echoes: bool) -> None:
    """Similar by exactly the bound passes, by more does not: of 10 letters each, so many are the same in order."""
    one = example_of("abcdefghij", "abcdefghij"[:letters] + "zyxwvuts"[: 10 - letters])
    assert (breach_of(one, echo=0.8) is not None) is echoes


def test_each_reply_is_compared_with_the_turn_before_it() -> None:
    """In a conversation a reply may come back to an earlier question, but not say the last one again."""
    assert breach_of(conversation_of(QUESTION, REPLY, "And now?", QUESTION), echo=0.8) is None
    assert breach_of(conversation_of("Hello?", REPLY, QUESTION, QUESTION), echo=0.8)


# --- any text ------------------------------------------------------------------------------------

EVERY_RULE = build_filters(Filters(patterns=(Pattern(name="any_word", regex=r"\w+\s\w+"),)))
texts = st.text() | st.text(st.sampled_from("[]{}<>x _'’.\n字กy")) | st.sampled_from([REPLY, "please wait " * 20, ""])


@given(st.lists(texts, max_size=6))
@example(["[" + "_" * 5000, "<your" * 2000])
@example(["a " * 3000, "字" * 3000])
def test_no_text_makes_a_rule_raise(turns: list[str]) -> None:
    """Every rule answers for every conversation, in a few printable words on one line."""
    one = conversation_of(*turns)
    for rule in EVERY_RULE:
        detail = rule.breach(one)
        assert detail is None or (detail and len(detail) < 120 and "\n" not in detail)


@given(st.lists(texts, max_size=6))
def test_the_first_breach_is_that_of_the_first_rule_that_finds_one(turns: list[str]) -> None:
    """The set decides nothing but the order."""
    one = conversation_of(*turns)
    expected = next((rule.name for rule in EVERY_RULE if rule.breach(one) is not None), None)
    assert reason_of(first_breach(one, EVERY_RULE)) == expected
