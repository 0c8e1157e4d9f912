# Users, rights, ports and secrets of the running containers (F55).

confined() {
  running
  local container service state pid
  for container in $(docker compose ps --quiet); do
    service=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$container")
    state=$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$container")
    [[ $state == 'true false [ALL] [no-new-privileges:true]' ]] || fail "$service is not confined: $state"
    pid=$(docker inspect --format '{{.State.Pid}}' "$container")
    grep -qE '^Uid:\s+(10001|999)\s' "/proc/$pid/status" || fail "$service has another user: $(grep Uid "/proc/$pid/status")"
    grep -qE '^CapEff:\s+0+$' "/proc/$pid/status" || fail "$service has capabilities"
    grep -qE '^CapBnd:\s+0+$' "/proc/$pid/status" || fail "$service could get capabilities"
  done
  ports=$(docker compose ps --format '{{range .Publishers}}{{if .PublishedPort}}{{.URL}}:{{.PublishedPort}} {{end}}{{end}}' | tr -s ' \n' ' ')
  [[ ${ports// /} == 127.0.0.1:8000 ]] || fail "other ports than the info-server's are published: $ports"
  broker_is_ours
  no_secret_is_shown
}

broker_is_ours() {
  local ctl="docker compose exec -T broker rabbitmqctl --quiet"
  [[ $($ctl list_users --no-table-headers | cut -f 1 | sort | xargs) == 'ddm-info ddm-provider' ]] || fail "the broker has other users"
  if $ctl status | grep -E 'protocol: http|port: 15'; then fail "the broker has a management port"; fi
  [[ $($ctl list_policies --vhost ddm --no-table-headers | wc -l) == 1 ]] || fail "the broker has no policy of ours"
  # The provider's user must not publish events; the info-server's may.
  local broker volume
  for user in info provider; do
    volume=${COMPOSE_PROJECT_NAME}_$user-secrets
    broker=$(docker run --rm --label ddm-test --volume "$volume:/s:ro" --network "${COMPOSE_PROJECT_NAME}_default" ddm-checks \
      bash -c 'amqp-publish --url "$(cat /s/broker-url)" --exchange ddm.events --routing-key nobody --body x 2>&1; echo "status $?"')
    echo "$user publishes: ${broker##*$'\n'}"
    case "$user" in
      info) grep -q 'status 0' <<<"$broker" || fail "the info-server's user may not publish: $broker" ;;
      provider) denied_by_broker || fail "a provider's user may publish: $broker" ;;
    esac
  done
}

# The client may exit before the refusal arrives, so look into the broker's log.
denied_by_broker() {
  grep -q "write access to exchange 'ddm.events' in vhost 'ddm' refused for user 'ddm-provider'" <<<"$(docker compose logs broker 2>&1)"
}

# Searches for every secret in everything that can be read without it.
no_secret_is_shown() {
  local secrets secret shown=$home/shown
  secrets=$(docker run --rm --label ddm-test --volume "${COMPOSE_PROJECT_NAME}_info-secrets:/a:ro" \
    --volume "${COMPOSE_PROJECT_NAME}_provider-secrets:/b:ro" ddm-checks \
    bash -c 'cat /a/join-secret; echo; sed "s|.*://[^:]*:||; s|@.*||" /a/broker-url; echo; sed "s|.*://[^:]*:||; s|@.*||" /b/broker-url'
  )
  {
    docker compose ps --all --quiet | xargs docker inspect
    docker image inspect ddm-info-server ddm-file-server ddm-client
    docker compose config
    docker compose logs
    for container in $(docker compose ps --quiet); do
      tr '\0' '\n' <"/proc/$(docker inspect --format '{{.State.Pid}}' "$container")/environ"
      docker top "$container" -eo pid,args
    done
  } >"$shown" 2>&1
  [[ $(grep -c . <<<"$secrets") == 3 ]] || fail "there are not three secrets"
  for secret in $secrets "$password"; do
    ((${#secret} >= 16)) || fail "a secret is too short to be one"
    if grep -qF -- "$secret" "$shown"; then fail "a secret can be read in what the engine, the logs or the processes show"; fi
  done
}
