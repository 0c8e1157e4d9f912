# Ranges and a download through the TLS proxy of deploy/nginx.conf, with only the addresses changed.

nginx() {
  running
  local info provider container proxy id url token
  info=$(address "$(docker compose ps --quiet info)")
  provider=$(one_provider)
  mkdir -p "$home/tls"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ddm-test -keyout "$home/tls/ddm.key" -out "$home/tls/ddm.pem" \
    -addext 'subjectAltName=DNS:ddm.example.org,DNS:files-1.example.org' 2>/dev/null
  sed "s/127.0.0.1:8000/$info:8000/; s/127.0.0.1:9000/$(address "$provider"):9000/" deploy/nginx.conf >"$home/tls/ddm.conf"
  container=$(docker run --detach --rm --label ddm-test --network "${COMPOSE_PROJECT_NAME}_default" \
    --volume "$home/tls:/etc/nginx/tls:ro" --volume "$home/tls/ddm.conf:/etc/nginx/conf.d/ddm.conf:ro" \
    ddm-checks nginx -g 'daemon off;')
  proxy=$(address "$container")
  through=(curl --silent --show-error --cacert "$home/tls/ddm.pem"
    --resolve "ddm.example.org:443:$proxy" --resolve "files-1.example.org:443:$proxy")
  eventually 15 "the proxy answers" "${through[@]}" --fail https://ddm.example.org/readyz

  head -c 9000001 /dev/urandom >"$home/proxied.bin"
  id=$(publish "$home/proxied.bin" --replicas 3 --quorum 3)
  local session
  session=$("${through[@]}" https://ddm.example.org/v1/sessions --json "{\"email\":\"$admin\",\"password\":\"$password\"}" | jq -r .token)
  token=$("${through[@]}" "https://ddm.example.org/v1/files/$id" --header "Authorization: Bearer $session" | jq -r .download.token)
  url=https://files-1.example.org/v1/files/$id/content
  direct=http://$(address "$provider"):9000/v1/files/$id/content

  # range first-byte count
  one_range 0-1048575 0 1048576
  one_range 5000000- 5000000 4000001
  one_range -17 8999984 17
  "${through[@]}" --header "Authorization: Bearer $token" "$url" --output "$home/whole"
  same "$home/proxied.bin" "$home/whole"
  # Status and range fields are the same with and without the proxy.
  local range
  for range in 0-0 0-1,5-9 99999999- 'x' 9000000-; do
    diff <(fields "$direct" "$range" curl --silent) <(fields "$url" "$range" "${through[@]}") || fail "the proxy changes the answer to range $range"
  done
  [[ $("${through[@]}" --output /dev/null --write-out '%{http_code}' https://files-1.example.org/metrics) == 404 ]] || fail "metrics are public"
  docker rm --force --volumes "$container" >/dev/null
}

one_range() {
  [[ $("${through[@]}" --header "Authorization: Bearer $token" --range "$1" "$url" --output "$home/part" --write-out '%{http_code}') == 206 ]] ||
    fail "range $1 is not answered by 206"
  [[ $(stat --format %s "$home/part") == "$3" ]] && cmp --ignore-initial="$2:0" --bytes="$3" "$home/proxied.bin" "$home/part" ||
    fail "range $1 brings other bytes"
}

# fields URL RANGE COMMAND…: prints status and range fields, without the boundary of parts, which is random.
fields() {
  local url=$1 range=$2
  shift 2
  "$@" --header "Authorization: Bearer $token" --header "Range: bytes=$range" --dump-header - --output /dev/null "$url" | tr -d '\r' |
    sed -n 's/^HTTP[^ ]* //p; /^\(content-range\|content-length\|accept-ranges\|etag\|repr-digest\|content-encoding\):/Ip; s/^\(content-type: [^;]*\).*/\1/Ip' |
    sed 's/^[^:]*/\L&/' | sort
}
