# The server on a CPU, and the front door: docker build -f server_config/docker/cpu.Dockerfile -t scoremux:0.1.0-cpu .
# The bundled Triton (24.10) listens on loopback only: what may reach it from outside is the front door.
FROM python:3.11-slim-trixie AS build
COPY server_config/requirements/build.txt server_config/requirements/serve.txt /tmp/
# What builds the package has an environment of its own, which stays here.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/build.txt
RUN python -m venv /opt/scoremux \
    && /opt/scoremux/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/serve.txt
WORKDIR /source
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/scoremux/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim-trixie
# tini reaps the stubs of a Triton that was killed. HAProxy: 3.0 in Debian 13; security updates come with a new build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends haproxy tini libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin scoremux \
    && mkdir -p /repository /var/log/scoremux \
    && chown scoremux /var/log/scoremux
COPY --from=build /opt/scoremux /opt/scoremux
ENV PATH=/opt/scoremux/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
USER 1000
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "scoremux"]
CMD ["serve", "--repository=/repository", "--profile=cpu", "--log=/var/log/scoremux/triton.log", \
     "--set=watch_address=0.0.0.0", "--set=watch_port=8080"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
