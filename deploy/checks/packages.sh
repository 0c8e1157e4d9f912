# Installs .deb and .rpm in a container and checks that everything is in its place and works (S58).

packages() {
  need_cargo_tools
  deploy/packages/build --no-build
  for kind in deb rpm; do
    docker run --rm --label ddm-test --network none --volume "$PWD/target/packages:/packages:ro" \
      --volume "$PWD/deploy/checks:/checks:ro" ddm-checks bash /checks/installed.sh "$kind" || fail "the .$kind packages"
  done
}

# Takes them from the folder of the tests' tools, or compiles them there, which takes minutes.
need_cargo_tools() {
  command -v cargo-deb >/dev/null && command -v cargo-generate-rpm >/dev/null && return
  PATH=$PATH:$(testkit/cargo-tool cargo-deb cargo-generate-rpm)
}
