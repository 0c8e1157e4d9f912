//! Parser of the output of `strace -f -y -xx`.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;

/// A call has begun or ended; the number counts calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin(usize),
    End(usize),
}

/// A call that succeeded, or never came back.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) change: Change,
}

/// Effect of a call; paths are relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Create {
        path: PathBuf,
        empty: bool,
    },
    MakeFolder(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    /// Bytes written at an offset; at the end of the file without one.
    Write {
        path: PathBuf,
        at: Option<u64>,
        bytes: Vec<u8>,
    },
    Length {
        path: PathBuf,
        len: u64,
    },
    Grow {
        path: PathBuf,
        len: u64,
    },
    Clear {
        path: PathBuf,
        at: u64,
        len: u64,
    },
    Sync(PathBuf),
    Received {
        socket: Vec<u8>,
        bytes: Vec<u8>,
    },
    Sent {
        socket: Vec<u8>,
        bytes: Vec<u8>,
    },
}

/// The calls that have to do with `folder` or with a socket.
pub(super) fn parse(text: &[u8], folder: &Path) -> anyhow::Result<(Vec<Call>, Vec<Step>)> {
    let (mut calls, mut steps) = (Vec::new(), Vec::new());
    // By process: the text so far, and the step that its begin has.
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    // Steps are numbered by lines first: only at its end a call says whether it did anything.
    let mut marks: Vec<(usize, Step)> = Vec::new();
    // The calls in which the process was killed.
    let mut killed: Vec<(usize, String)> = Vec::new();
    let text = std::str::from_utf8(text)?;
    for (n, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(pid, (n, begun));
            continue;
        }
        let (begun, whole) = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, tail)) => {
                let Some((begun, head)) = open.remove(pid) else { continue };
                (begun, format!("{head}{tail}"))
            }
            None => (n, rest.to_owned()),
        };
        if let Some(head) = without_end(&whole) {
            killed.push((begun, head.to_owned()));
            continue;
        }
        if let Some(change) = change(&whole, folder).with_context(|| shortened(&whole))? {
            marks.push((begun, Step::Begin(calls.len())));
            marks.push((n, Step::End(calls.len())));
            calls.push(Call { change });
        }
    }
    killed.extend(open.into_values().map(|(begun, head)| (begun, head.to_owned())));
    for (begun, head) in killed {
        // It may have been carried out.
        if let Ok(Some(change)) = change(&format!("{head}) = 0"), folder)
            && !matches!(change, Change::Received { .. } | Change::Create { .. } | Change::Sync(_))
        {
            marks.push((begun, Step::Begin(calls.len())));
            calls.push(Call { change });
        }
    }
    // A call in one line begins before it ends.
    marks.sort_by_key(|(line, step)| (*line, matches!(step, Step::End(_))));
    steps.extend(marks.into_iter().map(|(_, step)| step));
    Ok((calls, steps))
}

