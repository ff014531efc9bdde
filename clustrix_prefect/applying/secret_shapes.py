"""What looks like a secret that is written out.

A word is a word: what has a harmless name and no shape of its own is not found.
"""

from __future__ import annotations

import re

# Words of a name: "HF_TOKEN", "apiToken" and "api-token" have two.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = re.compile(r".*(PASSWORD|PASSWD|PASSPHRASE)|TOKEN|SECRET|APIKEY|PAT", re.DOTALL)
_KINDS_OF_KEYS = frozenset({"API", "ACCESS", "PRIVATE", "SECRET", "ACCOUNT", "ENCRYPTION"})
# A name that ends so is of something beside a secret: where it lies, how long it holds.
_BESIDE = frozenset(
    {
        *("BUDGET", "COUNT", "DIR", "DIRECTORY", "EXPIRATION", "FILE", "ID", "KIND", "LENGTH"),
        *("LIMIT", "MAX", "MIN", "NAME", "PATH", "RATE", "REF", "SECONDS", "SIZE", "STORE", "TTL"),
        *("TYPE", "URI", "URL", "USER", "WINDOW"),
    }
)

_TOKEN = re.compile(
    r"""PRIVATE\ KEY-----
    | \bops_ey | \beyJ[\w-]{20,}\.                               # 1Password; a JSON web token
    | \bhf_[A-Za-z0-9]{16,} | \bgh[oprsu]_[A-Za-z0-9]{16,} | \bgithub_pat_\w{16,}
    | \bglpat-[\w-]{16,} | \bxox[abeoprs]-[\w-]{10,} | \bpn[ub]_\w{16,}
    | \bsk-(?:proj-|svcacct-|ant-api\d+-)?[A-Za-z0-9_]{20,}
    | \bnpm_[A-Za-z0-9]{16,} | \bpypi-AgE\w{16,} | \bdckr_pat_[\w-]{16,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b | \bAIza[\w-]{30,} | \bya29\.[\w-]{16,}
    | \b[Aa]uthorization:\s*\w+\s+(?![$`])[\w.+/=-]{8,}""",
    re.VERBOSE,
)
_PASSWORD_IN_URL = re.compile(r"://[^\s/@:]*:(?![$`])[^\s/@]+@")
# NAME=value, --name=value, --name value and tcsh's "setenv NAME value".
_ASSIGNED = re.compile(
    r"""(?:(?<![\w$./-]) (?:--)? ([A-Za-z_][\w-]*) \s*=
      | (?<![\w-]) --([A-Za-z][\w-]*) \s+
      | \bsetenv\s+ ([A-Za-z_]\w*) \s+
    ) (?= \s* ["']? ([^\s"';&|)]+) )""",
    re.VERBOSE,
)


def names_a_secret(name: str) -> bool:
    """Whether what is called so is a secret: `HF_TOKEN` is, `MAX_TOKENS` and `secretName` not."""
    words = [word.upper() for word in _WORDS.findall(name)]
    if not words or words[-1] in _BESIDE:
        return False
    if any(map(_SECRET_WORDS.fullmatch, words)) or (len(words) > 1 and words[-1] == "PWD"):
        return True
    return words[-1] == "KEY" and bool(_KINDS_OF_KEYS & set(words))


def holds_secret(text: str) -> bool:
    """Return whether a text has a secret in it: a token, a URL's password, an assignment of one."""
    if _TOKEN.search(text) or _PASSWORD_IN_URL.search(text):
        return True
    return any(
        names_a_secret(match[1] or match[2] or match[3]) and _is_literal(match[4])
        for match in _ASSIGNED.finditer(text)
    )


def is_secret_value(name: str, value: object) -> bool:
    """Return whether a value is a secret, given what it is called."""
    if value is None or isinstance(value, (bool, dict, list)):
        return False
    return names_a_secret(name) and _is_literal(str(value))


def _is_literal(text: str) -> bool:
    """Whether it is a value itself, and not one that a shell or Kubernetes puts in its place."""
    return text.lower() not in ("", "true", "false") and not text.startswith(("$", "`"))
