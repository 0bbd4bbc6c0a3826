"""Text from outside as terminals, JSON, XML and pipes between processes take it."""

import re
from typing import Any

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What colours the output of a compiler; it says nothing once it is kept."""
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters but for tab and line feed, what separates lines or turns the order of letters besides, lone
surrogates (which no UTF-8 holds), and what is no character."""


def plain(text: str) -> str:
    r"""Text without colours, lines ended by line feeds, and what no terminal or file takes in words, such as `\x1b`."""
    return _UNFIT.sub(_in_words, _COLOUR.sub("", text.replace("\r\n", "\n")))


def plain_data(data: Any) -> Any:
    """Plain data (lists, dicts, text, numbers) with every text in it made `plain`."""
    if isinstance(data, str):
        return plain(data)
    if isinstance(data, list):
        return [plain_data(value) for value in data]
    if isinstance(data, dict):
        return {plain_data(key): plain_data(value) for key, value in data.items()}
    return data


def _in_words(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
