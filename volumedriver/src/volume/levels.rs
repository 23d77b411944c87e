//! Which runs to merge next. Pure: levels in, plan out.

use super::address::{ClusterAddress, RunId};
use super::run::RunInfo;
use super::settings::Settings;

/// A merge to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePlan {
    /// Runs to merge, the newest first.
    pub inputs: Vec<RunInfo>,
    /// Level that the result goes to.
    pub target: usize,
    /// Nothing older lies beneath: holes may go.
    pub bottom: bool,
}

impl MergePlan {
    /// Ids of the inputs.
    pub fn ids(&self) -> Vec<RunId> {
        self.inputs.iter().map(|run| run.id).collect()
    }
}

/// How eagerly level 0 is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// When enough runs are there.
    Relaxed,
    /// At once: what is overwritten must be known, space is short.
    Pressed,
}

/// The most urgent merge, if one is due. `cursor` goes round the addresses, so that each part of a level gets its turn.
pub fn plan(
    levels: &[Vec<RunInfo>],
    settings: &Settings,
    eagerness: Eagerness,
    cursor: &mut ClusterAddress,
) -> Option<MergePlan> {
    let newest = levels.first()?;
    let due = match eagerness {
        Eagerness::Relaxed => is_worth_it(newest, levels.get(1), settings),
        Eagerness::Pressed => !newest.is_empty(),
    };
    if due {
        return Some(with_overlaps(newest.clone(), 1, levels));
    }
    let mut limit = settings.level_bytes;
    for (level, runs) in levels.iter().enumerate().skip(1) {
        let bytes: u64 = runs.iter().map(RunInfo::bytes).sum();
        if bytes > limit {
            let run = runs.iter().find(|run| run.first >= *cursor).or(runs.first())?;
            *cursor = run.end;
            return Some(with_overlaps(vec![run.clone()], level + 1, levels));
        }
        limit = limit.saturating_mul(settings.level_factor);
    }
    None
}

/// A merge writes again what it overlaps, so level 0 gathers until it is a good part of that. Not so many runs that
/// writes slow down before the merge is through, though.
fn is_worth_it(level0: &[RunInfo], level1: Option<&Vec<RunInfo>>, settings: &Settings) -> bool {
    let bytes = |runs: &[RunInfo]| runs.iter().map(RunInfo::bytes).sum::<u64>();
    let large = || bytes(level0) * settings.level0_part >= level1.map_or(0, |runs| bytes(runs));
    level0.len() >= settings.level0_runs && (level0.len() + 1 >= settings.level0_runs_soft || large())
}

fn with_overlaps(mut inputs: Vec<RunInfo>, target: usize, levels: &[Vec<RunInfo>]) -> MergePlan {
    let reach = |runs: &[RunInfo]| {
        let first = runs.iter().map(|run| run.first).min().unwrap_or_default();
        let end = runs.iter().map(|run| run.end).max().unwrap_or_default();
        (first, end)
    };
    let overlapping =
        |level: &Vec<RunInfo>, (first, end): (ClusterAddress, ClusterAddress)| -> Vec<RunInfo> {
            level.iter().filter(|run| run.first < end && first < run.end).cloned().collect()
        };
    let reached = reach(&inputs);
    inputs.extend(levels.get(target).map(|level| overlapping(level, reached)).unwrap_or_default());
    let reached = reach(&inputs);
    let bottom = levels.iter().skip(target + 1).all(|level| overlapping(level, reached).is_empty());
    MergePlan { inputs, target, bottom }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64, first: u64, end: u64, pages: u32) -> RunInfo {
        RunInfo {
            id: RunId(id),
            first: ClusterAddress(first),
            end: ClusterAddress(end),
            entries: 1,
            data_pages: pages,
            top: vec![ClusterAddress(first)],
        }
    }

    fn ids(plan: Option<MergePlan>) -> Option<(Vec<u64>, usize, bool)> {
        plan.map(|plan| (plan.inputs.iter().map(|run| run.id.0).collect(), plan.target, plan.bottom))
    }

    #[test]
    fn level_0_merges_with_what_it_overlaps() {
        let settings = Settings { level0_runs: 2, ..Settings::default() };
        let mut cursor = ClusterAddress(0);
        let mut levels = vec![
            vec![run(9, 20, 30, 1), run(8, 0, 5, 1)],
            vec![run(1, 0, 3, 1), run(2, 10, 21, 1), run(3, 40, 50, 1)],
            vec![run(4, 45, 60, 1)],
        ];
        assert_eq!(
            ids(plan(&levels, &settings, Eagerness::Relaxed, &mut cursor)),
            Some((vec![9, 8, 1, 2], 1, true))
        );
        levels[2][0].first = ClusterAddress(29);
        assert_eq!(
            ids(plan(&levels, &settings, Eagerness::Relaxed, &mut cursor)),
            Some((vec![9, 8, 1, 2], 1, false))
        );
        levels[0].pop();
        assert_eq!(ids(plan(&levels, &settings, Eagerness::Relaxed, &mut cursor)), None);
        assert_eq!(
            ids(plan(&levels, &settings, Eagerness::Pressed, &mut cursor)),
            Some((vec![9, 2], 1, false))
        );
    }

    #[test]
    fn level_0_gathers_until_it_is_worth_a_merge() {
        let settings =
            Settings { level0_runs: 2, level0_part: 8, level0_runs_soft: 5, ..Settings::default() };
        let due = |newest: &[u32], oldest: u32| {
            let level =
                |pages: &[u32]| pages.iter().zip(1..).map(|(&pages, id)| run(id, 0, 9, pages)).collect();
            let levels = vec![level(newest), level(&[oldest])];
            plan(&levels, &settings, Eagerness::Relaxed, &mut ClusterAddress(0)).is_some()
        };
        assert!(!due(&[99], 1), "too few");
        assert!(!due(&[9, 9], 199), "of 20 pages, fences included, to 200");
        assert!(due(&[14, 9], 199));
        assert!(due(&[1; 4], 1000), "one run more would slow writes down");
    }

    #[test]
    fn a_full_level_moves_down_in_turns() {
        let settings = Settings { level_bytes: 16 << 10, ..Settings::default() };
        let mut cursor = ClusterAddress(0);
        let levels = vec![vec![], vec![run(1, 0, 10, 3), run(2, 10, 20, 3)], vec![run(3, 5, 12, 3)]];
        let mut next = || ids(plan(&levels, &settings, Eagerness::Relaxed, &mut cursor));
        assert_eq!(next(), Some((vec![1, 3], 2, true)));
        assert_eq!(next(), Some((vec![2, 3], 2, true)));
        assert_eq!(next(), Some((vec![1, 3], 2, true)));
    }
}
