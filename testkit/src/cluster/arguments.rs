//! Arguments of the programs of a cluster.

use std::path::Path;

pub(super) fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
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
