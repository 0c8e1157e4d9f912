# Runs compose.yaml with three providers, and the README's quick start word by word (S22).

quickstart() {
  local begin=$SECONDS commands
  up
  echo "up and healthy after $((SECONDS - begin)) s"
  [[ $(docker compose ps --status running --quiet provider | wc -l) == 3 ]] || fail "there are not three providers"

  commands=$(sed -n '/^## Run it with Docker Compose/,/^## /{/^```sh/,/^```/{/^```/d;p}}' README.md)
  [[ -n $commands ]] || fail "the README has no section 'Run it with Docker Compose'"
  # Answers password prompts, in a fresh folder instead of the user's.
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
