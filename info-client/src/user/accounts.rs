//! Accounts, for admins.

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use wire::account::{Account, Role};

use super::UserClient;
use crate::Result;

/// Answer of `GET /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountList {
    /// Accounts, oldest first.
    pub users: Vec<Account>,
    /// Value of `cursor` for the next page; absent on the last page.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// Change of an account. What is absent stays.
#[derive(Debug, Default)]
pub struct AccountChange {
    /// Set to shut the account, or to open it again.
    pub disabled: Option<bool>,
    /// New role.
    pub role: Option<Role>,
    /// New password; the sessions of the account end.
    pub password: Option<SecretString>,
}

impl UserClient {
    /// Returns one page of the accounts.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 403 for others than admins.
    pub async fn users(&self, cursor: Option<&str>) -> Result<AccountList> {
        let request = self.transport.request(Method::GET, "v1/users").query(&[("limit", 500)]);
        let request = match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        };
        self.transport.fetch(request).await
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the name is taken.
    pub async fn add_user(&self, email: &str, role: Role, password: &SecretString) -> Result<()> {
        let body = json!({ "email": email, "role": role, "password": password.expose_secret() });
        self.transport.send(self.transport.request(Method::POST, "v1/users").json(&body)).await.map(drop)
    }

    /// Changes an account.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 404 when there is no such account.
    pub async fn change_user(&self, email: &str, change: &AccountChange) -> Result<()> {
        let password = change.password.as_ref().map(|password| password.expose_secret());
        let members = [
            ("disabled", change.disabled.map(Into::into)),
            ("role", change.role.map(|role| role.as_str().into())),
            ("password", password.map(Into::into)),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let body: serde_json::Map<String, serde_json::Value> = members.collect();
        let request = self.transport.request(Method::PATCH, &format!("v1/users/{}", segment(email)));
        self.transport.send(request.json(&body)).await.map(drop)
    }
}

/// Writes a text as one segment of a path.
fn segment(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b'+' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        for (text, written) in [
            ("a+b@example.org", "a+b@example.org"),
            ("a/../b?c#d@e", "a%2F..%2Fb%3Fc%23d@e"),
            ("ä@e", "%C3%A4@e"),
            ("50%@e", "50%25@e"),
        ] {
            assert_eq!(segment(text), written);
        }
    }
}
