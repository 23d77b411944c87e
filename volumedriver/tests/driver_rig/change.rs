//! Changing the parameters of a running driver, and seeing what comes of it.

use std::io::{Read, Write};

use cfg_schema::{ByteSize, Problem, SizeLimit};
use volumedriver::driver::{Committed, Driver, Prepared, VolumeName};
use volumedriver::parameters::Parameters;

use super::{Client, FUA, Rig, TRIM, small};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn name(text: &str) -> VolumeName {
    VolumeName::parse(text).unwrap()
}

pub(crate) fn prepare(driver: &Driver, edit: impl FnOnce(&mut Parameters)) -> Result<Prepared, Vec<Problem>> {
    let mut new = driver.parameters();
    edit(&mut new);
    driver.prepare(&new)
}

/// Changes parameters; all must take them over.
pub(crate) fn change(driver: &Driver, edit: impl FnOnce(&mut Parameters)) {
    let prepared = prepare(driver, edit).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(prepared.commit(), Committed::default());
}

/// One data thread, and a disk that no test fills.
pub(crate) fn one_thread() -> Parameters {
    let mut parameters = small();
    parameters.volume_manager.data_threads = 1;
    parameters.scocache.scocache_mount_points[0].size = SizeLimit::Bytes(ByteSize(4096 * MIB));
    parameters
}

pub(crate) fn set_disk(parameters: &mut Parameters, mib: u64) {
    parameters.scocache.scocache_mount_points[0].size = SizeLimit::Bytes(ByteSize(mib * MIB));
}

pub(crate) fn sample(driver: &Driver, sample: &str) -> u64 {
    let text = driver.metrics_text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().expect("a number")
}

/// Lets the data thread do many turns: what it was about to do is done.
pub(crate) fn many_turns(rig: &Rig) {
    for _ in 0..100 {
        rig.driver().info("vm").unwrap();
    }
}

pub(crate) fn take_replies(client: &mut Client, count: u64, length: u64) {
    for _ in 0..count {
        assert_eq!(client.reply().0, 0);
        client.stream.read_exact(&mut vec![0; length as usize]).expect("data");
    }
}

/// A volume with 8 MiB of data on the disk, written in one request.
pub(crate) fn prepared_volume(rig: &Rig) -> Client {
    rig.driver().create_volume(name("vm"), 64 * MIB).unwrap();
    let mut client = rig.connect("vm");
    client.write(FUA, 0, &vec![1; 8 << 20]);
    client
}

/// Writes `count` clusters with a gap behind each, so that every one is an entry of the map.
pub(crate) fn scatter(client: &mut Client, count: u64) {
    let mut batch = Vec::new();
    for index in 0..count {
        batch.extend(client.header(0, TRIM, index * 8192, 4096).1);
    }
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&batch).unwrap());
    take_replies(client, count, 0);
    sender.join().unwrap();
}
