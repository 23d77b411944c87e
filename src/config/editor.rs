//! A person's editor on a private file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use cfg_client::{DOCUMENT_LIMIT, KeyPath};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::failure_of;
use crate::failure::Failure;

/// What is started where nothing else is said and somebody sits at a terminal.
const USUAL: &str = "vi";

/// Longest name of a file, in bytes; a part of a key may be longer.
const NAME: usize = 100;

/// A file (mode 0600) in a directory of its own (0700), which goes with it unless it is kept.
#[derive(Debug)]
pub(super) struct Draft {
    directory: PathBuf,
    file: PathBuf,
    kept: bool,
}

impl Draft {
    /// A new one, named after `key`.
    pub(super) fn new(key: &KeyPath, text: &str) -> Result<Draft, Failure> {
        let id = cfg_client::random_id().map_err(failure_of)?;
        let directory = std::env::temp_dir().join(format!("ovs-edit-{id}"));
        let failed = |error| Failure::failed(format!("{} cannot be made: {error}", directory.display()));
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let name = key.as_str().rsplit('/').next().unwrap_or_default();
        let name: String = name
            .chars()
            .scan(0, |length, c| {
                *length += c.len_utf8();
                (*length <= NAME).then_some(c)
            })
            .collect();
        let file = directory.join(format!("{name}.json"));
        // Now a Draft, so that the directory is removed whatever happens next.
        let draft = Draft { directory, file, kept: false };
        draft.write(&draft.file, text)?;
        Ok(draft)
    }

    /// Runs the editor until it ends.
    ///
    /// # Errors
    /// It cannot be started, or it ends with another code than 0.
    pub(super) async fn edit(&self) -> Result<(), Failure> {
        let editor = editor()?;
        // As git does: arguments in it count, and a path with blanks stays one.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(&self.file);
        match apart(Interrupt::Ignored, move || command.status()).await? {
            None => Err(Failure::failed("the editor was left; nothing was changed")),
            Some(Err(error)) => Err(Failure::failed(format!("sh cannot be started for the editor: {error}"))),
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) => Err(refused(&editor, status)),
        }
    }

    /// What is in the file now; UTF-8, not much longer than a document may be.
    pub(super) fn read(&self) -> Result<String, Failure> {
        let limit = 2 * DOCUMENT_LIMIT as u64;
        let mut text = Vec::new();
        let read = fs::File::open(&self.file).and_then(|file| file.take(limit + 1).read_to_end(&mut text));
        match read {
            Err(error) => Err(Failure::failed(format!("{} cannot be read: {error}", self.file.display()))),
            Ok(length) if length as u64 > limit => Err(Failure::rejected(format!(
                "the text is too long; a document has at most {} KiB",
                DOCUMENT_LIMIT >> 10
            ))),
            Ok(_) => String::from_utf8(text).map_err(|_| Failure::rejected("the text is no UTF-8")),
        }
    }

    /// Keeps the file; returns its path.
    pub(super) fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.file
    }

    /// Keeps another text beside the file, and the file; returns its path.
    pub(super) fn keep_beside(&mut self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        self.kept = true;
        let path = self.file.with_extension(format!("{name}.json"));
        self.write(&path, text)?;
        Ok(path)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        open.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.directory)
        {
            eprintln!("ovs: {} cannot be removed: {error}", self.directory.display());
        }
    }
}

/// The command of `$VISUAL` or `$EDITOR`.
fn editor() -> Result<String, Failure> {
    for name in ["VISUAL", "EDITOR"] {
        match std::env::var(name) {
            Ok(editor) if !editor.trim().is_empty() => return Ok(editor),
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
            Err(error) => return Err(Failure::usage(format!("${name}: {error}"))),
        }
    }
    match io::stdin().is_terminal() {
        true => Ok(USUAL.to_owned()),
        false => Err(Failure::usage("no editor is known; set $VISUAL or $EDITOR")),
    }
}

fn refused(editor: &str, status: ExitStatus) -> Failure {
    let advice = match status.code() {
        Some(127) => "; set $VISUAL or $EDITOR to an editor that is there",
        _ => "",
    };
    Failure::failed(format!("the editor {editor:?} ended with {status}; nothing was changed{advice}"))
}

/// Asks the person at the terminal whether to edit again; no, if there is none.
pub(super) async fn again() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("ovs: edit it again? [Y/n] ");
    let answer = apart(Interrupt::Leaves, || {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|length| (length > 0).then_some(line))
    });
    match answer.await? {
        Some(Ok(Some(line))) => Ok(matches!(line.trim(), "" | "y" | "Y" | "yes")),
        _ => Ok(false),
    }
}

/// What ^C does while a thread blocks.
#[derive(Clone, Copy)]
enum Interrupt {
    /// Nothing: it is meant for the editor, which gets it too.
    Ignored,
    /// Nobody waits for the thread any more.
    Leaves,
}

/// Does what blocks in a thread of its own. `None`: it was left.
async fn apart<T: Send + 'static>(
    interrupted: Interrupt,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let _quit = signal(SignalKind::quit()).map_err(failed)?;
    let (done, mut answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let _ = done.send(work());
    });
    thread.map_err(|error| Failure::failed(format!("no thread can be started: {error}")))?;
    loop {
        tokio::select! {
            answer = &mut answer => return Ok(answer.ok()),
            _ = interrupt.recv() => match interrupted {
                Interrupt::Ignored => {}
                Interrupt::Leaves => return Ok(None),
            },
        }
    }
}
