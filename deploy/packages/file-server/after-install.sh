systemd-sysusers ddm-file-server.conf || :
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || :
  # An upgrade; a first installation starts nothing.
  if [ "$1" -gt 1 ]; then systemctl try-restart ddm-file-server.service || :; fi
fi
