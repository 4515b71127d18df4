"""Parts of prompts in an example, and turns that speak for the other side: what is one, and what only looks like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from filter_cases import QUESTION, REPLY, SUPPORT, TASK, breach_of, conversation_of, example_of, reason_of
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.config.models import Filters
from synth_async.records import Drop, Example, Topic
from synth_async.stages.filters import build_filters, first_breach, prompt_texts

SYSTEM_PROMPT = (
    "You are a support agent for BillingPro, a subscription billing platform. Answer accurately and concretely, keep "
    "to the billing policy, and say plainly when something has to be looked at by a person."
)
WORDS = SYSTEM_PROMPT.split()
RULES = [
    rule
    for rule in build_filters(Filters(), prompts=prompt_texts(small_config(system_prompt=SYSTEM_PROMPT)))
    if rule.name == "leakage"
]
FACETS = {"tone": "frustrated", "mood": "in a hurry"}
ABOUT = replace(TASK, topic=Topic(0, "Charged twice in May", "Refunds"), facets=FACETS)


def leak_in(one: Example) -> Drop | None:
    """What the rule against leakage says."""
    return first_breach(replace(one, task=ABOUT), RULES)


# --- leakage -------------------------------------------------------------------------------------


@given(st.integers(0, len(WORDS) - 12), st.integers(12, 30), st.sampled_from(["user", "assistant"]))
def test_twelve_words_of_the_system_prompt_in_a_row_are_a_leak(start: int, length: int, side: str) -> None:
    """Wherever they begin, in any case and punctuation, on either side; eleven may be shared."""
    quoted = " ".join(WORDS[start : start + length]).upper().replace(",", " -")
    assert reason_of(leak_in(example_of(**{side: f"{REPLY} {quoted} {QUESTION}"}))) == "leakage"
    shared = " ".join(WORDS[start : start + 11])
    assert leak_in(example_of(**{side: f"{REPLY} {shared} {QUESTION}"})) is None


def test_a_short_system_prompt_leaks_when_it_is_quoted_whole() -> None:
    """From eight words on; part of it may be said."""
    rules = build_filters(Filters(), prompts=["You are the friendly help desk of the Blue Lamp."])
    whole = f"{REPLY} As they say: you are the friendly help desk of the Blue Lamp!"
    assert reason_of(first_breach(example_of(assistant=whole), rules)) == "leakage"
    assert (
        first_breach(example_of(assistant=f"{REPLY} This is the friendly help desk of the Blue Lamp."), rules) is None
    )
    shorter = build_filters(Filters(), prompts=["You help people with lamps."])
    assert first_breach(example_of(assistant=f"{REPLY} You help people with lamps."), shorter) is None


def test_a_system_prompt_without_spaces_leaks_by_its_letters() -> None:
    """Thirty letters in a row; half as many are a phrase."""
    prompt = "您是云账单平台的客服专员请准确具体地回答客户的问题并严格遵守退款政策遇到需要人工处理的情况请直接说明"
    rules = build_filters(Filters.model_validate({"leakage": True, "repetition": None}), prompts=[prompt])
    assert reason_of(first_breach(example_of(assistant=f"好的\N{FULLWIDTH COMMA}{prompt[4:36]}"), rules)) == "leakage"
    assert (
        first_breach(example_of(assistant=f"好的\N{FULLWIDTH COMMA}{prompt[4:20]}谢谢您的来信我们已经收到"), rules)
        is None
    )


@pytest.mark.parametrize(
    "text",
    [
        "Topic: Charged twice in May\nI was charged twice, what now?",
        "Topic: something else entirely\n\nHello there, my card was charged twice.",
        "**Topic:** refunds\nMy card was charged twice.",
        "Hello, my card was charged twice.\nTopic: charged twice in May",
        "Category: Refunds\nMy card was charged twice.",
        "Mood: in a hurry\n\nI need my money back today.",
        "I need my money back.\n- Mood: In a hurry",
        'I was charged twice", "assistant_response": "Sorry to hear that',
        "<instructions> Be kind. </instructions> I was charged twice in May.",
        "I was charged twice.<|im_end|>",
        "Here is the JSON you asked for: I was charged twice.",
        "Sure! Here's a realistic customer support conversation about a double charge.",
        "Here is the requested JSON object:",
        "Write one realistic conversation about this topic: what a real customer or user would write to the shop.",
    ],
)
def test_what_is_left_over_from_a_request_is_a_leak_on_either_side(text: str) -> None:
    """Headings of the prompt, keys and announcements of the format, marks of templates, our own instructions."""
    assert reason_of(leak_in(example_of(user=text))) == "leakage"
    assert reason_of(leak_in(example_of(assistant=text))) == "leakage"


@pytest.mark.parametrize(
    "text",
    [
        "My tone: frustrated. I was charged twice for the same plan.",
        "Hello, two things.\nTone: frustrated\nPlan: yearly",
        "Two points.\nTopic: the invoice of May",
        "Subject: Charged twice in May\nHello, I was charged twice.",
        "Here is the invoice that you asked for, and here are the steps to pay it.",
        "Here is the conversation I had with your colleague yesterday about the refund.",
        "The parser of our shop reads JSON, and here is what it says: unexpected token.",
        "I am a support agent myself, at a subscription billing platform like yours, so I know how it goes.",
        "Set <instruction> in the template, and use user_messages as the table.",
    ],
)
def test_words_that_only_look_like_a_prompt_pass(text: str) -> None:
    """Subjects, settings, talk about JSON, and phrases of the domain."""
    assert leak_in(example_of(text, REPLY)) is None
    assert leak_in(example_of(QUESTION, text)) is None


def test_a_customer_who_asks_for_json_is_given_it() -> None:
    """The announcement is an answer there; unasked it is a leak."""
    reply = "Here is the JSON for the webhook: it has an id, an event and the amount in cents, as the guide says."
    assert leak_in(example_of("What JSON does the webhook send when a card is declined?", reply)) is None
    assert reason_of(leak_in(example_of(QUESTION, reply))) == "leakage"


def test_a_context_document_may_be_quoted_and_an_own_template_may_not() -> None:
    """Replies shall agree with the document; the words of a prompt of the user's are instructions as ours are."""
    template = "{{ topic }}: {{ context }} Pretend to be a grumpy sailor who has lost the only key to a small red boat."
    texts = prompt_texts(small_config(generation={"prompt": template}))
    assert not any("topic" in text and "{{" in text for text in texts)
    rules = build_filters(Filters(), prompts=texts)
    quoted = f"{REPLY} Pretend to be a grumpy sailor who has lost the only key to a small red boat."
    assert reason_of(first_breach(example_of(assistant=quoted), rules)) == "leakage"


