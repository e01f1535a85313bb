"""What is read of an ONNX file before an engine gets it: no tensor lies outside, nothing malformed gets through."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_runtime.backends import onnx_session, open_backend  # noqa: E402
from edge_runtime.bundle.bundle import Bundle  # noqa: E402
from edge_runtime.errors import BackendError, BundleError  # noqa: E402
from edge_runtime.onnx_file import KNOWN, WITHIN, check_onnx  # noqa: E402

VALUES = np.arange(4, dtype=np.float32)
MARKER = "*/_ORT_MEM_ADDR_/*"
"""By which onnxruntime 1.23 takes `offset` for an address of its own memory."""
EXTERNAL = "external data"


def outside(location: str = "../weights.bin", **facts: str) -> Any:
    """A tensor whose data lies elsewhere."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **facts}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(*nodes: Any, weights: Any = None, sparse: Any = None) -> Any:
    facts = {"sparse_initializer": [sparse]} if sparse is not None else {}
    return helper.make_graph(
        [*nodes, helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(VALUES, "w") if weights is None else weights],
        **facts,
    )


def model(of: Any = None, **facts: Any) -> Any:
    return helper.make_model(of or graph(), opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **facts)


def constant(**attribute: Any) -> Any:
    return helper.make_node("Constant", [], ["c"], **attribute)


def branches(within: Any) -> Any:
    return helper.make_node("If", ["x"], ["b"], then_branch=graph(within), else_branch=graph())


def sparse_tensor(**parts: Any) -> Any:
    whole = {"values": numpy_helper.from_array(VALUES[:1], "s"), "indices": numpy_helper.from_array(np.array([1]))}
    return helper.make_sparse_tensor(*(parts.get(name, tensor) for name, tensor in whole.items()), [4])


def in_a_function() -> Any:
    function = helper.make_function("mine", "F", ["a"], ["c"], [constant(value=outside())], [])
    return model(functions=[function])


def in_a_function_default() -> Any:
    function = helper.make_function(
        "mine",
        "F",
        ["a"],
        ["c"],
        [],
        [],
        attribute_protos=[helper.make_attribute("v", outside())],
    )
    return model(functions=[function])


def in_training() -> Any:
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph(weights=outside()))
    return made


def nested(levels: int) -> Any:
    node = constant(value=outside())
    for _ in range(levels):
        node = branches(node)
    return model(graph(node))


HIDDEN: dict[str, Callable[[], Any]] = {
    "initialiser": lambda: model(graph(weights=outside())),
    "initialiser at an absolute path": lambda: model(graph(weights=outside("/etc/passwd"))),
    "initialiser at an address": lambda: model(graph(weights=outside(MARKER, offset="4096", length="16"))),
    "constant": lambda: model(graph(constant(value=outside()))),
    "constants in a list": lambda: model(graph(constant(values=[outside(), outside()]))),
    "sparse initialiser's values": lambda: model(graph(sparse=sparse_tensor(values=outside()))),
    "sparse initialiser's indices": lambda: model(graph(sparse=sparse_tensor(indices=outside()))),
    "sparse constant": lambda: model(graph(constant(sparse_value=sparse_tensor(values=outside())))),
    "constant in a branch": lambda: nested(1),
    "constant in a branch of a branch": lambda: nested(4),
    "initialiser of a branch": lambda: model(
        graph(helper.make_node("If", ["x"], ["b"], then_branch=graph(weights=outside()), else_branch=graph()))
    ),
    "constant in a function": in_a_function,
    "default of a function": in_a_function_default,
    "training graph": in_training,
}


@pytest.mark.parametrize("make", HIDDEN.values(), ids=HIDDEN)
def test_a_tensor_outside_the_file_is_refused_wherever_it_hides(make: Callable[[], Any]) -> None:
    with pytest.raises(BundleError, match=f"w.onnx is refused: .*{EXTERNAL}"):
        check_onnx(make().SerializeToString(), "w.onnx")


def test_a_whole_model_is_taken() -> None:
    node = branches(constant(value=numpy_helper.from_array(VALUES)))
    check_onnx(model(graph(node, sparse=sparse_tensor())).SerializeToString(), "w.onnx")


def test_the_fields_are_those_of_onnx() -> None:
    for kind, known in KNOWN.items():
        fields = getattr(onnx, kind).DESCRIPTOR.fields
        leads = {field.number: field.message_type.name for field in fields if field.message_type is not None}
        assert {field.number for field in fields} == known
        assert {number: name for number, name in leads.items() if name in KNOWN} == WITHIN[kind]


