//! `ovs config apply --canary` and `ovs config rollout`: changes that reach a vPool in stages. What is done next is
//! decided by `cfg_engine::Driver`; here are the store, the lease of whoever drives, and the words for people.

mod drive;
mod lease;
mod plan;
mod tell;

use std::time::Duration;

use cfg_client::{Compare, Content as ListContent, KeyPath, Proof, Transaction, Write};
use cfg_engine::{Abort, Rollout, State};
use clap::Subcommand;
use serde_json::{Value as Json, json};

pub(in crate::config) use plan::{Plan, Sizes};

use crate::config::command::{Message, parse_seconds};
use crate::config::host::{Host, VPOOLS};
use crate::config::write::{TRIES, busy};
use crate::config::{Session, author, failure_of};
use crate::failure::{Failure, Kind};
use crate::{agent, output};
use drive::Drive;
use lease::Lease;
use tell::Wanted;

/// `ovs config rollout …`
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// List roll-outs: those that are open and the last ones that are over
    List {
        /// Only of this vPool
        #[arg(long, value_name = "GUID")]
        vpool: Option<String>,
    },
    /// Show how far a roll-out is, and what came of it on each host
    Show {
        /// Which
        #[command(flatten)]
        which: Which,
    },
    /// Go on with a roll-out whose driver is gone
    Resume {
        /// Which
        #[command(flatten)]
        which: Which,
        /// Let each stage run so long before the next one, in place of what was said when it began
        #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
        pause: Option<u64>,
    },
    /// Take a roll-out back: every host that it has written gets its old values again
    Abort {
        /// Which
        #[command(flatten)]
        which: Which,
        /// About the abort
        #[command(flatten)]
        message: Message,
    },
}

/// Which roll-out is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Its id
    id: String,
    /// Its vPool, if several have one of this id
    #[arg(long, value_name = "GUID")]
    vpool: Option<String>,
}

/// Every bound of a roll-out's shell.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// How long the driver's key outlives it. Default: 10 s.
    lease: Duration,
    /// How long another driver is waited for before one gives up taking its place: longer than its lease. Default:
    /// 15 s.
    takeover: Duration,
    /// How much longer than the wait of the undo an abort waits for the driver that does it. Default: 60 s.
    abort: Duration,
    /// Roll-outs of one vPool that are kept when they are over. Default: 16.
    kept: usize,
    /// Bytes of one host's values, counted twice for their history, together with the document: etcd takes 1.5 MiB in
    /// one request. Default: 1.25 MiB.
    request: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            lease: Duration::from_secs(10),
            takeover: Duration::from_secs(15),
            abort: Duration::from_secs(60),
            kept: 16,
            request: 5 << 18,
        }
    }
}

/// The roll-outs of one vPool.
#[derive(Clone, Debug)]
pub(in crate::config) struct Rollouts {
    vpool: String,
    /// `/ovs/vpools/GUID/rollouts`
    folder: KeyPath,
    /// `/ovs/vpools/GUID/rollout_drivers`
    drivers: KeyPath,
}

/// The keys of one.
#[derive(Clone, Debug)]
struct Keys {
    id: String,
    vpool: String,
    document: KeyPath,
    driver: KeyPath,
}

/// One as it is stored.
#[derive(Debug)]
struct Stored {
    rollout: Rollout,
    revision: i64,
}

impl Rollouts {
    fn of(vpool: &str) -> Result<Rollouts, Failure> {
        let key = |name: &str| KeyPath::parse(&format!("{VPOOLS}/{vpool}/{name}")).map_err(failure_of);
        Ok(Rollouts { vpool: vpool.to_owned(), folder: key("rollouts")?, drivers: key("rollout_drivers")? })
    }

    /// The vPool and the id of the roll-out whose document is at this key.
    pub(in crate::config) fn place(key: &str) -> Option<(&str, &str)> {
        let (vpool, rest) = key.strip_prefix(VPOOLS)?.strip_prefix('/')?.split_once('/')?;
        let id = rest.strip_prefix("rollouts/")?;
        (!id.contains('/')).then_some((vpool, id))
    }

