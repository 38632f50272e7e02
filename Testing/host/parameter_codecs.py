"""How typed values are stored as the texts and node references of a vtkMRMLScriptedModuleNode, in Slicer's form."""

from __future__ import annotations

import enum
import logging
import pathlib
import types
import typing
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any, NamedTuple

import slicer

from .parameter_annotations import (
    Decimals,
    Default,
    IsInstance,
    NotNone,
    SingleStep,
    Validator,
    find_annotation,
    split_hint,
)

PATH_TYPES = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


class Codec:
    """Reads and writes one type under one name of the node."""

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


class _TextCodec(Codec):
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


class _NoneCodec(Codec):
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


class _NodeCodec(Codec):
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


class _ListCodec(Codec):
    """Lists: `<name>_len` and `<name>_0`, `<name>_1`, ..."""

    def __init__(self, element: Codec, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.element = element
        self.cached = element.cached

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list | BoundList)

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

    def read(self, node: Any, name: str) -> BoundList:
        items = [self.element.read(node, f"{name}_{index}") for index in range(self._length(node, name))]
        return BoundList(items, lambda values: self.write(node, name, values), lambda: self.read(node, name)._items)

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._length(node, name)):
                self.element.remove(node, f"{name}_{index}")
            node.UnsetParameter(f"{name}_len")


class _TupleCodec(Codec):
    """Tuples of fixed length: `<name>_0`, `<name>_1`, ..."""

    def __init__(self, elements: list[Codec], validators: list[Validator]) -> None:
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


class _DictCodec(Codec):
    """Dictionaries, stored as the list of their items."""

    def __init__(self, key: Codec, value: Codec, validators: list[Validator]) -> None:
        super().__init__(validators)
        self._items = _ListCodec(_TupleCodec([key, value], []), [])
        self.cached = self._items.cached

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict | BoundDict)

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

    def read(self, node: Any, name: str) -> BoundDict:
        items = dict(self._items.read(node, name))
        return BoundDict(items, lambda values: self.write(node, name, values), lambda: self.read(node, name)._items)

    def remove(self, node: Any, name: str) -> None:
        self._items.remove(node, name)


class _UnionCodec(Codec):
    """One of several types: `<name>_<index of the type>`."""

    def __init__(self, members: list[Codec], validators: list[Validator]) -> None:
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


class _PackCodec(Codec):
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

    def _members(self) -> Iterator[tuple[str, Codec]]:
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


class BoundList(MutableSequence):
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

    def __iadd__(self, items: Any) -> BoundList:
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
        return self._items == (other._items if isinstance(other, BoundList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"


class BoundDict(MutableMapping):
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
        return self._items == (other._items if isinstance(other, BoundDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedDict({self._items})"


def make_codec(datatype: Any) -> tuple[Codec, list]:
    """Return the codec of a hint and the annotations that are no validators."""
    type_, annotations = split_hint(datatype)
    validators = [a() if isinstance(a, type) else a for a in annotations if _is_validator(a)]
    return codec_of(type_, validators), [a for a in annotations if not _is_validator(a)]


def _is_validator(annotation: Any) -> bool:
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))


def codec_of(type_: Any, validators: list[Validator]) -> Codec:
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
        return _ListCodec(make_codec(arguments[0])[0], validators)
    if origin is tuple and arguments and Ellipsis not in arguments:
        return _TupleCodec([make_codec(argument)[0] for argument in arguments], validators)
    if origin is dict and len(arguments) == 2:
        return _DictCodec(make_codec(arguments[0])[0], make_codec(arguments[1])[0], validators)
    if origin is typing.Union:
        return _UnionCodec([make_codec(argument)[0] for argument in arguments], validators)
    hint = "; write Optional[X] or Union[X, Y]" if origin is types.UnionType else ""
    raise TypeError(f"Unable to create serializer for type: {type_}{hint}")


class Parameter(NamedTuple):
    basename: str
    codec: Codec
    default: Default
    unalteredType: Any


def parameters_of(cls: type) -> dict[str, Parameter]:
    """Return the typed members of a class; a wrong hint or default fails here, that is when the file is loaded."""
    parameters = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        try:
            codec, annotations = make_codec(hint)
        except TypeError as error:
            raise TypeError(f"Unable to create serializer for {cls.__name__} member {name}: {error}") from error
        default = find_annotation(annotations, Default)
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
        parameters[name] = Parameter(name, codec, default, hint)
    return parameters


def split_name(name: str) -> tuple[str, str]:
    top, _, rest = name.partition(".")
    return top, rest


def data_type(parameters: dict[str, Parameter], name: str) -> Any:
    top, rest = split_name(name)
    if top not in parameters:
        raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(parameters)}")
    datatype = parameters[top].unalteredType
    if not rest:
        return datatype
    pack = split_hint(datatype)[0]
    if not isParameterPack(pack):
        raise ValueError(f"{top} is no parameter pack and has no member {rest}")
    return data_type(pack.allParameters, rest)


def reserve_names(cls: type, members: dict[str, Any]) -> None:
    for name, value in members.items():
        if name != "__setattr__" and hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in {cls.__name__}")
        setattr(cls, name, value)


def isParameterPack(obj: Any) -> bool:
    return getattr(obj, "_is_parameterPack", False)
