//! The workloads: the same fio work for every side.

use serde::Serialize;

/// fio's `rw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Writes in order.
    Write,
    /// Reads in order.
    Read,
    /// Writes at random addresses.
    RandWrite,
    /// Reads at random addresses.
    RandRead,
    /// Reads and writes at random addresses, with the percentage of reads.
    RandMix(u8),
    /// Trims at random addresses.
    RandTrim,
}

impl Pattern {
    /// fio's word for it.
    pub(crate) fn fio_name(self) -> &'static str {
        match self {
            Pattern::Write => "write",
            Pattern::Read => "read",
            Pattern::RandWrite => "randwrite",
            Pattern::RandRead => "randread",
            Pattern::RandMix(_) => "randrw",
            Pattern::RandTrim => "randtrim",
        }
    }

    /// Whether the page cache has to be dropped first.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Pattern::Read | Pattern::RandRead | Pattern::RandMix(_))
    }
}

/// The state of the volume before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Begin {
    /// Filled once, used by every workload before.
    Filled,
    /// A new volume, never written; every block is written at most once.
    Fresh,
    /// As `Filled`, and the server was stopped and started just before.
    Restarted,
    /// Filled again just before.
    Refilled,
}

/// What is reported as the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Speed {
    /// I/Os a second.
    #[serde(rename = "IOPS")]
    Iops,
    /// 10^6 bytes a second.
    #[serde(rename = "MB/s")]
    Megabytes,
}

impl Speed {
    /// The unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Speed::Iops => "IOPS",
            Speed::Megabytes => "MB/s",
        }
    }
}

/// One workload.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Workload {
    /// Name on the command line and in file names.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) title: &'static str,
    /// Kind and order of the I/Os.
    pub(crate) pattern: Pattern,
    /// Bytes of one I/O.
    pub(crate) block: u64,
    /// I/Os in flight of one job.
    pub(crate) depth: u32,
    /// Jobs, each with a connection of its own.
    pub(crate) jobs: u32,
    /// Whether a flush follows each write.
    pub(crate) flush: bool,
    /// The state of the volume before a run.
    pub(crate) begin: Begin,
    /// Bytes at the start of the volume that it works in; `None`: all of it.
    pub(crate) span: Option<u64>,
    /// Whether it is one of the five that decide.
    pub(crate) core: bool,
}

impl Workload {
    /// Whether a run ends when each block was done once. A second first write is none, and a second pass of
    /// sequential reads would find what the first one left in the page cache of the peers that use it.
    pub(crate) fn once(&self) -> bool {
        self.begin == Begin::Fresh || self.pattern == Pattern::Read
    }

    /// What is reported as its speed.
    pub(crate) fn speed(&self) -> Speed {
        if self.block >= 64 << 10 { Speed::Megabytes } else { Speed::Iops }
    }
}

const fn random(
    name: &'static str,
    title: &'static str,
    pattern: Pattern,
    depth: u32,
    jobs: u32,
) -> Workload {
    let begin = Begin::Filled;
    let (block, flush, span, core) = (4 << 10, false, None, false);
    Workload { name, title, pattern, block, depth, jobs, flush, begin, span, core }
}

/// All workloads, in the order in which they run: those that change what a volume holds come last.
pub(crate) const ALL: [Workload; 14] = [
    Workload {
        core: true,
        ..random("randwrite-4k-qd32", "4 KiB random writes, depth 32", Pattern::RandWrite, 32, 1)
    },
    Workload {
        core: true,
        ..random("randread-4k-qd32", "4 KiB random reads, depth 32", Pattern::RandRead, 32, 1)
    },
    Workload {
        core: true,
        flush: true,
        ..random("write-flush-4k-qd1", "4 KiB random writes, each flushed, depth 1", Pattern::RandWrite, 1, 1)
    },
    Workload {
        core: true,
        block: 128 << 10,
        ..random("seqwrite-128k-qd16", "128 KiB sequential writes, depth 16", Pattern::Write, 16, 1)
    },
    Workload {
        core: true,
        block: 128 << 10,
        ..random("seqread-128k-qd16", "128 KiB sequential reads, depth 16", Pattern::Read, 16, 1)
    },
    random("randwrite-4k-qd1", "4 KiB random writes, depth 1", Pattern::RandWrite, 1, 1),
    random("randread-4k-qd1", "4 KiB random reads, depth 1", Pattern::RandRead, 1, 1),
    Workload {
        span: Some(64 << 20),
        ..random(
            "randread-4k-qd32-64m",
            "4 KiB random reads within 64 MiB, depth 32",
            Pattern::RandRead,
            32,
            1,
        )
    },
    random("randwrite-4k-4x8", "4 KiB random writes, 4 connections, depth 8 each", Pattern::RandWrite, 8, 4),
    random("randread-4k-4x8", "4 KiB random reads, 4 connections, depth 8 each", Pattern::RandRead, 8, 4),
    random(
        "mix7030-4k-qd32",
        "4 KiB random, 70 % reads and 30 % writes, depth 32",
        Pattern::RandMix(70),
        32,
        1,
    ),
    Workload {
        begin: Begin::Restarted,
        ..random(
            "restart-randread-4k-qd32",
            "4 KiB random reads just after a restart, depth 32",
            Pattern::RandRead,
            32,
            1,
        )
    },
    Workload {
        begin: Begin::Fresh,
        ..random(
            "first-write-4k-qd32",
            "4 KiB random first writes to a new volume, depth 32",
            Pattern::RandWrite,
            32,
            1,
        )
    },
    Workload {
        begin: Begin::Refilled,
        ..random("trim-4k-qd32", "4 KiB random trims, depth 32", Pattern::RandTrim, 32, 1)
    },
];

/// Those with the names given; all when there are none. An unknown name is returned as the error.
pub(crate) fn select(names: &[String], core_only: bool) -> Result<Vec<Workload>, String> {
    if let Some(unknown) = names.iter().find(|n| ALL.iter().all(|w| w.name != *n)) {
        return Err(unknown.clone());
    }
    let wanted = |w: &&Workload| {
        if names.is_empty() { w.core || !core_only } else { names.iter().any(|n| n == w.name) }
    };
    Ok(ALL.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection() {
        assert_eq!(select(&[], false).unwrap().len(), ALL.len());
        let core: Vec<&str> = select(&[], true).unwrap().iter().map(|w| w.name).collect();
        let five = [
            "randwrite-4k-qd32",
            "randread-4k-qd32",
            "write-flush-4k-qd1",
            "seqwrite-128k-qd16",
            "seqread-128k-qd16",
        ];
        assert_eq!(core, five);
        assert_eq!(select(&["trim-4k-qd32".into()], true).unwrap()[0].name, "trim-4k-qd32");
        assert_eq!(select(&["nonsense".into()], false).unwrap_err(), "nonsense");
    }

    #[test]
    fn what_ends_a_volume_comes_last() {
        let first_trim = ALL.iter().position(|w| w.pattern == Pattern::RandTrim).unwrap();
        assert!(ALL[first_trim..].iter().all(|w| matches!(w.begin, Begin::Fresh | Begin::Refilled)));
    }
}
