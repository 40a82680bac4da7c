# Two images for CPUs: `scoremux`, the server with the bundled Triton and its front door, and `scoremux-desk`, the
# review desk and the API. `make images` builds them; from the root of a checkout, without it:
#   docker build -f server_config/docker/scoremux.Dockerfile --target scoremux -t scoremux:0.1.0 .
#   docker build -f server_config/docker/scoremux.Dockerfile --target scoremux-desk -t scoremux-desk:0.1.0 .
# @sha256:…, as `docker buildx imagetools inspect` prints it: the base is then exactly this one.
ARG PYTHON_DIGEST=

# Neither the sources nor what builds them reach the images, which are a virtual environment each. In it, sbom.cdx.json
# lists what is installed (CycloneDX).
FROM python:3.12-slim-trixie${PYTHON_DIGEST} AS build
COPY server_config/requirements/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/build.txt
WORKDIR /source
COPY . .
# Which build this is: --build-arg VERSION=0.2.0 --build-arg COMMIT="$(git rev-parse HEAD)"
ARG VERSION=0.1.dev0
ARG COMMIT=
ENV SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION SCOREMUX_COMMIT=$COMMIT
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels . ./desk \
    && python -m venv --without-pip /opt/scoremux

FROM build AS server-packages
RUN pip --python /opt/scoremux install --no-cache-dir --require-hashes --only-binary :all: \
    -r server_config/requirements/serve.txt \
    && pip --python /opt/scoremux install --no-cache-dir --no-index --no-deps /wheels/scoremux-*.whl \
    && cyclonedx-py environment /opt/scoremux --output-file /opt/scoremux/sbom.cdx.json

# Of pyarrow the desk needs neither Flight nor S3; without symbols for debuggers, the packages' libraries are 85 MB smaller.
FROM build AS desk-packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && pip --python /opt/scoremux install --no-cache-dir --require-hashes --only-binary :all: \
    -r server_config/requirements/review.txt \
    && pip --python /opt/scoremux install --no-cache-dir --no-index --no-deps /wheels/*.whl \
    && cyclonedx-py environment /opt/scoremux --output-file /opt/scoremux/sbom.cdx.json
WORKDIR /opt/scoremux/lib/python3.12/site-packages
RUN rm -r pyarrow/include pyarrow/src pyarrow/*flight* pyarrow/*_s3* scoremux/example \
    && find . -name tests -type d -prune -exec rm -r {} + \
    && find . -name '*.so*' ! -path '*.libs/*' -exec strip --strip-unneeded {} +

FROM python:3.12-slim-trixie${PYTHON_DIGEST} AS scoremux
# tini removes the processes that a killed Triton leaves behind.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends haproxy tini \
    && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
COPY --from=server-packages /opt/scoremux /opt/scoremux
RUN mkdir /repository /door
ARG VERSION=0.1.dev0
ARG COMMIT=
LABEL org.opencontainers.image.title="scoremux" org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /
ENV PATH=/opt/scoremux/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
USER 1000
EXPOSE 8443
ENTRYPOINT ["tini", "--", "scoremux"]
CMD ["serve", "--repository=/repository", "--log=/dev/stderr"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8003/readyz', timeout=4)"]

FROM python:3.12-slim-trixie${PYTHON_DIGEST} AS scoremux-desk
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
COPY --from=desk-packages /opt/scoremux /opt/scoremux
RUN mkdir /desk && chown 1000:1000 /desk
ARG VERSION=0.1.dev0
ARG COMMIT=
LABEL org.opencontainers.image.title="scoremux-desk" org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /desk
ENV PATH=/opt/scoremux/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000
VOLUME /desk
EXPOSE 8080
ENTRYPOINT ["tini", "--", "scoremux"]
CMD ["review", "open", "--database=/desk/reviews.db"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/login', timeout=4)"]
