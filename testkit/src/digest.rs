//! Digests of files.

use std::{fs::File, io::Read as _, path::Path};

use wire::Hasher;

/// Returns the SHA-256 of a file, in hex.
///
/// # Errors
/// Whatever the file system says.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().to_string()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
