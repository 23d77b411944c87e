//! What the figures were measured on.

use std::path::Path;

use serde::Serialize;

use crate::disk::Disk;

/// The machine.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Model of the processor.
    pub(crate) processor: String,
    /// Processors.
    pub(crate) cpus: usize,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Kernel's name of the disk.
    pub(crate) disk: String,
    /// Type of the file system.
    pub(crate) file_system: String,
    /// Version of fio.
    pub(crate) fio: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn after_colon<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|l| l.starts_with(name))?.split_once(':').map(|(_, value)| value.trim())
}

/// Describes this machine; the disk is the one below `directory`.
pub(crate) fn describe(directory: &Path, disk: &Disk, fio: String) -> Machine {
    let memory = read("/proc/meminfo");
    let kib = after_colon(&memory, "MemTotal")
        .and_then(|v| v.split(' ').next())
        .and_then(|v| v.parse::<u64>().ok());
    Machine {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
        processor: after_colon(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_string(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: kib.unwrap_or(0) << 10,
        disk: disk.name.clone(),
        file_system: file_system(&read("/proc/self/mounts"), directory),
        fio,
    }
}

/// The type of the file system that holds `directory`: the longest mount point above it.
fn file_system(mounts: &str, directory: &Path) -> String {
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = fields.filter(|(point, _)| directory.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\ntmpfs /dataless tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), "xfs");
        assert_eq!(file_system(mounts, Path::new("/home")), "ext4");
    }
}
