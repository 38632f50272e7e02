"""Small charts drawn with Qt alone, in the colors of the application: Slicer ships no plotting package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import qt

BLUE, RED, GRAY, ORANGE = "#3b75af", "#d1495b", "#9aa3ab", "#d99a00"
LIGHTS = {"green": "#2e9d4f", "yellow": "#e0b000", "red": "#c8323c"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 24, 34
_LEGEND = 52  # pixels beside the axes, for more labels than fit into a corner of them
_CORNER_LABELS = 3


class Series(NamedTuple):
    """Points (or, with `line`, a line through them) of one color."""

    label: str
    color: str
    x: Sequence[float]
    y: Sequence[float]
    line: bool = False


def draw_chart(
    title: str, xlabel: str, ylabel: str, series: Sequence[Series], size: tuple[int, int] = (350, 210)
) -> Any:
    """Return a QPixmap of points and lines over axes with round ticks; values that are not finite are left out."""
    labels = [(one.label, one.color) for one in series if one.label]
    canvas = _Canvas(title, xlabel, ylabel, size, beside=len(labels) > _CORNER_LABELS)
    points = [
        (x, y) for one in series for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x) and math.isfinite(y)
    ]
    if not points:
        return canvas.empty()
    canvas.set_range([x for x, _ in points], [y for _, y in points])
    canvas.axes()
    for one in series:
        here = [canvas.at(*point) for point in _finite(one)]
        canvas.pen(one.color, 1.5 if one.line else 0.0)
        if one.line:
            for (x0, y0), (x1, y1) in zip(here, here[1:], strict=False):
                canvas.painter.drawLine(round(x0), round(y0), round(x1), round(y1))
        else:
            canvas.brush(one.color)
            for x, y in here:
                canvas.painter.drawEllipse(round(x) - 2, round(y) - 2, 4, 4)
    canvas.legend(labels)
    return canvas.done()


def draw_bars(
    title: str,
    ylabel: str,
    names: Sequence[str],
    groups: Sequence[tuple[str, str, Sequence[float]]],
    expected: float | None = None,
    size: tuple[int, int] = (350, 180),
) -> Any:
    """Return a QPixmap of bars side by side: `groups` hold label, color and a value per name.

    A dashed line is drawn at `expected`.
    """
    canvas = _Canvas(title, "", ylabel, size)
    values = [value for _, _, group in groups for value in group if math.isfinite(value)]
    if not values:
        return canvas.empty()
    labels = [(label, color) for label, color, _ in groups if label]
    top = max([*values, expected or 0.0]) * (1.08 + 0.14 * len(labels))  # the labels stand above the bars
    canvas.set_range([0.0, float(len(names))], [0.0, top], padded=False)
    canvas.axes(names)
    width = 0.7 / len(groups)
    for g, (_label, color, group) in enumerate(groups):
        canvas.pen(color, 0.0)
        canvas.brush(color)
        for n, value in enumerate(group):
            if math.isfinite(value):
                x0, y0 = canvas.at(n + 0.15 + g * width, value)
                x1, y1 = canvas.at(n + 0.15 + (g + 1) * width, 0.0)
                canvas.painter.drawRect(round(x0), round(y0), max(round(x1 - x0), 1), round(y1 - y0))
    if expected is not None:
        canvas.pen(ORANGE, 1.5, dashed=True)
        x0, y = canvas.at(0.0, expected)
        canvas.painter.drawLine(round(x0), round(y), round(canvas.at(float(len(names)), 0.0)[0]), round(y))
    canvas.legend(labels)
    return canvas.done()


def draw_light(light: str, size: int = 22) -> Any:
    """Return a QPixmap of a traffic light's color; an empty ring where nothing was assessed."""
    picture = qt.QPixmap(size, size)
    picture.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter()
    painter.begin(picture)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    pen = qt.QPen(qt.QColor(GRAY))
    pen.setWidthF(1.5)
    painter.setPen(pen)
    if light in LIGHTS:
        painter.setBrush(qt.QBrush(qt.QColor(LIGHTS[light])))
    painter.drawEllipse(2, 2, size - 4, size - 4)
    painter.end()
    return picture


