//! Log-ins of hosts, as `curl`, `wget` and `ftp` read them from `~/.netrc`.

use std::{fs, io, path::Path};

use secrecy::SecretString;

/// Longest file that is read.
const MAX_NETRC_LEN: u64 = 1 << 20;

/// The log-ins of a netrc file.
#[derive(Debug, Clone, Default)]
pub struct Netrc {
    entries: Vec<Entry>,
}

/// A log-in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: SecretString,
}

#[derive(Debug, Clone)]
struct Entry {
    /// None for the entry of all other hosts.
    host: Option<String>,
    user: String,
    password: SecretString,
}

impl Netrc {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is too long or is no UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > MAX_NETRC_LEN {
            return Err(io::Error::other("it is too long"));
        }
        Ok(Self::parse(&fs::read_to_string(path)?))
    }

    /// Parses the text of a file. What is not understood is passed over.
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut words = Words { rest: text };
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => entries.extend(words.next().map(|host| Entry::new(Some(host.to_ascii_lowercase())))),
                "default" => entries.push(Entry::new(None)),
                "login" => {
                    if let (Some(entry), Some(user)) = (entries.last_mut(), words.next()) {
                        entry.user = user;
                    }
                }
                "password" => {
                    if let (Some(entry), Some(password)) = (entries.last_mut(), words.next()) {
                        entry.password = password.into();
                    }
                }
                "account" => drop(words.next()),
                "macdef" => words.skip_macro(),
                _ => {}
            }
        }
        Self { entries }
    }

    /// Returns the log-in at a host: its own, or the one of all other hosts.
    pub(crate) fn login(&self, host: &str) -> Option<Login> {
        let own = |entry: &&Entry| entry.host.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(host));
        let found = self.entries.iter().find(own).or_else(|| self.entries.iter().find(|entry| entry.host.is_none()))?;
        Some(Login { user: found.user.clone(), password: found.password.clone() })
    }
}

impl Entry {
    fn new(host: Option<String>) -> Self {
        Self { host, user: String::new(), password: String::new().into() }
    }
}

/// The words of a netrc file: separated by white space, or in quotes with `\` as escape. `#` begins a comment where a word would
/// begin.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next()? {
                '#' => self.skip_line(),
                '"' => return Some(self.quoted()),
                _ => break,
            }
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(word.to_owned())
    }

    fn quoted(&mut self) -> String {
        let mut word = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return word;
                }
                '\\' => word.extend(chars.next().map(|(_, escaped)| match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                })),
                other => word.push(other),
            }
        }
        self.rest = "";
        word
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
    }

    /// Skips the commands of a macro, which end with an empty line.
    fn skip_macro(&mut self) {
        let end = self.rest.find("\n\n").map(|at| at + 2).or_else(|| self.rest.find("\r\n\r\n").map(|at| at + 4));
        self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn login(text: &str, host: &str) -> Option<String> {
        let login = Netrc::parse(text).login(host)?;
        Some(format!("{}:{}", login.user, login.password.expose_secret()))
    }

    #[test]
    fn the_log_in_of_a_host_is_found_as_other_programs_find_it() {
        for (text, host, expected) in [
            ("machine a.org login u password p", "a.org", Some("u:p")),
            ("machine a.org\n\tlogin u\n\tpassword p\nmachine b.org login v password q\n", "b.org", Some("v:q")),
            ("machine A.ORG password p login u", "a.org", Some("u:p")),
            ("machine a.org login u password p", "www.a.org", None),
            ("machine a.org login u password p\ndefault login anon password me@", "c.org", Some("anon:me@")),
            ("default login anon password x\nmachine a.org login u password p", "a.org", Some("u:p")),
            ("machine a.org login u account x password p", "a.org", Some("u:p")),
            ("machine a.org login \"a b\" password \"q\\\"\\\\\"", "a.org", Some("a b:q\"\\")),
            ("# machine a.org login no password no\nmachine a.org login u password p#1", "a.org", Some("u:p#1")),
            (
                "macdef init\ncd /\nmachine a.org login no password no\n\nmachine a.org login u password p",
                "a.org",
                Some("u:p"),
            ),
            ("machine a.org", "a.org", Some(":")),
            ("login u password p", "a.org", None),
            ("machine", "a.org", None),
            ("machine a.org login \"u", "a.org", Some("u:")),
            ("", "a.org", None),
        ] {
            assert_eq!(login(text, host).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn no_formatter_shows_a_password() {
        let shown = format!("{:?}", Netrc::parse("machine a.org login u password hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
