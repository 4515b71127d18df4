"""Personal data: numbers made by their own rules are found, their neighbours without a checksum are not."""

from __future__ import annotations

import re

import pytest
from filter_cases import QUESTION, REPLY, breach_of, conversation_of, example_of, reason_of
from hypothesis import assume, example, given
from hypothesis import strategies as st

from synth_async.config.models import Filters, Pii
from synth_async.records import Drop, PiiKind, Stage
from synth_async.stages.filters import build_redaction
from synth_async.stages.filters.pii import MARKS, find_pii
from synth_async.stages.filters.pii.finding import is_dummy, only_digits
from synth_async.stages.filters.pii.payments import IBAN_LENGTHS

KINDS: tuple[PiiKind, ...] = ("email", "phone", "card", "iban", "ip", "national_id")
DIGIT = st.sampled_from("0123456789")


def digits(length: int) -> st.SearchStrategy[str]:
    """So many digits."""
    return st.text(DIGIT, min_size=length, max_size=length)


def found_in(text: str, *, allow_synthetic: bool = True) -> list[tuple[str, str]]:
    """Kind and text of all that is found."""
    findings = find_pii(text, KINDS, allow_synthetic=allow_synthetic)
    return [(finding.kind, text[finding.start : finding.end]) for finding in findings]


def is_found(kind: PiiKind, written: str) -> bool:
    """Whether it is found as what it is, wherever it stands in a sentence, and nothing beside it."""
    sentences = (
        written,
        f"It is {written}.",
        f"({written})",
        f"My order 4821: {written}, since 2019",
        f"a\n{written}\nb",
    )
    return all(found_in(sentence) == [(kind, written)] for sentence in sentences)


# --- cards ---------------------------------------------------------------------------------------

