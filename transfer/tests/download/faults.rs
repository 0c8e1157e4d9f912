use std::time::{Duration, Instant};

use ddm_transfer::{
    download::{DownloadError, Outcome},
    progress::Notice,
};
use testkit::rogue::Behaviour;

use crate::world::{MIB, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_alters_bytes_is_named_and_dropped_and_its_chunks_come_from_another() {
    let mut world = World::new(40 * MIB, 2).await;
    world.rogues[0].set(Behaviour::FlipBit { every: 10 * 1000 * 1000 });
    // The honest one is slow enough that the faulty one receives many requests.
    world.rogues[1].set(Behaviour::Throttle { rate: 40 * MIB });
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(matches!(&report.sources[0].outcome, Outcome::Dropped { reason } if reason.contains("SHA-256")));
    assert_eq!(report.sources[1].outcome, Outcome::Fine);
    let named = |notice: &Notice| matches!(notice, Notice::WrongBytes { server, .. } if server.as_str() == "rogue-0");
    assert!(world.notices().iter().any(named));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_only_a_faulty_server_nothing_gets_the_final_name() {
    let mut world = World::new(4 * MIB, 1).await;
    world.rogues[0].set(Behaviour::FlipBit { every: 1000 });
    world.settings.wait = Duration::from_millis(300);
    let error = world.download().await.unwrap_err();
    assert!(matches!(&error, DownloadError::NoSources { reasons, .. } if reasons.contains("rogue-0")), "{error}");
    world.check_unfinished();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_costs_no_more_than_its_requests_in_flight() {
    let mut world = World::new(32 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 16 * MIB }));
    let sources = world.sources();
    let victim = world.rogues.pop().unwrap();
    let kill = async {
        world.chunks_done(8).await;
        victim.kill().await;
    };
    let started = Instant::now();
    let (report, ()) = tokio::join!(world.download_from(sources), kill);
    let report = report.unwrap();
    world.check(&report);
    // 24 MiB are left at the kill for 16 MiB/s.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(matches!(report.sources[1].outcome, Outcome::Failing { .. }), "{report:?}");
    assert!(report.switches > 0 && report.wasted <= 5 * MIB, "{report:?}");
    let notices = world.notices();
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Lost { .. })), "{notices:?}");
    let called_slow = |notice: &Notice| matches!(notice, Notice::Moved { from, .. } if from.as_str() == "rogue-1");
    assert!(!notices.iter().any(called_slow), "a dead server is not slow: {notices:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_called_silent_and_not_slow() {
    let mut world = World::new(32 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 8 * MIB }));
    let silence = async {
        world.chunks_done(8).await;
        world.rogues[1].set(Behaviour::Stall { after: 0 });
    };
    let (report, ()) = tokio::join!(world.download(), silence);
    world.check(&report.unwrap());
    let about = |notice: &Notice| match notice {
        Notice::Moved { from, silent_for, .. } if from.as_str() == "rogue-1" => Some(silent_for.is_some()),
        Notice::Lost { server, reason } if server.as_str() == "rogue-1" => Some(reason.contains("sent nothing for ")),
        _ => None,
    };
    let notices = world.notices();
    let named: Vec<bool> = notices.iter().filter_map(about).collect();
    assert!(!named.is_empty() && named.iter().all(|names_silence| *names_silence), "{notices:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_over_connections_too_short_for_one_chunk_and_no_byte_twice() {
    let world = World::new(3 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Truncate { after: MIB * 2 / 3 });
    let report = world.download().await.unwrap();
    world.check(&report);
    assert_eq!((report.wasted, world.rogues[0].sent()), (0, 3 * MIB), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broken_server_costs_time_only() {
    let elsewhere: url::Url = "http://127.0.0.1:9/".parse().unwrap();
    let broken = [
        Behaviour::Truncate { after: MIB / 2 },
        Behaviour::Reset { after: MIB - 7 },
        Behaviour::Reset { after: 0 },
        Behaviour::Stall { after: 0 },
        Behaviour::Stall { after: MIB / 3 },
        Behaviour::WrongRange,
        Behaviour::WrongEtag,
        Behaviour::WholeFile,
        Behaviour::Endless,
        Behaviour::Redirect(elsewhere),
        Behaviour::Status { code: 500, retry_after: None },
        Behaviour::Status { code: 503, retry_after: Some(1) },
        Behaviour::Status { code: 429, retry_after: Some(3600) },
        Behaviour::Status { code: 404, retry_after: None },
        Behaviour::Status { code: 204, retry_after: None },
        Behaviour::Throttle { rate: 100 },
    ];
    for behaviour in broken {
        let world = World::new(24 * MIB, 2).await;
        world.rogues[0].set(behaviour.clone());
        world.rogues[1].set(Behaviour::Throttle { rate: 24 * MIB });
        let started = Instant::now();
        let report = world.download().await.unwrap_or_else(|error| panic!("{behaviour:?}: {error}"));
        world.check(&report);
        assert!(started.elapsed() < Duration::from_secs(4), "{behaviour:?}: {:?}", started.elapsed());
        assert!(report.sources[0].bytes <= report.sources[1].bytes, "{behaviour:?}: {report:?}");
        assert!(report.wasted <= 5 * MIB, "{behaviour:?}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_resets_is_tried_at_most_twice_a_second_until_the_wait_is_over() {
    let mut world = World::new(4 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Reset { after: 1000 });
    world.settings.wait = Duration::from_secs(4);
    let error = world.download().await.unwrap_err();
    assert!(matches!(error, DownloadError::NoSources { .. }), "{error}");
    let asked = world.rogues[0].asked();
    assert!((3..=9).contains(&asked.len()), "{asked:?}");
    for pair in asked.windows(3) {
        assert!(pair[2].at - pair[0].at >= Duration::from_millis(950), "{asked:?}");
    }
    world.check_unfinished();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_recovers_is_used_again() {
    let mut world = World::new(8 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Status { code: 503, retry_after: Some(1) });
    let recover = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.rogues[0].set(Behaviour::Honest);
    };
    let (report, ()) = tokio::join!(world.download(), recover);
    world.check(&report.unwrap());
    let asked = world.rogues[0].asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_millis(950), "Retry-After: {asked:?}");
    assert!(world.notices().iter().any(|notice| matches!(notice, Notice::Returned { .. })));
}
