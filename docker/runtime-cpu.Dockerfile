# The runtime on a CPU, x86-64 and aarch64: no PyTorch, no compiler, a user without rights, a root that may be read-only.
# docker build -f docker/runtime-cpu.Dockerfile -t edge-aae:cpu .
ARG BASE=debian:bookworm-20250520-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/edge-aae && python3 -m venv /opt/build
WORKDIR /src
COPY docker/locks/runtime.txt docker/locks/build.txt ./locks/
RUN /opt/edge-aae/bin/pip install --no-cache-dir --require-hashes --requirement locks/runtime.txt \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY edge_aae ./edge_aae
COPY edge_runtime ./edge_runtime
COPY export ./export
COPY train ./train
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
    && /opt/edge-aae/bin/pip install --no-cache-dir --no-index --no-deps /tmp/wheel/*.whl \
    && /opt/edge-aae/bin/pip check \
    && /opt/edge-aae/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
# Debian's Python and certificates get their security fixes with every build: the release is pinned, not its patches.
# hadolint ignore=DL3005,DL3008
RUN apt-get update \
    && apt-get upgrade -y \
    && apt-get install -y --no-install-recommends ca-certificates python3 tzdata \
    && rm -rf /var/lib/apt/lists/*
# The group video owns /dev/video*; its number, 44, is the same in Debian, Ubuntu and JetPack.
RUN useradd --uid 10001 --user-group --groups video --create-home --home-dir /var/lib/edge-aae edge-aae \
    && mkdir /models
COPY --from=build /opt/edge-aae /opt/edge-aae
ENV PATH=/opt/edge-aae/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/edge-aae
# A smoke test: an image whose libraries do not load is not built.
RUN edge-aae doctor
# After the smoke test: the models are a volume.
ENV EDGE_AAE_MODEL=/models/model.aae
# 9100: --metrics. 8080: --serve, where it is asked for.
EXPOSE 8080 9100
# /healthz is false while a camera is stalled; see docs/sources.md.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-aae"]
CMD ["run", "--camera", "0", "--metrics", "0.0.0.0:9100"]
