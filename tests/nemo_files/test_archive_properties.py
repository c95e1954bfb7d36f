"""Whatever members an archive has: it is refused with a sentence, or nothing of it lies outside where it is unpacked."""

import io
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from nemo_distill.nemo_files.archive import CONFIG_NAME, NemoArchive

TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z"),
)
OUTSIDE = "{outside}"  # in a name: a folder that is not the one that is unpacked in
parts = st.sampled_from(
    ["a", "b", "..", ".", "", "~", "a\\..", "..\\b", "\udc80", "ä", "x" * 120, "x" * 300, CONFIG_NAME]
)
names = st.lists(parts, max_size=4).map("/".join) | st.text(max_size=6)
names |= st.sampled_from([f"{OUTSIDE}/evil", f"a/../../{OUTSIDE}/evil", f"./{CONFIG_NAME}", "nemo:a", "/", "."])
members = st.tuples(names, st.sampled_from(TYPES), names, st.binary(max_size=20))
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
CONFIG = (f"./{CONFIG_NAME}", tarfile.REGTYPE, "", b"target: a.B\nencoder_tokenizer: {tokenizer_model: 'nemo:a'}\n")


def write(path, entries, format_):
    with tarfile.open(path, "w", format=format_) as tar:
        for name, type_, link, content in entries:
            info = tarfile.TarInfo(name.replace(OUTSIDE, str(path.parent / "outside")))
            info.type, info.linkname, info.size = type_, link.replace(OUTSIDE, str(path.parent)), len(content)
            with suppress(ValueError):  # what the format cannot hold
                tar.addfile(info, io.BytesIO(content))


def opened(path):
    """The archive, or None if it is refused, which must be in a sentence that names it."""
    try:
        return NemoArchive(path)
    except ValueError as error:
        assert f"'{path}' is not" in str(error) and "\n" not in str(error)
        return None


def unpacked(path, folder):
    """Unpacks as NeMo does, without Python's own filters, as far as the names can be written."""
    with tarfile.open(path) as tar, suppress(OSError, ValueError):
        tar.extractall(folder, filter="fully_trusted")


@given(st.lists(members, max_size=4), st.sampled_from(FORMATS), st.booleans(), names)
@example([(f"{OUTSIDE}/evil", tarfile.REGTYPE, "", b"x")], tarfile.PAX_FORMAT, True, "a")
@example([("a", tarfile.SYMTYPE, OUTSIDE, b""), ("a/evil", tarfile.REGTYPE, "", b"x")], tarfile.PAX_FORMAT, True, "a")
@example([("", tarfile.REGTYPE, "", b"x")], tarfile.GNU_FORMAT, True, "")
@example([("x" * 300, tarfile.REGTYPE, "", b"x")], tarfile.PAX_FORMAT, True, "x" * 300)
def test_members_of_any_kind_are_refused_or_stay_inside(entries, format_, whole, artifact):
    with tempfile.TemporaryDirectory() as base:
        path, inside, outside = (Path(base) / name for name in ("model.nemo", "inside", "outside"))
        for folder in (inside, outside):
            folder.mkdir()
        write(path, [*entries, *([CONFIG] if whole else [])], format_)
        if not (archive := opened(path)):
            return
        unpacked(path, inside)
        with suppress(ValueError):
            assert archive.extract_artifact(f"nemo:{artifact}", inside).parent == inside
        archive.copy_without_weights(io.BytesIO())
        assert sorted(Path(base).iterdir()) == [inside, path, outside] and not list(outside.iterdir())


@given(st.data())
def test_an_archive_with_any_bytes_changed_is_read_or_refused(data):
    with tempfile.TemporaryDirectory() as base:
        path = Path(base) / "model.nemo"
        write(path, [CONFIG, ("a", tarfile.REGTYPE, "", b"pieces")], tarfile.GNU_FORMAT)
        content = bytearray(path.read_bytes()[: data.draw(st.integers(0, 4096))])
        for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=3)):
            content[place : place + 1] = data.draw(st.binary(max_size=3))
        path.write_bytes(content)
        if archive := opened(path):
            with suppress(ValueError):
                assert archive.extract_artifact("nemo:a", base).name == "a"
            archive.copy_without_weights(io.BytesIO())
