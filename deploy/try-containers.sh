#!/usr/bin/env bash
# Builds both images, runs them locked down as a cluster would, has a portrait enhanced through the two, stops them in
# mid-request, and runs the Kubernetes Deployments with `podman kube play` where podman is the tool.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: deploy/try-containers.sh [OPTIONS]

  --portrait FILE   a photo with a face; by default the one of `gpen-gateway demo`
  --base IMAGE      in place of docker.io/library/python:3.11-slim-bookworm; needs python3 with venv
  --models DIR      checkpoints for the backend; without it the classical engine serves
  --engine NAME     cpu (default), onnx or cuda: the backend's variant
  --freeze          write the versions that were installed to deploy/docker/constraints.txt
  --keep            leave the images
  --skip-build      use the images of an earlier --keep
  --skip-kube       leave out the Deployments

environment:
  TOOL          docker or podman; by default podman where it is installed
  BUILD_FLAGS   more flags for `$TOOL build`, such as --isolation chroot --network host
  TORCH_INDEX   where torch without CUDA comes from; empty where pip finds it by itself
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
# As the Deployments have it.
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
  # Health checks are Docker's, not OCI's.
  if [ "$TOOL" = podman ]; then flags+=(--format docker); fi
  # shellcheck disable=SC2086 # BUILD_FLAGS holds several words
  "$TOOL" build ${BUILD_FLAGS:-} "${flags[@]}" "$@" -f "deploy/docker/Dockerfile.$which" -t "$image" . > "$WORK/build.log" 2>&1 ||
    { tail -40 "$WORK/build.log" >&2; exit 1; }
}

check_image() {
  local image=$1
  say "look into $image"
  "$TOOL" image inspect "$image" --format '{{.Size}}' | awk '{printf "size %d MB\n", $1 / 1e6}'
  "$TOOL" run --rm "${LOCKED[@]}" --entrypoint sh "$image" -c '
    id -u | grep -qx 10001 || { echo "does not run as 10001"; exit 1; }
    for tool in gcc cc make pip pip3 git curl wget; do
      if command -v "$tool"; then echo "$tool was left in the image"; exit 1; fi
    done
    if touch /opt/gpen/x 2> /dev/null || touch /models/../x 2> /dev/null; then echo "the root is not read-only"; exit 1; fi'
}

# await URL: until it answers 200.
await() {
  for _ in $(seq 150); do
    if curl -fsS -o /dev/null --max-time 5 "$1" 2> /dev/null; then return; fi
    sleep 0.4
  done
  echo "$1 does not get ready: $(curl -sS --max-time 5 "$1" 2>&1 || true)" >&2
  return 1
}

# enhance URL FILE [KEY]: the portrait through the gateway at URL, shown to be one.
enhance() {
  curl -fsS -D "$WORK/headers" ${3:+-H "Authorization: Bearer $3"} -F image=@"$PORTRAIT" -F format=png "$1/v1/enhance" -o "$2"
  grep -iE '^(x-gpen|x-faces|server-timing)' "$WORK/headers"
  grep -qi '^x-faces: [1-9]' "$WORK/headers" || { echo "no face was restored" >&2; return 1; }
  # PNG's signature, and the width and height of its header: 896.
  [ "$(od -An -tx1 -N24 "$2" | tr -d ' \n')" = 89504e470d0a1a0a0000000d494844520000038000000380 ] ||
    { echo "the answer is no portrait of 896x896" >&2; return 1; }
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
  # In neither image by default: the version that deploy/ray/rayservice.yaml names.
  RAY=$(grep '^ray==' deploy/docker/constraints.txt)
  {
    echo "# What the images were last built and tried with; made by deploy/try-containers.sh --freeze."
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

say "run both, locked down"
MOUNT=() BACKEND_ENV=(-e GPEN_BACKEND_ENGINE=classical)
if [ -n "$MODELS" ]; then MOUNT=(-v "$MODELS:/models:ro") BACKEND_ENV=(-e "GPEN_BACKEND_ENGINE=${ENGINE/#c*/torch}"); fi
"$TOOL" run -d --name "$NAME-backend" "${LOCKED[@]}" -p 127.0.0.1::8000 ${MOUNT[@]+"${MOUNT[@]}"} "${BACKEND_ENV[@]}" "$BACKEND" > /dev/null
# In the backend's network: what reaches it from outside is the gateway's port alone.
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
  say "run the Deployments with podman kube play, asking for keys"
  cp -r deploy/kubernetes "$WORK/kubernetes"
  KEYS=$WORK/kubernetes/overlays/podman
  # As root, who is you in a rootless container: the file it makes is for its owner only.
  KEY=$("$TOOL" run --rm --user 0 -v "$KEYS:/made" "$GATEWAY" keys make try --file /made/keys.json)
  kubectl kustomize "$KEYS" > "$WORK/kube.yaml"
  if [ -z "$MODELS" ]; then
    echo "left out: the Deployments serve checkpoints only; give --models with a gpen-bfr-256" >&2
  else
    # What the claim of the manifests is called; a volume of yours by that name is left alone.
    podman volume create gpen-models > /dev/null
    VOLUME=made
    cp "$MODELS"/* "$(podman volume inspect gpen-models -f '{{.Mountpoint}}')"
    podman run --rm "${LOCKED[@]}" -v "$MODELS:/models:ro" "$BACKEND" models verify gpen-bfr-256
    # Pods find each other by name on a network with names only; which name, depends on podman's version.
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
say "all is well"
