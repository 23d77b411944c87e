//! The Rust library `etcd-client` against a server of etcd's API. The same program of calls runs with etcd itself too,
//! so that what it expects is what etcd does.

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::cfg::Server;
use harness::process;

/// How long the first build may take on a machine that does much else.
const BUILD: Duration = Duration::from_secs(480);

/// Builds the client, whose dependencies are not the product's, in a place of its own. Its path.
fn client() -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory");
    let target = target.join("clients");
    let path = |path: &Path| path.to_str().expect("readable path").to_owned();
    let (manifest, directory) = (harness::client("etcd_client/Cargo.toml"), path(&target));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let build = ["build", "--quiet", "--locked", "--manifest-path", &manifest, "--target-dir", &directory];
    process::must(&cargo, &build, BUILD);
    path(&target.join("debug/etcd_client_calls"))
}

#[test]
fn the_store_serves_etcd_client() {
    let client = client();
    for server in Server::all() {
        let place = server.place("etcd_client");
        let running = server.start(place.root(), "one");
        let said = process::must(&client, &[&running.client_url], Duration::from_secs(120));
        let parts = [
            "keys",
            "namespace",
            "transactions",
            "leases",
            "watches",
            "compaction",
            "maintenance",
            "members",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), parts, "{server:?}");
    }
}
