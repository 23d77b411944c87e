//! A small comparison from end to end: real servers, real fio, all files written.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that goes away with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        // Short, because the path of a unix socket is limited to 107 bytes.
        let path = std::env::temp_dir().join(format!("ovs-b-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}

fn benches(place: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benches"));
    command.arg("--dir").arg(place.join("run")).arg("--out").arg(place.join("out"));
    command.args(["--settle", "0.1"]).args(arguments).output().expect("benches does not start")
}

/// The program `ovs` beside this package's: a test run of the whole workspace builds both.
fn ovs_binary() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_benches")).with_file_name("ovs");
    assert!(path.exists(), "{} is missing: cargo build --package ovs makes it", path.display());
    path.to_str().unwrap().to_string()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn quick_comparison_of_two_servers() {
    let place = Place::new("compare");
    let missing = place.0.join("missing.json");
    let peer = r#"{"name":"missing","title":"not there","class":"server","acknowledges":"never","flush":"never",
                   "command":["/nonexistent/server"]}"#;
    std::fs::write(&missing, peer).unwrap();
    let output = benches(
        &place.0,
        &[
            "--quick",
            "--size",
            "16MiB",
            "--runtime",
            "1",
            "--repeats",
            "1",
            "--baseline",
            place.0.join("baseline.json").to_str().unwrap(),
            "--write-baseline",
            "--subject",
            "nbdkit-memory",
            "--peers",
            "nbdkit-null,missing",
            "--peer-file",
            missing.to_str().unwrap(),
            "--workloads",
            "randwrite-4k-qd32,write-flush-4k-qd1,trim-4k-qd32,restart-randread-4k-qd32",
        ],
    );
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");

    let out = place.0.join("out");
    let results = json(&out.join("results.json"));
    let cells = results["cells"].as_array().unwrap();
    let cell = |workload: &str, peer: &str| {
        cells
            .iter()
            .find(|c| c["workload"] == workload && c["peer"] == peer)
            .unwrap_or_else(|| panic!("{workload} {peer}"))
    };
    for workload in ["randwrite-4k-qd32", "write-flush-4k-qd1", "trim-4k-qd32"] {
        for peer in ["nbdkit-memory", "nbdkit-null"] {
            let run = &cell(workload, peer)["runs"][0];
            assert!(run["speed"].as_f64().unwrap() > 100.0, "{run}");
            assert!(run["latency"]["p99_us"].as_f64().unwrap() > 0.0, "{run}");
            assert!(run["resident"].as_f64().unwrap() > 1e6, "{run}");
        }
    }
    let cpu = cell("randwrite-4k-qd32", "nbdkit-memory")["runs"][0]["cpu_us_per_io"].as_f64().unwrap();
    assert!(cpu > 0.5 && cpu < 2000.0, "{cpu} us of CPU an I/O");
    assert!(
        cell("write-flush-4k-qd1", "nbdkit-memory")["runs"][0]["flush_latency"]["p50_us"].as_f64().unwrap()
            > 0.0
    );
    assert!(
        cell("restart-randread-4k-qd32", "nbdkit-memory")["problem"]
            .as_str()
            .unwrap()
            .contains("keeps nothing")
    );
    assert!(results["ratios"].as_array().unwrap().iter().any(|r| r["workload"] == "randwrite-4k-qd32"));

    let text = std::fs::read_to_string(out.join("results.md")).unwrap();
    assert!(text.contains("* Left out: missing (") && text.contains("nbdkit-memory /"), "{text}");
    for picture in ["overview.svg", "randwrite-4k-qd32.svg", "write-flush-4k-qd1.svg"] {
        assert!(std::fs::read_to_string(out.join(picture)).unwrap().ends_with("</svg>\n"), "{picture}");
    }
    let baseline = json(&place.0.join("baseline.json"));
    assert!(baseline["ratios"]["randwrite-4k-qd32"]["nbdkit-null"].as_f64().unwrap() > 0.0, "{baseline}");
    let left: Vec<_> = std::fs::read_dir(place.0.join("run")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?} stays behind");
}

/// What keeps a workload from rotting: each runs on ovs and on a file.
#[test]
fn every_workload_runs() {
    let place = Place::new("every");
    let ovs = ovs_binary();
    let options = ["--size", "16MiB", "--runtime", "0.2", "--repeats", "1", "--peers", "raw"];
    let output = benches(&place.0, &[&options[..], &["--ovs-binary", &ovs]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let results = json(&place.0.join("out/results.json"));
    let workloads = results["workloads"].as_array().unwrap();
    assert!(workloads.len() >= 14);
    for workload in workloads {
        let cell = |peer: &str| {
            let cells = results["cells"].as_array().unwrap();
            cells.iter().find(|c| c["workload"] == workload["name"] && c["peer"] == peer).cloned().unwrap()
        };
        assert_eq!(cell("ovs")["problem"], serde_json::Value::Null, "{errors}");
        assert!(cell("ovs")["runs"][0]["ios"].as_u64().unwrap() > 0, "{workload}");
        // A file has no server that could be restarted, and fio does not trim files.
        let impossible = ["restart-randread-4k-qd32", "trim-4k-qd32"];
        let possible = !impossible.contains(&workload["name"].as_str().unwrap());
        assert!(!possible || cell("raw")["problem"].is_null(), "{}", cell("raw"));
    }
}

#[test]
fn growth_of_depths() {
    let place = Place::new("depth");
    let side = ["--subject", "nbdkit-memory", "--peers", "nbdkit-null"];
    let small = ["--size", "16MiB", "--runtime", "0.1", "--repeats", "1"];
    let output = benches(&place.0, &[&["growth", "--of", "depth"], &side[..], &small[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let points = json(&place.0.join("out/growth-depth.json"))["points"].as_array().unwrap().clone();
    assert_eq!(points.len(), 2 * 2 * 8);
    assert!(points.iter().all(|point| point["iops"].as_f64().unwrap() > 0.0), "{points:?}");
    let picture = std::fs::read_to_string(place.0.join("out/growth-depth.svg")).unwrap();
    assert_eq!(picture.matches("<polyline").count(), 4 * 2);
}

#[test]
fn growth_of_volumes_and_sizes() {
    let place = Place::new("grow");
    let ovs = ovs_binary();
    let options =
        ["--peers", "raw", "--size", "1GiB", "--runtime", "0.1", "--repeats", "1", "--ovs-binary", &ovs];
    let output = benches(&place.0, &[&["growth", "--of", "volumes,size"], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let points = |name: &str| json(&place.0.join("out").join(name))["points"].as_array().unwrap().clone();
    let volumes = points("growth-volumes.json");
    assert_eq!(volumes.iter().map(|p| p["at"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 10, 100, 1000]);
    assert!(
        volumes
            .iter()
            .all(|p| p["ready_ms"].as_f64().unwrap() > 0.0 && p["resident"].as_f64().unwrap() > 1e6)
    );
    assert_eq!(points("growth-size.json").len(), 2, "one size, two sides");
}

#[test]
fn a_hot_volume_beside_busy_ones() {
    let place = Place::new("hot");
    let ovs = ovs_binary();
    let options = ["--size", "16MiB", "--runtime", "0.3", "--repeats", "1", "--ovs-binary", &ovs];
    let output = benches(&place.0, &[&["hot", "--busy", "3"], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/hot.json"));
    for figures in ["hot_alone", "hot_beside", "busy_alone", "busy_beside"] {
        assert!(results[figures]["iops"].as_f64().unwrap() > 0.0, "{results}");
    }
}

/// Every part of the comparison of the configuration store, each as small as it can be.
#[test]
fn the_configuration_store_beside_etcd() {
    let place = Place::new("cfg");
    let ovs = ovs_binary();
    let small =
        ["--clients", "8", "--connections", "3", "--streams", "1,20", "--keys", "700", "--calm", "0.1"];
    let options = ["--runtime", "0.3", "--repeats", "2", "--ovs-binary", &ovs];
    let output = benches(&place.0, &[&["cfg"], &small[..], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/cfg.json"));
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let names = |of: &str| -> Vec<String> {
        list(&results[of]).iter().map(|part| part["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names("works"), ["put-1", "put-8", "get-1", "get-8", "serializable-8", "txn-8"]);
    assert_eq!(names("watches"), ["watch-1", "watch-20"]);
    for side in 0..2 {
        for work in list(&results["works"]) {
            assert_eq!(list(&work["runs"][side]).len(), 2, "{work}");
            assert!(work["runs"][side][1]["per_second"].as_f64().unwrap() > 1.0, "{work}");
        }
        for watch in list(&results["watches"]) {
            let run = &watch["runs"][side][0];
            let figure = |name: &str| run[name].as_f64().unwrap();
            assert!(figure("each_p50_us") > 0.0 && figure("last_p99_us") >= figure("each_p99_us"), "{watch}");
        }
        let life = &results["lives"][side][0];
        assert!(
            life["idle"].as_u64().unwrap() > 1 << 20 && life["killed_ms"].as_f64().unwrap() > 1.0,
            "{life}"
        );
    }
    let text = std::fs::read_to_string(place.0.join("out/cfg.md")).unwrap();
    assert!(text.contains("| put, 8 clients, a second") && text.contains("at least 2"), "{text}");
    assert!(std::fs::read_to_string(place.0.join("out/cfg.svg")).unwrap().ends_with("</svg>\n"));
    let left: Vec<_> = std::fs::read_dir(place.0.join("run")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?} stays behind");
}

/// Every part of the changes of the configuration, each as small as it can be.
#[test]
fn changes_of_the_configuration() {
    let place = Place::new("update");
    let ovs = ovs_binary();
    let small = ["--processes", "3", "--updates", "5", "--rounds", "2", "--idle", "0.5", "--rate", "200"];
    let options = ["--size", "16MiB", "--runtime", "1.5", "--repeats", "2", "--ovs-binary", &ovs];
    let output = benches(&place.0, &[&["update"], &small[..], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/update.json"));
    for (run, repeat) in [("without", 0), ("without", 1), ("with", 0), ("with", 1)] {
        let run = (&results["changes"][run][repeat], run == "with");
        assert!(run.0["read"]["p99_us"].as_f64() > Some(0.0), "{run:?}");
        assert!(run.0["write"]["p99_us"].as_f64() > Some(0.0), "{run:?}");
        assert!(run.0["iops"].as_f64() < Some(300.0), "the rate is kept: {run:?}");
        assert_eq!(run.0["applied"].as_u64() > Some(0), run.1, "{run:?}");
    }
    let alone = &results["alone"];
    for figures in ["put", "stored_before", "at_once", "in_process"] {
        let [p50, p99] = ["p50_us", "p99_us"].map(|of| alone[figures][of].as_f64().unwrap());
        assert!(p50 > 0.0 && p99 >= p50, "{alone}");
    }
    assert!(alone["stored_before"]["p50_us"].as_f64() > alone["in_process"]["p50_us"].as_f64(), "{alone}");
    let together = &results["together"];
    assert_eq!(together["processes"], 3);
    for figures in ["last_ms", "puts_together_ms", "puts_in_turn_ms"] {
        assert!(together[figures]["min"].as_f64() > Some(0.0), "{together}");
    }
    let watching = results["watching"].as_array().unwrap();
    assert_eq!(
        watching.iter().map(|idle| idle["processes"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 3]
    );
    assert_eq!(watching[0]["streams"], 0.0);
    assert!(watching[2]["streams"].as_f64() >= Some(3.0), "{}", watching[2]);
    assert!(watching[2]["process_proportional"].as_f64() > Some(1e6), "{}", watching[2]);
    let text = std::fs::read_to_string(place.0.join("out/update.md")).unwrap();
    assert!(
        text.contains("| update key to the last of 3 feedbacks") && text.contains("| reads, p99, us "),
        "{text}"
    );
    let left: Vec<_> = std::fs::read_dir(place.0.join("run")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?} stays behind");
}

/// Bad input at the admin RPC beside I/O: every kind gets its answer, slow clients are sent away.
#[test]
fn bad_input_at_the_admin_rpc() {
    let place = Place::new("rpc");
    let ovs = ovs_binary();
    let small = ["--per-second", "40", "--at-once", "8", "--slow", "12", "--rate", "200"];
    let options = ["--quick", "--size", "16MiB", "--runtime", "1.5", "--ovs-binary", &ovs];
    let output = benches(&place.0, &[&["rpc"], &small[..], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/rpc.json"));
    for (run, repeat) in [("without", 0), ("without", 1), ("with", 0), ("with", 1)] {
        let figures = &results[run][repeat];
        assert!(figures["read"]["p99_us"].as_f64() > Some(0.0), "{figures}");
        assert!(figures["write"]["p99_us"].as_f64() > Some(0.0), "{figures}");
        assert!(figures["iops"].as_f64() < Some(300.0), "the rate is kept: {figures}");
        let ends = ["faults", "refusals", "ended", "held"].map(|end| figures[end].as_u64().unwrap());
        if run == "without" {
            assert_eq!(ends, [0; 4], "{figures}");
        } else {
            // Each kind at least once; the connection of a long one may end before its answer is read.
            assert!(ends[0] >= 12 && ends[1] >= 1 && ends[0] + ends[1] + ends[2] >= 15, "{figures}");
            assert!(ends[3] > 0 && ends[3] <= 12, "{figures}");
        }
    }
    let text = std::fs::read_to_string(place.0.join("out/rpc.md")).unwrap();
    assert!(text.contains("| writes, p99, us ") && text.contains("had a fault or error"), "{text}");
    let left: Vec<_> = std::fs::read_dir(place.0.join("run")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?} stays behind");
}

/// A server that greets, and ends in the middle of the work.
#[test]
fn a_peer_that_ends_is_reported_and_the_others_go_on() {
    let place = Place::new("ends");
    let file = place.0.join("ends.json");
    let peer = r#"{"name":"ends","title":"ends soon","class":"server","acknowledges":"never","flush":"never",
                   "command":["timeout","3","nbdkit","-f","-U","${socket}","memory","${size}"]}"#;
    std::fs::write(&file, peer).unwrap();
    let work = ["--workloads", "randread-4k-qd1,randread-4k-qd32", "--repeats", "2", "--runtime", "2"];
    let side = ["--subject", "nbdkit-null", "--peers", "ends", "--peer-file", file.to_str().unwrap()];
    let output = benches(&place.0, &[&["--size", "16MiB"], &work[..], &side[..]].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let results = json(&place.0.join("out/results.json"));
    let problem = results["sides"][1]["problem"].as_str().unwrap_or_default().to_string();
    assert!(problem.contains("ended in randread-4k-qd32"), "{results}");
    let ran =
        |cell: &serde_json::Value| cell["peer"] == "nbdkit-null" && cell["runs"][1]["ios"].as_u64() > Some(0);
    assert_eq!(results["cells"].as_array().unwrap().iter().filter(|cell| ran(cell)).count(), 2);
}

#[test]
fn quick_steady_state() {
    let place = Place::new("steady");
    let output = benches(
        &place.0,
        &["steady", "--size", "16MiB", "--passes", "20", "--window", "1", "--subject", "nbdkit-memory"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/steady.json"));
    assert_eq!(results["payload"], 20 * (16 << 20));
    assert!(results["fresh"]["iops"].as_f64().unwrap() > 100.0);
    assert!(!results["windows"].as_array().unwrap().is_empty());
    assert!(std::fs::read_to_string(place.0.join("out/steady.svg")).unwrap().contains("<polyline"));
}

#[test]
fn restart_reads_back_what_was_acknowledged() {
    let place = Place::new("restart");
    let output =
        benches(&place.0, &["restart", "--size", "16MiB", "--written", "8MiB", "--subject", "nbdkit-file"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = json(&place.0.join("out/restart.json"));
    for starts in ["killed", "stopped"] {
        let start = &results[starts][0];
        assert_eq!(start["different"], 0);
        assert!(start["first_read_ms"].as_f64().unwrap() >= start["ready_ms"].as_f64().unwrap());
    }
}

#[test]
fn wrong_requests_say_what_is_possible() {
    let place = Place::new("wrong");
    for (arguments, expected) in [
        (&["--workloads", "nonsense"][..], "randwrite-4k-qd32"),
        (&["--peers", "nonsense"], "qemu-nbd-raw"),
        (&["--subject", "nbdkit-null", "--peers", "", "--size", "900TiB"], "there is no peer ''"),
        (&["--subject", "raw", "--peers", "raw", "--size", "900TiB"], "use a smaller --size"),
        (&["many", "--subject", "raw"], "only ovs"),
        (&["update", "--subject", "raw"], "only ovs"),
        (&["rpc", "--subject", "raw"], "only ovs"),
        (&["update", "--ovs-binary", "/nonexistent/ovs"], "--ovs-binary"),
        (&["cfg", "--ovs-binary", "/bin/true", "--etcd", "/nonexistent/etcd"], "etcd-server"),
        (&["cfg", "--ovs-binary", "/bin/true", "--workloads", "nonsense"], "put-100"),
    ] {
        let output = benches(&place.0, arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(expected), "{arguments:?}: {errors}");
    }
}
