//! Where a request's time went: `ovs_volume_request_seconds{op,stage}`.
//!
//! The thread reads the clock once a turn, so every time here is that of a turn. Samples are kept by the thread and
//! given to the registry when somebody asks.

use std::time::{Duration, Instant};

use prometheus::local::LocalHistogram;

use crate::metrics::Metrics;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Bytes.
    Read,
    /// To keep bytes.
    Write,
    /// To make what was acknowledged durable.
    Flush,
    /// To forget a range.
    Trim,
    /// To keep zeros.
    WriteZeroes,
    /// What is allocated.
    Status,
}

impl RequestKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Flush, Self::Trim, Self::WriteZeroes, Self::Status];

    /// Value of the label `op`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::WriteZeroes => "write_zeroes",
            Self::Status => "status",
        }
    }
}

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the arrival of its bytes until the volume got it; more than nothing only when a limit held it up.
    Receive,
    /// In the volume: until the record is written or the data read.
    Log,
    /// From the volume's answer until the kernel took the reply.
    Reply,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Receive, Self::Log, Self::Reply];

    /// Value of the label `stage`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Log => "log",
            Self::Reply => "reply",
        }
    }
}

/// One thread's samples.
pub(super) struct Stages([[LocalHistogram; Stage::ALL.len()]; RequestKind::ALL.len()]);

impl Stages {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(
            RequestKind::ALL.map(|kind| {
                Stage::ALL.map(|stage| metrics.request_seconds(kind.label(), stage.label()).local())
            }),
        )
    }

    /// One request spent `from..to` in `stage`.
    #[inline]
    pub(super) fn observe(&self, kind: RequestKind, stage: Stage, from: Instant, to: Instant) {
        let time: Duration = to.saturating_duration_since(from);
        self.0[kind as usize][stage as usize].observe(time.as_secs_f64());
    }

    /// Gives the samples to the registry.
    pub(super) fn flush(&self) {
        self.0.iter().flatten().for_each(LocalHistogram::flush);
    }
}
