# Runs inside a container: bash installed.sh deb|rpm
set -euo pipefail

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# The image was made without manuals; without this line dpkg would leave them out again.
rm -f /etc/dpkg/dpkg.cfg.d/99mmdebstrap

case "$1" in
  deb) dpkg --install /packages/*.deb >/tmp/log 2>&1 || fail "dpkg: $(cat /tmp/log)" ;;
  # Debian's packages are not in rpm's database, and rpm's plugins need rights that a container lacks.
  rpm) rpm --install --nodeps --noplugins /packages/*.rpm >/tmp/log 2>&1 || fail "rpm: $(cat /tmp/log)" ;;
esac

zsh=/usr/share/zsh/vendor-completions
[[ $1 == deb ]] || zsh=/usr/share/zsh/site-functions
for program in ddm-info-server ddm-file-server ddm-client; do
  [[ $($program --version) == "$program "* ]] || fail "$program does not run"
  for file in /usr/share/bash-completion/completions/$program $zsh/_$program /usr/share/fish/vendor_completions.d/$program.fish; do
    grep -q "$program" "$file" || fail "$file does not complete $program"
  done
done
page=$(ls /usr/share/man/man1/ddm-client.1*)
zgrep -q '^.TH ddm-client 1' "$page" || fail "$page is no manual page"

# A ddm:// link on a web page opens the client.
entry=/usr/share/applications/ddm-client.desktop
grep -qx 'MimeType=x-scheme-handler/ddm;' $entry || fail "$entry takes no ddm:// links"
[[ $(sed -n 's/^Exec=//p' $entry) == 'ddm-client open %u' ]] || fail "$entry does not open them"

for name in info-server file-server; do
  unit=$(ls /usr/lib/systemd/system/ddm-$name.service)
  systemd-analyze verify "$unit" || fail "$unit"
  exposure=$(systemd-analyze security --offline=true "$unit" | sed -n 's/.*exposure level[^:]*: \([0-9.]*\) .*/\1/p')
  echo "ddm-$name.service: exposure $exposure of 10"
  [[ -n $exposure && ${exposure%%.*} -lt 3 ]] || fail "$unit is not hardened"
  [[ $(getent passwd ddm-$name) == *:/var/lib/ddm/$name:*nologin ]] || fail "there is no user ddm-$name"
  [[ $(stat --format '%U %a' /etc/ddm/$name.toml) == 'root 644' ]] || fail "the settings of $name have another owner or mode"
done

# Does what systemd would do: folder, user, and a socket for the readiness message.
pids=()
install -d /run/check
for name in info-server file-server; do
  install -d -o ddm-$name -m 0750 /var/lib/ddm/$name
  perl -MIO::Socket::UNIX -MSocket -e '
    my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die; chmod 0666, $ARGV[0];
    alarm 20; $s->recv(my $said, 4096); print $said' /run/check/$name >/run/check/$name.said &
  listener=$!
  until [[ -S /run/check/$name ]]; do sleep 0.1; done
  if [[ $name == file-server ]]; then
    install -o ddm-file-server -m 0600 /var/lib/ddm/info-server/join-secret /etc/ddm/join-secret
    sed -i 's|^#join-secret-file|join-secret-file|' /etc/ddm/file-server.toml
  fi
  NOTIFY_SOCKET=/run/check/$name setpriv --reuid ddm-$name --regid ddm-$name --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all ddm-$name 2>/run/check/$name.log &
  pids+=($!)
  wait $listener || fail "$name did not say that it is ready: $(cat /run/check/$name.log)"
  grep -q READY=1 /run/check/$name.said || fail "$name said $(cat /run/check/$name.said)"
  ddm-$name healthcheck || fail "$name is not healthy: $(cat /run/check/$name.log)"
done
for _ in {1..100}; do
  if grep -qi registered /run/check/file-server.log; then break; fi
  sleep 0.1
done
grep -qi 'registered with the info-server' /run/check/file-server.log || fail "the file server is not registered: $(cat /run/check/file-server.log)"
kill "${pids[@]}"
wait "${pids[@]}" || fail "a program did not stop well"

# Removes the packages. Changed settings and data must stay.
case "$1" in
  deb) dpkg --remove ddm-info-server ddm-file-server ddm-client >/tmp/log 2>&1 || fail "dpkg: $(cat /tmp/log)" ;;
  rpm) rpm --erase --noplugins ddm-info-server ddm-file-server ddm-client >/tmp/log 2>&1 || fail "rpm: $(cat /tmp/log)" ;;
esac
hash -r
if command -v ddm-info-server ddm-file-server ddm-client; then fail "a program is left"; fi
[[ -f /var/lib/ddm/info-server/catalogue.sqlite ]] || fail "the catalogue went with the package"
echo "$1: installed, started, registered, stopped, removed"
