"""Whether all of an image file is there: OpenCV fills up what is missing of some formats, by release, and says nothing.

OpenCV 4.8 gives JPEGs that were cut, 5.0 still some whose rest is zero, as a copy that broke off can leave it.
"""

from __future__ import annotations

from edge_runtime.image_files.image_size import image_size
from edge_runtime.image_files.parts import END, JPEG, PNG, SCAN, START, is_webp, jpeg_segments, png_chunks, webp_chunks

__all__ = ["is_whole", "jpeg_end"]

LEAST_ZEROS = 64
PIXELS_A_ZERO = 2000
"""A WebP whose compressed pixels end in more bytes of zero than one for so many pixels was filled up. 2000x3000 pixels
of one colour leave 582 in a row, one for ten thousand; a tenth of a photograph is one for some hundred."""
PIXELS = (b"VP8 ", b"VP8L")


def is_whole(content: bytes) -> bool:
    """Whether a JPEG, PNG or WebP goes on to its end; True for other formats, whose decoders refuse what is cut.

    What follows the end does not count. Of uncompressed pixels nothing can be told: zero is black.
    """
    if content.startswith(JPEG):
        end = jpeg_end(content)
        return end is not None and end[1]
    if content.startswith(PNG):
        return any(name == b"IEND" for name, _ in png_chunks(content))
    if is_webp(content):
        return _webp(content)
    return True


def jpeg_end(content: bytes | bytearray) -> tuple[int, bool] | None:
    """Where the JPEG that begins at 0 ends, and whether it is whole; None where its end is not among these bytes.

    It is not whole where another one begins before its end, and where no pixels came.
    """
    has_pixels = False
    for marker, (begin, _) in jpeg_segments(content):
        if marker == END:
            return begin, has_pixels
        if marker == START:
            return begin - len(JPEG), False
        has_pixels = has_pixels or marker == SCAN
    return None


def _webp(content: bytes) -> bool:
    n_bytes = int.from_bytes(content[4:8], "little") + 8
    if n_bytes > len(content):
        return False
    height, width = image_size(content) or (0, 0)
    most_zeros = max(LEAST_ZEROS, height * width // PIXELS_A_ZERO)
    chunks = (content[begin:end] for name, (begin, end) in webp_chunks(content) if name in PIXELS)
    return all(len(chunk) - len(chunk.rstrip(b"\0")) <= most_zeros for chunk in chunks)
