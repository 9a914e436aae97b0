#!/usr/bin/env bash
# Builds both images, runs them with the restrictions of a cluster, enhances a portrait through them, stops the gateway
# during a request, and with podman runs the Kubernetes Deployments with `podman kube play`.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: deploy/try-containers.sh [OPTIONS]

  --portrait FILE   a photo with a face (default: the astronaut of scikit-image)
  --base IMAGE      base image with python3 and venv (default: docker.io/library/python:3.11-slim-bookworm)
  --models DIR      checkpoints for the backend (default: none, the classical engine)
  --engine NAME     the backend's variant: cpu (default), onnx or cuda
  --freeze          write the installed versions to deploy/docker/constraints.txt
  --keep            do not remove the images
  --skip-build      use the images of an earlier run with --keep
  --skip-kube       do not run the Deployments

environment:
  TOOL          docker or podman (default: podman if it is installed)
  BUILD_FLAGS   additional flags for `$TOOL build`, such as --isolation chroot --network host
  TORCH_INDEX   package index of torch without CUDA; empty to use pip's own
HELP
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOL=${TOOL:-$(command -v podman > /dev/null && echo podman || echo docker)}
TAG=try
PORTRAIT='' BASE='' MODELS='' ENGINE=cpu FREEZE=no KEEP=no BUILD=yes KUBE=yes VOLUME=none
while [ $# -gt 0 ]; do
  case $1 in
    --portrait) PORTRAIT=$(realpath "$2"); shift ;;
    --base) BASE=$2; shift ;;
    --models) MODELS=$(realpath "$2"); shift ;;
    --engine) ENGINE=$2; shift ;;
    --freeze) FREEZE=yes ;;
    --keep) KEEP=yes ;;
    --skip-build) BUILD=no ;;
    --skip-kube) KUBE=no ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

WORK=$(mktemp -d)
NAME=gpen-try-$$
REPOSITORY=$([ "$TOOL" = podman ] && echo localhost/ || echo '')
GATEWAY=${REPOSITORY}gpen-gateway:$TAG BACKEND=${REPOSITORY}gpen-backend:$TAG
# The restrictions of the Deployments.
LOCKED=(--read-only --tmpfs /tmp:rw,size=512m,mode=1777 --cap-drop ALL --security-opt no-new-privileges)

say() { printf '\n== %s\n' "$*"; }

clean() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    for one in "$NAME-backend" "$NAME-gateway"; do "$TOOL" logs --tail 30 "$one" 2>&1 | sed "s/^/$one: /" || true; done
  fi
  if [ -e "$WORK/kube.yaml" ]; then "$TOOL" kube down "$WORK/kube.yaml" > /dev/null 2>&1 || true; fi
  "$TOOL" network rm "$NAME" > /dev/null 2>&1 || true
  if [ "$VOLUME" = made ]; then podman volume rm -f gpen-models > /dev/null 2>&1 || true; fi
  "$TOOL" rm -f "$NAME-gateway" > /dev/null 2>&1 || true
  "$TOOL" rm -f "$NAME-backend" > /dev/null 2>&1 || true
  "$TOOL" volume rm -f "$NAME-cache" > /dev/null 2>&1 || true
  if [ "$KEEP" = no ]; then "$TOOL" rmi "$GATEWAY" "$BACKEND" > /dev/null 2>&1 || true; fi
  rm -rf "$WORK"
}
trap clean EXIT

build() {
  local which=$1 image=$2
  shift 2
  say "build $image"
  local flags=()
  if [ -n "$BASE" ]; then flags+=(--build-arg "BASE=$BASE"); fi
  if [ -n "${TORCH_INDEX+set}" ]; then flags+=(--build-arg "TORCH_INDEX=$TORCH_INDEX"); fi
  # Only Docker's image format has health checks, not OCI's.
  if [ "$TOOL" = podman ]; then flags+=(--format docker); fi
  # shellcheck disable=SC2086 # BUILD_FLAGS holds several words
  "$TOOL" build ${BUILD_FLAGS:-} "${flags[@]}" "$@" -f "deploy/docker/Dockerfile.$which" -t "$image" . > "$WORK/build.log" 2>&1 ||
    { tail -40 "$WORK/build.log" >&2; exit 1; }
}

