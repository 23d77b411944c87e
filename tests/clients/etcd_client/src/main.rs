//! What the library etcd-client gets from a server of etcd's API with nothing in it.
//!
//! Usage: etcd_client_calls URL. Prints each part that went well; exit code 1 and the reason on standard error at the
//! first answer that is not etcd's.
//!
//! Left out are locks and elections: they are services of their own (`v3lockpb.Lock`, `v3electionpb.Election`), which
//! the configuration store does not have; it answers `Unimplemented`. So are users and roles, and the calls that are
//! newer than Debian's etcd.

mod keys;
mod leases;
mod maintenance;
mod transactions;
mod watches;

use std::fmt::Debug;
use std::panic::Location;
use std::process::ExitCode;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};

/// Limit of one part.
const PATIENCE: Duration = Duration::from_secs(60);
/// Limit of one call.
const CALL: Duration = Duration::from_secs(20);

/// What was not as it should be.
struct Problem(String);

impl From<Error> for Problem {
    #[track_caller]
    fn from(error: Error) -> Problem {
        Problem(format!("{}: {error}", Location::caller()))
    }
}

/// Of a part, and of a step of one.
type Checked<T = ()> = Result<T, Problem>;

/// Two values that must be the same.
#[track_caller]
fn equal<T: PartialEq + Debug>(found: T, wanted: T) -> Checked {
    match found == wanted {
        true => Ok(()),
        false => Err(Problem(format!("{}: {found:?} instead of {wanted:?}", Location::caller()))),
    }
}

/// A value that must be there.
#[track_caller]
fn there<T>(found: Option<T>) -> Checked<T> {
    found.ok_or_else(|| Problem(format!("{}: nothing is there", Location::caller())))
}

/// An answer that must be a refusal whose text contains `wanted`.
#[track_caller]
fn refused<T: Debug>(answer: Result<T, Error>, wanted: &str) -> Checked {
    match answer {
        Err(error) if error.to_string().contains(wanted) => Ok(()),
        other => Err(Problem(format!("{}: {other:?} instead of {wanted:?}", Location::caller()))),
    }
}

/// Runs one part and says so.
async fn part(name: &str, checks: impl Future<Output = Checked>) -> Checked {
    match tokio::time::timeout(PATIENCE, checks).await {
        Ok(Ok(())) => println!("{name}"),
        Ok(Err(Problem(problem))) => return Err(Problem(format!("{name}: {problem}"))),
        Err(_) => return Err(Problem(format!("{name}: not done after {PATIENCE:?}"))),
    }
    Ok(())
}

async fn run(url: &str) -> Checked {
    let options = ConnectOptions::new()
        .with_connect_timeout(CALL)
        .with_timeout(CALL)
        .with_keep_alive(CALL, CALL)
        .with_require_leader(true);
    let mut client = Client::connect([url], Some(options)).await?;
    part("keys", keys::check(&mut client)).await?;
    part("namespace", keys::namespace(&client)).await?;
    part("transactions", transactions::check(&mut client)).await?;
    part("leases", leases::check(&mut client)).await?;
    part("watches", watches::check(&mut client)).await?;
    part("compaction", watches::compaction(&mut client)).await?;
    part("maintenance", maintenance::check(&mut client)).await?;
    part("members", maintenance::members(&mut client)).await
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url] = arguments.as_slice() else {
        eprintln!("usage: etcd_client_calls URL");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem(problem)) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