class _Canvas:
    """A pixmap with a coordinate system."""

    def __init__(self, title: str, xlabel: str, ylabel: str, size: tuple[int, int], beside: bool = False) -> None:
        self.width, self.height = size
        self._right = self.width - (_LEGEND if beside else _RIGHT)
        palette = qt.QLabel().palette
        self._text = palette.color(qt.QPalette.WindowText)
        self.picture = qt.QPixmap(self.width, self.height)
        self.picture.fill(palette.color(qt.QPalette.Base))
        self.painter = qt.QPainter()
        self.painter.begin(self.picture)
        self.painter.setRenderHint(qt.QPainter.Antialiasing)
        self._labels = (xlabel, ylabel)
        self.text(0, 2, self.width, 18, title, qt.Qt.AlignCenter)

    def set_range(self, x: Sequence[float], y: Sequence[float], padded: bool = True) -> None:
        """Choose the range of both axes so that the values fit."""
        (self._x0, self._x1), (self._y0, self._y1) = (_padded(min(v), max(v), padded) for v in (x, y))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a value."""
        across = (x - self._x0) / (self._x1 - self._x0)
        up = (y - self._y0) / (self._y1 - self._y0)
        return (
            _LEFT + across * (self._right - _LEFT),
            self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM),
        )

    def axes(self, names: Sequence[str] = ()) -> None:
        """Draw frame, ticks and labels; `names` stand below bars instead of numbers."""
        left, right, bottom, top = _LEFT, self._right, self.height - _BOTTOM, _TOP
        for value in _ticks(self._y0, self._y1, 5):
            y = round(self.at(self._x0, value)[1])
            self.pen(GRAY, 0.5)
            self.painter.drawLine(left, y, right, y)
            self.text(16, y - 8, left - 20, 16, f"{value:g}", qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        if names:
            for n, name in enumerate(names):
                x0, x1 = self.at(n, self._y0)[0], self.at(n + 1, self._y0)[0]
                self.text(round(x0) - 10, bottom + 3, round(x1 - x0) + 20, 16, name, qt.Qt.AlignCenter)
        else:
            for value in _ticks(self._x0, self._x1, 6):
                x = round(self.at(value, self._y0)[0])
                self.text(x - 30, bottom + 2, 60, 16, f"{value:g}", qt.Qt.AlignCenter)
        self.pen(self._text, 1.0)
        self.painter.drawLine(left, top, left, bottom)
        self.painter.drawLine(left, bottom, right, bottom)
        xlabel, ylabel = self._labels
        self.text(left, self.height - 17, right - left, 16, xlabel, qt.Qt.AlignCenter)
        self.painter.save()
        self.painter.translate(12, (top + bottom) / 2)
        self.painter.rotate(-90)
        self.text(-100, -10, 200, 16, ylabel, qt.Qt.AlignCenter)
        self.painter.restore()

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write the labels in their colors into the upper right corner, or beside the axes."""
        end = self.width if self._right < self.width - _RIGHT else self._right
        for n, (label, color) in enumerate(entries):
            self.painter.setPen(qt.QPen(qt.QColor(color)))
            box = (_LEFT, _TOP + 2 + 15 * n, end - _LEFT - 4, 15)
            self.painter.drawText(*box, qt.Qt.AlignRight | qt.Qt.AlignVCenter, label)

    def text(self, x: int, y: int, width: int, height: int, text: str, align: Any) -> None:
        """Write a text into a box."""
        self.painter.setPen(qt.QPen(self._text))
        self.painter.drawText(int(x), int(y), int(width), int(height), int(align), text)

    def pen(self, color: Any, width: float, dashed: bool = False) -> None:
        """Draw lines in a color from now on; width 0 means no line."""
        pen = qt.QPen(qt.QColor(color))
        pen.setWidthF(width)
        if dashed:
            pen.setStyle(qt.Qt.DashLine)
        if not width:
            pen.setStyle(qt.Qt.NoPen)
        self.painter.setPen(pen)
        self.painter.setBrush(qt.QBrush())

    def brush(self, color: str) -> None:
        """Fill shapes with a color from now on."""
        self.painter.setBrush(qt.QBrush(qt.QColor(color)))

    def empty(self) -> Any:
        """Say that there is nothing, and finish."""
        self.text(0, 0, self.width, self.height, "-", qt.Qt.AlignCenter)
        return self.done()

    def done(self) -> Any:
        """Return the finished picture."""
        self.painter.end()
        return self.picture


def _finite(series: Series) -> list[tuple[float, float]]:
    pairs = zip(series.x, series.y, strict=True)
    return [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _padded(low: float, high: float, padded: bool) -> tuple[float, float]:
    span = high - low or max(abs(high), 1.0)
    return (low - 0.04 * span, high + 0.04 * span) if padded else (low, low + span)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers in a range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) + 0.0 for n in range(first, math.floor(high / step + 1e-9) + 1)]
