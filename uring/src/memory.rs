//! What the kernel may do with the memory of this process.

use std::io;

/// Takes no huge pages from now on. An allocator that asks for them gets 2 MiB where it touches a few bytes; that pays
/// for large buffers and not for a process that holds little.
///
/// # Errors
/// The kernel's; memory is as before then.
pub fn without_huge_pages() -> io::Result<()> {
    // SAFETY: the call has no pointers, and only changes what later page faults get.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_notes_it() {
        super::without_huge_pages().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.lines().any(|line| line.replace('\t', " ") == "THP_enabled: 0"), "{status}");
    }
}
