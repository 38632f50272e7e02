"""Annotations of parameters: defaults, limits of values, and what a widget is told about them."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, NamedTuple


class Default:
    """Default value of a parameter; a generator is called each time the default is needed."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Decimals(NamedTuple):
    value: int


class SingleStep(NamedTuple):
    value: float


class Validator:
    """Base of the checks that a value passes before it is stored."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError(type(self).__name__)


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype: type | tuple) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {value!r} of type {type(value)}")


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if not value >= self.minimum:
            raise ValueError(f"Value must not be less than {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if not value <= self.maximum:
            raise ValueError(f"Value must not be greater than {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: list) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value!r}, but must be one of {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues: list) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value {value!r} is excluded: {self.excludedValues}")


class RangeBounds(Validator):
    """Bounds of both ends of a FloatRange."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value.minimum < self.minimum or value.maximum > self.maximum:
            raise ValueError(
                f"Range must be within [{self.minimum}, {self.maximum}], is [{value.minimum}, {value.maximum}]"
            )


def split_hint(datatype: Any) -> tuple[Any, list]:
    """Return the type and the annotations of a hint."""
    if typing.get_origin(datatype) is typing.Annotated:
        inner, *annotations = typing.get_args(datatype)
        return inner, annotations
    return datatype, []


def find_annotation(annotations: list, kind: type) -> Any:
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)
