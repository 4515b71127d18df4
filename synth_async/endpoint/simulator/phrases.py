"""Turns of phrase of the two sides of a conversation, by tone. Slots as in `lexicon`."""

from __future__ import annotations

TONES = ("polite", "frustrated", "terse", "chatty", "confused", "formal")

TONE_SIGNS = {
    "polite": ("polite", "friendly", "kind", "grateful", "warm", "calm", "neutral"),
    "frustrated": ("frustrat", "angry", "annoy", "upset", "impatient", "urgent", "irritat", "furious"),
    "terse": ("terse", "short", "brief", "curt", "direct", "concise", "busy", "hurry"),
    "chatty": ("chatty", "casual", "informal", "talkative", "humor", "humour", "relaxed", "excited"),
    "confused": ("confus", "unsure", "uncertain", "lost", "worried", "anxious", "hesitant", "beginner"),
    "formal": ("formal", "professional", "business", "official", "legal", "precise"),
}

OPENINGS = {
    "polite": (
        "Hi there, I hope you can help me.",
        "Hello, thanks in advance for looking into this.",
        "Good morning, a quick question.",
        "Hi, sorry to bother you with this.",
        "Hello team, I would be grateful for some advice.",
        "Good afternoon!",
        "Hi, I was told this is the right place to ask.",
    ),
    "frustrated": (
        "This is the third time I am writing.",
        "I am getting really tired of this.",
        "Honestly, this is not acceptable.",
        "I expected better than this.",
        "I have lost half a day to this already.",
        "Can somebody finally look at this?",
        "I am close to giving up here.",
    ),
    "terse": ("Hi.", "Question:", "Quick one.", "Need an answer.", "Hello,", "Short version:", "One thing:"),
    "chatty": (
        "Hey! So, funny story.",
        "Hi all, happy {weekday}!",
        "Hey there, me again.",
        "Okay, here goes, bear with me.",
        "Hello! Coffee in hand, let me try to explain.",
        "Hi! You are my last hope before the weekend, no pressure.",
        "Hey folks, long-time reader, first-time writer.",
    ),
    "confused": (
        "Hi, I am not sure I understand what is going on.",
        "Hello, I am a bit lost.",
        "I may be missing something obvious.",
        "Sorry, I don't know the right words for this.",
        "Hi, I think I did something wrong.",
        "I read the page twice and still don't get it.",
        "Please explain it as if I were new to all of this.",
    ),
    "formal": (
        "Dear Sir or Madam,",
        "To whom it may concern,",
        "Good day,",
        "Dear support team,",
        "I am writing on behalf of our organisation.",
        "With reference to our earlier correspondence,",
        "I wish to raise the following matter.",
    ),
}

SITUATIONS = (
    "I am writing about {topic}.",
    "It is about {topic}.",
    "Here is the case: {topic}.",
    "My problem: {topic}.",
    "We have run into this: {topic}.",
    "What I am dealing with is {topic}.",
    "Since {date} I have been stuck with {topic}.",
    "The subject is {topic}.",
    "Could you look at the following? It concerns {topic}.",
    "I need a hand with {topic}.",
    "To put it in one line: {topic}.",
    "Something odd came up on {weekday}: {topic}.",
    "I keep coming back to {about}.",
    "My question concerns {about}.",
    "On {date} I noticed {about}.",
    "Let me describe it: {topic}.",
    "There seems to be an issue, namely {about}.",
    "This morning it was {about} again.",
)

ASKS = {
    "polite": (
        "Could you tell me what I should do next?",
        "Would you mind walking me through it?",
        "What would you suggest?",
        "Could you please explain how to sort this out?",
        "Is there a way to fix this that I could do myself?",
        "May I ask what the usual procedure is?",
        "Could you point me in the right direction?",
    ),
    "frustrated": (
        "What are you going to do about it?",
        "How do I get this fixed today?",
        "I want a straight answer on {about}.",
        "Why is it so hard to get this right?",
        "Tell me exactly what happens next.",
        "Who decides about this, and when?",
        "How long is this supposed to take?",
    ),
    "terse": (
        "What now?",
        "How do I fix it?",
        "Steps, please.",
        "Is that normal?",
        "What do you need from me?",
        "Can it be undone?",
        "Yes or no, and how?",
    ),
    "chatty": (
        "Any idea what I should try, short of magic?",
        "So what would you do in my shoes?",
        "Is there a trick to it?",
        "Be honest, did I break it?",
        "What is the least painful way out?",
        "Help me out before I try something silly?",
        "How do normal people solve this?",
    ),
    "confused": (
        "Is that how it is meant to be?",
        "What does that mean for me?",
        "Do I have to do something, or just wait?",
        "Which of the two should I believe?",
        "Can you tell me where to start?",
        "Did I misread something?",
        "What happens if I do nothing?",
    ),
    "formal": (
        "Kindly advise on the appropriate course of action.",
        "We would appreciate a written explanation.",
        "Please confirm the steps required and the time they take.",
        "I would ask you to clarify how this is to be resolved.",
        "Please let us know which documents you require.",
        "We look forward to your guidance on the matter.",
        "Would you confirm in writing how you intend to proceed?",
    ),
}

