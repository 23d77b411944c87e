//! One peer with a directory, a volume and, while it runs, a server process.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{BenchError, Result};
use crate::interrupt::wait_for;
use crate::nbd_probe;
use crate::peers::{Address, Document, Image, Peer, Ready, VOLUME, fill_in};
use crate::process::Process;
use crate::units::exact_size;

/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Longest path of a unix socket, less its closing zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// What fio works on.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A file, opened with O_DIRECT.
    File(PathBuf),
    /// An NBD export on a unix socket.
    Nbd {
        /// The socket.
        socket: PathBuf,
        /// The export's name.
        export: String,
    },
}

/// How a volume begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// Space is reserved in advance where the format knows that.
    Reserved,
    /// Nothing is reserved: first writes allocate.
    Sparse,
}

/// What an [`Instance`] is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The peer.
    pub(crate) peer: Peer,
    /// Its own directory, absolute; it is made, and removed with the instance.
    pub(crate) directory: PathBuf,
    /// Size of the volume in bytes.
    pub(crate) size: u64,
    /// The program, where the peer's command says `${binary}`.
    pub(crate) binary: Option<PathBuf>,
    /// How the volume begins.
    pub(crate) allocation: Allocation,
    /// Limit of the local space in bytes.
    pub(crate) local_limit: Option<u64>,
    /// Arguments appended to the command of the first start.
    pub(crate) first_arguments: Vec<String>,
}

impl Plan {
    /// A filled-in-advance volume of `size` bytes on `peer`.
    pub(crate) fn new(peer: &Peer, directory: PathBuf, size: u64, binary: Option<PathBuf>) -> Plan {
        let peer = peer.clone();
        Plan {
            peer,
            directory,
            size,
            binary,
            allocation: Allocation::Reserved,
            local_limit: None,
            first_arguments: Vec::new(),
        }
    }
}

/// A peer's volume, and its server while that runs. Dropping it ends the server and removes the directory.
#[derive(Debug)]
pub(crate) struct Instance {
    plan: Plan,
    server: Option<Process>,
    target: Option<Target>,
    started_before: bool,
    /// Keep the directory.
    pub(crate) keep: bool,
}

/// The fields of an `endpoints.json`.
#[derive(Debug)]
pub(crate) struct Endpoints {
    peer: String,
    fields: serde_json::Value,
}

impl Endpoints {
    /// One field.
    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        let text = self.fields[name].as_str();
        text.ok_or_else(|| BenchError::peer(&self.peer, format!("its endpoints have no '{name}'")))
    }
}

/// How long the parts of a start took, from the moment the process was created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartTimes {
    /// When the process was created.
    pub(crate) began: Instant,
    /// Until it said that it is ready.
    pub(crate) ready: Duration,
}

impl Instance {
    /// Makes directory and image; starts nothing.
    pub(crate) fn prepare(plan: Plan) -> Result<Instance> {
        std::fs::create_dir_all(&plan.directory).map_err(BenchError::file(&plan.directory))?;
        let instance = Instance { plan, server: None, target: None, started_before: false, keep: false };
        if instance.socket().as_os_str().len() > SOCKET_PATH_LIMIT {
            let text =
                format!("{} is too long for a socket: use a shorter --dir", instance.socket().display());
            return Err(BenchError::Setup(text));
        }
        instance.make_image()?;
        if instance.plan.local_limit.is_some() {
            instance.write_documents(&instance.plan.peer.limited_files)?;
        }
        Ok(instance)
    }

    /// Allows a start to take up to `limit`.
    pub(crate) fn allow_start(&mut self, limit: Duration) {
        self.plan.peer.start_limit_seconds = limit.as_secs();
    }

    /// The peer's name.
    pub(crate) fn name(&self) -> &str {
        &self.plan.peer.name
    }

    /// The peer.
    pub(crate) fn peer(&self) -> &Peer {
        &self.plan.peer
    }

