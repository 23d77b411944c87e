//! Clocks that jump: wall time is set back and forward, as a person or a time server does it, while a process runs and
//! between two of its lives.

mod cli_node;
mod harness;
mod one_host;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cli_node::Driver;
use harness::cfg::Server;
use harness::tree::Recorder;
use one_host::{BASE, OneHost};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// How long a status stays when nothing keeps it, with time to spare.
const STATUS_TTL: Duration = Duration::from_secs(13);

/// The library that shifts a program's wall time; the monotonic clock stays what it is.
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("libraries").filter_map(Result::ok);
    let found =
        folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|file| file.exists());
    let file: PathBuf = found.expect("libfaketime: apt-get install faketime, or cargo xtask packages");
    file.to_str().expect("a readable path").to_owned()
}

/// Variables of a program whose wall time is as many seconds off as `file` says.
fn environment<'e>(library: &'e str, file: &'e str) -> [(&'e str, &'e str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

/// Sets the clock, in one step for whoever reads it.
fn shift(file: &Path, seconds: i64) {
    let next = file.with_extension("next");
    fs::write(&next, format!("{seconds:+}\n")).expect("written");
    fs::rename(next, file).expect("renamed");
}

#[test]
fn leases_and_ages_know_nothing_of_wall_time() {
    let (place, library) = (Server::Store.place("clocks"), library());
    let file = place.root().join("clock");
    shift(&file, 0);
    let path = file.to_str().expect("a readable path").to_owned();
    let shifted = environment(&library, &path);
    // The store, which has the leases, and the process, which keeps them, live by the same clock.
    let server = Server::Store.start_in(place.root(), "store", &[], &shifted);
    let mut host = OneHost::on(server, place);
    host.end();
    host.driver = Some(Driver::begin_in(&host.directory, &host.url(), &[], &shifted));
    host.driver.as_mut().expect("begun").ready(&host.directory);
    let started = host.status(|_| true)["started"].clone();
    for (number, seconds) in [30 * DAY, -30 * DAY, 3600, -400 * DAY].into_iter().enumerate() {
        shift(&file, seconds);
        host.put("nbd", json!({"nbd_max_connections": 10 + number}).to_string());
        let feedback = host.update();
        assert_eq!(feedback["applied"][0]["new"], json!((10 + number).to_string()), "{feedback}");
        assert!(feedback["took_us"].as_u64().is_some_and(|took| took < 60_000_000), "{feedback}");
        assert_eq!(host.status_after(&feedback)["started"], started);
    }
    // The clock is another one than at the start, or this test shows nothing.
    let log = host.log();
    let years: Vec<&str> =
        log.lines().filter_map(|line| line.get(..4)).filter(|y| y.starts_with("20")).collect();
    assert!(years.first() != years.last(), "{log}");

    // As long as a lease lasts by any clock, nobody takes the status away. It may be written again.
    let key = format!("{BASE}/status");
    let written = host.tree.get(&key).expect("a status").0;
    // sleep: what must not happen gives no event
    std::thread::sleep(STATUS_TTL);
    let end = host.tree.put("/end", "");
    Recorder::start(&host.server.client_url).until("the end", |history| {
        let gone = |(revision, value): &(i64, Option<String>)| *revision > written && value.is_none();
        assert!(!history.keys.get(&key).is_some_and(|versions| versions.iter().any(gone)), "it stays");
        (history.revision >= end).then_some(())
    });
    // And it goes with a process that is killed.
    host.driver.take().expect("it runs").kill();
    host.tree.awaited(&format!("{BASE}/status"), |status| status.is_null().then_some(()));
}

fn a_copy_has_an_age(server: Server) {
    let library = library();
    let mut host = OneHost::start(server);
    host.put("nbd", json!({"nbd_max_connections": 7}).to_string());
    let feedback = host.update();
    assert_eq!(feedback["outcome"], "applied");
    let hash = host.status_after(&feedback)["config_hash"].clone();
    host.end();
    host.server.kill();
    let clock = host.directory.path("clock");
    let path = clock.to_str().expect("a readable path").to_owned();
    let start = |host: &OneHost, seconds: i64| {
        shift(&clock, seconds);
        let mut driver = Driver::begin_in(&host.directory, &host.url(), &[], &environment(&library, &path));
        driver.is_ready().then_some(()).ok_or_else(|| driver.wait().code()).map(|()| driver)
    };
    // Too old, by the hour.
    assert_eq!(start(&host, 169 * 3600).err(), Some(Some(6)));
    assert!(
        host.log().contains("the last good configuration is 169 h old, more than --last-good-max-age 168")
    );
    // Young enough.
    drop(start(&host, 167 * 3600).expect("it serves"));
    assert!(!host.log().contains("the clock went back"));
    // From the future: said, and no reason not to serve.
    host.driver = Some(start(&host, -2 * DAY).expect("it serves"));
    assert!(host.log().contains("the clock went back since the last good configuration"), "{}", host.log());
    host.server.start_again();
    let status = host.status(|status| status["stored_hash"] == status["config_hash"]);
    assert_eq!((&status["config_hash"], &status["stale"]), (&hash, &Value::Null));
    host.put("nbd", json!({"nbd_max_connections": 8}).to_string());
    assert_eq!(host.update()["outcome"], "applied");
}

#[test]
fn the_age_of_a_last_good_copy_is_bounded_and_a_clock_that_went_back_is_said() {
    a_copy_has_an_age(Server::Store);
}

#[test]
fn the_age_of_a_last_good_copy_is_bounded_and_a_clock_that_went_back_is_said_with_etcd() {
    a_copy_has_an_age(Server::Etcd);
}
