//! Random 4 KiB direct reads: what one operation costs this process, in CPU time and system calls.
//!
//!     cargo run --release -p uring --example randread -- FILE [uring|threads] [DEPTH] [SECONDS]
//!
//! FILE is only read; it should be larger than 1 GiB and written, not sparse.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use uring::{AlignedBuf, Backend, Disk, LocalDisk, Op, OpenMode, RingOptions, open};

const BLOCK: usize = 4096;

/// User and system time of the process so far, and its voluntary context switches.
fn usage() -> (Duration, i64) {
    // SAFETY: all zero is a valid `rusage`: it holds integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_nvcsw)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: randread FILE [BACKEND] [DEPTH] [SECONDS]")?);
    let backend: Backend = arguments.next().as_deref().unwrap_or("uring").parse()?;
    let depth: u64 = arguments.next().as_deref().unwrap_or("32").parse()?;
    let seconds: u64 = arguments.next().as_deref().unwrap_or("5").parse()?;

    let file = LocalDisk.open(&path, OpenMode::Direct)?;
    let blocks = file.len()? / BLOCK as u64;
    if blocks == 0 || depth == 0 {
        return Err("the file and the depth must not be empty".into());
    }
    let options = RingOptions { workers: depth as usize, ..RingOptions::default() };
    let (mut io, probe) = open(backend, &options)?;
    println!("{probe}, depth {depth}, {blocks} blocks");

    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % blocks * BLOCK as u64
    };
    for token in 0..depth {
        io.submit(token, Op::Read { file: file.fd(), offset: next(), buf: AlignedBuf::zeroed(BLOCK) });
    }
    let (start, (cpu, switches)) = (Instant::now(), usage());
    let (mut completions, mut operations, mut waits) = (Vec::new(), 0u64, 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        io.wait(None, &mut completions)?;
        waits += 1;
        for completion in completions.drain(..) {
            completion.result?;
            operations += 1;
            let buf = completion.buf.ok_or("a read without its buffer")?;
            io.submit(completion.token, Op::Read { file: file.fd(), offset: next(), buf });
        }
    }
    let (elapsed, (cpu_end, switches_end)) = (start.elapsed(), usage());
    let each = |total: f64| total / operations as f64;
    println!(
        "{:.1} k IOPS, {:.2} us CPU, {:.3} waits and {:.3} context switches an operation, mean latency {:.0} us",
        operations as f64 / elapsed.as_secs_f64() / 1e3,
        each((cpu_end - cpu).as_secs_f64() * 1e6),
        each(waits as f64),
        each((switches_end - switches) as f64),
        elapsed.as_secs_f64() * 1e6 * depth as f64 / operations as f64,
    );
    Ok(())
}
