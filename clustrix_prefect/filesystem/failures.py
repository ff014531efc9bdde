"""What went wrong far away, raised here as what it would be here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from clustrix_prefect.errors import AgentError

_WITHOUT_NUMBER: dict[str, type[Exception]] = {
    "Error": shutil.Error,
    "OSError": OSError,
    "SameFileError": shutil.SameFileError,
    "UnicodeEncodeError": ValueError,
    "ValueError": ValueError,
}


def error_of(failed: Mapping[str, Any], path: str | None = None) -> Exception:
    """Return the exception that says what the far side met.

    Args:
        failed: What the far side said.
        path: The path as the caller wrote it, in place of the far side's.
    """
    if "errno" in failed:
        # OSError makes FileNotFoundError and its like from the number.
        names = [path if path is not None else failed.get("filename")]
        if "filename2" in failed:
            names = [failed.get("filename"), None, failed["filename2"]]
        return OSError(failed["errno"], failed["strerror"], *names)
    if failed["type"] in _WITHOUT_NUMBER:
        return _WITHOUT_NUMBER[failed["type"]](failed["text"])
    return AgentError(failed["text"], type=failed["type"])
