//! The sample file: bytes that no compression and no cache of zeros makes easy.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Its name in the catalogue.
pub(crate) const NAME: &str = "ddm-sample.bin";
/// Bytes in it.
pub(crate) const SIZE: u64 = 256 << 20;
/// The same bytes each time, so that anyone can compare digests.
const SEED: u64 = 20_261_120;
const BLOCK: usize = 1 << 20;

/// Writes the sample into `folder`.
pub(crate) fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(NAME);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::with_capacity(BLOCK, file);
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut block = vec![0; BLOCK];
    for _ in 0..SIZE / (BLOCK as u64) {
        random.fill_bytes(&mut block);
        out.write_all(&block).with_context(|| format!("cannot write {}", path.display()))?;
    }
    out.flush()?;
    Ok(path)
}
