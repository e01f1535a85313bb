"""Golden samples: what agrees passes, what differs is named, and no altered graph passes unseen."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.comparison import Comparison
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import BundleError, FrameError
from edge_runtime.gate.report import GateReport
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.preprocess import Preprocess

GRAPHS = ("decoder.onnx", "detector.onnx", "encoder.onnx")
ROWS = [
    "detector.onnx: reconstruction_error",
    "detector.onnx: neg_log_prior",
    "detector.onnx: latent",
    "detector.onnx: anomaly_map",
    "encoder.onnx: latent",
    "decoder.onnx: x_hat",
    "detector.onnx: score",
    "prior.npz: neg_log_prior",
]
PREPROCESS_ROW = "preprocess: network_input"

Array = NDArray[Any]


class MakesFolder:
    """Makes a folder when it is unpickled: what hostile code would do, made visible."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def row(report: GateReport, where: str) -> Comparison:
    (found,) = [item for item in report.comparisons if item.where == where]
    return found


def failed_rows(report: GateReport) -> list[str]:
    return [item.where for item in report.comparisons if not item.passed]


def golden_of(bundle: Bundle) -> Golden:
    return Golden.from_npz(bundle.files["golden.npz"])


def with_files(bundle: Bundle, **files: bytes) -> Bundle:
    """The bundle with files replaced and hashed anew; `golden_npz` stands for golden.npz."""
    renamed = {name.replace("_", "."): content for name, content in files.items()}
    return Bundle.from_parts(bundle.manifest, {**bundle.files, **renamed}, Path("changed.aae"))


def with_golden(bundle: Bundle, **changes: Any) -> Bundle:
    return with_files(bundle, golden_npz=replace(golden_of(bundle), **changes).to_npz())


def with_graph_hashes(bundle: Bundle) -> Bundle:
    """The bundle as export writes it: its golden samples name the graphs that they vouch for."""
    return with_golden(bundle, hashes={name: sha256(bundle.files[name]) for name in GRAPHS})


def with_arrays(bundle: Bundle, **arrays: Array) -> Bundle:
    """The bundle with arrays of its golden.npz replaced or added, whatever they are."""
    with np.load(io.BytesIO(bundle.files["golden.npz"])) as archive:
        content = saved(**{**archive, **arrays})
    return with_files(bundle, golden_npz=content)


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def perturbed(graph: bytes, initializer: str, by: float = 0.05) -> bytes:
    """The graph with `by` added to the largest number of one initializer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    (chosen,) = [item for item in model.graph.initializer if item.name == initializer]
    array = numpy_helper.to_array(chosen).copy()
    array.reshape(-1)[np.abs(array).argmax()] += by
    chosen.CopyFrom(numpy_helper.from_array(array, initializer))
    return bytes(model.SerializeToString())


def renamed_producer(graph: bytes) -> bytes:
    """The graph with other bytes that computes the same."""
    import onnx

    model = onnx.load_from_string(graph)
    model.producer_name = "somebody else"
    return bytes(model.SerializeToString())


def camera_frames() -> tuple[Array, ...]:
    """A grey and a colour frame, larger than the network's input, of levels 50 to 200."""
    rng = np.random.default_rng(3)
    return tuple(rng.integers(50, 201, shape, dtype=np.uint8) for shape in ((20, 40), (33, 21, 3)))


def with_camera_frames(bundle: Bundle, shift: int = 0) -> Bundle:
    """The bundle with raw frames, of which export made inputs whose second frame's first pixel lies off by shift."""
    frames = camera_frames()
    inputs = [bundle.preprocess(frame) for frame in frames]
    inputs[1][0, 0, 0] = int(inputs[1][0, 0, 0]) + shift
    return with_golden(bundle, raw_frames=frames, raw_inputs=tuple(inputs))


# Reading and writing


