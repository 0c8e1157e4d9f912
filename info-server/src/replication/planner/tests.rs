use clap::Parser as _;
use wire::{
    ChunkLayout, ChunkSet, Digest,
    account::Role,
    catalogue::{FileState, Policy},
    id::InstanceId,
    server::ReplicaReport,
};

use super::*;
use crate::{
    accounts,
    catalogue::{
        self,
        file::{Content, File},
    },
    cli::CommandLine,
    fleet::{registry::Registry, server::EnrolledServer},
    replication::store::replicas,
};

const SERVERS: [&str; 2] = ["fs-1", "fs-2"];

fn enrolled(id: &str) -> EnrolledServer {
    EnrolledServer {
        id: id.parse().unwrap(),
        zone: "eu".parse().unwrap(),
        url: "http://127.0.0.1:9".parse().unwrap(),
        secret_sha256: Digest::of(id.as_bytes()),
        instance: InstanceId::new(),
        present: true,
        reachable: true,
        free_bytes: 1 << 40,
        last_seen: Timestamp::now(),
        weight: 1,
        draining: false,
    }
}

async fn planner(folder: &std::path::Path) -> Planner {
    let db = Database::open(&folder.join("catalogue.sqlite")).await.unwrap();
    let servers = SERVERS.map(enrolled).to_vec();
    let mut write = db.write().await.unwrap();
    for server in &servers {
        crate::fleet::store::save(&mut write, server).await.unwrap();
    }
    write.commit().await.unwrap();
    let fleet = Arc::new(Fleet::new(Registry::restore(servers, Instant::now())).unwrap());
    let line = ["ddm-info-server", "--data", folder.to_str().unwrap()];
    let settings = CommandLine::try_parse_from(line).unwrap().config.replication;
    Planner { db, fleet, log: EventLog::new(), inbox: Arc::default(), settings }
}

/// Publishes a file of one chunk that both servers hold.
async fn publish(planner: &Planner, wanted: u32) -> FileId {
    let (id, now, chunk) = (FileId::new(), Timestamp::now(), Digest::of(b"x"));
    let file = File {
        id,
        name: "x.bin".parse().unwrap(),
        layout: ChunkLayout::checked(1, 1 << 20).unwrap(),
        media_type: None,
        state: FileState::Uploading,
        quorum: 1,
        owner: 1,
        created_at: now,
        content: None,
        job: None,
        lost_chunks: ChunkSet::new(),
    };
    let content = Content { sha256: chunk, root: Digest::root_of(&[chunk]) };
    let mut write = planner.db.write().await.unwrap();
    accounts::store::add_user(&mut write, "publisher@x", "", Role::Publisher, now).await.unwrap();
    catalogue::store::add(&mut write, &file, &policy(wanted)).await.unwrap();
    catalogue::store::publish(&mut write, id, content, &[chunk]).await.unwrap();
    for server in SERVERS {
        assignments::assign(&mut write, id, &server.parse().unwrap(), now).await.unwrap();
        report(&mut write, id, server, Some(content.root)).await;
    }
    write.commit().await.unwrap();
    id
}

fn policy(replicas: u32) -> Policy {
    Policy { replicas: Some(replicas), zones: None, through: None }
}

async fn report(write: &mut crate::db::Write, file: FileId, server: &str, root: Option<Digest>) {
    let mut runs = ChunkSet::new();
    if root.is_some() {
        runs.insert(0..1);
    }
    let report = ReplicaReport { counter: if root.is_some() { 1 } else { 2 }, runs, root, sha256: None };
    replicas::report(write, file, &server.parse().unwrap(), &report).await.unwrap();
}

#[tokio::test]
async fn a_plan_is_not_carried_out_after_a_change_of_what_it_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let planner = planner(folder.path()).await;
    for is_policy_changed in [true, false] {
        let id = publish(&planner, 2).await;
        let goal = ReplicationGoal::load(&planner.db, id, 1).await.unwrap().unwrap();
        let release = vec!["fs-1".parse().unwrap()];
        let plan = Plan { converged: true, release, ..Plan::default() };
        let plans = [PlannedFile { file: id, goal, plan, loss: None }];
        let mut write = planner.db.write().await.unwrap();
        if is_policy_changed {
            catalogue::store::set_policy(&mut write, id, &policy(3)).await.unwrap();
        } else {
            report(&mut write, id, "fs-2", None).await;
        }
        store::set_converged(&mut write, id, false).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(carry_out(&planner, &plans).await.unwrap(), 0, "no replica is dropped");
        assert!(planner.db.unconverged(None, 10).await.unwrap().contains(&id));
        assert_eq!(planner.inbox.take(10), [id], "it is planned again");
    }
    planner.db.close().await;
}
