//! Arguments of the programs of a cluster.

use std::path::Path;

use crate::process::Server;

pub(super) fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Sets the port that a server has, so that it stays the same when the server is started again.
pub(super) fn keep_port(args: &mut [String], server: &Server) {
    let listen = args.windows(2).find_map(|pair| pair[1].strip_prefix("0.0.0.0:").map(|_| "0.0.0.0"));
    let ip = listen.map_or_else(|| server.address().ip().to_string(), str::to_owned);
    replace_value(args, "--listen", &format!("{ip}:{}", server.address().port()));
}

/// Returns a command prefix that copies a folder to a private disk of `mib` MiB and starts a program on it.
pub(super) fn small_disk(folder: &Path, mib: u32) -> Vec<String> {
    let script = format!(
        "set -eu; disk=$(mktemp -d); mount -t tmpfs -o size={mib}m none $disk; cp -a \"$0/.\" $disk; mount --bind $disk \"$0\"; \
         exec \"$@\""
    );
    let mut before = strings(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    before.push(folder.display().to_string());
    before
}

pub(super) fn replace_value(args: &mut [String], flag: &str, value: &str) {
    if let Some([_, old]) = args.windows(2).position(|pair| pair[0] == flag).and_then(|at| args.get_mut(at..at + 2)) {
        value.clone_into(old);
    }
}