def test_samples_survive_their_file(bundle: Bundle) -> None:
    raw_frames = camera_frames()
    written = replace(
        golden_of(bundle),
        raw_frames=raw_frames,
        raw_inputs=tuple(bundle.preprocess(frame) for frame in raw_frames),
        hashes={"detector.onnx": sha256(b"detector"), "encoder.onnx": sha256(b"encoder")},
    )
    read = Golden.from_npz(written.to_npz())
    np.testing.assert_array_equal(read.inputs, written.inputs)
    assert read.inputs.dtype == np.uint8
    for name in ("criteria", "latent", "anomaly_map", "encoder_latent", "x_hat"):
        expected, came = getattr(written.outputs, name), getattr(read.outputs, name)
        np.testing.assert_array_equal(came, expected, err_msg=name)
        assert came.dtype == expected.dtype == np.float32
    assert [frame.shape for frame in read.raw_frames] == [(20, 40), (33, 21, 3)]
    assert [frame.shape for frame in read.raw_inputs] == [(8, 8, 1), (8, 8, 1)]
    for expected, came in zip(
        (*written.raw_frames, *written.raw_inputs), (*read.raw_frames, *read.raw_inputs), strict=True
    ):
        np.testing.assert_array_equal(came, expected)
    assert read.hashes == written.hashes


def test_more_than_ten_raw_frames_keep_their_order(bundle: Bundle) -> None:
    frames = tuple(np.full((8, 8, 1), level, dtype=np.uint8) for level in range(12))
    read = Golden.from_npz(replace(golden_of(bundle), raw_frames=frames, raw_inputs=frames).to_npz())
    assert [int(frame[0, 0, 0]) for frame in read.raw_frames] == list(range(12))
    assert [int(frame[0, 0, 0]) for frame in read.raw_inputs] == list(range(12))


def test_samples_without_raw_frames_and_hashes_have_none(bundle: Bundle) -> None:
    read = golden_of(bundle)
    assert (read.raw_frames, read.raw_inputs, read.hashes) == ((), (), {})


def test_the_codes_are_the_reference_of_detector_and_encoder(bundle: Bundle) -> None:
    read = golden_of(bundle)
    assert read.outputs.encoder_latent is read.outputs.latent


def test_the_file_holds_no_time(bundle: Bundle) -> None:
    content = golden_of(bundle).to_npz()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert golden_of(bundle).to_npz() == content


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(BundleError, match=r"golden\.npz is a Python pickle, which can run code and is not read"):
        Golden.from_npz(pickle.dumps(MakesFolder(trap)))
    assert not trap.exists()


def test_an_array_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(BundleError, match=r"golden\.npz is not read: Object arrays cannot be loaded"):
        Golden.from_npz(saved(inputs=np.array([MakesFolder(trap)], dtype=object)))
    assert not trap.exists()


@pytest.mark.parametrize("missing", ["inputs", "criteria", "latent", "anomaly_map", "x_hat", "frame_0", "frame_1"])
def test_a_missing_array_is_named(bundle: Bundle, missing: str) -> None:
    content = with_camera_frames(bundle).files["golden.npz"]
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files if name != missing}
    with pytest.raises(BundleError, match=rf"golden\.npz lacks array '{missing}'; export the bundle again"):
        Golden.from_npz(saved(**arrays))


@pytest.mark.parametrize(
    ("inputs", "came"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), r"\(2, 8, 8, 1\) float32"),
        (np.zeros((2, 8, 8, 1), np.int8), r"\(2, 8, 8, 1\) int8"),
        (np.zeros((2, 8, 8), np.uint8), r"\(2, 8, 8\) uint8"),
        (np.array(7, np.uint8), r"\(\) uint8"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"\(0, 8, 8, 1\) uint8"),
    ],
    ids=["float", "signed", "no channels", "one number", "empty"],
)
def test_inputs_of_another_type_or_shape_are_refused_with_both(bundle: Bundle, inputs: Array, came: str) -> None:
    content = with_arrays(bundle, inputs=inputs).files["golden.npz"]
    with pytest.raises(
        BundleError, match=rf"golden\.npz has inputs {came}, expected \(N, H, W, C\) uint8 with N > 0; export"
    ):
        Golden.from_npz(content)


# A bundle against its own samples


