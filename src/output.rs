//! Printing results.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints `text` and ends the line. A reader that went away (`| head`) is no failure.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let result = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints `value` as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("the answer cannot be shown as JSON: {error}")))?;
    line(&text)
}

/// Columns under headings, as wide as their widest cell; columns named in `right` are aligned to the right.
pub(crate) fn table<const N: usize>(headings: [&str; N], right: &[&str], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let show = |cells: [&str; N]| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right.contains(&headings[column]) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| show(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(show(headings)).chain(body).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "10GiB".to_owned()], ["longer".to_owned(), "4096".to_owned()]];
        assert_eq!(table(["NAME", "SIZE"], &["SIZE"], &rows), "NAME     SIZE\na       10GiB\nlonger   4096");
    }
}
