//! Limits that the system puts on this process, and the place of its threads among others.

use std::io;

/// Raises the soft limit of open descriptors to the hard one; returns the limit that holds now.
///
/// Every connection, segment and run in use is a descriptor, and the usual soft limit of 1024 exists for the sake of
/// `select`, which nothing here uses.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` that lives through the call, which writes nothing else.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid `rlimit` that lives through the call, which only reads it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Lets the calling thread give way to threads of a lower niceness, for good; 0 is the usual one, 19 the highest.
///
/// # Errors
/// The system does not allow it: only niceness may rise without a privilege.
pub fn give_way(niceness: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers alone; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_others_do_not() {
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("its state");
            let behind_name = stat.rsplit_once(')').expect("a name").1.to_owned();
            behind_name.split_whitespace().nth(16).expect("its niceness").parse::<i32>().expect("a number")
        };
        let before = niceness();
        let lower = std::thread::spawn(move || give_way(before + 3).map(|()| niceness()));
        assert_eq!(lower.join().expect("ended").expect("allowed"), (before + 3).min(19));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_open_files().expect("allowed up to the hard limit");
        let shown = std::fs::read_to_string("/proc/self/limits").expect("limits");
        let line = shown.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers, [limit, limit]);
    }
}
