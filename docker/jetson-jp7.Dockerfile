# The runtime on JetPack 7.2 (L4T r39: Orin and Thor): Python 3.12, TensorRT 10.16 and OpenCV from the system.
# docker build -f docker/jetson-jp7.Dockerfile --build-arg JETSON_APT=... -t edge-aae:jp7 .
# docker run --runtime nvidia --gpus all ... edge-aae:jp7
# There is no l4t-jetpack image for r39: TensorRT comes from the same apt repository as on the board. JETSON_APT: its
# address, as the board has it in /etc/apt/sources.list.d/nvidia-l4t-apt-source.list, up to and with /jetson; the
# repository's key is the board's /etc/apt/trusted.gpg.d/jetson-ota-public.asc, to be copied beside this file's context.
FROM ubuntu:24.04
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG JETSON_APT
COPY jetson-ota-public.asc /etc/apt/trusted.gpg.d/jetson-ota-public.asc
# hadolint ignore=DL3008
RUN : "${JETSON_APT:?name the Jetson apt repository, see the head of docker/jetson-jp7.Dockerfile}" \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && printf 'deb %s/%s r39.2 main\n' "$JETSON_APT" common "$JETSON_APT" som > /etc/apt/sources.list.d/jetson.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends \
        python3-venv python3-opencv python3-libnvinfer tensorrt-libs \
        gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages /opt/edge-aae
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edge_aae ./edge_aae
COPY edge_runtime ./edge_runtime
COPY export ./export
COPY train ./train
# No extras: they would put wheels over the system's OpenCV and TensorRT. Ubuntu 24.04 has numpy 1.26, for which its
# OpenCV was compiled; bindings of the system's CUDA 13.
RUN /opt/edge-aae/bin/pip install --no-cache-dir \
        . 'numpy==1.26.4' 'onnxruntime==1.32.0' 'cuda-bindings==13.5.0' 'paho-mqtt==2.1.0' 'prometheus_client==0.26.0' \
        'starlette==1.10.0' 'uvicorn==0.54.0' 'cryptography==50.0.2' \
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
RUN edge-aae doctor
# After the smoke test: the models are a volume.
ENV EDGE_AAE_MODEL=/models/model.aae
EXPOSE 8080 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=900s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-aae"]
CMD ["run", "--camera", "0", "--backend", "tensorrt", "--metrics", "0.0.0.0:9100"]