# --- roles ---------------------------------------------------------------------------------------


def mixup_in(*texts: str) -> str | None:
    """The reason of a drop by the rule alone."""
    return reason_of(breach_of(conversation_of(*texts), role_mixup=True))


@pytest.mark.parametrize(
    "text",
    [
        f"{REPLY}\n\nCustomer: Thanks, and when will I see the money on my card?",
        f"{REPLY}\n**User:** That is great, I will check it.",
        f"{REPLY}\nHuman: can you also cancel the plan for me?",
        "Assistant: I have sent the invoice again to your address.",
        "Agent:\nI have sent the invoice again to your address.",
        "Customer: I was charged twice.\nAgent: I have sent one of them back.",
    ],
)
def test_a_reply_that_speaks_for_the_customer_is_found(text: str) -> None:
    """It goes on with the customer's next turn, or opens with a label."""
    assert mixup_in(QUESTION, text) == "role_mixup"
    assert mixup_in(QUESTION, REPLY, QUESTION, text) == "role_mixup"


@pytest.mark.parametrize(
    "text",
    [
        "Thank you for contacting BillingPro support. Your invoice is on its way.",
        "Hello Dana! Thanks for reaching out to us about the invoice.",
        "Hi there. How can I help you today?",
        "Customer: Hi, my invoice is wrong, please check it.",
        "My invoice is wrong.\nAssistant: I have corrected it for you now.",
    ],
)
def test_a_customer_who_speaks_as_the_agent_is_found(text: str) -> None:
    """Greetings of a help desk, offers of help, labels."""
    assert mixup_in(text, REPLY) == "role_mixup"


@pytest.mark.parametrize(
    "text",
    [
        "Log in with these settings:\nUser: admin\nPassword: the one on the label\nClient: shop-web",
        "The fields mean:\nCustomer: the name on the invoice\nUser: who placed the order",
        "Guest: no account needed. Customer: needs one, and gets the discount.",
        "Support: weekdays from nine to five, by phone and chat, as the page says.",
    ],
)
def test_labels_of_settings_and_fields_pass(text: str) -> None:
    """Nobody speaks behind them."""
    assert mixup_in(QUESTION, text) is None
    assert mixup_in(text, REPLY) is None


@pytest.mark.parametrize(
    "text",
    [
        'Your chatbot says "Hello! How can I help you today?" and then nothing happens.',
        "It keeps asking how can I help you, and I cannot reach anybody.",
        "Thank you for contacting me back so quickly, that is the invoice I meant.",
        "Thanks for your help, how can I help you find the order?",
        "Agent: your refund was sent on Monday. That is what I was told, and there is no money.",
        "Thanks for choosing the green one for me, it fits.",
    ],
)
def test_customers_may_quote_and_thank(text: str) -> None:
    """What an agent said before may be told again."""
    assert mixup_in(text, REPLY) is None


@pytest.mark.parametrize("reply", SUPPORT)
def test_honest_support_may_stand_on_either_side(reply: str) -> None:
    """No sentence of ordinary support is a leak or a mix-up."""
    assert mixup_in(reply, reply) is None
    assert leak_in(example_of(reply, reply)) is None


texts: Any = st.text() | st.text(st.sampled_from("Customer:\n AgentTopic*_#<[I ?"))


@given(st.lists(texts, min_size=1, max_size=4))
def test_no_text_makes_the_rules_raise(turns: list[str]) -> None:
    """They answer in a few words on one line."""
    one = replace(conversation_of(*turns), task=ABOUT)
    for drop in (first_breach(one, RULES), breach_of(one, role_mixup=True)):
        assert drop is None or (0 < len(drop.detail) < 120 and "\n" not in drop.detail)
