//! Cluster contents that say what they are, so that they can be recognised on a volume and inside the log files.

use super::random::Random;

/// Bytes in a cluster.
pub const CLUSTER: usize = 4096;

/// What cluster number `cluster` of the volume tagged `tag` holds in `version`. Never zeros; the first 24 bytes are
/// [`mark`], the rest is derived from it.
pub fn content(tag: u64, cluster: u64, version: u64) -> Vec<u8> {
    let mut data = vec![0; CLUSTER];
    let mark = mark(tag, cluster, version);
    data[..24].copy_from_slice(&mark);
    Random::new(tag ^ cluster.rotate_left(24) ^ version.rotate_left(48)).fill(&mut data[24..]);
    data
}

/// The head of [`content`].
pub fn mark(tag: u64, cluster: u64, version: u64) -> [u8; 24] {
    let mut mark = [0; 24];
    mark[..8].copy_from_slice(&tag.to_be_bytes());
    mark[8..16].copy_from_slice(&cluster.to_be_bytes());
    mark[16..].copy_from_slice(&version.to_be_bytes());
    mark
}

/// Contents of `count` clusters from `first` on, one behind the other.
pub fn run(tag: u64, first: u64, count: u64, version: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(count as usize * CLUSTER);
    for cluster in first..first + count {
        data.extend_from_slice(&content(tag, cluster, version));
    }
    data
}

/// Says in words what a cluster holds, for messages of failed tests.
pub fn describe(data: &[u8]) -> String {
    if data.iter().all(|byte| *byte == 0) {
        return "zeros".to_owned();
    }
    let word = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().expect("eight bytes"));
    let (tag, cluster, version) = (word(0), word(8), word(16));
    let whole = data == content(tag, cluster, version);
    format!("tag {tag:#x} cluster {cluster} version {version}{}", if whole { "" } else { " (not whole)" })
}
