# Kills a provider and restarts the broker midway (F1, S9), then scales up and down.

size=$((1 << 30))

faults() {
  running
  local id
  head -c "$size" /dev/urandom >"$home/faults.bin"
  id=$(publish "$home/faults.bin" --replicas 3 --quorum 3)

  halfway "$id" killed
  docker kill "$(one_provider)" >/dev/null
  finished killed
  [[ $(report killed .report.switches) -gt 0 ]] || fail "the killed provider owed nothing"
  [[ $(report killed .report.wasted) -le $((size / 50)) ]] || fail "more than 2 % were fetched in vain: $(report killed .report)"
  echo "F1: $(report killed '"\(.report.switches) times work moved, \(.report.wasted) bytes wasted"')"
  up
  eventually 30 "the killed provider is back" live 3

  halfway "$id" broker
  docker compose restart broker >/dev/null 2>&1
  finished broker
  eventually 60 "the broker is connected again" bus_connected
  # Events after the outage: those of a new file and its token.
  round broker-back
  echo "S9: the broker restarted midway"

  scale_up
  scale_down
}

# halfway ID NAME: starts a download and pauses it in the middle, with requests in flight.
halfway() {
  ddm-client --json "$1" -o "$home/$2.bin" >"$home/$2.json" 2>"$home/$2.err" &
  downloader=$!
  until (($(sed -n 's/^wchar: //p' /proc/$downloader/io) > size / 8)); do sleep 0.02; done
  kill -STOP $downloader
  if grep -q '"event":"done"' "$home/$2.json"; then fail "the download was over before it was in the middle"; fi
}

# finished NAME: continues it and checks the result.
finished() {
  kill -CONT $downloader
  wait $downloader || fail "the download failed: $(cat "$home/$1.err")"
  same "$home/faults.bin" "$home/$1.bin"
  rm "$home/$1.bin"
}

report() { grep '"event":"done"' "$home/$1.json" | jq -r "$2"; }

scale_up() {
  docker compose up --detach --wait --no-recreate --scale provider=5 2>&1 | tail -n 1
  eventually 30 "five providers are live" live 5
  # A file with five replicas needs the two new ones.
  head -c 20000000 /dev/urandom >"$home/five.bin"
  [[ $(ddm-client publish "$home/five.bin" --replicas 5 --quorum 5 | grep -c '^  on ') == 5 ]] || fail "not all five providers took the file"
  echo "scaled to 5: both new providers took a replica"
}

scale_down() {
  local name status leaving
  # The new ones hold the file too, so that they have requests to finish.
  head -c "$size" /dev/urandom >"$home/faults.bin"
  halfway "$(publish "$home/faults.bin" --replicas 5 --quorum 5)" scaled
  leaving=$(docker compose ps --format '{{.Name}}' provider | sort | tail -n 2)
  docker events --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}' >"$home/died" &
  local watcher=$!
  docker compose up --detach --no-recreate --scale provider=3 >/dev/null 2>&1 &
  local scaling=$!
  # Both were told to stop, and wait until their requests are read.
  eventually 10 "the providers beyond three leave" live 3
  finished scaled
  wait $scaling
  kill $watcher
  for name in $leaving; do
    grep -qx "$name 0" "$home/died" || fail "$name did not end by itself: $(cat "$home/died")"
  done
  grep -q '"event":"source-lost"' "$home/scaled.json" && status="what they did not begin moved" || status="nothing had to move"
  [[ $(report scaled '[.report.sources[].failures] | add') -le 64 ]] || fail "too many requests failed: $(report scaled .report)"
  echo "scaled to 3 midway: both finished their ranges and left; $status"
}
