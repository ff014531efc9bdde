"""One-time codes that the time decides (TOTP, RFC 6238), none of which is given twice.

Hosts take a code once. So whoever logs in with the same codes waits until the login before has
ended, and until the next code holds: before a host is called, as hosts hang up on those who are
slow to answer (sshd's LoginGraceTime).
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyotp

from clustrix_prefect.errors import AuthenticationFailed, ConfigurationError

_PERIOD = 30
_HASHES = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
_CODE = re.compile(r"[0-9]{6,10}\Z")
# The longest period is two minutes (RFC 6238 recommends half a minute); it is looked each half.
_MOST_LOOKS = 6
_REMEDY = (
    "Give the text behind the QR code that set up the authenticator (otpauth://totp/...), its seed "
    "in base32, or a reference to one of them."
)


class _Totp(pyotp.TOTP):
    min_secret_length_bits = 0  # the site chose it; many hand out 80 bits


@dataclass
class _Given:
    """What was given of one account's codes in this process."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    period: int = -1
    code: str = field(default="", repr=False)


_given: defaultdict[str, _Given] = defaultdict(_Given)


class OneTimeCodes:
    """The codes of an account, for one login.

    Args:
        name: Tells these codes from others; no secret.
        read: What gives the code that holds at a time (seconds since 1970).
        period: Seconds that a code holds for, and a multiple of which each begins at.

    Attributes:
        period: Seconds that a code holds for.
        count: How many codes this login was given.
    """

    def __init__(self, name: str, read: Callable[[float], str], period: int = _PERIOD) -> None:
        self.count = 0
        self._read = read
        self.period = period
        self._given = _given[name]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Log in while nobody else in this process does with these codes.

        The context begins once there is a code that was not given yet.
        """
        with self._given.turn:
            self.await_next()
            yield

    def await_next(self) -> None:
        """Wait until the last code that was given does not hold any more."""
        while (now := time.time()) // self.period <= self._given.period:
            time.sleep(self.period - now % self.period)

    def next(self) -> str:
        """Return a code that was not given yet; the caller has its turn.

        Raises:
            AuthenticationFailed: There is none.
            CredentialError: It cannot be asked for.
        """
        for _ in range(_MOST_LOOKS):
            self.await_next()
            now = time.time()
            code = self._read(now)
            self._given.period = int(now // self.period)
            if code != self._given.code:
                self._given.code = code
                self.count += 1
                return code
        raise AuthenticationFailed(
            f"The one-time code has not changed for {_MOST_LOOKS * self.period} seconds.",
            "Look whether the reference in `totp` leads to a one-time password.",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def codes_of_seed(text: str) -> OneTimeCodes:
    """Return the codes that are made from a seed.

    Args:
        text: An `otpauth://totp/...` URI (the Key Uri Format of Google Authenticator), or a seed
            in base32, with or without spaces.

    Raises:
        ConfigurationError: It is neither. Nothing of it is in the message.
    """
    try:
        codes = _Totp(**_parameters(text.strip()))
        codes.at(0)
    except (ValueError, binascii.Error):  # not chained: they may hold a part of it
        raise _not_a_seed("is no seed in base32") from None
    name = hashlib.sha256(f"{codes.secret} {codes.interval}".encode()).hexdigest()
    return OneTimeCodes(name, codes.at, codes.interval)


def _parameters(text: str) -> dict[str, Any]:
    if not text.lower().startswith("otpauth:"):
        if _CODE.match(text):
            raise _not_a_seed("is a code, which holds for seconds, and no seed")
        return {"s": _compact(text)}
    uri = urlsplit(text)
    if uri.netloc.lower() != "totp":
        raise _not_a_seed("is an otpauth:// URI of another kind than totp")
    query = {name.lower(): value for name, value in parse_qsl(uri.query)}
    algorithm = query.get("algorithm", "SHA1").upper().replace("-", "")
    if algorithm not in _HASHES:
        raise _not_a_seed("names an algorithm that is not SHA1, SHA256 or SHA512")
    digits, period = query.get("digits", "6"), query.get("period", str(_PERIOD))
    if not query.get("secret"):
        raise _not_a_seed("is an otpauth:// URI without a secret")
    if digits not in ("6", "7", "8") or not period.isdecimal() or not 1 <= int(period) <= 120:
        raise _not_a_seed("has other digits than 6 to 8, or a period that is not 1 to 120 seconds")
    return {
        "s": _compact(query["secret"]),
        "digits": int(digits),
        "digest": _HASHES[algorithm],
        "interval": int(period),
    }


def _compact(seed: str) -> str:
    """Return a seed without what makes it easier to read, and without its padding."""
    return re.sub(r"[\s-]", "", seed).upper().rstrip("=")


def _not_a_seed(why: str) -> ConfigurationError:
    return ConfigurationError(f"What `totp` holds or leads to {why}.", _REMEDY)
