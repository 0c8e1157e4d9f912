systemd-sysusers ddm-file-server.conf || :
# Only a folder that the package makes is marked: an empty one may be the place of a disk that is not mounted.
data=/var/lib/ddm/file-server
if [ ! -e "$data" ]; then
  install -d -m 0755 /var/lib/ddm &&
    install -d -o ddm-file-server -g ddm-file-server -m 0750 "$data" &&
    install -o ddm-file-server -g ddm-file-server -m 0640 /dev/null "$data/.ddm-data-folder" || :
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || :
  # An upgrade; a first installation starts nothing.
  if [ "$1" -gt 1 ]; then systemctl try-restart ddm-file-server.service || :; fi
fi
