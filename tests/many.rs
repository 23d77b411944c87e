//! Many volumes in one process: created, exported, written, found again; what an idle one costs.

mod harness;

use std::time::{Duration, Instant};

use harness::nbd::Client;
use harness::pattern::{self, CLUSTER};
use harness::place::Place;
use harness::server::Setup;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(30);

const COUNT: u64 = 1000;

#[test]
fn a_thousand_volumes_in_one_process() {
    let place = Place::new("many");
    let setup = Setup::new(&place).space("2GiB").parameter("scocache", "segment_size", "8MiB".into());
    let name = |i: u64| format!("volume-{i:04}");

    // One alone, for comparison.
    let server = setup.clone().volume("alone", GIB).start();
    let alone = server.memory("VmRSS");
    let setup_alone = server.shut_down();
    assert!(setup_alone.segments().exists());

    let with_all = (0..COUNT).fold(setup.clone(), |setup, i| setup.volume(&name(i), GIB));
    let begun = Instant::now();
    let server = with_all.start();
    let created = begun.elapsed();
    eprintln!("{COUNT} volumes created and started in {created:?}");

    // Found again without being named.
    server.shut_down();
    let server = setup.start();
    let idle = server.memory("VmRSS");
    let each = idle.saturating_sub(alone) / COUNT;
    eprintln!(
        "{COUNT} volumes found again in {:?}; {} KiB each, idle ({} MiB with one, {} MiB with all)",
        server.time_to_ready(),
        each / 1024,
        alone / MIB,
        idle / MIB
    );
    // On a machine with other work, too.
    assert!(server.time_to_ready() < created, "to find them takes longer than to make them");
    assert!(each < 128 * 1024, "an idle volume costs {} KiB", each / 1024);

    let list = setup.ovs_ok(&["volume", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let volumes = list.as_array().expect("a list");
    assert_eq!(volumes.len() as u64, COUNT + 1);
    assert!(volumes.iter().all(|volume| volume["size"] == GIB), "{list}");

    // Every one is exported, and they do not share their data. The pool has not room for a segment each when there
    // are a thousand, so a part of them is written, from both ends.
    let busy: Vec<u64> = (0..8).chain(COUNT - 8..COUNT).collect();
    for &i in &busy {
        let mut client = Client::open(&server.socket(), &name(i), PATIENCE).expect("a connection");
        client.write(i * 8192, &pattern::content(i, i, 1)).expect("a write");
    }
    for i in 0..COUNT {
        let address = if i % 2 == 0 { server.socket() } else { server.tcp_address() };
        let mut client = Client::open(&address, &name(i), PATIENCE).expect("a connection");
        assert_eq!(client.size(), GIB);
        let data = client.read(i * 8192, CLUSTER).expect("a read");
        let expected = if busy.contains(&i) { pattern::content(i, i, 1) } else { vec![0; CLUSTER] };
        assert!(data == expected, "volume {i} holds {}", pattern::describe(&data));
    }

    // After a crash, too.
    let server = server.kill().start();
    eprintln!("{COUNT} volumes, {} of them to be recovered, in {:?}", busy.len(), server.time_to_ready());
    for &i in &busy {
        let mut client = Client::open(&server.socket(), &name(i), PATIENCE).expect("a connection");
        let data = client.read(i * 8192, CLUSTER).expect("a read");
        assert!(data == pattern::content(i, i, 1), "volume {i} holds {}", pattern::describe(&data));
    }

    // Created and deleted while it runs.
    setup.ovs_ok(&["volume", "create", "late", "--size", "64MiB"]);
    let mut client = Client::open(&server.tcp_address(), "late", PATIENCE).expect("exported at once");
    client.write(0, b"late").expect("a write");
    drop(client);
    setup.ovs_ok(&["volume", "delete", &name(3)]);
    let gone = Client::open(&server.socket(), &name(3), PATIENCE).err();
    assert!(gone.is_some(), "a deleted volume is no longer exported");
    server.shut_down();
}
