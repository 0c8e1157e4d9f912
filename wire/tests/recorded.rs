//! F43: what earlier versions said is understood by this one, and what this one says was understood by them.
//!
//! `recorded/<version>.json` holds what a version wrote, by type. A release adds a file; lines of older ones never change.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected should fail its test")]

use std::collections::BTreeMap;

use ddm_wire::{
    Problem,
    catalogue::{
        Adoption, CommitRequest, FileDetails, FileList, FileSummary, IssuedSession, IssuedToken, Location,
        LoginRequest, Manifest, NewFile, Policy, PreheatRequest, ReplicaInfo, ReplicaStatus, SessionInfo, SessionList,
        TokenRequest, UploadPlan, UploadTarget, ZoneStatus,
    },
    event::{Event, EventPayload, LogHeader},
    server::{
        DrainStatus, Heartbeat, HeartbeatAnswer, HeldChunks, Introspection, ReconcileAnswer, ReconcileRequest,
        ReplicaReport, ServerIdentity, ServerInfo, ServerList, StreamCursors,
    },
    token::{Grant, Revocation},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

type Recorded = BTreeMap<String, Vec<Value>>;

fn recorded(text: &str) -> Recorded {
    serde_json::from_str(text).unwrap()
}

/// The same with members that a later version may add, in every object.
fn with_more(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut more: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), with_more(value))).collect();
            more.insert("added_later".to_owned(), json!({ "deep": [1, null] }));
            Value::Object(more)
        }
        Value::Array(items) => Value::Array(items.iter().map(with_more).collect()),
        other => other.clone(),
    }
}

/// Members whose names are data and not words of the form.
const MAPS: [&str; 3] = ["streams", "zones", "pull_limits"];

fn with_more_but_in_maps(value: &Value) -> Value {
    let mut more = with_more(value);
    mend(&mut more, value);
    more
}

fn mend(more: &mut Value, recorded: &Value) {
    let (Value::Object(more), Value::Object(recorded)) = (more, recorded) else { return };
    for (name, value) in recorded {
        if MAPS.contains(&name.as_str()) {
            more.insert(name.clone(), value.clone());
        } else if let Some(inner) = more.get_mut(name) {
            mend(inner, value);
        }
    }
}

/// Reads each recording and writes it as it was, also when a later version added members.
fn reads_back<T: Serialize + DeserializeOwned>(name: &str, values: &mut Recorded) {
    for value in values.remove(name).unwrap_or_else(|| panic!("{name} was not recorded")) {
        let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), value, "{name}");
        let more = with_more_but_in_maps(&value);
        let read: T = serde_json::from_value(more.clone()).unwrap_or_else(|error| panic!("{name} {more}: {error}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), value, "{name} with more");
    }
}

#[test]
fn what_was_said_by_an_earlier_version_is_read_and_later_additions_are_passed_over() {
    let mut values = recorded(include_str!("recorded/0.1.json"));
    let all = &mut values;
    reads_back::<IssuedSession>("Session", all);
    reads_back::<SessionInfo>("SessionInfo", all);
    reads_back::<SessionList>("SessionList", all);
    reads_back::<FileSummary>("FileSummary", all);
    reads_back::<FileList>("FileList", all);
    reads_back::<FileDetails>("FileDetails", all);
    reads_back::<Location>("Location", all);
    reads_back::<IssuedToken>("IssuedToken", all);
    reads_back::<ReplicaStatus>("ReplicaStatus", all);
    reads_back::<ZoneStatus>("ZoneStatus", all);
    reads_back::<ReplicaInfo>("ReplicaInfo", all);
    reads_back::<UploadPlan>("UploadPlan", all);
    reads_back::<UploadTarget>("Target", all);
    reads_back::<CommitRequest>("Commit", all);
    reads_back::<Manifest>("Manifest", all);
    reads_back::<Heartbeat>("Heartbeat", all);
    reads_back::<StreamCursors>("Seen", all);
    reads_back::<HeartbeatAnswer>("HeartbeatAnswer", all);
    reads_back::<ServerIdentity>("Identity", all);
    reads_back::<ServerInfo>("ServerInfo", all);
    reads_back::<ServerList>("ServerList", all);
    reads_back::<DrainStatus>("DrainStatus", all);
    reads_back::<Introspection>("Introspection", all);
    reads_back::<ReplicaReport>("ReplicaReport", all);
    reads_back::<ReconcileRequest>("Reconcile", all);
    reads_back::<ReconcileAnswer>("Reconciled", all);
    reads_back::<HeldChunks>("HeldChunks", all);
    reads_back::<Grant>("Grant", all);
    reads_back::<Revocation>("Revocation", all);
    reads_back::<LogHeader>("LogHeader", all);
    // A problem keeps members that it does not know, for programs that do.
    let problems = all.remove("Problem").unwrap();
    for problem in problems.into_iter().flat_map(|value| [with_more(&value), value]) {
        let read: Problem = serde_json::from_value(problem.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), problem);
    }
    all.remove("Event");
    assert!(values.is_empty(), "recorded and not read: {:?}", values.keys());
}

#[test]
fn events_of_an_earlier_version_mean_what_they_meant() {
    let mut facts = Vec::new();
    for value in recorded(include_str!("recorded/0.1.json")).remove("Event").unwrap() {
        let event = Event::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), value);
        assert_eq!(Event::parse(with_more_but_in_maps(&value).to_string().as_bytes()).unwrap(), event, "{value}");
        facts.push(event.payload);
    }
    for name in
        ["token.granted", "token.revoked", "file.published", "file.deleted", "replica.assigned", "replica.removed"]
    {
        assert!(facts.iter().any(|fact| fact.name() == name), "{name} was not recorded");
    }
    assert!(!facts.contains(&EventPayload::Unknown));
}

/// Reads each request and writes it as it was; an unknown member is refused, as it was meant to do something.
fn asks<T: Serialize + DeserializeOwned>(name: &str, values: &mut Recorded) {
    for value in values.remove(name).unwrap_or_else(|| panic!("{name} was not recorded")) {
        let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), value, "{name}");
        assert!(serde_json::from_value::<T>(with_more(&value)).is_err(), "{name}: a mistyped member would do nothing");
    }
}

#[test]
fn requests_of_an_earlier_version_are_understood() {
    let mut values = recorded(include_str!("recorded/0.1-requests.json"));
    let all = &mut values;
    for login in all.remove("Login").unwrap() {
        let read: LoginRequest = serde_json::from_value(login.clone()).unwrap();
        assert_eq!(login["email"], read.email);
    }
    asks::<TokenRequest>("TokenRequest", all);
    asks::<NewFile>("NewFile", all);
    asks::<Policy>("Policy", all);
    asks::<PreheatRequest>("Preheat", all);
    asks::<Adoption>("Adoption", all);
    assert!(values.is_empty(), "recorded and not read: {:?}", values.keys());
}
