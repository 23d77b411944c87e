//! Two servers that are to answer alike, and the search for the shortest program to which they do not.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::generate;
use super::session::{Session, Transcript};
use super::step::Step;
use crate::harness::cfg::{Running, Server};
use crate::harness::place::Place;

/// How long is searched for a shorter program.
const SHRINKING: Duration = Duration::from_secs(90);

/// Characters of each side that are printed.
const SIDE: usize = 6000;

/// Etcd first, then what is compared with it.
pub struct Pair {
    servers: [Running; 2],
    sessions: [Session; 2],
    bend: fn(Step) -> Step,
    _places: [Place; 2],
}

/// Where two servers part.
pub struct Difference {
    /// The step, counted from 0, or what else.
    pub place: String,
    /// What each said.
    pub sides: [String; 2],
}

impl Pair {
    /// Starts both with nothing in them. `bend` changes what the second is sent.
    pub async fn start(second: Server, bend: fn(Step) -> Step) -> Self {
        let places = [Server::Etcd.place("first"), second.place("second")];
        let servers = std::thread::scope(|scope| {
            let first = scope.spawn(|| Server::Etcd.start(places[0].root(), "first"));
            let second = second.start(places[1].root(), "second");
            [first.join().expect("etcd starts"), second]
        });
        let sessions = [
            Session::connect(&servers[0].client_url, |step| step).await,
            Session::connect(&servers[1].client_url, bend).await,
        ];
        Self { servers, sessions, bend, _places: places }
    }

    /// Runs a program on both, and returns what both said.
    pub async fn compare(&mut self, program: &[Step]) -> Result<Transcript, Box<Difference>> {
        let [first, second] = &mut self.sessions;
        let (first, second) = tokio::join!(first.run(program), second.run(program));
        if let Some(ended) = self.servers.iter_mut().position(|server| !server.is_alive()) {
            let ended = &self.servers[ended];
            let place = format!("a server ended ({})", ended.client_url);
            return Err(Box::new(Difference { place, sides: [ended.log_tail(), String::new()] }));
        }
        match difference(&first, &second) {
            None => Ok(first),
            Some(difference) => Err(Box::new(difference)),
        }
    }

    /// The shortest program found on which the two differ, beginning with one on which they do; `None` if they do
    /// not when they are fresh. What is left of the pair is not to be used.
    pub async fn shrink(self, second: Server, program: Vec<Step>) -> Option<(Vec<Step>, Box<Difference>)> {
        let (bend, deadline) = (self.bend, Instant::now() + SHRINKING);
        drop(self);
        let mut pair = Self::start(second, bend).await;
        let mut found = pair.compare(&program).await.err()?;
        let mut program = program;
        pair = Self::start(second, bend).await;
        // Ever smaller parts are left out, and then what is inside of the steps.
        let mut part = program.len().div_ceil(2);
        loop {
            let mut shorter = false;
            for candidate in candidates(&program, part) {
                if Instant::now() > deadline {
                    return Some((program, found));
                }
                if let Err(difference) = pair.compare(&candidate).await {
                    (program, found, shorter) = (candidate, difference, true);
                    // They have different contents now.
                    pair = Self::start(second, bend).await;
                    break;
                }
            }
            if !shorter && part == 0 {
                return Some((program, found));
            }
            if !shorter {
                part /= 2;
            }
        }
    }
}

/// Programs that lack `part` steps in a row; for 0, single steps or what is inside of them.
fn candidates(program: &[Step], part: usize) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    let width = part.max(1);
    for begin in (0..program.len()).step_by(width).rev() {
        let end = (begin + width).min(program.len());
        all.push([&program[..begin], &program[end..]].concat());
        if width == 1 {
            // What comes later may depend on a revision that the step made.
            let after = program[end..].iter().map(Step::one_revision_earlier);
            all.push(program[..begin].iter().cloned().chain(after).collect());
        }
    }
    if part == 0 {
        for (index, step) in program.iter().enumerate() {
            for smaller in step.smaller() {
                let mut candidate = program.to_vec();
                candidate[index] = smaller;
                all.push(candidate);
            }
        }
    }
    all
}

fn difference(first: &Transcript, second: &Transcript) -> Option<Difference> {
    let found = |place: String, sides: [String; 2]| Some(Difference { place, sides });
    for (index, (one, other)) in first.answers.iter().zip(&second.answers).enumerate() {
        if one != other {
            return found(format!("step {index}"), [format!("{one:?}"), format!("{other:?}")]);
        }
    }
    for (index, (one, other)) in first.watchers.iter().zip(&second.watchers).enumerate() {
        if !one.same_as(other) {
            return found(
                format!("watcher {index} (the first is 0)"),
                [one, other].map(|side| format!("{side:#?}")),
            );
        }
    }
    let lengths = |side: &Transcript| (side.answers.len(), side.watchers.len());
    if first.ending != second.ending || lengths(first) != lengths(second) {
        return found("end".into(), [first, second].map(|side| format!("{:?}", side.ending)));
    }
    None
}

/// The report on a program that was answered differently.
pub async fn report(pair: Pair, second: Server, seed: u64, difference: Difference) -> String {
    let program = generate::program(seed);
    let mut text = format!("OVS_TEST_SEED={seed} OVS_DIFFERENTIAL_PROGRAMS=1 repeats it.\n");
    describe(&mut text, &program, &difference);
    match pair.shrink(second, program).await {
        None => text += "\nFresh servers answer alike: it takes the programs before this one as well.\n",
        Some((program, difference)) => {
            let _ = write!(text, "\nIt takes no more than {} steps:\n", program.len());
            describe(&mut text, &program, &difference);
        }
    }
    text
}

fn describe(text: &mut String, program: &[Step], difference: &Difference) {
    for (index, step) in program.iter().enumerate() {
        let _ = writeln!(text, "{index:4}  {step}");
    }
    // Large values would fill screens.
    let [first, second] = difference.sides.each_ref().map(|side| side.chars().take(SIDE).collect::<String>());
    let _ = writeln!(text, "They differ at {}:\n  etcd:   {first}\n  tested: {second}", difference.place);
}
