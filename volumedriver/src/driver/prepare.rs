//! Other parameters for a running driver, in two steps: [`Driver::prepare`] does everything that can fail, and
//! [`Prepared::commit`] hands immutable snapshots to whoever works within them. A [`Prepared`] that is dropped instead
//! leaves no trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use cfg_engine::Configuration;
use cfg_schema::{Category, Change, Parameter, Problem, SizeLimit};

use super::Driver;
use super::limits::{COMPACTION_RESERVE, admission_limits, pool_options, settings_of, thread_options};
use super::running::{Running, Snapshot, Turn};
use crate::data_thread::letters::Letter;
use crate::data_thread::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::nbd::listener::Admission;
use crate::parameters::{Parameters, check};
use crate::pool::PoolOptions;
use crate::pool::change::PoolControl;
use crate::pool::reserve::Reserve;

/// Of `stored`, what a driver that runs with `running` can take now, and what waits for the next start of the process.
/// The problems are of values that contradict each other as long as those others wait.
pub fn takeable(
    running: &Parameters,
    stored: &Parameters,
) -> Result<(Parameters, Vec<Change>), Vec<Problem>> {
    let waiting = waiting(running, stored);
    let (mut documents, old) = (stored.documents(), running.documents());
    for change in &waiting {
        let value = old.get(change.section).and_then(|section| section.get(change.key));
        if let (Some(section), Some(value)) = (documents.get_mut(change.section), value) {
            section[change.key] = value.clone();
        }
    }
    Ok((crate::parameters::read(&documents).parameters?, waiting))
}

/// What differs and is not dynamic. What has no effect is not looked at.
fn waiting(running: &Parameters, new: &Parameters) -> Vec<Change> {
    let mut changes = Configuration::changes(running, new);
    changes.retain(|change| matches!(change.category, Category::Restart | Category::Immutable));
    changes
}

/// What a change has done when it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Who did not say in time that it works within the new limits: `data thread 0`, `the segment pool`. It does as
    /// soon as it gets to it, unless it is gone.
    pub late: Vec<String>,
}

/// A change that cannot fail any more. One at a time exists.
#[must_use = "dropped, it undoes what it prepared"]
pub struct Prepared {
    snapshot: Snapshot,
    pool_options: PoolOptions,
    pool: PoolControl,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    metrics: Arc<Metrics>,
    admission: Arc<OnceLock<Admission>>,
    running: Arc<Running>,
    extension: Extension,
    _turn: Turn,
}

/// The reserve's file, longer than the reserve; cut again when dropped.
struct Extension(Option<Arc<Reserve>>);

impl Drop for Extension {
    fn drop(&mut self) {
        if let Some(reserve) = self.0.take()
            && let Err(error) = reserve.trim()
        {
            tracing::warn!(%error, "the reserve is larger than it should be until the next start");
        }
    }
}

impl Driver {
    /// The parameters that it runs with.
    pub fn parameters(&self) -> Parameters {
        self.running.now().parameters.clone()
    }

