//! A configuration store and volume drivers of one vPool, all on this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cfg_client::{Transaction, Write};
use serde_json::json;

use super::UpdateCourse;
use super::client::{Vpool, problem};
use crate::error::{BenchError, Result};
use crate::interrupt::wait_for;
use crate::process::Process;
use crate::scenario::cfg::client::first_answer;
use crate::scenario::cfg::server::{SIDES, Server};
use crate::scenario::runtime;
use crate::units::number;
use crate::workspace::Workspace;

/// The vPool.
pub(super) const VPOOL: &str = "bench";
/// How long the store, or a driver, may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Local space of a driver, bytes: what it reserves, and the segments that it keeps ready.
const SPACE: u64 = 64 << 20;

/// One driver; its directory goes away with it.
#[derive(Debug)]
struct Driver {
    process: Process,
    directory: PathBuf,
    keep: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill();
        if !self.keep
            && let Err(e) = std::fs::remove_dir_all(&self.directory)
        {
            eprintln!("{} stays behind: {e}", self.directory.display());
        }
    }
}

/// A store and its drivers. Dropping it ends the drivers first.
#[derive(Debug)]
pub(super) struct Fleet {
    drivers: Vec<Driver>,
    store: Server,
    program: PathBuf,
    directory: PathBuf,
    /// Drivers that start at the same time.
    starting: usize,
    keep: bool,
}

/// The name of a driver.
pub(super) fn name(index: usize) -> String {
    format!("h{index:03}")
}

impl Fleet {
    /// A store with the documents of all drivers, and none of them.
    pub(super) fn start(workspace: &Workspace, program: &Path, course: &UpdateCourse) -> Result<Fleet> {
        workspace.need_space(u64::from(course.processes) * SPACE)?;
        let keep = workspace.options.keep;
        let mut store = Server::prepare(SIDES[0], program, workspace.directory.join("store"), keep)?;
        store.start()?;
        let runtime = runtime()?;
        runtime
            .block_on(first_answer(&store.url(), START_LIMIT))
            .map_err(|status| store.problem(status.message()))?;
        let vpool = Vpool::open(&store.url(), VPOOL)?;
        for index in 0..course.processes as usize {
            // As little as a driver can have.
            let documents = [
                (
                    "scocache",
                    json!({"segment_size": "1MiB", "reserve_size": "16MiB", "segments_ready_min": 1}),
                ),
                ("volume_manager", json!({"run_size": "1MiB", "data_threads": 1})),
            ];
            let put = |(section, document): (&str, serde_json::Value)| {
                Ok(Write::put(&vpool.key(&name(index), &format!("config/{section}"))?, document.to_string()))
            };
            let writes = documents.into_iter().map(put).collect::<Result<_>>()?;
            let transaction = Transaction { compares: Vec::new(), writes };
            runtime.block_on(vpool.store.transact(&transaction)).map_err(problem)?;
        }
        Ok(Fleet {
            drivers: Vec::new(),
            store,
            program: program.to_path_buf(),
            directory: workspace.directory.clone(),
            starting: course.starting as usize,
            keep,
        })
    }

    /// Where clients reach the store.
    pub(super) fn url(&self) -> String {
        self.store.url()
    }

    /// The store's process.
    pub(super) fn store_pid(&self) -> Option<u32> {
        self.store.pid()
    }

    /// The drivers' processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.drivers.iter().filter_map(|driver| driver.process.pid()).collect()
    }

    /// Drivers that there are.
    pub(super) fn len(&self) -> usize {
        self.drivers.len()
    }

    /// Starts drivers until there are `count`, a few at a time, and waits until all are ready.
    pub(super) fn grow(&mut self, count: usize) -> Result<()> {
        if self.len() >= count {
            return Ok(());
        }
        let began = Instant::now();
        while self.len() < count {
            let first = self.len();
            for index in first..count.min(first + self.starting.max(1)) {
                let driver = self.begin(index)?;
                self.drivers.push(driver);
            }
            for index in first..self.len() {
                self.await_ready(index)?;
            }
        }
        eprintln!("{count} drivers run, after {} s", number(began.elapsed().as_secs_f64()));
        self.check_alive()
    }

    fn begin(&self, index: usize) -> Result<Driver> {
        let directory = self.directory.join(name(index));
        std::fs::create_dir_all(&directory).map_err(BenchError::file(&directory))?;
        let path = format!("/ovs/vpools/{VPOOL}/hosts/{}/config", name(index));
        let url = format!("{}{path}", self.url().replacen("http://", "etcd://", 1));
        let data = directory.join("data").display().to_string();
        let program = self.program.display().to_string();
        let command = [&program, "volumedriver", "run", "--ephemeral", "--config", &url, "--data-dir", &data];
        let process = Process::spawn(&command.map(str::to_string), &directory, &directory.join("log"))?;
        Ok(Driver { process, directory, keep: self.keep })
    }

    fn await_ready(&mut self, index: usize) -> Result<()> {
        let driver = &mut self.drivers[index];
        let log = driver.directory.join("log");
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        let ready = wait_for(START_LIMIT, Duration::from_millis(5), || {
            if driver.process.ended().is_some() {
                let text = text();
                let last = text.lines().last().unwrap_or("nothing");
                return Err(problem(format!("driver {} ended; it wrote last: {last}", name(index))));
            }
            Ok(text().lines().any(|line| line == "ready").then_some(()))
        })?;
        ready.ok_or_else(|| problem(format!("driver {} is not ready", name(index))))
    }

    /// Fails when one of the processes has ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        for (index, driver) in self.drivers.iter_mut().enumerate() {
            if driver.process.ended().is_some() {
                return Err(problem(format!("driver {} has ended", name(index))));
            }
        }
        if self.store.pid().is_none() { Err(problem("the store has ended")) } else { Ok(()) }
    }
}