ISSUERS = [("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15)]
ISSUERS += [("6011", 16), ("65", 16), ("644", 16), ("62", 16), ("36", 14), ("305", 14), ("3528", 16), ("3589", 16)]
ISSUERS += [("6759", 16), ("62", 19), ("4", 19)]


def luhn_digit(body: str) -> str:
    """The last digit of a number, by the formula as the standard tells it."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A number that an issuer could have given out."""
    prefix, length = draw(st.sampled_from(ISSUERS))
    body = prefix + draw(digits(length - len(prefix) - 1))
    number = body + luhn_digit(body)
    assume(not is_dummy(number))
    return number


@given(cards(), st.sampled_from(["", " ", "-"]))
def test_every_card_is_found_in_one_piece_and_in_groups(number: str, separator: str) -> None:
    """Issuer, length and Luhn's formula make a card, in the groups that stand on it."""
    sizes = {15: (4, 6, 5), 14: (4, 6, 4), 16: (4, 4, 4, 4), 19: (4, 4, 4, 4, 3)}.get(len(number), (len(number),))
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    written = separator.join(number[end - size : end] for size, end in zip(sizes, ends, strict=True))
    assert is_found("card", written)


@given(cards(), st.integers(0, 15), st.integers(1, 9))
def test_one_wrong_digit_makes_it_no_card(number: str, place: int, change: int) -> None:
    """Luhn's formula finds every single wrong digit."""
    place %= len(number)
    wrong = number[:place] + str((int(number[place]) + change) % 10) + number[place + 1 :]
    assert ("card", wrong) not in found_in(f"It is {wrong}.")


def test_test_cards_pass_where_synthetic_data_is_allowed() -> None:
    """The numbers of the payment providers' documentation are nobody's."""
    for written in ("4111 1111 1111 1111", "4242-4242-4242-4242", "5555555555554444", "378282246310005"):
        assert found_in(f"Use {written} to try it.") == []
        assert found_in(f"Use {written} to try it.", allow_synthetic=False) == [("card", written)]


# --- IBANs ---------------------------------------------------------------------------------------


@st.composite
def ibans(draw: st.DrawFn) -> str:
    """A number with its country's length and its check digits, by the standard: 98 less the remainder with 00."""
    country = draw(st.sampled_from(sorted(IBAN_LENGTHS)))
    letters = draw(st.text(st.sampled_from("ABCDEFGHKLMNPRSTUVWXZ"), max_size=4))
    number = letters + draw(digits(IBAN_LENGTHS[country] - 4 - len(letters)))
    spelled = "".join(str(int(character, 36)) for character in f"{number}{country}00")
    assume(not is_dummy(only_digits(number)))
    return f"{country}{98 - int(spelled) % 97:02}{number}"


@given(ibans(), st.sampled_from(["", " "]))
def test_every_iban_is_found_in_one_piece_and_in_groups(number: str, separator: str) -> None:
    """Country, length and the remainder by 97 make an IBAN."""
    assert is_found("iban", separator.join(number[start : start + 4] for start in range(0, len(number), 4)))


@given(ibans(), st.integers(4, 40))
def test_swapped_characters_make_it_no_iban(number: str, place: int) -> None:
    """The remainder by 97 finds a transposition."""
    place = 4 + place % (len(number) - 5)
    wrong = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assume(wrong != number)
    assert ("iban", wrong) not in found_in(f"It is {wrong}.")


def test_the_registrys_examples_pass_and_a_bank_code_behind_ends_it() -> None:
    """Examples that models know by heart are nobody's; what follows in capitals is no part of the number."""
    assert found_in("GB82 WEST 1234 5698 7654 32, DE89370400440532013000") == []
    iban = "DE44 5001 0517 5407 3249 31"
    assert found_in(f"IBAN {iban} BIC INGDDEFF") == [("iban", iban)]


# --- contacts ------------------------------------------------------------------------------------

NAME = st.from_regex(r"[a-z]{2,8}[._][a-z]{2,8}[0-9]{0,3}", fullmatch=True)
HOST = st.sampled_from(["gmail.com", "mail.web.de", "outlook.co.uk", "bücher.example-shop.fr", "x1.io"])


@given(NAME, HOST)
def test_every_address_of_a_person_is_found(name: str, host: str) -> None:
    """A name at a host of the Internet."""
    assert is_found("email", f"{name}@{host}")
    assert found_in(f"<{name}+shop@{host.upper()}>") == [("email", f"{name}+shop@{host.upper()}")]


@given(NAME, st.sampled_from(["example.com", "mail.example.org", "shop.test", "x.invalid", "yourcompany.com"]))
def test_addresses_of_examples_pass_unless_nothing_may(name: str, host: str) -> None:
    """What RFC 2606 reserves belongs to nobody."""
    assert found_in(f"Write to {name}@{host}.") == []
    assert found_in(f"Write to {name}@{host}.", allow_synthetic=False) == [("email", f"{name}@{host}")]


@st.composite
def american_phones(draw: st.DrawFn) -> tuple[str, str, str]:
    """Area, exchange and line as the numbering plan has them, none of them kept for fiction or free of charge."""
    area = draw(st.sampled_from(["212", "415", "305", "646", "780"]))
    exchange = draw(st.sampled_from("234678")) + draw(digits(2))
    line = draw(digits(4))
    assume(not is_dummy(area + exchange + line))
    return area, exchange, line


@given(american_phones(), st.sampled_from(["{}-{}-{}", "({}) {}-{}", "+1 {} {} {}", "1-{}-{}-{}", "{}.{}.{}"]))
def test_american_phones_are_found(parts: tuple[str, str, str], form: str) -> None:
    """With the punctuation that people write."""
    assert is_found("phone", form.format(*parts))


@pytest.mark.parametrize("written", ["+44 20 7183 8750", "+49 (0)30 9018 2000", "+33 1 42 68 53 00", "+5511982347061"])
def test_international_phones_are_found(written: str) -> None:
    """A plus, a country code that exists, nine to fifteen digits."""
    assert is_found("phone", written)


@pytest.mark.parametrize(
    "written", ["06 42 85 53 19", "020 7183 8750", "(0161) 234 5029", "07912 345 086", "01865 270000"]
)
def test_national_phones_are_found(written: str) -> None:
    """French and British numbers as they are written there."""
    assert ("phone", written) in found_in(f"Ring {written} after six.")
    assert ("phone", written) in found_in(f"Mine: {written}")


@pytest.mark.parametrize("before", ["Call me at", "My phone number is", "Tel.:", "text me on", "whatsapp"])
def test_words_that_ask_for_a_call_make_a_number_a_phone(before: str) -> None:
    """Ten bare digits are an order number elsewhere."""
    assert found_in(f"{before} 0171 5839204 please") == [("phone", "0171 5839204")]
    assert found_in("Look up order 4158392047 please") == []


@pytest.mark.parametrize(
    "written",
    [
        "(212) 555-0142",
        "555-123-4567",
        "1-800-275-2273",
        "888-280-4331",
        "123-456-7890",
        "+44 20 7946 0958",
        "+1 415 555 0199",
        "000-000-0000",
        "07700 900 461",
        "0800 169 3500",
    ],
)
def test_numbers_of_fiction_and_toll_free_lines_pass(written: str) -> None:
    """They reach nobody, or a company."""
    assert found_in(f"Please call {written} now.") == []


@given(st.integers(0x01000000, 0xDFFFFFFF))
@example(0x4A7D1364)
def test_routed_addresses_are_found(number: int) -> None:
    """IPv4 that is assigned to somebody, but not in the form of a version."""
    written = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    reserved = re.match(r"(?:0|10|100|127|169|172|192|198|203|22[4-9]|2[3-5]\d)\.", written)
    assume(not reserved and len(written) > 9)
    assert is_found("ip", written)
    assert found_in(f"Version {written} is out") == []


def test_ipv6_and_addresses_that_are_nobodys() -> None:
    """Global unicast is found; private, documentation and name servers' addresses pass."""
    assert is_found("ip", "2a02:8109:9a40:1d3c::7f2b")
    for written in ("192.168.1.1", "10.0.0.7", "203.0.113.9", "192.0.2.44", "8.8.8.8", "2001:db8::1", "fe80::1", "::1"):
        assert found_in(f"Ping {written} first.") == []
    assert found_in("Ping 192.168.1.17 first.", allow_synthetic=False) == [("ip", "192.168.1.17")]


# --- national ids --------------------------------------------------------------------------------


@given(st.integers(1, 899).filter(lambda area: area != 666), st.integers(1, 99), st.integers(1, 9999))
def test_social_security_numbers_are_found(area: int, group: int, serial: int) -> None:
    """Within the rules of what was ever given out; bare only behind the words that say so."""
    written = f"{area:03}-{group:02}-{serial:04}"
    assume(not is_dummy(only_digits(written)) and only_digits(written) not in {"078051120", "219099999"})
    assert is_found("national_id", written)
    bare = only_digits(written)
    assert found_in(f"my social security number is {bare}") == [("national_id", bare)]


@given(st.sampled_from(["000-12-3459", "666-12-3459", "912-12-3459", "412-00-3459", "412-12-0000", "078-05-1120"]))
def test_numbers_that_social_security_never_gave_out_pass(written: str) -> None:
    """Area 000, 666 and 9xx, group 00 and serial 0000 do not exist; one was printed on a wallet's card."""
    assert found_in(f"It is {written}.") == []


@pytest.mark.parametrize(
    "written",
    [
        "AB 38 41 57 C",
        "54362315K",
        "X2482300-W",
        "2 69 05 49 588 157 80",
        "86 095 742 719",
        "47 036 892 816",
        "529.982.247-25",
        "MRTMTT91D08F205J",
    ],
)
def test_ids_of_other_countries_are_found_and_a_wrong_check_is_not(written: str) -> None:
    """UK, ES (DNI, NIE), FR, DE (two forms), BR, IT; another last character fits no more."""
    assert ("national_id", written) in found_in(f"It is {written}.")
    last = "E" if written[-1] != "E" else "F"
    wrong = written[:-1] + (last if written[-1].isalpha() else str((int(written[-1]) + 3) % 10))
    assert "national_id" not in dict(found_in(f"It is {wrong}."))


def test_a_national_insurance_number_in_one_piece_needs_its_name() -> None:
    """`AB384157C` may be an order number."""
    assert found_in("Your order AB384157C has left.") == []
    assert found_in("My NI number is AB384157C") == [("national_id", "AB384157C")]


# --- what is none --------------------------------------------------------------------------------

ORDINARY = """
Your order 114-3941689-8772232 from 2024-03-11 at 10:45 comes to $1,299.00, of which 19 % are tax.
Tracking number 1Z999AA10123456784, parcel 00340434161094042557, reference RMA-2024-000481.
Firmware 10.14.6.2 replaces v4.2.13.1; see section 12.4.10.3 of the manual, pages 100-110 and 200.300.400.
Invoice INV-20240311-0042 (customer 20481937) is due on 31.12.2024, and the meter reads 004 829 173 kWh.
The ISBN is 978-3-16-148410-0, the EAN 4006381333931, the colour #3c2a1f and the size 10 x 20 x 30.
Mention @anna or icon@2x.png, run getty@tty1.service, install react@18.2.0 and call foo@bar.
It costs 1 200 300 400 yen, or 12 345 678.90 at +15.5 %, between 2019 and 2024, 24/7, for 5-10 people.
The serial number is 5CG8250XKQ, the IMEI ends in 0482, and the code is 849 204 until 11:59 pm.
Write to support@billingpro.com or billing@acme.io, or call our line at 1-800-555-0143 or 555-0100.
The range 2001:0db8:85a3::8a2e:370:7334 is for documentation, and std::vector<int> at 12:30:45 is code.
"""


@pytest.mark.parametrize("line", ORDINARY.strip().splitlines())
def test_the_numbers_of_ordinary_support_pass(line: str) -> None:
    """Orders, parcels, prices, dates, versions and serial numbers are nobody's secret."""
    assert found_in(line) == []


# --- the rule and the redaction ------------------------------------------------------------------

LEAKY = "Sure, write to jan.kowalski@gmail.com or jan.k@wp.pl, or call 212-736-5093; card 4532 0151 1283 0366."


def test_a_drop_names_the_kinds_and_not_the_data() -> None:
    """What was found does not come up again in the reason."""
    drop = breach_of(conversation_of(QUESTION, REPLY, QUESTION, LEAKY), pii="drop")
    assert drop == Drop(Stage.FILTER, "pii", "assistant: email, phone, card")
    assert reason_of(breach_of(example_of(user=LEAKY), pii={})) == "pii"


@pytest.mark.parametrize("setting", ["redact", "keep", False, None])
def test_only_dropping_is_a_filter(setting: object) -> None:
    """What is redacted or kept goes on."""
    assert breach_of(example_of(user=LEAKY), pii=setting) is None


def test_only_the_kinds_that_are_named_count() -> None:
    """The others are as if they were not there."""
    assert breach_of(example_of(LEAKY), pii={"kinds": ["iban", "ip"]}) is None
    drop = breach_of(example_of(LEAKY), pii={"kinds": ["card", "ip"]})
    assert drop is not None
    assert drop.detail == "user: card"


def test_redaction_puts_marks_and_counts_them() -> None:
    """The text around stays as it was; a second pass finds nothing; the marks are no placeholders."""
    redact = build_redaction(Filters(pii=Pii(action="redact")))
    done = redact(example_of(user=LEAKY))
    assert done.user == "Sure, write to [EMAIL] or [EMAIL], or call [PHONE]; card [CARD]."
    assert done.assistant == REPLY
    assert done.redacted == {"card": 1, "email": 2, "phone": 1}
    assert redact(done).messages == done.messages
    assert breach_of(done, placeholder=True) is None


def test_a_mark_that_the_model_wrote_is_a_placeholder() -> None:
    """Only where something of its kind was redacted is it ours."""
    redact = build_redaction(Filters(pii=Pii(action="redact")))
    for text in ("Write to [EMAIL] please.", f"Write to [NATIONAL_ID], {LEAKY}"):
        assert reason_of(breach_of(redact(example_of(user=text)), placeholder=True)) == "placeholder"


def test_without_redaction_an_example_stays_the_same_object() -> None:
    """Nothing to redact, nothing made anew; other actions change no text."""
    clean, leaky = example_of(), example_of(LEAKY)
    assert build_redaction(Filters(pii=Pii(action="redact")))(clean) is clean
    assert build_redaction(Filters())(leaky) is leaky
    assert set(MARKS) == set(KINDS)


@given(st.text(st.sampled_from("0123456789 .-+()/@:aAbZXé[]\n")) | st.text())
@example("1" * 3000)
@example("1 " * 3000)
@example("a" * 3000 + "@")
@example("+1.1.1.1." * 400)
def test_no_text_makes_the_search_fail_or_wander(text: str) -> None:
    """Findings lie in the text, in order, and do not overlap."""
    for allow_synthetic in (True, False):
        findings = find_pii(text, KINDS, allow_synthetic=allow_synthetic)
        edges = [edge for finding in findings for edge in (finding.start, finding.end)]
        assert edges == sorted(edges)
        assert all(finding.start < finding.end <= len(text) for finding in findings)
