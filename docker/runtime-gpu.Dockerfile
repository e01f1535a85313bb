# The runtime on an x86-64 NVIDIA GPU: onnxruntime's CUDA provider, and TensorRT. Experimental: never run on a GPU so far.
# docker build -f docker/runtime-gpu.Dockerfile -t edge-aae:gpu .
# docker run --gpus all ... edge-aae:gpu run --backend tensorrt ...
# CUDA, cuDNN and TensorRT are wheels, pinned here: the providers of onnxruntime-gpu 1.31.1 are linked against CUDA 13,
# cuDNN 9 and libnvinfer.so.10, so that TensorRT is 10.16, not 11. The driver comes from the host.
ARG BASE=debian:bookworm-20250520-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/edge-aae
# Before the sources: these gigabytes change seldom.
COPY docker/gpu-requirements.txt /tmp/gpu-requirements.txt
RUN /opt/edge-aae/bin/pip install --no-cache-dir --requirement /tmp/gpu-requirements.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY edge_aae ./edge_aae
COPY edge_runtime ./edge_runtime
COPY export ./export
COPY train ./train
# No extra cpu: onnxruntime and onnxruntime-gpu are one Python package, and the later would overwrite the other.
RUN /opt/edge-aae/bin/pip install --no-cache-dir --constraint constraints.txt '.[camera,mqtt,metrics,dashboard,sign]' \
    && /opt/edge-aae/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
# hadolint ignore=DL3005,DL3008
RUN apt-get update \
    && apt-get upgrade -y \
    && apt-get install -y --no-install-recommends ca-certificates python3 tzdata \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --groups video --create-home --home-dir /var/lib/edge-aae edge-aae \
    && mkdir /models \
    && install --directory --owner edge-aae --group edge-aae /var/cache/edge-aae
COPY --from=build /opt/edge-aae /opt/edge-aae
ENV PATH=/opt/edge-aae/bin:/usr/local/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/opt/edge-aae/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/edge-aae/lib/python3.11/site-packages/nvidia/cudnn/lib:/opt/edge-aae/lib/python3.11/site-packages/tensorrt_libs \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EDGE_AAE_CACHE=/var/cache/edge-aae
USER 10001
WORKDIR /var/lib/edge-aae
# A build has no GPU: doctor notes the providers as not usable, and fails where the libraries themselves do not load.
RUN edge-aae doctor
# After the smoke test: the models are a volume.
ENV EDGE_AAE_MODEL=/models/model.aae
EXPOSE 8080 9100
HEALTHCHECK --interval=15s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-aae"]
CMD ["run", "--camera", "0", "--backend", "tensorrt", "--metrics", "0.0.0.0:9100"]
