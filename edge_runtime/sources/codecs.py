"""Which codecs copy unchanged parts of a picture from the one before, and which give each picture for itself."""

from __future__ import annotations

import re

__all__ = ["codec_inter_coded", "pipeline_inter_coded"]

INTRA = frozenset(
    """
    mjpg mjpeg mjpa mjpb jpeg jpg ljpg jpegls mjp2 jpeg2000 png tiff bmp ffv1 ffvh hfyu huffyuv ffvhuff utvideo
    dvsd dvvideo dnxhd prores apch apcn apcs apco ap4h rawvideo v210 r210 wrapped_avframe yuyv yuy2 yuv2 uyvy
    yvyu vyuy i420 yu12 iyuv yv12 nv12 nv21 nv16 y800 grey gray y16 bgr3 rgb3 bgr4 rgb4 dib ba81 gbrg grbg rggb
    bg10 gb10 ba10 rg10 bg12 gb12 ba12 rg12 byr2
    """.split()  # noqa: SIM905 - a list of so many would take a page
)
"""Names of FFmpeg and four-letter codes whose pictures stand each for itself."""

INTRA_DECODERS = r"\w*(jpeg|jpg|pngdec)\w*|openjpegdec|avdec_(ffv1|huffyuv|dnxhd|prores)"
"""Elements of GStreamer"""
INTER_DECODERS = (
    r"\w*decodebin\w*|playbin\w*|\w*(264|265|hevc|av1|vp8|vp9|mpeg2|mpeg4|mpeg|theora)\w*|nvv4l2decoder|omx\w*dec|avdec_\w+|"
    r"rtspsrc|nvurisrcbin|fdsrc|filesrc|udpsrc|tcp\w*src|souphttpsrc|rtmp\w*src|srtsrc|\w*demux"
)


def codec_inter_coded(name: str) -> bool:
    """Whether a codec, by FFmpeg's name or four letters, depends on frames before; True for one not known."""
    return name.strip("\0 ").lower() not in INTRA


def pipeline_inter_coded(pipeline: str) -> bool:
    """Whether the frames of a GStreamer pipeline may depend on each other, by the decoders that it names.

    Cameras without a decoder give each frame for itself; a stream whose decoder is not named may be anything.
    """
    elements = [stage.split()[0] for stage in pipeline.split("!") if stage.split()]
    if any(re.fullmatch(INTRA_DECODERS, element) for element in elements):
        return False
    return any(re.fullmatch(INTER_DECODERS, element) for element in elements)
