# The server and its front door, inside NVIDIA's Triton container. From the root of a checkout:
#   docker build -f server_config/docker/server.Dockerfile -t scoremux:0.1.0-cpu .
#   docker build -f server_config/docker/server.Dockerfile -t scoremux:0.1.0-gpu --build-arg HARDWARE=gpu .
# Releases of Triton before 26.07 have known security holes.
ARG TRITON_RELEASE=26.07
# @sha256:…, as `docker buildx imagetools inspect` prints it: the base images are then exactly these.
ARG TRITON_DIGEST=
ARG PYTHON_DIGEST=

# The wheel is the same for every Python. Neither the sources nor what builds them reach the image.
FROM python:3.12-slim-trixie${PYTHON_DIGEST} AS build
COPY server_config/requirements/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/build.txt
WORKDIR /source
COPY . .
# Which build this is: --build-arg VERSION=0.2.0 --build-arg COMMIT="$(git rev-parse HEAD)"
ARG VERSION=0.1.dev0
ARG COMMIT=
ENV SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION SCOREMUX_COMMIT=$COMMIT
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3${TRITON_DIGEST}
USER 0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Ubuntu 24.04 has HAProxy 2.8, too old for the front door; this archive is kept by Debian's maintainer of HAProxy.
# tini removes the processes that a killed Triton leaves behind.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends software-properties-common \
    && add-apt-repository --yes ppa:vbernat/haproxy-3.0 \
    && apt-get install --yes --no-install-recommends "haproxy=3.0.*" tini \
    && rm -rf /var/lib/apt/lists/*
# The container's own Python, which its Python backend embeds, with an environment for the packages.
ARG HARDWARE=cpu
COPY server_config/requirements/${HARDWARE}.txt /tmp/requirements.txt
RUN python3 -m venv --without-pip /opt/scoremux \
    && python3 -m pip --python /opt/scoremux/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /tmp/requirements.txt
COPY --from=build /wheels /tmp/wheels
RUN python3 -m pip --python /opt/scoremux/bin/python install --no-cache-dir --no-index --no-deps /tmp/wheels/*.whl \
    && rm -r /tmp/wheels \
    && mkdir /repository
WORKDIR /
ENV PATH=/opt/scoremux/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
# The container's own user triton-server.
USER 1000
EXPOSE 8000 8001 8002 8003 8443
ENTRYPOINT ["tini", "--", "scoremux"]
CMD ["serve", "--repository=/repository", "--log=/dev/stderr", "--set=triton=/opt/tritonserver", "--set=address=0.0.0.0", \
     "--set=watch_address=0.0.0.0"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8003/readyz', timeout=4)"]
