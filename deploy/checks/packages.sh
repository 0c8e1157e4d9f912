# .deb and .rpm are installed in a container, and what they bring is where it belongs and works (S58).

packages() {
  need_cargo_tools
  deploy/packages/build --no-build
  for kind in deb rpm; do
    docker run --rm --label ddm-test --network none --volume "$PWD/target/packages:/packages:ro" \
      --volume "$PWD/deploy/checks:/checks:ro" ddm-checks bash /checks/installed.sh "$kind" || fail "the .$kind packages"
  done
}

need_cargo_tools() {
  export PATH=$PATH:$work/tools/bin
  command -v cargo-deb >/dev/null && command -v cargo-generate-rpm >/dev/null && return
  # Unoptimised: they are compiled far longer than they run. What both are built of is built once.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$work/tools/target \
    cargo install --quiet --locked --debug --root "$work/tools" cargo-deb cargo-generate-rpm
}
