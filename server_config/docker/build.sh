#!/bin/sh
# Build both images for CPUs with docker, podman or buildah, whichever is here: server_config/docker/build.sh
set -eu
cd "$(dirname "$0")/../.."
version=${VERSION:-$(git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//' || true)}
version=${version:-0.1.dev0}
commit=$(git rev-parse HEAD)
for tool in docker podman buildah ""; do
  if [ -n "$tool" ] && command -v "$tool" >/dev/null; then break; fi
done
[ -n "$tool" ] || { echo "make images needs docker, podman or buildah" >&2; exit 2; }
[ "$tool" = docker ] || BUILD_OPTIONS="--format docker ${BUILD_OPTIONS:-}"  # OCI's format has no health check
for image in scoremux scoremux-desk; do
  # shellcheck disable=SC2086  # BUILD_OPTIONS are several words
  "$tool" build ${BUILD_OPTIONS:-} -f server_config/docker/scoremux.Dockerfile --target "$image" \
    --build-arg VERSION="$version" --build-arg COMMIT="$commit" -t "$image:$version" -t "$image:latest" .
done
