use std::process::Stdio;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    power_cut::Recording,
};

use super::{CLIENT_CUTS, complete};
use crate::content::{MIB, event, file, names, sha256};

/// Steps in which a download gets its final name and says so.
const LAST_STEPS: usize = 40;

#[tokio::test]
async fn a_download_is_done_only_once_it_is_synced_and_goes_on_after_a_power_cut() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 6, 3 * MIB + 1)?;
    let (id, digest) = (cluster.publish(&path, &[]).await?, sha256(&path)?);
    let [here, before, trace] = ["here", "before", "trace"].map(|name| cluster.path(name));
    std::fs::create_dir(&here)?;
    std::fs::create_dir(&before)?;
    let target = here.join("got.bin").display().to_string();
    let mut client = cluster.client_recorded(&["--json", "-o", &target, &id], &trace)?;
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = client.id().context("a process")?.try_into()?;
    let output = finish(client).await?;
    event(&output, "done")?;
    complete(&trace, pid).await?;
    let recording = Recording::read(&trace, &here, &before)?;
    recording.check(&here)?;

    let done = recording.sent(r#""event":"done""#).context("its last word")?;
    let open = recording.unsynced(0..done);
    let open: Vec<_> = open.iter().filter(|what| !what.contains("journal")).collect();
    assert!(open.is_empty(), "it said that all is done while this was not synced: {open:?}");
    let (seed, mut there) = (ddm_testkit::seed(), 0);
    // Half of the cuts around its end: from the last syncs over the final name to its last word.
    let (end, last) = (recording.len() + 1, recording.len().saturating_sub(LAST_STEPS));
    let cuts =
        [recording.cuts(0..end, CLIENT_CUTS / 2, seed), recording.cuts(last..end, CLIENT_CUTS / 2, seed)].concat();
    for (n, cut) in cuts.into_iter().enumerate() {
        let folder = cluster.path(&format!("cut-{n}"));
        std::fs::create_dir(&folder)?;
        recording.rebuild(cut, seed.wrapping_add(n as u64), &folder)?;
        let got = folder.join("got.bin");
        let stands = got.exists();
        there += usize::from(stands);
        assert!(stands || cut <= done, "cut {n}, after {cut} steps: the file is lost that was said to be there");
        assert!(!stands || sha256(&got)? == digest, "cut {n}, after {cut} steps: wrong bytes under the final name");
        event(&cluster.run_client(&["--json", "-f", "-o", &got.display().to_string(), &id]).await?, "done")?;
        assert_eq!(sha256(&got)?, digest);
        // A journal whose removal was lost stays beside a finished file, and does no harm.
        let left: Vec<_> = names(&folder)?.into_iter().filter(|name| !stands || !name.ends_with(".journal")).collect();
        assert_eq!(left, ["got.bin"], "cut {n}, after {cut} steps");
        std::fs::remove_dir_all(&folder)?;
    }
    println!("after {there} of {CLIENT_CUTS} power cuts the file stood there");
    Ok(())
}