@pytest.mark.parametrize(
    "preprocess",
    [
        pytest.param(Preprocess(height=8, width=8), id="grey"),
        pytest.param(Preprocess(height=7, width=9, channels=3), id="BGR 7x9"),
    ],
)
def test_a_bundle_agrees_with_its_samples(make_bundle: Callable[..., Bundle], preprocess: Preprocess) -> None:
    report = verify_bundle(with_graph_hashes(make_bundle(preprocess)), threads=1)
    assert report.failures() == []
    assert report.passed
    assert (report.backend, report.reference, report.decisions.n_frames) == ("onnxruntime-cpu", "golden samples", 2)
    assert [item.where for item in report.comparisons] == ROWS
    assert (report.decisions.flips, report.altered) == (0, ())
    assert report.decisions.rank_correlation == pytest.approx(1.0)


@pytest.mark.parametrize(
    "preprocess",
    [
        pytest.param(Preprocess(height=8, width=8), id="grey"),
        pytest.param(Preprocess(height=8, width=8, fit="letterbox"), id="letterbox"),
        pytest.param(Preprocess(height=7, width=9, channels=3, fit="letterbox", interpolation="linear"), id="BGR"),
    ],
)
def test_raw_frames_are_preprocessed_again_and_compared(
    make_bundle: Callable[..., Bundle], preprocess: Preprocess
) -> None:
    report = verify_bundle(with_camera_frames(make_bundle(preprocess)), threads=1)
    assert report.failures() == []
    assert [item.where for item in report.comparisons] == [*ROWS, PREPROCESS_ROW]
    assert row(report, PREPROCESS_ROW).max_error == 0.0


@pytest.mark.parametrize("shift", [-1, 1])
def test_preprocessing_one_grey_level_off_passes(bundle: Bundle, shift: int) -> None:
    report = verify_bundle(with_camera_frames(bundle, shift), threads=1)
    assert report.failures() == []
    assert row(report, PREPROCESS_ROW).max_error == 1.0


@pytest.mark.parametrize("shift", [-2, 2])
def test_preprocessing_two_grey_levels_off_fails_and_is_named(bundle: Bundle, shift: int) -> None:
    report = verify_bundle(with_camera_frames(bundle, shift), threads=1)
    assert report.failures() == [
        "preprocess: network_input differs from golden samples: max error 2 at frame 1, allowed 1 + 0 x |reference|"
    ]


def test_another_preprocessing_than_at_export_fails_though_the_graphs_agree(bundle: Bundle) -> None:
    samples = with_camera_frames(bundle)
    letterboxed = Bundle.from_parts(
        {**samples.manifest, "preprocess": Preprocess(height=8, width=8, fit="letterbox").to_json()},
        samples.files,
        Path("letterboxed.aae"),
    )
    assert failed_rows(verify_bundle(letterboxed, threads=1)) == [PREPROCESS_ROW]


TILED = Preprocess(height=8, width=8, fit="tile", scale=0.5, self_reference="row_column")
SELF_REFERENCE_ROW = "preprocess: self_reference"


def with_tiled_frames(bundle: Bundle) -> Bundle:
    """The bundle with raw frames of different numbers of tiles, and the tiles that export made of them."""
    frames = camera_frames()
    return with_golden(bundle, raw_frames=frames, raw_inputs=tuple(bundle.preprocess.tiles(f)[0] for f in frames))


def with_changed_tile(bundle: Bundle, channel: int, shift: int) -> Bundle:
    """The second frame's last tile's last pixel lies off by shift in one channel."""
    inputs = [tiles.copy() for tiles in golden_of(bundle).raw_inputs]
    inputs[1][-1, -1, -1, channel] = int(inputs[1][-1, -1, -1, channel]) + shift
    return with_golden(bundle, raw_inputs=tuple(inputs))


def test_tiles_of_raw_frames_survive_their_file(make_bundle: Callable[..., Bundle]) -> None:
    read = golden_of(with_tiled_frames(make_bundle(TILED)))
    assert [tiles.shape for tiles in read.raw_inputs] == [(6, 8, 8, 4), (4, 8, 8, 4)]
    for tiles, frame in zip(read.raw_inputs, camera_frames(), strict=True):
        np.testing.assert_array_equal(tiles, TILED.tiles(frame)[0])


