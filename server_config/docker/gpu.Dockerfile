# The server in NVIDIA's Triton: docker build -f server_config/docker/gpu.Dockerfile -t scoremux:0.1.0-gpu .
# Any release from 25.07 on may listen beyond loopback; before it strangers could run code in Triton.
ARG TRITON_RELEASE=25.10

# The wheel is the same for every Python; what builds it, and the sources, stay here.
FROM python:3.11-slim-trixie AS build
COPY server_config/requirements/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/build.txt
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# An environment of its own with the container's Python, which is the one that its Python backend embeds.
COPY server_config/requirements/gpu.txt /tmp/gpu.txt
RUN python3 -m venv --without-pip /opt/scoremux \
    && python3 -m pip --python /opt/scoremux/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /tmp/gpu.txt
COPY --from=build /wheels /tmp/wheels
RUN python3 -m pip --python /opt/scoremux/bin/python install --no-cache-dir --no-index --no-deps /tmp/wheels/*.whl \
    && rm -r /tmp/wheels \
    && mkdir -p /repository /var/log/scoremux \
    && chown 1000 /var/log/scoremux
WORKDIR /
ENV PATH=/opt/scoremux/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
# The image's own user triton-server.
USER 1000
EXPOSE 8000 8001 8002 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "scoremux"]
CMD ["serve", "--repository=/repository", "--profile=gpu-onnx", "--log=/var/log/scoremux/triton.log", \
     "--set=address=0.0.0.0", "--set=grpc_port=8001", "--set=http_port=8000", "--set=metrics_port=8002", \
     "--set=watch_address=0.0.0.0", "--set=watch_port=8080"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
