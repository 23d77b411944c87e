//! The configuration store beside etcd: the same requests to both, in turns, from the same client.

pub(super) mod client;
mod fanout;
mod report;
pub(super) mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use self::client::{Course, Operation};
use self::server::{SIDES, Server, Side};
use crate::accounting::sample;
use crate::error::{BenchError, Result};
use crate::interrupt;
use crate::machine::Machine;
use crate::report::write_json;
use crate::workspace::Workspace;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What the scenario is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CfgCourse {
    /// Clients that work at the same time where there are many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Connections that many clients and streams share
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Numbers of watch streams
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    streams: Vec<u32>,
    /// Keys that are there at the restarts
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Seconds from a start until idle memory is read
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = crate::options::parse_seconds)]
    calm: Duration,
    /// The program of etcd
    #[arg(long, default_value = "/usr/bin/etcd", value_name = "PATH")]
    etcd: PathBuf,
}

/// A list for each side, in the order of [`SIDES`]; entry `i` is of repeat `i`.
type Both<T> = [Vec<T>; 2];

/// Operations of one kind by one number of clients.
#[derive(Debug, Serialize)]
struct Work {
    name: String,
    operation: Operation,
    clients: usize,
    runs: Both<client::Figures>,
}

/// Events to one number of streams.
#[derive(Debug, Serialize)]
struct Watch {
    name: String,
    streams: usize,
    runs: Both<fanout::Figures>,
}

/// What a side takes for being there.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Life {
    /// Resident memory a while after the first start, bytes.
    idle: u64,
    /// Resident memory after all operations and streams, bytes.
    worked: u64,
    /// Resident memory with the keys of the restarts, bytes.
    filled: u64,
    /// From the start after SIGTERM to the first linearizable read, milliseconds.
    stopped_ms: f64,
    /// The same after SIGKILL.
    killed_ms: f64,
}

/// All of it; `runs` and `lives` are lists for ovs and for etcd.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    etcd: String,
    clients: usize,
    connections: usize,
    keys: usize,
    repeats: usize,
    runtime_s: f64,
    works: Vec<Work>,
    watches: Vec<Watch>,
    lives: Both<Life>,
}

/// What one scenario needs all the time.
struct Bench<'a> {
    workspace: &'a Workspace,
    course: &'a CfgCourse,
    runtime: Runtime,
    programs: [PathBuf; 2],
}

/// Runs it and writes `cfg.json`, `cfg.md` and `cfg.svg`.
pub(crate) fn run(workspace: &Workspace, course: &CfgCourse) -> Result<()> {
    let ovs = workspace.options.ovs_binary.clone();
    let found = |path: PathBuf, what: &str| {
        let missing = |e| BenchError::Setup(format!("{}: {e}; {what}", path.display()));
        path.canonicalize().map_err(missing)
    };
    let programs = [
        found(ovs, "build it, or name it with --ovs-binary")?,
        found(course.etcd.clone(), "install the package etcd-server, or name the program with --etcd")?,
    ];
    let etcd = version(&programs[1])?;
    let bench = Bench { workspace, course, runtime: crate::scenario::runtime()?, programs };
    let mut results = bench.plan(etcd)?;
    for repeat in 0..results.repeats {
        bench.repeat(repeat, &mut results)?;
        eprintln!("repeat {} of {} done", repeat + 1, results.repeats);
    }
    write_json(workspace, "cfg.json", &results)?;
    workspace.write("cfg.svg", &results.picture())?;
    let text = results.markdown();
    workspace.write("cfg.md", &text)?;
    println!("{text}");
    Ok(())
}

