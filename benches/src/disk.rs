//! The disk below the benchmark's directory: counters, free space, quiet, and the page cache above it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::error::{BenchError, Result};
use crate::interrupt::{pause, wait_for};

/// Below this many bytes in [`QUIET_STEP`] the disk counts as quiet.
const QUIET_BYTES: u64 = 1 << 20;
const QUIET_STEP: Duration = Duration::from_millis(300);

/// The block device that holds a directory.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    major: u64,
    minor: u64,
    /// Kernel's name of the device; empty when it is not a block device of its own (overlay, tmpfs).
    pub(crate) name: String,
}

impl Disk {
    /// The device of `directory`, which exists.
    pub(crate) fn of(directory: &Path) -> Result<Disk> {
        let device = std::fs::metadata(directory).map_err(BenchError::file(directory))?.dev();
        let (major, minor) = (u64::from(libc::major(device)), u64::from(libc::minor(device)));
        let mut disk = Disk { major, minor, name: String::new() };
        let table = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
        disk.name = disk.line(&table).and_then(|f| f.first().map(|n| n.to_string())).unwrap_or_default();
        Ok(disk)
    }

    /// The fields of this device in `/proc/diskstats`, from its name on.
    fn line<'a>(&self, table: &'a str) -> Option<Vec<&'a str>> {
        table.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let numbers = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
            (numbers == (self.major, self.minor)).then(|| fields.collect())
        })
    }

    /// Bytes written to the device since the machine started; 0 when it is not known.
    pub(crate) fn written(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
        written_sectors(self.line(&table)).unwrap_or(0) * 512
    }

    /// Writes out dirty pages and waits until nothing more is written, at most `limit`. Says whether it became quiet.
    pub(crate) fn settle(&self, limit: Duration) -> Result<bool> {
        // SAFETY: sync has no preconditions.
        unsafe { libc::sync() };
        let mut last = self.written();
        let quiet = wait_for(limit, Duration::ZERO, || {
            pause(QUIET_STEP)?;
            let now = self.written();
            let grown = now.saturating_sub(last);
            last = now;
            Ok((grown < QUIET_BYTES).then_some(()))
        })?;
        Ok(quiet.is_some())
    }
}

fn written_sectors(fields: Option<Vec<&str>>) -> Option<u64> {
    // name, reads, merged, sectors, ms, writes, merged, sectors
    fields?.get(7)?.parse().ok()
}

/// Bytes that can still be written below `directory`.
pub(crate) fn free_space(directory: &Path) -> Result<u64> {
    let path = CString::new(directory.as_os_str().as_bytes())
        .map_err(|_| BenchError::Setup(format!("{} holds a zero byte", directory.display())))?;
    // SAFETY: all-zero is a valid statvfs, a plain structure of integers.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in zero and `answer` is a valid place to write to.
    if unsafe { libc::statvfs(path.as_ptr(), &mut answer) } != 0 {
        return Err(BenchError::File {
            path: directory.to_path_buf(),
            source: std::io::Error::last_os_error(),
        });
    }
    Ok(answer.f_bavail * answer.f_frsize)
}

/// Empties the page cache; `false` when that is not permitted.
pub(crate) fn drop_page_cache() -> bool {
    // SAFETY: sync has no preconditions.
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diskstats_line_is_found_by_number() {
        let table = "   7       0 loop0 0 0 0 0 0 0 0 0\n\
            \x20254       0 vda 58267 10918 6170202 34630 15064 14452 2051696 7955 0\n";
        let disk = Disk { major: 254, minor: 0, name: String::new() };
        assert_eq!(written_sectors(disk.line(table)), Some(2_051_696));
        assert_eq!(written_sectors(Disk { minor: 1, ..disk }.line(table)), None);
    }

    #[test]
    fn free_space_of_the_root() {
        assert!(free_space(Path::new("/")).unwrap() > 0);
        assert!(free_space(Path::new("/does/not/exist")).is_err());
    }
}
