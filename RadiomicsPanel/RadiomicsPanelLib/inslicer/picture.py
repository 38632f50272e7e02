"""Small diagrams drawn with Qt alone, so that the panel has them in every Slicer, in the colors of its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import qt
from numpy.typing import NDArray

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 10, 44
_BAR, _POINT = "#0072B2", "#D55E00"  # Okabe and Ito: seen by everybody
_MOST_BARS = 256


class _Axes:
    """A pixmap with two axes: maps numbers to pixels and writes the scales."""

    def __init__(self, size: tuple[int, int], like: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.width, self.height = size
        self.pixmap = qt.QPixmap(*size)
        palette = like.palette
        self.pixmap.fill(palette.color(qt.QPalette.Base))
        self._ink = palette.color(qt.QPalette.Text)
        self._x, self._y = _widened(*x), _widened(*y)
        self.painter = qt.QPainter()
        self.painter.begin(self.pixmap)
        self.painter.setRenderHint(qt.QPainter.Antialiasing, True)

    def at_x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self._y
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)

    def text(self, box: tuple[float, float, float, float], where: int, text: str) -> None:
        self.painter.drawText(qt.QRectF(*box), where | qt.Qt.TextSingleLine, text)

    def finish(self, x_label: str, y_label: str, x_marks: bool = True) -> Any:
        """Draw scales and labels on top and return the pixmap."""
        painter, bottom = self.painter, self.height - _BOTTOM
        painter.setPen(self._ink)
        painter.drawLine(_LEFT, bottom, self.width - _RIGHT, bottom)
        painter.drawLine(_LEFT, _TOP, _LEFT, bottom)
        for mark in _marks(*self._x) if x_marks else ():
            x = round(self.at_x(mark))
            painter.drawLine(x, bottom, x, bottom + 4)
            self.text((x - 40, bottom + 5, 80, 16), qt.Qt.AlignCenter, f"{mark:.6g}")
        for mark in _marks(*self._y):
            y = round(self.at_y(mark))
            painter.drawLine(_LEFT - 4, y, _LEFT, y)
            self.text((0, y - 8, _LEFT - 6, 16), qt.Qt.AlignRight | qt.Qt.AlignVCenter, f"{mark:.5g}")
        self.text((_LEFT, self.height - 20, self.width - _LEFT - _RIGHT, 18), qt.Qt.AlignCenter, x_label)
        painter.save()
        painter.translate(12, (bottom + _TOP) / 2)
        painter.rotate(-90)
        self.text((-100, -9, 200, 18), qt.Qt.AlignCenter, y_label)
        painter.restore()
        painter.end()
        return self.pixmap


def draw_histogram(
    size: tuple[int, int], like: Any, edges: NDArray[np.float64], counts: NDArray[np.int64], x_label: str
) -> Any:
    """Return a pixmap with one bar per bin between its edges; beyond 256 bins, neighbors share a bar.

    Parameters
    ----------
    size : tuple of two int, pixels
    like : QWidget
        Whose colors are used.
    edges : (n + 1,) ndarray
    counts : (n,) ndarray of int
    x_label : str
    """
    step = math.ceil(len(counts) / _MOST_BARS)
    starts = np.arange(0, len(counts), step)
    heights = np.add.reduceat(counts, starts)
    borders = np.append(edges[starts], edges[-1])
    axes = _Axes(size, like, (float(edges[0]), float(edges[-1])), (0.0, float(heights.max())))
    bottom = axes.at_y(0.0)
    color = qt.QColor(_BAR)
    gap = 1.0 if (size[0] - _LEFT - _RIGHT) / len(heights) > 4 else 0.0  # shows the edges
    for left, right, height in zip(borders[:-1], borders[1:], heights, strict=True):
        x, y = axes.at_x(left), axes.at_y(float(height))
        axes.painter.fillRect(qt.QRectF(x, y, axes.at_x(right) - x - gap, bottom - y), color)
    return axes.finish(x_label, "voxels" if step == 1 else f"voxels per {step} bins")


def draw_bars(size: tuple[int, int], like: Any, names: Sequence[str], values: Sequence[float], y_label: str) -> Any:
    """Return a pixmap with one named bar per value."""
    axes = _Axes(size, like, (0.0, float(len(values))), (min(0.0, *values), max(0.0, *values)))
    zero = axes.at_y(0.0)
    for n, (name, value) in enumerate(zip(names, values, strict=True)):
        x, right, y = axes.at_x(n + 0.15), axes.at_x(n + 0.85), axes.at_y(value)
        axes.painter.fillRect(qt.QRectF(x, min(y, zero), right - x, abs(zero - y)), qt.QColor(_BAR))
        axes.painter.setPen(like.palette.color(qt.QPalette.Text))
        wide = axes.at_x(1) - axes.at_x(0)
        axes.text((axes.at_x(n), size[1] - _BOTTOM + 4, wide, 16), qt.Qt.AlignCenter, name)
    return axes.finish("", y_label, x_marks=False)


def draw_points(
    size: tuple[int, int],
    like: Any,
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    labels: tuple[str, str],
) -> Any:
    """Return a pixmap with one named point per pair of values."""
    axes = _Axes(size, like, _margin(x), _margin(y))
    for name, at_x, at_y in zip(names, x, y, strict=True):
        place = qt.QPointF(axes.at_x(at_x), axes.at_y(at_y))
        axes.painter.setPen(qt.QPen(qt.QColor(_POINT)))
        axes.painter.setBrush(qt.QBrush(qt.QColor(_POINT)))
        axes.painter.drawEllipse(place, 4, 4)
        axes.painter.setPen(like.palette.color(qt.QPalette.Text))
        right = place.x() > size[0] / 2  # the name goes to the side with more room
        side = qt.Qt.AlignRight if right else qt.Qt.AlignLeft
        axes.text((place.x() + (-147 if right else 7), place.y() - 8, 140, 16), side | qt.Qt.AlignVCenter, name)
    return axes.finish(*labels)


def _margin(values: Sequence[float]) -> tuple[float, float]:
    reach = (max(values) - min(values)) * 0.1
    return min(values) - reach, max(values) + reach


def _widened(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    reach = abs(low) * 0.05 or 0.5
    return low - reach, high + reach


def _marks(low: float, high: float) -> list[float]:
    """Return about five round numbers between two."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
