"""E-mail addresses, phone numbers and IP addresses in a text.

What reaches nobody in person passes where synthetic data is allowed: names and numbers that are reserved for examples
and fiction, mailboxes of a role ("info@" is no personal data, as the European Commission's page "What is personal
data?" has it), toll-free lines, addresses that are not routed, and public name servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from synth_async.stages.filters.pii.finding import Finding, Window, is_dummy, matches, only_digits, stands_after

__all__ = ["find_emails", "find_ips", "find_phones"]

# --- e-mail --------------------------------------------------------------------------------------

_EMAIL = re.compile(r"(?<![\w.+%-])([\w.+%-]{1,64})@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24})(?![\w@-])")
# RFC 2606 and RFC 6761, and the names of private networks.
_RESERVED_DOMAIN = re.compile(
    r"(?:.*\.)?(?:example\.(?:com|org|net|edu)|(?:your|my)[\w-]*\.\w+"
    r"|[^.]+\.(?:test|example|invalid|localhost|local|internal|lan|home|corp))"
)
# `icon@2x.png`, `getty@tty1.service`: file names in the form of an address.
_LISTED_FILE_SUFFIXES = "png jpg jpeg gif svg webp pdf service socket timer target mount conf"
_FILE_SUFFIXES = frozenset(_LISTED_FILE_SUFFIXES.split())
_LISTED_ROLES = (
    "abuse accounts accounting admin administrator billing bookings booking careers care claims compliance contact "
    "customercare customerservice customersupport customer-service customer-support desk dpo enquiries feedback "
    "finance git hello help helpdesk help-desk hostmaster hr info inquiries invoices it jobs legal mail "
    "mailer-daemon marketing media membership news newsletter no-reply noreply no_reply notifications office "
    "operations orders order payments payroll postmaster press privacy purchasing receipts reception refunds "
    "reservations returns root sales security service services shipping staff subscriptions support team tech "
    "techsupport tickets unsubscribe warranty webmaster welcome"
)
_ROLES = frozenset(_LISTED_ROLES.split())


def find_emails(text: str, *, allow_synthetic: bool) -> Iterator[Finding]:
    """E-mail addresses with a name of the Internet behind the @."""
    for found in _EMAIL.finditer(text):
        local, domain = found[1].lower().strip("."), found[2].lower()
        if domain.rpartition(".")[2] in _FILE_SUFFIXES:
            continue
        if allow_synthetic and (local.partition("+")[0] in _ROLES or _RESERVED_DOMAIN.fullmatch(domain)):
            continue
        yield Finding(*found.span(), "email")


# --- phone ---------------------------------------------------------------------------------------

_FEWEST_DIGITS = 8

# With punctuation as people write it; area and exchange begin with 2-9 (North American Numbering Plan).
_NORTH_AMERICAN = re.compile(
    r"(?<![\w+.-])(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\)[ -]?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}([ .-])[2-9]\d{2}\1\d{4}"
    r"|[2-9]\d{2} [2-9]\d{2}-\d{4})(?![\w-]|\.\d)"
)
# E.164: a plus, the country code, at most 15 digits in all.
_INTERNATIONAL = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,13}\d(?!\w|[.-]\d)")
_COUNTRY_CODE = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|21[1-368]|2[2-6]\d|29[0-9]|3[578]\d|42[0-3]|50\d|59\d"
    r"|67\d|68\d|69\d|800|808|85\d|87\d|88\d|96\d|97\d|99\d"
)
_FRENCH = re.compile(r"(?<![\w+.,-])0[1-79](?:[ .]\d{2}){4}(?![\w]|[ .]\d)")
_BRITISH = re.compile(
    r"(?<![\w+.,-])\(?0(?:7\d{3}\)? \d{3} ?\d{3}|2\d\)? \d{4} ?\d{4}|1(?:1\d|\d1)\)? \d{3} ?\d{4}|1\d{3}\)? \d{5,6}"
    r"|(?:3|8)\d{2}\)? \d{3} ?\d{4})(?![\w]|[ -]\d)"
)
# Any other number counts where the words before it say that it is one to call.
_ANY_NUMBER = re.compile(r"(?<![\w+.,/-])\(?\d(?:[ ().\-/]{0,2}\d){7,14}(?![\w]|[.,/-]\d)")
_CALLED = re.compile(
    r"\b(?:phone|tel|telephone|mobile|cell(?:phone)?|call(?:ed|ing)?|text(?:ed)?|whatsapp|fax|sms|ring|dial|my number)"
    r"\b"
    r"(?:[ :.,#()-]|\b(?:number|no|nr|is|at|on|me|us|him|her|my|via|to|the|back|directly|line)\b){0,9}$",
    re.IGNORECASE,
)
_TOLL_FREE = frozenset(("800", "833", "844", "855", "866", "877", "888"))
# Kept for fiction: Ofcom, "Telephone numbers for use in TV and radio drama programmes"; Arcep, decision 2009-0637.
_FICTION = re.compile(
    r"(?:44|0)(?:1632960\d{3}|2079460\d{3}|7700900\d{3}|1(?:1[3-8]|21|31|41|51|61)4960\d{3}|1914980\d{3}|28964960\d{2}"
    r"|2920180\d{3}|8081570\d{3}|3069990\d{3})"
    r"|(?:33|0)(?:19900|26191|35301|46571|53649|63998)\d{4}"
)
_BRITISH_FREE = re.compile(r"(?:44|0)80[08]\d{7}")


def find_phones(text: str, windows: Sequence[Window], *, allow_synthetic: bool) -> Iterator[Finding]:
    """Phone numbers in a form that nothing else has, and other long numbers where the words before say so."""
    for pattern in (_NORTH_AMERICAN, _INTERNATIONAL, _FRENCH, _BRITISH, _ANY_NUMBER):
        for found in matches(pattern, text, windows, digits=_FEWEST_DIGITS):
            digits = only_digits(found[0])
            if pattern is _ANY_NUMBER and not stands_after(_CALLED, text, found.start()):
                continue
            if pattern is _INTERNATIONAL and not _COUNTRY_CODE.match(digits):
                continue
            if not (allow_synthetic and _reaches_nobody(digits)):
                yield Finding(*found.span(), "phone")


def _reaches_nobody(digits: str) -> bool:
    if is_dummy(digits) or _FICTION.fullmatch(digits) or _BRITISH_FREE.fullmatch(digits):
        return True
    national = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    if len(national) != 10:
        return False
    # Area code 555 is not assigned; 555-0100 to 555-0199 are kept for fiction in every area.
    return national[:3] in _TOLL_FREE or national.startswith("555") or national[3:8] == "55501"


# --- IP ------------------------------------------------------------------------------------------

# What stands before is looked at afterwards: an expression that looks behind tries every character of a text.
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
# Global unicast, 2000::/3, is all that is assigned to anybody.
_IPV6 = re.compile(r"[23][0-9a-fA-F]{3}(?::{1,2}[0-9a-fA-F]{1,4}){1,7}(?:::)?(?![\w:])")
_VERSION = re.compile(
    r"\b(?:v|ver|versions?|releases?|builds?|firmware|driver|updated?|upgraded?|section|clause|chapter|os|app)"
    r"(?: to| from| is| on)?[ :.(=-]{0,3}$",
    re.IGNORECASE,
)
# Public name servers (others have single digits), and what stands in the place of an address.
_NOBODYS = frozenset(("208.67.222.222", "208.67.220.220", "123.45.67.89"))


def find_ips(text: str, *, allow_synthetic: bool) -> Iterator[Finding]:
    """IPv4 addresses that are no version number, and global IPv6 addresses."""
    for found in _alone(_IPV4, text) if text.count(".") > 2 else ():
        try:
            address = IPv4Address(found[0])
        except AddressValueError:
            continue
        if len(found[0]) == 7:
            continue  # 2.4.1.0 is a version or a section
        nobodys = not address.is_global or found[0] in _NOBODYS
        if not (allow_synthetic and nobodys) and not stands_after(_VERSION, text, found.start()):
            yield Finding(*found.span(), "ip")
    for found in _alone(_IPV6, text) if text.count(":") > 1 else ():
        try:
            nobodys = not IPv6Address(found[0]).is_global
        except AddressValueError:
            continue
        if not (allow_synthetic and nobodys):
            yield Finding(*found.span(), "ip")


def _alone(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for found in pattern.finditer(text):
        before = text[found.start() - 1 : found.start()] if found.start() else ""
        if not (before.isalnum() or before in {".", ":", "-", "_"}):
            yield found
