//! The directory of a node: what is where in it, and who may use it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::endpoints::Endpoints;
use crate::failure::Failure;

/// Longest path of a unix socket, in bytes: what `sockaddr_un` holds besides its final zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// A predecessor that was killed holds the lock until the kernel has taken it apart.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Longest file that is read from the directory here, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Paths in a node's directory. The path is absolute.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

/// The right to use the directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl DataDir {
    /// The directory that the arguments mean; it need not exist.
    pub(crate) fn locate(argument: Option<&Path>) -> Result<DataDir, Failure> {
        let path = match (argument, std::env::home_dir()) {
            (Some(path), _) if path.as_os_str().is_empty() => {
                return Err(Failure::usage("--data-dir is empty; give a directory"));
            }
            (Some(path), _) => path.to_path_buf(),
            (None, Some(home)) if !home.as_os_str().is_empty() => home.join(".local/state/ovs"),
            (None, _) => return Err(Failure::usage("there is no home directory; give --data-dir DIR")),
        };
        std::path::absolute(&path)
            .map(DataDir)
            .map_err(|error| Failure::usage(format!("--data-dir {}: {error}", path.display())))
    }

    /// Creates the directory if it is not there. Its missing parents and itself are for this user only.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        for socket in [self.admin_socket(), self.nbd_socket()] {
            let length = socket.as_os_str().as_bytes().len();
            if length > SOCKET_PATH_LIMIT {
                return Err(Failure::usage(format!(
                    "{} has {length} bytes, and the path of a unix socket has at most {SOCKET_PATH_LIMIT}; \
                     give a shorter --data-dir",
                    socket.display()
                )));
            }
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(|error| self.failed("cannot be created", &error))
    }

    /// Takes the directory for this process.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        let path = self.0.join("lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|error| self.failed("cannot be locked", &error))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_WAIT => thread::sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => return Err(self.in_use(&mut file)),
                Err(TryLockError::Error(error)) => return Err(self.failed("cannot be locked", &error)),
            }
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| self.failed("cannot be locked", &error))?;
        Ok(Lock { _file: file })
    }

    fn in_use(&self, file: &mut File) -> Failure {
        let mut holder = String::new();
        let read = file.take(64).read_to_string(&mut holder);
        let holder = match (read, holder.trim()) {
            (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
            _ => "another process".to_owned(),
        };
        let advice = "stop it first, or give another --data-dir";
        Failure::failed(format!("{} is in use by {holder}; {advice}", self.0.display()))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::failed(format!("the data directory {} {what}: {error}", self.0.display()))
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The socket of the admin API.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// The socket of NBD clients on this machine.
    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.0.join("nbd.sock")
    }

    /// The member of the configuration store.
    pub(crate) fn cfg(&self) -> PathBuf {
        self.path().join("cfg")
    }

    /// The configuration that worked last.
    pub(crate) fn last_good(&self) -> PathBuf {
        self.path().join("last_good")
    }

    /// Where [`DataDir::config`] goes once its documents are in the store.
    pub(crate) fn imported(&self) -> PathBuf {
        self.path().join("config.imported")
    }

    /// Configuration documents of a version without a store, which are moved into it.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config")
    }

    /// Who the directory is.
    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }

    /// Is used for the first time again.
    pub(crate) fn forget_identity(&self) {
        if let Err(error) = fs::remove_file(self.identity()) {
            tracing::warn!(%error, "identity.json cannot be removed");
        }
    }

    /// How the process that uses it is reached.
    pub(crate) fn endpoints(&self) -> PathBuf {
        self.0.join("endpoints.json")
    }

    /// Tells everybody how this process is reached.
    pub(crate) fn publish(&self, endpoints: &Endpoints) -> Result<(), Failure> {
        write_json(&self.endpoints(), endpoints)
    }

    /// Takes [`DataDir::publish`] back, with the sockets.
    pub(crate) fn withdraw(&self) {
        for path in [self.endpoints(), self.admin_socket(), self.nbd_socket()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot be removed");
                }
                _ => {}
            }
        }
    }
}

/// Replaces the file at `path` in one step that survives power loss, or leaves it as it was. Mode 0600.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("{} cannot be written: {error}", path.display()));
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.new"));
    let write = || {
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let mut file = open?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(failed)
}

/// The whole content of a small file; `None` when it is not there.
pub(crate) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut content = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut content)?;
    match content.len() as u64 {
        length if length > FILE_LIMIT => Err(io::Error::new(io::ErrorKind::InvalidData, "is too large")),
        _ => Ok(Some(content)),
    }
}
