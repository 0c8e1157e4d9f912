use super::*;

async fn store() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let store = Database::open(&folder.path().join("x.sqlite")).await.unwrap();
    let mut write = store.write().await.unwrap();
    for (email, role) in [("a@x", Role::Admin), ("b@x", Role::Admin), ("c@x", Role::Publisher)] {
        assert!(add_user(&mut write, email, "hash", role, Timestamp::now()).await.unwrap());
    }
    write.commit().await.unwrap();
    (folder, store)
}

async fn changed(store: &Database, email: &str, what: AccountChange) -> ChangeOutcome {
    let mut write = store.write().await.unwrap();
    let changed = change(&mut write, email, &what).await.unwrap();
    write.commit().await.unwrap();
    changed
}

async fn log_in(store: &Database, user_id: i64, n: u64) -> Digest {
    let token_hash = Digest::of(&n.to_be_bytes());
    let now = Timestamp::now();
    let expires_at = now.checked_add(std::time::Duration::from_secs(60)).unwrap();
    let new = NewSession { token_hash, user_id, expires_at, address: None, zone: None };
    let mut write = store.write().await.unwrap();
    add_session(&mut write, &new, now).await.unwrap();
    write.commit().await.unwrap();
    token_hash
}

#[tokio::test]
async fn the_last_open_admin_stays() {
    let (_folder, store) = store().await;
    let shut = || AccountChange { disabled: Some(true), ..AccountChange::default() };
    let demoted = || AccountChange { role: Some(Role::Reader), ..AccountChange::default() };
    let done = |account| ChangeOutcome::Done { account, sessions_ended: true };
    assert_eq!(changed(&store, "A@X", shut()).await, done(1));
    assert_eq!(changed(&store, "b@x", shut()).await, ChangeOutcome::LastAdmin);
    assert_eq!(changed(&store, "b@x", demoted()).await, ChangeOutcome::LastAdmin);
    assert_eq!(changed(&store, "a@x", demoted()).await, done(1), "a shut admin counts for nothing");
    assert_eq!(changed(&store, "c@x", shut()).await, done(3));
    assert_eq!(changed(&store, "nobody@x", shut()).await, ChangeOutcome::Unknown);
}

#[tokio::test]
async fn sessions_are_few_and_end_when_a_right_is_lost() {
    let (_folder, store) = store().await;
    let first = log_in(&store, 3, 0).await;
    let mut last = first;
    for n in 1..=u64::from(MAX_SESSIONS) {
        last = log_in(&store, 3, n).await;
    }
    let now = Timestamp::now();
    let open = store.sessions(3, last, now).await.unwrap();
    assert_eq!(open.len(), MAX_SESSIONS as usize);
    assert!(open.first().unwrap().current, "newest first");
    assert!(store.session_user(first, now).await.unwrap().is_none(), "the oldest made room");
    let mut write = store.write().await.unwrap();
    let name = open.get(1).unwrap().id;
    assert!(!end_named_session(&mut write, name, Some(1)).await.unwrap(), "of somebody else");
    assert!(end_named_session(&mut write, name, Some(3)).await.unwrap());
    assert_eq!(end_other_sessions(&mut write, 3, last).await.unwrap(), u64::from(MAX_SESSIONS) - 2);
    write.commit().await.unwrap();
    for what in [
        AccountChange { disabled: Some(true), ..AccountChange::default() },
        AccountChange { password_hash: Some("other".to_owned()), ..AccountChange::default() },
        AccountChange { role: Some(Role::Reader), ..AccountChange::default() },
    ] {
        assert!(matches!(
            changed(&store, "c@x", AccountChange { disabled: Some(false), ..AccountChange::default() }).await,
            ChangeOutcome::Done { .. }
        ));
        let session = log_in(&store, 3, 1000).await;
        assert!(store.session_user(session, now).await.unwrap().is_some());
        assert!(matches!(changed(&store, "c@x", what).await, ChangeOutcome::Done { .. }));
        assert_eq!(store.sessions(3, session, now).await.unwrap(), []);
    }
}