def test_an_engine_never_gets_a_file_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    content = model(graph(weights=outside("secret.bin"))).SerializeToString()
    with pytest.raises(BackendError, match=EXTERNAL):
        onnx_session(content)
    for name in ("onnxruntime-cpu", "openvino"):
        if name == "openvino":
            pytest.importorskip("openvino")
        with pytest.raises(BackendError, match=EXTERNAL):
            open_backend(name, content)


def test_a_bundle_whose_encoder_or_decoder_refers_outside_is_refused(bundle: Bundle) -> None:
    for name in ("detector.onnx", "encoder.onnx", "decoder.onnx", "detector-batch.onnx"):
        files = {**bundle.files, name: HIDDEN["initialiser at an address"]().SerializeToString()}
        with pytest.raises(BundleError, match=f"{name} is refused: .*{EXTERNAL}"):
            Bundle.from_parts(bundle.manifest, files, bundle.path)


def field(number: int, content: bytes, *, wire_type: int = 2) -> bytes:
    """A length-delimited field, of a content below 16,384 bytes."""
    length = bytes((len(content),)) if len(content) < 128 else bytes((len(content) & 0x7F | 0x80, len(content) >> 7))
    return bytes((number << 3 | wire_type,)) + length + content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"not a graph", "it is no ONNX file"),
        (b"\x08\x0a", "it has 0 graphs"),
        (field(7, b"") * 2, "it has 2 graphs"),
        (field(7, b"\x0a\x7f"), "goes beyond its message"),
        (field(7, b"")[:-1], "it ends within a number"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "goes beyond its message"),
        (b"\xff" * 11, "a number is too long"),
        (b"\x3b\x3c", "wire type 3"),
        (b"\x38\x00", "field 7 of ModelProto is of wire type 0"),
        (b"\xba\x80\x80\x80\x10\x00", "a field's number is too large"),  # seven, for a reader that drops high bits
        (field(7, field(5, b"\x70\x80\x00")), EXTERNAL),  # zero, in two bytes
        (field(7, field(5, b"\x70\x81\x80\x80\x80\x10")), EXTERNAL),  # 1 after the upper half is dropped
        (field(7, field(5, b"\xf0\x00\x01")), EXTERNAL),  # the field's number in more bytes than it needs
        (field(7, field(5, b"\x70\x01\x70\x00")), EXTERNAL),  # once more, and the last counts
        (field(7, field(9, b"")), "GraphProto has field 9, which this release does not know"),
        (b"\x08\x0a" + field(2, b"ORTM" + bytes(8))[:2] + b"ORTM" + bytes(8), "onnxruntime's own format"),
    ],
)
def test_what_is_malformed_or_not_known_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=f"w.onnx is refused: .*{reason}"):
        check_onnx(content, "w.onnx")


def test_a_graph_too_deep_and_one_of_too_many_fields_are_refused() -> None:
    content = field(5, b"\x70\x01")
    for _ in range(30):
        content = field(1, field(5, field(6, content)))  # a graph in an attribute of a node of a graph
    with pytest.raises(BundleError, match="more than 64 deep"):
        check_onnx(field(7, content), "w.onnx")
    begin = time.process_time()
    with pytest.raises(BundleError, match="more than 1,000,000 fields"):
        check_onnx(b"\x08\x0a" * 5_000_000, "w.onnx")
    assert time.process_time() - begin < 10.0


def test_no_flipped_byte_or_cut_gives_another_exception() -> None:
    content = HIDDEN["constant in a branch"]().SerializeToString()
    for offset in range(len(content)):
        for changed in (content[:offset], content[:offset] + bytes((content[offset] ^ 0xFF,)) + content[offset + 1 :]):
            try:
                check_onnx(changed, "w.onnx")
            except BundleError:
                continue
            assert onnx.ModelProto.FromString(changed) is not None  # what is taken, protobuf reads too


def test_ten_megabytes_take_no_time() -> None:
    weights = numpy_helper.from_array(np.zeros(2_500_000, np.float32), "w")
    nodes = [constant(value=numpy_helper.from_array(VALUES)) for _ in range(2_000)]
    content = model(graph(*nodes, weights=weights)).SerializeToString()
    begin = time.process_time()
    check_onnx(content, "w.onnx")
    assert time.process_time() - begin < 1.0
    assert len(content) > 10_000_000


def test_the_reader_needs_no_onnx() -> None:
    assert "import onnx" not in Path(os.fspath(check_onnx.__code__.co_filename)).read_text()


def test_the_page_on_security_counts_the_places() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/security.md").read_text()
    assert f"({len(HIDDEN)} places)" in page
