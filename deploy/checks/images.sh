# Builds the images and checks that they hold nothing unneeded (F55).

images() {
  docker compose --profile client build --quiet
  local image name
  for image in ddm-info-server ddm-file-server ddm-client; do
    name=${image#ddm-}
    [[ $(docker image inspect --format '{{.Config.User}}' $image) == 10001:10001 ]] || fail "$image has another user"
    if docker image inspect --format '{{json .Config.Env}}' $image | grep -iE 'secret|password|amqp'; then
      fail "$image has an environment that could hold a secret"
    fi
    # One program, and neither a shell nor setuid files.
    local container files
    container=$(docker create --label ddm-test $image)
    files=$(docker export "$container" | tar -tv)
    docker rm --volumes "$container" >/dev/null
    [[ $(grep -cE '^-..x.* (usr/)?s?bin/' <<<"$files") == 1 ]] || fail "$image holds other programs: $files"
    if grep -E '^-..s|^-.....s' <<<"$files"; then fail "$image holds setuid files"; fi
    [[ $(docker run --rm --network none --read-only $image --version) == "$image "* ]] || fail "$name does not run"
    docker image inspect --format "$image {{.Size}}" $image | awk '{ printf "%s: %.1f MB\n", $1, $2 / 1e6 }'
  done
}
