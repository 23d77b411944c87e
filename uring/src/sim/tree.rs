//! Names: directories in two layers (what survives power loss, what is seen now) and, between them, the list of
//! operations that no directory sync covered yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::content::Content;
use super::errno;
use super::faults::{Counters, DirLoss};
use super::rng::Rng;

/// Names a file or directory for as long as the world lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

const ROOT: NodeId = NodeId(0);

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) content: Content,
    /// Has a name now.
    pub(super) linked: bool,
    /// Removed by damage at rest: no name brings it back.
    destroyed: bool,
}

#[derive(Debug, Default)]
struct DirNode {
    now: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

#[derive(Debug)]
enum Node {
    File(Box<FileNode>),
    Dir(DirNode),
}

/// A name in a directory.
type Entry = (NodeId, String);

/// One un-synced operation; survives as a whole or not at all, also when it concerns two directories.
#[derive(Debug)]
struct DirOp {
    /// The name that goes away, if it is that of `node`.
    unlink: Option<Entry>,
    /// The name that becomes that of `node`.
    link: Option<Entry>,
    node: NodeId,
}

impl DirOp {
    /// The directories concerned, each once. A directory that is removed is one of them: it cannot go before what
    /// was moved out of it.
    fn dirs(&self) -> impl Iterator<Item = NodeId> {
        let from = self.unlink.as_ref().map(|(dir, _)| *dir);
        let to = self.link.as_ref().map(|(dir, _)| *dir).filter(|dir| from != Some(*dir));
        let removed = self.link.is_none().then_some(self.node);
        [from, to, removed].into_iter().flatten()
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    ops: Vec<DirOp>,
    next: u64,
}

/// The names on the way from the root; relative paths start there too.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| errno(libc::EILSEQ))?),
            Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
        }
    }
    Ok(names)
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]), ops: Vec::new(), next: 1 }
    }

    fn dir(&self, id: NodeId) -> io::Result<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> Option<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// All files that reads can reach, or that are still open.
    pub(super) fn files(&self) -> impl Iterator<Item = (NodeId, &FileNode)> {
        self.nodes.iter().filter_map(|(id, node)| match node {
            Node::File(file) => Some((*id, &**file)),
            Node::Dir(_) => None,
        })
    }

    /// As [`Tree::files`], to change them.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut FileNode)> {
        self.nodes.iter_mut().filter_map(|(id, node)| match node {
            Node::File(file) => Some((*id, &mut **file)),
            Node::Dir(_) => None,
        })
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<NodeId> {
        let mut id = ROOT;
        for name in names(path)? {
            id = *self.dir(id)?.now.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(id)
    }

    /// The directory and the last name of a path.
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let mut names = names(path)?;
        let last = names.pop().ok_or_else(|| errno(libc::EINVAL))?;
        let dir = self.resolve(&names.iter().collect::<std::path::PathBuf>())?;
        self.dir(dir)?;
        Ok((dir, last.to_owned()))
    }

    fn target(&self, entry: &Entry) -> io::Result<Option<NodeId>> {
        Ok(self.dir(entry.0)?.now.get(&entry.1).copied())
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir(self.resolve(path)?)?.now.keys().cloned().collect())
    }

    /// Does an operation now and remembers it as un-synced.
    fn perform(&mut self, op: DirOp) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&op.node) {
            file.linked = op.link.is_some();
        }
        if let Some((dir, name)) = &op.unlink
            && let Some(dir) = self.dir_mut(*dir)
        {
            dir.now.remove(name);
        }
        if let Some((dir, name)) = &op.link {
            let replaced = self.dir_mut(*dir).and_then(|dir| dir.now.insert(name.clone(), op.node));
            if let Some(Node::File(file)) = replaced.and_then(|old| self.nodes.get_mut(&old)) {
                file.linked = false;
            }
        }
        self.ops.push(op);
    }

    fn create(&mut self, entry: Entry, node: Node) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        self.nodes.insert(id, node);
        self.perform(DirOp { unlink: None, link: Some(entry), node: id });
        id
    }

    /// A new empty file; `EEXIST` if the name is taken.
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let entry = self.entry(path)?;
        if self.target(&entry)?.is_some() {
            return Err(errno(libc::EEXIST));
        }
        Ok(self.create(entry, Node::File(Box::default())))
    }

    /// A directory and its missing parents.
    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut id = ROOT;
        for name in names(path)? {
            let entry = (id, name.to_owned());
            id = match self.target(&entry)? {
                Some(node) => node,
                None => self.create(entry, Node::Dir(DirNode::default())),
            };
        }
        self.dir(id).map(|_| ())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let entry = self.entry(path)?;
        let node = self.target(&entry)?.ok_or_else(|| errno(libc::ENOENT))?;
        if !self.dir(node)?.now.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.perform(DirOp { unlink: Some(entry), link: None, node });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let entry = self.entry(path)?;
        let node = self.target(&entry)?.ok_or_else(|| errno(libc::ENOENT))?;
        self.file(node)?;
        self.perform(DirOp { unlink: Some(entry), link: None, node });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.entry(from)?, self.entry(to)?);
        let node = self.target(&source)?.ok_or_else(|| errno(libc::ENOENT))?;
        let replaced = self.target(&target)?;
        if replaced == Some(node) {
            return Ok(());
        }
        match (&self.nodes[&node], replaced.map(|old| &self.nodes[&old])) {
            (Node::Dir(_), _) if names(to)?.starts_with(&names(from)?) => return Err(errno(libc::EINVAL)),
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::Dir(_), Some(Node::Dir(old))) if old.now.is_empty() => {}
            (Node::Dir(_), Some(Node::Dir(_))) => return Err(errno(libc::ENOTEMPTY)),
            (Node::Dir(_), Some(Node::File(_))) => return Err(errno(libc::ENOTDIR)),
            (Node::File(_), Some(Node::Dir(_))) => return Err(errno(libc::EISDIR)),
        }
        self.perform(DirOp { unlink: Some(source), link: Some(target), node });
        Ok(())
    }

    /// Damage at rest: the file is gone now and after every crash.
    pub(super) fn destroy(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.entry(path)?;
        let node = self.resolve(path)?;
        let file = self.file_mut(node)?;
        (file.destroyed, file.linked) = (true, false);
        if let Some(dir) = self.dir_mut(dir) {
            dir.now.remove(&name);
        }
        Ok(())
    }

    fn make_durable(&mut self, op: DirOp) {
        if let Some((dir, name)) = op.unlink
            && let Some(dir) = self.dir_mut(dir)
            && dir.durable.get(&name) == Some(&op.node)
        {
            dir.durable.remove(&name);
        }
        if let Some((dir, name)) = op.link
            && let Some(dir) = self.dir_mut(dir)
        {
            dir.durable.insert(name, op.node);
        }
    }

    /// Makes the operations in a directory durable, and what precedes those in the other directory of a rename.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.resolve(path)?;
        self.dir(id)?;
        let mut dirs = BTreeSet::from([id]);
        let (mut covered, mut left) = (Vec::new(), Vec::new());
        for op in std::mem::take(&mut self.ops).into_iter().rev() {
            if op.dirs().any(|dir| dirs.contains(&dir)) {
                dirs.extend(op.dirs());
                covered.push(op);
            } else {
                left.push(op);
            }
        }
        covered.into_iter().rev().for_each(|op| self.make_durable(op));
        left.reverse();
        self.ops = left;
        Ok(())
    }

    /// Power is lost: decides over the un-synced operations; then only what is durable is seen.
    pub(super) fn crash(&mut self, loss: DirLoss, rng: &mut Rng, counters: &mut Counters) {
        let ops = std::mem::take(&mut self.ops);
        let mut left: BTreeMap<NodeId, u64> = BTreeMap::new();
        ops.iter().flat_map(DirOp::dirs).for_each(|dir| *left.entry(dir).or_default() += 1);
        // How many operations of each directory survive at most.
        left.values_mut().for_each(|count| *count = rng.below(*count + 1));
        for op in ops {
            let survives = match loss {
                DirLoss::KeepAll => true,
                DirLoss::LoseAll => false,
                DirLoss::Subset => rng.chance(1, 2),
                DirLoss::Prefix => op.dirs().all(|dir| left[&dir] > 0),
            };
            // An operation that is lost ends the prefix of both its directories.
            for dir in op.dirs() {
                left.entry(dir)
                    .and_modify(|count| *count = if survives { count.saturating_sub(1) } else { 0 });
            }
            if survives {
                counters.dir_kept += 1;
                self.make_durable(op);
            } else {
                counters.dir_lost += 1;
            }
        }
        let gone: BTreeSet<_> = self.files().filter(|(_, file)| file.destroyed).map(|(id, _)| id).collect();
        let mut linked = BTreeSet::new();
        for node in self.nodes.values_mut() {
            if let Node::Dir(dir) = node {
                dir.durable.retain(|_, id| !gone.contains(id));
                dir.now = dir.durable.clone();
                linked.extend(dir.now.values().copied());
            }
        }
        self.collect(&BTreeSet::new());
        for (id, node) in &mut self.nodes {
            if let Node::File(file) = node {
                file.linked = linked.contains(id);
            }
        }
    }

    /// Forgets nodes that neither a name, an un-synced operation nor `open` can reach.
    pub(super) fn collect(&mut self, open: &BTreeSet<NodeId>) {
        let mut todo: Vec<_> = std::iter::once(ROOT).chain(open.iter().copied()).collect();
        todo.extend(self.ops.iter().flat_map(|op| op.dirs().chain([op.node])));
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if seen.insert(id)
                && let Some(Node::Dir(dir)) = self.nodes.get(&id)
            {
                todo.extend(dir.now.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|id, _| seen.contains(id));
    }

    /// Feeds every durable name, sorted, and every durable byte to `feed`.
    pub(super) fn durable_words(&self, feed: &mut impl FnMut(u64)) {
        self.feed_dir(ROOT, feed);
    }

    fn feed_dir(&self, id: NodeId, feed: &mut impl FnMut(u64)) {
        let Ok(dir) = self.dir(id) else { return };
        feed(dir.durable.len() as u64);
        for (name, id) in &dir.durable {
            name.bytes().for_each(|byte| feed(u64::from(byte)));
            match self.nodes.get(id) {
                Some(Node::File(file)) if !file.destroyed => file.content.durable().words(feed),
                Some(Node::Dir(_)) => self.feed_dir(*id, feed),
                _ => feed(u64::MAX),
            }
        }
    }
}