check_image() {
  local image=$1
  say "check $image"
  "$TOOL" image inspect "$image" --format '{{.Size}}' | awk '{printf "size %d MB\n", $1 / 1e6}'
  "$TOOL" run --rm "${LOCKED[@]}" --entrypoint sh "$image" -c '
    id -u | grep -qx 10001 || { echo "does not run as 10001"; exit 1; }
    for tool in gcc cc make pip pip3 git curl wget; do
      if command -v "$tool"; then echo "$tool must not be in the image"; exit 1; fi
    done
    if touch /opt/gpen/x 2> /dev/null || touch /models/../x 2> /dev/null; then echo "the root is not read-only"; exit 1; fi'
}

# await URL: wait until it answers 200.
await() {
  for _ in $(seq 150); do
    if curl -fsS -o /dev/null --max-time 5 "$1" 2> /dev/null; then return; fi
    sleep 0.4
  done
  echo "$1 did not become ready: $(curl -sS --max-time 5 "$1" 2>&1 || true)" >&2
  return 1
}

# enhance URL FILE [KEY]: enhance the portrait through the gateway at URL and check the result.
enhance() {
  curl -fsS -D "$WORK/headers" ${3:+-H "Authorization: Bearer $3"} -F image=@"$PORTRAIT" -F format=png "$1/v1/enhance" -o "$2"
  grep -iE '^(x-gpen|x-faces|server-timing)' "$WORK/headers"
  grep -qi '^x-faces: [1-9]' "$WORK/headers" || { echo "no face was restored" >&2; return 1; }
  # PNG's signature, and the header's width and height: 896.
  [ "$(od -An -tx1 -N24 "$2" | tr -d ' \n')" = 89504e470d0a1a0a0000000d494844520000038000000380 ] ||
    { echo "the result is not a PNG of 896x896" >&2; return 1; }
}

cd "$ROOT"
if [ "$BUILD" = yes ]; then
  build gateway "$GATEWAY"
  build backend "$BACKEND" --build-arg "ENGINE=$ENGINE"
fi
check_image "$GATEWAY"
check_image "$BACKEND"
if [ "$FREEZE" = yes ]; then
  say "freeze"
  # Ray is in neither image by default: keep the version that deploy/ray/rayservice.yaml names.
  RAY=$(grep '^ray==' deploy/docker/constraints.txt)
  {
    echo "# Versions of the last tested images; written by deploy/try-containers.sh --freeze."
    {
      for image in "$GATEWAY" "$BACKEND"; do
        "$TOOL" run --rm --entrypoint python3 "$image" -c '
from importlib.metadata import distributions
for one in distributions():
    if one.name not in ("gpen-gateway", "torch"):
        print(f"{one.name.lower()}=={one.version}")'
      done
      echo "$RAY"
    } | sort -u
  } > deploy/docker/constraints.txt
fi
if [ -z "$PORTRAIT" ]; then
  PORTRAIT=$WORK/portrait.jpg
  curl -fsSL -o "$PORTRAIT" https://raw.githubusercontent.com/scikit-image/scikit-image/v0.24.0/skimage/data/astronaut.png
fi

say "run both with restrictions"
MOUNT=() BACKEND_ENV=(-e GPEN_BACKEND_ENGINE=classical)
if [ -n "$MODELS" ]; then MOUNT=(-v "$MODELS:/models:ro") BACKEND_ENV=(-e "GPEN_BACKEND_ENGINE=${ENGINE/#c*/torch}"); fi
"$TOOL" run -d --name "$NAME-backend" "${LOCKED[@]}" -p 127.0.0.1::8000 ${MOUNT[@]+"${MOUNT[@]}"} "${BACKEND_ENV[@]}" "$BACKEND" > /dev/null
# The gateway shares the backend's network, which publishes only the gateway's port.
"$TOOL" run -d --name "$NAME-gateway" "${LOCKED[@]}" --network "container:$NAME-backend" -v "$NAME-cache:/cache" \
  ${MOUNT[@]+"${MOUNT[@]}"} -e GATEWAY_BACKEND_URL=http://127.0.0.1:8001 "$GATEWAY" > /dev/null
