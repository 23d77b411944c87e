//! Files and directories of this machine.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::buffer::ALIGN;
use crate::{Disk, File, OpenMode};

/// New files are their owner's alone: they hold what virtual machines wrote.
const FILE_MODE: u32 = 0o600;

/// The file systems of this machine. All values are alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

struct LocalFile(fs::File);

/// Turns a libc result into an `io::Result`.
fn check(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refuse(path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{}: {reason}", path.display()))
}

fn open_direct(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => refuse(path, "the file system refuses direct I/O (O_DIRECT): use another one"),
        _ => error,
    })?;
    match direct_alignment(&file)? {
        Some((0, _) | (_, 0)) => Err(refuse(path, "the file does not support direct I/O (O_DIRECT)")),
        Some((memory, offset)) if memory.max(offset) > ALIGN as u32 => {
            let reason = format!(
                "direct I/O needs an alignment of {} bytes, {ALIGN} at most is supported",
                memory.max(offset)
            );
            Err(refuse(path, &reason))
        }
        _ => Ok(file),
    }
}

/// What direct I/O demands of memory addresses and of offsets, in bytes; `None` on kernels (before 6.1) and file
/// systems that do not tell.
fn direct_alignment(file: &fs::File) -> io::Result<Option<(u32, u32)>> {
    // SAFETY: all zero is a valid `statx`: it holds integers only.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the empty path is a string that ends with zero, and `status` outlives the call.
    check(unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut status,
        )
    })?;
    let told = status.stx_mask & libc::STATX_DIOALIGN != 0;
    Ok(told.then_some((status.stx_dio_mem_align, status.stx_dio_offset_align)))
}

impl File for LocalFile {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        // SAFETY: no memory is passed.
        match check(unsafe { libc::flock(self.fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        let file = match mode {
            OpenMode::Read => options.open(path)?,
            OpenMode::Direct => open_direct(path)?,
            OpenMode::CreateNew => options.write(true).create_new(true).open(path)?,
            OpenMode::CreateOrTruncate => options.write(true).create(true).truncate(true).open(path)?,
        };
        Ok(Arc::new(LocalFile(file)))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                let text = format!("{}: the name {name:?} is not UTF-8", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?.sync_all()
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // One byte more tells a longer file from one that just fits.
        let bound = (limit as u64).saturating_add(1);
        fs::File::open(path)?.take(bound).read_to_end(&mut content)?;
        if content.len() > limit {
            let text = format!("{}: longer than {limit} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(content)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: all zero is a valid `statvfs`: it holds integers only.
        let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends with zero, and `status` outlives the call.
        check(unsafe { libc::statvfs(path.as_ptr(), &raw mut status) })?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}
