//! F10: servers and the broker are killed, paused, cut off and made to lie at random while files are published, replicated to both
//! zones and downloaded. What fails says why, and for no other reason than the one fault of its cycle.

use std::time::{Duration, Instant};

use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    process::eventually,
    proxy::{Fault, Proxy},
    rabbitmq::RabbitMq,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use rustix::process::Signal;

use crate::{
    brokers::{behind_proxy, connected},
    content::{MIB, event, file, sha256},
    standing::replicated,
};

const ZONES: [&str; 4] = ["eu", "eu", "us", "us"];
const POLICY: [&str; 4] = ["--zones", "eu,us", "--replicas", "2"];
const SIZE: u64 = 12 * MIB;
const RATE: u32 = 8 << 20;
const CYCLES: u32 = 20;

/// Fault of a cycle, undone at its end.
#[derive(Debug, Clone, Copy)]
enum Evil {
    Kill(usize),
    Pause(usize),
    Lie(usize),
    Reset(usize),
    Cut(&'static str),
    KillInfo,
    KillBroker,
    CutBroker,
}

/// System that the faults are injected into.
struct Fixture {
    cluster: Cluster,
    broker: RabbitMq,
    /// Proxy between the file servers and the broker.
    line: Proxy,
}

impl Evil {
    fn draw(random: &mut SmallRng) -> Self {
        let n = random.random_range(0..ZONES.len());
        let zone = ZONES.choose(random).copied().unwrap();
        let servers = [Self::Kill(n), Self::Pause(n), Self::Lie(n), Self::Reset(n), Self::Cut(zone)];
        let others = [Self::KillInfo, Self::KillBroker, Self::CutBroker];
        *[&servers[..], &others].concat().choose(random).unwrap()
    }

    /// Returns the reason for which a download may fail in its cycle: only that no process can say where the file is.
    const fn excuses_download(self) -> Option<&'static str> {
        match self {
            Self::KillInfo => Some("info-server"),
            _ => None,
        }
    }

    /// Returns the reason for which a publication may fail in its cycle: that a server or the catalogue is gone.
    const fn excuses_publication(self) -> Option<&'static str> {
        match self {
            Self::KillInfo => Some("info-server"),
            Self::Kill(_) | Self::Pause(_) | Self::Lie(_) | Self::Reset(_) | Self::Cut(_) => Some("server"),
            Self::KillBroker | Self::CutBroker => None,
        }
    }

    async fn happen(self, fixture: &mut Fixture) -> anyhow::Result<()> {
        let cluster = &mut fixture.cluster;
        match self {
            Self::Kill(n) => cluster.take_server(n)?.kill().await?,
            Self::Pause(n) => cluster.servers[n].process.as_ref().unwrap().signal(Signal::STOP)?,
            Self::Lie(n) => cluster.proxy(n)?.spoil(Fault::Flip(std::num::NonZeroU64::new(MIB).unwrap())),
            Self::Reset(n) => cluster.proxy(n)?.spoil(Fault::Reset(MIB / 2)),
            Self::Cut(zone) => cut(cluster, zone, true)?,
            Self::KillInfo => cluster.info.take().unwrap().kill().await?,
            Self::KillBroker => fixture.broker.kill().await?,
            Self::CutBroker => fixture.line.cut(true),
        }
        Ok(())
    }

    async fn end(self, fixture: &mut Fixture) -> anyhow::Result<()> {
        let cluster = &mut fixture.cluster;
        match self {
            Self::Kill(n) => cluster.restart_server(n).await,
            Self::Pause(n) => cluster.servers[n].process.as_ref().unwrap().signal(Signal::CONT),
            Self::Lie(n) | Self::Reset(n) => {
                cluster.proxy(n)?.spoil(Fault::None);
                Ok(())
            }
            Self::Cut(zone) => cut(cluster, zone, false),
            Self::KillInfo => cluster.restart_info().await,
            Self::KillBroker => fixture.broker.restart().await,
            Self::CutBroker => {
                fixture.line.cut(false);
                Ok(())
            }
        }
    }
}

