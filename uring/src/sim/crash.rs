//! The two ways in which a boot ends, and damage between boots.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::content::Change;
use super::errno;
use super::faults::{Corruption, Dice};
use super::ring::{Kind, Pending};
use super::state::{Late, Refusal, State};
use super::tree::NodeId;
use crate::Wake;

impl State {
    /// Power is lost: decides over everything that no sync covered.
    pub(super) fn power_loss(&mut self) {
        self.counters.power_losses += 1;
        let mut pending: BTreeMap<NodeId, Vec<(u64, Change)>> = BTreeMap::new();
        let mut writes = Vec::new();
        for op in self.take_in_flight() {
            if let Kind::Write { offset, data, .. } = op.kind {
                writes.push((op.fd, op.submitted, Change::Write { offset, data }));
            }
        }
        for Late { fd, submitted, offset, data, .. } in std::mem::take(&mut self.late) {
            writes.push((fd, submitted, Change::Write { offset, data }));
        }
        self.rng.shuffle(&mut writes);
        for (fd, submitted, change) in writes {
            if let Some(description) = self.descriptions.get(&fd) {
                pending.entry(description.node).or_default().push((submitted, change));
            }
        }
        self.tree.crash(self.options.dirs, &mut self.rng, &mut self.counters);
        let odds = self.options.power;
        for (id, file) in self.tree.files_mut() {
            let mut dice = Dice { rng: &mut self.rng, odds, counters: &mut self.counters };
            file.content.crash(pending.remove(&id).unwrap_or_default(), &mut dice);
        }
        self.reboot();
    }

    /// The process is killed: what it wrote stays visible, what it had in flight may happen, even later.
    pub(super) fn process_kill(&mut self) {
        self.counters.kills += 1;
        let in_flight = self.take_in_flight();
        self.abandon(in_flight);
        self.reboot();
    }

    /// Takes everything in flight from all rings; their callers get errors.
    fn take_in_flight(&mut self) -> Vec<Pending> {
        let mut in_flight = std::mem::take(&mut self.orphans);
        self.rings.values_mut().for_each(|ring| in_flight.extend(ring.fail(Refusal::Dead)));
        in_flight
    }

    fn reboot(&mut self) {
        self.boot += 1;
        self.off = false;
        self.remaining = None;
        self.close_all();
        self.rings.values().for_each(|ring| ring.wakeup.wake());
    }

    /// Decides over operations whose process or ring is gone: they happen now, never or later.
    pub(super) fn abandon(&mut self, mut ops: Vec<Pending>) {
        self.rng.shuffle(&mut ops);
        let odds = self.options.kill;
        for Pending { fd, submitted, kind, .. } in ops {
            let Ok(node) = self.description(fd).map(|description| description.node) else { continue };
            let fate = self.rng.weighted(&[odds.done, odds.never, odds.late]);
            match (kind, fate) {
                (Kind::Write { offset, data, durable }, 0) => {
                    // A full disk takes what fits; nobody is left to hear of it.
                    let _ = self.store(node, offset, data, durable);
                }
                (Kind::Write { offset, data, durable }, 2) => {
                    let after = 1 + self.rng.below(u64::from(self.options.late_within.max(1)));
                    self.late.push(Late { after, fd, submitted, offset, data, durable });
                    continue;
                }
                (Kind::Sync, 0) => {
                    if let Ok(file) = self.tree.file_mut(node) {
                        file.content.sync(submitted);
                    }
                }
                _ => {}
            }
            self.release(fd);
        }
    }

    /// Damages a file at rest, in both layers.
    pub(super) fn corrupt(&mut self, path: &Path, offset: u64, corruption: Corruption) -> io::Result<()> {
        let node = self.tree.resolve(path)?;
        let len = self.tree.file(node)?.content.current().len;
        let change = match corruption {
            Corruption::Remove => None,
            _ if offset > len => return Err(errno(libc::EINVAL)),
            Corruption::BitFlip { .. } if offset == len => return Err(errno(libc::EINVAL)),
            Corruption::BitFlip { bit } => Some(Change::Flip { offset, mask: 1 << (bit % 8) }),
            Corruption::Zero { len } => Some(Change::Blank { offset, len }),
            Corruption::Truncate => Some(Change::SetLen(offset)),
        };
        match change {
            Some(change) => {
                let done = self.advance();
                self.tree.file_mut(node)?.content.change(change, done, true);
            }
            None => self.tree.destroy(path)?,
        }
        self.counters.corruptions += 1;
        Ok(())
    }
}
