"""Plain data as JSON: what comes back where no pickle of the cluster's may be opened.

What JSON has no word for is a list of its name and its content; so is every list. Nothing that is
read runs code: there are no classes, functions or modules in it.

    None, True, 1, 0.5, "text"      themselves
    ["int", "0x..."]                a number beyond 64 bits
    ["bytes", "..."]                in Base64; also "bytearray"
    ["list", [...]]                 also "tuple", "set", "frozenset"
    ["dict", [[key, value], ...]]   in its order
"""

from binascii import a2b_base64, b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

_LARGEST = 2**63
_COLLECTIONS: "Dict[str, Any]" = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_BYTES: "Dict[str, Any]" = {"bytes": bytes, "bytearray": bytearray}


class NotPlain(TypeError):
    """A value is no plain data; the text says which part of it."""


def to_plain(value: "Any", where: str = "it") -> "Any":
    """Return what JSON can hold in place of a value.

    Only the types themselves are taken: a subclass would come back as something else.

    Raises:
        NotPlain: There is something else in it.
        RecursionError: It holds itself, or is too deep.
    """
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if -_LARGEST < value < _LARGEST else ["int", hex(value)]
    name = kind.__name__
    if _BYTES.get(name) is kind:
        return [name, b2a_base64(value).decode("ascii").strip()]
    if _COLLECTIONS.get(name) is kind:
        return [name, [to_plain(v, "{}[{}]".format(where, n)) for n, v in enumerate(value)]]
    if kind is dict:
        pairs = []
        for key, item in value.items():
            inside = "{}[{!r:.100}]".format(where, key)
            pairs.append([to_plain(key, "a key of " + where), to_plain(item, inside)])
        return ["dict", pairs]
    full = "{}.{}".format(kind.__module__, kind.__qualname__).replace("builtins.", "", 1)
    raise NotPlain("{} is of type {}, which is no plain data".format(where, full))


def from_plain(data: "Any") -> "Any":
    """Return the value that was made plain.

    Raises:
        ValueError: This is not how plain data is written.
    """
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if not isinstance(data, list) or len(data) != 2 or not isinstance(data[0], str):
        raise ValueError("this is not plain data")
    name, content = data
    if name == "int" and isinstance(content, str):
        return int(content, 16)
    if name in _BYTES and isinstance(content, str):
        return _BYTES[name](a2b_base64(content))
    if name in _COLLECTIONS and isinstance(content, list):
        return _COLLECTIONS[name](map(from_plain, content))
    if name == "dict" and isinstance(content, list) and all(map(_is_pair, content)):
        return {from_plain(key): from_plain(item) for key, item in content}
    raise ValueError("this is not plain data")


def _is_pair(data: "Any") -> bool:
    return isinstance(data, list) and len(data) == 2
