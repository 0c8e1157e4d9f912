# A provider killed and the broker restarted midway (F1, S9), scaling up and down.

size=$((512 << 20))

faults() {
  running
  local file=$home/faults.bin id
  head -c "$size" /dev/urandom >"$file"
  id=$(publish "$file" --replicas 3 --quorum 3 | sed -n '1s/ .*//p')
  slowly 0.15

  download "$id" killed
  docker kill "$(docker compose ps --quiet provider | head -n 1)" >/dev/null
  finished killed
  [[ $(report killed '.report.switches') -gt 0 ]] || fail "the killed provider gave nothing that another one had to take over"
  echo "F1: $(report killed '"\(.report.switches) chunks moved, \(.report.wasted) bytes wasted, \(.report.elapsed) s"')"
  up
  eventually 30 "the killed provider is back" live 3

  slowly 0.15
  download "$id" broker
  docker compose restart broker 2>/dev/null
  finished broker
  eventually 60 "the broker is connected again" bus_connected
  # A fact that can come by the broker only now: the token of a new file.
  round broker-back

  scale_up
  scale_down "$id"
}

# Whatever a part finds running is brought to three providers and a log-in.
running() {
  up
  ddm-client --json list >/dev/null 2>&1 || log_in
  eventually 30 "three providers are live" live 3
}

bus_connected() { curl -sf http://127.0.0.1:8000/readyz | grep -q '"bus":"connected"'; }

# slowly CPUS: as slow machines, so that there is a middway.
slowly() {
  docker compose ps --quiet provider | xargs docker update --cpus "$1" >/dev/null
}

# download ID NAME: starts a download and comes back when it is in the middle.
download() {
  ddm-client --json "$1" -o "$home/$2.bin" >"$home/$2.json" 2>"$home/$2.err" &
  downloader=$!
  eventually 60 "a quarter has come" has_come "$2"
}
has_come() {
  local blocks
  blocks=$(stat --format %b "$home/$1.bin.part" "$home"/.*"$1"* 2>/dev/null | sort -n | tail -n 1)
  ((${blocks:-0} * 512 > size / 4))
}
finished() {
  wait "$downloader" || fail "the download failed: $(cat "$home/$1.err")"
  same "$home/faults.bin" "$home/$1.bin"
}
report() { grep '"event":"done"' "$home/$1.json" | jq -r "$2"; }

# round NAME: something small is published and fetched.
round() {
  local id
  head -c 3000000 /dev/urandom >"$home/$1.in"
  id=$(publish "$home/$1.in" | sed -n '1s/ .*//p')
  ddm-client --json "$id" -o "$home/$1.out" >/dev/null
  same "$home/$1.in" "$home/$1.out"
}

scale_up() {
  docker compose up --detach --wait --no-recreate --scale provider=5 2>&1 | tail -n 1
  eventually 30 "five providers are live" live 5
  # A file that wants five replicas is taken by the two new ones as well.
  head -c 20000000 /dev/urandom >"$home/five.bin"
  [[ $(publish "$home/five.bin" --replicas 5 --quorum 5 | grep -c '^  on ') == 5 ]] || fail "not all five providers took the file"
  echo "scaled to 5: both new providers took a replica"
}

scale_down() {
  local gone
  slowly 0.15
  download "$1" scaled
  gone=$(docker compose ps --format '{{.Name}}' provider | sort | tail -n 2)
  docker events --filter event=die --filter type=container --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}' \
    --since 0s >"$home/died" &
  local watcher=$!
  docker compose up --detach --no-recreate --scale provider=3 2>&1 | tail -n 1
  finished scaled
  kill "$watcher"
  for name in $gone; do
    grep -qx "$name 0" "$home/died" || fail "$name did not end by itself: $(cat "$home/died")"
  done
  eventually 15 "three providers are left" live 3
  echo "scaled to 3 midway: both finished and left, $(report scaled '"\(.report.elapsed) s"')"
  docker compose ps --quiet provider | xargs docker update --cpus 0 >/dev/null
}
