//! F10: servers are killed, paused, cut off and made to lie at random while files are published, replicated to both zones and
//! downloaded.

use std::time::{Duration, Instant};

use ddm_testkit::{
    cluster::{Cluster, PATIENCE, Plan, finish},
    process::eventually,
    proxy::Fault,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use rustix::process::Signal;

use crate::{
    content::{MIB, event, file, sha256},
    standing::replicated,
};

const ZONES: [&str; 4] = ["eu", "eu", "us", "us"];
const POLICY: [&str; 4] = ["--zones", "eu,us", "--replicas", "2"];
const SIZE: u64 = 12 * MIB;
const RATE: u32 = 8 << 20;

/// What may happen in a cycle, and is undone at its end.
#[derive(Debug, Clone, Copy)]
enum Evil {
    Kill(usize),
    Pause(usize),
    Lie(usize),
    Reset(usize),
    Cut(&'static str),
    KillInfo,
}

impl Evil {
    fn draw(random: &mut SmallRng) -> Self {
        let n = random.random_range(0..ZONES.len());
        let zone = ZONES.choose(random).copied().unwrap();
        let all = [Self::Kill(n), Self::Pause(n), Self::Lie(n), Self::Reset(n), Self::Cut(zone), Self::KillInfo];
        *all.choose(random).unwrap()
    }

    async fn happen(self, cluster: &mut Cluster) -> anyhow::Result<()> {
        match self {
            Self::Kill(n) => cluster.take_server(n)?.kill().await?,
            Self::Pause(n) => cluster.servers[n].process.as_ref().unwrap().signal(Signal::STOP)?,
            Self::Lie(n) => cluster.proxy(n)?.spoil(Fault::Flip(std::num::NonZeroU64::new(MIB).unwrap())),
            Self::Reset(n) => cluster.proxy(n)?.spoil(Fault::Reset(MIB / 2)),
            Self::Cut(zone) => cut(cluster, zone, true)?,
            Self::KillInfo => cluster.info.take().unwrap().kill().await?,
        }
        Ok(())
    }

    async fn end(self, cluster: &mut Cluster) -> anyhow::Result<()> {
        match self {
            Self::Kill(n) => cluster.restart_server(n).await,
            Self::Pause(n) => cluster.servers[n].process.as_ref().unwrap().signal(Signal::CONT),
            Self::Lie(n) | Self::Reset(n) => {
                cluster.proxy(n)?.spoil(Fault::None);
                Ok(())
            }
            Self::Cut(zone) => cut(cluster, zone, false),
            Self::KillInfo => cluster.restart_info().await,
        }
    }
}

fn cut(cluster: &Cluster, zone: &str, cut: bool) -> anyhow::Result<()> {
    for (n, _) in ZONES.iter().enumerate().filter(|(_, own)| **own == zone) {
        cluster.proxy(n)?.cut(cut);
    }
    Ok(())
}

#[tokio::test]
async fn random_faults_while_files_come_and_go_lose_nothing() -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(ddm_testkit::seed());
    let mut cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&ZONES) }).await?;
    for n in 0..ZONES.len() {
        cluster.proxy(n)?.limit(Some(RATE));
    }
    let first = file(&cluster, "0.bin", random.random(), SIZE)?;
    let mut published = vec![(cluster.publish(&first, &POLICY).await?, sha256(&first)?)];
    let (mut downloaded, mut acknowledged) = (0, 1);
    let cycles = if ddm_testkit::full() { 20 } else { 6 };
    for cycle in 1..=cycles {
        let (id, digest) = published.choose(&mut random).cloned().unwrap();
        let got = format!("got-{cycle}.bin");
        let client = cluster.spawn_client(&["--json", "--wait", "60s", "-o", &got, &id])?;
        let fresh = file(&cluster, &format!("{cycle}.bin"), random.random(), SIZE / 4)?;
        let publisher =
            cluster.spawn_client(&[&["--json", "publish", &fresh.display().to_string()], &POLICY[..]].concat())?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let evil = Evil::draw(&mut random);
        println!("cycle {cycle}: {evil:?}");
        evil.happen(&mut cluster).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(500..4000))).await;
        evil.end(&mut cluster).await?;
        // A publication in bad weather may fail; then it was not acknowledged, and nothing of it was promised.
        if let Ok(id) = cluster.published(&finish(publisher).await?, &fresh) {
            published.push((id, sha256(&fresh)?));
            acknowledged += 1;
        }
        let output = finish(client).await?;
        if output.status.success() {
            assert_eq!(sha256(&cluster.path(&got))?, digest, "cycle {cycle}");
            downloaded += 1;
        } else {
            // Nobody to ask at the very start: said clearly, with nothing under the name.
            assert!(!cluster.path(&got).exists(), "cycle {cycle}");
            assert_eq!(output.status.code(), Some(1), "cycle {cycle}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    println!("{downloaded} of {cycles} downloads ended well, {acknowledged} files were published");
    let healed = Instant::now();
    for (n, (id, digest)) in published.iter().enumerate() {
        let name = format!("last-{n}.bin");
        eventually("a fresh download works", PATIENCE, async || {
            let output = cluster.run_client(&["--json", "-f", "-o", &name, id]).await?;
            output.status.success().then(|| event(&output, "done")).transpose()
        })
        .await?;
        assert_eq!(&sha256(&cluster.path(&name))?, digest);
        assert!(n > 0 || healed.elapsed() <= Duration::from_secs(10), "{:?} after healing", healed.elapsed());
    }
    for (id, _) in &published {
        replicated(&cluster, id, 2 * PATIENCE).await?;
    }
    assert!(downloaded * 2 >= cycles, "most downloads survive: {downloaded} of {cycles}");
    Ok(())
}
