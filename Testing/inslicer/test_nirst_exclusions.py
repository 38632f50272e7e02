"""What the user leaves out is text that can be typed, read, and found again in the data."""

from __future__ import annotations

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from NIRSTReconstructionLib.inslicer.exclusions import excluded_values, items_of, leave_out, parse_exclusions
from NIRSTReconstructionLib.measurements import Measurements

CHANNELS = np.array([(s, d) for s in range(1, 6) for d in range(1, 6) if s != d])
SHAPE = (2, len(CHANNELS))


@pytest.fixture
def light():
    return Measurements(np.array([661.0, 735.5]), CHANNELS, np.zeros(SHAPE), np.full(SHAPE, 0.02), np.ones(SHAPE, bool))


def test_items_are_read_in_any_spelling():
    assert parse_exclusions(" s3; D4,3-4 @661\n3-4@735.5, S3") == ["S3", "D4", "3-4", "@661", "3-4@735.5"]
    assert parse_exclusions("") == []
    for wrong in ("F3", "3", "3-", "S", "3-4@", "3--4", "S3-4"):
        with pytest.raises(InputError, match="is no channel"):
            parse_exclusions(wrong)


def test_items_name_their_values(light):
    for text, count in (
        ("S3", 8),
        ("D3", 8),
        ("2-3", 2),
        ("2-3@661", 1),
        ("@735.5", 20),
        ("S3@661", 4),
        ("S9, 8-9", 0),
    ):
        assert excluded_values(light, parse_exclusions(text)).sum() == count, text
    out = excluded_values(light, ["2-3@661"])
    assert light.channels[out[0].argmax()].tolist() == [2, 3]


def test_values_become_the_shortest_items_and_back(light):
    for text in ("S3", "D2, 1-3, 3-4@661", "2-3@661, 2-4@735.5"):
        values = excluded_values(light, parse_exclusions(text))
        assert sorted(items_of(light, values)) == sorted(parse_exclusions(text))
    both = excluded_values(light, ["2-3@661", "2-3@735.5"])
    assert items_of(light, both) == ["2-3"]


def test_left_out_is_said_and_too_much_is_refused(light):
    used = leave_out(light, "S3, 1-2@661")
    assert used.active.sum() == 40 - 9
    assert used.remarks == ("9 of 40 values left out: unticked by the user.",)
    assert leave_out(light, "") is light
    with pytest.raises(InputError, match="usable channels"):
        leave_out(light, "S1 S2 S3 S4")
