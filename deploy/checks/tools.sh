# Functions that the parts of deploy/test share.

work=$PWD/target/deploy
programs=(info-server file-server client)
export COMPOSE_PROJECT_NAME=ddm-test
admin=admin@example.org
password=$(head -c 12 /dev/urandom | base64)

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# eventually SECONDS WHAT COMMAND…: waits until the command succeeds.
eventually() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$what, not within its time: $*"
    sleep 0.3
  done
}

# The whole workspace, so that what the tests have built is not built anew with other features.
build_programs() {
  cargo build --release --locked --workspace --bins
  export PATH=$PWD/target/release:$PATH
}

prepare() {
  mkdir -p "$work"
  # The client on this host gets its own settings and log-in.
  home=$(mktemp -d "$work/run.XXXXXX")
  export XDG_CONFIG_HOME=$home/config
  unset DDM_INFO_URL DDM_ZONE DDM_CONFIG DDM_SESSION_FILE
  trap clean_up EXIT
  need jq
  need curl
  need openssl
  find_compose
  make_base_images
  if ((compile)); then unset DDM_PROGRAMS_IMAGE; else take_programs; fi
}

clean_up() {
  local status=$?
  ((status == 0)) || { docker compose ps --all; docker compose logs --tail 15; } >&2 || :
  docker ps --all --quiet --filter label=ddm-test | xargs -r docker rm --force --volumes >/dev/null 2>&1 || :
  docker compose --profile client down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || :
  docker compose -p ddm-test-zones -f deploy/zones.yaml --profile client down --volumes --timeout 5 >/dev/null 2>&1 || :
  rm -rf "$home"
  exit "$status"
}

# `include` needs 2.20. On hosts with an older version, use the package of Debian 13.
find_compose() {
  local version
  version=$(docker compose version --short 2>/dev/null || echo 0)
  if [[ $(printf '%s\n' 2.20 "${version#v}" | sort --version-sort | sed -n 1p) == 2.20 ]]; then return; fi
  export DOCKER_CONFIG=$work/docker
  if [[ ! -x $DOCKER_CONFIG/cli-plugins/docker-compose ]]; then
    need mmdebstrap
    mmdebstrap --quiet --variant=extract --include=docker-compose trixie "$work/compose.tar" "${DDM_MIRROR:-$(debian_mirror)}"
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    tar -x -f "$work/compose.tar" -C "$DOCKER_CONFIG/cli-plugins" --strip-components=5 ./usr/libexec/docker/cli-plugins/docker-compose
    rm "$work/compose.tar"
  fi
  docker compose version
}

debian_mirror() {
  deploy/base-images --print-mirror
}

make_base_images() {
  local images=(debian rabbitmq checks) name missing=0
  ((!compile)) || images+=(rust)
  for name in debian:trixie-slim rabbitmq:4.0 ddm-checks $( ((!compile)) || echo rust:1.95-slim-trixie); do
    docker image inspect "$name" >/dev/null 2>&1 || missing=1
  done
  ((missing)) || return 0
  need mmdebstrap
  # The images trust the same certificates as this host.
  local ca=${DDM_SITE_CA:-/etc/ssl/certs/ca-certificates.crt}
  deploy/base-images ${ca:+--ca "$ca"} "${images[@]}"
}

# Compiling everything again would take longer than all parts together.
take_programs() {
  local program
  rm -rf "$work/out"
  mkdir "$work/out"
  for program in "${programs[@]}"; do strip -o "$work/out/ddm-$program" "target/release/ddm-$program"; done
  tar --owner=0 --group=0 -C "$work" -c out | docker import - ddm-programs >/dev/null
  export DDM_PROGRAMS_IMAGE=ddm-programs
}

need() {
  command -v "$1" >/dev/null && return
  echo "Installing from Debian: $1"
  local sudo=
  [[ $(id -u) == 0 ]] || sudo=sudo
  { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"; } >/dev/null
}

up() {
  docker compose up --detach --wait --scale provider=3 --quiet-pull "$@" 2>&1 | tail -n 3
}

address() {
  docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$1" | cut -d ' ' -f 1
}

# From here on: the system as the client on this host sees it.
# No command here closes a pipe early (`head -n 1`, `grep -q`): the writer would fail, and the part with it.
one_provider() { docker compose ps --quiet provider | sed -n 1p; }
servers() { ddm-client --json servers; }
live() { [[ $(servers | grep -c '"id"') == "$1" ]]; }
log_in() {
  docker compose exec -T info ddm-info-server user add "$admin" --role admin <<<"$password"
  ddm-client login "$admin" <<<"$password"
}
# publish FILE [OPTION…]: prints the file's id.
publish() { ddm-client publish "$@" | sed -n '1s/ .*//p'; }
same() { cmp "$1" "$2" || fail "$2 is not the file that was published"; }

# Brings the running system to three providers and a log-in.
running() {
  up
  ddm-client --json list >/dev/null 2>&1 || log_in
  eventually 30 "three providers are live" live 3
}

bus_connected() { [[ $(curl -sf http://127.0.0.1:8000/readyz) == *'"bus":"connected"'* ]]; }

# round NAME: publishes and downloads a small file.
round() {
  local id
  head -c 3000000 /dev/urandom >"$home/$1.in"
  id=$(publish "$home/$1.in")
  ddm-client --json "$id" -o "$home/$1.out" >/dev/null
  same "$home/$1.in" "$home/$1.out"
}