/// Returns a call up to its last argument if its process was killed before it came back. (A call that a signal interrupted has words after
/// the question mark.)
fn without_end(call: &str) -> Option<&str> {
    let head = call.strip_suffix("= ?")?.trim_end().strip_suffix(')')?;
    Some(head.strip_suffix("<unfinished ...>").unwrap_or(head).trim_end())
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Returns the effect of a finished call, if it has one in the folder.
fn change(text: &str, folder: &Path) -> anyhow::Result<Option<Change>> {
    let Some((name, rest)) = text.split_once('(') else { return Ok(None) };
    let Some((args, outcome)) = rest.rsplit_once(" = ").or_else(|| rest.rsplit_once("= ")) else { return Ok(None) };
    let args = args.trim_end().strip_suffix(')').unwrap_or(args);
    if outcome.starts_with('-') || outcome.starts_with('?') {
        return Ok(None);
    }
    let words = split(args);
    let word = |n: usize| words.get(n).copied().unwrap_or_default();
    let number = |n: usize| word(n).parse::<u64>().with_context(|| format!("number {n}"));
    let ours = |path: PathBuf| path.strip_prefix(folder).ok().map(Path::to_owned).filter(|path| counts(path));
    let of = |n: usize| described(word(n)).and_then(ours);
    // A name, below the folder that the word before it describes.
    let named = |n: usize| ours(joined(described(word(n)).unwrap_or_default(), &path(word(n + 1))));
    let plain = |n: usize| ours(joined(PathBuf::new(), &path(word(n))));
    Ok(match name {
        "openat" => {
            let Some(path) = described(outcome).and_then(ours) else { return Ok(None) };
            let flags = word(2);
            let (makes, empty) = (flags.contains("O_CREAT"), flags.contains("O_TRUNC"));
            (makes || empty).then_some(Change::Create { path, empty })
        }
        "mkdir" => plain(0).map(Change::MakeFolder),
        "mkdirat" => named(0).map(Change::MakeFolder),
        "rename" => pair(plain(0), plain(1)).map(|(from, to)| Change::Rename { from, to }),
        "renameat" | "renameat2" => pair(named(0), named(2)).map(|(from, to)| Change::Rename { from, to }),
        "link" => pair(plain(0), plain(1)).map(|(from, to)| Change::Link { from, to }),
        "linkat" => pair(named(0), named(2)).map(|(from, to)| Change::Link { from, to }),
        "unlink" | "rmdir" => plain(0).map(Change::Remove),
        "unlinkat" => named(0).map(Change::Remove),
        "ftruncate" => of(0).map(|path| anyhow::Ok(Change::Length { path, len: number(1)? })).transpose()?,
        "fallocate" => match of(0) {
            Some(path) if word(1).contains("PUNCH_HOLE") => {
                Some(Change::Clear { path, at: number(2)?, len: number(3)? })
            }
            Some(path) if !word(1).contains("KEEP_SIZE") => Some(Change::Grow { path, len: number(2)? + number(3)? }),
            _ => None,
        },
        "fsync" | "fdatasync" => of(0).map(Change::Sync),
        "recvfrom" => Some(Change::Received { socket: descriptor(word(0)), bytes: bytes(args) }),
        "sendto" | "sendmsg" => Some(Change::Sent { socket: descriptor(word(0)), bytes: bytes(args) }),
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
            let mut bytes = bytes(args);
            let written: usize = outcome.trim().parse().unwrap_or(usize::MAX);
            if written > 0 {
                bytes.truncate(written);
            }
            let at = match name {
                "pwrite64" | "pwritev" => Some(words.last().context("a place")?.parse()?),
                "pwritev2" => Some(number(words.len().saturating_sub(2))?),
                _ => None,
            };
            match described(word(0)) {
                Some(path) if path.is_absolute() => ours(path).map(|path| Change::Write { path, at, bytes }),
                _ => Some(Change::Sent { socket: descriptor(word(0)), bytes }),
            }
        }
        _ => None,
    })
}

fn pair(from: Option<PathBuf>, to: Option<PathBuf>) -> Option<(PathBuf, PathBuf)> {
    Some((from?, to?))
}

/// False for what SQLite writes through a map of memory and makes anew.
fn counts(path: &Path) -> bool {
    !path.to_string_lossy().ends_with("-shm")
}

/// The arguments. Strings hold no commas, as every byte of them is written in hex.
fn split(args: &str) -> Vec<&str> {
    args.split(", ").map(str::trim).collect()
}

/// The path or the like behind a file descriptor; none for a file that has no name any more.
fn described(word: &str) -> Option<PathBuf> {
    let (_, rest) = word.split_once('<')?;
    let (text, after) = rest.split_once('>')?;
    if after.contains("(deleted)") {
        return None;
    }
    let text = String::from_utf8(unhex(text)).ok()?;
    (!text.ends_with(" (deleted)")).then(|| text.into())
}

fn descriptor(word: &str) -> Vec<u8> {
    word.as_bytes().to_vec()
}

/// A path in quotes.
fn path(word: &str) -> PathBuf {
    String::from_utf8_lossy(&bytes(word)).into_owned().into()
}

/// A path as it is in the end, without looking at the disk.
fn joined(folder: PathBuf, path: &Path) -> PathBuf {
    let mut all = PathBuf::new();
    for part in folder.join(path).components().filter(|part| *part != Component::CurDir) {
        all.push(part);
    }
    all
}

/// The bytes of all strings, one after another.
fn bytes(args: &str) -> Vec<u8> {
    // Between quotes: every second part.
    args.split('"').skip(1).step_by(2).flat_map(unhex).collect()
}

/// `\x61` and so on; what is not written so stands for itself.
fn unhex(text: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some((first, tail)) = rest.split_first() {
        if let [b'\\', b'x', high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            all.push(high << 4 | low);
            rest = tail;
        } else {
            all.push(*first);
            rest = tail;
        }
    }
    all
}