fn cut(cluster: &Cluster, zone: &str, cut: bool) -> anyhow::Result<()> {
    for (n, _) in ZONES.iter().enumerate().filter(|(_, own)| **own == zone) {
        cluster.proxy(n)?.cut(cut);
    }
    Ok(())
}

/// Asserts that the error of a failed client is explained by the cycle's fault.
fn explained(output: &std::process::Output, excuse: Option<&str>, about: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{about}: {}", said.trim());
    assert_eq!(output.status.code(), Some(1), "{about}: {said}");
    assert!(excuse.is_some_and(|excuse| said.contains(excuse)), "{about}: not for the fault of its cycle: {said}");
}

#[tokio::test]
async fn random_faults_while_files_come_and_go_lose_nothing() -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(ddm_testkit::seed());
    let broker = RabbitMq::start().await?;
    let (line, url) = behind_proxy(&broker.uri()).await?;
    let plan = Plan { proxied: true, amqp: Some(broker.uri()), file_server_amqp: Some(url), ..Plan::zones(&ZONES) };
    let mut fixture = Fixture { cluster: Cluster::start(&plan).await?, broker, line };
    for n in 0..ZONES.len() {
        fixture.cluster.proxy(n)?.limit(Some(RATE));
    }
    let first = file(&fixture.cluster, "0.bin", random.random(), SIZE)?;
    let mut published = vec![(fixture.cluster.publish(&first, &POLICY).await?, sha256(&first)?)];
    let mut failed = (0, 0);
    for cycle in 1..=CYCLES {
        let cluster = &fixture.cluster;
        let (id, digest) = published.choose(&mut random).cloned().unwrap();
        let got = format!("got-{cycle}.bin");
        let client = cluster.spawn_client(&["--json", "--wait", "60s", "-o", &got, &id])?;
        let fresh = file(cluster, &format!("{cycle}.bin"), random.random(), SIZE / 4)?;
        let publisher =
            cluster.spawn_client(&[&["--json", "publish", &fresh.display().to_string()], &POLICY[..]].concat())?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let evil = Evil::draw(&mut random);
        println!("cycle {cycle}: {evil:?}");
        evil.happen(&mut fixture).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3000))).await;
        evil.end(&mut fixture).await?;
        let cluster = &fixture.cluster;
        // What is not acknowledged was not promised.
        let output = finish(publisher).await?;
        if output.status.success() {
            published.push((cluster.published(&output, &fresh)?, sha256(&fresh)?));
        } else {
            failed.0 += 1;
            explained(&output, evil.excuses_publication(), &format!("publication {cycle}, {evil:?}"));
        }
        let output = finish(client).await?;
        if output.status.success() {
            assert_eq!(sha256(&cluster.path(&got))?, digest, "cycle {cycle}");
        } else {
            failed.1 += 1;
            assert!(!cluster.path(&got).exists(), "cycle {cycle}");
            explained(&output, evil.excuses_download(), &format!("download {cycle}, {evil:?}"));
        }
    }
    println!("{} publications and {} downloads of {CYCLES} failed", failed.0, failed.1);
    let (cluster, healed) = (&fixture.cluster, Instant::now());
    for (n, (id, digest)) in published.iter().enumerate() {
        let name = format!("last-{n}.bin");
        eventually("a fresh download works", STEP_TIMEOUT, async || {
            let output = cluster.run_client(&["--json", "-f", "-o", &name, id]).await?;
            output.status.success().then(|| event(&output, "done")).transpose()
        })
        .await?;
        assert_eq!(&sha256(&cluster.path(&name))?, digest);
        assert!(n > 0 || healed.elapsed() <= Duration::from_secs(10), "{:?} after healing", healed.elapsed());
    }
    for (id, _) in &published {
        replicated(cluster, id, 2 * STEP_TIMEOUT).await?;
    }
    connected(cluster).await
}