/// What `program` says of its version.
fn version(program: &std::path::Path) -> Result<String> {
    let output = std::process::Command::new(program).arg("--version").output();
    let output = output.map_err(|e| BenchError::Setup(format!("{} --version: {e}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("an unknown version").replace(" Version:", "").trim().to_string())
}

impl Bench<'_> {
    /// What there is to do, without figures; only the parts that `--workloads` names.
    fn plan(&self, etcd: String) -> Result<Results> {
        let (options, course) = (&self.workspace.options, self.course);
        let many = course.clients as usize;
        let mut works: Vec<Work> = [
            (Operation::Put, 1),
            (Operation::Put, many),
            (Operation::Get, 1),
            (Operation::Get, many),
            (Operation::Serializable, many),
            (Operation::Txn, many),
        ]
        .map(|(operation, clients)| {
            let name = format!("{}-{clients}", operation.name());
            Work { name, operation, clients, runs: Both::default() }
        })
        .into();
        works.dedup_by(|a, b| a.name == b.name);
        let watch = |&streams: &u32| Watch {
            name: format!("watch-{streams}"),
            streams: streams as usize,
            runs: Both::default(),
        };
        let mut watches: Vec<Watch> = course.streams.iter().map(watch).collect();
        let wanted = &options.workloads;
        let names: Vec<&str> = works
            .iter()
            .map(|w| w.name.as_str())
            .chain(watches.iter().map(|w| w.name.as_str()))
            .chain([LIFE])
            .collect();
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
            let names = names.join(", ");
            return Err(BenchError::Setup(format!(
                "there is no workload '{unknown}' here; there are {names}"
            )));
        }
        let keep = |name: &String| wanted.is_empty() || wanted.contains(name);
        works.retain(|work| keep(&work.name));
        watches.retain(|watch| keep(&watch.name));
        Ok(Results {
            machine: self.workspace.machine.clone(),
            etcd,
            clients: many,
            connections: course.connections as usize,
            keys: course.keys as usize,
            repeats: options.repeats(),
            runtime_s: options.runtime().as_secs_f64(),
            works,
            watches,
            lives: Both::default(),
        })
    }

    /// Everything once on both sides; who is first changes from repeat to repeat.
    fn repeat(&self, repeat: usize, results: &mut Results) -> Result<()> {
        let order = if repeat.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        let mut lives = [Life::default(); 2];
        let mut servers = [self.fresh(SIDES[0], "work", repeat)?, self.fresh(SIDES[1], "work", repeat)?];
        for side in order {
            self.begin(&mut servers[side])?;
        }
        interrupt::pause(self.course.calm)?;
        let mut connected = Vec::new();
        for (life, server) in lives.iter_mut().zip(&servers) {
            life.idle = sample(server.pid(), &self.workspace.disk).resident;
            let channels = self.answered(server, client::connect(&server.url(), results.connections))?;
            self.answered(server, client::fill(&channels, client::KEYS))?;
            connected.push(channels);
        }
        for work in &mut results.works {
            self.workspace.calm(false)?;
            for side in order {
                interrupt::check()?;
                let few = &connected[side][..work.clients.min(connected[side].len())];
                let course = self.course_of(&servers[side], few);
                let done = client::work(&course, work.operation, work.clients);
                work.runs[side].push(self.answered(&servers[side], done)?);
            }
        }
        for watch in &mut results.watches {
            self.workspace.calm(false)?;
            for side in order {
                interrupt::check()?;
                let course = self.course_of(&servers[side], &connected[side]);
                let done = fanout::run(&course, watch.streams);
                watch.runs[side].push(self.answered(&servers[side], done)?);
            }
        }
        for (life, server) in lives.iter_mut().zip(&mut servers) {
            life.worked = sample(server.pid(), &self.workspace.disk).resident;
        }
        drop((connected, servers));
        for side in order {
            if self.workspace.options.workloads.iter().all(|name| name != LIFE)
                && !self.workspace.options.workloads.is_empty()
            {
                break;
            }
            self.restarts(SIDES[side], repeat, &mut lives[side])?;
        }
        for (list, life) in results.lives.iter_mut().zip(lives) {
            list.push(life);
        }
        Ok(())
    }

    /// Fills in the keys, then times a start after SIGTERM and one after SIGKILL.
    fn restarts(&self, side: Side, repeat: usize, life: &mut Life) -> Result<()> {
        let mut server = self.fresh(side, "keys", repeat)?;
        self.begin(&mut server)?;
        let filled = async {
            let channels = client::connect(&server.url(), self.course.connections as usize).await?;
            client::fill(&channels, self.course.keys as usize).await
        };
        self.answered(&server, filled)?;
        interrupt::pause(self.course.calm)?;
        life.filled = sample(server.pid(), &self.workspace.disk).resident;
        server.stop()?;
        life.stopped_ms = self.begin(&mut server)?.as_secs_f64() * 1e3;
        server.kill();
        life.killed_ms = self.begin(&mut server)?.as_secs_f64() * 1e3;
        Ok(())
    }

    /// A server with an empty directory.
    fn fresh(&self, side: Side, what: &str, repeat: usize) -> Result<Server> {
        let directory = self.workspace.directory.join(format!("{}-{what}-{repeat}", side.name()));
        let program = &self.programs[usize::from(side == SIDES[1])];
        Server::prepare(side, program, directory, self.workspace.options.keep)
    }

    /// Starts a server; gives the time until it answered a linearizable read.
    fn begin(&self, server: &mut Server) -> Result<Duration> {
        let began = Instant::now();
        server.start()?;
        self.answered(server, client::first_answer(&server.url(), START_LIMIT))?;
        Ok(began.elapsed())
    }

    /// Waits for what `asking` comes to; a refusal is an error of this side.
    fn answered<T>(
        &self,
        server: &Server,
        asking: impl Future<Output = std::result::Result<T, tonic::Status>>,
    ) -> Result<T> {
        let refused =
            |status: tonic::Status| server.problem(format!("{}: {}", status.code(), status.message()));
        self.runtime.block_on(asking).map_err(refused)
    }

    fn course_of<'a>(&'a self, server: &Server, channels: &'a [Channel]) -> Course<'a> {
        let time = self.workspace.options.runtime();
        let warmup = (time / 4).max(Duration::from_millis(100));
        Course { channels, pid: server.pid(), disk: &self.workspace.disk, warmup, time }
    }
}

/// Names memory with many keys and the restarts among the workloads.
const LIFE: &str = "life";

impl Operation {
    /// In names of workloads.
    fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Serializable => "serializable",
            Operation::Txn => "txn",
        }
    }
}
