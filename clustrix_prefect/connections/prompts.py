"""What a host's question asks for, by its words.

They are those of PAM's modules (unix, sss, oath, google_authenticator, duo, radius, krb5) and of
SecurID.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_TIME = re.compile(r"one[- ]?time([- ]?(pass ?(word|code)|code|pin|token))?|\bOTP\b", re.I)
_CODE = re.compile(
    r"\b(code|t?otp|token\w*|passcode|verification|2fa|mfa|second factor|two[- ](factor|step))\b"
    r"|\bauthenticator\b",
    re.I,
)
_PASSWORD = re.compile(r"pass ?(word|wort|phrase)|mot de passe|contraseña|senha|first factor", re.I)
_ONE_AFTER_THE_OTHER = re.compile(r"[+&]|\b(and|then|followed by)\b", re.I)
_PIN = re.compile(r"\bpin\b", re.I)


@dataclass(frozen=True)
class Prompt:
    """What a question asks for.

    Attributes:
        code: Whether for a one-time code.
        password: Whether for a password or passphrase.
        pin: Whether for a PIN.
        in_turn: Whether for several of them in one answer, one after the other.
    """

    code: bool
    password: bool
    pin: bool
    in_turn: bool

    @classmethod
    def read(cls, question: str) -> Prompt:
        """Read a question."""
        text = _ONE_TIME.sub(" code ", question)
        return cls(
            code=bool(_CODE.search(text)),
            password=bool(_PASSWORD.search(text)),
            pin=bool(_PIN.search(text)),
            in_turn=bool(_ONE_AFTER_THE_OTHER.search(text)),
        )

    @property
    def is_for_code_alone(self) -> bool:
        """Whether it asks for a one-time code, and for nothing besides."""
        return self.code and not self.password and not self.pin