    /// Gets everything ready to run with `new`: valid parameters, of which those that are not dynamic are as they run
    /// ([`takeable`] makes such). Blocks while it writes a larger reserve.
    pub fn prepare(&self, new: &Parameters) -> Result<Prepared, Vec<Problem>> {
        let one = |section, key, value, problem: String| vec![Problem::new(section, key, value, problem)];
        let nothing = serde_json::Value::Null;
        let Some(turn) = Turn::take(&self.running) else {
            return Err(one(
                "",
                "",
                nothing,
                "another change is on its way; try again when it is over".to_owned(),
            ));
        };
        let Some(pool) = self.pool.as_ref().filter(|_| !self.stopping.load(Ordering::Acquire)) else {
            return Err(one("", "", nothing, "the driver is shutting down".to_owned()));
        };
        let now = self.running.now();
        refuse_waiting(&waiting(&now.parameters, new), new)?;
        let mut problems = check(new);
        let pool_options = pool_options(new, &self.layout);
        let size_now = super::limits::pool_options(&now.parameters, &self.layout).size.unwrap_or(u64::MAX);
        if pool_options.size.is_some_and(|size| size < size_now) {
            problems.extend(too_small(new, &pool_options, u64::from(pool.levels().census().used)));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let control = pool.control();
        let extension = extend(&control, &pool_options, &self.stopping)
            .map_err(|problem| one("scocache", "reserve_size", new.scocache.reserve_size.write(), problem))?;
        let settings = Arc::new(settings_of(new, self.mailboxes.len()));
        Ok(Prepared {
            snapshot: Snapshot { parameters: new.clone(), settings },
            pool_options,
            pool: control,
            mailboxes: self.mailboxes.clone(),
            metrics: self.metrics.clone(),
            admission: self.admission.clone(),
            running: self.running.clone(),
            extension,
            _turn: turn,
        })
    }
}

/// A problem for each parameter that differs and must not.
fn refuse_waiting(waiting: &[Change], new: &Parameters) -> Result<(), Vec<Problem>> {
    if waiting.is_empty() {
        return Ok(());
    }
    let documents = new.documents();
    let problem = |change: &Change| {
        let value = documents.get(change.section).and_then(|section| section.get(change.key)).cloned();
        let rule = match change.category {
            Category::Immutable => "can never change",
            _ => "takes effect at the next start",
        };
        let problem = format!("{rule}; the process runs with {}", change.old);
        Problem::new(change.section, change.key, value.unwrap_or_default(), problem)
    };
    Err(waiting.iter().map(problem).collect())
}

/// A problem if the disk would be given less than volumes have on it.
fn too_small(new: &Parameters, options: &PoolOptions, used: u64) -> Option<Problem> {
    let needed = (used + u64::from(COMPACTION_RESERVE)) * options.segment_size;
    let size = options.size.filter(|&size| size < needed)?;
    let SizeLimit::Bytes(given) = new.scocache.scocache_mount_points.first()?.size else { return None };
    let least = needed + (given.bytes() - size);
    let problem = format!(
        "volumes have {} bytes there; with scocache.reserve_size and what compaction needs that takes {least} bytes",
        used * options.segment_size
    );
    Some(Problem::new("scocache", "scocache_mount_points[0].size", given.write(), problem))
}

/// Writes the reserve's file for a larger reserve.
fn extend(control: &PoolControl, options: &PoolOptions, stopping: &AtomicBool) -> Result<Extension, String> {
    let reserve = control.reserve();
    if options.reserve_size <= reserve.size() {
        return Ok(Extension(None));
    }
    let extension = Extension(Some(reserve.clone()));
    // The margin of the reserve's own restoration: a segment that is being made finds room.
    match reserve.extend(options.reserve_size, options.segment_size, || stopping.load(Ordering::Acquire)) {
        Ok(true) => Ok(extension),
        Ok(false) if stopping.load(Ordering::Acquire) => Err("the driver is shutting down".to_owned()),
        Ok(false) => {
            Err(format!("{} has no room for it; free some, or give less", options.directory.display()))
        }
        Err(error) => Err(format!("{}: {error}", options.directory.display())),
    }
}

impl Prepared {
    /// Has everybody work within the new limits, and waits for that at most `volume_call_timeout_ms`, the new one. Each
    /// data thread and the pool take over all of theirs at once, between two turns; requests in flight go on.
    pub fn commit(mut self) -> Committed {
        let Snapshot { parameters, settings } = &self.snapshot;
        let deadline = Instant::now() + self.snapshot.call_timeout();
        // It belongs to the reserve from now on.
        self.extension.0 = None;
        self.metrics.set_per_volume(parameters.metrics.metrics_per_volume);
        if let Some(admission) = self.admission.get() {
            admission.set_limits(admission_limits(parameters));
        }
        let mut waits: Vec<(String, Option<Receiver<()>>)> = Vec::with_capacity(self.mailboxes.len() + 1);
        let (taken, answer) = sync_channel(1);
        self.pool.reconfigure(self.pool_options, taken);
        waits.push(("the segment pool".to_owned(), Some(answer)));
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            let options = thread_options(parameters, settings, number as u32, self.mailboxes.len());
            let (taken, answer) = sync_channel(1);
            let posted = mailbox.post_in_any_case(Letter::Reconfigure { options: Box::new(options), taken });
            waits.push((format!("data thread {number}"), posted.then_some(answer)));
        }
        // Volumes that are created from now on are made for the new limits; others get them from their thread.
        self.running.set(self.snapshot);
        let late = waits.into_iter().filter_map(|(who, answer)| {
            let Some(answer) = answer else { return Some(format!("{who}, which is gone")) };
            match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => None,
                Err(RecvTimeoutError::Timeout) => Some(who),
                Err(RecvTimeoutError::Disconnected) => Some(format!("{who}, which is gone")),
            }
        });
        Committed { late: late.collect() }
    }
}
