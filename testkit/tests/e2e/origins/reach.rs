//! P9: servers connect to public addresses only, and to what the operator opened.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ddm_testkit::{
    cluster::{Cluster, Plan},
    rogue::{Behaviour, Rogue},
};
use tokio::net::TcpListener;
use wire::FileId;

use super::fixture::{plan, refusal};
use crate::content::bytes;

#[tokio::test]
async fn no_spelling_name_or_redirect_leads_to_an_address_that_is_not_public() -> anyhow::Result<()> {
    // On all addresses: whatever reached this machine by any of its names would be seen.
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let counting = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let shut = Cluster::start(&Plan::zones(&["eu"])).await?;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "LOCALHOST",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
    ] {
        assert_eq!(refusal(&shut, &format!("http://{host}:{port}/x")).await?, "not-public", "{host}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);

    // An origin that may be asked sends on to one that may not.
    let open = Cluster::start(&plan(&["eu"])).await?;
    let origin = Rogue::start(FileId::new(), bytes(9, 10 << 20).into()).await?;
    for host in ["10.0.0.1", "[::1]", "0", "[::ffff:169.254.169.254]", "3232235777"] {
        origin.set(Behaviour::Redirect(format!("http://{host}:{port}/x").parse()?));
        assert_eq!(refusal(&open, origin.url().as_str()).await?, "not-public", "{host}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    counting.abort();
    Ok(())
}
