"""Examples for the tests of the filters, and what a set of rules says about them."""

from __future__ import annotations

from synth_async.config.models import Filters
from synth_async.records import Drop, Example, Message, Task, Topic
from synth_async.stages.filters import build_filters, first_breach

TASK = Task(key="0" * 32, topic=Topic(0, "billing"), sample=0, messages=())
QUESTION = "My last invoice shows the yearly plan although I moved to the monthly one in May, can you check that?"
REPLY = (
    "You are right, the change to the monthly plan was booked after the invoice had been written. I have corrected it, "
    "and the difference of 84 dollars goes back to your card within five working days."
)
DEFAULTS = build_filters(Filters())
OFF = {"user_words": None, "assistant_words": None, "refusal": False, "placeholder": False}
OFF |= {"short_reply": None, "echo": None, "repetition": None, "leakage": False, "role_mixup": False, "pii": None}
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