    /// Its own directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.plan.directory
    }

    /// Size of the volume in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.plan.size
    }

    /// Root process of the running server.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().and_then(Process::pid)
    }

    /// What fio works on.
    pub(crate) fn target(&self) -> Result<&Target> {
        self.target.as_ref().ok_or_else(|| self.problem("is not running"))
    }

    /// What a running `ovs` says of where it is reached.
    pub(crate) fn endpoints(&self) -> Result<Endpoints> {
        let path = self.directory().join("data/endpoints.json");
        let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
        let fields = serde_json::from_str(&text).map_err(|e| self.problem(format!("its endpoints: {e}")))?;
        Ok(Endpoints { peer: self.name().to_string(), fields })
    }

    /// Fails when the server has ended by itself, with the last line it wrote.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.server.as_mut().map(Process::ended) {
            Some(Some(_)) => Err(self.problem(format!("the server has ended: {}", self.last_words()))),
            _ => Ok(()),
        }
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(&mut self) -> Result<StartTimes> {
        let began = Instant::now();
        if self.plan.peer.command.is_empty() {
            self.target = Some(Target::File(self.image()));
            return Ok(StartTimes { began, ready: began.elapsed() });
        }
        self.write_documents(&self.plan.peer.files)?;
        remove_if_there(&self.socket())?;
        let values = self.values();
        let fill = |text: &String| fill_in(text, &values);
        let mut command = self.plan.peer.command.iter().map(fill).collect::<Result<Vec<String>>>()?;
        if !self.started_before {
            command.extend(self.plan.first_arguments.iter().cloned());
        }
        let pid_file = self.plan.peer.pid_file.as_ref().map(fill).transpose()?.map(PathBuf::from);
        if let Some(file) = &pid_file {
            remove_if_there(file)?;
        }
        let began = Instant::now();
        let process = Process::spawn(&command, &self.plan.directory, &self.log());
        self.server = Some(process.map_err(|e| self.problem(e.to_string()))?);
        if let Some(file) = pid_file {
            self.follow_daemon(&file)?;
        }
        self.await_ready()?;
        self.started_before = true;
        Ok(StartTimes { began, ready: began.elapsed() })
    }

    /// Ends the server in order; says whether it did so within the time limit.
    pub(crate) fn stop(&mut self) -> Result<bool> {
        self.target = None;
        match self.server.take() {
            Some(mut server) => server.terminate(STOP_LIMIT),
            None => Ok(true),
        }
    }

    /// Ends the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.target = None;
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    fn follow_daemon(&mut self, pid_file: &Path) -> Result<()> {
        let limit = Duration::from_secs(self.plan.peer.start_limit_seconds);
        let success = self.server.as_mut().map_or(Ok(false), |starter| starter.wait(limit))?;
        if !success {
            return Err(self.problem(format!("did not start: {}", self.last_words())));
        }
        let pid = wait_for(limit, Duration::from_millis(5), || {
            Ok(std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()))
        })?;
        let pid = pid.ok_or_else(|| self.problem("wrote no process id"))?;
        self.server = Some(Process::adopt(&self.plan.peer.name, pid));
        Ok(())
    }

    /// Waits for the ready line, the address and the greeting, in this order.
    fn await_ready(&mut self) -> Result<()> {
        let limit = Duration::from_secs(self.plan.peer.start_limit_seconds);
        let ready = self.plan.peer.ready.clone();
        let log = self.log();
        let found = wait_for(limit, Duration::from_millis(2), || {
            self.check_alive()?;
            if let Ready::Line(line) = &ready {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                if !text.lines().any(|l| l.trim() == line) {
                    return Ok(None);
                }
            }
            let Some(target) = self.address()? else { return Ok(None) };
            let Target::Nbd { socket, .. } = &target else { return Ok(None) };
            Ok(nbd_probe::answers(socket).then_some(target))
        })?;
        let late = || self.problem(format!("not ready after {} s: {}", limit.as_secs(), self.last_words()));
        self.target = Some(found.ok_or_else(late)?);
        Ok(())
    }

    fn address(&self) -> Result<Option<Target>> {
        let socket = match &self.plan.peer.address {
            Address::Socket => self.socket(),
            Address::Endpoints { endpoints, field } => {
                let path = fill_in(endpoints, &self.values())?;
                let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
                let Ok(document) = serde_json::from_str::<serde_json::Value>(&text) else { return Ok(None) };
                let uri = document.get(field).and_then(|v| v.as_str());
                let uri = uri.ok_or_else(|| self.problem(format!("its endpoints have no '{field}'")))?;
                let path = socket_of(uri).ok_or_else(|| self.problem(format!("'{uri}' names no socket")))?;
                if path.is_absolute() { path } else { self.plan.directory.join(path) }
            }
        };
        Ok(Some(Target::Nbd { socket, export: VOLUME.to_string() }))
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let show = |path: &Path| path.display().to_string();
        let mut values = vec![
            ("dir", show(&self.plan.directory)),
            ("socket", show(&self.socket())),
            ("image", show(&self.image())),
            ("size", self.plan.size.to_string()),
            ("volume", VOLUME.to_string()),
        ];
        if let Some(binary) = &self.plan.binary {
            values.push(("binary", show(binary)));
        }
        if let Some(limit) = self.plan.local_limit {
            values.push(("local_limit", exact_size(limit)));
        }
        values
    }

    fn write_documents(&self, documents: &[Document]) -> Result<()> {
        let values = self.values();
        for document in documents {
            let path = PathBuf::from(fill_in(&document.path, &values)?);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(BenchError::file(folder))?;
            }
            let text = fill_in(&document.lines.join("\n"), &values)? + "\n";
            std::fs::write(&path, text).map_err(BenchError::file(&path))?;
        }
        Ok(())
    }

    fn make_image(&self) -> Result<()> {
        let path = self.image();
        match self.plan.peer.image {
            None => Ok(()),
            Some(Image::Raw) => {
                let file = File::create(&path).map_err(BenchError::file(&path))?;
                file.set_len(self.plan.size).map_err(BenchError::file(&path))?;
                if self.plan.allocation == Allocation::Reserved {
                    reserve(&file, self.plan.size).map_err(BenchError::file(&path))?;
                }
                Ok(())
            }
            Some(Image::Qcow2) => {
                let size = self.plan.size.to_string();
                let arguments =
                    ["qemu-img", "create", "-q", "-f", "qcow2", &path.display().to_string(), &size];
                let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
                let run = Process::spawn(&arguments, &self.plan.directory, &self.log());
                let success = run.and_then(|mut p| p.wait(Duration::from_secs(60)));
                match success {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(self.problem(format!("qemu-img failed: {}", self.last_words()))),
                    Err(e) => Err(self.problem(e.to_string())),
                }
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.plan.directory.join("nbd.sock")
    }

    fn image(&self) -> PathBuf {
        self.plan.directory.join("image")
    }

    fn log(&self) -> PathBuf {
        self.plan.directory.join("server.log")
    }

    fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|l| !l.trim().is_empty());
        last.map_or("it wrote nothing".to_string(), |l| l.trim().to_string())
    }

    fn problem(&self, problem: impl Into<String>) -> BenchError {
        BenchError::peer(&self.plan.peer.name, problem)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
        if !self.keep
            && let Err(e) = std::fs::remove_dir_all(&self.plan.directory)
        {
            eprintln!("{} stays behind: {e}", self.plan.directory.display());
        }
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(BenchError::file(path)(e)),
        _ => Ok(()),
    }
}

