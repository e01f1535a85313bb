"""The container: pinned bytes, and nothing read from an archive or folder that was cut, altered or is unsafe."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import signal
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from edge_runtime.archive import pack, read_archive, read_folder, sha256, unpacked
from edge_runtime.errors import BundleError

FILES = {"manifest.json": b"{}\n", "prior.npz": bytes(range(8))}

PACKED_SHA256 = "0c5a982ee35ed3ca502421fdc9642b23e2aaecad3c821ae37e326c9e1b425acd"
"""Of pack(FILES). Another value means that bundles of one release are not byte for byte those of the next."""

METHODS = [
    pytest.param(zipfile.ZIP_STORED, id="stored"),
    pytest.param(zipfile.ZIP_DEFLATED, id="deflate"),
    pytest.param(zipfile.ZIP_BZIP2, id="bzip2"),
    pytest.param(zipfile.ZIP_LZMA, id="lzma"),
]

UNSAFE_NAMES = ["../x", "/etc/x", "a/b", "..\\x", "C:\\x", "..", ".hidden", "x\n", "a b", "ä"]


def zipped(entries: list[tuple[str, bytes]], *, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
        archive.comment = comment
    return buffer.getvalue()


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "x.aae"
    path.write_bytes(content)
    return path


def read_entries(path: Path) -> dict[str, bytes]:
    """As a bundle is read."""
    return read_folder(path) if path.is_dir() else unpacked(path, read_archive(path))


def test_sha256_of_a_known_text() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_bytes_of_an_archive_are_pinned() -> None:
    assert sha256(pack(FILES)) == PACKED_SHA256


def test_an_archive_ends_with_the_hash_of_everything_before_its_comment() -> None:
    content = pack(FILES)
    seal = content[-80:]
    assert seal == b"edge-aae sha256:" + hashlib.sha256(content[:-82]).hexdigest().encode()
    assert content[-82:-80] == struct.pack("<H", 80)


def test_any_zip_tool_reads_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved(tmp_path, pack(FILES))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())


def test_an_archive_gives_back_its_files(tmp_path: Path) -> None:
    assert read_entries(saved(tmp_path, pack(FILES))) == FILES


def test_a_folder_gives_its_files_and_leaves_out_hidden_ones_and_folders(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".manifest.json.tmp").write_bytes(b"left over")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_bytes(b"not part of it")
    assert read_entries(tmp_path) == FILES


@pytest.mark.parametrize("method", METHODS)
def test_an_archive_without_a_seal_is_read(tmp_path: Path, method: int) -> None:
    assert read_entries(saved(tmp_path, zipped(list(FILES.items()), method=method))) == FILES


@pytest.mark.parametrize("name", ["", *UNSAFE_NAMES])
def test_a_name_that_is_no_plain_file_name_is_not_packed(name: str) -> None:
    with pytest.raises(BundleError, match="is refused: expected a plain file name inside the bundle"):
        pack({name: b""})


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_an_entry_that_is_no_plain_file_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    content = zipped([("manifest.json", b"{}"), (name, b"escaped")])
    path = saved(tmp_path, content)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(BundleError, match="is refused: expected a plain file name inside the bundle, without folders"):
        read_entries(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_an_entry_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    # zipfile would cut the name at the zero byte and show a plain one.
    content = zipped([("priorX.npz", b"")]).replace(b"priorX.npz", b"prior\0.npz")
    with pytest.raises(BundleError, match=r"bundle entry 'prior\\x00\.npz' is refused"):
        read_entries(saved(tmp_path, content))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    content = zipped([("prior.npz", b"one"), ("prior.npz", b"two")])
    with pytest.raises(BundleError, match=r"x\.aae holds prior\.npz twice; do not use this file"):
        read_entries(saved(tmp_path, content))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.archive.MAX_BYTES", 1000)
    bomb = zipped([("a", bytes(600)), ("b", bytes(600))], method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1000
    with pytest.raises(BundleError, match=r"x\.aae unpacks to more than 1000 bytes; do not use this file"):
        read_entries(saved(tmp_path, bomb))


def test_an_archive_that_inflates_beyond_what_its_size_explains_is_refused_unread(
    tmp_path: Path,
) -> None:
    bomb = zipped([("a", bytes(100 << 20))], method=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"x\.aae unpacks to more than \d+ bytes; do not use this file"):
            read_entries(saved(tmp_path, bomb))
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_entry_that_lists_less_than_it_inflates_to_gives_no_more(tmp_path: Path, method: int) -> None:
    content = bytearray(zipped([("a", bytes(60 << 20))], method=method))
    listed = content.rfind(b"PK\x01\x02") + 24
    content[listed : listed + 4] = struct.pack("<I", 200)
    path = saved(tmp_path, bytes(content))
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            read_entries(path)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20  # two or three kilobytes are inflated at once
    finally:
        tracemalloc.stop()


def test_a_list_of_many_entries_is_refused_before_it_is_read(tmp_path: Path) -> None:
    many = zipped([(f"{index}", b"") for index in range(1001)])
    with pytest.raises(BundleError, match=r"x\.aae has more than 1000 entries; do not use this file"):
        read_entries(saved(tmp_path, many))
    longer = zipped([(f"{index}", b"") for index in range(25_000)])
    with pytest.raises(BundleError, match=r"x\.aae has a list of entries of more than 1048576 bytes"):
        read_entries(saved(tmp_path, longer))


def test_a_second_end_record_is_not_followed(tmp_path: Path) -> None:
    content = zipped([("a", b"")])
    end = content.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 1)
    with pytest.raises(BundleError, match="has a list of entries of more than"):
        read_entries(saved(tmp_path, content[:end] + locator + content[end:]))


def test_a_pipe_and_a_file_too_large_are_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        BundleError, match=r"pipe is a device or pipe, expected a file; a bundle is an \.aae file or a folder"
    ):
        read_entries(tmp_path / "pipe")
    with (tmp_path / "x.aae").open("wb") as stream:
        stream.truncate(3 << 30)  # takes no room on the disk
    with pytest.raises(BundleError, match="is larger than 2147483648 bytes"):
        read_entries(tmp_path / "x.aae")


def test_a_folder_with_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.archive.MAX_BYTES", 1000)
    (tmp_path / "a").write_bytes(bytes(1001))
    with pytest.raises(BundleError, match="holds more than 1000 bytes or 1000 files; do not use this bundle"):
        read_entries(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read bundle .*gone\.aae: No such file or directory"):
        read_entries(tmp_path / "gone.aae")


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "empty"), (pickle.dumps({}), "a Python pickle"), (b"\x08\x00onnx", "no zip archive")],
)
def test_what_is_no_archive_is_refused_saying_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(BundleError, match=rf"x\.aae is not a bundle: it is {kind}; expected an \.aae file"):
        read_entries(saved(tmp_path, content))


def test_an_archive_cut_in_the_middle_is_called_truncated(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is truncated: the archive has no end record; copy it again"):
        read_entries(saved(tmp_path, pack(FILES)[:100]))


def test_an_archive_with_a_byte_at_its_end_is_called_altered(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is truncated or altered: bytes are missing or added at its end"):
        read_entries(saved(tmp_path, pack(FILES) + b"\n"))


def test_an_altered_archive_does_not_match_its_seal(tmp_path: Path) -> None:
    altered = bytearray(pack(FILES))
    altered[20] ^= 1
    with pytest.raises(BundleError, match="was altered: its bytes do not match the SHA-256 it was sealed with"):
        read_entries(saved(tmp_path, bytes(altered)))


def test_a_comment_that_is_no_seal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was altered: its bytes do not match the SHA-256 it was sealed with"):
        read_entries(saved(tmp_path, zipped(list(FILES.items()), comment=b"packed by hand")))


@pytest.mark.parametrize("method", METHODS)
def test_a_flipped_byte_without_a_seal_is_refused_or_leaves_the_content(tmp_path: Path, method: int) -> None:
    content = zipped(list(FILES.items()), method=method)
    path = saved(tmp_path, content)
    outcomes: dict[str, int] = {}
    with path.open("r+b", buffering=0) as file:
        for offset, byte in enumerate(content):
            for mask in (0x01, 0xFF):
                os.pwrite(file.fileno(), bytes([byte ^ mask]), offset)
                outcomes.setdefault(outcome(path), offset)
            os.pwrite(file.fileno(), bytes([byte]), offset)
    assert set(outcomes) == {"refused", "content kept"}, f"first byte of each outcome: {outcomes}"


def outcome(path: Path) -> str:
    try:
        files = read_entries(path)
    except BundleError:
        return "refused"
    except Exception as error:  # noqa: BLE001  any other class is what the test looks for
        return type(error).__name__
    # A name that changed is for the manifest to notice; content is held by zip's own checksum.
    return "content kept" if set(files.values()) <= set(FILES.values()) else "content changed"


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not yours")
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "prior.npz").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match=r"prior\.npz is a link that leaves the bundle's folder; copy the file"):
        read_entries(folder)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "prior-v2.npz").write_bytes(b"prior")
    (tmp_path / "prior.npz").symlink_to("prior-v2.npz")
    assert read_entries(tmp_path) == {"prior-v2.npz": b"prior", "prior.npz": b"prior"}


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prior.npz").symlink_to("gone.npz")
    with pytest.raises(BundleError, match=r"prior\.npz"):
        read_entries(tmp_path)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prior.npz").symlink_to("prior.npz")
    with pytest.raises(BundleError, match=r"prior\.npz"):
        read_entries(tmp_path)


def test_a_pipe_in_the_folder_does_not_block(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")

    def stop(number: int, frame: object) -> None:
        pytest.fail("reading the folder blocks on a named pipe")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        assert read_entries(tmp_path) == FILES
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
