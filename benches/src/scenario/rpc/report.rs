//! The figures as a page.

use std::fmt::Write;

use super::Results;
use super::clients::Answered;
use crate::scenario::paced::{Wanted, of, spread};
use crate::stats::summarise;

/// p99 with bad input over that without: at most this is wanted.
const MOST: f64 = 1.25;

impl Results {
    pub(super) fn markdown(&self, origin: &str) -> String {
        let mut out = format!("# Bad input at the admin RPC\n\n{origin}; {}\n\n", self.program);
        let _ = writeln!(
            out,
            "{} {} bad requests a second, {} at the same time at most, and {} connections that send little or \
             nothing. Medians, min..max.\n",
            self.turns.course(),
            self.per_second,
            self.at_once,
            self.slow,
        );
        self.turns.write(Wanted::AtMost(MOST), &mut out);
        let with = &self.turns.with;
        let sum = |figure: fn(&Answered) -> u64| with.iter().map(|run| figure(&run.beside)).sum::<u64>();
        let slowest = summarise(&with.iter().map(|run| run.beside.slowest_ms).collect::<Vec<_>>());
        let _ = writeln!(
            out,
            "Bad requests a second: {}; {} had a fault or error, {} an HTTP error, {} the end of the connection; the \
             slowest took {} ms. Slow connections at the end of a run: {}; sent away: {}.",
            spread(of(with, |run| run.beside.per_second)),
            sum(|answered| answered.faults),
            sum(|answered| answered.refusals),
            sum(|answered| answered.ended),
            slowest.map_or(0.0, |s| s.max).round(),
            spread(of(with, |run| run.beside.held as f64)),
            sum(|answered| answered.sent_away),
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::scenario::paced::tests::turns;

    #[test]
    fn the_page_has_the_ratios_and_what_became_of_the_clients() {
        let answered = Answered {
            faults: 700,
            refusals: 60,
            ended: 40,
            per_second: 99.0,
            slowest_ms: 1234.4,
            held: 480,
            sent_away: 7,
        };
        let results = Results {
            machine: Machine::default(),
            program: "ovs".to_string(),
            per_second: 100,
            at_once: 32,
            slow: 480,
            turns: turns([100.0, 100.0, 900.0], [110.0, 130.0, 400.0].map(|p99_us| (p99_us, answered))),
        };
        let text = results.markdown("a machine");
        for part in [
            "2000 I/Os a second",
            "100 bad requests a second, 32 at the same time at most, and 480 connections",
            "1.30x (0.44..1.30)",
            "at most 1.25: missed",
            "2100 had a fault or error, 180 an HTTP error, 120 the end of the connection; the slowest took 1234 ms",
            "480 (480..480); sent away: 21",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
