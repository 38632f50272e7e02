"""Phases are chosen where names are clear, and only there."""

import pytest
from WeakSegmentLib.phases import phases_from_names


@pytest.mark.parametrize(
    "names, pre, post, subtraction",
    [
        (["post1", "pre"], "pre", ["post1"], None),
        (["UCSF-BR-08_post2", "UCSF-BR-08_pre", "UCSF-BR-08_post1"], "UCSF-BR-08_pre", None, None),
        (["T1 pre-contrast", "T1 post-contrast 1", "T1 post-contrast 2"], "T1 pre-contrast", None, None),
        (["late", "pre", "early"], "pre", ["early", "late"], None),
        (["Post delayed", "Post 1", "Pre"], "Pre", ["Post 1", "Post delayed"], None),
        (["DCE 2", "DCE 0", "DCE 1"], "DCE 0", ["DCE 1", "DCE 2"], None),
        (["ax_dyn_ph1_s4", "ax_dyn_ph3_s4", "ax_dyn_ph2_s4"], "ax_dyn_ph1_s4", None, None),
        (["T2", "pre", "post"], "pre", ["post"], None),
        (["sub1", "T2"], None, [], "sub1"),
        (["pre", "post", "post minus pre"], "pre", ["post"], "post minus pre"),
        # not clear
        (["pre left", "pre right", "post"], None, ["post"], None),
        (["pre", "post a", "post b"], "pre", [], None),
        (["pre", "post 1", "post 1 (2)"], "pre", [], None),
        (["sub 1", "sub 2"], None, [], None),
        (["DCE 0", "DCE 1"], None, [], None),
        (["DCE 3", "DCE 4", "DCE 5"], None, [], None),
        (["DCE 0", "DCE 1", "DCE 3"], None, [], None),
        (["dce 0 left", "dce 1 left", "dce 2 left", "dce 0 right", "dce 1 right", "dce 2 right"], None, [], None),
        (["scan 1", "scan 2", "scan 3"], None, [], None),
        (["prefix", "postage", "subway"], None, [], None),
        ([], None, [], None),
    ],
)
def test_names(names, pre, post, subtraction):
    found = phases_from_names(names)
    chosen = [names[n] for n in found.post]
    assert (None if found.pre is None else names[found.pre]) == pre
    assert chosen == (sorted(set(names) - {pre}) if post is None else post)
    assert (None if found.subtraction is None else names[found.subtraction]) == subtraction
