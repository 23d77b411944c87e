//! fio that verifies what it wrote, beside something else.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Starts fio on the volume at an NBD URI: 64 MiB of random reads and writes of 512 bytes to 64 KiB, all verified.
pub fn begin(uri: &str, seed: u64) -> Child {
    let mut fio = Command::new("fio");
    fio.args(["--name=verify", "--ioengine=nbd", &format!("--uri={uri}"), "--rw=randrw", "--rwmixread=30"])
        .args([
            "--bsrange=512-64k",
            "--blockalign=512",
            "--size=64m",
            "--iodepth=32",
            "--serialize_overlap=1",
        ])
        .args(["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--fsync=128"])
        .args(["--randrepeat=0", &format!("--randseed={seed}"), "--output-format=json"]);
    fio.stdout(Stdio::piped()).spawn().expect("fio runs")
}

/// Waits for its end, which must be without an error. How long the slowest request took, in nanoseconds.
#[track_caller]
pub fn end(fio: Child) -> u64 {
    let output = fio.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_str(&said[said.find('{').expect("JSON")..]).expect("JSON");
    let job = &report["jobs"][0];
    assert_eq!(job["error"], 0, "{said}");
    let slowest = |kind: &str| job[kind]["clat_ns"]["max"].as_u64().expect("a number");
    slowest("read").max(slowest("write"))
}
