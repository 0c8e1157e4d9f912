# Checks that docs/OPERATIONS.md names every setting of the programs.

settings() {
  local program help variable
  for program in ddm-info-server ddm-file-server ddm-client; do
    help=$($program --help; for sub in get fetch publish import; do $program $sub --help 2>/dev/null || :; done)
    for variable in $(grep -o 'env: DDM_[A-Z_]*' <<<"$help" | sed 's/env: //' | sort -u); do
      grep -q "\`$variable\`" docs/OPERATIONS.md || fail "docs/OPERATIONS.md does not name $variable of $program"
    done
  done
}
