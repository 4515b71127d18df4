"""The filters: what each must catch, what it must leave alone, its exact bounds, and clean texts of many kinds."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synth_async.config.models import Filters, Pattern, Words
from synth_async.records import Drop, Example, Message, Stage, Task, Topic
from synth_async.stages.filters import build_filters, first_breach
from synth_async.stages.refusals import refusal_in_opening
from synth_async.stages.words import count_words, tokens

TASK = Task(key="0" * 32, topic=Topic(0, "billing"), sample=0, messages=())
QUESTION = "My last invoice shows the yearly plan although I moved to the monthly one in May, can you check that?"
REPLY = (
    "You are right, the change to the monthly plan was booked after the invoice had been written. I have corrected it, "
    "and the difference of 84 dollars goes back to your card within five working days."
)
DEFAULTS = build_filters(Filters())
OFF = {"user_words": None, "assistant_words": None, "refusal": False, "placeholder": False}
OFF |= {"short_reply": None, "echo": None, "repetition": None}
# Words that have no phrase in common.
UNRELATED = tuple(f"word{number}" for number in range(40))


def example_of(user: str = QUESTION, assistant: str = REPLY) -> Example:
    """One exchange; the side that is not given is clean."""
    return Example(TASK, ({"role": "user", "content": user}, {"role": "assistant", "content": assistant}), "m")


def conversation_of(*texts: str) -> Example:
    """User and assistant in turn."""
    messages: list[Message] = []
    for position, text in enumerate(texts):
        messages.append({"role": "assistant" if position % 2 else "user", "content": text})
    return Example(TASK, tuple(messages), "m")


def breach_of(one: Example, **on: object) -> Drop | None:
    """The breach of a config in which only the named rules are on."""
    return first_breach(one, build_filters(Filters.model_validate({**OFF, **on})))


def reason_of(drop: Drop | None) -> str | None:
    """Name of the rule that was breached, if any."""
    return None if drop is None else drop.reason


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
        "no_links",
        "echo",
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

# Support that apologises, reports a limit, or says what only looks like a refusal, a placeholder or a repetition.
SUPPORT = """
I'm sorry to hear about the double charge. I've refunded the second one and you should see it in three days.
I'm sorry, I can't find that invoice, but here is what we can do: send me the order number and I will look it up.
I'm sorry, but I can't find an account under that address. Could you check the spelling of the domain for me?
I'm sorry, but I can't refund orders after 60 days; I can offer store credit for the full amount instead.
Unfortunately, we can't refund orders older than 60 days, but the maker's warranty still covers the motor.
Unfortunately, I can't see the attachment. Could you send it again as a PDF or paste the error as text?
I'm sorry for the delay. Your parcel is on its way and should be with you by Thursday at noon.
I apologize for the inconvenience. Here's what happened: the update removed the old export button on Monday.
I apologize, but I could not make the appointment you asked for. How would Tuesday the eighth at 2 pm suit you?
I understand how frustrating that is, and I'm going to fix it now: please keep the app open for two minutes.
I can't help but notice that you were billed twice; I've sent the second payment back to your card today.
I can help with that! Could you share your order number and the postcode that the parcel was sent to?
I can't change the address once the parcel has shipped, but the courier can redirect it from their site.
I'm unable to locate the order with that number; could it be that two of the digits were swapped?
I won't be able to ship it today, but if you confirm by noon it leaves the warehouse tomorrow morning.
As an alternative, you can use the web app, which has had the new export since the release in March.
As an airline, we are bound by those rules, so the bag has to stay under 23 kilograms on this route.
As an AI startup, you qualify for the starter credits; the form is on the billing page under Programs.
As an AI-powered camera, it learns which shapes are people, so give it about a week before you judge it.
As a loyal customer, you get free shipping on this one, and I have already taken the fee off the order.
As an admin, you can reset the password yourself: open Members, pick the person and choose Send link.
As an aid to memory, write the code on the card that came with the lock and keep it somewhere else.
Sorry about that! I've reset your password, and the link in your inbox is good for the next hour.
Sorry for the mix-up. We'll send the right size today, and you can keep the other one or pass it on.
We cannot ship lithium batteries by air, so your parcel goes by road and takes about four days longer.
I'm afraid the item is out of stock until May, but the green one is here and costs the same.
I'm afraid we can't extend the warranty, but the repair itself is cheap: about 40 dollars with the part.
I'm sorry, but I can't guarantee delivery on Friday, because the depot closes early before the holiday.
I'm sorry, but I can't give you an exact date yet; the factory tells us every Monday what it has sent.
I'm sorry, but I can't issue a refund to a different card, since the bank ties it to the original payment.
I can't help with account changes until you verify your identity; here is how to do it in the app.
I can't make changes to a booking from here, but the hotel can do it in a minute if you call them.
Thanks for reaching out! I'm unable to see your screen, but these three steps should bring the menu back.
No, you can't return opened software, but you can exchange it for another copy of the same title.
I do not see a second charge on your account. What you see is a hold, and it falls off within two days.
I don't have that model in stock, but the newer one takes the same filters and is a little quieter.
Unfortunately, that plan cannot be paused. You can move to the free one and keep all of your projects.
I'm sorry you had trouble with the app. Please update to 4.2, which came out this morning, and try again.
I'm sorry that happened. Let me make it right: a new lamp is on its way, and you need not return the old one.
I can't tell from the description whether the valve is stuck; please check if the dial turns by hand.
I understand. I can move your appointment to Tuesday at ten, or to Wednesday at any time after lunch.
I'm sorry, but I'm unable to verify your identity with that code, because it ran out ten minutes ago.
I am not able to access your bank's records, but your bank can tell you when the payment was taken.
I'm sorry, but I don't see that order in our system. Was it perhaps placed as a guest, or at a store?
I could not reproduce the crash on Android 14. Which version do you have, and does it happen offline too?
I can't create a ticket without your email address, so please send it and I will open one right away.
I'm not seeing any outage in your area. Could you restart the router and tell me which lights come on?
I cannot recommend the cheaper cable for outdoor use, since its jacket goes brittle in the sun after a year.
I'm sorry, but the store is closed on Sundays. You can pick up the order from the locker beside the entrance.
I will not be charging you for the second visit, as the first one should have solved the problem already.
I'm sorry, but I can't waive the late fee twice in a year; what I can do is split it over two invoices.
I'm sorry, but I can't accept a photo of the receipt; the PDF that came with the order mail works, though.
I'm sorry, but I cannot provide a refund for digital goods once they are downloaded; a swap is possible.
I'm sorry, but I can't speak to what the previous technician promised, so I have asked her to call you.
We're sorry, but we can't process your card; try another one, or pay by transfer within seven days.
I decline to guess, so let's test it: hold the button for ten seconds and tell me what color the light is.
Your array index works like this: `row[name]` gives the cell, and `row[0]` gives the first one of the line.
Please open the [Order page](https://example.com/orders) and pick Return; see note [1] there for the deadline.
Set `export HOME_URL=https://example.com` in the shell, or write <b>bold</b> tags around the label in the form.
The shirt comes in sizes from xs to xxxl, and the [optional] gift box adds two dollars to the total.
If you want to add a person, open Members. If you want to remove one, open Members as well and use the menu.
To reset it: 1. Unplug the base. 2. Hold the pin for five seconds. 3. Plug it in. 4. Wait for the green light.
Thank you, thank you for the photos! The crack is covered, and the new panel should reach you by the tenth.
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


# --- repetition ----------------------------------------------------------------------------------


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


# --- clean texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", SUPPORT)
def test_honest_support_passes_every_rule(reply: str) -> None:
    """Apologies, limits and steps are what support is made of."""
    assert first_breach(example_of(assistant=reply), DEFAULTS) is None
    assert first_breach(example_of(assistant=reply.replace("'", "’")), DEFAULTS) is None


# Words that the placeholder rule drops wherever they stand, and consoles with their repeated prompts.
NOT_PROSE = re.compile(r"xxx|placeholder|\{\{|\[name\]|>>>|^ *\w+\(.*\) *->", re.IGNORECASE | re.MULTILINE)


def library_prose() -> Iterator[tuple[str, str]]:
    """Docstrings of the standard library in reply length, with where they stand."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if path.name == "_pydecimal.py":  # a reference in which every method has the wording of the one before it
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8", "replace"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if 25 <= count_words(text) <= 400 and not NOT_PROSE.search(text):
                    yield f"{path.name}:{getattr(node, 'name', 'module')}", text


def test_the_prose_of_the_standard_library_passes() -> None:
    """Of a thousand texts that nobody wrote for this, fewer than one in a hundred is dropped, for repetition alone."""
    texts = list(islice(library_prose(), 1000))
    drops = {where: drop for where, text in texts if (drop := first_breach(example_of(assistant=text), DEFAULTS))}
    assert len(texts) > 300
    assert {drop.reason for drop in drops.values()} <= {"repetition"}, drops
    assert len(drops) < len(texts) / 100, drops


def test_the_python_licence_passes() -> None:
    """Legal prose restates its terms; its paragraphs are still no repetition, refusal or echo."""
    licence = Path(inspect.getfile(ast)).parent / "LICENSE.txt"
    if not licence.exists():
        pytest.skip("this Python was installed without its licence text")
    paragraphs = [textwrap.dedent(part) for part in licence.read_text("utf-8").split("\n\n")]
    prose = [part for part in paragraphs if 25 <= count_words(part) <= 500 and "    " not in part.strip()]  # no tables
    assert len(prose) > 10
    for part in prose:
        assert first_breach(example_of(assistant=part), DEFAULTS) is None, part


SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "sgd_sample.jsonl"


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of human-written dialogues is not beside the project")
def test_human_dialogues_pass_turn_by_turn() -> None:
    """Real turns are refused, unfilled, echoed or repeated in fewer than one of a thousand."""
    dropped = total = 0
    for line in SAMPLE.read_text("utf-8").splitlines():
        user, assistant = (message["content"].split("\n") for message in json.loads(line)["messages"])
        for question, reply in zip(user, assistant, strict=False):
            total += 1
            one = example_of(question, reply)
            dropped += breach_of(one, refusal=True, placeholder=True, short_reply=0.2, repetition=0.3) is not None
    assert total > 10_000
    assert dropped < total / 1000


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