@pytest.mark.parametrize(
    ("preprocess", "rows"),
    [
        pytest.param(Preprocess(height=8, width=8, fit="tile"), [PREPROCESS_ROW], id="tiles"),
        pytest.param(TILED, [PREPROCESS_ROW, SELF_REFERENCE_ROW], id="self-referenced tiles"),
        pytest.param(
            Preprocess(height=8, width=8, fit="letterbox", self_reference="row_column"),
            [PREPROCESS_ROW, SELF_REFERENCE_ROW],
            id="self-referenced letterbox",
        ),
    ],
)
def test_tiles_are_cut_again_and_compared(
    make_bundle: Callable[..., Bundle], preprocess: Preprocess, rows: list[str]
) -> None:
    report = verify_bundle(with_tiled_frames(make_bundle(preprocess)), threads=1)
    assert report.failures() == []
    assert [item.where for item in report.comparisons] == [*ROWS, *rows]
    assert all(row(report, where).max_error == 0.0 for where in rows)


@pytest.mark.parametrize(("channel", "failed"), [(0, PREPROCESS_ROW), (3, PREPROCESS_ROW), (1, None), (2, None)])
def test_a_tile_that_is_off_fails_and_names_its_frame(
    make_bundle: Callable[..., Bundle], channel: int, failed: str | None
) -> None:
    samples = with_tiled_frames(make_bundle(TILED))
    report = verify_bundle(with_changed_tile(samples, channel, -2), threads=1)
    assert SELF_REFERENCE_ROW in failed_rows(report)  # to the byte
    assert (failed in failed_rows(report)) is (failed is not None)
    for where in failed_rows(report):
        assert row(report, where).worst_frame == 1


def test_another_number_of_tiles_than_at_export_fails(make_bundle: Callable[..., Bundle]) -> None:
    samples = with_tiled_frames(make_bundle(TILED))
    inputs = golden_of(samples).raw_inputs
    report = verify_bundle(with_golden(samples, raw_inputs=(inputs[0], inputs[1][:-1])), threads=1)
    assert failed_rows(report) == [PREPROCESS_ROW]
    assert row(report, PREPROCESS_ROW).max_error == float("inf")
    assert row(report, PREPROCESS_ROW).worst_frame == 1


def test_a_stack_of_tiles_of_another_size_is_refused(bundle: Bundle) -> None:
    changed = with_golden(bundle, raw_frames=camera_frames()[:1], raw_inputs=(np.zeros((3, 8, 9, 1), np.uint8),))
    with pytest.raises(
        BundleError, match=r"frame_0_input \(3, 8, 9, 1\) uint8, expected \(8, 8, 1\) uint8, or several"
    ):
        golden_of(changed)


def test_a_code_at_every_site_is_kept(bundle: Bundle) -> None:
    golden = golden_of(bundle)
    spatial = np.zeros((2, 3, 4, 5), dtype=np.float32)
    outputs = replace(golden.outputs, latent=spatial, encoder_latent=spatial)
    assert Golden.from_npz(replace(golden, outputs=outputs).to_npz()).outputs.latent.shape == (2, 3, 4, 5)


def test_a_raw_frame_that_does_not_fit_is_refused(bundle: Bundle) -> None:
    changed = with_golden(bundle, raw_frames=(np.zeros((8, 8)),), raw_inputs=(np.zeros((8, 8, 1), np.uint8),))
    with pytest.raises(FrameError, match="frame is float64"):
        verify_bundle(changed, threads=1)


