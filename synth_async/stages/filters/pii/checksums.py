"""Checksums of numbers that carry one. Each takes the bare number and says whether it can be one of its kind."""

from __future__ import annotations

__all__ = ["codice_fiscale_holds", "cpf_holds", "dni_holds", "luhn_holds", "mod97_holds", "nir_holds", "tax_id_holds"]

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_NIE_DIGITS = {"X": "0", "Y": "1", "Z": "2"}
_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def luhn_holds(digits: str) -> bool:
    """Luhn's formula (ISO/IEC 7812-1, annex B): every second digit from the right counts twice, its digits added."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod97_holds(iban: str) -> bool:
    """ISO 7064 MOD 97-10 as ISO 13616 uses it: the first four characters last, letters as 10-35, remainder 1."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def dni_holds(number: str) -> bool:
    """Spanish DNI (8 digits) or NIE (X, Y or Z and 7 digits) with its letter: the remainder by 23."""
    digits = _NIE_DIGITS.get(number[0], number[0]) + number[1:-1]
    return _DNI_LETTERS[int(digits) % 23] == number[-1]


def nir_holds(number: str) -> bool:
    """French NIR, 15 characters: the key is 97 less the remainder by 97; Corsica's 2A and 2B count as 19 and 18."""
    body = number[:13].replace("2A", "19").replace("2B", "18")
    return int(number[13:]) == 97 - int(body) % 97


def tax_id_holds(digits: str) -> bool:
    """German tax id, 11 digits: ISO 7064 MOD 11,10, and of the first ten digits just one occurs two or three times."""
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    if digits[0] == "0" or counts[0] not in (2, 3) or counts[1] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def cpf_holds(digits: str) -> bool:
    """Brazilian CPF, 11 digits: two check digits by weights from 10 and 11 down to 2; one digit repeated is none."""
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digit) * (length + 1 - position) for position, digit in enumerate(digits[:length]))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def codice_fiscale_holds(code: str) -> bool:
    """Italian codice fiscale, 16 characters: odd places by a table, even ones as they are, the sum's letter last."""
    total = 0
    for position, character in enumerate(code[:15]):
        value = int(character) if character.isdigit() else ord(character) - ord("A")
        total += value if position % 2 else _ODD_LETTERS[value]
    return chr(ord("A") + total % 26) == code[15]
