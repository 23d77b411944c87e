//! Running other programs: output shown while it comes, lines looked at on their way, every failure a sentence.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::Outcome;

/// Lines of a log that are shown when the command behind it fails.
const TAIL: usize = 40;

/// `cargo` with arguments, in `root`.
pub(crate) fn cargo<'a>(root: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(arguments);
    command
}

/// The command as a person would type it, scripts among its arguments left out.
fn spelled(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| {
        let argument = argument.to_string_lossy();
        if argument.contains('\n') { "<script>".into() } else { argument.into_owned() }
    }));
    words.join(" ")
}

/// Runs with inherited output and no input.
pub(crate) fn shown(command: &mut Command) -> Outcome {
    eprintln!("+ {}", spelled(command));
    let status = command.stdin(Stdio::null()).status().map_err(|e| format!("{}: {e}", spelled(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", spelled(command))) }
}

/// Runs, shows both streams and hands each line to `look` without its colours. `Ok(false)`: it ran and failed.
pub(crate) fn watched(command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool, String> {
    eprintln!("+ {}", spelled(command));
    if io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let failed = |e: io::Error| e.to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", spelled(command)))?;
    let (lines, arriving) = sync_channel(1024);
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");
    let forwarders = [
        forward(out, io::stdout(), lines.clone()).map_err(failed)?,
        forward(err, io::stderr(), lines).map_err(failed)?,
    ];
    for line in arriving {
        look(&without_colours(&line));
    }
    for forwarder in forwarders {
        forwarder.join().map_err(|_| "showing the output failed".to_string())?;
    }
    Ok(child.wait().map_err(failed)?.success())
}

fn forward(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    lines: SyncSender<String>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("output".into()).spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            // A closed pipe behind us must not end the command whose output nobody reads any more.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            if lines.send(String::from_utf8_lossy(&line).trim_end().to_string()).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Without the escape sequences that set colours (`ESC [ ... letter`).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Runs with all output appended to `log`; what was written there is shown only by [`tail`].
pub(crate) fn logged(command: &mut Command, log: &Path) -> Outcome {
    let mut file =
        File::options().create(true).append(true).open(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let failed = |e: io::Error| format!("{}: {e}", log.display());
    writeln!(file, "+ {}", spelled(command)).map_err(failed)?;
    let both = file.try_clone().map_err(failed)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(both)
        .stderr(file)
        .status()
        .map_err(|e| format!("{}: {e}", spelled(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", spelled(command))) }
}

/// The last lines of a log, for a person who wants to know why.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL)..];
    format!("{}\n(all of it: {})", shown.join("\n"), log.display())
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| format!("{}: {e}", spelled(command)))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let problem = String::from_utf8_lossy(&done.stderr);
    Err(format!("`{}` ended with {}: {}", spelled(command), done.status, problem.trim()))
}

/// Whether the command can be started and ends well; its output is nobody's business.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_seen_without_colours_and_the_status_is_told() {
        let mut seen = Vec::new();
        let script = r"printf '\033[32mout\033[0m\n'; echo err >&2; exit 3";
        let done = watched(Command::new("sh").args(["-c", script]), |line| seen.push(line.to_string()));
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
        assert_eq!(done, Ok(false));
        assert_eq!(watched(&mut Command::new("true"), |_| ()), Ok(true));
        assert!(watched(&mut Command::new("no-such-program-here"), |_| ()).is_err());
    }

    #[test]
    fn a_log_keeps_everything_and_its_tail_the_end() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let problem = logged(Command::new("sh").args(["-c", "seq 100; echo last >&2; exit 1"]), &log);
        assert!(problem.unwrap_err().contains("exit status: 1"));
        let end = tail(&log);
        std::fs::remove_file(&log).unwrap();
        assert!(end.contains("\nlast\n") && end.contains("\n99\n") && !end.contains("\n10\n"), "{end}");
    }
}
