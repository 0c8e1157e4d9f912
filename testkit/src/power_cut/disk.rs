//! A folder on a disk: what is there for sure, and what only the page cache holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rand::{RngExt as _, rngs::SmallRng};

use super::trace::{Call, Change};

/// Torn at its multiples.
const PAGE: usize = 4096;

/// Fate of changes that were not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Each is kept with this probability.
    Drawn(f64),
}

impl Fate {
    fn keeps(self, random: &mut SmallRng) -> bool {
        match self {
            Self::Lost => false,
            Self::Kept => true,
            Self::Drawn(probability) => random.random_bool(probability),
        }
    }
}

/// A name in the tree: a folder, or the number of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Clone, Default)]
struct Content {
    synced: Vec<u8>,
    /// Changes after the last sync, each with the number of its call; true once the call has ended.
    open: Vec<(usize, Bytes, bool)>,
    /// Length that a reader sees now.
    len: u64,
}

/// A change of a file's content.
#[derive(Debug, Clone)]
enum Bytes {
    At(u64, Vec<u8>),
    Length(u64),
    Grow(u64),
    Clear(u64, u64),
}

/// A change of names.
#[derive(Debug, Clone)]
struct Naming {
    call: usize,
    change: Change,
    /// The content that a new name leads to.
    node: Option<Node>,
    ended: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    contents: Vec<Content>,
    /// Names that the program sees.
    now: Names,
    synced: Names,
    open: Vec<Naming>,
    /// Syncs under way: what had ended when they began.
    syncing: BTreeMap<usize, BTreeSet<usize>>,
}

