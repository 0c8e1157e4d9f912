# Restarts everything, down and up again, in every order of starting (S5, F24).

restarts() {
  running
  local id before
  head -c 30000000 /dev/urandom >"$home/kept.bin"
  id=$(publish "$home/kept.bin" --replicas 3 --quorum 3)
  before=$(ids)

  docker compose restart >/dev/null 2>&1
  still_there "$id" "$before" restarted
  docker compose down >/dev/null 2>&1
  up
  still_there "$id" "$before" down-and-up
  local order
  for order in 'broker info provider' 'broker provider info' 'info broker provider' 'info provider broker' \
    'provider broker info' 'provider info broker'; do
    docker compose down --timeout 10 >/dev/null 2>&1
    for service in $order; do
      docker compose up --detach "$service" >/dev/null 2>&1
      sleep 1
    done
    still_there "$id" "$before" "${order// /-}"
    eventually 60 "the broker is connected" bus_connected
    round "round-${order// /-}"
    echo "started as $order"
  done
}

# Servers that sent a heartbeat since the info-server started. Before, it counts the enrolled ones as live.
ids() { servers | jq -r 'select(.free_bytes > 0) | .id' | sort | xargs; }
same_servers() { [[ $(ids) == "$1" ]]; }

# still_there ID SERVERS NAME: the same servers, and the file on them.
still_there() {
  eventually 60 "the same three servers are live" same_servers "$2"
  [[ $(ddm-client --json list) == *"$1"* ]] || fail "the file is not listed any more"
  ddm-client --json "$1" -o "$home/$3.bin" >/dev/null || fail "the file cannot be downloaded any more"
  same "$home/kept.bin" "$home/$3.bin"
}
