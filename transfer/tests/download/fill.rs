use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ddm_transfer::sink::{Sink, SinkError};
use testkit::rogue::Behaviour;
use wire::{ChunkIndex, Layout, Runs};

use crate::world::{MIB, World};

/// Keeps nothing but the account of what it was told.
struct Witness {
    layout: Layout,
    told: Mutex<Told>,
    fails: bool,
}

#[derive(Default)]
struct Told {
    verified: Runs,
    twice: bool,
    written_after: bool,
}

impl Sink for Witness {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let run = self.layout.run_of_bytes(offset..offset + u64::try_from(bytes.len()).unwrap());
        let mut told = self.told.lock().unwrap();
        told.written_after |= run.into_iter().any(|chunk| told.verified.contains(chunk));
        if self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn verified(&self, chunk: ChunkIndex) -> io::Result<()> {
        let mut told = self.told.lock().unwrap();
        told.twice |= told.verified.contains(chunk.get());
        told.verified.insert(chunk.get()..chunk.get() + 1);
        Ok(())
    }

    fn explain(&self, source: io::Error) -> SinkError {
        SinkError::Io { doing: "write", path: PathBuf::from("the witness"), source }
    }
}

fn witness(world: &World, fails: bool) -> Arc<Witness> {
    Arc::new(Witness { layout: world.layout(), told: Mutex::default(), fails })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_chunk_is_told_once_and_never_written_again_while_work_moves_between_sources() {
    let world = World::new(48 * MIB, 4).await;
    world.rogues[0].set(Behaviour::Throttle { rate: MIB / 2 });
    world.rogues[1].set(Behaviour::Throttle { rate: 24 * MIB });
    world.rogues[2].set(Behaviour::Stall { after: MIB / 2 });
    world.rogues[3].set(Behaviour::FlipBit { every: 3 * MIB });
    let witness = witness(&world, false);
    let report = world.fill(Arc::clone(&witness) as Arc<dyn Sink>, Runs::from(3..7)).await.unwrap();
    assert_eq!((report.resumed, report.fetched), (4 * MIB, 44 * MIB));
    assert!(report.elapsed < Duration::from_secs(5), "{report:?}");
    let told = witness.told.lock().unwrap();
    assert!(!told.twice && !told.written_after);
    assert_eq!(told.verified, world.layout().all().iter().flat_map(|all| [all.start..3, 7..all.end]).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_the_download_with_its_own_words() {
    let world = World::new(8 * MIB, 2).await;
    let error = world.fill(witness(&world, true), Runs::new()).await.unwrap_err();
    assert!(error.to_string().contains("the witness"), "{error}");
}
