# compose.yaml with three providers, and the README's quick start as it is written there (S22).

quickstart() {
  local begin=$SECONDS commands
  up
  echo "up and healthy after $((SECONDS - begin)) s"
  [[ $(docker compose ps --status running --quiet provider | wc -l) == 3 ]] || fail "there are not three providers"

  commands=$(sed -n '/^## Run it with Docker Compose/,/^## /{/^```sh/,/^```/{/^```/d;p}}' README.md)
  [[ -n $commands ]] || fail "the README has no section 'Run it with Docker Compose'"
  # What asks for a password gets it; a fresh folder stands for the user's own.
  (
    cd "$home"
    export COMPOSE_FILE=$OLDPWD/compose.yaml
    docker() { command docker "$@" <<<"$password"; }
    ddm-client() { command ddm-client "$@" <<<"$password"; }
    read() { builtin read "$@" <<<"$password"; }
    set -x
    eval "$commands"
  ) || fail "the README's quick start does not work as it is written"
  cmp "$home/sample.bin" "$home/copy.bin" || fail "what the quick start downloaded is not what it published"
}
