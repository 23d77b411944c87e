//! Crashes on the simulated disk: power losses, killed processes, failing writes and syncs, from a seed.

use uring::sim::{DirLoss, Fault, FaultOp, SimOptions, SimWorld};

use super::{Model, dir, small, world};
use crate::log::{LogError, Options, memory::Memory, recover::Recovered, writer::Writer};

/// Seeds of the bounded run; `OVS_SOAK` takes more, `OVS_SEED` one.
const SEEDS: u64 = 2_500;

/// What happened over all seeds: a test in which nothing goes wrong proves nothing.
#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    failed_writes: u64,
    failed_opens: u64,
    rotations: u64,
    deletions: u64,
    lost: u64,
    kept: u64,
    clean: u64,
}

struct Run {
    seed: u64,
    world: SimWorld,
    options: Options,
    /// The log after each record since the last open.
    history: Vec<Model>,
    /// Place in it up to which everything was acknowledged.
    acknowledged: usize,
    /// Closed without an error since the last open.
    closed: bool,
    tally: Tally,
}

impl Run {
    fn random(&self, bound: u64) -> u64 {
        self.world.random() % bound
    }

    /// Opens until it succeeds; only what was switched off or made to fail may fail.
    fn open(&mut self) -> Writer {
        if self.random(4) == 0 {
            self.world.crash_after(1 + self.random(12));
        }
        if self.random(6) == 0 {
            self.fault();
        }
        loop {
            let before = self.world.counters().injected;
            match Writer::open(self.world.disk(), dir(), self.options) {
                Ok((writer, memory, report)) => {
                    self.judge(&memory, &report);
                    return writer;
                }
                Err(LogError::Io { .. })
                    if self.world.is_off() || self.world.counters().injected > before =>
                {
                    self.tally.failed_opens += 1;
                    // It may have come far enough to take the mark away.
                    self.closed = false;
                    self.world.clear_faults();
                    self.crash();
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
    }

    fn fault(&self) {
        let op = [FaultOp::Write, FaultOp::Sync, FaultOp::SyncDir][self.random(3) as usize];
        self.world.inject(Fault { op, path_contains: String::new(), count: 1 });
    }

    fn crash(&self) {
        match self.random(3) {
            0 => self.world.process_kill(),
            _ => self.world.power_loss(),
        }
    }

    /// What was acknowledged is there; of what follows, a front part.
    fn judge(&mut self, memory: &Memory, report: &Recovered) {
        let (seed, found) = (self.seed, Model::of(memory));
        let possible = &self.history[self.acknowledged..];
        let Some(place) = possible.iter().rposition(|model| *model == found) else {
            panic!("seed {seed}: found {found:#?}\nacknowledged {:#?}\nreport {report:?}", possible[0]);
        };
        self.tally.kept += place as u64;
        self.tally.lost += (possible.len() - 1 - place) as u64;
        self.tally.cuts += u64::from(report.cut.is_some());
        if self.closed {
            self.tally.clean += u64::from(report.clean);
            assert_eq!((report.clean, &report.cut), (true, &None), "seed {seed}: {report:?}");
        }
        // Whoever opened it builds on what was found: from now on it has to stay.
        (self.history, self.acknowledged, self.closed) = (vec![found], 0, false);
    }

    fn boot(&mut self) {
        let mut writer = self.open();
        if self.random(3) == 0 {
            self.fault();
        }
        if self.random(2) == 0 {
            self.world.crash_after(1 + self.random(60));
        }
        for _ in 0..self.random(16) {
            let mut batch = Vec::new();
            for _ in 0..1 + self.random(4) {
                let mut model = self.history[self.history.len() - 1].clone();
                let record = model.any_record(&mut |bound| self.world.random() % bound);
                model.apply(&record);
                batch.push(record);
                self.history.push(model);
            }
            if writer.write(&batch).is_err() {
                self.tally.failed_writes += 1;
                let writes = self.world.counters().writes;
                assert!(writer.write(&batch).is_err(), "seed {}: written after a failure", self.seed);
                assert_eq!(self.world.counters().writes, writes);
                break;
            }
            self.acknowledged = self.history.len() - 1;
            let before = self.segments();
            if writer.delete_purged().is_err() {
                break;
            }
            let after = self.segments();
            self.tally.deletions += before.saturating_sub(after);
            self.tally.rotations += u64::from(before > 1);
        }
        if self.random(4) == 0 {
            self.closed = writer.close().is_ok();
        }
        self.world.clear_faults();
        self.crash();
    }

    fn segments(&self) -> u64 {
        let names = self.world.disk().read_dir(dir()).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".log")).count() as u64
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash() {
    let mut tally = Tally::default();
    let seeds = if std::env::var_os("OVS_SOAK").is_some() { SEEDS * 40 } else { SEEDS };
    let only: Option<u64> = std::env::var("OVS_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds, |only| only..only + 1) {
        let dirs = if seed % 2 == 0 { DirLoss::Prefix } else { DirLoss::Subset };
        let world = world(seed, SimOptions { dirs, ..SimOptions::default() });
        let history = vec![Model::default()];
        let options = Options { segment_bytes: 1024 << (seed % 3), ..small() };
        let mut run = Run { seed, world, options, history, acknowledged: 0, closed: false, tally };
        for _ in 0..5 {
            run.boot();
        }
        drop(run.open());
        tally = run.tally;
    }
    let Tally { cuts, failed_writes, failed_opens, rotations, deletions, lost, kept, clean } = tally;
    let least =
        [cuts, failed_writes, failed_opens, rotations, deletions, lost, kept, clean].into_iter().min();
    println!("{seeds} seeds: {tally:?}");
    assert!(least >= Some(100) || only.is_some(), "something hardly ever happened: {tally:?}");
}
