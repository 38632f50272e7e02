"""Parameter packs: groups of parameters that are stored and bound member by member."""

from __future__ import annotations

from typing import Any

from .parameter_codecs import data_type, parameters_of, reserve_names, split_name


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
    parameters = parameters_of(cls)
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
        top, rest = split_name(name)
        data_type(parameters, top)
        return getattr(self, top).getValue(rest) if rest else getattr(self, top)

    def set_value(self: Any, name: str, value: Any) -> None:
        top, rest = split_name(name)
        data_type(parameters, top)
        if rest:
            getattr(self, top).setValue(rest, value)
        else:
            setattr(self, top, value)

    for name in parameters:
        setattr(cls, name, _pack_property(name))
    reserve_names(
        cls,
        {
            "allParameters": parameters,
            "_is_parameterPack": True,
            "getValue": get_value,
            "setValue": set_value,
            "dataType": staticmethod(lambda name: data_type(parameters, name)),
            "__setattr__": set_attribute,
        },
    )
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
