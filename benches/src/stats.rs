//! Medians, spreads and ratios.

use serde::Serialize;

/// The middle and the ends of a few repeated measurements, in the unit of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle value; of an even number of values, the mean of the middle two.
    pub(crate) median: f64,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
}

/// Summarises `values`; `None` when there are none.
pub(crate) fn summarise(values: &[f64]) -> Option<Summary> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if sorted.is_empty() {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    Some(Summary { median, min: sorted[0], max: sorted[sorted.len() - 1] })
}

/// `subject` over `peer`: the quotient of the medians, with the spread of the quotients of the same repeat.
/// Entry `i` of each list is repeat `i`; `None` marks a repeat that failed.
pub(crate) fn ratio(subject: &[Option<f64>], peer: &[Option<f64>]) -> Option<Summary> {
    let present = |list: &[Option<f64>]| list.iter().flatten().copied().collect::<Vec<f64>>();
    let top = summarise(&present(subject))?;
    let bottom = summarise(&present(peer))?;
    if bottom.median <= 0.0 {
        return None;
    }
    let median = top.median / bottom.median;
    let pairs: Vec<f64> = subject
        .iter()
        .zip(peer)
        .filter_map(|(s, p)| Some(((*s)?, (*p)?)))
        .filter(|(_, p)| *p > 0.0)
        .map(|(s, p)| s / p)
        .collect();
    let (min, max) = summarise(&pairs).map_or((median, median), |s| (s.min.min(median), s.max.max(median)));
    Some(Summary { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(summarise(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(summarise(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(summarise(&[]), None);
        assert_eq!(summarise(&[f64::NAN]), None);
    }

    #[test]
    fn ratio_pairs_the_same_repeat() {
        let r = ratio(&[Some(10.0), Some(20.0), Some(30.0)], &[Some(10.0), Some(10.0), Some(10.0)]).unwrap();
        assert_eq!(r, Summary { median: 2.0, min: 1.0, max: 3.0 });
    }

    #[test]
    fn ratio_survives_missing_repeats() {
        let r = ratio(&[None, Some(20.0)], &[Some(5.0), Some(10.0)]).unwrap();
        assert_eq!((r.min, r.max), (2.0, 20.0 / 7.5));
        assert_eq!(ratio(&[None], &[Some(1.0)]), None);
        assert_eq!(ratio(&[Some(1.0)], &[Some(0.0)]), None);
    }
}
