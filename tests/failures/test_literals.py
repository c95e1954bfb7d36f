import pytest

from nemo_distill.failures.literals import changed_addresses, changed_tags, garbled
from nemo_distill.failures.segment import Segment


@pytest.mark.parametrize(
    ("text", "translation", "found"),
    [
        ("Siehe www.Test.de.", "See www.test.de!", []),
        ("Siehe www.test.de.", "See www.tests.de.", ["www.test.de", "+www.tests.de"]),
        ("(http://a.org/b_c?d=1)", "[http://a.org/b_c?d=1]", []),
        ("Mail an a.b@c.org.", "Mail to a.b@c.org", []),
        ("Mail an a.b@c.org.", "Mail to us", ["a.b@c.org"]),
        ("ftp://x.y zweimal: ftp://x.y", "ftp://x.y once", ["ftp://x.y"]),
    ],
)
def test_changed_addresses_are_found(text, translation, found):
    assert changed_addresses(Segment(text, translation, text)) == found


@pytest.mark.parametrize(
    ("text", "translation", "found"),
    [
        ("<b>fett</b>", "<b>bold</b>", []),
        ("<b>fett</b>", "<b>bold", ["</b>"]),
        ("<br/>a", "<br />a", []),
        ("{0} von {total}", "{0} of {all}", ["{total}", "+{all}"]),
        ("%d Dateien, %s", "%s files", ["%d"]),
        ("50 % der", "50% of", []),
        ("Don't", "Don&#39;t", ["+&#39;"]),
        ("a < b und c > d", "a < b and c > d", []),
    ],
)
def test_changed_tags_are_found(text, translation, found):
    assert changed_tags(Segment(text, translation, text)) == found


def test_what_the_reference_leaves_out_too_is_not_lost():
    assert changed_tags(Segment("<i>a</i>", "a", "a")) == []
    assert changed_addresses(Segment("www.a.de", "a", "a")) == []


@pytest.mark.parametrize(
    ("source", "translation", "found"),
    [
        ("Antonín", "AntonÃ3n came", ["AntonÃ3n"]),
        ("Šumperk", "in Ã...umperk", ["Ã...umperk"]),
        ("Ärger", "Ärger in São Paulo", []),
        ("Das", "Itâ€™s", ["Itâ€™s"]),
        ("x", "a \ufffd b", ["\ufffd"]),
        ("x", "a ⁇ b", ["⁇"]),
        ("x", "wo@@ rd", ["wo@@"]),
        ("a@b.de", "a@b.de", []),
        ("⁇", "⁇", []),
    ],
)
def test_broken_characters_are_found(source, translation, found):
    assert garbled(Segment(source, translation, source)) == found
