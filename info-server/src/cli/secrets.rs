//! The secrets of a deployment, made once: `ddm-info-server secrets FOLDER`.
//!
//! Each of the folders below is for one kind of process and may be mounted alone: `info` and `provider` hold the join secret
//! and the URL of the broker, each with a user of its own; `broker` holds RabbitMQ's definitions, which contain
//! passwords as salted hashes only.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifecycle::private_file;
use rand::Rng as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;
use wire::token::{Token, TokenKind};

/// The users of the broker and their rights; the passwords' hashes are added when the file is made. File servers may read `ddm.dead`
/// only because a client that declares a queue must bind it; the messages that are parked there were in their own queues before.
const DEFINITIONS: &str = include_str!("secrets/definitions.json");
const JOIN_SECRET: &str = "join-secret";
const BROKER_URL: &str = "broker-url";

/// Makes the secrets that are missing. Existing ones stay, except the definitions: those are of this version, with the passwords kept.
///
/// # Errors
/// When a file cannot be read or written, or is not what this function wrote.
pub fn make(folder: &Path, broker: &str) -> anyhow::Result<()> {
    let join_secret = keep_or_make(&folder.join("info").join(JOIN_SECRET), || {
        Ok(Token::generate(TokenKind::Server).expose().to_owned())
    })?;
    keep_or_make(&folder.join("provider").join(JOIN_SECRET), || Ok(join_secret.clone()))?;
    let mut definitions: Value = serde_json::from_str(DEFINITIONS)?;
    for (process, user) in [("info", "ddm-info"), ("provider", "ddm-provider")] {
        let path = folder.join(process).join(BROKER_URL);
        let url = keep_or_make(&path, || broker_url(broker, user))?;
        let url = Url::parse(url.trim()).map_err(|_| anyhow::anyhow!("{} holds no URL", path.display()))?;
        let password = url.password().with_context(|| format!("{} holds no password", path.display()))?;
        set_password(&mut definitions, user, password)?;
    }
    replace(&folder.join("broker").join("definitions.json"), &serde_json::to_vec_pretty(&definitions)?)
}

fn keep_or_make(path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    let context = || format!("the secret {}", path.display());
    if let Some(kept) = private_file::read(path).with_context(context)? {
        return Ok(kept);
    }
    let secret = make()?;
    private_file::write(path, secret.as_bytes()).with_context(context)?;
    tracing::info!(path = %path.display(), "Made the secret {}", path.display());
    Ok(secret)
}

fn broker_url(broker: &str, user: &str) -> anyhow::Result<String> {
    let url = format!("amqp://{user}:{}@{broker}/ddm", Token::generate(TokenKind::Server).expose());
    let parsed = Url::parse(&url).ok().filter(|url| url.host_str().is_some() && url.path() == "/ddm");
    ensure!(parsed.is_some(), "--broker {broker} is not a host and a port, such as broker:5672");
    Ok(url)
}

fn set_password(definitions: &mut Value, user: &str, password: &str) -> anyhow::Result<()> {
    let users = definitions.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten();
    let user = users.filter_map(Value::as_object_mut).find(|entry| entry.get("name").is_some_and(|name| name == user));
    let salt: [u8; 4] = rand::rng().next_u32().to_be_bytes();
    let user = user.context("the definitions lack a user")?;
    user.insert("password_hash".into(), password_hash(salt, password).into());
    Ok(())
}

/// Returns the hash that RabbitMQ keeps instead of a password (`rabbit_password_hashing_sha256`).
fn password_hash(salt: [u8; 4], password: &str) -> String {
    let hash = Sha256::new().chain_update(salt).chain_update(password).finalize();
    STANDARD.encode([salt.as_slice(), hash.as_slice()].concat())
}

/// Replaces a file that is no secret: the broker runs as another user, and the hashes in the file open nothing.
fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let aside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example of RabbitMQ's documentation of `rabbit_password_hashing_sha256`.
    #[test]
    fn a_password_is_hashed_as_rabbitmq_does() {
        assert_eq!(
            password_hash([0x90, 0x8d, 0xc6, 0x0a], "test12"),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
    }

    #[test]
    fn secrets_are_made_once_and_the_broker_learns_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let names = ["info/join-secret", "info/broker-url", "provider/join-secret", "provider/broker-url"];
        make(folder.path(), "broker:5672").unwrap();
        let first = names.map(read);
        make(folder.path(), "elsewhere:5672").unwrap();
        assert_eq!(first, names.map(read));
        let [info_join, info_url, provider_join, provider_url] = first;
        assert_eq!(info_join, provider_join);
        assert!(info_url.starts_with("amqp://ddm-info:") && info_url.ends_with("@broker:5672/ddm"), "{info_url}");

        let definitions = read("broker/definitions.json");
        for url in [info_url, provider_url] {
            let url = Url::parse(&url).unwrap();
            assert!(!definitions.contains(url.password().unwrap()));
        }
        let definitions: Value = serde_json::from_str(&definitions).unwrap();
        for user in definitions["users"].as_array().unwrap() {
            assert_eq!(STANDARD.decode(user["password_hash"].as_str().unwrap()).unwrap().len(), 36, "{user}");
        }
    }

    #[test]
    fn a_broker_that_is_no_address_is_refused_before_anything_of_it_is_kept() {
        for broker in ["", "broker:x", "broker/other", "a b"] {
            let folder = tempfile::tempdir().unwrap();
            assert!(make(folder.path(), broker).is_err(), "{broker}");
            assert!(!folder.path().join("info/broker-url").exists());
        }
    }
}