@pytest.mark.parametrize(
    ("graph", "initializer", "rows"),
    [
        ("decoder.onnx", "decoder", ["decoder.onnx: x_hat"]),
        ("encoder.onnx", "encoder", ["encoder.onnx: latent"]),
        (
            "detector.onnx",
            "encoder",
            [
                "detector.onnx: reconstruction_error",
                "detector.onnx: neg_log_prior",
                "detector.onnx: latent",
                "detector.onnx: anomaly_map",
                "detector.onnx: score",
            ],
        ),
        (
            "detector.onnx",
            "decoder",
            ["detector.onnx: reconstruction_error", "detector.onnx: anomaly_map", "detector.onnx: score"],
        ),
        ("detector.onnx", "log_norm", ["detector.onnx: neg_log_prior"]),
        ("detector.onnx", "error_scale", ["detector.onnx: reconstruction_error", "detector.onnx: score"]),
    ],
)
def test_one_perturbed_weight_fails_and_names_its_outputs_and_its_graph(
    bundle: Bundle, graph: str, initializer: str, rows: list[str]
) -> None:
    hashed = with_graph_hashes(bundle)
    broken = Bundle.from_parts(
        hashed.manifest, {**hashed.files, graph: perturbed(hashed.files[graph], initializer)}, Path("broken.aae")
    )
    report = verify_bundle(broken, threads=1)
    assert failed_rows(report) == rows
    assert report.altered == (graph,)
    assert not report.passed
    lines = report.failures()
    assert [line.split(" differs")[0] for line in lines[: len(rows)]] == rows
    assert lines[len(rows)] == (
        f"{graph} is not what was exported: its SHA-256 differs from the one the golden samples vouch for"
    )


def test_a_perturbed_weight_fails_where_the_samples_name_no_graphs(bundle: Bundle) -> None:
    report = verify_bundle(
        with_files(bundle, decoder_onnx=perturbed(bundle.files["decoder.onnx"], "decoder")), threads=1
    )
    assert failed_rows(report) == ["decoder.onnx: x_hat"]
    assert report.altered == ()
    assert not report.passed


def test_a_changed_graph_whose_outputs_agree_fails_by_its_hash(bundle: Bundle) -> None:
    changed = {
        name.replace(".", "_"): renamed_producer(bundle.files[name]) for name in ("encoder.onnx", "decoder.onnx")
    }
    report = verify_bundle(with_files(with_graph_hashes(bundle), **changed), threads=1)
    assert failed_rows(report) == []
    assert report.altered == ("decoder.onnx", "encoder.onnx")
    assert not report.passed
    assert report.to_json()["altered"] == ["decoder.onnx", "encoder.onnx"]


def test_a_graph_that_the_samples_name_and_the_bundle_lacks_is_altered(bundle: Bundle) -> None:
    report = verify_bundle(with_golden(bundle, hashes={"sharpener.onnx": sha256(b"sharpener")}), threads=1)
    assert report.altered == ("sharpener.onnx",)


def test_outputs_are_told_apart_by_name_and_not_by_order(bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(bundle.files["detector.onnx"])
    backwards = list(reversed(model.graph.output))
    del model.graph.output[:]
    model.graph.output.extend(backwards)
    report = verify_bundle(with_files(bundle, detector_onnx=model.SerializeToString()), threads=1)
    assert report.failures() == []


def test_a_detector_without_an_output_is_refused_naming_it(bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(bundle.files["detector.onnx"])
    del model.graph.output[1]
    with pytest.raises(BundleError, match=r"detector\.onnx lacks outputs \['latent'\]; export the bundle again"):
        verify_bundle(with_files(bundle, detector_onnx=model.SerializeToString()), threads=1)


def test_a_detector_with_another_number_of_criteria_fails(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes]
) -> None:
    changed = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, n_criteria=3))
    report = verify_bundle(changed, threads=1)
    assert failed_rows(report) == ["detector.onnx: criteria"]
    assert report.decisions.flips == 2


def test_a_detector_that_gives_nan_fails(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes]
) -> None:
    changed = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=float("nan")))
    report = verify_bundle(changed, threads=1)
    assert failed_rows(report) == ["detector.onnx: reconstruction_error"]
    assert report.to_json()["outputs"]["detector.onnx: reconstruction_error"]["max"] is None


def test_samples_of_another_size_than_the_network_are_refused_with_both(
    make_bundle: Callable[..., Bundle], bundle: Bundle
) -> None:
    other = make_bundle(Preprocess(height=7, width=9, channels=3))
    with pytest.raises(
        BundleError, match=r"golden inputs are \(7, 9, 3\), the network takes \(8, 8, 1\); export the bundle again"
    ):
        verify_bundle(with_files(bundle, golden_npz=other.files["golden.npz"]), threads=1)


