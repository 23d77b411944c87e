//! Sizes, times and numbers as people write and read them.

use std::time::Duration;

/// Bytes in a MiB.
pub(crate) const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub(crate) const GIB: u64 = 1 << 30;

/// Reads a size in bytes: `4096`, `512KiB`, `4GiB`, `10GB`, `1TiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is not a size such as 4GiB"))?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => MIB,
        "GiB" | "G" => GIB,
        "TiB" | "T" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        other => return Err(format!("'{other}' is not a unit of size (KiB, MiB, GiB, TiB, kB, MB, GB, TB)")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("'{text}' is too large"))
}

/// A size in the largest binary unit that divides it: `6GiB`, `1536MiB`, `4097`.
pub(crate) fn exact_size(bytes: u64) -> String {
    for (unit, name) in [(1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// The same for reading: `6 GiB`, `4097 B`.
pub(crate) fn shown_size(bytes: u64) -> String {
    let text = exact_size(bytes);
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[digits.len()..];
    format!("{digits} {}", if unit.is_empty() { "B" } else { unit })
}

/// A size rounded for reading: `4.0 GiB`, `812 MiB`.
pub(crate) fn rough_size(bytes: u64) -> String {
    let value = bytes as f64;
    if bytes >= GIB {
        format!("{:.1} GiB", value / GIB as f64)
    } else if bytes >= 10 * MIB {
        format!("{:.0} MiB", value / MIB as f64)
    } else {
        format!("{:.1} MiB", value / MIB as f64)
    }
}

/// A number with three significant digits at least and thousands separated: `41,632`, `58.3`, `0.12`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_string();
    }
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        return thousands(value.round() as i64);
    }
    let decimals = match magnitude {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m > 0.0 => 2,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0 { format!("-{out}") } else { out }
}

/// A duration rounded for reading: `45 s`, `12 min`, `1 h 05 min`.
pub(crate) fn rough_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse_size("4GiB"), Ok(4 * GIB));
        assert_eq!(parse_size("10GB"), Ok(10_000_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("4 parsecs").is_err());
        assert!(parse_size("").is_err());
        assert!(parse_size("99999999999TiB").is_err());
        assert_eq!(exact_size(6 * GIB), "6GiB");
        assert_eq!(exact_size(1536 * MIB), "1536MiB");
        assert_eq!(exact_size(4097), "4097");
        assert_eq!((shown_size(6 * GIB).as_str(), shown_size(4097).as_str()), ("6 GiB", "4097 B"));
        assert_eq!(rough_size(4 * GIB + GIB / 2), "4.5 GiB");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.6), "1000");
        assert_eq!(number(58.34), "58.3");
        assert_eq!(number(0.123), "0.12");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn durations_are_rounded() {
        assert_eq!(rough_duration(Duration::from_secs(45)), "45 s");
        assert_eq!(rough_duration(Duration::from_secs(750)), "13 min");
        assert_eq!(rough_duration(Duration::from_secs(3900 * 2)), "2 h 10 min");
    }
}
