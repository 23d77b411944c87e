//! The comparison: every workload on every side, A B A B.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::baseline;
use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::measure::{Run, evaluate, observe};
use crate::peers::{Class, Peer};
use crate::progress::Progress;
use crate::report;
use crate::results::{Cell, Results, Settings, Side};
use crate::server::{Allocation, Instance};
use crate::units::{GIB, number};
use crate::workload::{self, Begin, Workload};
use crate::workspace::Workspace;

/// Time that a run takes beyond fio's: settling, starting, ending.
const OVERHEAD: Duration = Duration::from_millis(1800);
/// Expected speed of a fill, bytes a second; only for the estimate of the time left.
const FILL_SPEED: u64 = 400 << 20;

struct Comparison<'a> {
    workspace: &'a Workspace,
    results: Results,
    /// One for each side that could be started, by index into the sides.
    instances: Vec<(usize, Instance)>,
    runtime: Duration,
    ramp: Duration,
    progress: Progress,
}

/// Runs the comparison and writes its results, also when it is interrupted.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut comparison = prepare(workspace)?;
    let outcome = comparison.start_all().and_then(|()| comparison.run_all());
    comparison.results.compare();
    if comparison.results.cells.iter().any(|c| c.speed().is_some()) {
        report::write(workspace, &comparison.results)?;
    }
    outcome?;
    match comparison.results.measured().next() {
        Some(_) if workspace.options.write_baseline => baseline::write(workspace, &comparison.results),
        Some(_) if workspace.options.quick => baseline::compare(workspace, &comparison.results),
        Some(_) => Ok(()),
        None => Err(BenchError::Setup("nothing was measured: no side could be started".to_string())),
    }
}

fn prepare(workspace: &Workspace) -> Result<Comparison<'_>> {
    let options = &workspace.options;
    let workloads = workload::select(&options.workloads, options.quick).map_err(|unknown| {
        let names: Vec<&str> = workload::ALL.iter().map(|w| w.name).collect();
        BenchError::Setup(format!("there is no workload '{unknown}'; there are {}", names.join(", ")))
    })?;
    let all: Vec<&str> = workspace.peers.iter().map(|peer| peer.name.as_str()).collect();
    let peers = sides(workspace, if options.quick { &baseline::PEERS } else { &all })?;
    let runtime = options.runtime();
    let ramp = Duration::from_millis(if options.quick { 500 } else { 2000 }).min(runtime);
    let settings = Settings {
        repeats: options.repeats(),
        runtime_s: runtime.as_secs_f64(),
        ramp_s: ramp.as_secs_f64(),
        size: options.size_or(4 * GIB),
    };
    let fill = fill_time(settings.size);
    let runs = peers.len() * workloads.len() * settings.repeats;
    let planned = fill * peers.len() as u32
        + workloads.iter().map(|w| run_time(w, runtime, ramp, fill)).sum::<Duration>()
            * (peers.len() * settings.repeats) as u32;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let results = Results {
        started: now.as_secs(),
        machine: workspace.machine.clone(),
        settings,
        subject: options.subject.clone(),
        sides: peers.into_iter().map(|peer| Side { peer, problem: None, fill_mb_s: None }).collect(),
        workloads,
        cells: Vec::new(),
        ratios: Vec::new(),
        notes: Vec::new(),
    };
    let progress = Progress::new(runs + results.sides.len(), planned);
    Ok(Comparison { workspace, results, instances: Vec::new(), runtime, ramp, progress })
}