fn reserve(file: &File, size: u64) -> std::io::Result<()> {
    let size = libc::off_t::try_from(size).map_err(std::io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// The socket in `nbd+unix:///?socket=PATH`.
fn socket_of(uri: &str) -> Option<PathBuf> {
    let query = uri.strip_prefix("nbd+unix://")?.split_once('?')?.1;
    let path = query.split('&').find_map(|pair| pair.strip_prefix("socket="))?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_taken_from_the_uri() {
        assert_eq!(socket_of("nbd+unix:///?socket=/a/nbd.sock"), Some("/a/nbd.sock".into()));
        assert_eq!(socket_of("nbd+unix:///vol?x=1&socket=/b"), Some("/b".into()));
        assert_eq!(socket_of("nbd://127.0.0.1:10809/"), None);
    }

    #[test]
    fn local_limit_is_written_where_ovs_reads_it() {
        let peer = crate::peers::load(&[]).unwrap().remove(0);
        let directory = std::env::temp_dir().join(format!("ovs-bench-limit-{}", std::process::id()));
        let mut plan = Plan::new(&peer, directory.clone(), 1 << 30, None);
        plan.local_limit = Some(3 << 29);
        let _instance = Instance::prepare(plan).unwrap();
        let text = std::fs::read_to_string(directory.join("data/config/scocache.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["scocache_mount_points"][0]["size"], "1536MiB");
    }
}
