"""HEIC through pi-heif, where it is installed, and what is said where it is not."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataError, MissingExtraError
from edge_runtime.image_files.listing import reads_heif
from edge_runtime.model.images import MOST_PIXELS, is_image, limit_pixels, read_image

needs_heif = pytest.mark.skipif(not reads_heif(), reason="pi-heif is not installed")


PICTURES = {
    1: (
        "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpL0nYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{d=YLIc5CpcoJ^Wxz#L"
        "fY>54GcOIy1Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxl?>N13yKPW^!Chx<a{7q0o3cv$P5yi09GXTf#J{JA3qov_?Z)c"
        "IwTwzc^Loy2Pt3%sbB^nxm`>Si9kthCq_mznFRt0j;XsQd1cRTXlrHy2^oP1CV?cNdUhAagGC#Z9DvpcC+FuB<t67-0EKxO*cyOB"
        "BALYnsZbAt_#kBh1(_9@AOU6$4h|qCo>`C!3uQ(IMwUh<W)>h*Dzhjx4Jyo+oKl<&4poqUZ|0^Xf`Wgg2IG1*i>N<;&3|t5|NsA#"
        "vt0Y{qjjr(m`B#{+Gx}NRI&g6cZQ1TJLfFFboS=|FDYWHrUb10`&F)eyN>1SsB4)9C%p6`87|bvYzfSGl_|_%CNw`Q(o)~adhSMt"
        "_5)WhUUO{axYt$GXj7VH;$52_*{gS@Jcwal(n5Rjf<T#Pxf-Yc>~l(Hd2zGu=C{t7eWxT{|GzB#ef&O~`~Qbi8`^HZKRu(KclzVw"
        "2Ni&hWrM_>uP=iZkjKHm$S4E~UZ|IV001RbrN9"
    ),
    6: (
        "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpKAOYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{bpmLIc5CpcoJ^6~RSR"
        "fY>54GcOIy1Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxl?)Fu3yKPW^nuKR<a{7q0o3cv$P5yi09GXTf#J{JA3qov_?Z)c"
        "IwTwzc^Loy2Pt3%sbB^nxm`>Si9kthCq_mznFRt0j;XsQd1cRTXlrHy2^oP1CV?cNdUhAagGC#Z9DvpcC+FuB<t67-0EKxO*cyOB"
        "BALYnsZbAt_#kBh1(_9@AOU6$4h|s2nOT%y0<?)iBC{YD7Tk;sjI51J%q*=ywp3<OY8q6WFFB<+863VKpWn<)Nd!g2N)5*KY!*>}"
        "{+j>X=KufyDQCI%-$(0K{V<QL-?h=E|EXgC|L+VH(|68Ue(CJZ|6fwXR!s?5`}eC{`*t16*HPCp4NiFJMKWBdkJ%EK@hVf8!Axj="
        "R-~oAll9z<4($i7UcBbm%5kr&sL`f0%f!1jJ+fEtN_h~&yrhNp;st>+&vG?R|Jmo1%<|%9-OX>EGy6_Sy8eGz`uq5OHuwJzr#7_R"
        "e1CdIJ@53##}6t19m@uZMPFYAEg+ABfss)N6wp8qu|fO@0D?EDM*"
    ),
}
"""64x128 pixels, the first quarter of them red, by EXIF orientation: HEIC by pillow-heif, which has an encoder; zlib,
base85"""


def written(path: Path, orientation: int) -> None:
    path.write_bytes(zlib.decompress(base64.b85decode(PICTURES[orientation])))


@needs_heif
@pytest.mark.parametrize(("orientation", "shape", "red"), [(1, (64, 128, 3), (5, 5)), (6, (128, 64, 3), (5, 58))])
def test_a_picture_is_read_in_colour_and_turned(
    tmp_path: Path, orientation: int, shape: tuple[int, ...], red: tuple[int, int]
) -> None:
    written(tmp_path / "a.HEIC", orientation)
    assert is_image(tmp_path / "a.HEIC")
    frame = read_image(tmp_path / "a.HEIC")
    assert frame.shape == shape
    assert frame.dtype == np.uint8
    np.testing.assert_allclose(frame[red], (0, 0, 250), atol=12)
    np.testing.assert_allclose(frame[-5, 5], (0, 0, 0), atol=12)


@needs_heif
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_what_is_cut_is_refused(tmp_path: Path, kept: float) -> None:
    written(tmp_path / "a.heic", 1)
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"cannot decode .*a\.heic: "):
        read_image(tmp_path / "a.heic")


@needs_heif
def test_a_large_one_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    written(tmp_path / "a.heic", 1)
    try:
        limit_pixels(128 * 64 - 1)
        with pytest.raises(DataError, match="is 128x64"):
            read_image(tmp_path / "a.heic")
    finally:
        limit_pixels(MOST_PIXELS)


@pytest.mark.skipif(reads_heif(), reason="pi-heif is installed")
def test_without_pi_heif_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    assert not is_image(tmp_path / "a.heic")
    with pytest.raises(MissingExtraError, match=r'HEIC images need pi_heif: pip install "edge-aae\[heic\]"'):
        read_image(tmp_path / "a.heic")
