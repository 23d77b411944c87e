//! Three members of the configuration store as processes: killed, stopped, cut back and filled up, while clients write
//! and read. What the clients saw must be what one store alone could have told them.

mod harness;

#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/disks.rs"]
mod disks;
#[path = "cluster/growth.rs"]
mod growth;
#[path = "cluster/history.rs"]
mod history;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/kills.rs"]
mod kills;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/sessions.rs"]
mod sessions;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
