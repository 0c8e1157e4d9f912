use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ddm_transfer::sink::{Sink, SinkError};
use testkit::rogue::Behaviour;
use wire::{ChunkIndex, ChunkLayout, ChunkSet, Digest};

use crate::world::{MIB, World};

/// A sink that stores no bytes and records the calls.
struct RecordingSink {
    layout: ChunkLayout,
    calls: Mutex<Calls>,
    fails: bool,
}

#[derive(Default)]
struct Calls {
    verified: ChunkSet,
    /// Set if a chunk was verified twice.
    verified_twice: bool,
    /// Set if a verified chunk was written.
    written_after: bool,
}

impl Sink for RecordingSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let run = self.layout.run_of_bytes(offset..offset + u64::try_from(bytes.len()).unwrap());
        let mut calls = self.calls.lock().unwrap();
        calls.written_after |= run.into_iter().any(|chunk| calls.verified.contains(chunk));
        if self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn verified(&self, chunk: ChunkIndex, _: Digest) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        calls.verified_twice |= calls.verified.contains(chunk.get());
        calls.verified.insert(chunk.get()..chunk.get() + 1);
        Ok(())
    }

    fn explain(&self, source: io::Error) -> SinkError {
        SinkError::Io { doing: "write", path: PathBuf::from("the recording sink"), source }
    }
}

fn recording_sink(world: &World, fails: bool) -> Arc<RecordingSink> {
    Arc::new(RecordingSink { layout: world.layout(), calls: Mutex::default(), fails })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_chunk_is_reported_once_and_never_written_again_while_work_moves_between_sources() {
    let world = World::new(48 * MIB, 4).await;
    world.rogues[0].set(Behaviour::Throttle { rate: MIB / 2 });
    world.rogues[1].set(Behaviour::Throttle { rate: 24 * MIB });
    world.rogues[2].set(Behaviour::Stall { after: MIB / 2 });
    world.rogues[3].set(Behaviour::FlipBit { every: 3 * MIB });
    let sink = recording_sink(&world, false);
    let report = world.fill(Arc::clone(&sink) as Arc<dyn Sink>, ChunkSet::from(3..7)).await.unwrap();
    assert_eq!((report.resumed, report.fetched), (4 * MIB, 44 * MIB));
    assert!(report.elapsed < Duration::from_secs(5), "{report:?}");
    let calls = sink.calls.lock().unwrap();
    assert!(!calls.verified_twice && !calls.written_after);
    assert_eq!(calls.verified, world.layout().all().iter().flat_map(|all| [all.start..3, 7..all.end]).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_ends_the_download_with_the_error_of_the_sink() {
    let world = World::new(8 * MIB, 2).await;
    let error = world.fill(recording_sink(&world, true), ChunkSet::new()).await.unwrap_err();
    assert!(error.to_string().contains("the recording sink"), "{error}");
}