    fn keys(&self, id: &str) -> Result<Keys, Failure> {
        if !cfg_engine::is_id(id) {
            return Err(Failure::not_found(format!("there is no roll-out {id:?}: that is no id")));
        }
        let (document, driver) = (self.folder.join(id), self.drivers.join(id));
        let (document, driver) = (document.map_err(failure_of)?, driver.map_err(failure_of)?);
        Ok(Keys { id: id.to_owned(), vpool: self.vpool.clone(), document, driver })
    }
}

impl Keys {
    /// Reads the document. Each path in it must be a document of its host: nothing else is ever written.
    fn read(&self, value: &[u8], revision: i64) -> Result<Rollout, Failure> {
        let wrong = |problem: String| {
            let key = &self.document;
            Failure::failed(format!(
                "{key} {problem}; put it right, or give it up with `ovs config delete {key}`"
            ))
        };
        let rollout = Rollout::read(&self.id, value, revision).map_err(wrong)?;
        let is_own = |path: &str, host: &str| {
            KeyPath::parse(path).is_ok()
                && Host::of_document(path)
                    .is_some_and(|(of, _)| (of.vpool.as_str(), of.id.as_str()) == (&self.vpool, host))
        };
        match rollout.old.iter().find(|(path, old)| !is_own(path, &old.host)) {
            Some((path, old)) => {
                Err(wrong(format!("is no roll-out: {path} is no document of the host {}", old.host)))
            }
            None => Ok(rollout),
        }
    }
}

impl Session {
    pub(in crate::config) async fn rollout(&self, command: RolloutCommand) -> Result<(), Failure> {
        match command {
            RolloutCommand::List { vpool } => self.rollouts(vpool.as_deref()).await,
            RolloutCommand::Show { which } => {
                let keys = self.find_rollout(&which).await?;
                let stored = self.load(&keys).await?;
                let driver = self.driver_of(&keys).await?;
                self.show(&tell::shown(&keys, &stored.rollout, driver.as_ref()), || {
                    tell::described(&stored.rollout, driver.as_ref())
                })
            }
            RolloutCommand::Resume { which, pause } => {
                let keys = self.find_rollout(&which).await?;
                let pause = pause.map(Duration::from_secs);
                self.go_on(&keys, pause, Options::default().takeover, Wanted::Done).await
            }
            RolloutCommand::Abort { which, message } => self.abort_rollout(&which, message.text).await,
        }
    }

    /// The roll-out that is meant.
    async fn find_rollout(&self, which: &Which) -> Result<Keys, Failure> {
        let found = self.all_rollouts(which.vpool.as_deref()).await?;
        let found: Vec<Keys> = found.into_iter().filter(|keys| keys.id == which.id).collect();
        match found.as_slice() {
            [keys] => Ok(keys.clone()),
            [] => Err(Failure::not_found(format!(
                "there is no roll-out {:?}; `ovs config rollout list` shows which there are",
                which.id
            ))),
            more => {
                let vpools: Vec<&str> = more.iter().map(|keys| keys.vpool.as_str()).collect();
                let vpools = vpools.join(", ");
                Err(Failure::usage(format!("the vPools {vpools} have a roll-out {}; give --vpool", which.id)))
            }
        }
    }

    /// All roll-outs, of one vPool or of all.
    async fn all_rollouts(&self, vpool: Option<&str>) -> Result<Vec<Keys>, Failure> {
        let path = match vpool {
            Some(vpool) => Rollouts::of(vpool)?.folder,
            None => KeyPath::parse(VPOOLS).map_err(failure_of)?,
        };
        let listing = self.store.list(&path.below(), ListContent::Keys, None).await.map_err(failure_of)?;
        let places = listing.pairs.iter().filter_map(|pair| Rollouts::place(str::from_utf8(&pair.key).ok()?));
        places.map(|(vpool, id)| Rollouts::of(vpool)?.keys(id)).collect()
    }

    async fn load(&self, keys: &Keys) -> Result<Stored, Failure> {
        let pair = self.current(&keys.document).await?;
        let pair = pair.ok_or_else(|| Failure::not_found(format!("there is no roll-out {}", keys.id)))?;
        let rollout = keys.read(&pair.value, pair.mod_revision)?;
        Ok(Stored { rollout, revision: pair.mod_revision })
    }

