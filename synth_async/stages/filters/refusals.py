"""Whether a reply opens by declining the request itself, in English.

A refusal is the assistant saying that it will not, or must not, do what it was asked. A support reply that reports a
limit ("I'm sorry, but I can't find that invoice", "Unfortunately, we can't refund orders after 60 days") is an answer.
The difference is in the verb: helping, complying, generating and discussing are declined; finding, refunding and
shipping are reported. Only the opening counts: a greeting, thanks, an apology or sympathy may come before it.
"""

from __future__ import annotations

import re

__all__ = ["refusal_in_opening"]

_OPENING_CHARACTERS = 320


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


def _any_word(words: str) -> str:
    return rf"(?:{'|'.join(words.split())})\b"


# Possessive, and each alternative begins with words of its own: an opening that repeats them costs linear time.
_UP_TO_BUT = r"(?:(?! but\b)[^.,!?:;])"
_LEAD_IN = _any(
    rf"(?:hi|hello|hey|dear|greetings|thanks|thank you)\b{_UP_TO_BUT}{{0,60}}+(?:[.,!:;] ?| (?=but\b))",
    r"(?:sure|well|hmm|oh|ah|okay|ok|no|to be (?:clear|honest)|i must be (?:clear|honest))\b[.,!:;] ?",
    r"(?:unfortunately|regrettably|sadly|but|however|and)\b[,:]? ?",
    r"(?:(?:i|we)(?:'m|'re| am| are) )?(?:(?:so|very|really|truly|terribly|deeply) )*+(?:sorry|afraid)\b"
    r"(?: (?:that|to say|about that|for (?:the|any) (?:inconvenience|confusion)|to (?:inform|tell) you)\b)*+[.,!:;]? ?",
    r"(?:(?:i|we) (?:do |sincerely |must )?apologi[sz]e|(?:my |our )?(?:sincere )?apologies)\b"
    r"(?: for (?:the|any) (?:inconvenience|confusion))?[.,!:;]? ?",
    r"i (?:(?:completely|totally|fully|do|really|truly) )?"
    r"(?:understand|appreciate|see|hear|know|reali[sz]e|recogni[sz]e)\b"
    rf"{_UP_TO_BUT}{{0,120}}+(?:[.,!;] ?| (?=but\b))",
)
_AFTER_SORRY_BUT = _any(
    *(rf"(?<={ending} )" for ending in ("sorry, but", "sorry but")),
    *(rf"(?<={ending} )" for ending in ("apologize, but", "apologise, but", "apologies, but", "apologize but")),
)

_ADVERBS = r"(?: (?:simply|really|just|ethically|legally|currently|directly|in good conscience|personally|actually))*+"
_CANNOT = _any(
    r" (?:can't|cannot|can not)",
    r" (?:won't|will not)(?: be able to)?",
    r"(?:'m|'re| am| are) (?:unable|not (?:able|allowed|permitted|programmed|designed|authori[sz]ed|in a position)) to",
)

# Verbs that decline the request, whoever speaks and however it is put. "I can't help but notice" declines nothing.
_THE_REQUEST = (
    r"(?:that|this|it|such|these|those|any of (?:that|this)|your (?:request|question|prompt|query))"
    r"(?: (?:kind|type|sort)\b| request| question|\W|$)"
)
_MADE_TEXT = _any_word(
    "content text material story stories essays? poems? scripts? code responses? conversations? dialogues? examples? "
    "instructions? guidance fiction messages? articles? jokes? malware assistance help"
)
_ADVICE = (
    r"(?:(?:specific|personali[sz]ed|professional) )*+(?:medical|legal|financial|investment|tax|(?:mental )?health) "
    r"(?:\w+ )?(?:advice|guidance|recommendations|diagnos[ie]s)\b"
)
_DECLINED = _any(
    r"(?:assist|help)\b(?! (?:but|feeling|noticing|thinking|wondering)\b)",
    r"(?:comply|engage|participate|proceed|continue with|role-?play|take part)\b",
    r"(?:fulfill?|complete|process|satisfy|honou?r|accommodate|support|answer|discuss|respond to|address|do|grant) "
    + _THE_REQUEST,
    r"(?:generate|create|write|produce|compose|draft|provide|share|offer|give|supply|promote|facilitate|endorse) "
    r"(?:you )?(?:with )?(?:(?:that|this|such|the|an?|any|explicit|harmful|inappropriate|sexual|offensive|detailed|"
    r"step-by-step|requested|(?:kind|type|sort) of) )*"
    + _any(_MADE_TEXT, _ADVICE, r"(?:such|this|that) (?:information|request)\b", r"information (?:on|about) how to\b"),
)