/// The subject first, then the peers asked for, or those of `default`.
pub(crate) fn sides(workspace: &Workspace, default: &[&str]) -> Result<Vec<Peer>> {
    let subject = workspace.peer(&workspace.options.subject)?.clone();
    let mut sides = vec![subject];
    match &workspace.options.peers {
        Some(names) => {
            for name in names {
                sides.push(workspace.peer(name)?.clone());
            }
        }
        None => {
            for name in default {
                sides.push(workspace.peer(name)?.clone());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    sides.retain(|p| seen.insert(p.name.clone()));
    Ok(sides)
}

fn fill_time(size: u64) -> Duration {
    Duration::from_secs(2 + size / FILL_SPEED)
}

fn run_time(workload: &Workload, runtime: Duration, ramp: Duration, fill: Duration) -> Duration {
    let extra = match workload.begin {
        Begin::Filled => ramp,
        Begin::Fresh | Begin::Restarted => Duration::from_secs(1),
        Begin::Refilled => ramp + fill,
    };
    runtime + extra + OVERHEAD
}

impl Comparison<'_> {
    /// Disk space that everything takes at once.
    fn space(&self) -> u64 {
        let size = self.results.settings.size;
        let of = |side: &Side| match side.peer.class {
            _ if self.workspace.plan(&side.peer, "", size).is_err() => 0,
            // Its log and its objects are both on this disk, and space comes back only in the background.
            Class::Server if side.peer.image.is_none() => 3 * size,
            Class::Protocol => 0,
            _ => size + size / 16,
        };
        let all: u64 = self.results.sides.iter().map(of).sum();
        let fresh = self.results.workloads.iter().any(|w| w.begin == Begin::Fresh);
        all + if fresh { 2 * size } else { 0 }
    }

    /// Starts and fills every side; those that do not work are noted and left out.
    fn start_all(&mut self) -> Result<()> {
        self.workspace.need_space(self.space())?;
        let planned = fill_time(self.results.settings.size);
        for index in 0..self.results.sides.len() {
            let name = self.results.sides[index].peer.name.clone();
            match self.start_one(index) {
                Ok((instance, speed)) => {
                    self.instances.push((index, instance));
                    self.results.sides[index].fill_mb_s = Some(speed);
                    self.progress
                        .finish(planned, &format!("{name}: started and filled, {} MB/s", number(speed)));
                }
                Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
                Err(e) => {
                    self.progress.skip(planned);
                    let (runtime, ramp) = (self.runtime, self.ramp);
                    for workload in self.results.workloads.clone() {
                        for _ in 0..self.results.settings.repeats {
                            self.progress.skip(run_time(&workload, runtime, ramp, planned));
                        }
                    }
                    eprintln!("skipped: {e}");
                    self.results.sides[index].problem = Some(plain(&name, &e));
                }
            }
        }
        Ok(())
    }

    fn start_one(&self, index: usize) -> Result<(Instance, f64)> {
        let peer = &self.results.sides[index].peer;
        let plan = self.workspace.plan(peer, &peer.name, self.results.settings.size)?;
        let mut instance = Instance::prepare(plan)?;
        instance.keep = self.workspace.options.keep;
        instance.start()?;
        let speed = fill(self.workspace, &mut instance)?;
        Ok((instance, speed))
    }

    fn run_all(&mut self) -> Result<()> {
        for (order, workload) in self.results.workloads.clone().into_iter().enumerate() {
            for (index, _) in &self.instances {
                let peer = self.results.sides[*index].peer.name.clone();
                self.results.cells.push(Cell {
                    workload: workload.name,
                    peer,
                    runs: Vec::new(),
                    problem: None,
                });
            }
            for repeat in 0..self.results.settings.repeats {
                let seed = 1000 * (order as u64 + 1) + repeat as u64;
                for position in 0..self.instances.len() {
                    self.run_one(&workload, position, repeat, seed)?;
                }
            }
        }
        Ok(())
    }

    /// One run of one cell. Only an interruption is an error; what else goes wrong is kept in the cell.
    fn run_one(&mut self, workload: &Workload, position: usize, repeat: usize, seed: u64) -> Result<()> {
        let planned = run_time(workload, self.runtime, self.ramp, fill_time(self.results.settings.size));
        let side = self.instances[position].0;
        let name = self.results.sides[side].peer.name.clone();
        let has_problem = |c: &Cell| c.workload == workload.name && c.peer == name && c.problem.is_some();
        if self.results.sides[side].problem.is_some() || self.results.cells.iter().any(has_problem) {
            self.progress.skip(planned);
            return Ok(());
        }
        let outcome = self.measure(workload, position, seed);
        let (run, problem) = match outcome {
            Ok(run) => (Some(run), None),
            Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
            Err(e) => (None, Some(plain(&name, &e))),
        };
        let label = format!("{} {name} {}/{}", workload.name, repeat + 1, self.results.settings.repeats);
        let said = match (&run, &problem) {
            (Some(run), _) => format!("{label}: {} {}", number(run.speed), workload.speed().unit()),
            (None, problem) => format!("{label}: {}", problem.as_deref().unwrap_or_default()),
        };
        self.progress.finish(planned, &said);
        let instance = &mut self.instances[position].1;
        if problem.is_some() && (instance.check_alive().is_err() || instance.target().is_err()) {
            self.results.sides[side].problem = Some(format!("ended in {}", workload.name));
        }
        let cell = self.results.cells.iter_mut().find(|c| c.workload == workload.name && c.peer == name);
        if let Some(cell) = cell {
            cell.runs.push(run);
            cell.problem = problem;
        }
        Ok(())
    }

    fn measure(&mut self, workload: &Workload, position: usize, seed: u64) -> Result<Run> {
        let mut fresh = None;
        match workload.begin {
            Begin::Filled => {}
            Begin::Fresh => fresh = Some(self.fresh(position)?),
            Begin::Restarted => self.restart(position)?,
            Begin::Refilled => {
                fill(self.workspace, &mut self.instances[position].1)?;
            }
        }
        if let Some(note) = self.workspace.calm(workload.pattern.reads())? {
            self.results.note(note);
        }
        let instance = fresh.as_mut().unwrap_or(&mut self.instances[position].1);
        let target = instance.target()?.clone();
        let warm = matches!(workload.begin, Begin::Filled | Begin::Refilled) && !workload.once();
        let end = if workload.once() { End::EachBlockOnce(self.runtime) } else { End::Time(self.runtime) };
        let job = Job {
            pattern: workload.pattern,
            block: workload.block,
            depth: workload.depth,
            jobs: workload.jobs,
            flush: workload.flush,
            ramp: if warm { self.ramp } else { Duration::ZERO },
            end,
            refill: false,
            seed,
            ..Job::fill(&target, workload.span.unwrap_or(u64::MAX).min(instance.size()))
        };
        let (report, samples) = observe(instance, &job, &self.workspace.disk, &self.workspace.directory)?;
        Ok(evaluate(workload, &report, &samples, instance.pid().is_some()))
    }

    /// A second volume of the same side, never written.
    fn fresh(&self, position: usize) -> Result<Instance> {
        let (index, filled) = &self.instances[position];
        let peer = &self.results.sides[*index].peer;
        let mut plan = self.workspace.plan(peer, &format!("{}-new", peer.name), filled.size())?;
        plan.allocation = Allocation::Sparse;
        let mut instance = Instance::prepare(plan)?;
        instance.start()?;
        Ok(instance)
    }

    fn restart(&mut self, position: usize) -> Result<()> {
        let instance = &mut self.instances[position].1;
        if !instance.peer().retains {
            return Err(BenchError::peer(instance.name(), "keeps nothing over a restart"));
        }
        if !instance.stop()? {
            return Err(BenchError::peer(instance.name(), "did not end within its time after SIGTERM"));
        }
        if let Some(note) = self.workspace.calm(true)? {
            self.results.note(note);
        }
        self.instances[position].1.start().map(|_| ())
    }
}

/// Fills the volume; gives the speed in MB/s.
pub(crate) fn fill(workspace: &Workspace, instance: &mut Instance) -> Result<f64> {
    let target = instance.target()?.clone();
    let job = Job::fill(&target, instance.size());
    let (report, _) = observe(instance, &job, &workspace.disk, &workspace.directory)?;
    Ok(report.write.bytes_per_second / 1e6)
}

/// The error without the peer's name in front, for a place that says it already.
fn plain(name: &str, error: &BenchError) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{name}: ")).unwrap_or(&text).to_string()
}
