//! The sample file: random bytes, which compression and caches of zeros cannot speed up.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Name of the sample in the catalogue.
pub(crate) const NAME: &str = "ddm-sample.bin";
/// Size of the sample in bytes.
pub(crate) const SIZE: u64 = 256 << 20;
/// Seed of the bytes: fixed, so that digests can be compared.
const SEED: u64 = 20_261_120;
const BLOCK_SIZE: usize = 1 << 20;

/// Writes the sample into `folder`.
pub(crate) fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(NAME);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::with_capacity(BLOCK_SIZE, file);
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut block = vec![0; BLOCK_SIZE];
    for _ in 0..SIZE / (BLOCK_SIZE as u64) {
        random.fill_bytes(&mut block);
        out.write_all(&block).with_context(|| format!("cannot write {}", path.display()))?;
    }
    out.flush()?;
    Ok(path)
}
