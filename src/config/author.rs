//! Who changes something, and when.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// `user@host` of this process.
pub(crate) fn author() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    format!("{}@{host}", user())
}

/// The name that belongs to the user id of this process: of `/etc/passwd`, or else as the environment says.
fn user() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let id = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next().map(str::to_owned));
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = id.as_deref().and_then(|id| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == id).then(|| name.to_owned())
        })
    });
    name.or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid-{}", id.unwrap_or_default()))
}

/// The time now, as in RFC 3339: `2026-11-21T17:30:33Z`.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since.as_secs())
}

/// Seconds since 1970 as date and time.
fn utc(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_282_496, "2026-11-21T17:34:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn the_author_has_a_name_and_a_host() {
        let author = author();
        let (user, host) = author.split_once('@').expect("an @");
        assert!(!user.is_empty() && !host.is_empty(), "{author}");
    }
}
