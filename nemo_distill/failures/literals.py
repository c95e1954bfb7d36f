"""Text that a translation keeps as it is: URLs, e-mail addresses, inline tags, placeholders; and broken characters."""

import re
from collections import Counter

from nemo_distill.failures.segment import Found, Segment

E_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"'“”„«»]+", re.IGNORECASE)
# Elements and comments of XML and HTML, entities, and the placeholders of printf, str.format and shells.
TAG = re.compile(
    r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);|%(?:\d+\$|\(\w+\))?[-+0#]*\d*(?:\.\d+)?[sdifgxu]\b"
    r"|\$?\{\w*\}"
)
# UTF-8 read as another encoding, U+FFFD, and signs of tokenizers that were not undone: unknown words and word pieces.
GARBLED = re.compile(r"\S*(?:[ÃÂÄÅ](?=[^\w\s]|[\d¼½¾ºª\u0080-\u009f])|â€|\ufffd|⁇|<unk>|▁|@@(?=\s|$))\S*")
AROUND = ".,;:!?)]}'\"…。、"


def changed_addresses(segment: Segment) -> Found:
    """Returns the URLs and e-mail addresses that are lost, and with a plus those that are invented."""
    return _changes(_addresses(segment.source), _addresses(segment.translation), _addresses(segment.reference))


def changed_tags(segment: Segment) -> Found:
    """Returns the inline tags, entities and placeholders that are lost, and with a plus those that are invented."""
    source, translation, reference = (
        Counter("".join(tag.split()) for tag in TAG.findall(text))
        for text in (segment.source, segment.translation, segment.reference)
    )
    return _changes(source, translation, reference)


def garbled(segment: Segment) -> Found:
    """Returns the words with broken characters that neither source nor reference has."""
    words = dict.fromkeys(GARBLED.findall(segment.translation))
    return [word for word in words if word not in segment.source and word not in segment.reference]


def _addresses(text: str) -> Counter[str]:
    found = [*E_MAIL.findall(text), *URL.findall(text)]
    return Counter(address.rstrip(AROUND).casefold() for address in found)


def _changes(source: Counter[str], translation: Counter[str], reference: Counter[str]) -> Found:
    lost = (source & reference) - translation
    added = translation - (source | reference)
    return [*sorted(lost.elements()), *(f"+{item}" for item in sorted(added.elements()))]