def test_samples_with_fewer_outputs_than_inputs_fail(bundle: Bundle) -> None:
    golden = golden_of(bundle)
    report = verify_bundle(with_golden(bundle, inputs=golden.inputs[:1]), threads=1)
    assert not report.passed
    assert "detector.onnx: criteria" in failed_rows(report)


MALFORMED: dict[str, dict[str, Array]] = {
    "criteria are one number": {"criteria": np.array(1.0)},
    "criteria are text": {"criteria": np.full((2, 2), "x")},
    "latent is text": {"latent": np.full((2, 2), "x")},
    "anomaly map is text": {"anomaly_map": np.full((2, 8, 8), "x")},
    "raw inputs differ in size": {
        "frame_0": np.zeros((8, 8), np.uint8),
        "frame_0_input": np.zeros((8, 8, 1), np.uint8),
        "frame_1": np.zeros((8, 8), np.uint8),
        "frame_1_input": np.zeros((9, 8, 1), np.uint8),
    },
    "raw input is text": {"frame_0": np.zeros((8, 8), np.uint8), "frame_0_input": np.full((8, 8, 1), "x")},
}


@pytest.mark.parametrize("arrays", MALFORMED.values(), ids=MALFORMED)
def test_samples_that_cannot_be_compared_are_refused_as_damaged(bundle: Bundle, arrays: dict[str, Array]) -> None:
    changed = with_arrays(bundle, **arrays)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        verify_bundle(changed, threads=1)


# Opened for verification though altered


def altered_folder(bundle: Bundle, folder: Path, **files: bytes) -> Path:
    """The bundle as a folder in which files were replaced behind the manifest's back."""
    bundle.write_folder(folder)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


def test_altered_graphs_are_listed_once_and_compared(bundle: Bundle, tmp_path: Path) -> None:
    folder = altered_folder(
        with_graph_hashes(bundle),
        tmp_path / "x",
        encoder_onnx=perturbed(bundle.files["encoder.onnx"], "encoder"),
        decoder_onnx=renamed_producer(bundle.files["decoder.onnx"]),
    )
    with pytest.raises(BundleError, match=r"coder\.onnx does not have the SHA-256 its manifest lists"):
        Bundle.open(folder)
    opened = Bundle.open(folder, tolerate_altered_graphs=True)
    assert sorted(opened.altered_graphs) == ["decoder.onnx", "encoder.onnx"]
    report = verify_bundle(opened, threads=1)
    assert report.altered == ("decoder.onnx", "encoder.onnx")
    assert failed_rows(report) == ["encoder.onnx: latent"]
    assert not report.passed


def test_an_altered_graph_fails_where_the_samples_name_no_graphs(bundle: Bundle, tmp_path: Path) -> None:
    folder = altered_folder(bundle, tmp_path / "x", detector_onnx=renamed_producer(bundle.files["detector.onnx"]))
    report = verify_bundle(Bundle.open(folder, tolerate_altered_graphs=True), threads=1)
    assert failed_rows(report) == []
    assert report.altered == ("detector.onnx",)
    assert not report.passed


def test_an_unaltered_bundle_opened_so_passes(bundle: Bundle, tmp_path: Path) -> None:
    opened = Bundle.open(altered_folder(with_graph_hashes(bundle), tmp_path / "x"), tolerate_altered_graphs=True)
    assert opened.altered_graphs == ()
    assert verify_bundle(opened, threads=1).passed


@pytest.mark.parametrize("name", ["prior.npz", "golden.npz"])
def test_other_altered_files_are_still_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    content = bundle.files[name] + b"\0"
    bundle.write_folder(tmp_path / "x")
    (tmp_path / "x" / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} does not have the SHA-256 its manifest lists"):
        Bundle.open(tmp_path / "x", tolerate_altered_graphs=True)


def test_a_missing_graph_is_still_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write_folder(tmp_path / "x")
    (tmp_path / "x" / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks encoder\.onnx, which its manifest lists"):
        Bundle.open(tmp_path / "x", tolerate_altered_graphs=True)
