"""Typed access to the parameters of a vtkMRMLScriptedModuleNode, bound to widgets.

Written from Slicer's documentation of `slicer.parameterNodeWrapper` and its stored form, so that scenes can be
exchanged; `application.start` installs it under that name. Where Slicer lets a mistake pass (an unknown attribute, a bool
in an int parameter, an invalid default) this raises. Not emulated, and therefore failing at import or connection: own
serializers and connectors, `createGui`, QColor parameters, subject hierarchy widgets.
"""

from __future__ import annotations

import enum
import logging
import pathlib
import types
import typing
import weakref
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any, NamedTuple

import ctk
import qt
import slicer
import vtk

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "isParameterPack",
    "parameterNodeWrapper",
    "parameterPack",
]

SlicerParameterNamePropertyName = "SlicerParameterName"
PATH_TYPES = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


# Annotations


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


def _split(datatype: Any) -> tuple[Any, list]:
    """Return the type and the annotations of a hint."""
    if typing.get_origin(datatype) is typing.Annotated:
        inner, *annotations = typing.get_args(datatype)
        return inner, annotations
    return datatype, []


def _find(annotations: list, kind: type) -> Any:
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)


# How values are stored. A codec reads and writes one type under one name of the node.


class _Codec:
    cached = True

    def __init__(self, validators: list[Validator]) -> None:
        self.validators = validators

    def accepts(self, value: Any) -> bool:
        """Return whether a union member of this type takes the value."""
        raise NotImplementedError

    def check_type(self, value: Any) -> None:
        raise NotImplementedError

    def check(self, value: Any) -> None:
        self.check_type(value)
        for validator in self.validators:
            validator.validate(value)

    def default(self) -> Any:
        raise NotImplementedError

    def holds(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        self.store(node, name, value)

    def store(self, node: Any, name: str, value: Any) -> None:
        raise NotImplementedError

    def read(self, node: Any, name: str) -> Any:
        raise NotImplementedError

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _TextCodec(_Codec):
    """Types that are one string."""

    def __init__(self, type_: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.type = type_

    def accepts(self, value: Any) -> bool:
        if self.type is float:
            return type(value) is float
        return type(value) is self.type if self.type in (int, bool, str) else isinstance(value, self.type)

    def check_type(self, value: Any) -> None:
        NotNone().validate(value)
        if isinstance(value, bool) and self.type is not bool:
            raise TypeError(f"Value must be of type {self.type}, is the bool {value}, which cannot be read back")
        IsInstance((int, float) if self.type is float else self.type).validate(value)

    def default(self) -> Any:
        return next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()

    def store(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        if self.type is bool:
            return text == "True"
        if issubclass(self.type, enum.Enum):
            if text not in self.type.__members__:
                raise ValueError(f"Found {text!r} in parameter node but it is not a name in {self.type!r}")
            return self.type[text]
        return self.type(text)


class _NoneCodec(_Codec):
    """The None of an optional value."""

    def accepts(self, value: Any) -> bool:
        return value is None

    def check_type(self, value: Any) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def default(self) -> None:
        return None

    def store(self, node: Any, name: str, value: None) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> None:
        return None


class _NodeCodec(_Codec):
    """Node references; an empty parameter of the same name tells a stored None from nothing stored."""

    def __init__(self, type_: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.type = type_

    def accepts(self, value: Any) -> bool:
        return isinstance(value, self.type)

    def check_type(self, value: Any) -> None:
        IsInstance(self.type).validate(value)

    def default(self) -> None:
        return None

    def store(self, node: Any, name: str, value: Any) -> None:
        if value is not None and value.GetScene() is not node.GetScene():
            raise ValueError(f"Node {value.GetName()!r} is not in the scene of the parameter node")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _ListCodec(_Codec):
    """Lists: `<name>_len` and `<name>_0`, `<name>_1`, ..."""

    def __init__(self, element: _Codec, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.element = element
        self.cached = element.cached

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list | _BoundList)

    def check_type(self, value: Any) -> None:
        if isinstance(value, str):
            raise TypeError(f"Value must be a list, is the string {value!r}")
        for item in value:
            self.element.check(item)

    def default(self) -> list:
        return []

    def holds(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}_len"))

    def _length(self, node: Any, name: str) -> int:
        return int(node.GetParameter(f"{name}_len")) if self.holds(node, name) else 0

    def store(self, node: Any, name: str, value: Any) -> None:
        items = list(value)
        with slicer.util.NodeModify(node):
            for index in range(len(items), self._length(node, name)):
                self.element.remove(node, f"{name}_{index}")
            for index, item in enumerate(items):
                self.element.store(node, f"{name}_{index}", item)
            node.SetParameter(f"{name}_len", str(len(items)))

    def read(self, node: Any, name: str) -> _BoundList:
        items = [self.element.read(node, f"{name}_{index}") for index in range(self._length(node, name))]
        return _BoundList(items, lambda values: self.write(node, name, values), lambda: self.read(node, name)._items)

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._length(node, name)):
                self.element.remove(node, f"{name}_{index}")
            node.UnsetParameter(f"{name}_len")


class _TupleCodec(_Codec):
    """Tuples of fixed length: `<name>_0`, `<name>_1`, ..."""

    def __init__(self, elements: list[_Codec], validators: list[Validator]) -> None:
        super().__init__(validators)
        self.elements = elements
        self.cached = all(element.cached for element in elements)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, tuple)

    def check_type(self, value: Any) -> None:
        if isinstance(value, str) or len(value) != len(self.elements):
            raise ValueError(f"Value must be a tuple of {len(self.elements)} values, is {value!r}")
        for element, item in zip(self.elements, value, strict=True):
            element.check(item)

    def default(self) -> tuple:
        return tuple(element.default() for element in self.elements)

    def holds(self, node: Any, name: str) -> bool:
        return self.elements[0].holds(node, f"{name}_0")

    def store(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            for index, (element, item) in enumerate(zip(self.elements, value, strict=True)):
                element.store(node, f"{name}_{index}", item)

    def read(self, node: Any, name: str) -> tuple:
        return tuple(element.read(node, f"{name}_{index}") for index, element in enumerate(self.elements))

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, element in enumerate(self.elements):
                element.remove(node, f"{name}_{index}")


class _DictCodec(_Codec):
    """Dictionaries, stored as the list of their items."""

    def __init__(self, key: _Codec, value: _Codec, validators: list[Validator]) -> None:
        super().__init__(validators)
        self._items = _ListCodec(_TupleCodec([key, value], []), [])
        self.cached = self._items.cached

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict | _BoundDict)

    def check_type(self, value: Any) -> None:
        if not self.accepts(value):
            raise TypeError(f"Value must be a dict, is {value!r}")
        self._items.check(list(value.items()))

    def default(self) -> dict:
        return {}

    def holds(self, node: Any, name: str) -> bool:
        return self._items.holds(node, name)

    def store(self, node: Any, name: str, value: Any) -> None:
        self._items.store(node, name, list(value.items()))

    def read(self, node: Any, name: str) -> _BoundDict:
        items = dict(self._items.read(node, name))
        return _BoundDict(items, lambda values: self.write(node, name, values), lambda: self.read(node, name)._items)

    def remove(self, node: Any, name: str) -> None:
        self._items.remove(node, name)


class _UnionCodec(_Codec):
    """One of several types: `<name>_<index of the type>`."""

    def __init__(self, members: list[_Codec], validators: list[Validator]) -> None:
        super().__init__(validators)
        self.members = members
        self.cached = all(member.cached for member in members)

    def accepts(self, value: Any) -> bool:
        return any(member.accepts(value) for member in self.members)

    def _member(self, value: Any) -> int:
        for index, member in enumerate(self.members):
            if member.accepts(value):
                member.check(value)
                return index
        raise TypeError(f"Unable to write value {value!r} of type {type(value)}")

    def check_type(self, value: Any) -> None:
        self._member(value)

    def default(self) -> Any:
        optional = len(self.members) == 2 and isinstance(self.members[1], _NoneCodec)
        return None if optional else self.members[0].default()

    def holds(self, node: Any, name: str) -> bool:
        return any(member.holds(node, f"{name}_{index}") for index, member in enumerate(self.members))

    def store(self, node: Any, name: str, value: Any) -> None:
        index = self._member(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.members[index].store(node, f"{name}_{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, member in enumerate(self.members):
            if member.holds(node, f"{name}_{index}"):
                return member.read(node, f"{name}_{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self.members):
                member.remove(node, f"{name}_{index}")


class _PackCodec(_Codec):
    """Parameter packs: `<name>.<member>`."""

    cached = False

    def __init__(self, type_: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.type = type_

    def accepts(self, value: Any) -> bool:
        return isinstance(value, self.type)

    def check_type(self, value: Any) -> None:
        NotNone().validate(value)
        IsInstance(self.type).validate(value)

    def default(self) -> Any:
        return self.type()

    def _members(self) -> Iterator[tuple[str, _Codec]]:
        for name, info in self.type.allParameters.items():
            yield name, info.codec

    def holds(self, node: Any, name: str) -> bool:
        first, codec = next(self._members())
        return codec.holds(node, f"{name}.{first}")

    def store(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            for member, codec in self._members():
                codec.store(node, f"{name}.{member}", value._pack_values[member])

    def read(self, node: Any, name: str) -> Any:
        pack = self.type.__new__(self.type)
        object.__setattr__(pack, "_pack_values", self._read_values(node, name))

        def save() -> None:
            self.write(node, name, pack)
            object.__setattr__(pack, "_pack_values", self._read_values(node, name))

        object.__setattr__(pack, "_pack_save", save)
        return pack

    def _read_values(self, node: Any, name: str) -> dict[str, Any]:
        return {member: codec.read(node, f"{name}.{member}") for member, codec in self._members()}

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for member, codec in self._members():
                codec.remove(node, f"{name}.{member}")


class _BoundList(MutableSequence):
    """A list that writes itself to the parameter node whenever it changes; `+` and `*` are refused as in Slicer."""

    def __init__(self, items: list, save: Callable[[list], None], reload: Callable[[], list]) -> None:
        self._items = items
        self._save_items = save
        self._reload = reload

    def _save(self) -> None:
        try:
            self._save_items(self._items)
        finally:
            self._items = self._reload()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, item: Any) -> None:
        self._items[index] = item
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._save()

    def insert(self, index: int, item: Any) -> None:
        self._items.insert(index, item)
        self._save()

    def extend(self, items: Any) -> None:
        self._items.extend(items)
        self._save()

    def __iadd__(self, items: Any) -> _BoundList:
        self.extend(items)
        return self

    def clear(self) -> None:
        self._items.clear()
        self._save()

    def sort(self, **kwargs: Any) -> None:
        self._items.sort(**kwargs)
        self._save()

    def reverse(self) -> None:
        self._items.reverse()
        self._save()

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, _BoundList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"


class _BoundDict(MutableMapping):
    """A dictionary that writes itself to the parameter node whenever it changes."""

    def __init__(self, items: dict, save: Callable[[dict], None], reload: Callable[[], dict]) -> None:
        self._items = items
        self._save_items = save
        self._reload = reload

    def _save(self) -> None:
        try:
            self._save_items(self._items)
        finally:
            self._items = self._reload()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator:
        return iter(self._items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value
        self._save()

    def __delitem__(self, key: Any) -> None:
        del self._items[key]
        self._save()

    def get(self, key: Any) -> Any:  # no default argument in Slicer either
        return self._items.get(key)

    def pop(self, key: Any) -> Any:
        value = self._items.pop(key)
        self._save()
        return value

    def clear(self) -> None:
        self._items.clear()
        self._save()

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, _BoundDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedDict({self._items})"


def _make_codec(datatype: Any) -> tuple[_Codec, list]:
    """Return the codec of a hint and the annotations that are no validators."""
    type_, annotations = _split(datatype)
    validators = [a() if isinstance(a, type) else a for a in annotations if _is_validator(a)]
    return _codec_of(type_, validators), [a for a in annotations if not _is_validator(a)]


def _is_validator(annotation: Any) -> bool:
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))


def _codec_of(type_: Any, validators: list[Validator]) -> _Codec:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if type_ is type(None):
        return _NoneCodec(validators)
    if isinstance(type_, type) and origin is None:
        if isParameterPack(type_):
            return _PackCodec(type_, validators)
        if type_ in (int, float, str, bool, *PATH_TYPES):
            return _TextCodec(type_, validators)
        if issubclass(type_, enum.Enum) and len(type_) > 0:
            return _TextCodec(type_, validators)
        if issubclass(type_, slicer.vtkMRMLNode):
            return _NodeCodec(type_, validators)
    if origin is list and len(arguments) == 1:
        return _ListCodec(_make_codec(arguments[0])[0], validators)
    if origin is tuple and arguments and Ellipsis not in arguments:
        return _TupleCodec([_make_codec(argument)[0] for argument in arguments], validators)
    if origin is dict and len(arguments) == 2:
        return _DictCodec(_make_codec(arguments[0])[0], _make_codec(arguments[1])[0], validators)
    if origin is typing.Union:
        return _UnionCodec([_make_codec(argument)[0] for argument in arguments], validators)
    hint = "; write Optional[X] or Union[X, Y]" if origin is types.UnionType else ""
    raise TypeError(f"Unable to create serializer for type: {type_}{hint}")


class _Parameter(NamedTuple):
    basename: str
    codec: _Codec
    default: Default
    unalteredType: Any


def _parameters_of(cls: type) -> dict[str, _Parameter]:
    """Return the typed members of a class; a wrong hint or default fails here, that is when the file is loaded."""
    parameters = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        try:
            codec, annotations = _make_codec(hint)
        except TypeError as error:
            raise TypeError(f"Unable to create serializer for {cls.__name__} member {name}: {error}") from error
        default = _find(annotations, Default)
        if hasattr(cls, name):
            default = Default(getattr(cls, name))
        elif default is None:
            default = Default(generator=codec.default)
        try:
            codec.check(default.value)
        except Exception as error:
            raise ValueError(f"The default of {cls.__name__}.{name} is not valid: {error}") from error
        unused = [a for a in annotations if not isinstance(a, Default | Decimals | SingleStep)]
        if unused:
            logging.warning("Unused annotations: %s", unused)
        parameters[name] = _Parameter(name, codec, default, hint)
    return parameters


def _dotted(name: str) -> tuple[str, str]:
    top, _, rest = name.partition(".")
    return top, rest


def _data_type(parameters: dict[str, _Parameter], name: str) -> Any:
    top, rest = _dotted(name)
    if top not in parameters:
        raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(parameters)}")
    datatype = parameters[top].unalteredType
    if not rest:
        return datatype
    pack = _split(datatype)[0]
    if not isParameterPack(pack):
        raise ValueError(f"{top} is no parameter pack and has no member {rest}")
    return _data_type(pack.allParameters, rest)


def _reserve(cls: type, members: dict[str, Any]) -> None:
    for name, value in members.items():
        if name != "__setattr__" and hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in {cls.__name__}")
        setattr(cls, name, value)


# Parameter packs


def isParameterPack(obj: Any) -> bool:
    return getattr(obj, "_is_parameterPack", False)


def parameterPack(classtype: type | None = None) -> Any:
    """Class decorator: a group of parameters that is stored and bound member by member."""
    return _make_pack if classtype is None else _make_pack(classtype)


def _pack_property(name: str) -> property:
    def setter(self: Any, value: Any) -> None:
        self.allParameters[name].codec.check(value)
        self._pack_values[name] = value
        self._pack_save()

    return property(lambda self: self._pack_values[name], setter)


def _make_pack(cls: type) -> type:
    parameters = _parameters_of(cls)
    if not parameters:
        raise ValueError("Unable to find any members in parameterPack")
    own_init = cls.__dict__.get("__init__")

    def fill(self: Any) -> None:
        values = {name: parameter.default.value for name, parameter in parameters.items()}
        object.__setattr__(self, "_pack_values", values)
        object.__setattr__(self, "_pack_save", lambda: None)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        fill(self)
        if own_init is not None:
            own_init(self, *args, **kwargs)
            return
        if len(args) > len(parameters):
            raise TypeError(f"{cls.__name__} takes {len(parameters)} values, got {len(args)}")
        for name, value in [*zip(parameters, args, strict=False), *kwargs.items()]:
            if name not in parameters:
                raise TypeError(f"__init__() got an unexpected keyword argument '{name}'")
            setattr(self, name, value)

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(f"'{cls.__name__}' has no attribute '{name}' and attributes cannot be added")
        object.__setattr__(self, name, value)

    def get_value(self: Any, name: str) -> Any:
        top, rest = _dotted(name)
        _data_type(parameters, top)
        return getattr(self, top).getValue(rest) if rest else getattr(self, top)

    def set_value(self: Any, name: str, value: Any) -> None:
        top, rest = _dotted(name)
        _data_type(parameters, top)
        if rest:
            getattr(self, top).setValue(rest, value)
        else:
            setattr(self, top, value)

    _reserve(
        cls,
        {
            "allParameters": parameters,
            "_is_parameterPack": True,
            "getValue": get_value,
            "setValue": set_value,
            "dataType": staticmethod(lambda name: _data_type(parameters, name)),
            "__setattr__": set_attribute,
        },
    )
    for name in parameters:
        setattr(cls, name, _pack_property(name))
    cls.__init__ = init  # type: ignore[misc]
    if "__eq__" not in cls.__dict__:
        cls.__eq__ = lambda self, other: (  # type: ignore[assignment, method-assign]
            isinstance(other, cls) and self._pack_values == other._pack_values
        )
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = lambda self: f"{cls.__name__}({self._pack_values})"  # type: ignore[method-assign]
    return cls


@parameterPack
class FloatRange:
    """Two floats, the first not above the second."""

    _minimum: float
    _maximum: float

    def __init__(self, minimum: float = 0.0, maximum: float = 0.0) -> None:
        self.setRange(minimum, maximum)

    @property
    def minimum(self) -> float:
        return self._minimum

    @minimum.setter
    def minimum(self, value: float) -> None:
        self.setRange(value, self.maximum)

    @property
    def maximum(self) -> float:
        return self._maximum

    @maximum.setter
    def maximum(self, value: float) -> None:
        self.setRange(self.minimum, value)

    def setRange(self, minimum: float, maximum: float) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self._minimum = minimum
        self._maximum = maximum


# The wrapper


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: typed members of a vtkMRMLScriptedModuleNode, which the constructor takes."""
    return _make_wrapper if classtype is None else _make_wrapper(classtype)


def _wrapper_property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


class _WrapperState:
    """What one wrapper object holds besides the node: values read, widgets bound."""

    def __init__(self, node: Any, parameters: dict[str, _Parameter], prefix: str) -> None:
        self.node = node
        self.parameters = parameters
        self.prefix = prefix
        self.values: dict[str, Any] = {}
        self.writing = False
        self.guis: dict[int, dict[str, _Connector]] = {}
        self.next_tag = 0
        self.updating_gui = False
        for name, parameter in parameters.items():
            if not parameter.codec.holds(node, prefix + name):
                parameter.codec.write(node, prefix + name, parameter.default.value)
        self.refresh()
        # The observer must not keep this object alive: modules drop wrappers on every scene close.
        this = weakref.ref(self)
        self.observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _on_modified(this()))

    def __del__(self) -> None:
        if "observer" in self.__dict__:
            self.node.RemoveObserver(self.observer)

    def refresh(self) -> None:
        """Read the values anew; what is missing (the scene was closed) gets its default."""
        for name, parameter in self.parameters.items():
            if parameter.codec.cached:
                self.values[name] = self.stored(name)

    def stored(self, name: str) -> Any:
        parameter = self.parameters[name]
        if not parameter.codec.holds(self.node, self.prefix + name):
            parameter.codec.write(self.node, self.prefix + name, parameter.default.value)
        return parameter.codec.read(self.node, self.prefix + name)

    def read(self, name: str) -> Any:
        return self.values[name] if self.parameters[name].codec.cached else self.stored(name)

    def write(self, name: str, value: Any) -> None:
        codec = self.parameters[name].codec
        self.writing = True
        try:
            # The value is read back before any observer runs.
            with slicer.util.NodeModify(self.node):
                codec.write(self.node, self.prefix + name, value)
                if codec.cached:
                    self.values[name] = codec.read(self.node, self.prefix + name)
        finally:
            self.writing = False


def _on_modified(state: _WrapperState | None) -> None:
    if state is None:
        return
    if not state.writing:
        state.refresh()


def _make_wrapper(cls: type) -> type:
    parameters = _parameters_of(cls)

    def init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
        if not isinstance(parameterNode, slicer.vtkMRMLScriptedModuleNode):
            raise TypeError(f"{cls.__name__} wraps a vtkMRMLScriptedModuleNode, got {parameterNode!r}")
        object.__setattr__(self, "parameterNode", parameterNode)
        object.__setattr__(self, "_state", _WrapperState(parameterNode, parameters, prefix or ""))

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"'{cls.__name__}' has no parameter '{name}'; there are {list(parameters)}")
        object.__setattr__(self, name, value)

    def get_value(self: Any, name: str) -> Any:
        _data_type(parameters, name)
        top, rest = _dotted(name)
        value = self._state.read(top)
        return value.getValue(rest) if rest else value

    def set_value(self: Any, name: str, value: Any) -> None:
        _data_type(parameters, name)
        top, rest = _dotted(name)
        if rest:
            self._state.read(top).setValue(rest, value)
        else:
            self._state.write(top, value)

    _reserve(
        cls,
        {
            "allParameters": parameters,
            "_is_parameter_node_wrapper": True,
            "default": lambda self, name: parameters[name].default,
            "isCached": lambda self, name: parameters[name].codec.cached,
            "dataType": staticmethod(lambda name: _data_type(parameters, name)),
            "getValue": get_value,
            "setValue": set_value,
            "connectGui": _connect_gui,
            "connectParametersToGui": _connect_parameters_to_gui,
            "disconnectGui": _disconnect_gui,
            "StartModify": lambda self: self.parameterNode.StartModify(),
            "EndModify": lambda self, wasModified: self.parameterNode.EndModify(wasModified),
            "AddObserver": lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
                event, callback, priority
            ),
            "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
            "Modified": lambda self: self.parameterNode.Modified(),
            "__setattr__": set_attribute,
        },
    )
    for name in parameters:
        setattr(cls, name, _wrapper_property(name))
    cls.__init__ = init  # type: ignore[misc]
    return cls


def _connect_gui(self: Any, gui: Any) -> int:
    """Bind every widget that has the property SlicerParameterName; `gui` is a widget or what childWidgetVariables gave."""
    is_widget = getattr(gui, "isWidgetType", lambda: False)()
    widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
    mapping: dict[str, Any] = {}
    for widget in widgets:
        name = widget.property(SlicerParameterNamePropertyName)
        if not name:
            continue
        if name in mapping:
            raise ValueError(f"Two widgets have the SlicerParameterName {name!r}; Slicer would bind one of them")
        mapping[name] = widget
    return _connect_parameters_to_gui(self, mapping)


def _connect_parameters_to_gui(self: Any, mapping: dict[str, Any]) -> int:
    state = self._state
    connectors = {name: _make_connector(widget, self.dataType(name)) for name, widget in mapping.items()}
    tag = state.next_tag
    state.next_tag += 1
    state.guis[tag] = connectors
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.connect(_gui_to_parameter(self, name, connector))
    # As in Slicer this observer stays until the node goes; without bound widgets it does nothing.
    self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: _parameters_to_gui(self))
    return tag


def _disconnect_gui(self: Any, guiTag: int | None) -> None:
    for connector in self._state.guis.pop(guiTag, {}).values():
        connector.disconnect()


def _gui_to_parameter(wrapper: Any, name: str, connector: _Connector) -> Callable[[], None]:
    def changed() -> None:
        with slicer.util.NodeModify(wrapper):
            if not wrapper._state.updating_gui:
                wrapper.setValue(name, connector.read())

    return changed


def _parameters_to_gui(wrapper: Any) -> None:
    state = wrapper._state
    if state.updating_gui:
        return
    state.updating_gui = True
    try:
        with slicer.util.NodeModify(wrapper):
            for connectors in list(state.guis.values()):
                for name, connector in connectors.items():
                    connector.write(wrapper.getValue(name))
    finally:
        state.updating_gui = False


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None


# Connectors: one widget class, one type


class _Connector:
    signal = "valueChanged"

    def __init__(self, widget: Any, type_: Any, annotations: list) -> None:
        self.widget = widget
        self.type = type_
        self._callback: Callable[[], None] | None = None
        self.prepare(annotations)

    def prepare(self, annotations: list) -> None:
        """Give the widget the limits and items that the type asks for; what the .ui said is lost."""

    def read(self) -> Any:
        return self.widget.value

    def write(self, value: Any) -> None:
        self.widget.value = value

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def connect(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        getattr(self.widget, self.signal).connect(self.changed)

    def disconnect(self) -> None:
        self._callback = None
        getattr(self.widget, self.signal).disconnect(self.changed)


class _Check(_Connector):
    signal = "toggled"

    def prepare(self, annotations: list) -> None:
        if not self.widget.checkable:
            logging.warning("Making push button %s checkable for conversion to bool", self.widget.objectName)
            self.widget.checkable = True

    def read(self) -> bool:
        return self.widget.checked

    def write(self, value: bool) -> None:
        self.widget.checked = value


class _Number(_Connector):
    must_be_bounded = False
    unbounded: tuple[float, float] = (float("-inf"), float("inf"))

    def prepare(self, annotations: list) -> None:
        decimals, step = _find(annotations, Decimals), _find(annotations, SingleStep)
        if decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        within = _find(annotations, WithinRange)
        low, high = within or _find(annotations, Minimum), within or _find(annotations, Maximum)
        if self.must_be_bounded and (low is None or high is None):
            raise RuntimeError(f"Cannot connect a {type(self.widget).__name__} to a number without a range")
        self.widget.minimum = self.unbounded[0] if low is None else low.minimum
        self.widget.maximum = self.unbounded[1] if high is None else high.maximum

    def read(self) -> Any:
        return self.type(self.widget.value)


class _BoundedNumber(_Number):
    must_be_bounded = True


class _Integer(_Number):
    unbounded = (-(2**31), 2**31 - 1)


class _BoundedInteger(_Integer):
    must_be_bounded = True


class _Combo(_Connector):
    signal = "currentIndexChanged"

    def prepare(self, annotations: list) -> None:
        choice = _find(annotations, Choice)
        if isinstance(self.type, type) and issubclass(self.type, enum.Enum):
            label = getattr(self.type, "label", lambda member: member.name)
            self.choices = list(self.type)
            labels = [label(member) for member in self.choices]
        elif choice is not None:
            self.choices = list(choice.choices)
            labels = [str(item) for item in self.choices]
        else:
            raise RuntimeError("A combo box needs the Choice annotation or an Enum")
        self.widget.clear()
        for text in labels:
            self.widget.addItem(text)

    def read(self) -> Any:
        return self.choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Unable to find value {value} in choices {self.choices}")
        self.widget.currentIndex = self.choices.index(value)


class _Line(_Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.text

    def write(self, value: str) -> None:
        self.widget.text = value


class _Label(_Line):
    """One way: a label shows the parameter."""

    def connect(self, callback: Callable[[], None]) -> None:
        pass

    def disconnect(self) -> None:
        pass


class _Text(_Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.toPlainText()

    def write(self, value: str) -> None:
        self.widget.setPlainText(value)


class _Path(_Connector):
    signal = "currentPathChanged"

    def read(self) -> Any:
        return self.type(self.widget.currentPath)

    def write(self, value: Any) -> None:
        self.widget.currentPath = str(value)


class _Directory(_Connector):
    signal = "directoryChanged"

    def read(self) -> Any:
        return self.type(self.widget.directory)

    def write(self, value: Any) -> None:
        self.widget.directory = str(value)


class _Range(_Connector):
    signal = "valuesChanged"

    def prepare(self, annotations: list) -> None:
        decimals, step = _find(annotations, Decimals), _find(annotations, SingleStep)
        bounds = _find(annotations, RangeBounds)
        if bounds is None:
            raise RuntimeError(f"Cannot connect a {type(self.widget).__name__} without the RangeBounds annotation")
        if decimals is not None:
            self.widget.decimals = decimals.value
        if step is not None:
            self.widget.singleStep = step.value
        self.widget.setRange(bounds.minimum, bounds.maximum)

    def read(self) -> FloatRange:
        return FloatRange(self.widget.minimumValue, self.widget.maximumValue)

    def write(self, value: FloatRange) -> None:
        self.widget.setValues(value.minimum, value.maximum)


class _Node(_Connector):
    signal = "currentNodeChanged"

    def prepare(self, annotations: list) -> None:
        self.widget.nodeTypes = [node_type.__name__ for node_type in _node_types(self.type)]

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


def _node_types(type_: Any) -> list[type]:
    """Return the node classes of a hint, or nothing if it is about something else."""
    members = typing.get_args(type_) if typing.get_origin(type_) is typing.Union else (type_,)
    nodes = [_split(member)[0] for member in members if member is not type(None)]
    return nodes if all(isinstance(node, type) and issubclass(node, slicer.vtkMRMLNode) for node in nodes) else []


def _make_connector(widget: Any, datatype: Any) -> _Connector:
    type_, annotations = _split(datatype)
    connector = _connector_class(type(widget), type_)
    if connector is None:
        raise RuntimeError(
            f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget).__name__}'"
        )
    return connector(widget, type_, annotations)


def _connector_class(widget_class: type, type_: Any) -> type[_Connector] | None:
    """Return the connector for exactly this widget class and type; a subclass of a known widget is unknown."""
    is_enum = isinstance(type_, type) and issubclass(type_, enum.Enum)
    if widget_class in (qt.QComboBox, ctk.ctkComboBox) and (is_enum or type_ in (int, float, str, bool)):
        return _Combo
    if widget_class is slicer.qMRMLNodeComboBox and _node_types(type_):
        return _Node
    if type_ in PATH_TYPES:
        return {ctk.ctkPathLineEdit: _Path, ctk.ctkDirectoryButton: _Directory}.get(widget_class)
    if type_ is bool:
        buttons = (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton, ctk.ctkCheckablePushButton)
        return _Check if widget_class in buttons else None
    if type_ is str:
        return {qt.QLineEdit: _Line, qt.QTextEdit: _Text, qt.QLabel: _Label}.get(widget_class)
    if type_ is FloatRange:
        ranges = (ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider, slicer.qMRMLRangeWidget)
        return _Range if widget_class in ranges else None
    if type_ is int and widget_class in (qt.QSlider, qt.QSpinBox):
        return _BoundedInteger if widget_class is qt.QSlider else _Integer
    if type_ in (int, float):
        if widget_class in (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget, ctk.ctkDoubleSlider):
            return _BoundedNumber
        if widget_class in (qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox):
            return _Number
    return None
