# Training and export on an NVIDIA GPU (x86-64), or without one: everything `edge-aae` can do.
# docker build -f docker/train.Dockerfile -t edge-aae:train .
# docker run --gpus all --user $(id -u):$(id -g) -v $PWD:/work edge-aae:train train photos/
# PyTorch's wheel from PyPI brings CUDA with it; constraints.txt pins it and all else. The driver comes from the host.
ARG BASE=debian:bookworm-20250520-slim

FROM ${BASE}
# hadolint ignore=DL3005,DL3008
RUN apt-get update \
    && apt-get upgrade -y \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/edge-aae
WORKDIR /src
COPY constraints.txt ./
# Before the sources: PyTorch changes seldom.
RUN /opt/edge-aae/bin/pip install --no-cache-dir --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY edge_aae ./edge_aae
COPY edge_runtime ./edge_runtime
COPY export ./export
COPY train ./train
RUN /opt/edge-aae/bin/pip install --no-cache-dir --constraint constraints.txt '.[demo,sign]' \
    && useradd --uid 10001 --user-group --create-home --home-dir /work edge-aae
ENV PATH=/opt/edge-aae/bin:/usr/local/bin:/usr/bin:/bin \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /work
RUN edge-aae doctor && python3 -c "import torch, export.bundling, train.runs.session"
ENTRYPOINT ["edge-aae"]
CMD ["--help"]