URL=http://$("$TOOL" port "$NAME-backend" 8000/tcp | head -1)
await "$URL/readyz"
curl -fsS "$URL/readyz"
echo
for one in backend gateway; do
  if [ "$TOOL" = podman ]; then
    podman healthcheck run "$NAME-$one" > /dev/null
    echo "$one: healthy"
  else
    for _ in $(seq 60); do
      state=$(docker inspect -f '{{.State.Health.Status}}' "$NAME-$one")
      if [ "$state" = healthy ]; then break; fi
      sleep 1
    done
    echo "$one: $state"
    [ "$state" = healthy ]
  fi
done

say "enhance a portrait through both"
enhance "$URL" "$WORK/sharp.png"
curl -fsS "$URL/metrics" | grep -E '^gateway_(pictures|backend_attempts)_total'

say "stop the gateway while a request is in flight"
curl -fsS -F image=@"$PORTRAIT" -F strength=71 "$URL/v1/enhance" -o "$WORK/late.png" &
REQUEST=$!
sleep 0.1
"$TOOL" stop -t 40 "$NAME-gateway" > /dev/null
wait "$REQUEST"
CODE=$("$TOOL" inspect -f '{{.State.ExitCode}}' "$NAME-gateway")
echo "answered, and exit status $CODE"
[ "$CODE" = 0 ]
"$TOOL" rm -f "$NAME-gateway" > /dev/null
"$TOOL" rm -f "$NAME-backend" > /dev/null

if [ "$KUBE" = yes ] && [ "$TOOL" = podman ]; then
  say "run the Deployments with podman kube play, with API keys"
  cp -r deploy/kubernetes "$WORK/kubernetes"
  KEYS=$WORK/kubernetes/overlays/podman
  # Root in a rootless container is the calling user; the keys file is readable by its owner only.
  KEY=$("$TOOL" run --rm --user 0 -v "$KEYS:/made" "$GATEWAY" keys make try --file /made/keys.json)
  kubectl kustomize "$KEYS" > "$WORK/kube.yaml"
  if [ -z "$MODELS" ]; then
    echo "skipped: the Deployments need a checkpoint; pass --models with a gpen-bfr-256" >&2
  else
    # The name of the claim in the manifests. Fails if you have a volume with that name.
    podman volume create gpen-models > /dev/null
    VOLUME=made
    cp "$MODELS"/* "$(podman volume inspect gpen-models -f '{{.Mountpoint}}')"
    podman run --rm "${LOCKED[@]}" -v "$MODELS:/models:ro" "$BACKEND" models verify gpen-bfr-256
    # Pods resolve each other's names only on a named network; the name depends on podman's version.
    podman network create "$NAME" > /dev/null
    if podman --version | grep -qE ' 4\.[0-3]\.'; then sed -i 's|//gpen-backend-pod:|//gpen-backend-pod-0:|' "$WORK/kube.yaml"; fi
    podman kube play --network "$NAME" "$WORK/kube.yaml" > "$WORK/play.log" 2>&1 || { cat "$WORK/play.log" >&2; exit 1; }
    await http://127.0.0.1:18000/readyz
    curl -fsS http://127.0.0.1:18000/readyz
    echo
    CODE=$(curl -sS -o /dev/null -w '%{http_code}' -F image=@"$PORTRAIT" http://127.0.0.1:18000/v1/enhance)
    echo "without a key: $CODE"
    [ "$CODE" = 401 ]
    enhance http://127.0.0.1:18000 "$WORK/kube.png" "$KEY"
  fi
fi
say "all checks passed"
