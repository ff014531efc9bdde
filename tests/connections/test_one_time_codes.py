"""One-time codes, and that none is given twice, on a clock of the test's own."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from clustrix_prefect.connections import one_time_codes
from clustrix_prefect.connections.one_time_codes import OneTimeCodes, codes_of_seed
from clustrix_prefect.errors import AuthenticationFailed, ConfigurationError

SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that sleeping puts forward."""
    clock = SimpleNamespace(now=1_000_000_000.0, slept=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        clock.slept += seconds

    told = SimpleNamespace(time=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(one_time_codes, "time", told)
    monkeypatch.setattr(
        one_time_codes, "_given", type(one_time_codes._given)(one_time_codes._Given)
    )
    return clock


# RFC 6238, appendix B: the seeds are as long as the hash.
@pytest.mark.parametrize(
    ("algorithm", "length", "at", "code"),
    [
        ("SHA1", 20, 59, "94287082"),
        ("SHA256", 32, 59, "46119246"),
        ("SHA512", 64, 59, "90693936"),
        ("SHA1", 20, 1111111109, "07081804"),
        ("SHA256", 32, 2000000000, "90698825"),
        ("sha-512", 64, 20000000000, "47863826"),
    ],
)
def test_codes_of_the_standard(
    clock: SimpleNamespace, algorithm: str, length: int, at: int, code: str
) -> None:
    clock.now = float(at)
    seed = base64.b32encode((b"1234567890" * 7)[:length]).decode()
    uri = f"otpauth://totp/Site:ana?secret={seed}&issuer=Site&algorithm={algorithm}&digits=8"
    assert codes_of_seed(uri).next() == code


def test_a_seed_as_people_are_shown_it(clock: SimpleNamespace) -> None:
    clock.now = 59.0
    spaced = " ".join(SEED[start : start + 4] for start in range(0, len(SEED), 4)).lower()
    assert codes_of_seed(f" {spaced}\n").next() == "287082"


def test_a_short_seed_of_a_site(clock: SimpleNamespace) -> None:
    assert len(codes_of_seed("JBSWY3DPEHPK3PXP").next()) == 6  # 80 bits


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("287082", "is a code, which holds for seconds"),
        ("secret-01189", "is no seed in base32"),
        ("otpauth://hotp/x?secret=SECRETAA&counter=1", "of another kind than totp"),
        ("otpauth://totp/x?issuer=SECRETAA", "without a secret"),
        ("otpauth://totp/x?secret=SECRET01", "is no seed in base32"),
        ("otpauth://totp/x?secret=SECRETAA&algorithm=MD5", "SHA1, SHA256 or SHA512"),
        ("otpauth://totp/x?secret=SECRETAA&digits=six", "other digits than 6 to 8"),
        ("otpauth://totp/x?secret=SECRETAA&period=0", "a period that is not 1 to 120"),
        ("otpauth://totp/x?secret=SECRETAA&digits=3", "other digits than 6 to 8"),
        ("otpauth://totp/x?secret=SECRETAA&period=121", "a period that is not 1 to 120"),
    ],
)
def test_what_is_refused_without_being_repeated(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        codes_of_seed(text)
    assert "secret" not in str(caught.value).lower().replace("without a secret", "")
    assert text not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "otpauth://totp/" in caught.value.remedy


def test_each_code_is_given_once(clock: SimpleNamespace) -> None:
    clock.now = 59.0
    first, second = codes_of_seed(SEED), codes_of_seed(f"otpauth://totp/x?secret={SEED}")
    with first.turn():
        given = first.next()
    assert clock.slept == 0
    with second.turn():
        assert clock.slept == 1.0  # for who comes next, before the host is called
        assert second.next() != given
    assert (first.count, second.count) == (1, 1)


def test_another_period_is_waited_for(clock: SimpleNamespace) -> None:
    uri = f"otpauth://totp/x?secret={SEED}&period=60"
    clock.now = 121.0
    codes = codes_of_seed(uri)
    given = [codes.next(), codes.next()]
    assert (clock.now, len(set(given))) == (180.0, 2)


def test_codes_of_others_are_not_waited_for(clock: SimpleNamespace) -> None:
    codes_of_seed(SEED).next()
    codes_of_seed("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").next()
    assert clock.slept == 0


class TestAsked:
    """Codes that a store of secrets makes: when they change is not told."""

    def test_is_asked_again_until_there_is_another(self, clock: SimpleNamespace) -> None:
        asked: list[float] = []

        def read(now: float) -> str:
            asked.append(now)
            return f"{int(now) // 60:06}"

        clock.now = 601.0
        codes = OneTimeCodes("op://x/y/z?attribute=otp", read)
        assert codes.next() == "000010"
        assert codes.next() == "000011"
        assert asked == [601.0, 630.0, 660.0]

    def test_what_never_changes_is_given_up(self, clock: SimpleNamespace) -> None:
        codes = OneTimeCodes("op://x/y/never?attribute=otp", lambda now: "123456")
        codes.next()
        with pytest.raises(AuthenticationFailed, match="has not changed for 180 seconds"):
            codes.next()


def test_two_at_once_take_turns() -> None:
    name, inside, most = str(uuid.uuid4()), [], []

    def log_in() -> None:
        codes = OneTimeCodes(name, str, period=1)
        with codes.turn():
            inside.append(1)
            most.append(len(inside))
            given.append(codes.next())
            inside.pop()

    given: list[str] = []
    threads = [threading.Thread(target=log_in) for _ in range(3)]
    began = time.time()
    _run_all(threads)
    assert len({float(one) // 1 for one in given}) == 3
    assert set(most) == {1}
    assert time.time() - began < 60


def _run_all(threads: list[threading.Thread]) -> None:
    steps: tuple[Callable[[threading.Thread], Any], ...] = (
        threading.Thread.start,
        threading.Thread.join,
    )
    for step in steps:
        for thread in threads:
            step(thread)


def test_neither_seed_nor_code_is_shown() -> None:
    codes = codes_of_seed(f"otpauth://totp/x?secret={SEED}&period=1")
    code = codes.next()
    shown = f"{codes!r} {codes} {one_time_codes._given!r}"
    assert SEED not in shown
    assert code not in shown