# After the classical "I'm sorry, but I can't", only these verbs make it a limit and not a refusal.
_LIMITED = _any(
    _any_word(
        "find locate see access reach open view load read hear reproduce replicate confirm verify validate check match "
        "tell say speak pull look get trace track refund reimburse return exchange replace repair cancel change alter "
        "modify amend edit update reset unlock remove delete restore recover undo reverse stop pause void ship deliver "
        "dispatch send expedite redirect reroute hold reserve book rebook reschedule move transfer switch upgrade "
        "downgrade extend renew waive apply issue credit charge combine merge split add guarantee promise commit "
        "predict estimate speed accept take schedule arrange set place sell price approve authori[sz]e release lift "
        "skip enable disable activate install connect sign log call visit"
    ),
    r"make (?:an|any|a|changes)\b",
    r"(?:offer|give|provide) (?:you )?(?:with )?(?:(?:an?|any|the|another|full|partial|cash|exact|precise|firm) )*+"
    + _any_word(
        "refunds? discounts? credit replacements? dates? times? timeline estimate eta quote price extension upgrade "
        "voucher compensation window invoice receipt copy number tracking exchange loan appointment room seat slot "
        "rate exception"
    ),
)

# A condition in the same sentence makes it a limit: "I can't help with the account until you verify your identity".
_UNCONDITIONAL = (
    r"(?![^.!?\n]*\b(?:until|unless|before|over (?:chat|the phone|email)|from (?:here|this chat)|(?:on|from) "
    r"(?:my|our) end|without (?:your|the|an?|first|seeing|knowing|more))\b)"
)

# "As an AI startup, you qualify" speaks of the customer.
_IS_AN_AI = (
    r"(?:(?:since|because) )?(?:i(?:'m| am) (?:just |only |merely )?|as )(?:an? )?"
    r"(?:(?:ai |large )?language model|(?:ai|artificial intelligence)"
    r"(?: (?:model|assistant|chatbot|system|program|bot))?(?![-\w])"
    r"(?! (?:startup|start-up|company|firm|lab|customer|client|researcher|engineer|developer|team|user|student"
    r"|consultant|add-on|feature)s?\b))\b"
)
_DECLINING = _any(
    r"i (?:(?:must|have to|need to|am going to|would have to|will have to) )?(?:respectfully |politely )?"
    r"(?:decline|refuse)\b(?! to (?:guess|speculate))",
    r"i (?:don't|do not|wouldn't) feel comfortable (?:\w+ing|with (?:this|that))\b",
    r"i(?:'m| am) (?:not comfortable|uncomfortable) (?:with |to )?(?:\w+ing|this|that|the request|such)\b",
    r"(?:that|this|it|(?:your|the) request)(?: is| goes| would go| violates| would violate)(?: against| outside)?"
    r"(?: of)? my (?:\w+ )?(?:guidelines|programming|policy|policies|principles|capabilities)\b",
    r"it (?:would not be|wouldn't be|is not|isn't) (?:appropriate|ethical|right|responsible) for me to\b",
    r"my (?:guidelines|programming|policies) (?:do not|don't|prevent|prohibit)\b",
)

_REFUSAL = re.compile(
    rf"(?>{_LEAD_IN})*+"
    + _any(
        _IS_AN_AI,
        _DECLINING,
        rf"{_AFTER_SORRY_BUT}i{_ADVERBS}{_CANNOT}{_ADVERBS}(?! {_LIMITED}){_UNCONDITIONAL}(?=\W|$)",
        rf"(?:i|we){_ADVERBS}{_CANNOT}{_ADVERBS} {_DECLINED}{_UNCONDITIONAL}",
    )
)
_LEADING_MARKS = re.compile(r"^[\W_]+")
# Curly apostrophes become straight, dashes between clauses become commas.
_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u2014": ", ", "\u2013": ", "})


def refusal_in_opening(reply: str) -> str | None:
    """The words with which a reply declines the request; None where it answers."""
    opening = " ".join(reply.lstrip()[:_OPENING_CHARACTERS].translate(_PLAIN).lower().split())
    found = _REFUSAL.match(_LEADING_MARKS.sub("", opening))
    return found[0][:80] if found else None