impl Disk {
    /// A folder of which all is synced.
    pub(super) fn copy_of(folder: &Path) -> anyhow::Result<Self> {
        let mut disk = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next)? {
                let entry = entry?;
                let name = entry.path().strip_prefix(folder)?.to_owned();
                let node = if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                    Node::Folder
                } else {
                    let synced = std::fs::read(entry.path())?;
                    let len = u64::try_from(synced.len())?;
                    disk.contents.push(Content { synced, len, open: Vec::new() });
                    Node::File(disk.contents.len() - 1)
                };
                disk.now.insert(name, node);
            }
        }
        disk.synced = disk.now.clone();
        Ok(disk)
    }

    /// A call has begun: from now on the disk may hold what it changes.
    pub(super) fn begin(&mut self, call: usize, change: &Change) {
        match change {
            Change::Sync(_) => {
                self.syncing.insert(call, self.ended());
            }
            Change::Write { path, at, bytes } => {
                let Some(content) = self.content(path) else { return };
                let at = at.unwrap_or(content.len);
                content.len = content.len.max(at + bytes.len() as u64);
                content.open.push((call, Bytes::At(at, bytes.clone()), false));
            }
            Change::Length { path, len } => self.alter(call, path, Bytes::Length(*len)),
            Change::Grow { path, len } => self.alter(call, path, Bytes::Grow(*len)),
            Change::Clear { path, at, len } => self.alter(call, path, Bytes::Clear(*at, *len)),
            // Only its end says whether it made anything.
            Change::Create { .. } | Change::Received { .. } | Change::Sent { .. } => {}
            change => self.name(call, change.clone(), None),
        }
    }

    /// A call has ended, well.
    pub(super) fn end(&mut self, call: usize, done: &Call) {
        match &done.change {
            Change::Create { path, empty } => self.create(call, path, *empty),
            Change::Sync(path) => {
                let ended = self.syncing.remove(&call).unwrap_or_default();
                self.sync(path, &ended);
            }
            _ => {}
        }
        for (_, _, ended) in
            self.contents.iter_mut().flat_map(|content| &mut content.open).filter(|open| open.0 == call)
        {
            *ended = true;
        }
        self.open.iter_mut().filter(|naming| naming.call == call).for_each(|naming| naming.ended = true);
    }

    /// Returns the effects that a power cut could undo, of the calls that `which` selects.
    pub(super) fn unsynced(&self, which: impl Fn(usize) -> bool) -> Vec<String> {
        let namings = self.open.iter().filter(|naming| which(naming.call)).map(|naming| format!("{:?}", naming.change));
        let mut all: Vec<String> = namings.collect();
        for (path, node) in &self.now {
            let Node::File(n) = node else { continue };
            let open =
                self.contents.get(*n).map_or(0, |content| content.open.iter().filter(|open| which(open.0)).count());
            if open > 0 {
                all.push(format!("{open} changes of {}", path.display()));
            }
        }
        all
    }

    /// Writes down what there is after a power cut.
    pub(super) fn write(&self, target: &Path, fate: Fate, random: &mut SmallRng) -> anyhow::Result<()> {
        let mut names = self.synced.clone();
        for naming in &self.open {
            if fate.keeps(random) {
                apply(&mut names, &naming.change, naming.node);
            }
        }
        for (name, node) in &names {
            let path = target.join(name);
            // Sorted: a folder comes before what is in it. A name in a folder that is lost is lost with it.
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Folder => std::fs::create_dir(&path)?,
                Node::File(n) => {
                    let content = self.contents.get(*n).cloned().unwrap_or_default();
                    std::fs::write(&path, content.after(fate, random))?;
                }
            }
            use std::os::unix::fs::PermissionsExt as _;
            let mode = if *node == Node::Folder { 0o700 } else { 0o600 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn content(&mut self, path: &Path) -> Option<&mut Content> {
        match self.now.get(path)? {
            Node::File(n) => self.contents.get_mut(*n),
            Node::Folder => None,
        }
    }

    fn alter(&mut self, call: usize, path: &Path, change: Bytes) {
        let Some(content) = self.content(path) else { return };
        content.len = match &change {
            Bytes::Length(len) => *len,
            Bytes::Grow(len) => content.len.max(*len),
            Bytes::At(..) | Bytes::Clear(..) => content.len,
        };
        content.open.push((call, change, false));
    }

    fn create(&mut self, call: usize, path: &Path, empty: bool) {
        if self.now.contains_key(path) {
            if empty && self.content(path).is_some_and(|content| content.len > 0) {
                self.alter(call, path, Bytes::Length(0));
            }
            return;
        }
        self.contents.push(Content::default());
        let node = Node::File(self.contents.len() - 1);
        self.name(call, Change::Create { path: path.to_owned(), empty }, Some(node));
    }

    fn name(&mut self, call: usize, change: Change, node: Option<Node>) {
        apply(&mut self.now, &change, node);
        self.open.push(Naming { call, change, node, ended: false });
    }

    /// The calls that have ended and are not synced.
    fn ended(&self) -> BTreeSet<usize> {
        let bytes = self.contents.iter().flat_map(|content| &content.open).filter(|open| open.2).map(|open| open.0);
        bytes.chain(self.open.iter().filter(|naming| naming.ended).map(|naming| naming.call)).collect()
    }

    fn sync(&mut self, path: &Path, ended: &BTreeSet<usize>) {
        if let Some(content) = self.content(path) {
            for (call, change, done) in std::mem::take(&mut content.open) {
                if ended.contains(&call) {
                    change.apply(&mut content.synced, Fate::Kept, None);
                } else {
                    content.open.push((call, change, done));
                }
            }
            return;
        }
        for naming in std::mem::take(&mut self.open) {
            if ended.contains(&naming.call) && folders(&naming.change).contains(&path) {
                apply(&mut self.synced, &naming.change, naming.node);
            } else {
                self.open.push(naming);
            }
        }
    }
}

impl Content {
    /// The bytes after a power cut.
    fn after(mut self, fate: Fate, random: &mut SmallRng) -> Vec<u8> {
        for (_, change, _) in &self.open {
            change.apply(&mut self.synced, fate, Some(random));
        }
        self.synced
    }
}

impl Bytes {
    fn apply(&self, all: &mut Vec<u8>, fate: Fate, mut random: Option<&mut SmallRng>) {
        let mut keeps = || random.as_deref_mut().is_none_or(|random| fate.keeps(random));
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        match self {
            Self::At(at, bytes) => {
                let (mut from, mut rest) = (place(*at), bytes.as_slice());
                while !rest.is_empty() {
                    let (page, tail) = rest.split_at(rest.len().min(PAGE - from % PAGE));
                    if keeps() {
                        all.resize(all.len().max(from + page.len()), 0);
                        all.get_mut(from..from + page.len()).into_iter().for_each(|place| place.copy_from_slice(page));
                    }
                    from += page.len();
                    rest = tail;
                }
            }
            Self::Length(len) if keeps() => all.resize(place(*len), 0),
            Self::Grow(len) if keeps() => all.resize(all.len().max(place(*len)), 0),
            Self::Clear(at, len) if keeps() => {
                let end = place(at + len).min(all.len());
                all.get_mut(place(*at)..end).into_iter().for_each(|part| part.fill(0));
            }
            Self::Length(_) | Self::Grow(_) | Self::Clear(..) => {}
        }
    }
}

/// The folders whose sync makes a change of names last.
fn folders(change: &Change) -> Vec<&Path> {
    match change {
        // It is one change, which is there or not. That the sync of the folder it left would bring it about is promised nowhere.
        Change::Rename { to: path, .. }
        | Change::Create { path, .. }
        | Change::MakeFolder(path)
        | Change::Remove(path)
        | Change::Link { to: path, .. } => path.parent().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Changes names, where that makes sense after what was lost before.
fn apply(names: &mut Names, change: &Change, node: Option<Node>) {
    match change {
        Change::Create { path, .. } => {
            names.extend(node.map(|node| (path.clone(), node)));
        }
        Change::MakeFolder(path) => {
            names.entry(path.clone()).or_insert(Node::Folder);
        }
        Change::Link { from, to } => {
            let node = names.get(from).copied();
            names.extend(node.map(|node| (to.clone(), node)));
        }
        Change::Rename { from, to } => {
            let moved: Vec<_> =
                names.iter().filter(|(name, _)| name.starts_with(from)).map(|(name, _)| name.clone()).collect();
            for name in moved {
                let Some(node) = names.remove(&name) else { continue };
                let rest = name.strip_prefix(from).unwrap_or(&name);
                names.insert(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }, node);
            }
        }
        Change::Remove(path) => {
            names.retain(|name, _| !name.starts_with(path));
        }
        _ => {}
    }
}

/// The files below a folder, relative to it.
pub(super) fn files(folder: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if !entry.path().to_string_lossy().ends_with("-shm") {
                found.insert(entry.path().strip_prefix(folder)?.to_owned());
            }
        }
    }
    Ok(found)
}
