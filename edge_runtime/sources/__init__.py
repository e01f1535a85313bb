"""Where frames come from: cameras, streams, pipelines, files, pipes, and faults to order. See docs/sources.md."""

from edge_runtime.sources.capture import CameraSource, NetworkSource, PipelineSource
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, FrameSource
from edge_runtime.sources.files import ImageSource, VideoSource
from edge_runtime.sources.motion_jpeg import HttpSource, MotionJpegSource
from edge_runtime.sources.pipes import ChildSource, StdinSource
from edge_runtime.sources.selection import source_from, split_name
from edge_runtime.sources.synthetic import TestSource

__all__ = [
    "CameraSource",
    "CaptureSettings",
    "CapturedFrame",
    "ChildSource",
    "FrameSource",
    "HttpSource",
    "ImageSource",
    "MotionJpegSource",
    "NetworkSource",
    "PipelineSource",
    "StdinSource",
    "TestSource",
    "VideoSource",
    "source_from",
    "split_name",
]