    /// What the driver's key says; `None`: nobody drives.
    async fn driver_of(&self, keys: &Keys) -> Result<Option<Json>, Failure> {
        let pair = self.current(&keys.driver).await?;
        Ok(pair.map(|pair| serde_json::from_slice(&pair.value).unwrap_or(Json::Null)))
    }

    async fn rollouts(&self, vpool: Option<&str>) -> Result<(), Failure> {
        let mut rows = Vec::new();
        let mut values = Vec::new();
        for keys in self.all_rollouts(vpool).await? {
            let driver = self.driver_of(&keys).await?;
            match self.load(&keys).await {
                Ok(stored) => {
                    rows.push((stored.revision, tell::row(&keys, &stored.rollout, driver.as_ref())));
                    values.push((stored.revision, tell::shown(&keys, &stored.rollout, driver.as_ref())));
                }
                Err(failure) if failure.kind() == Kind::Failed => {
                    eprintln!("ovs: {failure}");
                    rows.push((i64::MAX, tell::damaged_row(&keys)));
                    let damaged = json!({"id": keys.id, "vpool": keys.vpool, "problem": failure.to_string()});
                    values.push((i64::MAX, damaged));
                }
                Err(failure) if failure.kind() == Kind::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        rows.sort_by_key(|(revision, _)| *revision);
        values.sort_by_key(|(revision, _)| *revision);
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        if rows.is_empty() && !self.json {
            return Ok(());
        }
        self.show(&values, || output::table(tell::HEADINGS, &[], &rows))
    }

    /// Drives a roll-out that nobody drives, to its end.
    async fn go_on(
        &self,
        keys: &Keys,
        pause: Option<Duration>,
        patience: Duration,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let stored = self.load(keys).await?;
        if stored.rollout.state.is_open()
            && let Some(lease) = Lease::take(self, keys, patience, Options::default().lease).await?
        {
            let stored = self.load(keys).await?;
            let rollout = Drive::begin(self, keys, lease, stored, pause).await?.run().await?;
            return self.end_rollout(keys, &rollout, wanted);
        }
        // Somebody else has ended it.
        let stored = self.load(keys).await?;
        self.end_rollout(keys, &stored.rollout, wanted)
    }

    async fn abort_rollout(&self, which: &Which, note: Option<String>) -> Result<(), Failure> {
        let keys = self.find_rollout(which).await?;
        for _ in 0..TRIES {
            let Stored { mut rollout, revision } = self.load(&keys).await?;
            if rollout.state == State::Done {
                let message = format!(
                    "the roll-out {} is done; take it back with another one, or `ovs config revert`",
                    keys.id
                );
                return Err(Failure::new(Kind::Conflict, message));
            }
            let patience = Duration::from_secs(rollout.wait_secs) + Options::default().abort;
            if !rollout.state.is_open() || rollout.abort.is_some() {
                return self.go_on(&keys, None, patience, Wanted::Undone).await;
            }
            let (by, time) = (author::author(), author::now());
            rollout.abort = Some(Abort { by, time, note: note.clone().unwrap_or_default() });
            let (key, document) = (keys.document.clone(), rollout.text());
            let wish = Transaction {
                compares: vec![Compare::Unchanged { key, mod_revision: revision }],
                writes: vec![Write::put(&keys.document, document)],
            };
            match self.store.change(wish, Proof::Marker).await {
                Ok(_) => return self.go_on(&keys, None, patience, Wanted::Undone).await,
                Err(cfg_client::Error::Conflict) => {}
                Err(error) => return Err(failure_of(error)),
            }
        }
        Err(busy(&keys.document))
    }

    /// Prints a roll-out that is over; the exit code says how it ended.
    fn end_rollout(&self, keys: &Keys, rollout: &Rollout, wanted: Wanted) -> Result<(), Failure> {
        if self.json {
            output::json(&tell::shown(keys, rollout, None))?;
        }
        match tell::failure(rollout, wanted) {
            Some(failure) => Err(failure),
            None if self.json => Ok(()),
            None => output::line(&tell::summary(rollout)),
        }
    }

    /// The keys of a host that an update of a roll-out is written to.
    fn place_of(keys: &Keys, host: &str) -> Result<agent::place::Place, Failure> {
        agent::place::Place::of(&keys.vpool, host).map_err(failure_of)
    }
}
