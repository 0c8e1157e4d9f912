# Two zones of two providers each. They advertise their addresses in the network between the zones.

zones() {
  docker compose down --timeout 10 >/dev/null 2>&1
  (
    export COMPOSE_PROJECT_NAME=ddm-test-zones COMPOSE_FILE=deploy/zones.yaml XDG_CONFIG_HOME=$home/zones
    docker compose up --detach --wait 2>&1 | tail -n 1
    log_in
    eventually 30 "four providers are live" live 4
    [[ $(servers | jq -r .zone | sort | xargs) == 'east east west west' ]] || fail "the zones are others: $(servers)"
    local link
    link=$(docker network inspect ddm-test-zones_link --format '{{range .Containers}}{{.IPv4Address}} {{end}}')
    for address in $(servers | jq -r '.url | sub("^http://"; "") | sub(":.*"; "")'); do
      [[ " $link" == *" $address/"* ]] || fail "$address is advertised and not in the link network: $link"
    done
    head -c 40000000 /dev/urandom >"$home/zones.bin"
    id=$(publish "$home/zones.bin" --replicas 4 --quorum 4)
    for zone in east west; do
      ddm-client --json --zone "$zone" "$id" -o "$home/zones-$zone.bin" >/dev/null
      same "$home/zones.bin" "$home/zones-$zone.bin"
    done
    # The upload goes to the west, and the east fetches from there. Every replica is verified when publish returns.
    id=$(publish "$home/zones.bin" --name again.bin --zone west --zones east,west --replicas 2 --wait=2m)
    [[ $(ddm-client --json replicas "$id" | jq .replicated) == true ]] || fail "$id is not replicated"
    # The same from a container, for hosts that cannot reach containers.
    docker compose run --rm -T client login "$admin" <<<"$password"
    docker compose run --rm -T client --zone west "$id"
    docker compose --profile client down --volumes --timeout 10 >/dev/null 2>&1
  )
}
