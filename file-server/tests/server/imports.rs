//! Publication of files from the server's own machine.

use std::path::Path;

use clap::Parser as _;
use ddm_file_server::{
    cli::import,
    config::{Cli, Command},
};
use wire::{
    Digest,
    token::{Token, TokenKind},
};

use crate::{
    info::Info,
    node::{Node, arguments, sample},
};

async fn run(info: &Info, data: &Path, paths: &[&Path]) -> anyhow::Result<()> {
    run_with(info, data, paths, &[]).await
}

/// Imports with further settings.
async fn run_with(info: &Info, data: &Path, paths: &[&Path], settings: &[&str]) -> anyhow::Result<()> {
    let session = Token::generate(TokenKind::Session);
    let mut args = arguments(&info.url, data);
    args.retain(|argument| settings.is_empty() || (argument != "--zone" && argument != "eu"));
    args.extend(settings.iter().map(|&setting| setting.to_owned()));
    args.extend(["import", "--session-token", session.expose()].map(str::to_owned));
    args.extend(paths.iter().map(|path| path.to_str().unwrap().to_owned()));
    let cli = Cli::parse_from(args);
    let Some(Command::Import(wanted)) = cli.command else { anyhow::bail!("not an import") };
    import::run(cli.config, wanted).await
}

#[tokio::test]
async fn files_are_imported_beside_a_running_server_and_without_one() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    info.wait_until(|received| !received.beats.is_empty()).await;
    let folder = tempfile::tempdir().unwrap();
    let contents = [sample(0), sample((3 << 20) + 1), sample(7)];
    let paths = ["empty", "three and a bit", "small"].map(|name| folder.path().join(name));
    for (path, bytes) in paths.iter().zip(&contents) {
        std::fs::write(path, bytes).unwrap();
    }
    run(&info, node.data.path(), &[&paths[0], &paths[1]]).await.unwrap();
    let data = node.stop().await;
    let before = info.received().beats.len();
    run_with(&info, data.path(), &[&paths[2]], &["--zone", "default"]).await.unwrap();
    let beats = info.received().beats[before..].to_vec();
    assert!(!beats.is_empty() && beats.iter().all(|beat| beat.zone.as_str() == "eu"), "{beats:?}");

    let announced = info.received().announced.clone();
    let node = Node::start_on(&info.url, data).await;
    for ((id, new), (path, bytes)) in announced.iter().zip(paths.iter().zip(&contents)) {
        assert_eq!(new.name.as_str(), path.file_name().unwrap());
        assert_eq!(new.policy.as_ref().unwrap().through, Some(node.id.clone()));
        let answer = node.get(*id, &info.download(*id)).send().await.unwrap();
        assert_eq!(Digest::of(&answer.bytes().await.unwrap()), Digest::of(bytes));
    }
    assert_eq!(announced.len(), 3);
    let error = run(&info, node.data.path(), &[folder.path()]).await.unwrap_err();
    assert!(format!("{error:#}").contains("not a regular file"), "{error:#}");
    node.stop().await;
}

#[tokio::test]
async fn an_import_without_its_server_knows_where_the_server_was() {
    let info = Info::start().await;
    let data = Node::start(&info).await.stop().await;
    let file = data.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    std::fs::remove_file(data.path().join("last-start.json")).unwrap();
    let before = info.received().beats.len();
    let error = format!("{:#}", run(&info, data.path(), &[&file]).await.unwrap_err());
    assert!(error.contains("start it, then import again"), "{error}");
    assert_eq!(info.received().beats.len(), before, "nothing is registered");
}