CLOSINGS = {
    "polite": (
        "Thank you!",
        "Many thanks for your time.",
        "Thanks a lot in advance.",
        "Have a nice {weekday}.",
        "I appreciate it.",
    ),
    "frustrated": (
        "I expect a reply by {weekday}.",
        "Please do not send me a form letter.",
        "Not impressed.",
        "Today, please.",
    ),
    "terse": ("Thx.", "Thanks.", "That's all."),
    "chatty": ("Thanks a million, you are the best!", "Cheers!", "Okay, that was long, sorry!", "Fingers crossed!"),
    "confused": ("Sorry if this is a silly question.", "Thank you for your patience.", "I hope this makes sense."),
    "formal": ("Kind regards", "Yours faithfully", "With best regards", "Respectfully"),
}

ACKNOWLEDGEMENTS = {
    "frustrated": (
        "I understand why this is annoying, and I am sorry for the time it has cost you.",
        "You are right to press for an answer, so let us settle {about} now.",
        "That should not have taken so many messages, and I apologise.",
        "I can see how frustrating {about} is, above all since {date}.",
        "Thank you for staying with it despite the trouble; here is a plan.",
    ),
    "confused": (
        "No need to worry, {about} looks more complicated than it is.",
        "You did nothing wrong, and this can be cleared up step by step.",
        "Good that you asked before changing anything.",
        "It is easy to lose track here, so let me put it in plain words.",
        "That is a fair question, and you are not the first to ask it about {w1}.",
    ),
    "other": (
        "Thank you for the details about {about}.",
        "Thanks for writing, and for being so specific about {w1}.",
        "I have read your message on {about}, and this can be solved.",
        "Happy to help with {about}.",
        "Thank you, the facts you give about {w1} and {w2} narrow it down.",
        "Let me take {about} one step at a time.",
        "Good question; {about} comes up more often than one would think.",
        "Thanks for reaching out about {about}.",
        "I can help you with that, and most of it you can do yourself.",
        "Here is what I would do about {about}.",
        "Thank you for checking before the end of {month}.",
        "With what you describe about {w1}, there is a clear way forward.",
    ),
}

CAUSE_FRAMES = (
    "Most likely {cause}.",
    "What usually lies behind it: {cause}.",
    "From what you describe, {cause}.",
    "The reason is probably that {cause}.",
    "In cases like this {cause}.",
    "One thing to know first: {cause}.",
    "It helps to know that {cause}.",
    "As far as I can tell, {cause}.",
    "The background is simple: {cause}.",
    "This tends to happen when {w1} is involved, because {cause}.",
)

STEP_LEADS = (
    "Please try this:",
    "Here is how to go on:",
    "I suggest the following:",
    "These are the next steps:",
    "Do this in order:",
    "This is what works in most cases:",
    "To settle {about}:",
    "A short plan:",
    "Step by step:",
)

REPLY_CLOSINGS = (
    "Write back if anything looks different on your side.",
    "Let me know how it goes.",
    "If you get stuck at a step, tell me which one.",
    "I am glad to look again if {w1} still gives you trouble.",
    "Feel free to answer here with what you see.",
    "I will keep this open until {weekday}.",
    "Does that answer your question about {w1}?",
    "Tell me if the result differs from what you expect.",
    "Should {about} come back, mention this conversation.",
    "Thank you for your patience.",
    "You can reach us here at any time.",
    "I hope that clears it up.",
    "If you would rather have it checked first, just say so.",
    "Happy to explain any of it in more depth.",
)

FOLLOW_UPS = (
    "Thanks, I did the first step and it went through. {detail} What comes next?",
    "That helped a little. {detail} Is that what you would expect?",
    "Okay, but one thing is still unclear to me: does that change anything about {w1}?",
    "I tried it at {time} and got stuck halfway. {detail}",
    "Done. {attempt} Should I wait, or is there more to do?",
    "Hm, it looks different on my side. {detail} Am I in the right place?",
    "And what if {about} happens again next month?",
    "Understood. How long will it take, roughly, and whom do I ask after {weekday}?",
    "Before I go on: can I undo it if it turns out wrong? {detail}",
    "That is good to know. One more question on {w2}: who has to confirm it?",
    "Great, thank you. {detail} Does that matter?",
    "My colleague asks whether we could skip the last step. {detail}",
)

FOLLOW_UP_ACKNOWLEDGEMENTS = (
    "That is a good sign.",
    "Yes, you are in the right place.",
    "Thanks for trying it so quickly.",
    "Good that you asked before going on.",
    "That fits the picture.",
    "No harm done, this can be undone.",
    "Understood, then let us look at {w1} more closely.",
    "Right, that detail helps.",
)
