# The runtime on JetPack 6 (L4T r36: Orin): Python 3.10, TensorRT 10.3 and OpenCV with GStreamer from the system.
# docker build -f docker/jetson-jp6.Dockerfile --build-arg NGC=... -t edge-aae:jp6 .
# docker run --runtime nvidia --gpus all ... edge-aae:jp6
# NGC: the host of NVIDIA's container registry. Build on the Jetson, or anywhere with emulation of arm64.
ARG NGC
FROM ${NGC}/nvidia/l4t-jetpack:r36.4.0
# Ubuntu 22.04's OpenCV 4.5 is built with GStreamer; PyPI's is not. python3-libnvinfer is TensorRT's Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3-venv python3-opencv python3-libnvinfer \
        gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages /opt/edge-aae
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edge_aae ./edge_aae
COPY edge_runtime ./edge_runtime
COPY export ./export
COPY train ./train
# No extras: they would put wheels over the system's OpenCV and TensorRT. numpy below 2, for which that OpenCV was
# compiled; onnxruntime 1.23.2 is the last for Python 3.10, and for the CPU; bindings of the system's CUDA.
RUN /opt/edge-aae/bin/pip install --no-cache-dir \
        . 'numpy==1.26.4' 'onnxruntime==1.23.2' 'cuda-bindings==12.9.10' 'paho-mqtt==2.1.0' 'prometheus_client==0.26.0' \
        'starlette==1.7.0' 'uvicorn==0.54.0' 'cryptography==50.0.2' \
    && useradd --uid 10001 --user-group --groups video --create-home --home-dir /var/lib/edge-aae edge-aae \
    && mkdir /models \
    && install --directory --owner edge-aae --group edge-aae /var/cache/edge-aae
ENV PATH=/opt/edge-aae/bin:/usr/local/bin:/usr/bin:/bin \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=all \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EDGE_AAE_CACHE=/var/cache/edge-aae
USER 10001
WORKDIR /var/lib/edge-aae
RUN edge-aae doctor && python3 -c "import cv2; assert 'GStreamer:                   YES' in cv2.getBuildInformation()"
# After the smoke test: the models are a volume.
ENV EDGE_AAE_MODEL=/models/model.aae
EXPOSE 8080 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=900s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-aae"]
CMD ["run", "--camera", "0", "--backend", "tensorrt", "--metrics", "0.0.0.0:9100"]
