//! A client that remembers what it wrote and holds every read against it. One request or one batch at a time, so what
//! was acknowledged is known exactly; after a refused write both answers are right until one was seen.

use std::collections::HashMap;

use super::nbd::{Client, Failure, cmd, code};
use super::pattern::{self, CLUSTER};
use super::random::Random;

/// A run of clusters: the first, and how many.
pub type Run = (u64, u64);

/// See the module. Contents come from [`pattern::content`] under this client's tag.
pub struct Checked {
    client: Client,
    tag: u64,
    /// By cluster: the version it holds; 0 is zeros.
    versions: Vec<u64>,
    /// Clusters that may hold another version instead: of a refused write, or from before a trim.
    perhaps: HashMap<u64, u64>,
    next_version: u64,
}

impl Checked {
    /// For an export that holds zeros.
    pub fn new(client: Client, tag: u64) -> Self {
        let clusters = client.size() / CLUSTER as u64;
        Self { client, tag, versions: vec![0; clusters as usize], perhaps: HashMap::new(), next_version: 1 }
    }

    /// Goes on over another connection, after a restart of the server for instance.
    pub fn reconnect(&mut self, client: Client) {
        assert_eq!(client.size() / CLUSTER as u64, self.clusters(), "the export's size");
        self.client = client;
    }

    /// Clusters in the export.
    pub fn clusters(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Clusters that hold data.
    pub fn written(&self) -> u64 {
        self.versions.iter().filter(|version| **version > 0).count() as u64
    }

    /// The connection itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// A random run of at most `most` clusters.
    pub fn random_run(&self, random: &mut Random, most: u64) -> Run {
        let count = random.between(1, most.min(self.clusters()));
        (random.below(self.clusters() - count + 1), count)
    }

    /// Writes one run.
    pub fn write(&mut self, run: Run) -> Result<(), Failure> {
        self.write_batch(&[run])
    }

    /// Writes disjoint runs, all in flight at once; the first refusal is returned after all were answered.
    pub fn write_batch(&mut self, runs: &[Run]) -> Result<(), Failure> {
        let version = self.next_version;
        self.next_version += 1;
        let mut sent = HashMap::new();
        for &(first, count) in runs {
            let data = pattern::run(self.tag, first, count, version);
            let cookie = self.client.send(cmd::WRITE, 0, first * CLUSTER as u64, data.len() as u32, &data)?;
            sent.insert(cookie, (first, count));
        }
        let mut refusal = None;
        while !sent.is_empty() {
            let (cookie, error) = self.client.receive()?;
            let (first, count) = sent.remove(&cookie).expect("an answer to what was asked, once");
            for cluster in first..first + count {
                if error == 0 {
                    self.versions[cluster as usize] = version;
                    self.perhaps.remove(&cluster);
                } else {
                    self.perhaps.insert(cluster, version);
                }
            }
            if error != 0 && refusal.is_none() {
                refusal = Some(error);
            }
        }
        refusal.map_or(Ok(()), |error| Err(Failure::Refused(error)))
    }

    /// Gives up a run: it may hold zeros or what it held, from now on.
    pub fn trim(&mut self, (first, count): Run) -> Result<(), Failure> {
        self.client.trim(first * CLUSTER as u64, (count * CLUSTER as u64) as u32)?;
        for cluster in first..first + count {
            let before = std::mem::replace(&mut self.versions[cluster as usize], 0);
            self.perhaps.insert(cluster, before);
        }
        Ok(())
    }

    /// Reads a run; what comes must be what was written, else this panics.
    pub fn read(&mut self, (first, count): Run) -> Result<(), Failure> {
        let data = self.client.read(first * CLUSTER as u64, count as usize * CLUSTER)?;
        for (cluster, got) in (first..).zip(data.chunks(CLUSTER)) {
            let holds = |version: u64| match version {
                0 => got.iter().all(|byte| *byte == 0),
                version => got == pattern::content(self.tag, cluster, version),
            };
            let version = self.versions[cluster as usize];
            if holds(version) {
                // Seen: from now on it is this one.
                self.perhaps.remove(&cluster);
                continue;
            }
            let other = self.perhaps.remove(&cluster);
            match other.filter(|other| holds(*other)) {
                Some(other) => self.versions[cluster as usize] = other,
                None => panic!(
                    "cluster {cluster} of tag {:#x} must hold version {version} (or {other:?}); it holds {}",
                    self.tag,
                    pattern::describe(got)
                ),
            }
        }
        Ok(())
    }

    /// Reads everything; no read may fail and no byte be wrong.
    pub fn verify_all(&mut self) {
        let step = 64;
        for first in (0..self.clusters()).step_by(step as usize) {
            let count = step.min(self.clusters() - first);
            self.read((first, count))
                .unwrap_or_else(|why| panic!("reading clusters {first}+{count}: {why:?}"));
        }
    }

    /// Random disjoint runs of at most `most` clusters for one batch.
    pub fn random_batch(&self, random: &mut Random, runs: usize, most: u64) -> Vec<Run> {
        let mut batch: Vec<Run> = Vec::new();
        for _ in 0..runs {
            let (first, count) = self.random_run(random, most);
            if batch.iter().all(|(other, length)| first + count <= *other || other + length <= first) {
                batch.push((first, count));
            }
        }
        batch
    }
}

/// Whether a write was refused because there is no space.
pub fn is_full(result: &Result<(), Failure>) -> bool {
    *result == Err(Failure::Refused(code::ENOSPC))
}
